"""One HTTP request and one answer, free of any server: what authentication and the gateway work on.

The path and the query are kept as they stood on the request line: what was signed is what is authorised, and nothing
decodes twice. Not here: sockets, ASGI (gateway.py).
"""

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import msgspec

Scope = MutableMapping[str, Any]  # of ASGI


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order in which they came
    body: bytes = b""
    named: dict[str, str] = {}  # from `headers`: the first of each name; those that matter are refused when they come twice

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "named", dict(reversed(self.headers)))

    def header(self, name: str) -> str | None:
        return self.named.get(name)


class HttpAnswer(NamedTuple):
    status: int
    body: bytes
    content_type: str
    request_id: str
    headers: tuple[tuple[str, str], ...] = ()  # more of them


# After these the rest of a body would be taken for the next request.
CLOSING = (408, 413)


def head_of(answer: HttpAnswer) -> list[tuple[bytes, bytes]]:
    """Its headers, as they are sent."""
    return [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", b"%d" % len(answer.body)),
        *([(b"x-amzn-requestid", answer.request_id.encode())] if answer.request_id else []),
        *((name.encode(), value.encode()) for name, value in answer.headers),
    ]
