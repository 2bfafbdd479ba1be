"""Watches: a bounded set of what changed, emptied by whoever waits for it. Hints, never the truth."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet

Change = tuple[str, str]  # (KIND, id)

EVERYTHING: Change = ("*", "*")

# Beyond this it is cheaper to read everything than to look up each, and a watcher that sleeps must not fill the memory.
CHANGES_MAX = 10_000


class ChangeSet:
    """A `Watch`. Coalesces: a row that changed ten times before anybody looked is there once."""

    def __init__(self, kinds: Collection[str], closed: Callable[["ChangeSet"], object]) -> None:
        self._kinds = frozenset(kinds)  # none: all
        self._closed = closed
        self._changes: set[Change] = set()
        self._some = asyncio.Event()

    def hears_of(self, kinds: AbstractSet[str]) -> bool:
        return not self._kinds or not self._kinds.isdisjoint(kinds)

    def add(self, changes: Iterable[Change]) -> None:
        wanted = changes if not self._kinds else [change for change in changes if change[0] in self._kinds]
        if EVERYTHING not in self._changes:
            self._changes.update(wanted)
            if len(self._changes) > CHANGES_MAX:
                self._changes = {EVERYTHING}
        if self._changes:
            self._some.set()

    async def changed(self, *, timeout_s: float) -> frozenset[Change]:
        if not self._changes:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._some.wait()
            except TimeoutError:
                pass
        # No await from here on: what was taken is returned, even to a caller that is being cancelled.
        taken = frozenset(self._changes)
        self._changes = set()
        self._some.clear()
        return taken

    def close(self) -> None:
        self._closed(self)
