"""CPU time and memory of whole process trees, from /proc. What a server costs is all of it: workers and children too."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h


def family(root: int) -> list[int]:
    """`root` and all its living descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            parents[int(name)] = int(stat[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_s(root: int) -> float:
    """User and system time so far of the tree, with that of children who were waited for: of these in steps of 10 ms."""
    total = 0.0
    for pid in family(root):
        if (stat := _stat(pid)) is not None:
            total += _own_cpu_s(pid) + sum(int(field) for field in stat[13:15]) / TICKS_PER_S  # cutime, cstime
    return total


def _own_cpu_s(pid: int) -> float:
    """Of all threads of a process that there are or were, by its own clock, as clock_getcpuclockid(3) names it."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:  # it has ended meanwhile
        return 0.0


def pss_mib(root: int) -> float:
    """Memory of the tree, shared pages counted by share."""
    total_kib = 0
    for pid in family(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kib += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kib / 1024


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


class Process:
    """A server that we started, and end."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.pid = self._popen.pid

    def alive(self) -> bool:
        return self._popen.poll() is None

    def stop(self) -> None:
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
