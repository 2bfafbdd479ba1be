"""A machine's QMP monitor: commands with a bound on every wait, and the events that change a machine by itself.

QEMU's own library speaks the protocol. One socket serves one client: a second one is accepted by the kernel but never greeted.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError
from qemu.qmp.message import Message

from alto.drivers.compute.qemu.line import SocketLine
from alto.kit.world import World
from alto.model.errors import DriverFault

ANSWER_S = 2.0  # QEMU answers within milliseconds; a busy host may need more


class _Ear(EventListener):
    """Hands events on at once and keeps none. `unplugged` is set whenever the guest let go of a device."""

    def __init__(self, hear: Callable[[Message], None]) -> None:
        super().__init__(("SHUTDOWN", "RESET", "DEVICE_DELETED"))
        self._hear = hear
        self.unplugged = asyncio.Event()

    def accept(self, event: Message) -> bool:
        if super().accept(event):
            if event["event"] == "DEVICE_DELETED":
                self.unplugged.set()
            else:
                self._hear(event)
        return False


class NobodyListens(DriverFault):
    """There is no process behind the socket."""


class HypervisorRefused(DriverFault):
    """It answered, with an error; the cause has its words."""


# The library logs what it also raises.
_SILENT = logging.Logger("qmp", level=logging.CRITICAL + 1)


class Monitor:
    """`peer_pid` is the process that listens: QEMU itself, which calls listen() again on the socket that it inherits,
    soon after its start; for who connects before that, it is the process that made the socket.
    `broken`: the connection is of no use any more, whatever the process does."""

    def __init__(self, client: QMPClient, sock: socket.socket, peer_pid: int, unplugged: asyncio.Event) -> None:
        self._client = client
        self._sock = sock
        self.peer_pid = peer_pid
        self.unplugged = unplugged
        self.broken = False

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, pass_fd: int | None = None
    ) -> object:
        """`pass_fd` goes with the command; QEMU gets a copy of it. Raises: DriverFault: no answer in time, or no connection
        any more; HypervisorRefused."""
        try:
            async with asyncio.timeout(ANSWER_S):
                if pass_fd is not None:
                    # As the library's send_fd_scm, which knows no sockets of uvloop. QEMU skips the blank.
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", pass_fd))]
                    self._sock.sendmsg([b" "], rights)
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as error:
            raise DriverFault(f"The machine's hypervisor did not answer within {ANSWER_S:g} s") from error
        except ExecuteError as error:
            raise HypervisorRefused(f"The machine's hypervisor refused to {command}") from error
        except (QMPError, OSError, EOFError) as error:
            self.broken = True
            raise DriverFault("The machine's hypervisor is gone") from error

    async def status(self) -> str:
        """QEMU's RunState: "running", "paused", "shutdown"..."""
        answer = await self.execute("query-status")
        return str(answer["status"]) if isinstance(answer, dict) else ""

    async def has_line_free(self) -> bool:
        """Whether nobody is at the serial line, as far as QEMU has seen."""
        answer = await self.execute("query-chardev")
        lines = [one for one in answer if one.get("label") == "console"] if isinstance(answer, list) else []
        return any(str(one.get("filename")).startswith("disconnected:") for one in lines)

    async def close(self) -> None:
        # The library raises here whatever ended the connection earlier.
        with suppress(Exception):
            async with asyncio.timeout(ANSWER_S):
                await self._client.disconnect()


async def connect(world: World, path: Path, hear: Callable[[Message], None], *, timeout_s: float = ANSWER_S) -> Monitor:
    """Raises: DriverFault: nobody answers; NobodyListens."""
    client = QMPClient()
    client.logger = _SILENT
    ear = _Ear(hear)
    client.register_listener(ear)
    sock = await _connected(world, path, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(sock)
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except TimeoutError as error:
        sock.close()
        raise DriverFault(f"The machine's hypervisor did not answer within {timeout_s:g} s") from error
    except (QMPError, OSError, EOFError) as error:
        sock.close()
        raise DriverFault("The machine's hypervisor does not answer") from error
    return Monitor(client, sock, struct.unpack("3i", credentials)[0], ear.unplugged)


async def open_line(world: World, path: Path) -> SocketLine:
    """The machine's serial line. QEMU takes who comes next when the one before has gone. Raises: NobodyListens."""
    return SocketLine(await _connected(world, path, ANSWER_S))


async def _connected(world: World, path: Path, timeout_s: float) -> socket.socket:
    # By way of the folder's descriptor: a socket's path may have 107 bytes only.
    folder = world.files.open(path.parent)
    sock = world.net.open_socket(socket.AF_UNIX)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, f"/proc/self/fd/{folder}/{path.name}")
    except (ConnectionRefusedError, FileNotFoundError) as error:
        sock.close()
        raise NobodyListens("The machine's hypervisor is gone") from error
    except (OSError, TimeoutError) as error:
        sock.close()
        raise DriverFault("The machine's hypervisor does not answer") from error
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def listen(world: World, path: Path) -> socket.socket:
    """A socket that already listens, for QEMU to inherit: whoever connects is held by the kernel until QEMU is ready,
    so that nobody needs to try again and again."""
    world.files.remove(path)
    folder = world.files.open(path.parent)
    sock = world.net.open_socket(socket.AF_UNIX)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        sock.listen(8)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock
