"""Control groups: one of each machine's own, in every hierarchy that the host has, of version 1 or 2.

All of a host's machines have their groups below one of its own name, beside the machine's first process (as LXC has them, too:
that is the root of the hierarchies, but within a container it may be below), so that neither a service manager nor another
cloud on the machine is in the way. Groups that are not ours are never touched.
What the kernel was not built to limit is not limited (`alto doctor` says so); everything else is, before the first instruction.
"""

from pathlib import Path

import msgspec
import structlog

from alto.kit.world import World
from alto.model.limits import DiskRate

log = structlog.get_logger()

GONE_S = 2.0
POLL_S = 0.005
PERIOD_US = 100_000
CONTROLLERS = frozenset(("cpu", "memory", "pids", "io"))
GUEST = "guest"  # the group of a container's guest, in its machine's
# Amazon's unit, and version 1's, is 1024 for a processor; version 2's is 100, at most 10,000.
V2_WEIGHT_MAX = 10_000


class GroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    cpus: float  # processors' time, together
    cpu_weight: int  # beside other machines; 1024 is one processor's
    memory_mib: int
    processes: int  # and threads


class ControlGroups:
    """`name`: of this cloud and host, as "alto-1a2b3c4d-qemu"."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._found: list[tuple[Path, frozenset[str]]] | None = None

    def make(self, id: str) -> Path:
        """The machine's group, relative to where each hierarchy begins for us."""
        group = Path(self._name) / id
        return group

    def limit(self, id: str, limits: GroupLimits) -> list[Path]:
        """The machine's groups, with these limits. Whoever writes its number into each of the files is within them."""
        entries = []
        files = self._world.files
        for root, controllers in self._hierarchies():
            wanted = sorted(CONTROLLERS & controllers)
            if not wanted:
                continue
            group = root / self.make(id)
            files.make_dirs(group, mode=0o755)
            if files.exists(root / "cgroup.controllers"):
                for above in (root, group.parent):
                    files.put_setting(above / "cgroup.subtree_control", " ".join(f"+{one}" for one in wanted))
            there = set(files.names(group))
            for name, value in _settings(limits).items():
                if name in there:
                    files.put_setting(group / name, value)
            entries.append(group / "cgroup.procs")
        return entries

    def disk_settings(self, id: str, rate: DiskRate) -> list[tuple[Path, str]]:
        """What keeps a container to `rate`, reads and writes each by themselves: files of groups that are there when its guest
        begins, each with what follows a device's number in it. None where the kernel does not limit disks. With version 1,
        what a guest wrote and did not wait for is written by the kernel, and at its own pace."""
        found = []
        for root, controllers in self._hierarchies():
            group = root / self.make(id)
            if "io" in controllers and self._world.files.exists(group / "io.max"):
                each = f"bps={rate.bytes_s}", f"iops={rate.iops}"
                found.append((group / "io.max", " ".join(f"{way}{one}" for way in "rw" for one in each)))
            elif "blkio" in controllers:
                # Only the guest's own group counts: version 1 does not look at the ones above.
                for way in ("read", "write"):
                    for unit, most in (("bps", rate.bytes_s), ("iops", rate.iops)):
                        name = f"blkio.throttle.{way}_{unit}_device"
                        if self._world.files.exists(root / name):
                            found.append((group / GUEST / name, str(most)))
        return found

    async def remove(self, id: str) -> None:
        """Idempotent. Processes that end leave their groups a moment later."""
        end = self._world.clock.monotonic() + GONE_S
        for root, _ in self._hierarchies():
            group = root / self._name / id
            while not self._world.files.remove_folders(group):
                if self._world.clock.monotonic() > end:
                    log.warning("a control group is still in use", group=str(group))
                    break
                await self._world.clock.sleep(POLL_S)

    def remove_all(self) -> None:
        """What is left of this host when its machines are gone."""
        for root, _ in self._hierarchies():
            if not self._world.files.remove_folders(root / self._name):
                log.warning("a control group is still in use", group=str(root / self._name))

    def _hierarchies(self) -> list[tuple[Path, frozenset[str]]]:
        """Where each begins for us, and what it controls."""
        if self._found is None:
            files = self._world.files
            mounts = files.read(Path("/proc/self/mountinfo")).decode()
            first = files.read(Path("/proc/1/cgroup")).decode()
            found = begins(mounts, first)
            self._found = [
                (root, controllers or frozenset(files.read(root / "cgroup.controllers").decode().split()))
                for root, controllers in found
            ]
        return self._found


def begins(mounts: str, first: str) -> list[tuple[Path, frozenset[str]]]:
    """The group of the machine's first process in each hierarchy that is mounted here, and what the hierarchy controls, which
    version 2 says in a file of its own: then it is empty. Of /proc/self/mountinfo and /proc/1/cgroup: proc(5), cgroups(7)."""
    groups = {frozenset(names.split(",")): Path(path) for _, names, path in (line.split(":", 2) for line in first.splitlines())}
    found = []
    for line in mounts.splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        top, mounted_at = map(Path, line.split()[3:5])
        if kind not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(rest.split()[-1].split(",")) if kind == "cgroup" else frozenset(("",))
        here = next((path for names, path in groups.items() if names <= options), top)
        # systemd's first process is in a group of its own, which is no place for others.
        here = here.parent if here.name == "init.scope" else here
        below = here.relative_to(top) if here.is_relative_to(top) else Path()
        found.append((mounted_at / below, options - {""}))
    return found


def entering(entries: list[Path]) -> list[str]:
    """The beginning of a command line: what follows runs within the groups from its first instruction, by exec."""
    if not entries:
        return []
    script = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift; exec "$@"'
    return ["sh", "-c", script, "enter", *map(str, entries), "--"]


def _settings(limits: GroupLimits) -> dict[str, str]:
    """By the names of the kernel's files, of both versions."""
    quota = round(limits.cpus * PERIOD_US)
    memory = str(limits.memory_mib << 20)
    return {
        "cpu.cfs_period_us": str(PERIOD_US),
        "cpu.cfs_quota_us": str(quota),
        "cpu.shares": str(max(2, limits.cpu_weight)),
        "memory.limit_in_bytes": memory,
        "cpu.max": f"{quota} {PERIOD_US}",
        "cpu.weight": str(min(max(1, limits.cpu_weight * 100 // 1024), V2_WEIGHT_MAX)),
        "memory.max": memory,
        "memory.swap.max": "0",
        "pids.max": str(limits.processes),
    }
