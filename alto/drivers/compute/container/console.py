"""A container's console as a serial line: what it says is read from its log, what is typed goes through a pipe (config.py)."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from alto.kit.world import World
from alto.model.errors import DriverFault

POLL_S = 0.02  # nobody types faster than he reads
TAKEN_S = 5.0
PIECE_BYTES = 16 * 1024


class LogLine:
    """A Line. `alive`: whether the machine is on; `carry`: sees to it that somebody reads the pipe."""

    def __init__(
        self, world: World, log: Path, pipe: int, *, alive: Callable[[], bool], carry: Callable[[], Awaitable[None]]
    ) -> None:
        """`pipe` is this line's to close."""
        self._world = world
        self._log = log
        self._pipe = pipe
        self._alive = alive
        self._carry = carry
        self._closed = False
        self._read = world.files.size(log) if world.files.exists(log) else 0
        os.set_blocking(pipe, False)

    async def read(self) -> bytes:
        while True:
            # Asked before: what a machine said last is read after its end.
            alive = self._alive() and not self._closed
            data = self._more()
            if data or not alive:
                return data
            await self._world.clock.sleep(POLL_S)

    async def write(self, data: bytes) -> None:
        end = self._world.clock.monotonic() + TAKEN_S
        while data:
            if self._closed or not self._alive():
                raise DriverFault("The serial console has ended")
            await self._carry()
            try:
                data = data[os.write(self._pipe, data) :]
            except BlockingIOError as error:
                if self._world.clock.monotonic() > end:
                    raise DriverFault("The machine does not read its serial console") from error
                await self._world.clock.sleep(POLL_S)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._pipe)

    def _more(self) -> bytes:
        try:
            size = self._world.files.size(self._log)
            if size < self._read:  # it was cut short: its older part is elsewhere
                self._read = 0
            data = self._world.files.part(self._log, self._read, PIECE_BYTES) if size > self._read else b""
        except FileNotFoundError:
            return b""
        self._read += len(data)
        return data
