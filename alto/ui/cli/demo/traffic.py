"""What the load generator saw, counted: requests, failures and members over time, and a plot of them for a terminal.

Pure but for reading the file. The invariant: every line of the file is counted exactly once, in the second it was sent.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#%"


class Request(NamedTuple):
    at: float  # when it was sent, seconds since 1970
    ms: float
    member: str | None
    wrong: str | None
    cut: bool = False  # its answer had begun, and did not end


class Event(NamedTuple):
    at: float
    what: str


class Step(NamedTuple):
    """One column of the plot."""

    requests: int
    failures: int
    members: int


def read(path: Path) -> list[Request]:
    """In the order they were sent; a half-written last line is not there yet."""
    try:
        lines = path.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return sorted((Request(**json.loads(line)) for line in lines), key=lambda one: one.at)


def between(requests: Iterable[Request], start: float, end: float = math.inf) -> list[Request]:
    return [one for one in requests if start <= one.at < end]


def failures(requests: Iterable[Request]) -> list[Request]:
    return [one for one in requests if one.wrong is not None]


def torn(requests: Iterable[Request], start: float, end: float) -> list[Request]:
    """Those whose answer had begun when a machine died, at some moment from `start` to `end`, and was cut off by that. Nobody
    could have sent them to another machine: the client has a part of the answer already."""
    return [one for one in requests if one.cut and one.at <= end and start <= one.at + one.ms / 1000]


def members(requests: Iterable[Request]) -> set[str]:
    return {one.member for one in requests if one.member is not None}


def percentile(requests: Sequence[Request], share: float) -> float:
    """Of the milliseconds of those that were answered; 0 when there are none."""
    times = sorted(one.ms for one in requests if one.wrong is None)
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


def series(requests: Sequence[Request], start: float, end: float, steps: int) -> list[Step]:
    """`steps` equal parts of the time from `start` to `end`."""
    width = max(end - start, 0.001) / steps
    found: list[list[Request]] = [[] for _ in range(steps)]
    for one in requests:
        if start <= one.at < end:
            found[min(steps - 1, int((one.at - start) / width))].append(one)
    return [Step(len(part), len(failures(part)), len(members(part))) for part in found]


def plot(requests: Sequence[Request], events: Sequence[Event], *, width: int, unicode: bool = True) -> list[str]:
    """Lines of text: requests a second, failures and members over time, and what happened when."""
    if not requests:
        return ["no requests were sent"]
    start, end = requests[0].at, requests[-1].at + 0.001
    steps = max(1, min(width, math.ceil(end - start)))
    parts = series(requests, start, end, steps)
    per_second = steps / (end - start)
    rows = [
        ("requests/s", [part.requests * per_second for part in parts]),
        ("failures", [float(part.failures) for part in parts]),
        ("members", [float(part.members) for part in parts]),
    ]
    bars = BARS if unicode else PLAIN_BARS
    lines = []
    for name, values in rows:
        top = max(values)
        lines.append(f"{name:>10} {''.join(_bar(value, top, bars) for value in values)}  max {top:.0f}")
    marks = [" "] * steps
    legend = []
    for number, event in enumerate(event for event in events if start <= event.at <= end):
        letter = chr(ord("A") + number % 26)
        marks[min(steps - 1, int((event.at - start) / (end - start) * steps))] = letter
        legend.append(f"{letter} {event.at - start:.0f} s {event.what}")
    lines.append(f"{'':>10} {''.join(marks)}  {end - start:.0f} s")
    return lines + [f"{'':>10} {line}" for line in legend]


def _bar(value: float, top: float, bars: str) -> str:
    if value <= 0 or top <= 0:
        return bars[0]
    return bars[max(1, round(value / top * (len(bars) - 1)))]
