"""A machine's serial line as the end of a stream socket."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alto.model.errors import DriverFault

TAKEN_S = 5.0  # a guest that reads its line takes what a person types at once
PIECE_BYTES = 4096


class SocketLine:
    """A Line."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._closed = False
        self._users = 0

    async def read(self) -> bytes:
        try:
            with self._in_use():
                return await asyncio.get_running_loop().sock_recv(self._sock, PIECE_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            with self._in_use():
                async with asyncio.timeout(TAKEN_S):
                    await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except TimeoutError as error:
            raise DriverFault("The machine does not read its serial console") from error
        except OSError as error:
            raise DriverFault("The serial console has ended") from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            # Who reads still comes to the end of it at once.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._close_unused()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """The loop must have let go of a descriptor before its number is another's."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users:
            self._sock.close()
