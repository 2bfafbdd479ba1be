"""One HTTP request and one answer, free of any server: what authentication and the gateway work on.

The path and the query are kept as they stood on the request line: what was signed is what is authorised, and nothing
decodes twice. Not here: sockets, ASGI (gateway.py).
"""

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import msgspec

Scope = MutableMapping[str, Any]  # of ASGI
# In an ASGI scope: the body, when all of it came before anybody was told of the request, as it nearly always does.
WHOLE = "alto.whole"
# In an ASGI scope: a function (scope, status, headers, body) that answers at once, as most answers can be; it says False, and
# has done nothing, of one that must go the long way.
AT_ONCE = "alto.at_once"


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order in which they came
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first of this name; those that matter are refused when they come twice."""
        return dict(reversed(self.headers)).get(name)


class HttpAnswer(NamedTuple):
    status: int
    body: bytes
    content_type: str
    request_id: str
    headers: tuple[tuple[str, str], ...] = ()  # more of them
