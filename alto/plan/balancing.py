"""Who should be behind a load balancer: the group's members that run, from truth; members that leave drain."""

from collections.abc import Sequence

from alto.model.balancers import Appliance, AutoScalingGroup, LoadBalancer, Target, TargetHealth
from alto.model.instances import Instance, Phase, Wish


def targets(balancer: LoadBalancer, group: AutoScalingGroup | None, members: Sequence[Instance]) -> tuple[Target, ...]:
    """Members that run and are wished to, ordered by id. A member that is already behind the balancer and leaves stays as
    `draining` for as long as its machine runs; one whose machine ended is gone at once."""
    known = {target.instance_id for target in balancer.targets}
    leaving = {one.instance_id for one in group.leaving} if group is not None else set()
    result = []
    for member in sorted(members, key=lambda m: m.id):
        if member.phase is not Phase.RUNNING:
            continue
        draining = member.wish is not Wish.RUNNING or member.id in leaving or balancer.deleting
        if draining and member.id not in known:
            continue
        result.append(
            Target(
                instance_id=member.id,
                vpc_id=member.nic.vpc_id,
                private_ip=member.nic.private_ip,
                port=balancer.target_port,
                draining=draining,
            )
        )
    return tuple(result)


def keeper_of(groups: Sequence[AutoScalingGroup], balancer: LoadBalancer) -> AutoScalingGroup | None:
    """The group of one that keeps a balancer's instance."""
    return next((group for group in groups if group.appliance_of == balancer.id), None)


def front_of(members: Sequence[Instance]) -> Instance | None:
    """Of the group that keeps a balancer's instance, the one that is it: the oldest that is wished to run."""
    wished = [one for one in members if one.wish is Wish.RUNNING and one.phase is not Phase.TERMINATED]
    return min(wished, key=lambda one: (one.created_at, one.id), default=None)


def appliance_of(front: Instance) -> Appliance:
    nic = front.nic
    return Appliance(instance_id=front.id, interface_id=nic.interface_id, vpc_id=nic.vpc_id, private_ip=nic.private_ip)


def merge_health(old: Sequence[TargetHealth], new: Sequence[TargetHealth], now: float) -> tuple[TargetHealth, ...]:
    """`new`, each with the time since when it has been in its state."""
    before = {health.instance_id: health for health in old}
    merged = []
    for health in sorted(new, key=lambda h: h.instance_id):
        known = before.get(health.instance_id)
        since = known.since if known is not None and known.state is health.state else now
        merged.append(TargetHealth(instance_id=health.instance_id, state=health.state, reason=health.reason, since=since))
    return tuple(merged)
