"""What only real machines can show: confinement, hung and killed processes, an owner that dies, disks.

Machines are looked at through /proc and through their consoles. The owner that is killed is a process of its own.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from alto.drivers.compute.qemu.compute import QemuCompute
from alto.drivers.compute.record import Record, Stage, load, save
from alto.drivers.image.images import LocalImages
from alto.drivers.image.qcow2 import empty
from alto.kit.world import real_world
from alto.model.errors import DriverFault, Impossible
from alto.model.instances import Power, Seen
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig, until

pytestmark = pytest.mark.vm
ROOT = Path("storage/volumes/vol-00000000000000001/disk.qcow2")
ID, OTHER = machine(1).id, machine(2).id

OWNER = """
import asyncio, sys
from pathlib import Path
import msgspec
from alto.drivers.compute.driver import BootFiles
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig

async def main():
    state, disk, kernel, initrd, cmdline = sys.argv[1:]
    boot = BootFiles(disk=Path(disk), kernel=Path(kernel), initrd=Path(initrd), cmdline=cmdline)
    rig = QemuRig(Path(state), boot)
    disks = await rig.disks()
    driver = rig.driver()
    print("starting", flush=True)
    await driver.start(machine(), boot, [NO_TAP], disks)
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
# What comes before: as `kill -9` at the moment when all is ready and the guest is to begin.
DIES_BEFORE_THE_GUEST_BEGINS = """
import os, signal
from alto.drivers.compute.qemu.monitor import Monitor

execute = Monitor.execute

async def dies(self, command, *arguments, **more):
    if command == "cont":
        os.kill(os.getpid(), signal.SIGKILL)
    return await execute(self, command, *arguments, **more)

Monitor.execute = dies
"""


