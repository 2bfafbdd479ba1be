"""Balancers. Goal: one whose address is refused holds up no other. Method: the real store in memory, two services whose
balancers are instances that have just come, and an EC2 that refuses to lead one of the addresses."""

import asyncio

import pytest

from alto.control.balancers import Balancers
from alto.model.addresses import Address
from alto.model.balancers import Appliance, AutoScalingGroup, LaunchSpec, LoadBalancer
from alto.model.errors import Conflict, Refused
from alto.model.instances import Phase
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Tx
from tests.plan.test_instances import instance

PLACE = {"account": "1", "region": "r"}


class Ec2:
    """Fails for one balancer, and keeps where it led the others."""

    def __init__(self, fails_for: str, error: Exception) -> None:
        self._fails_for, self._error = fails_for, error
        self.led: list[tuple[str, str]] = []

    def lead(self, tx: Tx, balancer: LoadBalancer, appliance: Appliance) -> None:
        if balancer.id == self._fails_for:
            raise self._error
        self.led.append((balancer.id, appliance.instance_id))

    def release(self, tx: Tx, balancer: LoadBalancer) -> None:
        raise AssertionError(balancer)


async def no_pause() -> None:
    return


def two_services() -> SqliteStore:
    store = SqliteStore.inline(MemoryDisk(), pause=no_pause)

    def rows(tx: Tx) -> None:
        for number in (1, 2):
            allocation, address, keeper = f"eipalloc-{number}", f"127.64.0.{number}", f"web{number}.balancer"
            balancer = LoadBalancer(
                id=f"lb-{number}", **PLACE, name=f"web{number}", address=address, created_at=0.0, allocation_id=allocation
            )
            launch = LaunchSpec(image_id="ami-1", instance_type="m1.tiny")
            group = AutoScalingGroup(
                id=f"asg-{number}", **PLACE, name=keeper, desired=1, launch=launch, appliance_of=balancer.id, created_at=0.0
            )
            front = instance(id=f"i-{number}", phase=Phase.RUNNING, group_name=keeper, created_at=0.0)
            for row in (
                balancer,
                group,
                front,
                Address(id=allocation, **PLACE, public_ip=address),
            ):
                tx.put(row)

    asyncio.run(store.write(rows))
    return store


@pytest.mark.parametrize("bad", [1, 2])
def test_one_that_is_refused_holds_up_no_other(bad: int) -> None:
    store, ec2 = two_services(), Ec2(f"lb-{bad}", Refused("InsufficientAddressCapacity", "The pool is empty."))
    again_s = asyncio.run(Balancers(store, ec2).reconcile())
    assert ec2.led == [(f"lb-{3 - bad}", f"i-{3 - bad}")]
    assert again_s is not None, "it is tried again"


def test_a_lost_race_is_decided_anew() -> None:
    with pytest.raises(Conflict):
        asyncio.run(Balancers(two_services(), Ec2("lb-1", Conflict("changed meanwhile"))).reconcile())
