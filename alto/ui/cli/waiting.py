"""Wait for something to become true, and say all the while what is being waited for.

On a terminal one line on stderr is rewritten; elsewhere a line is written when the reason changes. The invariant: every
wait has an end, and running out of time names what was still missing.
"""

import sys
import time
from collections.abc import Callable

from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say

POLL_S = 0.2
_SPINNER = "|/-\\"


def wait_until(
    done: Callable[[], str | None], *, what: str, timeout_s: float, poll_s: float = POLL_S, quiet: bool = False, hint: str = ""
) -> float:
    """Call `done` until it returns None; a string is why it is not yet. Returns the seconds it took. Raises: Failure."""
    began = time.monotonic()
    said = ""
    live = sys.stderr.isatty() and not quiet
    turn = 0
    try:
        while True:
            why = done()
            elapsed = time.monotonic() - began
            if why is None:
                return elapsed
            if elapsed > timeout_s:
                raise Failure(f"{what}: not within {timeout_s:.0f} s", why=f"waiting: {why}", hint=hint, exit=Exit.TIMEOUT)
            if live:
                turn += 1
                sys.stderr.write(f"\r\x1b[K{_SPINNER[turn % 4]} {what}: {why}  {elapsed:.1f} s")
                sys.stderr.flush()
            elif why != said and not quiet:
                say(f"{what}: {why}")
                said = why
            time.sleep(poll_s)
    finally:
        if live and turn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
