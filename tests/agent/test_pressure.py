"""How full this machine is. Goal: the gauges say what the machine says of itself; a machine that says nothing is no error.
Method: read beside `free` and `df`; and a disk without the kernel's files."""

import subprocess
from pathlib import Path

from alto.agent.pressure import Machine
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import RealFiles


def test_the_gauges_are_those_of_the_machine(tmp_path: Path) -> None:
    gauges = Machine(RealFiles(), tmp_path).gauges()
    assert gauges is not None
    memory = subprocess.run(["free", "--mebi"], capture_output=True, text=True, check=True).stdout.splitlines()[1].split()
    disk = subprocess.run(
        ["df", "--block-size=MiB", "--output=size,avail", tmp_path], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1]
    size, free = (int(word.removesuffix("MiB")) for word in disk.split())
    assert gauges.memory_mib == int(memory[1])
    assert abs(gauges.memory_free_mib - int(memory[6])) < 1024
    assert abs(gauges.disk_mib - size) <= 1
    assert abs(gauges.disk_free_mib - free) < 1024
    assert 1 < gauges.processes < gauges.processes_max


def test_a_machine_that_does_not_say_is_no_error() -> None:
    assert Machine(MemoryFiles(), Path("/state")).gauges() is None
