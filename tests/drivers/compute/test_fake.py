"""The fake obeys its knobs, and its machines outlive its drivers; what it has in common with real ones is in test_contract."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from alto.drivers.compute.driver import BootFiles, Power, Tap
from alto.drivers.compute.fake import FakeCompute, FakeMachines, Fault, Knobs
from alto.drivers.image.fake import FakeImages
from alto.kit.world import Chance, World, real_world
from alto.model.errors import DriverFault, Impossible
from tests.drivers.compute.machines import machine

T = TypeVar("T")
BOOT = BootFiles(disk=Path("/simulated/tiny"))
TAP = Tap(interface_id="eni-1", name="tap1", mac="02:00:00:00:00:01")


class SeededChance:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def hex(self, digits: int) -> str:
        return "".join(self._random.choice("0123456789abcdef") for _ in range(digits))

    def serials(self, count: int, digits: int, gap: int) -> str:
        return self.hex(digits * count)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


def world(chance: Chance | None = None) -> World:
    return replace(real_world(), chance=chance or SeededChance(1))


def run(main: Coroutine[object, object, T]) -> T:
    return asyncio.run(main)


def test_script_comes_before_chance_and_is_used_up() -> None:
    """Goal: a test can say which call fails and how. Method: one call for each entry of a script."""

    async def main() -> None:
        knobs = Knobs(script={"start": [Fault.REFUSE, Fault.IMPOSSIBLE, Fault.LOSE, None]}, fault_chance={"start": 1.0})
        fake = FakeCompute(world(), knobs=knobs)
        with pytest.raises(DriverFault):
            await fake.start(machine(), BOOT, [TAP], [])
        assert await fake.observe() == {}
        with pytest.raises(Impossible):
            await fake.start(machine(), BOOT, [TAP], [])
        assert await fake.observe() == {}
        with pytest.raises(DriverFault):
            await fake.start(machine(), BOOT, [TAP], [])
        assert (await fake.observe())[machine().id].power is Power.ON  # the answer was lost, not the machine
        await fake.start(machine(), BOOT, [TAP], [])
        assert knobs.script["start"] == []

    run(main())


def test_hang_ends_in_a_fault_and_does_nothing() -> None:
    async def main() -> None:
        fake = FakeCompute(world(), knobs=Knobs(script={"start": [Fault.HANG]}, hang_s=0.01))
        with pytest.raises(DriverFault, match="within"):
            await fake.start(machine(), BOOT, [TAP], [])
        assert await fake.observe() == {}

    run(main())


def test_same_seed_same_faults() -> None:
    """Goal: a replay is exact. Method: 200 calls under one seed, twice, and under another."""

    async def outcomes(seed: int) -> list[bool]:
        fake = FakeCompute(world(SeededChance(seed)), knobs=Knobs(fault_chance={"observe": 0.5}, hang_s=0.0))
        result = []
        for _ in range(200):
            try:
                await fake.observe()
                result.append(True)
            except DriverFault:
                result.append(False)
        return result

    first, again, other = run(outcomes(7)), run(outcomes(7)), run(outcomes(8))
    assert first == again
    assert first != other
    assert 50 < sum(first) < 150


def test_machines_outlive_the_driver() -> None:
    """Goal: the simulator can crash an agent. Method: a second driver over the same machines, nobody closed the first."""

    async def main() -> None:
        machines = FakeMachines()
        await FakeCompute(world(), machines).start(machine(), BOOT, [TAP], [])
        second = FakeCompute(world(), machines)
        assert (await second.observe())[machine().id].power is Power.ON
        await second.start(machine(), BOOT, [TAP], [])
        assert machines.machines[machine().id].starts == 1

    run(main())


def test_images() -> None:
    async def main() -> None:
        images = FakeImages(world(), missing=frozenset({"file:///gone.qcow2"}))
        assert (await images.fetch("tiny")).disk == Path("/simulated/tiny")
        for source in ("file:///gone.qcow2", "http://example.com/x.qcow2", ""):
            with pytest.raises(Impossible):
                await images.fetch(source)

    run(main())
