"""Sit at an instance's serial console: keys go there, what it says comes here, until the escape key or its end.

Two connections, because one waits for the machine to speak: a thread hears, the main one types. The terminal is given back as
it was, however this ends.
"""

import base64
import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import Any

from alto.ui.cli.answers import Console, ConsoleSaid, Nothing
from alto.ui.cli.client import ApiFailure, Client
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say

ESCAPE, ESCAPE_NAME = b"\x1d", "Ctrl-]"  # as telnet and virsh have it
HEAR_S = 20.0
TYPED_BYTES_MAX = 4096
HINTS = {
    "SerialConsoleAccessDisabledException": "alto account serial-console on    (or: aws ec2 enable-serial-console-access)",
    "SerialConsoleSessionLimitExceededException": "the same with --take, if the one who has it may lose it",
}


class _End:
    """Why it ends; the first reason counts. `wake` is readable from then on."""

    def __init__(self) -> None:
        self.wake, self._write = os.pipe()
        self.why: str | None = None
        self.failure: Failure | None = None

    def come(self, why: str, failure: Failure | None = None) -> None:
        if self.why is None:
            self.why, self.failure = why, failure
            os.write(self._write, b".")


def sit(connect: Callable[[], Client], id: str, *, take: bool) -> None:
    """Until somebody leaves. Raises: Failure."""
    if not sys.stdin.isatty():
        raise Failure(
            "a live console needs a terminal",
            why="standard input is none",
            hint=f"alto instance console {id}    (what it said so far)",
            exit=Exit.USAGE,
        )
    client = connect()
    try:
        console = client.post(f"instances/{id}/console", {"take": take}, Console)
    except ApiFailure as failure:
        failure.hint = HINTS.get(failure.code, failure.hint)
        raise
    path = f"instances/{id}/console/{console.console_id}"
    end = _End()
    with _raw(sys.stdin.fileno()):
        # Only now: what is typed from here on is the guest's.
        say(f"At the serial console of {id}. Escape character is {ESCAPE_NAME}\r")
        # Not waited for: it may be waiting for the machine, and its answer is nobody's any more.
        threading.Thread(target=_hear, args=(connect(), path, end), daemon=True).start()
        _type(client, path, end)
    say(f"\n{end.why}")
    with contextlib.suppress(Failure):
        client.delete(path)
    if end.failure is not None:
        raise end.failure


def _hear(client: Client, path: str, end: _End) -> None:
    heard = 0
    try:
        while end.why is None:
            said = client.post(f"{path}/hear", {"heard": heard, "wait_s": HEAR_S}, ConsoleSaid)
            heard = said.heard
            if end.why is not None:
                return  # whoever left has his own terminal back
            if said.skipped:
                sys.stdout.buffer.write(b"\r\n[%d bytes came faster than they could be shown]\r\n" % said.skipped)
            sys.stdout.buffer.write(said.said)
            sys.stdout.buffer.flush()
            if said.ended:
                end.come("The console has ended: the instance is off")
    except Failure as failure:
        end.come("The console is lost", failure)


def _type(client: Client, path: str, end: _End) -> None:
    keyboard = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([keyboard, end.wake], [], [])
        if end.wake in ready:
            return
        keys = os.read(keyboard, TYPED_BYTES_MAX)
        before, escape, _ = keys.partition(ESCAPE)
        if before:
            try:
                client.post(f"{path}/type", {"data": base64.b64encode(before).decode()}, Nothing)
            except Failure as failure:
                end.come("The console is lost", failure)
                return
        if escape or not keys:
            end.come("Left the console; the instance runs on")
            return


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    handler = signal.signal(signal.SIGTERM, leave)
    tty.setraw(terminal, termios.TCSADRAIN)  # what was typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)
