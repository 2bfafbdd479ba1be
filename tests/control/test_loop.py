"""The loop around a reconciler. Goal: one that fails is tried again after a pause and says so; one that loses races goes on at
once, but not for ever. Method: reconcilers that fail as told, on a clock that counts the seconds slept."""

import asyncio
from contextlib import suppress

from alto.control.loop import CONFLICTS_MAX, LoopStatus, keep_reconciling
from alto.model.errors import Conflict
from alto.model.records import Record
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.clocks import CountedClock


class Losing:
    """Loses the first `conflicts` races, then stops the loop with its first good pass."""

    watches: tuple[type[Record], ...] = ()
    sweep_s = 1.0

    def __init__(self, conflicts: int) -> None:
        self.left = conflicts

    async def reconcile(self) -> float | None:
        self.left -= 1
        if self.left >= 0:
            raise Conflict("somebody was faster")
        raise asyncio.CancelledError


def run(conflicts: int) -> tuple[LoopStatus, float]:
    async def body() -> tuple[LoopStatus, float]:
        store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        status, clock = LoopStatus(name="losing"), CountedClock()
        with suppress(asyncio.CancelledError):
            await keep_reconciling(Losing(conflicts), store, clock, status)
        return status, clock.seconds

    return asyncio.run(body())


def test_a_lost_race_is_run_again_at_once_and_is_no_failure() -> None:
    status, slept_s = run(3)
    assert (status.failures, slept_s) == (0, 0.0)


def test_who_only_loses_pauses_and_says_so() -> None:
    status, slept_s = run(CONFLICTS_MAX + 3)
    assert status.failures == 3
    assert slept_s > 1.0, "pauses grow"
    assert status.last_error == "Conflict: somebody was faster"
