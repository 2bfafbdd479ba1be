"""Goal: what a guest writes to an encrypted volume is on the host's disk in no file that can be read, in no word of a command
line, and the guest reads it back: over stops, in snapshots, in copies under another key. Method: real QEMU and a guest that
writes a word that is nowhere else; then all files of the host are searched for that word and for the keys."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.drivers.volume.driver import Base, Disk
from alto.model.errors import DriverFault, Impossible
from alto.model.volumes import GIB
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig, files_with
from tests.drivers.compute.test_disks import read, until_seen, write

pytestmark = pytest.mark.vm

ID = machine(1).id
WORD = "Hallimasch"
KEY, OTHER_KEY = "sealed-one", "sealed-two"


async def root(rig: QemuRig, sealed_key: str | None) -> Disk:
    base = Base(path=rig.boot.disk, format=rig.boot.disk_format)
    return await rig.volumes.create(f"vol-{1:017x}", GIB, account="1", base=base, sealed_key=sealed_key)


def test_what_a_guest_writes_cannot_be_read_on_the_host(qemu: QemuRig, tmp_path: Path) -> None:
    async def main() -> None:
        await qemu.volumes.capacity()
        driver = qemu.driver()
        boot_disk = await root(qemu, KEY)
        data = await qemu.volumes.create("vol-9", GIB, account="1", sealed_key=OTHER_KEY)
        plain = await qemu.volume(8)
        await driver.start(machine(1), qemu.boot, [NO_TAP], [boot_disk, data, plain])
        await qemu.settled(ID)
        names = {disk.volume_id: await until_seen(qemu, ID, disk) for disk in (boot_disk, data, plain)}
        # On the root beyond what the image has, too: a part of it is the image's, which everybody may read.
        await write(qemu, ID, names[boot_disk.volume_id], WORD, at=2_000_000)
        await write(qemu, ID, names["vol-9"], WORD)
        await write(qemu, ID, names[plain.volume_id], "visible")
        # The one volume that is not encrypted shows that the search finds what is there.
        storage = tmp_path / "storage"
        assert files_with(storage, b"visible") == [f"volumes/{plain.volume_id}/disk.qcow2"]
        assert files_with(storage, WORD.encode()) == []
        keys = [await qemu.keys.open(one) for one in (KEY, OTHER_KEY)]
        (pid,) = qemu.processes(ID)
        for key in keys:
            assert files_with(tmp_path, key.encode()) == []
            for name in ("cmdline", "environ"):
                assert key.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()

        # A driver that did not start it, and a server that is away: the machine goes on, and a volume it has is no question.
        await driver.close()
        qemu.keys.away = True
        driver = qemu.driver()
        await driver.wire(ID, [boot_disk, data])
        assert await read(qemu, ID, names["vol-9"]) == WORD
        more = replace(data, volume_id="vol-7")
        with pytest.raises(DriverFault):
            await driver.wire(ID, [boot_disk, data, more])
        # Growing under the guest needs no key either.
        larger = replace(data, size_bytes=2 * GIB)
        await driver.wire(ID, [boot_disk, larger])
        await until_seen(qemu, ID, larger)
        # A start needs them again.
        await driver.stop(ID, grace_s=60)
        larger = await qemu.volumes.disk("vol-9")
        with pytest.raises(DriverFault):
            await driver.start(machine(1, incarnation=2), qemu.boot, [NO_TAP], [boot_disk, larger])
        qemu.keys.away = False
        await driver.start(machine(1, incarnation=2), qemu.boot, [NO_TAP], [boot_disk, larger])
        await qemu.said(ID, "guest ready", times=2)
        assert await read(qemu, ID, await until_seen(qemu, ID, larger)) == WORD
        assert await read(qemu, ID, await until_seen(qemu, ID, boot_disk), at=2_000_000) == WORD
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_snapshots_and_what_is_made_of_them_are_encrypted(qemu: QemuRig, tmp_path: Path) -> None:
    async def main() -> None:
        await qemu.volumes.capacity()
        driver, storage = qemu.driver(), tmp_path / "storage"
        boot_disk = await root(qemu, None)
        data = await qemu.volumes.create("vol-9", GIB, account="1", sealed_key=KEY)
        await driver.start(machine(1), qemu.boot, [NO_TAP], [boot_disk])
        await qemu.settled(ID)
        await driver.wire(ID, [boot_disk, data])
        await write(qemu, ID, await until_seen(qemu, ID, data), WORD)

        # Of a running machine's; of one that nobody has open; a copy with the same key, and one with another.
        target = await qemu.volumes.begin_snapshot("snap-live", data.size_bytes, sealed_key=KEY)
        assert await driver.backup(ID, {"vol-9": target}, quiet=False)
        await qemu.volumes.finish_snapshot("snap-live")
        await driver.wire(ID, [boot_disk])
        await qemu.volumes.snapshot("vol-9", "snap-still")
        await qemu.volumes.copy_snapshot("snap-live", "snap-same")
        await qemu.volumes.copy_snapshot("snap-still", "snap-other", sealed_key=OTHER_KEY)
        assert (await qemu.volumes.base("snap-same")).sealed_key == KEY
        assert (await qemu.volumes.base("snap-other")).sealed_key == OTHER_KEY
        # Nobody sees a snapshot in a key's file.
        assert (await qemu.volumes.observe()).snapshots == ("snap-live", "snap-other", "snap-same", "snap-still")

        # Volumes of each, under its key and under another; larger ones too.
        for number, (snapshot, key, size) in enumerate(
            (
                ("snap-live", KEY, GIB),
                ("snap-still", OTHER_KEY, 2 * GIB),
                ("snap-same", KEY, 2 * GIB),
                ("snap-other", OTHER_KEY, GIB),
            ),
            20,
        ):
            base = await qemu.volumes.base(snapshot)
            made = await qemu.volumes.create(f"vol-{number}", size, account="1", base=base, sealed_key=key)
            await qemu.volumes.delete_snapshot(snapshot)
            await driver.wire(ID, [boot_disk, made])
            assert made.size_bytes == size
            assert await read(qemu, ID, await until_seen(qemu, ID, made)) == WORD
            await driver.wire(ID, [boot_disk])
        await qemu.volumes.snapshot("vol-9", "snap-again")
        base = await qemu.volumes.base("snap-again")
        with pytest.raises(Impossible):
            await qemu.volumes.create("vol-30", GIB, account="1", base=base)
        assert files_with(storage, WORD.encode()) == []

        # What was not encrypted, is when a volume is made of it that should be.
        plain = await qemu.volume(8)
        await driver.wire(ID, [boot_disk, plain])
        await write(qemu, ID, await until_seen(qemu, ID, plain), WORD)
        await driver.wire(ID, [boot_disk])
        await qemu.volumes.snapshot(plain.volume_id, "snap-plain")
        base = await qemu.volumes.base("snap-plain")
        made = await qemu.volumes.create("vol-31", GIB, account="1", base=base, sealed_key=KEY)
        await qemu.volumes.copy_snapshot("snap-plain", "snap-hidden", sealed_key=KEY)
        await qemu.volumes.delete(plain.volume_id)
        await qemu.volumes.delete_snapshot("snap-plain")
        assert files_with(storage, WORD.encode()) == []
        await driver.wire(ID, [boot_disk, made])
        assert await read(qemu, ID, await until_seen(qemu, ID, made)) == WORD
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_a_disk_that_should_be_encrypted_and_is_not_is_refused(qemu: QemuRig) -> None:
    """Somebody with the host's disk in hand might give us another file in its place, to read what is written next."""

    async def main() -> None:
        driver = qemu.driver()
        plain = await qemu.volume(8)
        claimed = replace(plain, sealed_key=KEY)
        with pytest.raises(Impossible):
            await driver.start(machine(1), qemu.boot, [NO_TAP], [claimed])
        assert qemu.processes(ID) == []
        await driver.close()

    asyncio.run(main())
