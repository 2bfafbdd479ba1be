"""Watches: a bounded set of what changed, emptied by whoever waits for it. Hints, never the truth."""

import asyncio
from collections.abc import Callable, Collection, Mapping
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

    def add(self, changes: Mapping[str, AbstractSet[Change]]) -> None:
        """`changes` by kind."""
        for kind, those in changes.items():
            if kind in self._kinds or not self._kinds:
                self._changes |= those
                if not self._some.is_set():
                    self._some.set()
        if len(self._changes) > CHANGES_MAX or EVERYTHING in self._changes:
            self._changes = {EVERYTHING}

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
