"""A moment's patience with hosts: what is asked of one is mostly done within hundredths of a second.

EC2's own answers come slower than that, and much code was written against a test double that knows no time between: it asks
for the next step at once. So an operation may wait for what it asked for, or for what it needs, but no longer than a moment;
then it says what is so, and the caller waits as EC2's waiters do.
"""

from collections.abc import Callable

from alto.api.call import Call
from alto.store.store import Reader

MOMENT_S = 1.0
LOOK_FIRST_S, LOOK_MAX_S = 0.005, 0.04


async def moment_until(call: Call, true: Callable[[Reader], bool], *, moment_s: float = MOMENT_S) -> None:
    """Returns when `true`, at the latest after a moment."""
    clock, pause_s = call.world.clock, LOOK_FIRST_S
    give_up_at = clock.monotonic() + moment_s
    while not call.store.read(true) and clock.monotonic() < give_up_at:
        await clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LOOK_MAX_S)
