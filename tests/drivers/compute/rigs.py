"""What the contract suite needs of a host beside its driver: to do from outside and from inside what no driver call does.

The guest of the QEMU rig is Debian's kernel with an initial RAM disk of our own, whose first process obeys lines typed on the
serial console: it boots in under two seconds of emulation and needs no network.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from alto.drivers.compute.container.compute import ContainerCompute
from alto.drivers.compute.container.config import UID_FIRST
from alto.drivers.compute.driver import BootFiles, ComputeDriver, Tap
from alto.drivers.compute.fake import FakeCompute, FakeMachines
from alto.drivers.compute.groups import ControlGroups
from alto.drivers.compute.qemu.blockjobs import DiskTool
from alto.drivers.compute.qemu.compute import QemuCompute
from alto.drivers.image.archive import Entry, cpio
from alto.drivers.image.images import LocalImages
from alto.drivers.image.kernel import LATE_MODULES, find_kernel
from alto.drivers.volume.driver import Base, Disk
from alto.drivers.volume.fake import FakeStorage, FakeVolumes
from alto.drivers.volume.files import FileVolumes
from alto.kit.world import World, real_world
from alto.model.errors import DriverFault
from alto.model.volumes import GIB

NO_TAP = Tap(interface_id="eni-00000000000000001", name="", mac="02:00:00:00:00:01")
TYPED_S = 60.0
READY = "guest ready"  # both guests below say so on their consoles
CACHE = Path(os.environ.get("ALTO_TEST_CACHE", "/var/tmp/alto-test-images"))
INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mkdir -p /sys
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
mkdir -p /var/log /var/run
acpid -c /etc/acpi
# Open all the time: what is typed while nobody has the line open is lost.
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
echo guest ready
while read -r line; do eval "$line"; done
"""


async def until(true: Callable[[], bool], what: str, *, timeout_s: float = 180.0) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not true():  # noqa: ASYNC110 - what we wait for is outside of this process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None


class Rig(Protocol):
    boot: BootFiles
    prompt: str  # what tells that the guest reads its console
    doubled: str  # what comes back when "echo $((21*2))" is typed

    def driver(self) -> ComputeDriver:
        """Another driver over the same host, as after a restart."""

    def crash(self, id: str) -> None: ...

    async def power_off_by_guest(self, id: str) -> None: ...

    def processes(self, id: str) -> list[int]:
        """What tells one life of the machine from another."""

    async def settled(self, id: str) -> None:
        """The guest is up, so that it hears its power button."""

    def boots(self, id: str) -> int:
        """How often the guest came up, resets included."""

    def tap(self, number: int) -> Tap:
        """Another network port; see `drop`."""

    def drop(self, tap: Tap) -> None: ...

    async def disks(self, number: int = 1) -> list[Disk]:
        """The root volume of machine `number`; none where a machine keeps its root itself."""

    async def interfaces(self, id: str) -> list[str]:
        """Hardware addresses of what the guest sees."""


def files_with(folder: Path, word: bytes) -> list[str]:
    """Files below `folder` in which it is to be found."""
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and _has(path, word)]


