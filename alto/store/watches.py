"""Watches: a bounded set of what changed, emptied by whoever waits for it. Hints, never the truth."""

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

from alto.kit.event import Event

Change = tuple[str, str]  # (KIND, id)
Changes = Mapping[str, AbstractSet[Change]]  # by KIND

EVERYTHING: Change = ("*", "*")

# Beyond this it is cheaper to read everything than to look up each, and a watcher that sleeps must not fill the memory.
CHANGES_MAX = 10_000


class ChangeSet:
    """A `Watch`. Coalesces: a row that changed ten times before anybody looked is there once."""

    def __init__(self, kinds: Collection[str], closed: Callable[["ChangeSet"], object]) -> None:
        self._kinds = frozenset(kinds)  # none: all
        self._closed = closed
        self._changes: set[Change] = set()
        self._some = Event()

    def add(self, changes: Changes) -> None:
        """What it is not about is passed over."""
        kinds = changes.keys() & self._kinds if self._kinds else changes.keys()
        if not kinds:
            return
        if not self._changes:
            self._some.set()
        for kind in kinds:
            self._changes |= changes[kind]
        if len(self._changes) > CHANGES_MAX or EVERYTHING in self._changes:
            self._changes = {EVERYTHING}

    async def changed(self, *, timeout_s: float) -> frozenset[Change]:
        if not self._changes:
            await self._some.wait(timeout_s)
        # No await from here on: what was taken is returned, even to a caller that is being cancelled.
        taken = frozenset(self._changes)
        self._changes = set()
        self._some.clear()
        return taken

    def close(self) -> None:
        self._closed(self)
