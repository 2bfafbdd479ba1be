"""Digits of ids that sort in the order in which they were drawn: so a listing by id is a listing by age, and a table whose
key they are grows at its end.

The first digits are time, in steps of 16 ms, the last six are by chance. They say when something was made, which is no
secret; what nobody may guess is drawn by `Chance.hex`.
"""

import threading
from collections.abc import Callable

_STEP_MS = 16
_TAIL_BITS = 24
_FIRST_BITS = 23  # the half above is for those that follow within the same step
_SKIP_BITS = 10


class Serial:
    """`now` is seconds since 1970; `bits(n)` is a number below 2**n by chance. Thread-safe. Ids follow each other even when
    the clock steps back, though not over a restart."""

    def __init__(self, now: Callable[[], float], bits: Callable[[int], int]) -> None:
        self._now = now
        self._bits = bits
        self._free = 0  # no number below it is drawn any more
        self._lock = threading.Lock()

    def draw(self, count: int, digits: int, gap: int) -> str:
        """`count` times `digits` hexadecimal digits, joined; the `gap` numbers from each on are never drawn again."""
        drawn = []
        with self._lock:
            by_time = int(self._now() * 1000 / _STEP_MS) << _TAIL_BITS | self._bits(_FIRST_BITS)
            number = max(by_time, self._free)
            for _ in range(count):
                drawn.append(f"{number:0{digits}x}")
                self._free = number + gap
                number = self._free + self._bits(_SKIP_BITS)
        return "".join(drawn)
