"""How the accelerator is chosen: by a trial, kept for one boot of the host. Processes and files of this test's own making."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.qemu.accelerator import KVM, choose, tsc_khz
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import Finished, RealProcesses, World, real_world
from alto.model.errors import DriverFault

KEEP = Path("/state/.accelerator.json")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CPUINFO = """processor\t: 0
model name\t: AMD EPYC
cpu MHz\t\t: 2596.140
flags\t\t: fpu constant_tsc nonstop_tsc

processor\t: 1
cpu MHz\t\t: 1000.000
"""


class Trials(RealProcesses):
    """A QEMU that prints `says` on its console, and counts."""

    def __init__(self, files: MemoryFiles, says: bytes) -> None:
        super().__init__()
        self.count = 0
        self._files = files
        self._says = says

    async def run(self, argv, *, stdin=b"", timeout_s=30.0, netns=None):  # type: ignore[no-untyped-def]
        if argv[0] == "stat":
            return Finished(0, b"108\n", b"")
        self.count += 1
        (console,) = [word.removeprefix("file:") for word in argv if word.startswith("file:")]
        self._files.write(Path(console), self._says)
        return Finished(137, b"", b"")


def host(says: bytes, *, kvm: bool = True) -> tuple[World, Trials, MemoryFiles]:
    files = MemoryFiles()
    files.write(BOOT_ID, b"boot-1\n")
    files.write(Path("/proc/cpuinfo"), CPUINFO.encode())
    if kvm:
        files.write(KVM, b"")
    trials = Trials(files, says)
    return replace(real_world(), files=files, processes=trials), trials, files


async def kernel() -> BootFiles:
    return BootFiles(disk=Path("/disk"), kernel=Path("/vmlinux"))


@pytest.mark.parametrize(
    ("says", "accelerator"),
    [(b"[    0.000000] Linux version 6.1.0\r\n", "kvm"), (b"", "tcg"), (b"SeaBIOS (version 1.16.2)", "tcg")],
)
def test_only_a_kernel_that_speaks_proves_kvm(says: bytes, accelerator: str) -> None:
    async def main() -> None:
        world, trials, files = host(says)
        chosen = await choose(world, KEEP, kernel)
        assert chosen.accelerator == accelerator
        assert chosen.kvm_gid == (108 if accelerator == "kvm" else None)
        assert chosen.tsc_khz == (None if accelerator == "kvm" else 2_596_140)
        assert await choose(world, KEEP, kernel) == chosen
        assert trials.count == 1
        files.write(BOOT_ID, b"boot-2\n")  # another boot may have another kernel
        await choose(world, KEEP, kernel)
        assert trials.count == 2

    asyncio.run(main())


def test_no_trial_without_need() -> None:
    async def broken() -> BootFiles:
        raise DriverFault("no kernel to be had")

    async def main() -> None:
        for trial, kvm in ((kernel, False), (None, True), (broken, True)):
            world, trials, _ = host(b"Linux version", kvm=kvm)
            assert (await choose(world, KEEP, trial)).accelerator == "tcg"
            assert trials.count == 0

    asyncio.run(main())


def test_rate_of_the_time_stamp_counter() -> None:
    assert tsc_khz(CPUINFO, scaled=False) == 2_596_140
    assert tsc_khz(CPUINFO, scaled=True) is None
    assert tsc_khz(CPUINFO.replace("constant_tsc", ""), scaled=False) is None
    assert tsc_khz(CPUINFO.replace("2596.140", "unknown"), scaled=False) is None
    assert tsc_khz("", scaled=False) is None
