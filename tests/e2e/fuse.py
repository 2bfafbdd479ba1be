"""`alto up` that kills itself, as by `kill -9`, right before a certain change that it makes.

A change is a commit, a file written or removed, a command that changes the kernel, a tap, a setting, a word to a machine.
While the file FUSE is in the state folder, changes are counted; before the N-th, as the file says, the process is gone.
Everything else is the product, unchanged. What was counted is in FUSE.log, one line for each change.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alto.daemons import allinone
from alto.drivers.network.nft import Nft
from alto.kit.world import World, real_world
from alto.store import sqlite

FUSE, LOG = "fuse", "fuse.log"
_FILES = ("write", "append", "remove", "remove_tree")
_READS = ("show", "list", "-json", "-j", "netns pids")


class Fuse:
    def __init__(self, state: Path) -> None:
        self._path = state / FUSE
        self._log = state / LOG
        self._burnt = 0

    def burn(self, what: str) -> None:
        try:
            limit = int(self._path.read_text())
        except (FileNotFoundError, ValueError):
            self._burnt = 0
            return
        self._burnt += 1
        with self._log.open("a") as log:
            log.write(f"{self._burnt} {what}\n")
        if self._burnt >= limit:
            os.kill(os.getpid(), signal.SIGKILL)


class _Fused:
    """`inner`, some methods of which burn the fuse before they begin. `label(name, arguments)`: None when nothing changes."""

    def __init__(self, inner: Any, fuse: Fuse, label: Callable[[str, tuple[Any, ...]], str | None]) -> None:
        self._inner, self._fuse, self._label = inner, fuse, label

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            what = self._label(name, arguments)
            if what is not None:
                self._fuse.burn(what)
            return method(*arguments, **named)

        return call


def _file(name: str, arguments: tuple[Any, ...]) -> str | None:
    return f"{name} {Path(arguments[0]).name}" if name in _FILES else None


def _process(name: str, arguments: tuple[Any, ...]) -> str | None:
    if name not in ("run", "spawn"):
        return None
    line = " ".join(map(str, arguments[0]))
    return None if name == "run" and any(read in line for read in _READS) else f"{name} {line[:60]}"


def _net(name: str, arguments: tuple[Any, ...]) -> str | None:
    return name if name in ("open_tap", "sysctl", "connect_unix") else None


def fused(world: World, fuse: Fuse) -> World:
    files: Any = _Fused(world.files, fuse, _file)
    processes: Any = _Fused(world.processes, fuse, _process)
    net: Any = _Fused(world.net, fuse, _net)
    return replace(world, files=files, processes=processes, net=net)


def main() -> int:
    state = Path(sys.argv[sys.argv.index("--state") + 1])
    fuse, commit = Fuse(state), sqlite._commit

    def commit_or_die(*arguments: Any) -> Any:
        fuse.burn("commit")
        return commit(*arguments)

    apply = Nft.apply

    async def apply_or_die(self: Nft, netns: str | None, text: str) -> None:
        if text:
            fuse.burn(f"nft {text[:40]!r}")
        await apply(self, netns, text)

    sqlite._commit = commit_or_die
    Nft.apply = apply_or_die  # type: ignore[method-assign]
    allinone.real_world = lambda: fused(real_world(), fuse)  # type: ignore[attr-defined]
    return allinone.main()


if __name__ == "__main__":
    sys.exit(main())
