"""The instance metadata service: HTTP/1.1 inside a VPC's namespace, with AWS's rules about tokens.

Who asks is known by where the connection comes from: the caller binds one server per namespace, and anti-spoofing makes the
peer's address true there. Nothing in a request can name another instance. Everything a guest can send is bounded: the size of
a head, the time it may take, how many connections one guest may hold.

Not here: what is answered (boot/metadata.py), and namespaces (daemons/edge.py).
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from alto.boot.metadata import VERSIONS, find, tree_of
from alto.kit.world import World
from alto.model.instances import Machine
from alto.model.network_plans import NetworkPlan
from alto.model.networks import METADATA_ADDRESS, METADATA_ADDRESS_V6

HEAD_MAX = 8 * 1024  # bytes of request line and headers; AWS refuses long ones too
HEADERS_MAX = 64
BODY_MAX = 4 * 1024  # of a PUT, which needs none; read and thrown away
IDLE_S = 30.0  # a guest's keep-alive connection may be silent so long
CONNECTIONS_MAX = 64  # of one guest
TOKEN_TTL_MAX_S = 21600
HOPS_MAX = 64

_NOT_FOUND = """<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{status} - {phrase}</title>
 </head>
 <body>
  <h1>{status} - {phrase}</h1>
 </body>
</html>
"""


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """The instance behind a connection."""

    machine: Machine
    plan: NetworkPlan


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    version: str
    headers: dict[str, str]  # names in lower case

    @property
    def keeps_alive(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" if self.version == "HTTP/1.0" else wish != "close"


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: HTTPStatus
    body: bytes = b""
    type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()
    hops: int | None = None  # IP TTL of the answer


class _Malformed(Exception):
    pass


_NAMES = tuple(f"{name}{port}" for name in (METADATA_ADDRESS, f"[{METADATA_ADDRESS_V6}]") for port in ("", ":80"))


class MetadataService:
    """`find_asker(peer address)` is asked for every request, so that what it knows is never older than the request."""

    def __init__(self, world: World, *, key: bytes, find_asker: Callable[[str], Asker | None]) -> None:
        self._clock = world.clock
        self._key = key
        self._find_asker = find_asker
        self._connections: dict[str, set[asyncio.StreamWriter]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: str = writer.get_extra_info("peername")[0]
        open_now = self._connections.setdefault(peer, set())
        open_now.add(writer)
        try:
            if len(open_now) <= CONNECTIONS_MAX:
                while await self._exchange(reader, writer, peer):
                    pass
        except (OSError, TimeoutError, EOFError):
            pass  # the guest went away, or says nothing
        finally:
            open_now.discard(writer)
            if not open_now:
                self._connections.pop(peer, None)
            writer.close()

    def close(self) -> None:
        """Cut what is open."""
        for writers in list(self._connections.values()):
            for writer in list(writers):
                writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> bool:
        """One request; whether another may follow."""
        async with asyncio.timeout(IDLE_S):
            try:
                request = await _read_request(reader)
            except (_Malformed, ValueError, asyncio.LimitOverrunError):
                _write(writer, _error(HTTPStatus.BAD_REQUEST), head_only=False, keep=False)
                await writer.drain()
                return False
            if request is None:
                return False
            answer = self._answer(request, peer)
            if answer.hops is not None:
                # Stays so for the connection: a late copy of the token must not reach further than the first one.
                hops = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if ":" in peer else (socket.IPPROTO_IP, socket.IP_TTL)
                writer.get_extra_info("socket").setsockopt(*hops, answer.hops)
            keep = request.keeps_alive and answer.status is not HTTPStatus.BAD_REQUEST
            _write(writer, answer, head_only=request.method == "HEAD", keep=keep)
            await writer.drain()
            return keep

    def _answer(self, request: _Request, peer: str) -> _Answer:
        # Another name that leads here is somebody else's page speaking through the guest's browser (DNS rebinding).
        host = request.headers.get("host")
        if (host is None and request.version != "HTTP/1.0") or host not in (
            None,
            *_NAMES,
        ):
            return _error(HTTPStatus.FORBIDDEN if host else HTTPStatus.BAD_REQUEST)
        asker = self._find_asker(peer)
        if asker is None:
            return _error(HTTPStatus.NOT_FOUND)
        if not asker.machine.metadata.enabled:
            return _error(HTTPStatus.FORBIDDEN)
        path = tuple(part for part in request.path.partition("?")[0].split("/") if part)
        if path[1:] == ("api", "token") and path[0] in VERSIONS:
            return self._token(request, asker)
        if request.method not in ("GET", "HEAD"):
            return _error(HTTPStatus.METHOD_NOT_ALLOWED)
        token = request.headers.get("x-aws-ec2-metadata-token")
        if token is None and asker.machine.metadata.tokens_required:
            return _error(HTTPStatus.UNAUTHORIZED)
        if token is not None and not self._is_valid(token, asker.machine):
            return _error(HTTPStatus.UNAUTHORIZED)
        return _look_up(path, asker)

    def _token(self, request: _Request, asker: Asker) -> _Answer:
        if request.method != "PUT":
            return _error(HTTPStatus.METHOD_NOT_ALLOWED)
        if "x-forwarded-for" in request.headers:
            # A proxy that forwards PUTs would hand tokens to strangers; AWS refuses these too.
            return _error(HTTPStatus.FORBIDDEN)
        wish = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not (wish.isascii() and wish.isdigit() and len(wish) <= 5 and 1 <= int(wish) <= TOKEN_TTL_MAX_S):
            return _error(HTTPStatus.BAD_REQUEST)
        return _Answer(
            status=HTTPStatus.OK,
            body=self._signed(int(self._clock.now()) + int(wish), asker.machine),
            headers=(("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", wish),),
            hops=min(max(asker.machine.metadata.hop_limit, 1), HOPS_MAX),
        )

    def _signed(self, expires_at: int, machine: Machine) -> bytes:
        """A token needs no memory: it is its own end, signed for one instance."""
        end = struct.pack("!Q", expires_at)
        proof = hmac.digest(self._key, end + machine.id.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(end + proof)

    def _is_valid(self, token: str, machine: Machine) -> bool:
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except ValueError:
            return False
        if len(raw) != 40:
            return False
        expires_at: int = struct.unpack("!Q", raw[:8])[0]
        expected = hmac.digest(self._key, raw[:8] + machine.id.encode(), hashlib.sha256)
        return hmac.compare_digest(expected, raw[8:]) and self._clock.now() < expires_at


def _look_up(path: tuple[str, ...], asker: Asker) -> _Answer:
    if not path:
        return _Answer(status=HTTPStatus.OK, body="\n".join(VERSIONS).encode())
    if path[0] not in VERSIONS:
        return _error(HTTPStatus.NOT_FOUND)
    body = find(tree_of(asker.machine, asker.plan), path[1:])
    if body is None:
        return _error(HTTPStatus.NOT_FOUND)
    return _Answer(
        status=HTTPStatus.OK,
        body=body,
        type="application/octet-stream" if path[1:] == ("user-data",) else "text/plain",
    )


def _error(status: HTTPStatus) -> _Answer:
    page = _NOT_FOUND.format(status=status.value, phrase=status.phrase)
    return _Answer(status=status, body=page.encode(), type="text/html")


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """None when the guest has nothing more to ask. Raises: _Malformed."""
    size = 0
    lines: list[str] = []
    while True:
        line = await reader.readline()
        size += len(line)
        if size > HEAD_MAX or len(lines) > HEADERS_MAX:
            raise _Malformed
        if not line.endswith(b"\n"):
            if lines or line:
                raise _Malformed
            return None
        text = line.rstrip(b"\r\n").decode("latin-1")
        if text:
            lines.append(text)
        elif lines:
            break
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or not words[1].startswith("/"):
        raise _Malformed
    headers: dict[str, str] = {}
    for field in lines[1:]:
        name, colon, value = field.partition(":")
        name = name.lower()
        # A folded line, a space before the colon or a second Host are how requests are smuggled.
        if not colon or not name or name != name.strip() or name in headers:
            raise _Malformed
        headers[name] = value.strip()
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()) or int(length) > BODY_MAX:
        raise _Malformed
    await reader.readexactly(int(length))
    return _Request(method=words[0], path=words[1], version=words[2], headers=headers)


def _write(writer: asyncio.StreamWriter, answer: _Answer, *, head_only: bool, keep: bool) -> None:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.type}",
        f"Content-Length: {len(answer.body)}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        "Server: EC2ws",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    writer.write(head if head_only else head + answer.body)
