"""Processes that outlive this one, found again by their pid file and command line.

A pid alone may be somebody else's by now; with a command line that names our own state folder it is not.
"""

from collections.abc import Sequence
from pathlib import Path

from alto.kit.world import Pid, World
from alto.model.errors import DriverFault

START_S = 10.0  # generous: a loaded machine; the process itself needs milliseconds
STOP_S = 3.0
POLL_S = 0.005
STARTS_MAX = 5
RETRY_S = 0.05
SIGTERM, SIGKILL = 15, 9


class Detached:
    """`pid_file` is written by the process itself; `marker` is an argument that only it has."""

    def __init__(self, world: World, *, name: str, pid_file: Path, marker: str, log: Path) -> None:
        self._world = world
        self._name = name
        self._pid_file = pid_file
        self._marker = marker.encode()
        self._log = log

    def find(self) -> Pid | None:
        try:
            number = int(self._world.files.read(self._pid_file))
            arguments = self._world.files.read(Path(f"/proc/{number}/cmdline")).split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return self._world.processes.find(number) if self._marker in arguments else None

    async def ensure(self, argv: Sequence[str], *, netns: str | None = None) -> Pid:
        """The process that runs, or a new one. Raises: DriverFault when it does not stay."""
        for _ in range(STARTS_MAX):
            found = self.find() or await self._start(argv, netns)
            if found is not None:
                return found
            # A predecessor that dies has lost its name already, and may hold its addresses for a moment yet.
            await self._world.clock.sleep(RETRY_S)
        raise DriverFault(f"{self._name} does not start on this host") from ValueError(self._last_words())

    async def _start(self, argv: Sequence[str], netns: str | None) -> Pid | None:
        started = await self._world.processes.spawn(argv, log=self._log, netns=netns)
        end = self._world.clock.monotonic() + START_S
        while self._world.clock.monotonic() < end:
            # Not always the one just started: it steps back for one that another driver left.
            found = self.find()
            if found is not None or not self._world.processes.alive(started):
                return found or self.find()
            await self._world.clock.sleep(POLL_S)
        self._world.processes.signal(started, SIGKILL)
        return None

    async def stop(self) -> None:
        found = self.find()
        if found is None:
            return
        self._world.processes.signal(found, SIGTERM)
        if not await self._world.processes.wait_gone(found, timeout_s=STOP_S):
            self._world.processes.signal(found, SIGKILL)
            if not await self._world.processes.wait_gone(found, timeout_s=STOP_S):
                raise DriverFault(f"{self._name} (process {found.pid}) does not end")
        self._world.files.remove(self._pid_file)

    def signal(self, signal: int) -> None:
        found = self.find()
        if found is not None:
            self._world.processes.signal(found, signal)

    def _last_words(self) -> str:
        try:
            lines = self._world.files.read(self._log).decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return "it said nothing"
        return lines[-1] if lines else "it said nothing"
