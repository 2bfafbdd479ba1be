"""Tables and verdicts, in plain text."""

import os
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """A goal, what was found, and whether that is enough."""

    goal: str
    found: str
    met: bool


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    print(f"\n{title}  (load {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs)")
    for row in (head, ["-" * width for width in widths], *rows):
        print(
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


def print_verdicts(verdicts: Sequence[Verdict]) -> bool:
    """True when every goal is met."""
    print_table("Goals", ("goal", "found", ""), [(v.goal, v.found, "ok" if v.met else "NOT MET") for v in verdicts])
    return all(verdict.met for verdict in verdicts)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def spread(values: Sequence[float]) -> str:
    """Median, and how far the middle half reaches."""
    if len(values) < 4:
        return f"{statistics.median(values):.3g}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.3g} [{low:.3g}..{high:.3g}]"