def owner(rig: QemuRig, before: str = "") -> subprocess.Popen[str]:
    boot, script = rig.boot, before + OWNER
    words = [sys.executable, "-c", script, str(rig.state), str(boot.disk), str(boot.kernel), str(boot.initrd), boot.cmdline]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def test_the_process_may_do_nothing(qemu: QemuRig) -> None:
    """Goal: a guest that takes over its QEMU has gained nothing. Method: /proc of the process."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(1), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.start(machine(2), qemu.boot, [NO_TAP], await qemu.disks(2))
        users = set()
        for id in (ID, OTHER):
            (pid,) = qemu.processes(id)
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
            assert len(set(status["Uid"])) == 1
            assert len(set(status["Gid"])) == 1
            assert int(status["Uid"][0]) >= 1_900_000_000
            assert status["Groups"] == []
            for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[capabilities][0], 16) == 0
            assert status["Seccomp"] == ["2"]
            assert status["NoNewPrivs"] == ["1"]
            users.add(status["Uid"][0])
            interfaces = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        assert len(users) == 2
        for id in (ID, OTHER):
            await driver.destroy(id)
        await driver.close()

    asyncio.run(main())


def test_owner_killed_guest_untouched(qemu: QemuRig) -> None:
    """Goal: kill -9 of the agent disturbs no guest. Method: a child process starts a machine and is killed; ours adopts it."""

    async def main() -> None:
        child = owner(qemu)
        assert child.stdout is not None
        assert child.stdout.readline() == "starting\n"
        assert child.stdout.readline() == "started\n"
        (pid,) = qemu.processes(ID)
        child.kill()
        child.wait()
        await qemu.settled(ID)
        driver = qemu.driver()
        assert await driver.observe() == {ID: Seen(power=Power.ON, incarnation=1)}
        assert await driver.measure(ID)
        assert qemu.processes(ID) == [pid]
        assert qemu.boots(ID) == 1
        await driver.stop(ID, grace_s=60)
        assert qemu.processes(ID) == []
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_owner_killed_while_it_starts(qemu: QemuRig) -> None:
    """Goal: wherever a start is cut off, one machine comes of it. Method: kill the owner at moments spread over a start,
    then start again; count processes."""

    async def main() -> None:
        chance = random.Random(11)
        for _ in range(6):
            child = owner(qemu)
            assert child.stdout is not None
            assert child.stdout.readline() == "starting\n"
            await asyncio.sleep(chance.uniform(0, 0.15))  # a moment to die at, not a wait for anything
            child.kill()
            child.wait()
            child.stdout.close()
            driver = qemu.driver()
            seen = await driver.observe()
            assert set(seen) <= {ID}
            await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
            assert len(qemu.processes(ID)) == 1
            assert await driver.measure(ID)
            await driver.destroy(ID)
            assert qemu.processes(ID) == []
            await driver.close()

    asyncio.run(main())


@pytest.mark.parametrize("stage", [Stage.READY, Stage.STARTING])
def test_owner_killed_before_the_guest_begins(qemu: QemuRig, stage: Stage) -> None:
    """Goal: a guest never runs without its limits, and one whose owner died before it told them begins nevertheless. Method: an
    owner that dies there; its record is as it left it, or as it was one write before."""

    async def main() -> None:
        child = owner(qemu, DIES_BEFORE_THE_GUEST_BEGINS)
        assert child.wait(60) == -signal.SIGKILL
        (waiting,) = qemu.processes(ID)
        record = load(real_world().files, qemu.state / ID)
        assert record is not None
        assert (record.stage, record.pid) == (Stage.READY, waiting)
        if stage is Stage.STARTING:
            save(real_world().files, qemu.state / ID, replace(record, stage=stage, pid=0, started=0))
        driver = qemu.driver()
        assert await driver.observe() == {ID: Seen(power=Power.OFF, incarnation=0)}
        assert qemu.processes(ID) == []
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        assert await driver.observe() == {ID: Seen(power=Power.ON, incarnation=1)}
        await qemu.settled(ID)
        assert qemu.boots(ID) == 1
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_guest_of_which_nobody_knows_whether_it_began(qemu: QemuRig) -> None:
    """Goal: as long as that cannot be found out, nothing is said to run and nothing is started beside it. Method: an owner that
    dies before the guest begins; the hypervisor stands still."""

    async def main() -> None:
        child = owner(qemu, DIES_BEFORE_THE_GUEST_BEGINS)
        assert child.wait(60) == -signal.SIGKILL
        (waiting,) = qemu.processes(ID)
        os.kill(waiting, signal.SIGSTOP)
        driver = qemu.driver()
        for _ in range(2):
            assert await driver.observe() == {ID: Seen(power=Power.OFF, incarnation=0)}
            with pytest.raises(DriverFault):
                await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
            assert qemu.processes(ID) == [waiting]
        os.kill(waiting, signal.SIGCONT)
        # It has the questions of before to answer first; an agent asks again, too.
        async with asyncio.timeout(60):
            while qemu.processes(ID) == [waiting]:
                with contextlib.suppress(DriverFault):
                    await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        assert await driver.measure(ID)
        (pid,) = qemu.processes(ID)
        assert pid != waiting
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_what_was_cut_off_before_its_process_begins_again(qemu: QemuRig) -> None:
    """Goal: an owner that died after it wrote that it starts a machine, and before it did, costs the machine nothing: it is no
    crash. Method: such a record."""

    async def main() -> None:
        first = qemu.driver()
        await first.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await first.stop(ID, grace_s=0.0)
        await first.close()
        record = load(real_world().files, qemu.state / ID)
        assert isinstance(record, Record)
        save(real_world().files, qemu.state / ID, replace(record, incarnation=2, stage=Stage.STARTING))
        driver = qemu.driver()
        assert (await driver.observe())[ID] == Seen(power=Power.OFF, incarnation=1)
        await driver.start(machine(incarnation=2), qemu.boot, [NO_TAP], await qemu.disks())
        assert (await driver.observe())[ID] == Seen(power=Power.ON, incarnation=2)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_record_without_process_finds_the_one_that_listens(qemu: QemuRig) -> None:
    """Goal: an owner that died between starting a process and writing its number left no orphan. Method: such a record."""

    async def main() -> None:
        first = qemu.driver()
        await first.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await first.close()
        home = qemu.state / ID
        record = load(real_world().files, home)
        assert isinstance(record, Record)
        (pid,) = qemu.processes(ID)
        cut = Record(id=ID, incarnation=1, stage=Stage.STARTING, boot_id=record.boot_id)
        save(real_world().files, home, cut)
        second = qemu.driver()
        await second.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        assert qemu.processes(ID) == [pid]
        await second.close()
        save(real_world().files, home, cut)
        third = qemu.driver()
        await third.destroy(ID)
        assert qemu.processes(ID) == []
        await third.close()

    asyncio.run(main())


def test_hung_machine_blocks_nobody(qemu: QemuRig) -> None:
    """Goal: one hung hypervisor does not hold up the others (F23). Method: SIGSTOP one of two, before and after a restart."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(1), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.start(machine(2), qemu.boot, [NO_TAP], await qemu.disks(2))
        (pid,) = qemu.processes(ID)
        os.kill(pid, signal.SIGSTOP)
        for agent in (driver, qemu.driver()):
            async with asyncio.timeout(10):
                both = await agent.observe()
                assert [seen.power for seen in both.values()] == [Power.ON, Power.ON]
                assert not await agent.measure(ID)
                with pytest.raises(DriverFault):
                    await agent.reboot(ID)
                assert await agent.measure(OTHER)
            await agent.close()
        last = qemu.driver()
        async with asyncio.timeout(20):
            await last.stop(ID, grace_s=1)  # the plug can always be pulled
        assert qemu.processes(ID) == []
        assert await last.measure(OTHER)
        await last.destroy(ID)
        await last.destroy(OTHER)
        await last.close()

    asyncio.run(main())


