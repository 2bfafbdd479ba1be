"""Bounds that the HTTP server does not set: how many connections, how large and how slow the head of a request may be.

uvicorn's parser (llhttp, strict) refuses what smuggles requests: both lengths, two lengths, folded headers, bare CR or LF,
odd chunk sizes. It does not bound the bytes of a head, and waits for ever for its end. Bodies are bounded by the gateway.
What uvicorn does for each request and an ordinary one need not have is spared here, too: an answer leaves in one piece, and
one timer watches an idle connection. Not here: TLS, and what requests mean.
"""

import asyncio
from typing import cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

HEAD_BYTES_MAX = 64 * 1024  # the longest honest request line is a presigned GET of some kilobytes
HEAD_TIMEOUT_S = 10.0
# Open at once. Half of the 1,024 descriptors that a process usually may have: the other half is for machines and files.
CONNECTIONS_MAX = 512


# A body up to this size is worth copying, so that it leaves in one packet with its head.
GATHERED_BYTES_MAX = 64 * 1024


class _Gathering:
    """A transport that sends what is written within one turn of the loop in one piece: uvicorn writes the head of an answer
    and its body one after the other, and each write is a system call and a packet that wakes the client."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self.is_closing = transport.is_closing  # asked for each answer

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        if len(data) > GATHERED_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if sum(map(len, waiting)) > GATHERED_BYTES_MAX:
            for data in waiting:
                self._transport.write(data)
        elif waiting:
            self._transport.write(b"".join(waiting))

    def write_now(self, data: bytes) -> None:
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


class BoundedHttp(HttpToolsProtocol):
    _deadline: asyncio.TimerHandle | None = None
    _idle_since: float | None = None  # on the loop's clock; None: a request is here, or on its way
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()
        if len(self.connections) > CONNECTIONS_MAX:
            log.warning("refused a connection: too many are open", client=self.client and self.client[0])
            self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        self._feed(data)
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            # Of most requests the head comes whole. The server has just stopped its own clock for idle connections.
            self._await_head()
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            log.info("refused a request head that is too large", client=self.client and self.client[0])
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def _write_now(self, data: bytes) -> None:
        cast(_Gathering, self.transport).write_now(data)

    def _feed(self, data: bytes) -> None:
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_whole()
        super().on_headers_complete()

    # How long a connection may be idle. uvicorn starts a timer with each answer and ends it with the next request; here one
    # goes on beside the requests, and looks when it rings.

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self.cycle.body = bytearray()  # a connection may be idle for long
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _look_again(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._look_again(left_s)
        else:
            self.timeout_keep_alive_handler()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _head_is_whole(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._deadline is not None:
            self._head_is_here()

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.close()
