"""The tiny image: busybox, dropbear and a Debian kernel, built on this machine in seconds from what Debian packages hold.

The guest's own files are in `tiny_root/`. Two results: an ext4 disk without partitions (as qcow2), and an initial RAM disk that
mounts it. The invariant: same inputs, same digest; the digest names the folder in the cache, so nothing stale is ever booted.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from alto.drivers.image.archive import Entry, cpio
from alto.drivers.image.kernel import BOOT_MODULES, LATE_MODULES, Kernel
from alto.kit.world import World
from alto.model.errors import DriverFault

CMDLINE = "console=ttyS0 root=/dev/vda rw quiet panic=10 cryptomgr.notests"
DISK_MIB = 64
CONTAINER_DISK_MIB = 1024  # as large as the image says, so that a start has nothing to grow; the file is sparse
TREE = Path(__file__).parent / "tiny_root"
BUSYBOX = Path("/bin/busybox")
# From the packages dropbear-bin and e2fsprogs.
PROGRAMS = (Path("/usr/sbin/dropbear"), Path("/usr/bin/dropbearkey"), Path("/usr/sbin/resize2fs"))
HAPROXY = Path("/usr/sbin/haproxy")  # of the package haproxy; in the image of balancers
# Without zeros for the journal, which would be four fifths of what each start copies; the new file has none but zeros there.
_CONTAINER_DISK = ("/usr/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-E", "lazy_journal_init=1")
# Raise it when the way of building changes but no input does.
RECIPE = b"1"


class Inputs:
    """Everything that goes into the image, and its digest."""

    def __init__(self, root: bytes, initrd: bytes, kernel: Kernel) -> None:
        self.root = root
        self.initrd = initrd
        digest = hashlib.sha256()
        for part in (RECIPE, kernel.digest.encode(), CMDLINE.encode(), root, initrd):
            digest.update(hashlib.sha256(part).digest())
        self.digest = digest.hexdigest()


async def gather(world: World, kernel: Kernel, more: Sequence[Path] = ()) -> Inputs:
    """`more`: programs that it has beside its own. Raises: DriverFault: a package is missing; the message names it."""
    busybox = _read(world, BUSYBOX, "busybox-static")
    applets = (await _run(world, [str(BUSYBOX), "--list"])).decode().split()
    programs = (*PROGRAMS, *more)
    root = cpio(list(_root(world, kernel, busybox, applets, [*programs, *await _libraries(world, programs)])))
    initrd = cpio(list(_initrd(world, kernel, busybox)))
    return Inputs(root, initrd, kernel)


async def gather_root(world: World) -> bytes:
    """The root file system alone, for containers: no kernel is needed, nor fetched. Raises: DriverFault."""
    busybox = _read(world, BUSYBOX, "busybox-static")
    applets = (await _run(world, [str(BUSYBOX), "--list"])).decode().split()
    return cpio(list(_root(world, None, busybox, applets, [*PROGRAMS, *await _libraries(world, PROGRAMS)])))


def root_digest(root: bytes) -> str:
    return hashlib.sha256(RECIPE + f"{_CONTAINER_DISK} {CONTAINER_DISK_MIB}".encode() + root).hexdigest()


async def build_root(world: World, root: bytes, home: Path) -> None:
    """Fill folder `home` with root.raw: an ext4 file system that is a whole disk."""
    tree = home / "tree"
    world.files.make_dirs(tree, mode=0o755)
    await _run(world, ["env", "-C", str(tree), str(BUSYBOX), "cpio", "-idm"], stdin=root)
    raw = home / "root.raw"
    await _run(world, [*_CONTAINER_DISK, "-d", str(tree), str(raw), f"{CONTAINER_DISK_MIB}M"])
    world.files.remove_tree(tree)
    await _run(world, ["sync", str(raw), str(home)])


async def build(world: World, inputs: Inputs, kernel: Kernel, home: Path) -> None:
    """Fill folder `home` with disk.qcow2, initrd and vmlinux. The caller makes it visible under its name."""
    tree = home / "tree"
    world.files.make_dirs(tree, mode=0o755)
    await _run(world, ["env", "-C", str(tree), str(BUSYBOX), "cpio", "-idm"], stdin=inputs.root)
    raw = home / "disk.raw"
    # 4096-byte blocks: the size that a boot loader could read, too. The reserved table lets it grow 1024-fold, online.
    await _run(
        world,
        ["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-d", str(tree), str(raw), f"{DISK_MIB}M"],
    )
    disk = home / "disk.qcow2"
    await _run(world, ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
    world.files.remove(raw)
    world.files.remove_tree(tree)
    world.files.write(home / "initrd", inputs.initrd, mode=0o644)
    # A link, not a copy: every image of one kernel shares its 53 MB in the page cache.
    await _run(world, ["ln", "-f", str(kernel.vmlinux), str(home / "vmlinux")])
    await _run(world, ["sync", str(disk), str(home)])


def _root(
    world: World, kernel: Kernel | None, busybox: bytes, applets: Sequence[str], programs: Sequence[Path]
) -> Iterator[Entry]:
    """Without a kernel, for a container: its console is no serial line."""
    folders = "bin dev etc etc/acpi etc/acpi/PWRF etc/dropbear lib lib/modules lib64 mnt proc root run sbin sys tmp usr usr/bin"
    folders += " usr/lib usr/sbin var var/lib var/lib/alto var/log var/www"
    for folder in folders.split():
        yield Entry(folder, 0o1777 if folder == "tmp" else 0o700 if folder == "root" else 0o755)
    yield Entry("root/.ssh", 0o700)
    yield Entry("bin/busybox", 0o755, busybox)
    for applet in applets:
        if applet != "busybox":
            yield Entry(f"bin/{applet}", target="/bin/busybox")
    for name in ("init", "poweroff", "reboot", "halt", "getty"):
        yield Entry(f"sbin/{name}", target="/bin/busybox")
    yield Entry("www", target="/var/www")
    made: set[str] = set(folders.split())
    for program in programs:
        inside = str(program).lstrip("/")
        for parent in reversed(Path(inside).parents):
            if str(parent) not in (".", *made):
                made.add(str(parent))
                yield Entry(str(parent))
        yield Entry(inside, 0o755, _read(world, program, "dropbear-bin"))
    if kernel is not None:
        for module in LATE_MODULES:
            yield Entry(f"lib/modules/{Path(module).name}", 0o644, world.files.read(kernel.module(module)))
    for name in world.files.names(TREE / "sbin"):
        yield Entry(f"sbin/{name}", 0o755, world.files.read(TREE / "sbin" / name))
    for name in world.files.names(TREE / "etc"):
        data = world.files.read(TREE / "etc" / name)
        if name == "inittab" and kernel is None:
            data = data.replace(b"ttyS0", b"console")
        yield Entry(f"etc/{name}", 0o755 if name.endswith(".script") else 0o644, data)
    # ACPI's power button, as busybox acpid hears of it: this is how a stop reaches the guest.
    yield Entry("etc/acpi/PWRF/00000080", 0o755, b"#!/bin/sh\npoweroff\n")
    yield Entry("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")
    yield Entry("etc/group", 0o644, b"root:x:0:\n")
    yield Entry("etc/shadow", 0o600, b"root:*:19000:0:99999:7:::\n")  # no password: the key is the only way in
    yield Entry("etc/shells", 0o644, b"/bin/sh\n")
    yield Entry("etc/hosts", 0o644, b"127.0.0.1 localhost\n")
    yield Entry("etc/hostname", 0o644, b"alto\n")
    yield Entry("etc/issue", 0o644, b"Alto tiny\n")
    yield Entry("etc/resolv.conf", target="/run/resolv.conf")
    yield Entry("var/lib/alto/boots", 0o644, b"0\n")
    yield Entry("var/lib/alto/instance-id", 0o644, b"\n")
    yield Entry("var/www/index.html", 0o644, b"<!doctype html>\n<title>alto</title>\n")
    yield Entry("var/www/health", 0o644, b"ok\n")


def _initrd(world: World, kernel: Kernel, busybox: bytes) -> Iterator[Entry]:
    for folder in ("bin", "dev", "modules", "proc", "root"):
        yield Entry(folder)
    yield Entry("bin/busybox", 0o755, busybox)
    for number, module in enumerate(BOOT_MODULES):
        yield Entry(f"modules/{number:02d}-{Path(module).name}", 0o644, world.files.read(kernel.module(module)))
    yield Entry("init", 0o755, world.files.read(TREE / "initrd/init"))


async def _libraries(world: World, programs: Sequence[Path]) -> list[Path]:
    """What the programs load, by `ldd`, as it finds them on this machine."""
    found: set[str] = set()
    for program in programs:
        _read(world, program, "haproxy" if program == HAPROXY else "dropbear-bin and e2fsprogs")
        for line in (await _run(world, ["ldd", str(program)])).decode().splitlines():
            words = line.replace("=>", " ").split()
            found.update(word for word in words if word.startswith("/"))
    return [Path(name) for name in sorted(found)]


def _read(world: World, path: Path, package: str) -> bytes:
    try:
        return world.files.read(path)
    except FileNotFoundError as error:
        raise DriverFault(f"The tiny image needs the package {package}: `apt-get install {package}`") from error


async def _run(world: World, argv: Sequence[str], *, stdin: bytes = b"") -> bytes:
    try:
        done = await world.processes.run(argv, stdin=stdin, timeout_s=120.0)
    except (TimeoutError, FileNotFoundError) as error:
        raise DriverFault("The tiny image could not be built") from error
    if done.returncode != 0:
        raise DriverFault("The tiny image could not be built") from RuntimeError(f"{argv[0]}: {done.complaint()}")
    return done.stdout
