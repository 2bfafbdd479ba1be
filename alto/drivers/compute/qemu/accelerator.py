"""Whether this host's KVM really runs a guest, and what emulation needs to know when it does not.

A /dev/kvm that opens proves nothing: there are hosts (nested ones above all) where firmware runs and a kernel never gets to
its first line. So we boot one and listen. The verdict holds for this boot of the host, and is kept on the disk.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.host import boot_id
from alto.drivers.compute.qemu.commandline import Host
from alto.kit.world import World
from alto.model.errors import AltoError

KVM = Path("/dev/kvm")
# With working KVM the kernel's first line is there after 0.2 s.
TRIAL_S = 5.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    boot_id: str
    kvm: bool
    kvm_gid: int | None = None


async def choose(world: World, keep: Path, trial: Callable[[], Awaitable[BootFiles]] | None) -> Host:
    """The host as command lines need it. `keep` is the verdict's file; `trial` gives the kernel to try, no KVM without."""
    verdict = _kept(world, keep)
    if verdict is None:
        verdict = await _try(world, keep, trial)
        world.files.write(keep, msgspec.json.encode(verdict))
    if verdict.kvm:
        return Host(accelerator="kvm", kvm_gid=verdict.kvm_gid)
    cpufreq = world.files.exists(Path("/sys/devices/system/cpu/cpu0/cpufreq"))
    return Host(accelerator="tcg", tsc_khz=tsc_khz(world.files.read(Path("/proc/cpuinfo")).decode(), scaled=cpufreq))


def tsc_khz(cpuinfo: str, *, scaled: bool) -> int | None:
    """The rate of the time stamp counter from /proc/cpuinfo; None when that cannot be told from there.

    Where the clock is scaled, "cpu MHz" is the present rate and not the counter's. The guest's kernel refines the number
    against its timer, within 1 %: it need be near, not exact.
    """
    first = cpuinfo.split("\n\n", 1)[0]
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    flags = fields.get("flags", "").split()
    if scaled or "constant_tsc" not in flags or "nonstop_tsc" not in flags:
        return None
    try:
        khz = round(float(fields.get("cpu MHz", "")) * 1000)
    except ValueError:
        return None
    return khz if khz > 0 else None


def _kept(world: World, keep: Path) -> Verdict | None:
    try:
        verdict = msgspec.json.decode(world.files.read(keep), type=Verdict)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return verdict if verdict.boot_id == boot_id(world.files) else None


async def _try(world: World, keep: Path, trial: Callable[[], Awaitable[BootFiles]] | None) -> Verdict:
    no = Verdict(boot_id=boot_id(world.files), kvm=False)
    if trial is None or not world.files.exists(KVM):
        return no
    try:
        boot = await trial()
    except AltoError:
        return no
    if boot.kernel is None:
        return no
    console = keep.with_name("kvm-trial.log")
    words = ["timeout", "--signal=KILL", f"{TRIAL_S:g}", "qemu-system-x86_64", "-nodefaults", "-no-user-config"]
    words += ["-display", "none", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "128M", "-no-reboot"]
    # Without a root disk the kernel soon panics and the machine ends: a good trial is over in a moment.
    words += ["-kernel", str(boot.kernel), "-append", "console=ttyS0 panic=-1", "-serial", f"file:{console}"]
    try:
        await world.processes.run(words, timeout_s=2 * TRIAL_S)
        printed = world.files.part(console, 0, 4096)
        group = await world.processes.run(["stat", "--format=%g", str(KVM)])
    except (TimeoutError, FileNotFoundError):
        return no
    finally:
        world.files.remove(console)
    return Verdict(boot_id=no.boot_id, kvm=b"Linux version" in printed, kvm_gid=int(group.stdout))