def test_hung_machine_that_goes_on_is_well(qemu: QemuRig) -> None:
    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        (pid,) = qemu.processes(ID)
        os.kill(pid, signal.SIGSTOP)
        assert not await driver.measure(ID)
        os.kill(pid, signal.SIGCONT)
        assert await driver.measure(ID)
        assert qemu.processes(ID) == [pid]
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_disk_is_kept_over_power_cuts_and_gone_after_destroy(qemu: QemuRig) -> None:
    """Goal: what the guest synced is there after kill -9, a stop and a start (F6). Method: the guest writes to its raw disk."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await qemu.settled(ID)
        # The quotes tell the answer from the echo of what was typed.
        write = "echo precious | dd of=/dev/vda bs=512 seek=2000000 conv=fsync"
        qemu.type(ID, f"{write}; echo wr''itten $(blockdev --getsize64 /dev/vda)")
        await qemu.said(ID, "written 1073741824")  # the disk is as large as asked, the image's 64 MiB or not
        (pid,) = qemu.processes(ID)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: qemu.processes(ID) == [], "killed")
        for incarnation in (2, 3):
            await driver.start(machine(incarnation=incarnation), qemu.boot, [NO_TAP], await qemu.disks())
            await qemu.said(ID, "guest ready", times=incarnation)
            qemu.type(ID, "dd if=/dev/vda bs=512 skip=2000000 count=1 2>/dev/null | grep -a preci | sed s/preci/very_preci/")
            await qemu.said(ID, "very_precious", times=incarnation - 1)
            await driver.stop(ID, grace_s=60)
        check = ["qemu-img", "check", "-f", "qcow2", str(qemu.state.parent / ROOT)]
        assert (await real_world().processes.run(check)).returncode == 0
        await driver.destroy(ID)
        assert not (qemu.state / ID).exists()
        await driver.close()

    asyncio.run(main())


def test_failed_start_leaves_nothing(qemu: QemuRig) -> None:
    """Goal: a start that fails is undone; one that fails later keeps the disk. Method: a kernel that is none, a
    tap that is none."""

    async def main() -> None:
        broken = qemu.boot.__class__(disk=qemu.boot.disk, kernel=Path("/etc/hostname"), cmdline="")
        driver = qemu.driver()
        with pytest.raises(DriverFault):
            await driver.start(machine(), broken, [NO_TAP], await qemu.disks())
        assert qemu.processes(ID) == []
        assert not (qemu.state / ID).exists()
        assert await driver.observe() == {}
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.stop(ID, grace_s=0)
        no_tap = os.open("/dev/null", os.O_RDWR)
        with pytest.raises(DriverFault):
            await driver.start(machine(incarnation=2), qemu.boot, [replace(NO_TAP, fd=no_tap)], await qemu.disks())
        os.close(no_tap)
        assert qemu.processes(ID) == []
        assert (qemu.state.parent / ROOT).exists()
        assert await driver.observe() == {ID: Seen(power=Power.OFF, incarnation=1)}
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_disk_that_a_guest_could_have_forged_is_refused(qemu: QemuRig) -> None:
    """Goal: a header written by a machine that was taken over opens no file of the host. Method: two forged headers; the one
    with only another backing file is harmless, because ours is said on the command line."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.stop(ID, grace_s=0)
        disks, disk = await qemu.disks(), qemu.state.parent / ROOT
        forged = bytearray(empty(1 << 30, "/etc/shadow"))
        disk.write_bytes(forged)
        await driver.start(machine(incarnation=2), qemu.boot, [NO_TAP], disks)
        (pid,) = qemu.processes(ID)
        assert "/etc/shadow" not in [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        await driver.stop(ID, grace_s=0)
        forged[72 + 7] |= 4  # the data is in another file
        disk.write_bytes(forged)
        with pytest.raises(Impossible, match="another file"):
            await driver.start(machine(incarnation=3), qemu.boot, [NO_TAP], disks)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_talkative_guest_does_not_fill_the_disk(qemu: QemuRig) -> None:
    """Goal: the console's log is bounded, and its end is kept. Method: a guest that says two million letters."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await qemu.settled(ID)
        qemu.type(ID, "head -c 1200000 /dev/zero | tr '\\\\0' x; echo; echo last wor''ds")
        await qemu.said(ID, "last words")
        await driver.observe()
        assert (qemu.state / ID / "console.log").stat().st_size < 100_000
        said = await driver.console(ID)
        assert len(said) <= 64 * 1024
        assert b"last words" in said
        qemu.type(ID, "echo aft''er")
        await qemu.said(ID, "after")
        assert (await driver.console(ID)).rstrip().endswith(b"after")
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_disk_stays_with_the_image_that_it_was_made_from(qemu: QemuRig, tmp_path: Path) -> None:
    """Goal: an image built anew does not slide under old disks. Method: start again with another image file; /proc tells
    which one is open."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.stop(ID, grace_s=0)
        await driver.close()
        newer = tmp_path / "newer.qcow2"
        newer.write_bytes(qemu.boot.disk.read_bytes())
        driver = qemu.driver()
        await driver.start(machine(incarnation=2), msgspec.structs.replace(qemu.boot, disk=newer), [NO_TAP], await qemu.disks())
        (pid,) = qemu.processes(ID)
        opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert str(qemu.boot.disk) in opened
        assert str(newer) not in opened
        await driver.destroy(ID)
        await qemu.volumes.delete(machine().root.volume_id)
        qemu.boot = msgspec.structs.replace(qemu.boot, disk=newer)
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.stop(ID, grace_s=0)
        newer.unlink()
        with pytest.raises(Impossible, match="gone"):
            await driver.start(machine(incarnation=2), qemu.boot, [NO_TAP], await qemu.disks())
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_unreadable_record_loses_no_machine(qemu: QemuRig) -> None:
    """Goal: a broken record neither hides a running machine nor starts a second one. Method: garbage in its place."""

    async def main() -> None:
        first = qemu.driver()
        await first.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await first.start(machine(2), qemu.boot, [NO_TAP], await qemu.disks(2))
        await first.close()
        (pid,) = qemu.processes(ID)
        (qemu.state / ID / "record.json").write_bytes(b"{")
        second = qemu.driver()
        seen = await second.observe()
        assert [one.power for one in seen.values()] == [Power.ON, Power.ON]
        assert qemu.processes(ID) == [pid]
        await second.destroy(ID)
        await second.destroy(OTHER)
        assert qemu.processes(ID) == []
        await second.close()

    asyncio.run(main())


def test_status_is_asked_while_a_machine_starts(qemu: QemuRig) -> None:
    """Goal: a health check and a start do not take each other's monitor. Method: both, many times over."""

    async def main() -> None:
        driver = qemu.driver()
        for incarnation in range(1, 4):
            start = asyncio.create_task(driver.start(machine(incarnation=incarnation), qemu.boot, [NO_TAP], await qemu.disks()))
            while not start.done():
                await driver.measure(ID)
                await driver.observe()
                await asyncio.sleep(0.001)
            await start
            assert await driver.measure(ID)
            await driver.stop(ID, grace_s=0)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_guest_sees_amazons_hardware(qemu: QemuRig) -> None:
    """Goal: cloud-init's ds-identify takes this for EC2. Method: the guest reads its own DMI tables, as ds-identify does
    (tools/ds-identify, dscheck_Ec2: product serial and uuid, both beginning with "ec2", and equal)."""

    async def main() -> None:
        driver = qemu.driver()
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        await qemu.settled(ID)
        qemu.type(ID, "cd /sys/class/dmi/id")
        qemu.type(ID, "cat sys_vendor product_name chassis_asset_tag product_uuid product_serial; echo e''nd")
        await qemu.said(ID, "end")
        lines = qemu.log(ID).replace("\r", "").split("guest ready\n")[1].splitlines()
        assert lines[:3] == ["Amazon EC2", "t3.nano", ID]
        assert lines[3].startswith("ec2")
        assert lines[3] == lines[4]
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_registered_image_boots_from_its_own_loader(qemu: QemuRig, tmp_path: Path) -> None:
    """Goal: an image without a kernel of ours starts by its boot sector. Method: a boot sector that speaks."""
    says = b"sector speaks\r\n\0"
    # ds = 0; dx = COM1; si = the text at 0x7c15; until zero: out dx, al; then halt.
    code = bytes.fromhex("31c08ed8 baf803 be157c ac 84c0 7403 ee ebf8 f4 ebfd")
    raw = tmp_path / "raw"
    raw.write_bytes((code + says).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))

    async def main() -> None:
        disk = tmp_path / "registered.qcow2"
        done = await real_world().processes.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
        assert done.returncode == 0
        boot = await LocalImages(real_world(), tmp_path / "cache").fetch(f"file://{disk}")
        driver = qemu.driver()
        qemu.boot = boot
        await driver.start(machine(), boot, [NO_TAP], await qemu.disks())
        await qemu.said(ID, "sector speaks")
        await driver.stop(ID, grace_s=0)
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_long_state_folder(qemu: QemuRig, tmp_path: Path) -> None:
    """Goal: a socket's path of 107 bytes at most does not limit where Alto may live."""

    async def main() -> None:
        state = tmp_path / ("a" * 100) / ("b" * 100)
        driver = QemuCompute(real_world(), state)
        await driver.start(machine(), qemu.boot, [NO_TAP], await qemu.disks())
        assert await driver.measure(ID)
        await driver.destroy(ID)
        assert qemu.processes(ID) == []
        await driver.close()

    asyncio.run(main())


def test_process_of_an_earlier_boot_is_nobodys(tmp_path: Path) -> None:
    """Goal: after the host was started anew, whoever has a machine's old process number is left alone. Method: a record of
    another boot that names a living process of ours."""

    async def main() -> None:
        files, processes = real_world().files, real_world().processes
        bystander = await processes.spawn(["sleep", "600"], log=tmp_path / "log")
        home = tmp_path / "machines" / ID
        files.make_dirs(home)
        record = Record(
            id=ID,
            incarnation=3,
            stage=Stage.ON,
            boot_id="another",
            pid=bystander.pid,
            started=bystander.started,
        )
        save(files, home, record)
        driver = QemuCompute(real_world(), tmp_path / "machines")
        try:
            assert await driver.observe() == {ID: Seen(power=Power.OFF, incarnation=3, crashed=True)}
            save(files, home, record)
            await QemuCompute(real_world(), tmp_path / "machines").destroy(ID)
            assert not home.exists()
            assert processes.alive(bystander)
        finally:
            processes.signal(bystander, signal.SIGKILL)
        await driver.close()

    asyncio.run(main())