def _has(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        rest = b""
        while part := file.read(1 << 22):
            if word in rest + part:
                return True
            rest = part[-len(word) :]
    return False


class Keys:
    """A Keyring that knows every key, and who may be away."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    async def open(self, sealed: str) -> str:
        if self.away:
            raise DriverFault("nobody answers")
        self.asked.append(sealed)
        return hashlib.sha256(sealed.encode()).hexdigest()


class FakeRig:
    boot = BootFiles(disk=Path("/simulated/tiny"))
    prompt, doubled = "no guest runs here", "echo $((21*2))"

    def __init__(self) -> None:
        self.world = real_world()
        self.machines = FakeMachines()
        self.storage = FakeStorage()
        self.volumes = FakeVolumes(self.world, self.storage)

    def driver(self) -> ComputeDriver:
        return FakeCompute(self.world, self.machines, copy=self.storage.copy)

    async def disks(self, number: int = 1) -> list[Disk]:
        return [await self.volumes.create(f"vol-{number:017x}", GIB, account="1", base=Base(path=self.boot.disk))]

    async def volume(self, number: int) -> Disk:
        return await self.volumes.create(f"vol-{number:017x}", GIB, account="1")

    def crash(self, id: str) -> None:
        self.machines.crash(id)

    async def power_off_by_guest(self, id: str) -> None:
        self.machines.power_off_by_guest(id)

    def processes(self, id: str) -> list[int]:
        found = self.machines.machines.get(id)
        return [found.starts] if found is not None and found.seen.power == "on" else []

    async def settled(self, id: str) -> None: ...

    def boots(self, id: str) -> int:
        found = self.machines.machines[id]
        return found.starts + found.resets

    def tap(self, number: int) -> Tap:
        return Tap(interface_id=f"eni-{number:017x}", name="", mac=f"02:00:00:00:00:{number:02x}")

    def drop(self, tap: Tap) -> None: ...

    async def interfaces(self, id: str) -> list[str]:
        return sorted(f"02:00:00:00:00:{int(one[4:], 16):02x}" for one in self.machines.machines[id].interfaces)


class ConsoleRig(ABC):
    """Of machines with a real guest, which says on its console that it is up and obeys commands."""

    def __init__(self, state: Path, boot: BootFiles, world: World) -> None:
        self.world = world
        self.state = state
        self.boot = boot

    @abstractmethod
    async def ask(self, id: str, command: str) -> list[str]:
        """What `command` prints in the guest, by line."""

    async def settled(self, id: str) -> None:
        await self.said(id, READY)

    async def said(self, id: str, text: str, *, times: int = 1) -> None:
        await until(lambda: self.log(id).count(text) >= times, f"console of {id} says '{text}'")

    def boots(self, id: str) -> int:
        return self.log(id).count(READY)

    def log(self, id: str) -> str:
        try:
            return (self.state / id / "console.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    async def interfaces(self, id: str) -> list[str]:
        return sorted(await self.ask(id, "cat /sys/class/net/e*/address"))


class QemuRig(ConsoleRig):
    prompt, doubled = READY, "42"

    def __init__(self, state: Path, boot: BootFiles, world: World | None = None) -> None:
        super().__init__(state, boot, world or real_world())
        storage = state.parent / "storage"
        self.keys = Keys()
        self.volumes = FileVolumes(self.world, storage, DiskTool(self.world, storage / "work", self.keys), self.keys)
        self._asked = 0

    def driver(self) -> QemuCompute:
        return QemuCompute(self.world, self.state, keys=self.keys)

    async def disks(self, number: int = 1) -> list[Disk]:
        base = Base(path=self.boot.disk, format=self.boot.disk_format)
        return [await self.volumes.create(f"vol-{number:017x}", GIB, account="1", base=base)]

    async def volume(self, number: int) -> Disk:
        await self.volumes.capacity()
        return await self.volumes.create(f"vol-{number:017x}", GIB, account="1")

    def crash(self, id: str) -> None:
        (pid,) = self.processes(id)
        os.kill(pid, signal.SIGKILL)

    async def power_off_by_guest(self, id: str) -> None:
        await self.settled(id)
        self.type(id, "poweroff -f")

    def processes(self, id: str) -> list[int]:
        """By its name and its disk: other tests on this machine have machines of the same name."""
        named = [pid for pid, words in all_processes() if f"guest={id}" in words]
        return sorted(pid for pid in named if _holds(pid, self.state / id))

    def tap(self, number: int) -> Tap:
        """Of this process's own network, where nobody looks at it; it goes with its last descriptor."""
        name = f"ast{os.getpid() % 100000}.{number}"
        flags = struct.pack("16sH22x", name.encode(), 0x2 | 0x1000 | 0x4000)
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, 0x400454CA, flags)
        return Tap(interface_id=f"eni-{number:017x}", name=name, mac=f"02:00:00:00:00:{number:02x}", fd=fd)

    def drop(self, tap: Tap) -> None:
        os.close(tap.fd)

    async def ask(self, id: str, command: str) -> list[str]:
        self._asked += 1
        begin, end = f"<<{self._asked}", f"{self._asked}>>"
        self.type(id, f"echo '<''<{self._asked}'; {command} 2>/dev/null; echo '{self._asked}''>>'")
        await self.said(id, end)
        return self.log(id).replace("\r", "").rpartition(begin)[2].partition(end)[0].split("\n")[1:-1]

    def type(self, id: str, line: str) -> None:
        """On the serial console, as a person would."""
        folder = os.open(self.state / id, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as sock:
            # By way of the folder's descriptor: a socket's path may have 107 bytes only.
            sock.connect(f"/proc/self/fd/{folder}/console")
            os.close(folder)
            sock.sendall(line.encode() + b"\n")
            # QEMU reads at its guest's pace, and sees at once when we close: what it had not read by then is lost.
            end = time.monotonic() + TYPED_S
            while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]:
                assert time.monotonic() < end, f"{id} does not read what is typed"
                time.sleep(0.005)


