"""A Linux kernel for guests, from Debian's linux-image-cloud-amd64, without installing one on this machine.

`vmlinux` is the bzImage's payload unpacked: QEMU starts it through its PVH entry, which saves the guest the unpacking
(0.4 s of an emulated CPU). The package is downloaded by apt, which checks its signature chain, and unpacked beside the images.
"""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alto.kit.world import World
from alto.model.errors import DriverFault

PACKAGE = "linux-image-cloud-amd64"
# Loaded in this order. virtio_ring before virtio: Debian's virtio.ko needs its symbols.
BOOT_MODULES = (
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/net/virtio_net.ko",
    "drivers/char/hw_random/virtio-rng.ko",
)
LATE_MODULES = ("drivers/acpi/button.ko", "drivers/input/evdev.ko")
DOWNLOAD_S = 600.0
LZ4_LEGACY_MAGIC = b"\x02\x21\x4c\x18"


class Kernel(msgspec.Struct, frozen=True):
    """Unpacked in folder `home`; `digest` is of the bzImage that it came from."""

    home: Path
    digest: str

    @property
    def vmlinux(self) -> Path:
        return self.home / "vmlinux"

    def module(self, name: str) -> Path:
        return self.home / "modules" / name


async def find_kernel(world: World, cache: Path) -> Kernel:
    """The newest kernel already unpacked in `cache`, else this machine's own, else a download. Raises: DriverFault."""
    if (cached := _cached(world, cache)) is not None:
        return cached
    own = [
        name.removeprefix("vmlinuz-")
        for name in world.files.names(Path("/boot"))
        if name.startswith("vmlinuz-") and name.endswith("-cloud-amd64")
    ]
    for version in reversed(own):
        modules = Path("/lib/modules") / version / "kernel"
        if world.files.exists(modules / BOOT_MODULES[0]):
            return await _keep(world, cache, version, Path("/boot") / f"vmlinuz-{version}", modules)
    return await _download(world, cache)


def payload(bzimage: bytes) -> bytes:
    """The compressed kernel in a bzImage (setup header: Documentation/x86/boot.rst), for `lz4 -dc`.

    Raises: DriverFault: it is no bzImage, or compressed otherwise than Debian does.
    """
    if bzimage[0x202:0x206] != b"HdrS":
        raise DriverFault("The kernel is no bzImage")
    start, length = struct.unpack_from("<II", bzimage, 0x248)
    start += (bzimage[0x1F1] + 1) * 512
    # The last four bytes are the unpacked size, not part of the stream.
    found = bzimage[start : start + length - 4]
    if not found.startswith(LZ4_LEGACY_MAGIC):
        raise DriverFault("The kernel is not compressed by LZ4, as Debian's cloud kernel is")
    return found


def _cached(world: World, cache: Path) -> Kernel | None:
    for version in reversed(world.files.names(cache)):
        record = cache / version / "digest"
        if world.files.exists(record):
            return Kernel(cache / version, world.files.read(record).decode())
    return None


async def _download(world: World, cache: Path) -> Kernel:
    work = cache / f".download-{world.chance.hex(8)}"
    world.files.make_dirs(work, mode=0o755)
    try:
        depends = await _run(world, ["apt-cache", "depends", PACKAGE], "apt knows no kernel: try `apt-get update`")
        names = [line.split()[-1] for line in depends.decode().splitlines() if "Depends: linux-image-" in line]
        if not names:
            raise DriverFault(f"The package {PACKAGE} is not in apt's lists: try `apt-get update`")
        # apt's own unprivileged user may not enter our cache folder.
        fetch = ["env", "-C", str(work), "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", names[0]]
        await _run(world, fetch, f"The package {names[0]} could not be downloaded")
        (package,) = [name for name in world.files.names(work) if name.endswith(".deb")]
        await _run(world, ["dpkg-deb", "-x", str(work / package), str(work / "tree")], f"{package} is broken")
        version = names[0].removeprefix("linux-image-")
        modules = work / "tree/lib/modules" / version / "kernel"
        return await _keep(world, cache, version, work / f"tree/boot/vmlinuz-{version}", modules)
    finally:
        world.files.remove_tree(work)


async def _keep(world: World, cache: Path, version: str, bzimage_path: Path, modules: Path) -> Kernel:
    """What we need of a kernel in the cache; its digest last, so that half of one is never found."""
    home = cache / version
    world.files.make_dirs(home, mode=0o755)
    bzimage = world.files.read(bzimage_path)
    unpacked = await world.processes.run(["lz4", "-dc"], stdin=payload(bzimage), timeout_s=60.0)
    if unpacked.returncode != 0 or not unpacked.stdout.startswith(b"\x7fELF"):
        raise DriverFault("The kernel could not be unpacked") from RuntimeError(unpacked.complaint())
    world.files.write(home / "vmlinux", unpacked.stdout, mode=0o644)
    for name in (*BOOT_MODULES, *LATE_MODULES):
        world.files.make_dirs((home / "modules" / name).parent, mode=0o755)
        world.files.write(home / "modules" / name, world.files.read(modules / name), mode=0o644)
    kernel = Kernel(home, hashlib.sha256(bzimage).hexdigest())
    world.files.write(home / "digest", kernel.digest.encode())
    return kernel


async def _run(world: World, argv: Sequence[str], otherwise: str) -> bytes:
    try:
        done = await world.processes.run(argv, timeout_s=DOWNLOAD_S)
    except (TimeoutError, FileNotFoundError) as error:
        raise DriverFault(otherwise) from error
    if done.returncode != 0:
        raise DriverFault(otherwise) from RuntimeError(done.complaint())
    return done.stdout
