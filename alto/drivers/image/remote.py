"""Images on a host of another machine: what Alto builds is built here, what somebody registered comes from the server.

A shipment is named by its digest, comes in parts, and goes on where it was cut off; it is used when all of it is here and has
the digest that was told. The invariant: a folder in the cache is whole, as in `images.py`. Not here: who may have which image
(the server), and how its parts travel (`ImageSource`).
"""

import asyncio
import hashlib
import os
from pathlib import Path

import msgspec
import structlog

from alto.drivers.compute.driver import BootFiles, ImageDriver
from alto.drivers.image.qcow2 import HEADER_BYTES, refusal
from alto.drivers.image.shipping import digest_of
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible, Refused
from alto.model.shipments import PART_BYTES, ImageSource, Shipment

log = structlog.get_logger()

SHIPMENTS_MAX = 2  # side by side: the server serves others, too
KEPT_FREE_BYTES = 1 << 30  # on this disk, when the whole image is here
SYNC_S = 600.0
DIGEST_DIGITS = 32


class RemoteImages:
    """An ImageDriver. `local`: what can be made on this machine; `server`: where the rest is."""

    def __init__(self, world: World, cache_dir: Path, local: ImageDriver, server: ImageSource) -> None:
        self._world = world
        self._cache = cache_dir
        self._local = local
        self._server = server
        self._locks: dict[str, asyncio.Lock] = {}
        self._shipping = asyncio.Semaphore(SHIPMENTS_MAX)
        self._ready: dict[str, BootFiles] = {}

    async def fetch(self, source: str) -> BootFiles:
        if not source.startswith("file:"):
            return await self._local.fetch(source)
        async with self._locks.setdefault(source, asyncio.Lock()):
            ready = self._ready.get(source)
            if ready is not None and ready.disk is not None and self._world.files.exists(ready.disk):
                return ready
            try:
                ready = await self._ship(source)
            except Refused as refused:
                raise Impossible(str(refused)) from refused
            except (OSError, TimeoutError) as error:
                raise DriverFault("The image did not come from the server") from error
            self._ready[source] = ready
            return ready

    async def _ship(self, source: str) -> BootFiles:
        self._world.files.make_dirs(self._cache, mode=0o755)
        shipment = await self._told(source)
        home = self._cache / f"shipped-{shipment.digest[:DIGEST_DIGITS]}"
        disk = home / f"disk.{shipment.format}"
        if not self._world.files.exists(home):
            async with self._shipping:
                await self._take(shipment, home, disk.name)
        return BootFiles(disk=disk, disk_format=shipment.format)

    async def _told(self, source: str) -> Shipment:
        """What the server says of the source; what it said last while it cannot be asked: a machine that was here before may
        start again without it."""
        note = self._cache / f"source-{hashlib.sha256(source.encode()).hexdigest()[:DIGEST_DIGITS]}.json"
        try:
            shipment = await self._server.shipment(source)
        except (OSError, TimeoutError):
            if not self._world.files.exists(note):
                raise
            return msgspec.json.decode(self._world.files.read(note), type=Shipment)
        if shipment.format not in ("qcow2", "raw") or not _is_digest(shipment.digest):
            raise Impossible("The server tells of an image that this host does not know how to use")
        self._world.files.write(note, msgspec.json.encode(shipment))
        return shipment

    async def _take(self, shipment: Shipment, home: Path, name: str) -> None:
        files = self._world.files
        work = self._cache / f".shipped-{shipment.digest[:DIGEST_DIGITS]}"
        files.make_dirs(work, mode=0o755)
        path = work / name
        os.close(files.open(path, append=True))
        # Holes take no room; who knows where they are is the server. So this is the most that it can need.
        needed, (_, free) = shipment.size_bytes - files.size(path) + KEPT_FREE_BYTES, files.space(work)
        if free < needed:
            raise DriverFault(f"This host's disk has no room for the image: {free >> 20} MiB are free of {needed >> 20} needed")
        log.info("an image is fetched", digest=shipment.digest, bytes=shipment.size_bytes, here=files.size(path))
        # What was cut off went on from the front, so all before its end is there.
        start = files.size(path) // PART_BYTES * PART_BYTES
        fd = files.open(path, write=True)
        try:
            while start < shipment.size_bytes:
                try:
                    data = await self._server.part(shipment.digest, start)
                except Refused as refused:
                    # It began anew meanwhile. Who asks again is told the same digest, and this goes on where it was.
                    raise DriverFault("The server does not know any more what it was sending") from refused
                if len(data) > PART_BYTES:
                    raise DriverFault("The server sent more than was asked for")
                end = min(start + PART_BYTES, shipment.size_bytes)
                if data:
                    os.pwrite(fd, data, start)
                os.ftruncate(fd, end)
                start = end
            os.ftruncate(fd, shipment.size_bytes)
        finally:
            os.close(fd)
        try:
            if await digest_of(self._world, path) != shipment.digest:
                raise DriverFault("The image came damaged from the server; it is fetched again")
            # Whatever the server thinks of it: QEMU will open it here.
            why = refusal(files.part(path, 0, HEADER_BYTES), files.size(path)) if shipment.format == "qcow2" else None
            if why is not None:
                raise Impossible(why)
        except BaseException:
            files.remove_tree(work)
            raise
        await self._run("sync", str(path), str(work))
        await self._run("mv", "--no-target-directory", "--no-clobber", str(work), str(home))
        if not files.exists(home):
            raise DriverFault("The image could not be put into the cache")

    async def _run(self, *argv: str) -> None:
        done = await self._world.processes.run(argv, timeout_s=SYNC_S)
        if done.returncode != 0:
            raise DriverFault("The image could not be stored on this host") from RuntimeError(done.complaint())


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")
