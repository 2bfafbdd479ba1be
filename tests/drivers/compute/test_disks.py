"""Goal: volumes come and go while a guest runs, grow under it, and are copied as of one moment. Method: real QEMU and a guest
that writes and reads them on its console; each driver call twice, because agents do."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.drivers.volume.driver import Disk
from alto.model.volumes import GIB
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig

pytestmark = pytest.mark.vm

ID, OTHER = machine(1).id, machine(2).id
FIND = "for each in /sys/block/vd*; do echo $(basename $each) $(cat $each/serial) $(cat $each/size); done"


async def seen(rig: QemuRig, id: str) -> dict[str, tuple[str, int]]:
    """By serial number: the guest's name for the disk, and its size in bytes."""
    rows = [line.split() for line in await rig.ask(id, FIND)]
    return {row[1]: (row[0], int(row[2]) * 512) for row in rows if len(row) == 3}


async def until_seen(rig: QemuRig, id: str, disk: Disk) -> str:
    """The guest's name for it, once it is there in its size."""
    serial = disk.volume_id.replace("-", "")
    async with asyncio.timeout(60):
        while (found := (await seen(rig, id)).get(serial, ("", 0)))[1] != disk.size_bytes:  # noqa: ASYNC110 - the guest is outside
            await asyncio.sleep(0.2)
    return found[0]


async def write(rig: QemuRig, id: str, name: str, word: str, at: int = 0) -> None:
    await rig.ask(id, f"printf '%-512s' {word} | dd of=/dev/{name} bs=512 seek={at} conv=fsync")


async def read(rig: QemuRig, id: str, name: str, at: int = 0) -> str:
    (line,) = await rig.ask(id, f"echo $(dd if=/dev/{name} bs=512 skip={at} count=1 2>/dev/null)")
    return line


async def digest(rig: QemuRig, id: str) -> str:
    """Of the beginning of the root volume, which is over an image."""
    (line,) = await rig.ask(id, "dd if=/dev/vda bs=64k count=160 2>/dev/null | md5sum")
    return line


def test_a_volume_goes_from_guest_to_guest_and_into_snapshots(qemu: QemuRig) -> None:
    async def main() -> None:
        driver = qemu.driver()
        (root,), (root_2,) = await qemu.disks(1), await qemu.disks(2)
        data = await qemu.volume(9)
        await driver.wire(ID, [root, data])  # none there: nothing to do
        await driver.start(machine(1), qemu.boot, [NO_TAP], [root])
        await driver.start(machine(2), qemu.boot, [NO_TAP], [root_2])
        await qemu.settled(ID)
        for _ in range(2):
            await driver.wire(ID, [root, data])
        name = await until_seen(qemu, ID, data)
        await write(qemu, ID, name, "hello")

        # A copy of the moment, while the guest runs; what comes later is not in it.
        target = await qemu.volumes.begin_snapshot("snap-live", data.size_bytes)
        assert await driver.backup(ID, {data.volume_id: target}, quiet=False)
        await qemu.volumes.finish_snapshot("snap-live")
        await write(qemu, ID, name, "later")
        assert not await driver.backup(ID, {"vol-absent": target}, quiet=False)

        larger = replace(data, size_bytes=2 * GIB)
        for _ in range(2):
            await driver.wire(ID, [root, larger])
        assert await until_seen(qemu, ID, larger) == name
        await write(qemu, ID, name, "beyond", at=3_000_000)

        # A driver that did not start the machine takes the volume out, and it goes to the other guest.
        await driver.close()
        driver = qemu.driver()
        for _ in range(2):
            await driver.wire(ID, [root])
        assert data.volume_id.replace("-", "") not in await seen(qemu, ID)
        await qemu.settled(OTHER)
        moved = await qemu.volumes.disk(data.volume_id)
        assert moved.size_bytes == 2 * GIB
        await driver.wire(OTHER, [root_2, moved])
        name = await until_seen(qemu, OTHER, moved)
        assert (await read(qemu, OTHER, name), await read(qemu, OTHER, name, at=3_000_000)) == ("later", "beyond")
        await driver.wire(OTHER, [root_2])

        # A copy of a volume that nobody has open, and volumes of both copies.
        await qemu.volumes.snapshot(data.volume_id, "snap-still")
        await qemu.volumes.delete(data.volume_id)
        for number, (snapshot, word) in enumerate((("snap-live", "hello"), ("snap-still", "later")), 20):
            base = await qemu.volumes.base(snapshot)
            made = await qemu.volumes.create(f"vol-{number:017x}", GIB, account="1", base=base)
            await qemu.volumes.delete_snapshot(snapshot)
            await driver.wire(OTHER, [root_2, made])
            assert await read(qemu, OTHER, await until_seen(qemu, OTHER, made)) == word
            await driver.wire(OTHER, [root_2])
        await driver.destroy(ID)
        await driver.destroy(OTHER)
        await driver.close()

    asyncio.run(main())


def test_volumes_are_there_from_the_start_and_stay_over_stops(qemu: QemuRig) -> None:
    async def main() -> None:
        driver = qemu.driver()
        (root,), data = await qemu.disks(), await qemu.volume(9)
        await driver.start(machine(1), qemu.boot, [NO_TAP], [root, data])
        await qemu.settled(ID)
        await write(qemu, ID, await until_seen(qemu, ID, data), "kept")
        await driver.stop(ID, grace_s=60)
        grown = await qemu.volumes.grow(data.volume_id, 2 * GIB)
        await driver.start(machine(1, incarnation=2), qemu.boot, [NO_TAP], [root, grown])
        await qemu.said(ID, "guest ready", times=2)
        assert await read(qemu, ID, await until_seen(qemu, ID, grown)) == "kept"
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_a_quiet_copy_has_what_the_guest_had_not_written_yet(qemu: QemuRig) -> None:
    """As CreateImage makes it: the guest powers off, which writes what it kept in memory, and comes up again by itself."""

    async def main() -> None:
        driver = qemu.driver()
        (root,), data = await qemu.disks(), await qemu.volume(9)
        await driver.start(machine(1), qemu.boot, [NO_TAP], [root, data])
        await qemu.settled(ID)
        name = await until_seen(qemu, ID, data)
        (pid,) = qemu.processes(ID)
        system = await digest(qemu, ID)
        await write(qemu, ID, name, "both")
        targets: dict[str, Path] = {}
        for disk, snapshot in ((root, "snap-root"), (data, "snap-data")):
            targets[disk.volume_id] = await qemu.volumes.begin_snapshot(snapshot, disk.size_bytes)
        assert await driver.backup(ID, targets, quiet=True)
        await qemu.said(ID, "guest ready", times=2)
        assert qemu.processes(ID) == [pid]
        for snapshot in ("snap-root", "snap-data"):
            await qemu.volumes.finish_snapshot(snapshot)
        await driver.stop(ID, grace_s=60)
        again = [
            await qemu.volumes.create(f"vol-{number:017x}", GIB, account="1", base=await qemu.volumes.base(snapshot))
            for number, snapshot in ((20, "snap-root"), (21, "snap-data"))
        ]
        await driver.start(machine(2), qemu.boot, [NO_TAP], again)
        await qemu.settled(OTHER)
        assert await read(qemu, OTHER, await until_seen(qemu, OTHER, again[1])) == "both"
        assert await digest(qemu, OTHER) == system
        for id in (ID, OTHER):
            await driver.destroy(id)
        await driver.close()

    asyncio.run(main())
