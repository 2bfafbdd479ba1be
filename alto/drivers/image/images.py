"""Images on this host's disk: what instances boot from, built or copied once and then only read.

Sources: "tiny", "balancer" and "tiny-container" (built here, `tiny.py`), "file:///path.qcow2" (checked, copied), and
"file:///path.tar" and the packed ones (`archives.py`).
Not here: who may use which image.
The invariant: a folder in the cache is whole. It is made under another name, and renamed when everything in it is there.
"""

import asyncio
import hashlib
from pathlib import Path

from alto.drivers.compute.driver import BootFiles
from alto.drivers.image import archives, tiny
from alto.drivers.image.kernel import find_kernel
from alto.drivers.image.qcow2 import HEADER_BYTES, refusal
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible
from alto.model.images import ARCHIVES, BALANCER, BOOTS_ITSELF, TINY

COPY_S = 3600.0


class LocalImages:
    def __init__(self, world: World, cache_dir: Path) -> None:
        self._world = world
        self._cache = cache_dir
        self._locks: dict[str, asyncio.Lock] = {}
        self._ready: dict[str, BootFiles] = {}

    async def fetch(self, source: str) -> BootFiles:
        """As ImageDriver says. A registered file that changes after its first use is another image only after a restart."""
        # The first caller works, the others wait at the lock and then find what it made.
        async with self._locks.setdefault(source, asyncio.Lock()):
            ready = self._ready.get(source)
            if ready is not None and (ready.disk is None or self._world.files.exists(ready.disk)):
                return ready
            try:
                ready = await self._make(source)
            except OSError as error:
                raise DriverFault("The image could not be stored on this host") from error
            self._ready[source] = ready
            return ready

    async def _make(self, source: str) -> BootFiles:
        self._world.files.make_dirs(self._cache, mode=0o755)
        if source == BOOTS_ITSELF:
            return BootFiles()
        if source == TINY:
            return await self._tiny()
        if source == BALANCER:
            return await self._tiny(tiny.HAPROXY)
        if source == "tiny-container":
            return await self._tiny_root()
        if source.startswith("file:///") and source.endswith(".qcow2"):
            return await self._copy(Path(source.removeprefix("file://")))
        if source.startswith("file:///") and source.endswith(ARCHIVES):
            return await self._unpack(Path(source.removeprefix("file://")))
        # Whoever launches it may be another than who registered it: a path of this host is not for them.
        raise Impossible("The image's source is of no kind that this host knows") from ValueError(source)

    async def _tiny(self, *more: Path) -> BootFiles:
        kernel = await find_kernel(self._world, self._cache / "kernels")
        inputs = await tiny.gather(self._world, kernel, more)
        home = self._cache / f"tiny-{inputs.digest[:32]}"
        if not self._world.files.exists(home):
            work = self._cache / f".tiny-{self._world.chance.hex(8)}"
            try:
                self._world.files.make_dirs(work, mode=0o755)
                await tiny.build(self._world, inputs, kernel, work)
                await self._publish(work, home)
            finally:
                self._world.files.remove_tree(work)
        return BootFiles(disk=home / "disk.qcow2", kernel=home / "vmlinux", initrd=home / "initrd", cmdline=tiny.CMDLINE)

    async def _tiny_root(self) -> BootFiles:
        root = await tiny.gather_root(self._world)
        home = self._cache / f"tiny-container-{tiny.root_digest(root)[:32]}"
        if not self._world.files.exists(home):
            work = self._cache / f".tiny-{self._world.chance.hex(8)}"
            try:
                self._world.files.make_dirs(work, mode=0o755)
                await tiny.build_root(self._world, root, work)
                await self._publish(work, home)
            finally:
                self._world.files.remove_tree(work)
        return BootFiles(disk=home / "root.raw", disk_format="raw")

    async def _copy(self, path: Path) -> BootFiles:
        files = self._world.files
        try:
            why = refusal(files.part(path, 0, HEADER_BYTES), files.size(path))
        except FileNotFoundError as error:
            raise Impossible("The image's file is gone from this host") from error
        if why is not None:
            raise Impossible(why)
        home = await self._home_of(path)
        if not files.exists(home):
            work = self._cache / f".file-{self._world.chance.hex(8)}"
            try:
                files.make_dirs(work, mode=0o755)
                copy = work / "disk.qcow2"
                await self._run("cp", "--reflink=auto", "--sparse=auto", "--", str(path), str(copy))
                # Again on the copy: the file may have been changed since, the copy cannot be.
                why = refusal(files.part(copy, 0, HEADER_BYTES), files.size(copy))
                if why is not None:
                    raise Impossible(why)
                await self._run("sync", str(copy), str(work))
                await self._publish(work, home)
            finally:
                files.remove_tree(work)
        return BootFiles(disk=home / "disk.qcow2")

    async def _unpack(self, path: Path) -> BootFiles:
        files = self._world.files
        if not files.exists(path):
            raise Impossible("The image's file is gone from this host")
        home = await self._home_of(path)
        if not files.exists(home):
            work = self._cache / f".file-{self._world.chance.hex(8)}"
            try:
                files.make_dirs(work, mode=0o755)
                await archives.unpack(self._world, path, work / "root.raw")
                await self._publish(work, home)
            finally:
                files.remove_tree(work)
        return BootFiles(disk=home / "root.raw", disk_format="raw")

    async def _home_of(self, path: Path) -> Path:
        """The copy's name says what it is a copy of, so a file that was replaced is copied again after a restart."""
        stat = await self._run("stat", "--format=%d %i %s %y", "--", str(path))
        return self._cache / f"file-{hashlib.sha256(str(path).encode() + stat).hexdigest()[:32]}"

    async def _publish(self, work: Path, home: Path) -> None:
        await self._run("mv", "--no-target-directory", "--no-clobber", str(work), str(home))
        if not self._world.files.exists(home):
            raise DriverFault("The image could not be put into the cache")

    async def _run(self, *argv: str) -> bytes:
        try:
            done = await self._world.processes.run(argv, timeout_s=COPY_S)
        except (TimeoutError, FileNotFoundError) as error:
            raise DriverFault("The image could not be stored on this host") from error
        if done.returncode != 0:
            raise DriverFault("The image could not be stored on this host") from RuntimeError(done.complaint())
        return done.stdout
