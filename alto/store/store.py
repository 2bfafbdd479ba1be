"""The interface of the store: what `api` and `control` may do with records, whatever the engine.

`store/sqlite.py` is the engine of one machine; `tests/store` is the contract that PostgreSQL will join.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from alto.model.records import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Reader(Protocol):
    """One consistent view. Equality conditions need a declared index (ValueError names the missing one)."""

    def get(self, kind: type[R], id: str) -> R:
        """Raises: NotFound."""

    def find(self, kind: type[R], id: str) -> R | None: ...

    def where(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **equals: object) -> list[R]:
        """Rows with these field values (None matches null), ordered by id, ids greater than `after`, at most `limit`."""

    def count(self, kind: type[R], **equals: object) -> int: ...


class Tx(Reader, Protocol):
    """A transaction. Its body may run more than once: no I/O, and keep nothing outside but what it returns."""

    def put(self, record: R) -> R:
        """Insert (version 0) or replace (version as read). Returns it with its new version.

        Raises: Conflict (version is not the stored one), AlreadyExists (a unique key), CapacityExceeded (a guard).
        """

    def delete(self, kind: type[R], id: str) -> None:
        """Idempotent."""


class Watch(Protocol):
    """Says that rows changed, never what they now are. Start it before the first read."""

    async def changed(self, *, timeout_s: float) -> frozenset[tuple[str, str]]:
        """(KIND, id) of rows that changed since the last call, as soon as there is one; empty after `timeout_s`.

        When more changed than the bound of a watch holds, ("*", "*") is among them: read everything.
        """

    def close(self) -> None: ...


class Store(Protocol):
    async def write(self, body: Callable[[Tx], T], *, patient: bool = False) -> T:
        """Run `body` as one transaction; durable when this returns. Whatever `body` raises rolls back and comes out.

        Writes that wait together share one commit (group commit), each in a savepoint of its own. A `patient` one, which no
        client waits for, waits some milliseconds for another's commit.
        """

    def read(self, body: Callable[[Reader], T]) -> T:
        """Run `body` on a consistent view that contains every write that returned before."""

    def watch(self, *kinds: type[Record]) -> Watch: ...

    async def close(self) -> None: ...
