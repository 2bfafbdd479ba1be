"""Measure two sides in turn, so that whatever else the machine does falls on both; compare by the median of the ratios."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.clouds import Cloud
from benchmarks.processes import cpu_s

# A block must cost much more than what disturbs one call.
BLOCK_CPU_S = 0.25
CALLS_MAX = 2_000


class Cost(NamedTuple):
    """Per call."""

    cpu_s: float
    wall_s: float


class Side(NamedTuple):
    """`run(n)` does n calls, one after another, and waits for whatever they set going."""

    cloud: Cloud
    run: Callable[[int], None]


def cost(side: Side, calls: int) -> Cost:
    cpu, wall = cpu_s(side.cloud.process.pid), time.monotonic()
    side.run(calls)
    wall = time.monotonic() - wall
    return Cost((cpu_s(side.cloud.process.pid) - cpu) / calls, wall / calls)


def block_size(side: Side, calls_max: int = CALLS_MAX) -> int:
    """How many calls make a block that can be measured; warms the side up."""
    calls = 1
    while True:
        found = cost(side, calls)
        if found.cpu_s * calls >= BLOCK_CPU_S / 4 or calls >= calls_max:
            return max(1, min(calls_max, round(BLOCK_CPU_S / max(found.cpu_s, 1e-6))))
        calls = min(calls * 4, calls_max)


class Comparison(NamedTuple):
    ours: list[Cost]
    theirs: list[Cost]

    @property
    def ratios(self) -> list[float]:
        return [their.cpu_s / our.cpu_s for our, their in zip(self.ours, self.theirs, strict=True)]

    @property
    def wall_ratios(self) -> list[float]:
        return [their.wall_s / our.wall_s for our, their in zip(self.ours, self.theirs, strict=True)]


def compare(ours: Side, theirs: Side, *, pairs: int, calls_max: int = CALLS_MAX, calls_alike: int | None = None) -> Comparison:
    """`calls_alike`: so many in each block of both sides, for calls that leave something behind: then both have as much."""
    our_calls, their_calls = (block_size(side, calls_max) for side in (ours, theirs))
    if calls_alike is not None:
        our_calls = their_calls = calls_alike
    found = Comparison([], [])
    for pair in range(pairs):
        # Who begins changes: a drift then falls on both.
        if pair % 2:
            found.theirs.append(cost(theirs, their_calls))
            found.ours.append(cost(ours, our_calls))
        else:
            found.ours.append(cost(ours, our_calls))
            found.theirs.append(cost(theirs, their_calls))
    return found


def median_cpu(costs: list[Cost]) -> float:
    return statistics.median(one.cpu_s for one in costs)


def median_wall(costs: list[Cost]) -> float:
    return statistics.median(one.wall_s for one in costs)
