"""Keeps every AutoScalingGroup at its desired number of members.

It launches and terminates through the same EC2 operations that users call (`Ec2`, given by the daemon). Before a launch the
intent is written with its token: after a crash the same call is made again, and EC2's idempotency makes nothing twice.
"""

from collections.abc import Sequence
from typing import Protocol

import structlog
from msgspec.structs import replace

from alto.kit.world import Clock
from alto.model.balancers import AutoScalingGroup, Launching, LoadBalancer
from alto.model.errors import AltoError
from alto.model.instances import Instance, Phase, Wish
from alto.model.networks import NetworkInterface, SecurityGroup, SecurityGroupVpc
from alto.model.records import Record
from alto.plan.groups import Step, next_step
from alto.plan.security_groups import is_used
from alto.store.store import Reader, Store, Tx

log = structlog.get_logger()

# EC2 launches at most so many by one call here; a larger group grows in several.
LAUNCH_MAX = 50
# While members drain or wait for health, time itself is a change.
BUSY_SWEEP_S = 1.0
# A launch that was refused is tried again after so long: without a pause each try, being a change, would wake the next.
REFUSED_PAUSE_S = 10.0


class Ec2(Protocol):
    """EC2's operations as the service itself calls them for an account. Both raise AltoError when EC2 refuses."""

    async def launch(self, group: AutoScalingGroup, launching: Launching) -> None:
        """Idempotent by the token of `launching`."""

    async def terminate(self, group: AutoScalingGroup, instance_ids: Sequence[str]) -> None: ...


class Groups:
    watches: Sequence[type[Record]] = (AutoScalingGroup, Instance, LoadBalancer)
    sweep_s = 15.0

    def __init__(self, store: Store, clock: Clock, ec2: Ec2) -> None:
        self._store = store
        self._clock = clock
        self._ec2 = ec2
        self._refused_at: dict[str, float] = {}  # group id -> when, on the monotonic clock; a restart may forget it

    async def reconcile(self) -> float | None:
        busy = False
        for group in self._store.read(lambda reader: reader.where(AutoScalingGroup)):
            busy = await self._reconcile_one(group) or busy
        return BUSY_SWEEP_S if busy else None

    async def _reconcile_one(self, group: AutoScalingGroup) -> bool:
        """One step for one group; True when it wants to be looked at again soon."""
        if group.launching is not None:
            await self._finish_launch(group, group.launching)
            return True
        group, step = await self._store.write(lambda tx: self._decide(tx, group))
        if step is None:
            return False
        if step.terminate:
            await self._terminate(group, step.terminate)
        if group.launching is not None:
            await self._finish_launch(group, group.launching)
        unsettled = bool(step.leaving or step.terminate or step.launch)
        return unsettled or self._store.read(lambda reader: not _settled(reader, group))

    def _decide(self, tx: Tx, known: AutoScalingGroup) -> tuple[AutoScalingGroup, Step | None]:
        group = tx.find(AutoScalingGroup, known.id)
        if group is None:
            return known, None
        members = members_of(tx, group)
        balancer = tx.find(LoadBalancer, group.load_balancer_id) if group.load_balancer_id else None
        if group.deleting and not any(member.phase is not Phase.TERMINATED for member in members):
            tx.delete(AutoScalingGroup, group.id)
            own = tx.find(SecurityGroup, group.own_group_id) if group.own_group_id else None
            if own is not None:
                interfaces = tx.where(NetworkInterface, account=own.account, region=own.region)
                # Its tenant may have given it to other instances too: then it stays, and is the tenant's to delete.
                groups = tx.where(SecurityGroup, account=own.account, region=own.region)
                elsewhere = tx.where(SecurityGroupVpc, group_id=own.id, limit=1)
                if not elsewhere and not is_used(own.id, interfaces, groups):
                    tx.delete(SecurityGroup, own.id)
            return group, None
        step = next_step(group, members, balancer, self._clock.now())
        changed = group
        if step.leaving != group.leaving:
            changed = replace(changed, leaving=step.leaving)
        refused_at = self._refused_at.get(group.id)
        if step.launch and (refused_at is None or self._clock.monotonic() - refused_at >= REFUSED_PAUSE_S):
            launching = Launching(token=f"{group.id}-{group.launches}", count=min(step.launch, LAUNCH_MAX))
            changed = replace(changed, launching=launching, launches=group.launches + 1)
        if changed is not group:
            changed = tx.put(changed)
        return changed, step

    async def _finish_launch(self, group: AutoScalingGroup, launching: Launching) -> None:
        why: str | None = None
        try:
            await self._ec2.launch(group, launching)
        except AltoError as error:
            # Refused for now (no room, say): said in the group, and decided anew at the next sweep.
            why = str(error)
            self._refused_at[group.id] = self._clock.monotonic()
            log.info("group launch refused", group=group.name, reason=why)
        else:
            self._refused_at.pop(group.id, None)

        def done(tx: Tx) -> None:
            now = tx.find(AutoScalingGroup, group.id)
            if now is not None and now.launching == launching:
                tx.put(replace(now, launching=None, waiting_because=why))

        await self._store.write(done)

    async def _terminate(self, group: AutoScalingGroup, instance_ids: Sequence[str]) -> None:
        try:
            await self._ec2.terminate(group, instance_ids)
        except AltoError as error:
            # A protected member, say: the others wait for it, and `alto audit` tells.
            log.info("group terminate refused", group=group.name, instances=instance_ids, reason=str(error))


def members_of(reader: Reader, group: AutoScalingGroup) -> list[Instance]:
    return reader.where(Instance, group_name=group.name, account=group.account, region=group.region)


def _settled(reader: Reader, group: AutoScalingGroup) -> bool:
    """Whether only a change, and not the mere passing of time, can make work for this group."""
    living = [member for member in members_of(reader, group) if member.wish is Wish.RUNNING]
    if group.deleting or len(living) != group.desired:
        return False
    balancer = reader.find(LoadBalancer, group.load_balancer_id) if group.load_balancer_id else None
    healthy = {health.instance_id for health in balancer.health if health.state == "healthy"} if balancer else set()
    return balancer is None or all(member.id in healthy for member in living)
