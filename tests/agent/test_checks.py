"""Status checks. Goal: an impairment is said after some failures in a row and not before, with the time since when, and one
success heals it; of what begins anew nothing is said before it is known. Method: the shipped fakes are told to fail, on a clock
that the test holds."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from alto.agent.checks import FAILURES, FAILURES_AT_FIRST, StatusChecks, Subject
from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.fake import FakeCompute, Fault
from alto.drivers.network.fake import FakeNetwork, FakeNetworks
from alto.kit.world import World, real_world
from alto.model.instances import Checks
from tests.api.cloud import NOW
from tests.clocks import CountedClock
from tests.drivers.network.samples import machine, plan, port

T = TypeVar("T")


class Rig:
    """One machine on a host, and the agent's checks of it."""

    def __init__(self) -> None:
        self.clock = CountedClock(NOW)
        self.world: World = replace(real_world(), clock=self.clock)
        self.compute = FakeCompute(self.world)
        self.networks = FakeNetworks()
        self.network = FakeNetwork(self.world, networks=self.networks)
        self.port = port()
        self.machine = machine(of=self.port)
        self.subject = Subject(id=self.machine.id, incarnation=1, port=self.port, heard=True)
        self.checks = StatusChecks(self.world, self.compute, self.network)
        self.run(self.begin())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(doing)

    async def begin(self) -> None:
        await self.network.ensure_network(plan(), [])
        tap = await self.network.plug(self.port, self.machine)
        await self.compute.start(self.machine, BootFiles(disk=Path("/none")), [tap], [])

    def measure(self, subject: Subject | None = None, *, times: int = 1) -> list[bool]:
        """Whether there was news, each time."""
        return [bool(self.tick(subject or self.subject)) for _ in range(times)]

    def tick(self, subject: Subject) -> list[str]:
        self.clock.seconds += 20
        return self.run(self.checks.measure([subject]))

    @property
    def said(self) -> Checks | None:
        return self.checks.of(self.machine.id, 1)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_guest_that_falls_silent_is_impaired_after_some_failures_and_healed_by_one_success(rig: Rig) -> None:
    assert rig.measure() == [True], "that all is well is said once"
    assert rig.said == Checks()
    assert rig.measure(times=3) == [False] * 3
    rig.networks.silent.add(rig.port.id)
    assert rig.measure(times=FAILURES - 1) == [False] * (FAILURES - 1)
    assert rig.said == Checks(), "one failure is an accident"
    assert rig.measure(times=2) == [True, False]
    impaired = rig.clock.seconds - 20
    assert rig.said == Checks(guest_failed_since=impaired)
    rig.networks.silent.clear()
    assert rig.measure() == [True]
    assert rig.said == Checks()


def test_a_machine_whose_process_does_not_answer_is_impaired_and_its_guest_too(rig: Rig) -> None:
    rig.measure()
    rig.compute.knobs.script["measure"] = [Fault.REFUSE] * FAILURES
    rig.measure(times=FAILURES)
    now = rig.clock.seconds
    assert rig.said == Checks(machine_failed_since=now, guest_failed_since=now)
    last = rig.checks.last(rig.machine.id)
    assert last is not None
    assert (last.at, last.machine_ok, last.guest_ok) == (now, False, False)


def test_a_guest_that_boots_has_more_time(rig: Rig) -> None:
    rig.networks.silent.add(rig.port.id)
    booting = Subject(id=rig.machine.id, incarnation=1, port=rig.port, heard=False)
    assert rig.measure(booting, times=FAILURES_AT_FIRST - 1) == [False] * (FAILURES_AT_FIRST - 1)
    assert rig.said is None, "neither well nor impaired"
    assert rig.measure(booting) == [True]
    assert rig.said == Checks(guest_failed_since=rig.clock.seconds)


def test_an_agent_that_begins_anew_does_not_say_well_before_it_knows(rig: Rig) -> None:
    """The server may know of an impairment: a first failure must not heal it."""
    rig.networks.silent.add(rig.port.id)
    assert rig.measure(times=FAILURES - 1) == [False] * (FAILURES - 1)
    assert rig.said is None
    assert rig.measure() == [True]


def test_another_incarnation_is_another_machine_to_the_checks(rig: Rig) -> None:
    rig.measure()
    assert rig.checks.of(rig.machine.id, 2) is None
    rig.networks.silent.add(rig.port.id)
    rig.measure(times=FAILURES - 1)
    next_one = Subject(id=rig.machine.id, incarnation=2, port=rig.port, heard=True)
    assert rig.measure(next_one, times=FAILURES - 1) == [False] * (FAILURES - 1), "it counts for itself"
    rig.checks.forget(rig.machine.id)
    assert rig.checks.last(rig.machine.id) is None
