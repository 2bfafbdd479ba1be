"""A client for HTTP/1.1 over TLS to one server: small, asynchronous, with kept connections.

The trust is whatever the caller's context says. Every exchange has a deadline and a bound on the answer. A kept connection
that the server closed meanwhile is replaced and the request sent again, so it is for requests that may arrive twice.
Not here: redirects, cookies, proxies, compression; nobody asked for them may be sent elsewhere.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from alto.kit.world import Net

HEAD_BYTES_MAX = 64 * 1024
CONNECT_S = 10.0
# Kept idle: a long poll, a report and a few answers at the same time.
IDLE_MAX = 4


class Answer(NamedTuple):
    status: int
    body: bytes


class ProtocolError(OSError):
    """What came back is not HTTP as we speak it."""


class HttpsClient:
    """`name` is what the server's certificate must be for, whatever the address."""

    def __init__(self, net: Net, host: str, port: int, *, context: ssl.SSLContext, name: str) -> None:
        self._net = net
        self._host, self._port = host, port
        self._context = context
        self._name = name
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.local_address: str | None = None  # ours, on the last connection that was made

    async def call(self, method: str, path: str, body: bytes = b"", *, timeout_s: float, answer_bytes_max: int) -> Answer:
        """Raises: OSError (ssl.SSLError among them), TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self._idle:
                kept = self._idle.pop()
                try:
                    return await self._exchange(kept, method, path, body, answer_bytes_max)
                except ConnectionError:
                    continue
            async with asyncio.timeout(CONNECT_S):
                fresh = await self._net.connect(self._host, self._port, tls=self._context, name=self._name)
            self.local_address = fresh[1].get_extra_info("sockname")[0]
            return await self._exchange(fresh, method, path, body, answer_bytes_max)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _exchange(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        method: str,
        path: str,
        body: bytes,
        answer_bytes_max: int,
    ) -> Answer:
        reader, writer = connection
        keep = False
        try:
            head = f"{method} {path} HTTP/1.1\r\nhost: {self._name}\r\ncontent-length: {len(body)}\r\n"
            head += "content-type: application/json\r\n\r\n" if body else "\r\n"
            writer.write(head.encode("ascii") + body)
            await writer.drain()
            try:
                raw = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise ConnectionResetError("the server closed the connection") from error
            except asyncio.LimitOverrunError as error:
                raise ProtocolError("the head of the answer is too long") from error
            status, headers = _parse(raw)
            length = headers.get("content-length", "0" if status == 204 else "")
            if not length.isdigit():
                raise ProtocolError("the answer does not say how long it is")
            if int(length) > answer_bytes_max:
                raise ProtocolError(f"the answer has {length} bytes, more than {answer_bytes_max}")
            try:
                data = await reader.readexactly(int(length))
            except asyncio.IncompleteReadError as error:
                raise ConnectionResetError("the server closed the connection in the middle of an answer") from error
            keep = headers.get("connection", "").lower() != "close" and len(self._idle) < IDLE_MAX
            return Answer(status, data)
        finally:
            if keep:
                self._idle.append(connection)
            else:
                writer.close()


def _parse(head: bytes) -> tuple[int, Mapping[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or words[0] != "HTTP/1.1" or not words[1].isdigit():
        raise ProtocolError("the answer is not HTTP/1.1")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return int(words[1]), headers
