"""A daemon that dies at a step: `python -m tests.e2e.dying MODULE ARGUMENTS...`, told by the file $ALTO_TEST_ARMED.

A step is what the process does to the world beyond its own memory: a file written or removed, a command run, a process started,
a tap opened, a transaction committed. While the file says a number, steps are counted; before that one, the process is gone as
by `kill -9`, and beside the file stands what it was about to do.
"""

import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import alto.agent.agent
import alto.agent.networks
from alto.kit import world as kit
from alto.store import sqlite

ARMED = Path(os.environ["ALTO_TEST_ARMED"])
FILES = ("write", "append", "remove", "remove_tree", "remove_folders", "make_dirs", "put_setting")
PROCESSES = ("run", "spawn", "signal")
NET = ("open_tap", "sysctl", "connect_unix")


class Steps:
    def __init__(self) -> None:
        self._armed = 0.0
        self._done = 0

    def step(self, what: str) -> None:
        try:
            armed, number = ARMED.stat().st_mtime_ns, int(ARMED.read_text() or 0)
        except (FileNotFoundError, ValueError):
            return
        if armed != self._armed:
            self._armed, self._done = armed, 0
        self._done += 1
        if self._done == number:
            ARMED.rename(ARMED.with_suffix(".fell"))
            ARMED.with_suffix(".fell").write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)


STEPS = Steps()


def stepping(part: Any, names: tuple[str, ...]) -> Any:
    """The same object, whose methods are steps."""
    for name in names:
        setattr(part, name, _counted(name, getattr(part, name)))
    return part


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        STEPS.step(f"{name} {arguments[0] if arguments else ''}")
        return method(*arguments, **more)

    return call


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    real = kit.real_world()
    world = replace(
        real,
        files=stepping(real.files, FILES),
        processes=stepping(real.processes, PROCESSES),
        net=stepping(real.net, NET),
    )
    write = sqlite.SqliteStore.write

    async def commit(self: Any, body: Callable[[Any], Any]) -> Any:
        STEPS.step("before a transaction")
        answer: Awaitable[Any] = await write(self, body)
        STEPS.step("after a transaction")
        return answer

    sqlite.SqliteStore.write = commit  # type: ignore[method-assign, assignment]
    # So that a network without machines goes within the test's time, and its removal has steps too.
    alto.agent.networks.NETWORK_IDLE_S = 0.0
    alto.agent.agent.SWEEP_S = 0.5
    module.real_world = lambda: world  # type: ignore[attr-defined]
    sys.exit(module.main(sys.argv[2:]))


if __name__ == "__main__":
    main()
