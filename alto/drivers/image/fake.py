"""An image driver that simulates: every well-named source is there at once, unless the knobs say otherwise."""

from functools import lru_cache
from pathlib import Path

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.fake import Knobs
from alto.kit.world import World
from alto.model.errors import Impossible
from alto.model.images import BALANCER, BOOTS_ITSELF, CONTAINER_SOURCE, TINY


class FakeImages:
    """`missing` names sources that do not exist, for tests of a launch that can never come true."""

    def __init__(self, world: World, *, knobs: Knobs | None = None, missing: frozenset[str] = frozenset()) -> None:
        self.knobs = knobs if knobs is not None else Knobs()
        self.missing = missing
        self._world = world

    async def fetch(self, source: str) -> BootFiles:
        fault = await self.knobs.before(self._world, "fetch")
        if source in self.missing or not (
            source in (TINY, BALANCER, CONTAINER_SOURCE, BOOTS_ITSELF) or source.startswith("file:///")
        ):
            raise Impossible(f"There is no image '{source}'")
        await self.knobs.after(self._world, "fetch", fault)
        if source == BOOTS_ITSELF:
            return BootFiles()
        return _files_of(source)


@lru_cache(maxsize=256)
def _files_of(source: str) -> BootFiles:
    return BootFiles(disk=Path("/simulated") / source.removeprefix("file:///"))
