"""What every compute driver does: on the fake always, on real QEMU (mark `vm`) and LXC (mark `net`) where the
machine allows.

Machines are looked at from outside (the process table, the guest's console), never through the driver's own memory.
"""

import asyncio

import pytest

from alto.drivers.compute.driver import ComputeDriver, Line, Tap
from alto.model.errors import DriverFault
from alto.model.instances import Power, Seen
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, Rig, until

ID = machine().id


async def observed(driver: ComputeDriver) -> dict[str, Seen]:
    return dict(await driver.observe())


async def until_off(driver: ComputeDriver) -> Seen:
    """Waits as an agent does: for a change or a while, then looks."""
    async with asyncio.timeout(180):
        while (seen := (await driver.observe())[ID]).power is Power.ON:
            await driver.wait_change(timeout_s=2)
    return seen


def test_start_is_idempotent(rig: Rig) -> None:
    """Goal: a doubled start makes one machine. Method: start twice, and once with an older incarnation."""

    async def main() -> None:
        driver = rig.driver()
        assert await observed(driver) == {}
        await driver.start(machine(incarnation=2), rig.boot, [NO_TAP], await rig.disks())
        life = rig.processes(ID)
        assert len(life) == 1
        await driver.start(machine(incarnation=2), rig.boot, [NO_TAP], await rig.disks())
        await driver.start(machine(incarnation=1), rig.boot, [NO_TAP], await rig.disks())
        assert rig.processes(ID) == life
        assert await observed(driver) == {ID: Seen(power=Power.ON, incarnation=2)}
        assert await driver.measure(ID)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_stop_start_destroy(rig: Rig) -> None:
    """Goal: the life of a machine. Method: each step, then what is seen of it."""

    async def main() -> None:
        driver = rig.driver()
        await driver.stop(ID, grace_s=1)  # none there: nothing to do
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        await driver.stop(ID, grace_s=60)
        assert rig.processes(ID) == []
        assert await observed(driver) == {ID: Seen(power=Power.OFF, incarnation=1)}
        assert not await driver.measure(ID)
        await driver.stop(ID, grace_s=60)
        await driver.start(machine(incarnation=2), rig.boot, [NO_TAP], await rig.disks())
        assert len(rig.processes(ID)) == 1
        assert await observed(driver) == {ID: Seen(power=Power.ON, incarnation=2)}
        await driver.destroy(ID)
        assert rig.processes(ID) == []
        assert await observed(driver) == {}
        assert not await driver.measure(ID)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_crash_is_seen(rig: Rig) -> None:
    """Goal: a process that dies by itself wakes the agent and is called crashed. Method: kill -9."""

    async def main() -> None:
        driver = rig.driver()
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await driver.wait_change(timeout_s=0.05)  # the start itself may count as a change
        rig.crash(ID)
        assert await until_off(driver) == Seen(power=Power.OFF, incarnation=1, crashed=True)
        await driver.start(machine(incarnation=2), rig.boot, [NO_TAP], await rig.disks())
        assert await observed(driver) == {ID: Seen(power=Power.ON, incarnation=2)}
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_power_off_by_guest_is_seen(rig: Rig) -> None:
    async def main() -> None:
        driver = rig.driver()
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.power_off_by_guest(ID)
        assert await until_off(driver) == Seen(power=Power.OFF, incarnation=1, guest_initiated=True)
        assert rig.processes(ID) == []
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_another_driver_finds_the_machine(rig: Rig) -> None:
    """Goal: an agent's restart does not touch the guest. Method: a second driver over the same host."""

    async def main() -> None:
        first = rig.driver()
        await first.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        life, boots = rig.processes(ID), rig.boots(ID)
        await first.close()
        second = rig.driver()
        assert await observed(second) == {ID: Seen(power=Power.ON, incarnation=1)}
        await second.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        assert await second.measure(ID)
        assert (rig.processes(ID), rig.boots(ID)) == (life, boots)
        await second.destroy(ID)
        assert rig.processes(ID) == []
        await second.close()

    asyncio.run(main())


def test_what_happened_while_nobody_looked(rig: Rig) -> None:
    """Goal: the reason of an end is known even when it came while the agent was dead. Method: end it between two drivers."""

    async def main() -> None:
        first = rig.driver()
        await first.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        await first.close()
        await rig.power_off_by_guest(ID)
        second = rig.driver()
        assert await until_off(second) == Seen(power=Power.OFF, incarnation=1, guest_initiated=True)
        await second.start(machine(incarnation=2), rig.boot, [NO_TAP], await rig.disks())
        await second.close()
        rig.crash(ID)
        third = rig.driver()
        assert await until_off(third) == Seen(power=Power.OFF, incarnation=2, crashed=True)
        await third.destroy(ID)
        await third.close()

    asyncio.run(main())


def test_reboot_keeps_the_process(rig: Rig) -> None:
    async def main() -> None:
        driver = rig.driver()
        with pytest.raises(DriverFault):
            await driver.reboot(ID)
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        life, boots = rig.processes(ID), rig.boots(ID)
        await driver.reboot(ID)
        await until(lambda: rig.boots(ID) > boots, "the guest came up again")
        assert rig.processes(ID) == life
        assert await observed(driver) == {ID: Seen(power=Power.ON, incarnation=1)}
        await driver.stop(ID, grace_s=60)
        with pytest.raises(DriverFault):
            await driver.reboot(ID)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_console_is_kept(rig: Rig) -> None:
    async def main() -> None:
        driver = rig.driver()
        assert await driver.console(ID) == b""
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        said = await driver.console(ID)
        assert said
        await driver.stop(ID, grace_s=60)
        assert (await driver.console(ID)).startswith(said)
        await driver.destroy(ID)
        assert await driver.console(ID) == b""
        await driver.close()

    asyncio.run(main())


