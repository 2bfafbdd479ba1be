"""Runs one reconciler for ever: on each change it cares about, and every `sweep_s` seconds anyway.

A reconciler takes no hint about what changed; it reads everything that it needs, decides, and writes. A pass that fails is
logged and tried again after a growing pause; one that found its rows changed meanwhile is tried again at once.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from alto.kit.pace import rest_s
from alto.kit.world import Clock
from alto.model.errors import Conflict
from alto.model.records import Record
from alto.store.store import Store

log = structlog.get_logger()

PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 10.0
# A pass that lost a race so often in a row has lost to itself, or to somebody who never rests: that is a failure.
CONFLICTS_MAX = 20


class Reconciler(Protocol):
    @property
    def watches(self) -> Sequence[type[Record]]: ...

    @property
    def sweep_s(self) -> float: ...

    async def reconcile(self) -> float | None:
        """One pass over everything. Returns the seconds after which it wants another, change or not."""


class LoopStatus(msgspec.Struct, kw_only=True):
    """For `alto status`: what a loop last did."""

    name: str
    passes: int = 0
    failures: int = 0
    last_pass_at: float | None = None
    last_error: str | None = None


async def keep_reconciling(reconciler: Reconciler, store: Store, clock: Clock, status: LoopStatus) -> None:
    watch = store.watch(*reconciler.watches)
    pause_s, conflicts, changes = PAUSE_FIRST_S, 0, 0
    try:
        while True:
            try:
                again_s = await reconciler.reconcile()
            except Exception as error:
                if isinstance(error, Conflict) and conflicts < CONFLICTS_MAX:
                    conflicts += 1
                    await clock.sleep(0)
                    continue
                status.failures += 1
                status.last_error = f"{type(error).__name__}: {error}"
                log.exception("reconcile failed", loop=status.name)
                await clock.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)
                continue
            pause_s, conflicts = PAUSE_FIRST_S, 0
            status.passes += 1
            status.last_pass_at = clock.now()
            wait_s = reconciler.sweep_s if again_s is None else min(again_s, reconciler.sweep_s)
            if reconciler.watches:
                await clock.sleep(rest_s(changes))
                changes = len(await watch.changed(timeout_s=wait_s))
            else:
                # A watch of no kinds is one of all.
                await clock.sleep(wait_s)
    finally:
        watch.close()
