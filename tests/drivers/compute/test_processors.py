"""Goal: a guest has the processors, cores and threads that were chosen for it. Method: real QEMU, and the guest's own word."""

import asyncio

import pytest
from msgspec.structs import replace

from alto.drivers.compute.qemu.compute import QemuCompute
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig

pytestmark = pytest.mark.vm

ID = machine(1).id
COUNT = "grep -c ^processor /proc/cpuinfo"
SIBLINGS = "cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list"


async def _booted(qemu: QemuRig, driver: QemuCompute, times: int) -> None:
    """An emulated guest with several processors sometimes spins in its boot, for good (docs/flakes.md): it is reset then."""
    for _ in range(3):
        try:
            async with asyncio.timeout(60):
                return await qemu.said(ID, "guest ready", times=times)
        except TimeoutError:
            await driver.reboot(ID)
    await qemu.said(ID, "guest ready", times=times)


def test_cores_and_threads(qemu: QemuRig) -> None:
    async def main() -> None:
        driver, seen = qemu.driver(), []
        disks = await qemu.disks()
        for incarnation, (vcpus, threads) in enumerate(((2, 1), (4, 2), (1, 1), (2, None)), 1):
            wanted = replace(machine(1, incarnation=incarnation), vcpus=vcpus, threads_per_core=threads)
            await driver.start(wanted, qemu.boot, [NO_TAP], disks)
            await _booted(qemu, driver, incarnation)
            seen.append((*await qemu.ask(ID, COUNT), *await qemu.ask(ID, SIBLINGS)))
            await driver.stop(ID, grace_s=0.0)
        assert seen == [("2", "0"), ("4", "0-1"), ("1", "0"), ("2", "0")]
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())
