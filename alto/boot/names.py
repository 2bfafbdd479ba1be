"""Names outside the VPC: a relay from a VPC's resolver to this machine's own, question by question, by UDP and by TCP.

The VPC's dnsmasq answers what it knows and asks here for the rest, when guests have a way out at all. Nothing is cached or
looked into: an answer goes back to who asked, with the number it was asked by. Bounded by questions that are open at once;
beyond that they are dropped, as DNS clients expect of a busy resolver.
"""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from alto.kit.world import World

RESOLV_CONF = Path("/etc/resolv.conf")
OPEN_MAX = 256
ANSWER_S = 5.0
DATAGRAM_MAX = 65535
HEADER = 12


def resolvers(text: str) -> list[str]:
    """The IPv4 name servers of a resolv.conf, in its order."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(str(IPv4Address(words[1])))
            except ValueError:
                continue  # an IPv6 one, which nothing here reaches
    return found


class NameRelay:
    """Serves until cancelled: `sock` takes datagrams, `listener` connections. `upstream()` names the servers to ask, at each
    question."""

    def __init__(
        self, world: World, sock: socket.socket, listener: socket.socket, upstream: Callable[[], list[tuple[str, int]]]
    ) -> None:
        self._world = world
        self._sock = sock
        self._listener = listener
        self._upstream = upstream
        self._open = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._accept(tasks), name="names by TCP")
            while True:
                question, asker = await loop.sock_recvfrom(self._sock, DATAGRAM_MAX)
                if len(question) >= HEADER and self._open < OPEN_MAX:
                    self._open += 1
                    tasks.create_task(self._relay(question, asker), name="name relay")

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            if self._open < OPEN_MAX:
                self._open += 1
                tasks.create_task(self._converse(connection), name="name relay")
            else:
                connection.close()

    async def _converse(self, connection: socket.socket) -> None:
        """One question after another, each with its length before it (RFC 1035, 4.2.2)."""
        try:
            with connection:
                while True:
                    async with asyncio.timeout(ANSWER_S):
                        question = await self._read(connection)
                    for server in self._upstream():
                        answer = await self._ask_by_tcp(server, question)
                        if answer is not None:
                            await asyncio.get_running_loop().sock_sendall(connection, answer)
                            break
                    else:
                        return
        except (OSError, TimeoutError, EOFError):
            pass  # who asked is gone, or has no more to ask
        finally:
            self._open -= 1

    async def _ask_by_tcp(self, server: tuple[str, int], question: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        with self._world.net.open_socket() as sock:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await loop.sock_connect(sock, server)
                    await loop.sock_sendall(sock, question)
                    return await self._read(sock)
            except (OSError, TimeoutError, EOFError):
                return None

    async def _read(self, sock: socket.socket) -> bytes:
        """A message with its length. Raises: EOFError."""
        head = await self._read_exactly(sock, 2)
        return head + await self._read_exactly(sock, int.from_bytes(head))

    async def _read_exactly(self, sock: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    async def _relay(self, question: bytes, asker: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            for server in self._upstream():
                answer = await self._ask(server, question)
                if answer is not None:
                    await loop.sock_sendto(self._sock, answer, asker)
                    return
        except OSError:
            pass  # who asked is gone
        finally:
            self._open -= 1

    async def _ask(self, server: tuple[str, int], question: bytes) -> bytes | None:
        """None when that server does not answer. A socket of its own for each question, so that its port is a new one and
        only that server can answer (RFC 5452)."""
        loop = asyncio.get_running_loop()
        with self._world.net.open_socket(type=socket.SOCK_DGRAM) as sock:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await loop.sock_connect(sock, server)
                    await loop.sock_sendall(sock, question)
                    while True:
                        answer = await loop.sock_recv(sock, DATAGRAM_MAX)
                        if answer[:2] == question[:2]:
                            return answer
            except (OSError, TimeoutError):
                return None
