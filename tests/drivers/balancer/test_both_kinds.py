"""A host's own balancers beside those in its instances. Goal: what is wrong with one kind hides nothing of the other. Method:
the shipped fake in the place of each, one of which fails."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from alto.drivers.balancer.fake import BalancerKnobs, FakeBalancer, FakeBalancers, Fault
from alto.drivers.balancer.haproxy.appliance import Haproxies
from alto.kit.world import real_world
from alto.model.balancers import Appliance
from alto.model.errors import DriverFault
from tests.drivers.balancer.test_fake import plan

FRONT = Appliance(instance_id="i-9", interface_id="eni-9", vpc_id="vpc-1", private_ip="172.31.0.9")


def kind(fault: Callable[[str], Fault | None]) -> tuple[FakeBalancers, FakeBalancer]:
    there = FakeBalancers()
    driver = FakeBalancer(real_world(), answers=lambda _: True, balancers=there, knobs=BalancerKnobs(fault=fault))
    return there, driver


def fails(call: str) -> Fault:
    return Fault.BEFORE


def works(call: str) -> None:
    return None


@pytest.mark.parametrize(("own", "inside", "left"), [(fails, works, "lb-2"), (works, fails, "lb-1")])
def test_one_kind_s_fault_hides_nothing_of_the_other(
    own: Callable[[str], Fault | None], inside: Callable[[str], Fault | None], left: str
) -> None:
    plans = [plan("i-1"), replace(plan("i-1"), id="lb-2", appliance=FRONT)]
    (own_there, own_driver), (inside_there, inside_driver) = kind(own), kind(inside)
    driver = Haproxies(own_driver, inside_driver)
    with pytest.raises(DriverFault):
        asyncio.run(driver.ensure(plans))
    assert [*own_there.plans, *inside_there.plans] == [left]
    assert [one.id for one in asyncio.run(driver.observe())] == [left]


def test_what_is_wrong_with_both_is_raised() -> None:
    driver = Haproxies(kind(fails)[1], kind(fails)[1])
    with pytest.raises(DriverFault):
        asyncio.run(driver.observe())
