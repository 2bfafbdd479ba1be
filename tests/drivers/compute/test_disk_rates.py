"""How fast disks may be. Goal: an instance reads and writes all its volumes together no faster than its type may, one that
comes while it runs included, and after the driver's death too. Method: bytes through a guest's own disks; what is asserted is
that they cannot have come sooner, which no busy machine can make untrue; and that without a limit they do."""

import asyncio
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.model.limits import limits_of
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, ContainerRig, QemuRig
from tests.drivers.compute.test_disks import until_seen

pytestmark = pytest.mark.vm

MIB = 60
BYTES = MIB << 20
SLOW = replace(machine(1), instance_type="m1.tiny")
ID = SLOW.id
RATE = limits_of("m1.tiny", 1, 128).disk
# What was not used of the last tenth of a second may come at once.
LEAST_S = BYTES / RATE.bytes_s - 0.5 if RATE is not None else 0.0


async def seconds(rig: QemuRig, script: str) -> float:
    began = time.monotonic()
    await rig.ask(ID, script)
    return time.monotonic() - began


def read(name: str, mib: int, skip: int = 0) -> str:
    return f"dd if=/dev/{name} of=/dev/null bs=1M count={mib} skip={skip}"


def test_volumes_share_the_rate_of_their_instances_type(qemu: QemuRig) -> None:
    async def main() -> None:
        driver = qemu.driver()
        (root,), data = await qemu.disks(), await qemu.volume(9)
        await driver.start(SLOW, qemu.boot, [NO_TAP], [root])
        await qemu.settled(ID)
        assert await seconds(qemu, read("vda", MIB)) >= LEAST_S
        # By a driver that did not start the machine: what comes later shares what there is.
        await driver.close()
        driver = qemu.driver()
        await driver.wire(ID, [root, data])
        name = await until_seen(qemu, ID, data)
        half = MIB // 2
        both = f"{read('vda', half, MIB)} & {read(name, half)} & wait"
        assert await seconds(qemu, both) >= LEAST_S
        write = f"dd if=/dev/zero of=/dev/{name} bs=1M count={MIB} conv=fsync"
        assert await seconds(qemu, write) >= LEAST_S
        await driver.stop(ID, grace_s=0.0)

        # Another type, another rate: so it is the rate that took so long.
        quick = replace(machine(1, incarnation=2), instance_type="m7i.large")
        await driver.start(quick, qemu.boot, [NO_TAP], [root])
        await qemu.said(ID, "guest ready", times=2)
        tries = [await seconds(qemu, read("vda", MIB, 100 * number)) for number in range(3)]
        assert min(tries) < LEAST_S
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())


def test_a_containers_disk_has_the_rate_of_its_type(container: ContainerRig) -> None:
    """Past the page cache, since only what the guest waits for is counted by groups of version 1."""
    mib, script = 40, "dd if=/dev/zero of=/filled bs=1M count={0} {1} && rm /filled"
    least_s = (mib << 20) / RATE.bytes_s - 0.5 if RATE is not None else 0.0

    async def writing(how: str) -> float:
        began = time.monotonic()
        await container.ask(ID, script.format(mib, how))
        return time.monotonic() - began

    async def main() -> None:
        driver = container.driver()
        await driver.start(replace(SLOW, root=replace(SLOW.root, size_gib=1)), container.boot, [], [])
        await container.settled(ID)
        if not any(text.strip() for text in disk_settings(container)):
            pytest.skip("this kernel's control groups do not limit disks")
        assert await writing("oflag=direct") >= least_s
        # Kept over the guest's own reboots, which give it another group.
        await driver.reboot(ID)
        assert await writing("oflag=direct") >= least_s
        await driver.stop(ID, grace_s=5)
        await driver.start(replace(machine(1, incarnation=2), instance_type="m7i.large"), container.boot, [], [])
        assert min([await writing("oflag=direct") for _ in range(3)]) < least_s
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 120))


def disk_settings(container: ContainerRig) -> list[str]:
    """What the guest's groups say of disks, of either version."""
    groups = Path("/sys/fs/cgroup")
    within = f"{container.groups}/{ID}"
    names = (f"{within}/io.max", f"{within}/guest/blkio.throttle.write_bps_device")
    return [path.read_text() for name in names for path in (*groups.glob(name), *groups.glob(f"*/{name}"))]
