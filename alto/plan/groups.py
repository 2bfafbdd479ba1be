"""What an AutoScalingGroup does next: launch, drain, terminate. One step at a time, from the whole picture.

Members that ended by themselves are replaced at once; members that never became healthy, after the group's grace; members
that were healthy and are not, after UNHEALTHY_S. Leaving members drain behind the balancer first. A balancer that begins
anew knows nobody, and each member has its time again: who else would be replaced is all of them, at once.
"""

import math
from collections.abc import Sequence

import msgspec

from alto.model.balancers import AutoScalingGroup, Leaving, LoadBalancer, TargetState
from alto.model.instances import Instance, Phase, Wish

# A member that stopped answering has this long to come back. Shorter replaces machines for a passing pause; the balancer
# sends it nothing meanwhile.
UNHEALTHY_S = 30.0
# A clock may be set back by so much without being thought to have been wrong before.
CLOCK_STEP_S = 30.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`launch` new members are wanted, `leaving` is the new list of those that drain, `terminate` are done."""

    launch: int = 0
    leaving: tuple[Leaving, ...] = ()
    terminate: tuple[str, ...] = ()


def next_step(group: AutoScalingGroup, members: Sequence[Instance], balancer: LoadBalancer | None, now: float) -> Step:
    alive = [m for m in members if m.wish is not Wish.TERMINATED]
    leaving = {one.instance_id: one for one in group.leaving if any(m.id == one.instance_id for m in alive)}
    terminate: set[str] = set()
    for member in alive:
        if member.phase is Phase.STOPPED or member.wish is Wish.STOPPED:
            terminate.add(member.id)  # nothing to drain: it serves no more
        elif member.id not in leaving and _is_bad(member, group, balancer, now):
            leaving[member.id] = Leaving(instance_id=member.id, since=now)
    staying = [m for m in alive if m.id not in terminate and m.id not in leaving]
    desired = 0 if group.deleting else group.desired
    # The newest go first: the oldest have proved themselves, and are known to the most clients.
    surplus = sorted(staying, key=lambda m: (m.created_at, m.launch_index, m.id))[desired:]
    for member in surplus:
        leaving[member.id] = Leaving(instance_id=member.id, since=now)
    drain_s = balancer.drain_s if balancer is not None and not balancer.deleting else 0.0
    for one in leaving.values():
        if _elapsed_s(one.since, now) >= drain_s or not _is_registered(one.instance_id, balancer):
            terminate.add(one.instance_id)
    return Step(
        launch=max(0, desired - len(staying)),
        # Until its termination is asked for and written: a crash in between must not make it a member again.
        leaving=tuple(sorted(leaving.values(), key=lambda one: one.instance_id)),
        terminate=tuple(sorted(terminate)),
    )


def _is_registered(instance_id: str, balancer: LoadBalancer | None) -> bool:
    return balancer is not None and any(health.instance_id == instance_id for health in balancer.health)


def _is_bad(member: Instance, group: AutoScalingGroup, balancer: LoadBalancer | None, now: float) -> bool:
    if balancer is None or not balancer.serves:
        return False
    health = next((one for one in balancer.health if one.instance_id == member.id), None)
    if health is None or health.state in (TargetState.HEALTHY, TargetState.DRAINING):
        return False
    age_s, so_for_s = _elapsed_s(member.launched_at, now), _elapsed_s(health.since, now)
    if health.state is TargetState.INITIAL:
        return min(age_s, so_for_s) > group.grace_s
    return so_for_s > UNHEALTHY_S and age_s > min(group.grace_s, UNHEALTHY_S)


def _elapsed_s(since: float, now: float) -> float:
    """Since a time that was written down. One that is still to come was written by a clock that has been put right: waiting
    for it might take hours, so it counts as long ago; a small step back counts as just now."""
    return now - since if now >= since else 0.0 if since - now < CLOCK_STEP_S else math.inf
