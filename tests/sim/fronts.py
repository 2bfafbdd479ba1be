"""Somebody whose services have instances as their balancers, and who is not kind to these; in seeds whose name begins with
"fronts", so that the histories of all others stay what they are.

What was promised: a service that nobody deleted has a balancer that serves, at the address that it always had; and whoever
is behind it stays there when its instance alone is replaced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from alto.model.addresses import Address
from alto.model.balancers import AutoScalingGroup, LoadBalancer
from alto.model.instances import Instance, Phase, Wish
from alto.store.store import Reader
from tests.sim.check import Violated
from tests.sim.workload import GROUP_TAG, Client

PREFIX = "fronts"
GRACE_S = 310.0  # longer than a group gives its members
UNKINDNESS = ("TerminateInstances", "StopInstances", "RebootInstances")


def has_fronts(seed: str) -> bool:
    return seed.startswith(PREFIX)


def kept_waiting(groups: Sequence[AutoScalingGroup], instances: Sequence[Instance]) -> set[str | None]:
    """Balancers whose instance has no host, and says so."""
    waiting = {one.group_name for one in instances if one.waiting_because is not None and one.phase is Phase.PENDING}
    return {group.appliance_of for group in groups if group.waiting_because is not None or group.name in waiting}


class FrontClient(Client):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._addresses: dict[str, str] = {}  # of services, acknowledged
        self._deleted: set[str] = set()

    async def run(self) -> None:
        actions = ((self._create, 3), (self.scale, 3), (self._strike, 4), (self._drop, 1))
        for _ in range(self._actions):
            await asyncio.sleep(self._chance.uniform(0, self._pace_s))
            await self._chance.choices([one for one, _ in actions], [weight for _, weight in actions])[0]()

    async def _create(self) -> None:
        if len(self.services) - len(self._deleted) >= 2:
            return
        name, desired = f"{self._name}-front{len(self.services)}", self._chance.randint(0, 3)
        wish = {"name": name, "desired": desired, "drain_s": 3.0, "balancer": "instance"}
        made = await self._ask("CreateService", wish)
        self.services[name] = desired
        if isinstance(made, dict):
            self._addresses[name] = made["address"]

    async def _strike(self) -> None:
        answer = await self._ask("DescribeInstances", {})
        assert isinstance(answer, dict)
        fronts = [
            one["InstanceId"]
            for reservation in answer["Reservations"]
            for one in reservation["Instances"]
            if one["State"]["Name"] == "running"
            and any(tag["Key"] == GROUP_TAG and tag["Value"].endswith(".balancer") for tag in one.get("Tags", ()))
        ]
        if fronts:
            await self._ask(self._chance.choice(UNKINDNESS), {"InstanceIds": [self._chance.choice(sorted(fronts))]})

    async def replace_alone(self, settle: Callable[[], Awaitable[None]]) -> None:
        """The instance of every balancer ends in a cloud at rest, when all members have had their time to become healthy.
        Raises: Violated, when that costs a member."""
        await asyncio.sleep(GRACE_S)
        before, fronts = self._read(self._members), self._read(self._fronts)
        if fronts:
            await self._ask("TerminateInstances", {"InstanceIds": sorted(fronts)})
        await settle()
        await asyncio.sleep(GRACE_S)
        await settle()
        if left := fronts & self._read(self._fronts):
            raise Violated(f"{sorted(left)} were terminated, and are balancers as before")
        if lost := before - self._read(self._members):
            raise Violated(f"{sorted(lost)} had nothing to do with their balancers' ends, and are gone")

    def _read(self, what: Callable[[Reader], set[str]]) -> set[str]:
        return self._cloud.store.read(what)

    def _members(self, reader: Reader) -> set[str]:
        return {
            one.id
            for name in self._addresses.keys() - self._deleted
            for one in reader.where(Instance, group_name=name)
            if one.wish is Wish.RUNNING
        }

    def _fronts(self, reader: Reader) -> set[str]:
        balancers = [one for one in reader.where(LoadBalancer) if one.name in self._addresses.keys() - self._deleted]
        return {one.appliance.instance_id for one in balancers if one.appliance is not None}

    async def _drop(self) -> None:
        left = sorted(self.services.keys() - self._deleted)
        if left:
            name = self._chance.choice(left)
            self._deleted.add(name)
            await self._ask("DeleteService", {"name": name})

    async def clean_up(self) -> None:
        self._deleted |= self.services.keys()
        await super().clean_up()

    def check_promises(self, reader: Reader) -> None:
        excused = kept_waiting(reader.where(AutoScalingGroup), reader.where(Instance))
        balancers = {one.name: one for one in reader.where(LoadBalancer)}
        for name, address in sorted(self._addresses.items()):
            balancer = balancers.get(name)
            if name in self._deleted:
                continue
            if balancer is None:
                raise Violated(f"the service {name} was acknowledged and is forgotten")
            if balancer.address != address:
                raise Violated(f"the service {name} was at {address} and is at {balancer.address}")
            appliance = balancer.appliance
            front = reader.find(Instance, appliance.instance_id) if appliance is not None else None
            if front is None and balancer.id in excused:
                continue
            if front is None or front.phase is not Phase.RUNNING or not balancer.serves:
                raise Violated(f"the service {name} has no balancer that serves: {front}")
            led = [one.instance_id for one in reader.where(Address) if one.public_ip == address]
            if led != [front.id]:
                raise Violated(f"{address} of the service {name} leads to {led}, its balancer is {front.id}")
