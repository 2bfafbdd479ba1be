"""Images for other hosts: what this machine's cache holds, told by digest and given away in parts.

The invariant: only files of the cache are given away, which nobody changes, so that a shipment that is taken up again after a
restart of either side goes on with the same bytes.
"""

import asyncio
from pathlib import Path

from alto.drivers.compute.driver import ImageDriver
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible, Refused
from alto.model.shipments import PART_BYTES, Shipment

DIGEST_S = 3600.0
ZEROS = bytes(PART_BYTES)


class Shipping:
    """An `ImageSource`."""

    def __init__(self, world: World, images: ImageDriver) -> None:
        self._world = world
        self._images = images
        self._known: dict[Path, Shipment] = {}
        self._files: dict[str, Path] = {}
        self._counting = asyncio.Lock()

    async def shipment(self, source: str) -> Shipment:
        try:
            boot = await self._images.fetch(source)
        except Impossible as error:
            raise Refused("InvalidImage", str(error), status=422) from error
        if boot.disk is None:
            raise Refused("InvalidImage", "There is no disk to this image's source", status=422)
        # One at a time: it reads a whole disk.
        async with self._counting:
            known = self._known.get(boot.disk)
            if known is None:
                size_bytes = self._world.files.size(boot.disk)
                known = Shipment(digest=await digest_of(self._world, boot.disk), size_bytes=size_bytes, format=boot.disk_format)
                self._known[boot.disk] = known
                self._files[known.digest] = boot.disk
        return known

    async def part(self, digest: str, start: int) -> bytes:
        path = self._files.get(digest)
        if path is None or start < 0:
            raise Refused(
                "UnknownShipment", "This server has not told of such an image since it began: ask for it again", status=404
            )
        data = self._world.files.part(path, start, PART_BYTES)
        return b"" if data == ZEROS[: len(data)] else data


async def digest_of(world: World, path: Path) -> str:
    """By a process of its own: a large disk takes a while. Raises: DriverFault."""
    try:
        done = await world.processes.run(["sha256sum", "--binary", "--", str(path)], timeout_s=DIGEST_S)
    except (TimeoutError, FileNotFoundError) as error:
        raise DriverFault("The image could not be read") from error
    if done.returncode != 0:
        raise DriverFault("The image could not be read") from RuntimeError(done.complaint())
    return done.stdout.split()[0].decode().removeprefix("\\")
