"""What only containers have. Goal: a start that was cut off is no crash, a root has its size, and what hands out ids to
the host's users has no say. Method: a record as a dead owner left it; what the guest sees; a tool that refuses."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.drivers.compute.container import compute
from alto.drivers.compute.container.config import ENDED, TOOLS
from alto.drivers.compute.record import Record, Stage, load, save
from alto.kit.world import real_world
from alto.model.instances import Power, Seen
from alto.model.volumes import GIB
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import ContainerRig

pytestmark = pytest.mark.net

ID = machine().id


def test_what_was_cut_off_before_its_keeper_begins_again(container: ContainerRig) -> None:
    async def main() -> None:
        files, home = real_world().files, container.state / ID
        first = container.driver()
        await first.start(machine(), container.boot, [], [])
        await first.stop(ID, grace_s=0.0)
        await first.close()
        record = load(files, home)
        assert isinstance(record, Record)
        files.remove(home / ENDED)
        save(files, home, replace(record, incarnation=2, stage=Stage.STARTING))
        driver = container.driver()
        assert (await driver.observe())[ID] == Seen(power=Power.OFF, incarnation=1)
        await driver.start(machine(incarnation=2), container.boot, [], [])
        assert (await driver.observe())[ID] == Seen(power=Power.ON, incarnation=2)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_guest_whose_end_nobody_tells_has_crashed(container: ContainerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where LXC waits for ever: here it is made to, by standing still when its guest's first process is killed."""
    monkeypatch.setattr(compute, "NOTICED_S", 0.5)

    async def main() -> None:
        driver = container.driver()
        await driver.start(machine(), container.boot, [], [])
        await container.settled(ID)
        assert (await driver.observe())[ID].power is Power.ON
        init = container.init(ID)
        os.kill(container.lxc(ID), signal.SIGSTOP)
        os.kill(init, signal.SIGKILL)
        while (seen := (await driver.observe())[ID]).power is Power.ON:
            await driver.wait_change(timeout_s=0.1)
        assert seen == Seen(power=Power.OFF, incarnation=1, crashed=True)
        await driver.start(machine(incarnation=2), container.boot, [], [])
        assert (await driver.observe())[ID] == Seen(power=Power.ON, incarnation=2)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_its_root_is_as_large_as_was_asked_for(container: ContainerRig) -> None:
    """Whatever the image's size is (32 MiB)."""

    async def main() -> None:
        driver = container.driver()
        await driver.start(machine(), container.boot, [], [])
        await container.settled(ID)
        (line,) = await container.ask(ID, "df -k / | tail -n 1")
        assert 0.9 * GIB < int(line.split()[1]) * 1024 <= GIB
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_hands_out_ids_to_the_hosts_users_is_not_asked(
    container: ContainerRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    for name in ("newuidmap", "newgidmap"):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n: >{asked}\nexit 1\n")
        tool.chmod(0o4755)
    monkeypatch.setattr(compute, "TOOLS", f"{tmp_path}:{TOOLS}")

    async def main() -> None:
        driver = container.driver()
        await driver.start(machine(), container.boot, [], [])
        await container.settled(ID)
        assert not asked.exists()
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))
