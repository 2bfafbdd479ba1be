"""What a machine may take. Goal: processors, memory and processes are limited by the kernel, from the first instruction, for
QEMU and for anything else; and no group stays behind. Method: small programs that take all they can get, in groups of their own
on this machine; what is asserted is that they got no more, which no busy machine can make untrue."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace as with_changes
from pathlib import Path

import pytest

from alto.drivers.compute.groups import ControlGroups, GroupLimits, entering
from alto.drivers.compute.qemu.compute import QemuCompute
from alto.kit.world import RealFiles, real_world
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import ContainerRig, QemuRig

pytestmark = pytest.mark.vm

WIDE = GroupLimits(cpus=4.0, cpu_weight=1024, memory_mib=1024, processes=100)
ID = machine().id
NAME = f"alto-test-groups-{os.getpid()}"


def left() -> list[Path]:
    return [path for name in (f"{NAME}/*", f"*/{NAME}/*") for path in Path("/sys/fs/cgroup").glob(name) if path.is_dir()]


@pytest.fixture
def groups() -> Iterator[ControlGroups]:
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    found = ControlGroups(real_world(), NAME)
    yield found
    found.remove_all()
    assert [*Path("/sys/fs/cgroup").glob(NAME), *Path("/sys/fs/cgroup").glob(f"*/{NAME}")] == []


def run(groups: ControlGroups, limits: GroupLimits, script: str) -> subprocess.CompletedProcess[str]:
    command = [*entering(groups.limit("one", limits)), "python3", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    asyncio.run(groups.remove("one"))
    assert left() == []
    return done


def test_processors(groups: ControlGroups) -> None:
    limits = GroupLimits(cpus=0.05, cpu_weight=4096, memory_mib=512, processes=10)
    began = time.monotonic()
    # It says itself what it used: of all children, it would be with those of other tests that are reaped just now.
    script = "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    done = run(groups, limits, script)
    took = time.monotonic() - began
    # A twentieth of a processor, and what a period may overdraw; without the limit it would be most of one.
    assert 0 < float(done.stdout) < 0.05 * took + 0.1


def test_memory(groups: ControlGroups) -> None:
    limits = GroupLimits(cpus=2, cpu_weight=1024, memory_mib=64, processes=10)
    assert run(groups, limits, "bytearray(32 << 20)").returncode == 0
    assert run(groups, limits, "bytearray(200 << 20)").returncode == -9


def test_processes(groups: ControlGroups) -> None:
    limits = GroupLimits(cpus=2, cpu_weight=1024, memory_mib=512, processes=5)
    script = "import os, time\nfor n in range(20):\n    if os.fork() == 0: time.sleep(3); os._exit(0)"
    done = run(groups, limits, f"{script}\n    print(n)")
    assert "BlockingIOError" in done.stderr
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_version_2_has_the_same_limits_in_its_own_words(tmp_path: Path) -> None:
    """On folders that look like it: this kernel may have version 1 alone."""
    root = tmp_path / "unified"
    group = root / NAME / "one"
    group.mkdir(parents=True)
    names = ("cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max", "cgroup.procs", "cgroup.subtree_control")
    for path in (root, root / NAME, group):
        for name in names:
            (path / name).touch()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")

    class Files(RealFiles):
        def read(self, path: Path) -> bytes:
            if path == Path("/proc/self/mountinfo"):
                return f"30 23 0:26 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n".encode()
            return super().read(path)

    groups = ControlGroups(with_changes(real_world(), files=Files()), NAME)
    limits = GroupLimits(cpus=1.5, cpu_weight=512, memory_mib=640, processes=257)
    assert groups.limit("one", limits) == [group / "cgroup.procs"]
    said = {name: (group / name).read_text() for name in names[:5]}
    assert said == {
        "cpu.max": "150000 100000",
        "cpu.weight": "50",
        "memory.max": str(640 << 20),
        "memory.swap.max": "0",
        "pids.max": "257",
    }
    for path in (root, root / NAME):
        assert (path / "cgroup.subtree_control").read_text() == "+cpu +io +memory +pids"


def test_a_container_takes_no_more_memory_than_its_type_has(container: ContainerRig) -> None:
    async def main() -> None:
        driver = container.driver()
        await driver.start(machine(), container.boot, [], [])
        await container.settled(ID)
        init = container.init(ID)
        within = Path(f"/proc/{init}/cgroup").read_text()
        assert f"/{container.groups}/{ID}/" in within
        # Half of what it has, and twice that: the second ends, and the container goes on.
        for mib, ends in ((64, "0"), (256, "137")):
            said = await container.ask(ID, f"dd if=/dev/zero of=/dev/null bs={mib}M count=1 2>/dev/null; echo $?")
            assert said[-1] == ends
        assert container.init(ID) == init
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_qemu_is_within_its_group_and_leaves_nothing(groups: ControlGroups, qemu: QemuRig) -> None:
    async def main() -> None:
        driver = QemuCompute(real_world(), qemu.state, groups=groups)
        await driver.start(machine(), qemu.boot, [], await qemu.disks())
        (pid,) = qemu.processes(ID)
        within = Path(f"/proc/{pid}/cgroup").read_text()
        assert within.count(f"/{NAME}/{ID}\n") >= 1
        assert left()
        await driver.stop(ID, grace_s=0.0)
        assert left() == []
        await driver.start(machine(incarnation=2), qemu.boot, [], await qemu.disks())
        qemu.crash(ID)
        while (await driver.observe())[ID].power == "on":
            await driver.wait_change(timeout_s=0.5)
        assert left() == []
        await driver.destroy(ID)
        await driver.close()

    asyncio.run(asyncio.wait_for(main(), 60))
