"""Groups. Goal: the security group that was made for a service goes with it, unless its tenant uses it elsewhere. Method: the
real store in memory with a group that is over, and each kind of use beside it."""

import asyncio
from collections.abc import Sequence

import pytest

from alto.control.groups import Groups
from alto.model.balancers import AutoScalingGroup, Launching, LaunchSpec
from alto.model.networks import NetworkInterface, Permission, SecurityGroup
from alto.model.records import Record
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.clocks import CountedClock

PLACE = {"account": "1", "region": "r"}
OVER = AutoScalingGroup(
    id="asg-1",
    **PLACE,
    name="web",
    desired=0,
    launch=LaunchSpec(image_id="ami-1", instance_type="m1.tiny"),
    own_group_id="sg-own",
    deleting=True,
    created_at=0.0,
)


class NoEc2:
    """Nothing is to be launched or terminated here."""

    async def launch(self, group: AutoScalingGroup, launching: Launching) -> None:
        raise AssertionError(launching)

    async def terminate(self, group: AutoScalingGroup, instance_ids: Sequence[str]) -> None:
        raise AssertionError(instance_ids)


def security_group(id: str, *sources: str) -> SecurityGroup:
    rules = [
        Permission(id=f"sgr-{source}", egress=False, protocol="-1", from_port=-1, to_port=-1, group_id=source)
        for source in sources
    ]
    return SecurityGroup(id=id, **PLACE, vpc_id="vpc-1", name=id, description="d", permissions=tuple(rules))


def interface(*groups: str) -> NetworkInterface:
    where = {"vpc_id": "vpc-1", "subnet_id": "subnet-1", "zone": "ra", "mac": "02:00:00:00:00:01", "private_ip": "10.0.0.4"}
    return NetworkInterface(id="eni-1", **PLACE, **where, group_ids=groups)


@pytest.mark.parametrize(
    ("beside", "stays"),
    [
        ([], False),
        ([security_group("sg-other", "sg-other"), interface("sg-other")], False),
        ([interface("sg-other", "sg-own")], True),
        ([security_group("sg-other", "sg-own")], True),
    ],
)
def test_the_security_group_of_a_service_goes_with_it_unless_it_is_used(beside: list[Record], stays: bool) -> None:
    async def left() -> tuple[bool, bool]:
        store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        await store.write(lambda tx: [tx.put(one) for one in (OVER, security_group("sg-own", "sg-own"), *beside)])
        await Groups(store, CountedClock(), NoEc2()).reconcile()
        return store.read(
            lambda r: (r.find(AutoScalingGroup, "asg-1") is not None, r.find(SecurityGroup, "sg-own") is not None)
        )

    assert asyncio.run(left()) == (False, stays)
