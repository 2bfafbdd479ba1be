"""`alto net`: what becomes of packets, asked of the rules and not of the wire."""

import re
import sys
from typing import Any

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import TraceAnswer, TraceStep
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import colours, say, show

_MARKS = {True: ("pass", "32"), False: ("STOP", "31"), None: ("on", "33")}  # with their colours


@click.group(cls=options.Group)
def net() -> None:
    """What becomes of packets, and why."""


@net.command()
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO[:PORT]")
@click.option(
    "-p", "--protocol", metavar="NAME", help="tcp, udp, icmp, icmpv6 or a number. Default: tcp with a port, else icmp."
)
@click.option("--source-port", type=click.IntRange(0, 65535), help="Where the answer goes: ACLs are asked again for it.")
def trace(source: str, destination: str, protocol: str | None, source_port: int | None) -> int:
    """Say hop by hop which rule lets a flow through or stops it, there and back.

    FROM and TO: an instance (id or Name), an interface's id, an address, private or public, or `internet`. Exit code 1 when it
    does not arrive or is not answered.
    """
    place, port = _place_and_port(destination)
    body: dict[str, Any] = {"source": source, "destination": place, "protocol": protocol or ("icmp" if port is None else "tcp")}
    if port is not None:
        body["port"] = port
    if source_port is not None:
        body["source_port"] = source_port
    raw = options.client().send("POST", "net/trace", body)
    told = msgspec.json.decode(raw, type=TraceAnswer)
    if options.output() in (None, "table") and sys.stdout.isatty() and not options.quiet():
        print("\n".join(tree(told, coloured=colours(sys.stdout))))
    else:
        rows = [
            [way, _MARKS[step.passes][0], step.what, step.id, step.rule, step.sentence]
            for way, steps in (("there", told.there), ("back", told.back))
            for step in steps
        ]
        show(
            rows,
            ["WAY", "VERDICT", "WHAT", "ID", "RULE", "WHY"],
            data=msgspec.json.decode(raw),
            format=options.output(),
            quiet=options.quiet(),
            name_column=4,
        )
    if told.simulated:
        say("on a simulated host: the rules are these, packets there are none")
    return Exit.DONE if told.arrives and told.answered is not False else Exit.FAILED


def tree(told: TraceAnswer, *, coloured: bool) -> list[str]:
    """Lines for a terminal."""
    good = told.arrives and told.answered is not False
    lines = [f"{told.source.words} -> {told.destination.words}, {told.traffic}: {_paint(told.verdict, good, coloured)}"]
    for way, steps in (("there", told.there), ("back", told.back)):
        if steps:
            lines.append(way)
        for number, step in enumerate(steps, start=1):
            branch = "└─" if number == len(steps) else "├─"
            lines.append(f"{branch} {_mark(step, coloured)} {_decided_by(step)}: {step.sentence}")
    return lines


def _decided_by(step: TraceStep) -> str:
    return " ".join(word for word in (step.what, step.id, step.rule) if word)


def _mark(step: TraceStep, coloured: bool) -> str:
    return _paint(f"{_MARKS[step.passes][0]:4}", step.passes, coloured)


def _paint(text: str, good: bool | None, coloured: bool) -> str:
    return f"\x1b[{_MARKS[good][1]}m{text}\x1b[0m" if coloured else text


def _place_and_port(text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and not text.startswith("["):
        return text, None  # of IPv6, where a port needs brackets around the address
    place, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), None
    place = place.strip("[]")
    if not place or not re.fullmatch("[0-9]{1,5}", port):
        raise Failure(f"'{text}' is no place with a port", why="it is TO:PORT, as in web:443 or [fd00::9]:443", exit=Exit.USAGE)
    return place, int(port)
