"""What the start and the end of a virtual machine cost beside raw QEMU, while ever more of them run.

    sudo python -m benchmarks.machines [--machines 50]

Raw is QEMU with the very arguments that the driver gives it, started at once and greeted over QMP: no user and no namespace of
its own, and no record; but in a control group as ours, because on a busy machine that decides how fast it is. Both sides begin
with the disk there and end when the hypervisor says "running"; the end is `destroy` beside QMP's quit and the process gone.
Guests have 32 MiB and an empty disk, so that all they do is to wait: the next pair begins when their firmware has come to that.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from msgspec.structs import replace

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.groups import ControlGroups, entering
from alto.drivers.compute.qemu.commandline import Descriptors, Host, arguments, inherited
from alto.drivers.compute.qemu.compute import QemuCompute, group_limits
from alto.drivers.volume.driver import Disk
from alto.kit.world import real_world
from alto.model.instances import Machine
from benchmarks.agent import machine
from benchmarks.processes import cpu_s
from benchmarks.tables import Verdict, ms, print_table, print_verdicts, spread

MEMORY_MIB = 32
CALM_S, CALM_CPU_S, CALM_GIVE_UP_S = 0.1, 0.01, 10.0
ANSWER_S = 30.0
GOAL_START, GOAL_START_S = 1.10, 0.010
GOAL_END_S = 0.050
GOAL_FLAT = 1.5


def small(number: int) -> Machine:
    return replace(machine(number), memory_mib=MEMORY_MIB)


def empty_disk(folder: Path, number: int) -> Disk:
    path = folder / f"{number}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1G"], check=True)
    path.chmod(0o666)
    return Disk(volume_id=f"vol-{number:017x}", path=path, size_bytes=1 << 30)


class Raw:
    """One machine by hand."""

    def __init__(self, folder: Path, number: int, host: Host, groups: ControlGroups) -> None:
        disk = empty_disk(folder, number)
        within = entering(groups.limit(small(number).id, group_limits(small(number))))
        monitor, console = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        began = time.monotonic()
        for name, listening in (("qmp", monitor), ("console", console)):
            listening.bind(str(folder / f"{number}.{name}"))
            listening.listen()
        log = os.open(folder / f"{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        own = os.open(disk.path, os.O_RDWR)
        fds = Descriptors(disks=((own, None),), monitor=monitor.fileno(), console=console.fileno(), console_log=log)
        words = [*within, "qemu-system-x86_64", *arguments(small(number), BootFiles(), [], [disk], fds, host)]
        self._process = subprocess.Popen(
            words, pass_fds=inherited(fds, []), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(ANSWER_S)
        self._client.connect(str(folder / f"{number}.qmp"))
        self._answers = self._client.makefile("r")
        self._answers.readline()
        self._ask("qmp_capabilities")
        self._ask("cont")
        assert self._ask("query-status")["return"]["status"] == "running"
        self.start_s = time.monotonic() - began
        for listening in (monitor, console):
            listening.close()
        os.close(log)
        os.close(own)

    def _ask(self, command: str) -> dict[str, dict[str, str]]:
        self._client.sendall(json.dumps({"execute": command}).encode())
        while "return" not in (answer := json.loads(self._answers.readline())):
            pass
        return answer  # type: ignore[no-any-return]

    def end(self) -> float:
        began = time.monotonic()
        self._ask("quit")
        self._process.wait(timeout=ANSWER_S)
        self._client.close()
        return time.monotonic() - began


async def calm(driver: QemuCompute, id: str) -> None:
    pid = driver._known()[id].record.pid
    for _ in range(round(CALM_GIVE_UP_S / CALM_S)):
        before = cpu_s(pid)
        await asyncio.sleep(CALM_S)
        if cpu_s(pid) - before <= CALM_CPU_S:
            return


async def measure(folder: Path, count: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Pairs of ours and raw: starts, while there are more and more, and ends, while there are fewer and fewer."""
    world = real_world()
    groups = ControlGroups(world, f"alto-benchmark-{os.getpid()}")
    driver = QemuCompute(world, folder / "machines", groups=groups)
    accelerator = (await driver.capabilities()).accelerator
    host = driver._host or Host(accelerator=accelerator)
    starts, ends = [], []

    async def start(number: int) -> float:
        disk = empty_disk(folder, number)
        began = time.monotonic()
        await driver.start(small(number), BootFiles(), [], [disk])
        return time.monotonic() - began

    def start_raw(number: int) -> float:
        raw = Raw(folder, 1000 + number, host, groups)
        raw.end()
        return raw.start_s

    try:
        for number in range(1, count + 1):
            # Who begins changes: the second has the first's guest beside it, or what it left in the caches.
            if number % 2:
                ours = await start(number)
                starts.append((ours, start_raw(number)))
            else:
                raw_s = start_raw(number)
                starts.append((await start(number), raw_s))
            await calm(driver, small(number).id)
        for number in range(count, 0, -1):
            raw = Raw(folder, 2000 + number, host, groups)
            began = time.monotonic()
            await driver.destroy(small(number).id)
            ours = time.monotonic() - began
            ends.append((ours, raw.end()))
    finally:
        for number in range(1, count + 1):
            await driver.destroy(small(number).id)
        await driver.close()
        groups.remove_all()
    return starts, ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machines", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-") as folder:
        Path(folder).chmod(0o711)
        starts, ends = uvloop.run(measure(Path(folder), given.machines))
    ratios = [ours / raw for ours, raw in starts]
    more_s = statistics.median(ours - raw for ours, raw in starts)
    third = max(1, len(ratios) // 3)
    flat = statistics.median(ratios[-third:]) / statistics.median(ratios[:third])
    end_more_s = statistics.median(ours - raw for ours, raw in ends)
    rows = [
        ("start: raw", ms(statistics.median(raw for _, raw in starts))),
        ("start: ours", ms(statistics.median(ours for ours, _ in starts))),
        ("ours / raw", spread(ratios)),
        (f"the same, last third of {given.machines} / first", f"{flat:.2f}"),
        ("end: raw", ms(statistics.median(raw for _, raw in ends))),
        ("end: ours", ms(statistics.median(ours for ours, _ in ends))),
    ]
    print_table("Start and end of a virtual machine", ("", "median"), rows)
    met = statistics.median(ratios) <= GOAL_START or more_s <= GOAL_START_S
    verdicts = [
        Verdict(f"start <= {GOAL_START:g}x raw or + {ms(GOAL_START_S)}", f"{spread(ratios)}, {ms(more_s)}", met),
        Verdict(f"end <= raw + {ms(GOAL_END_S)}", ms(end_more_s), end_more_s <= GOAL_END_S),
        Verdict(f"flat from 0 to {given.machines}: <= {GOAL_FLAT:g}x", f"{flat:.2f}", flat <= GOAL_FLAT),
    ]
    return 0 if print_verdicts(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
