"""Write answers: a table for people, TSV for pipes, JSON or YAML for programs, ids for the next command.

stdout is the answer, stderr the conversation. The invariant: what goes through a pipe has no colour, no wrapping and no
line that is not data. rich is imported only for a terminal: it costs more than the rest of a command.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

FORMATS = ("table", "json", "yaml", "name")

GOOD = {"running", "healthy", "ready", "yes", "ok", "available"}
BAD = {"unhealthy", "unreachable", "failed", "no", "shutting-down"}
WAITING = {"pending", "initial", "unknown", "draining", "stopping", "waiting"}


def show(
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str],
    *,
    data: Any,
    format: str | None,
    quiet: bool = False,
    name_column: int = 0,
    empty: str = "",
) -> None:
    """`rows` under `columns`, or `data` (what JSON and YAML show), as `format` or the environment (ALTO_OUTPUT) says."""
    format = format or os.environ.get("ALTO_OUTPUT") or "table"
    if quiet or format == "name":
        for row in rows:
            print(row[name_column])
    elif format == "json":
        print(json.dumps(data, indent=2 if sys.stdout.isatty() else None))
    elif format == "yaml":
        import yaml

        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
    elif not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_plain(cell) for cell in row))
    elif not rows:
        say(empty or "nothing")
    else:
        _table(rows, columns)


def say(line: str) -> None:
    """A line of the conversation."""
    print(line, file=sys.stderr, flush=True)


def colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _plain(cell: Any) -> str:
    return "" if cell is None else str(cell).replace("\t", " ").replace("\n", " ")


def _table(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_plain(cell) or "-", style=_style(_plain(cell))) for cell in row))
    Console(no_color=not colours(sys.stdout)).print(table)


def _style(cell: str) -> str:
    if cell in GOOD:
        return "green"
    if cell in BAD:
        return "red"
    if cell in WAITING:
        return "yellow"
    return "magenta" if cell == "simulated" else ""
