"""The fake balancer keeps the promises that the simulator leans on.

Goal: state outlives the driver object, health follows the given callable, faults fall before or after the effect.
Method: two driver objects over one `FakeBalancers`, a set as the machines that answer.
"""

import asyncio

import pytest
from msgspec.structs import replace

from alto.drivers.balancer.driver import BalancerDriver
from alto.drivers.balancer.fake import BalancerKnobs, FakeBalancer, FakeBalancers, Fault
from alto.kit.world import real_world
from alto.model.balancers import Appliance, BalancerPlan, HealthCheck, Target, TargetState
from alto.model.errors import DriverFault


def plan(*targets: str, draining: frozenset[str] = frozenset()) -> BalancerPlan:
    return BalancerPlan(
        id="lb-1",
        name="web",
        address="127.64.0.9",
        port=80,
        check=HealthCheck(),
        drain_s=1.0,
        targets=tuple(
            Target(instance_id=name, vpc_id="vpc-1", private_ip="172.31.0.5", port=80, draining=name in draining)
            for name in targets
        ),
    )


def states(driver: BalancerDriver) -> dict[str, TargetState]:
    (report,) = asyncio.run(driver.observe())
    return {health.instance_id: health.state for health in report.health}


def test_a_target_is_healthy_only_after_it_answered() -> None:
    answering: set[str] = set()
    driver = FakeBalancer(real_world(), answers=answering.__contains__)
    asyncio.run(driver.ensure([plan("i-1", "i-2")]))
    assert states(driver) == {"i-1": TargetState.INITIAL, "i-2": TargetState.INITIAL}
    assert driver.serving("lb-1") == []

    answering.add("i-1")
    assert states(driver) == {"i-1": TargetState.HEALTHY, "i-2": TargetState.INITIAL}

    answering.clear()
    assert states(driver) == {"i-1": TargetState.UNHEALTHY, "i-2": TargetState.INITIAL}
    assert driver.serving("lb-1") == []


def test_state_outlives_the_driver() -> None:
    host = FakeBalancers()
    first = FakeBalancer(real_world(), answers=lambda _: True, balancers=host)
    asyncio.run(first.ensure([plan("i-1")]))
    second = FakeBalancer(real_world(), answers=lambda _: True, balancers=host)
    assert states(second) == {"i-1": TargetState.HEALTHY}
    asyncio.run(second.remove_all())
    assert asyncio.run(first.observe()) == []


def test_one_that_is_an_instance_serves_while_that_answers() -> None:
    answering = {"i-1"}
    driver = FakeBalancer(real_world(), answers=answering.__contains__)
    appliance = Appliance(instance_id="i-9", interface_id="eni-9", vpc_id="vpc-1", private_ip="172.31.0.9")
    asyncio.run(driver.ensure([replace(plan("i-1"), appliance=appliance)]))
    (booting,) = asyncio.run(driver.observe())
    assert (booting.ready, booting.appliance_id, driver.serving("lb-1")) == (False, "i-9", [])
    answering.add("i-9")
    (serving,) = asyncio.run(driver.observe())
    assert (serving.ready, serving.health[0].state) == (True, TargetState.INITIAL)
    assert driver.serving("lb-1") == ["i-1"]


def test_another_instance_in_its_place_knows_nobody() -> None:
    answering = {"i-1", "i-8", "i-9"}
    driver = FakeBalancer(real_world(), answers=answering.__contains__)
    for name in ("i-8", "i-9"):
        appliance = Appliance(instance_id=name, interface_id="eni-9", vpc_id="vpc-1", private_ip="172.31.0.9")
        asyncio.run(driver.ensure([replace(plan("i-1"), appliance=appliance)]))
        assert states(driver) == {"i-1": TargetState.INITIAL}
        assert states(driver) == {"i-1": TargetState.HEALTHY}


def test_draining_takes_nothing_new() -> None:
    driver = FakeBalancer(real_world(), answers=lambda _: True)
    asyncio.run(driver.ensure([plan("i-1", "i-2", draining=frozenset({"i-2"}))]))
    assert states(driver)["i-2"] is TargetState.DRAINING
    assert driver.serving("lb-1") == ["i-1"]


@pytest.mark.parametrize(("fault", "planned"), [(Fault.BEFORE, []), (Fault.AFTER, ["lb-1"])])
def test_a_fault_falls_before_or_after_the_effect(fault: Fault, planned: list[str]) -> None:
    host = FakeBalancers()
    driver = FakeBalancer(real_world(), answers=lambda _: True, balancers=host, knobs=BalancerKnobs(fault=lambda _: fault))
    with pytest.raises(DriverFault):
        asyncio.run(driver.ensure([plan("i-1")]))
    assert list(host.plans) == planned
