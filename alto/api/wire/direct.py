"""Ordinary requests go straight to who answers them, around ASGI: no scope, no cycle, no messages; nearly all are ordinary.

One is ordinary when all of it came at once, nothing is being answered on its connection, and its head asks for nothing but
an answer. Any other is uvicorn's, as if it had heard of it from the first byte. What an answer says does not depend on the
way. Who would rather speak another protocol is answered in this one. Not here: what requests mean (`gateway.py`), and the
bounds of connections (`edge.py`).
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from alto.api.wire.edge import GATHERED_BYTES_MAX, BoundedHttp
from alto.api.wire.http import CLOSING, HttpAnswer, head_of

URL_BYTES_MAX = 65_535  # more than that the library that takes addresses apart does not take
_METHODS = {b"GET": "GET", b"POST": "POST"}


class Direct(Protocol):
    """An application that can be asked without ASGI."""

    async def answer(
        self, method: str, path: bytes, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> HttpAnswer:
        """Path and query as they stood on the request line, names of headers in lower case. Raises nothing but cancellation."""


class _Nobody:
    def set(self) -> None:
        """Who waited for a body, or for the end of an answer, would hear of it."""


class _Answering:
    """What uvicorn asks of a request that is being answered."""

    def __init__(self) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True  # until the server ends
        self.message_event = _Nobody()
        self.body = b""


class DirectHttp(BoundedHttp):
    """For an application that is `Direct`."""

    _held = False  # a head is whole, and nobody was told of it
    _pieces: list[bytes]  # of its body, as far as it came
    _wishes = False  # that head asks for another protocol
    _rest_at = 0  # where in the data the parser stopped for that
    _task: asyncio.Task[None] | None = None  # the loop does not keep it

    def _feed(self, data: bytes) -> None:
        super()._feed(data)
        while self._held and self._wishes:
            data = self._head_without_wish() + data[self._rest_at :]
            self._parse_anew()
            super()._feed(data)
        if self._held:
            self._leave_it()

    def on_message_begin(self) -> None:
        self._in_head = True
        self.url = b""
        self.headers = []
        self._pieces = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._head_is_whole()
        self._held = True
        self._wishes = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._wishes:
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        # What may be no address is refused by uvicorn, which the parser has to hear from here.
        if busy or self.url[:1] != b"/" or len(self.url) > URL_BYTES_MAX:
            self._leave_it()

    def on_body(self, body: bytes) -> None:
        if self._held:
            self._pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._held and self._wishes:
            return
        if self._held and self._is_ordinary():
            self._begin()
            return
        if self._held:
            self._leave_it()
        super().on_message_complete()

    def _is_ordinary(self) -> bool:
        parser, url = self.parser, self.url
        return (
            parser.get_method() in _METHODS
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and url[:2] != b"//"
            and url.isascii()
            and b"#" not in url
            and not self.flow.write_paused
        )

    # Java's own HTTP client asks for HTTP/2 with the first request of each connection, whose body the parser does not take for
    # one: it stops behind the head, for what follows may be the other protocol. A new parser reads on from a head without the
    # wish: the old one takes no more when that head asks to close the connection, or is of HTTP/1.0.

    def _unsupported_upgrade_warning(self) -> None:
        stopped = sys.exception()
        assert stopped is not None
        (self._rest_at,) = stopped.args

    def _head_without_wish(self) -> bytes:
        self._held = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join((method, b" ", self.url, b" HTTP/", version, b"\r\n", *lines, b"\r\n"))

    def _parse_anew(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: a last request is answered

    def _leave_it(self) -> None:
        """To uvicorn, which hears all that it would have heard."""
        url, headers, expects, body = self.url, self.headers, self.expect_100_continue, b"".join(self._pieces)
        self._held, self._pieces = False, []
        if self.transport.is_closing():  # what followed was no HTTP, and was answered
            return
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        HttpToolsProtocol.on_headers_complete(self)
        if body:
            HttpToolsProtocol.on_body(self, body)

    def _begin(self) -> None:
        body, self._held, self._pieces = b"".join(self._pieces), False, []
        path, _, query = self.url.partition(b"?")
        method = _METHODS[self.parser.get_method()]
        answering = _Answering()
        self.cycle = answering  # type: ignore[assignment]
        app = cast(Direct, self.app)
        self._task = self.loop.create_task(self._answer(answering, app, method, path, query, self.headers, body))

    async def _answer(
        self,
        answering: _Answering,
        app: Direct,
        method: str,
        path: bytes,
        query: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        try:
            answer = await app.answer(method, path, query, headers, body)
        except BaseException as error:  # a bug of ours, or the end of the loop: whoever waits hears of it all the same
            self.logger.error("Exception in the application", exc_info=error)
            answering.keep_alive = False
            answer = HttpAnswer(500, b"Internal Server Error", "text/plain; charset=utf-8", "")
        answering.response_complete = True
        if answering.disconnected or self.transport.is_closing():
            return
        parts = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *head_of(answer)):
            parts += (name, b": ", value, b"\r\n")
        closing = answer.status in CLOSING or not answering.keep_alive
        parts.append(b"connection: close\r\n\r\n" if closing else b"\r\n")
        if len(answer.body) <= GATHERED_BYTES_MAX:
            self._write_now(b"".join((*parts, answer.body)))
        else:
            self._write_now(b"".join(parts))
            self._write_now(answer.body)
        if closing:
            self.transport.close()
        self.on_response_complete()
