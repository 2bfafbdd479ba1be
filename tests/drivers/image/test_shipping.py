"""Images on their way to another host. Goal: what arrives is what was sent, byte for byte and hole for hole, whoever is cut off
in the middle; what was damaged, or names other files, is never used. Method: a server's images and a host's, in two folders,
with a road between them that breaks where the test says."""

import asyncio
import hashlib
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.drivers.image.images import LocalImages
from alto.drivers.image.remote import RemoteImages
from alto.drivers.image.shipping import Shipping
from alto.kit.world import real_world
from alto.model.errors import DriverFault, Impossible
from alto.model.shipments import PART_BYTES, Shipment

WORLD = real_world()


class Road:
    """An ImageSource that carries `parts` more parts, and then nothing."""

    def __init__(self, server: Shipping) -> None:
        self.server = server
        self.parts = 1000
        self.carried: list[int] = []
        self.up = True
        self.damage = b""

    async def shipment(self, source: str) -> Shipment:
        if not self.up:
            raise ConnectionRefusedError
        return await self.server.shipment(source)

    async def part(self, digest: str, start: int) -> bytes:
        if len(self.carried) >= self.parts:
            raise ConnectionResetError
        self.carried.append(start)
        data = await self.server.part(digest, start)
        return self.damage + data[len(self.damage) :] if data else data


class Sides:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "registered.qcow2"
        # Seven parts and a bit, of which the last but one are holes.
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.path, "64M"], check=True)
        for at, letter in (("0", "0x41"), ("3M", "0x42"), ("40M", "0x43")):
            subprocess.run(["qemu-io", "-c", f"write -q -P {letter} {at} 1M", self.path], check=True, stdout=subprocess.DEVNULL)
        with open(self.path, "ab") as file:
            file.truncate(self.path.stat().st_size + 3 * PART_BYTES + 512)
        self.source = f"file://{self.path}"
        self.road = Road(Shipping(WORLD, LocalImages(WORLD, folder / "server")))

    def host(self) -> RemoteImages:
        """As after a restart of the agent."""
        return RemoteImages(WORLD, self.folder / "host", LocalImages(WORLD, self.folder / "host"), self.road)

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "host").iterdir() if path.name.startswith("."))


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def test_an_image_arrives_whole_once_for_many_and_its_holes_stay_holes(sides: Sides) -> None:
    async def main() -> None:
        host = sides.host()
        boots = await asyncio.gather(*[host.fetch(sides.source) for _ in range(5)])
        assert len({boot.disk for boot in boots}) == 1
        disk = boots[0].disk
        assert disk.read_bytes() == sides.path.read_bytes()
        assert disk.stat().st_blocks * 512 < disk.stat().st_size - PART_BYTES
        assert sides.road.carried == sorted(set(sides.road.carried))
        assert sides.left() == []
        # After a restart it is here, even where the server is away; and another server may send the same image again.
        sides.road.up, sides.road.parts = False, 0
        assert (await sides.host().fetch(sides.source)).disk == disk

    asyncio.run(main())


def test_a_shipment_goes_on_where_it_was_cut_off(sides: Sides) -> None:
    async def main() -> None:
        sides.road.parts = 3
        with pytest.raises(DriverFault, match="did not come"):
            await sides.host().fetch(sides.source)
        # The agent and the server begin anew: the server must first be asked again.
        sides.road.server = Shipping(WORLD, LocalImages(WORLD, sides.folder / "server"))
        sides.road.parts = 1000
        assert (await sides.host().fetch(sides.source)).disk.read_bytes() == sides.path.read_bytes()
        # No part was sent twice but, at most, the one at the cut.
        assert len(sides.road.carried) <= len(set(sides.road.carried)) + 1
        assert sides.left() == []

    asyncio.run(main())


def test_a_server_that_began_anew_in_the_middle_is_asked_again(sides: Sides) -> None:
    async def main() -> None:
        told = await sides.road.shipment(sides.source)
        host = sides.host()
        sides.road.server = Shipping(WORLD, LocalImages(WORLD, sides.folder / "server"))

        async def as_told(source: str) -> Shipment:
            return told

        asks, sides.road.shipment = sides.road.shipment, as_told  # type: ignore[method-assign]
        with pytest.raises(DriverFault, match="does not know any more"):
            await host.fetch(sides.source)
        sides.road.shipment = asks  # type: ignore[method-assign]
        assert (await host.fetch(sides.source)).disk.read_bytes() == sides.path.read_bytes()

    asyncio.run(main())


def test_what_came_damaged_is_not_used_and_fetched_again(sides: Sides) -> None:
    async def main() -> None:
        host = sides.host()
        sides.road.damage = b"damaged"
        with pytest.raises(DriverFault, match="came damaged"):
            await host.fetch(sides.source)
        assert sides.left() == []
        sides.road.damage = b""
        assert (await host.fetch(sides.source)).disk.read_bytes() == sides.path.read_bytes()

    asyncio.run(main())


def test_an_image_that_names_files_of_the_host_is_refused_here_too(sides: Sides) -> None:
    """The server checks as well; a host opens what it has checked itself."""
    backed = sides.folder / "backed.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(sides.path), "-F", "qcow2", str(backed)]
    subprocess.run(command, check=True)

    class Careless(Road):
        async def shipment(self, source: str) -> Shipment:
            told = await super().shipment(source)
            data = backed.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            return replace(told, digest=digest, size_bytes=len(data))

        async def part(self, digest: str, start: int) -> bytes:
            return backed.read_bytes()[start : start + PART_BYTES]

    async def main() -> None:
        sides.road = Careless(sides.road.server)
        with pytest.raises(Impossible, match="backing file"):
            await sides.host().fetch(sides.source)
        assert sides.left() == []

    asyncio.run(main())


def test_an_image_that_is_gone_is_no_reason_to_try_for_ever(sides: Sides) -> None:
    async def main() -> None:
        with pytest.raises(Impossible):
            await sides.host().fetch("file:///nowhere.qcow2")
        with pytest.raises(Impossible):
            await sides.host().fetch("http://example.com/a.qcow2")

    asyncio.run(main())