async def heard(line: Line, word: str) -> bytes:
    """All that is read until `word` came."""
    said = b""
    async with asyncio.timeout(60):
        while word.encode() not in said:
            piece = await line.read()
            assert piece, f"the line ended after {said!r}"
            said += piece
    return said


def test_the_serial_line_is_live_and_kept(rig: Rig) -> None:
    """Goal: who holds the line types and reads; what was said is kept all the same; the next one, of another driver too, has
    it after him; it ends with the machine. Method: a sum that only a guest can know, twice, and then the power off."""

    async def kept(driver: ComputeDriver, word: str) -> None:
        # Who holds the line may hear it a moment before it is in the log.
        async with asyncio.timeout(60):
            while word.encode() not in await driver.console(ID):  # noqa: ASYNC110 - the guest is outside
                await asyncio.sleep(0.02)

    async def main() -> None:
        driver = rig.driver()
        with pytest.raises(DriverFault):
            await driver.open_line(ID)
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await kept(driver, rig.prompt)
        life = rig.processes(ID)
        for _ in range(2):
            line = await driver.open_line(ID)
            await line.write(b"echo $((21*2))\r")
            await heard(line, rig.doubled)
            await kept(driver, rig.doubled)
            # All that a terminal can send is the guest's: LXC's own escape, which ends its console, too.
            await line.write(b"\x01q\r")
            # An agent that dies closes nothing by itself: the kernel does.
            await line.close()
            await line.close()
            await driver.close()
            driver = rig.driver()
        assert rig.processes(ID) == life
        line = await driver.open_line(ID)
        await line.write(b"\r")
        await driver.stop(ID, grace_s=60)
        async with asyncio.timeout(60):
            while await line.read():
                pass
        with pytest.raises(DriverFault):
            await line.write(b"late")
        await line.close()
        with pytest.raises(DriverFault):
            await driver.open_line(ID)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


async def asks_until_answered(rig: Rig, line: Line) -> None:
    answer = asyncio.ensure_future(heard(line, rig.doubled))
    while not answer.done():
        # A serial port drops what comes faster than the guest reads, or before it does: as a person, once more.
        await line.write(b"\recho $((21*2))\r")
        await asyncio.wait([answer], timeout=2)
    await answer


def test_the_serial_line_goes_on_over_a_reboot(rig: Rig) -> None:
    """Goal: who watches a machine boot need not come again. Method: a sum before and after."""

    async def main() -> None:
        driver = rig.driver()
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        line = await driver.open_line(ID)
        await asks_until_answered(rig, line)
        boots = rig.boots(ID)
        await driver.reboot(ID)
        await until(lambda: rig.boots(ID) > boots, "the guest came up again")
        await asks_until_answered(rig, line)
        await line.close()
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_who_leaves_while_typing_harms_nobody(rig: Rig) -> None:
    """Goal: a lost holder of the line is nothing to the machine. Method: many that go with a word under way; LXC once ended its
    guest for one in ten of them."""

    async def main() -> None:
        driver = rig.driver()
        await driver.start(machine(), rig.boot, [NO_TAP], await rig.disks())
        await rig.settled(ID)
        life = rig.processes(ID)
        for _ in range(30):
            line = await driver.open_line(ID)
            await line.write(b"\r")
            await line.write(b"\x01q\r")
            await line.close()
        line = await driver.open_line(ID)
        await asks_until_answered(rig, line)
        await line.close()
        assert rig.processes(ID) == life
        assert await observed(driver) == {ID: Seen(power=Power.ON, incarnation=1)}
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_interfaces_come_and_go(rig: Rig) -> None:
    """Goal: what is attached the guest sees, what is detached it does not, whoever drives. Method: two from the start, one
    more while it runs, each step twice and once by another driver; the guest is asked what it has."""
    first, second, third = (rig.tap(number) for number in (1, 2, 3))

    async def until_seen(*taps: Tap) -> None:
        async with asyncio.timeout(60):
            while await rig.interfaces(ID) != [tap.mac for tap in taps]:  # noqa: ASYNC110 - the guest is outside
                await asyncio.sleep(0.1)

    async def main() -> None:
        driver = rig.driver()
        await driver.attach_interface(ID, third)  # none there: nothing to do
        await driver.start(machine(), rig.boot, [first, second], await rig.disks())
        await rig.settled(ID)
        await until_seen(first, second)
        for _ in range(2):
            await driver.attach_interface(ID, third)
        await until_seen(first, second, third)
        await driver.close()
        driver = rig.driver()
        await driver.attach_interface(ID, third)
        for _ in range(2):
            await driver.detach_interface(ID, second.interface_id)
        assert await rig.interfaces(ID) == [first.mac, third.mac]
        assert await driver.interfaces(ID) == {first.interface_id, third.interface_id}
        await driver.attach_interface(ID, second)
        await until_seen(first, second, third)
        boots = rig.boots(ID)
        await driver.reboot(ID)
        await until(lambda: rig.boots(ID) > boots, "the guest came up again")
        await until_seen(first, second, third)
        await driver.stop(ID, grace_s=60)
        assert await driver.interfaces(ID) == frozenset()
        await driver.detach_interface(ID, second.interface_id)
        await driver.destroy(ID)
        await driver.close()

    try:
        asyncio.run(main())
    finally:
        for tap in (first, second, third):
            rig.drop(tap)