class ContainerRig(ConsoleRig):
    """Its guest obeys what is typed at a shell of its own, as `lxc-attach` gives one."""

    prompt, doubled = "built-in shell", "42"

    def __init__(self, state: Path, boot: BootFiles) -> None:
        super().__init__(state, boot, real_world())
        self.groups = f"alto-test-{os.getpid()}"

    def driver(self) -> ContainerCompute:
        return ContainerCompute(self.world, self.state, groups=ControlGroups(self.world, self.groups))

    async def disks(self, number: int = 1) -> list[Disk]:
        return []

    def crash(self, id: str) -> None:
        os.kill(self.init(id), signal.SIGKILL)

    def lxc_name(self, id: str) -> str:
        """As the keeper has it for an argument."""
        home = str(self.state / id)
        (words,) = [words for _, words in all_processes() if "alto-keeper" in words and home in words]
        return words[words.index(home) + 1]

    def init(self, id: str) -> int:
        """The guest's first process: the child of LXC's."""
        # A hook of the host's may still end beside it.
        (init,) = [pid for pid in _children(self.lxc(id)) if os.stat(f"/proc/{pid}").st_uid >= UID_FIRST]
        return init

    def lxc(self, id: str) -> int:
        """The keeper's child."""
        (keeper,) = self.processes(id)
        (lxc,) = _children(keeper)
        return lxc

    async def power_off_by_guest(self, id: str) -> None:
        await self.settled(id)
        await self.ask(id, "poweroff -f")

    def processes(self, id: str) -> list[int]:
        home = str(self.state / id)
        return sorted(pid for pid, words in all_processes() if "alto-keeper" in words and home in words)

    def tap(self, number: int) -> Tap:
        """One end in this process's namespace waits for the guest; the other stays, where nobody looks at it."""
        name, peer, mac = (
            f"alx{os.getpid() % 100000}.{number}",
            f"aly{os.getpid() % 100000}.{number}",
            f"02:00:00:00:00:{number:02x}",
        )
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        subprocess.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "name", peer, "address", mac], check=True, timeout=10
        )
        return Tap(interface_id=f"eni-{number:017x}", name=name, mac=mac, peer=peer)

    def drop(self, tap: Tap) -> None:
        subprocess.run(["ip", "link", "delete", tap.name], check=False, capture_output=True, timeout=10)

    async def ask(self, id: str, command: str) -> list[str]:
        argv = ["lxc-attach", "-P", "/run", "-n", self.lxc_name(id), "--", "/bin/busybox", "sh", "-c", command]
        done = await self.world.processes.run(argv)
        return done.stdout.decode().splitlines()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _holds(pid: int, folder: Path) -> bool:
    """Whether a process has a file open in there."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        # What it closes meanwhile says nothing of the rest.
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith(f"{folder}/"):
                return True
    return False


def all_processes() -> list[tuple[int, list[str]]]:
    """Number and words of each living process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words != [""]:  # a zombie has none
                found.append((int(name), words))
    return found


def console_guest() -> BootFiles:
    """The tiny image with another first process; kept in a cache over test runs."""
    if os.getuid() != 0:
        pytest.skip("real machines need root")

    async def build() -> BootFiles:
        world = real_world()
        boot = await LocalImages(world, CACHE).fetch("tiny")
        kernel = await find_kernel(world, CACHE / "kernels")
        assert boot.initrd is not None
        entries = [Entry("etc"), Entry("etc/acpi"), Entry("etc/acpi/PWRF")]
        entries.append(Entry("etc/acpi/PWRF/00000080", 0o755, b"#!/bin/busybox sh\npoweroff -f\n"))
        for module in LATE_MODULES:
            entries.append(Entry(f"modules/99-{Path(module).name}", 0o644, world.files.read(kernel.module(module))))
        entries.append(Entry("init", 0o755, INIT))
        # The kernel unpacks one archive after the other: a later file replaces an earlier one.
        initrd = CACHE / "console-guest-initrd"
        world.files.write(initrd, world.files.read(boot.initrd) + cpio(entries), mode=0o644)
        return BootFiles(disk=boot.disk, kernel=boot.kernel, initrd=initrd, cmdline="console=ttyS0 quiet panic=10")

    return asyncio.run(build())


CONTAINER_INITTAB = b"""::sysinit:/bin/busybox --install -s /bin
::once:/bin/busybox echo guest ready
::respawn:/bin/busybox sh
::ctrlaltdel:/bin/busybox reboot
"""


def container_guest(folder: Path) -> BootFiles:
    """The smallest root file system: busybox as its first process, which tells when it is up and hears the power signal."""
    if os.getuid() != 0 or shutil.which("lxc-start") is None:
        pytest.skip("containers need root and the package lxc")
    tree = folder / "tree"
    for name in ("bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    (tree / "sbin/init").symlink_to("/bin/busybox")
    (tree / "etc/inittab").write_bytes(CONTAINER_INITTAB)
    disk = folder / "root.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(disk), "32M"], check=True, timeout=60)
    return BootFiles(disk=disk, disk_format="raw")
