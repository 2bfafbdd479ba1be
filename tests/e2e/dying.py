"""A daemon that dies at a step: `python -m tests.e2e.dying MODULE ARGUMENTS...`, as it is ordered by a file beside its state.

A step is what the process does to the world beyond its own memory: a file written or removed, a command that changes something,
a process started, an order to a hypervisor, rules given to the kernel, a tap opened, a transaction committed. While there is an
order, steps are counted; before the one that it names, the process is gone as by `kill -9`, and in the order's place stands
what it was about to do. Everything else is the product, unchanged, but for two waits that would be a test's whole time.
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
from alto.drivers.compute.qemu.monitor import Monitor
from alto.drivers.network.nft import Nft
from alto.kit import world as kit
from alto.store import sqlite

FILES = ("write", "append", "remove", "remove_tree", "remove_folders", "make_dirs", "put_setting")
PROCESSES = ("run", "spawn", "signal")
NET = ("open_tap", "sysctl", "connect_unix")
# Of commands that only look.
LOOKS = ("show", "list", "-json", "-j", "netns pids")


class Order:
    """To the daemon of a state folder: at which step it is to die."""

    def __init__(self, state: Path) -> None:
        self._armed = state.parent / f"{state.name}.armed"
        self._fell = state.parent / f"{state.name}.fell"

    def give(self, step: int) -> None:
        self._fell.unlink(missing_ok=True)
        self._armed.write_text(str(step))

    def take_back(self) -> str | None:
        """What it was about to do when it died; None when it did not."""
        self._armed.unlink(missing_ok=True)
        return self.about()

    def about(self) -> str | None:
        return self._fell.read_text() if self._fell.exists() else None

    def read(self) -> tuple[float, int] | None:
        """The daemon's: which order it is, and the step."""
        try:
            return self._armed.stat().st_mtime_ns, int(self._armed.read_text() or 0)
        except (FileNotFoundError, ValueError):
            return None

    def follow(self, what: str) -> None:
        try:
            self._armed.rename(self._fell)
        except FileNotFoundError:
            return  # taken back at the last moment
        self._fell.write_text(what)
        os.kill(os.getpid(), signal.SIGKILL)


class Steps:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._given = 0.0
        self._done = 0

    def step(self, what: str) -> None:
        found = self._order.read()
        if found is None:
            return
        given, number = found
        if given != self._given:
            self._given, self._done = given, 0
        self._done += 1
        if self._done == number:
            self._order.follow(what)

    def counting(self, part: Any, names: tuple[str, ...]) -> Any:
        """The same object, whose methods are steps."""
        for name in names:
            setattr(part, name, self._counted(name, getattr(part, name)))
        return part

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            first = arguments[0] if arguments else ""
            words = " ".join(map(str, first)) if isinstance(first, list | tuple) else str(first)
            if name != "run" or not any(look in words for look in LOOKS):
                self.step(f"{name} {words}")
            return method(*arguments, **more)

        return call


def main() -> None:
    module, arguments = importlib.import_module(sys.argv[1]), sys.argv[2:]
    steps = Steps(Order(Path(arguments[arguments.index("--state") + 1])))
    real = kit.real_world()
    world = replace(
        real,
        files=steps.counting(real.files, FILES),
        processes=steps.counting(real.processes, PROCESSES),
        net=steps.counting(real.net, NET),
    )
    write, apply, execute = sqlite.SqliteStore.write, Nft.apply, Monitor.execute

    async def commit(self: Any, body: Callable[[Any], Any], *, patient: bool = False) -> Any:
        steps.step("before a transaction")
        answer: Awaitable[Any] = await write(self, body, patient=patient)
        steps.step("after a transaction")
        return answer

    async def rule(self: Nft, netns: str | None, text: str) -> None:
        if text:
            steps.step(f"nft {text[:40]!r}")
        await apply(self, netns, text)

    async def order(self: Monitor, command: str, *arguments: Any, **more: Any) -> Any:
        if not command.startswith("query-") and command != "qom-list":
            steps.step(f"qmp {command}")
        return await execute(self, command, *arguments, **more)

    sqlite.SqliteStore.write = commit  # type: ignore[method-assign, assignment]
    Nft.apply = rule  # type: ignore[method-assign]
    Monitor.execute = order  # type: ignore[method-assign]
    # So that a network without machines goes within the test's time, and its removal has steps too.
    alto.agent.networks.NETWORK_IDLE_S = 0.0
    alto.agent.agent.SWEEP_S = 0.5
    module.real_world = lambda: world  # type: ignore[attr-defined]
    sys.exit(module.main(arguments))


if __name__ == "__main__":
    main()
