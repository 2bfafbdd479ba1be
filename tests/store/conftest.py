"""The engines that the store's contract holds for. PostgreSQL joins by adding an engine to `ENGINES`."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from alto.model.records import Record
from alto.store.leases import Lease
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Store
from tests.store.kinds import Box, Piece, Thing, Token

T = TypeVar("T")
KINDS: tuple[type[Record], ...] = (Thing, Box, Token, Piece, Lease)


class Engine:
    """Somewhere to keep rows, that can be opened again and again. `run` gives each scenario a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: list[BaseException] = []

    async def open(self, kinds: Sequence[type[Record]] = KINDS) -> Store:
        raise NotImplementedError

    def run(self, scenario: Callable[[Store], Awaitable[T]]) -> T:
        return self.loop(self._with_store(scenario))

    def loop(self, main: Coroutine[object, object, T]) -> T:
        return asyncio.run(main)

    async def _with_store(self, scenario: Callable[[Store], Awaitable[T]]) -> T:
        store = await self.open()
        try:
            async with asyncio.timeout(60):
                return await scenario(store)
        finally:
            await store.close()


class SqliteFile(Engine):
    """A disk that seems slow, so that every commit is the thread's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.monotonic: Callable[[], float] = itertools.count().__next__

    async def open(self, kinds: Sequence[type[Record]] = KINDS) -> Store:
        return await SqliteStore.open(
            self.folder / "store.db", monotonic=self.monotonic, failed=self.failures.append, kinds=kinds
        )


class SqliteFileQuick(SqliteFile):
    """A disk that seems infinitely quick: who is alone commits on the loop."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.monotonic = lambda: 0.0


class SqliteFileUvloop(SqliteFileQuick):
    def loop(self, main: Coroutine[object, object, T]) -> T:
        return uvloop.run(main)


class SqliteInline(Engine):
    """As the simulator has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.disk = MemoryDisk()

    async def open(self, kinds: Sequence[type[Record]] = KINDS) -> Store:
        return SqliteStore.inline(self.disk, pause=lambda: asyncio.sleep(0), kinds=kinds)


ENGINES = {
    "sqlite": SqliteFile,
    "sqlite-quick": SqliteFileQuick,
    "sqlite-uvloop": SqliteFileUvloop,
    "sqlite-inline": SqliteInline,
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return ENGINES[request.param](tmp_path)
