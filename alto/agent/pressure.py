"""How full this machine is, read from the machine itself. What that means is decided elsewhere (`plan/pressure.py`).

The same for every kind of host: hypervisors, containers and other programs share the machine.
"""

from pathlib import Path

from alto.kit.world import Files
from alto.model.pressure import Gauges

MIB = 1024 * 1024


class Machine:
    """`disks`: a folder of the file system that holds machines' disks."""

    def __init__(self, files: Files, disks: Path) -> None:
        self._files = files
        self._disks = disks

    def gauges(self) -> Gauges | None:
        """None where the machine does not say."""
        try:
            memory = _table(self._files.read(Path("/proc/meminfo")).decode())
            whole, free = self._files.space(self._disks)
            # A process takes a number, and each of its threads another.
            limits = [int(self._files.read(Path("/proc/sys/kernel") / name)) for name in ("pid_max", "threads-max")]
            running = self._files.read(Path("/proc/loadavg")).decode().split()[3].partition("/")[2]
            return Gauges(
                memory_mib=memory["MemTotal"] // 1024,
                memory_free_mib=memory["MemAvailable"] // 1024,
                disk_mib=whole // MIB,
                disk_free_mib=free // MIB,
                processes_max=min(limits),
                processes=int(running),
                stalled=self._stalled(),
            )
        except (OSError, KeyError, ValueError, IndexError):
            return None

    def _stalled(self) -> float | None:
        """The kernel's own word for it, where it was built and started to measure it."""
        try:
            lines = self._files.read(Path("/proc/pressure/memory")).decode().splitlines()
        except OSError:
            return None
        for line in lines:
            words = line.split()
            if words[0] == "full":
                return float(words[2].removeprefix("avg60=")) / 100.0
        return None


def _table(text: str) -> dict[str, int]:
    """/proc/meminfo: "Name:  1234 kB" for each line."""
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines())}
