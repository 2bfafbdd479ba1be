"""DryRun: a request is carried out up to its first change of the store, which is undone.

So whatever the operation looks up and checks before it changes something refuses the dry run as it refuses the request itself,
and "would have succeeded" is said of nothing that was seen to fail. Invariant: a rehearsed call writes nothing, and its first
transaction ends it: what an operation does after that, in the store or elsewhere, is not done.
"""

from collections.abc import Callable
from typing import TypeVar

from alto.model.records import Record
from alto.store.store import Reader, Store, Tx, Watch

T = TypeVar("T")


class Rehearsed(Exception):
    """The first transaction went well, and was undone. No AltoError: no operation answers it itself."""


class Rehearsal:
    """A Store that reads, and that undoes its first transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, body: Callable[[Tx], T], *, patient: bool = False) -> T:
        """Raises: whatever `body` raises, else Rehearsed."""

        def undone(tx: Tx) -> T:
            body(tx)
            raise Rehearsed

        return await self._store.write(undone, patient=patient)

    def read(self, body: Callable[[Reader], T]) -> T:
        return self._store.read(body)

    def watch(self, *kinds: type[Record]) -> Watch:
        return self._store.watch(*kinds)

    async def close(self) -> None:
        """The store is not the rehearsal's to close."""
