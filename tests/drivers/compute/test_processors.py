"""Goal: a guest has the processors, cores and threads that were chosen for it. Method: real QEMU, and the guest's own word."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import NO_TAP, QemuRig

pytestmark = pytest.mark.vm

ID = machine(1).id
COUNT = "grep -c ^processor /proc/cpuinfo"
SIBLINGS = "cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list"


def test_cores_and_threads(qemu: QemuRig) -> None:
    async def main() -> None:
        driver, seen = qemu.driver(), []
        disks = await qemu.disks()
        for incarnation, (vcpus, threads) in enumerate(((2, 1), (4, 2), (1, 1), (2, None)), 1):
            wanted = replace(machine(1, incarnation=incarnation), vcpus=vcpus, threads_per_core=threads)
            await driver.start(wanted, qemu.boot, [NO_TAP], disks)
            await qemu.said(ID, "guest ready", times=incarnation)
            seen.append((*await qemu.ask(ID, COUNT), *await qemu.ask(ID, SIBLINGS)))
            await driver.stop(ID, grace_s=0.0)
        assert seen == [("2", "0"), ("4", "0-1"), ("1", "0"), ("2", "0")]
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(main())
