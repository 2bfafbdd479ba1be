"""The hosts' door: agents' sessions as JSON over HTTPS, for machines that dial in from anywhere.

GET introduction: anybody. POST join: whoever has an invitation. POST known, hello, assignments, report, answer, key, image,
image-part: a host, told by the key of its certificate, which TLS proved. What else comes through the door is the API's
(`other`), so that EC2 is there over TLS as well.

Invariant: an agent speaks only for the host whose key it has, and only in that host's session; a host's word reaches nothing
that was not given to that host (`session.py` sees to it). Not here: what sessions say, and who is taken (`admission.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import msgspec
import structlog

from alto.api.hosts.admission import host_of, redeem
from alto.api.hosts.authority import Authority
from alto.api.hosts.session import HostSessions
from alto.api.wire.edge import BoundedHttp
from alto.kit.certificates import key_of_certificate, key_of_request
from alto.kit.world import World
from alto.model.errors import AltoError, NotFound, Refused
from alto.model.instances import Instance, Phase
from alto.model.joining import FormerHost, Introduction, Join, Joined, Known, Problem
from alto.model.sessions import AnswerCall, AssignmentsCall, Hello, KeyAnswer, KeyCall, ReportCall, SessionLost
from alto.model.shipments import ImageSource, PartCall, ShipmentCall
from alto.plan.joining import Connected
from alto.store.store import Reader, Store, Tx

log = structlog.get_logger()

PREFIX = "/alto/hosts/v1/"
JOIN_BYTES_MAX = 16 * 1024  # from anybody
SAID_BYTES_MAX = 64 * 1024 * 1024  # from a host: a hello lists every machine on it, each with its user data
BODY_TIMEOUT_S = 60.0
POLL_MAX_S = 30.0
KEY = "alto.key"  # in an ASGI scope: the key of the certificate that the client proved, or None

ID_DIGITS = 17

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
S = TypeVar("S")


class CertifiedHttp(BoundedHttp):
    """Tells the application whose certificate the connection came with."""

    _key: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der:
            try:
                self._key = key_of_certificate(der)
            except ValueError:
                self._key = None
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[KEY] = self._key  # type: ignore[literal-required]


class HostsDoor:
    """An ASGI application."""

    def __init__(
        self,
        world: World,
        store: Store,
        sessions: HostSessions,
        authority: Authority,
        other: App,
        images: ImageSource,
        *,
        cloud_id: str,
        public_pool: str,
    ) -> None:
        self._world = world
        self._store = store
        self._sessions = sessions
        self._authority = authority
        self._other = other
        self._images = images
        self._cloud_id = cloud_id
        self._public_pool = public_pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._other(scope, receive, send)
            return
        try:
            status, answer = await self._answer(scope, receive)
        except SessionLost as lost:
            status, answer = 410, Problem(code="SessionLost", message=str(lost))
        except Refused as refused:
            log.info("refused a host", path=scope["path"], client=_address(scope), code=refused.aws_code, why=str(refused))
            status, answer = refused.status, Problem(code=refused.aws_code, message=str(refused))
        except AltoError as error:
            log.warning("a host's call failed", path=scope["path"], error=str(error), cause=str(error.__cause__ or ""))
            status = 404 if isinstance(error, NotFound) else 503
            answer = Problem(code=error.code, message=str(error))
        except _Disconnected:
            return
        except Exception:
            log.exception("a host's call failed by a bug", path=scope["path"])
            status, answer = 500, Problem(code="InternalError", message="A bug of ours; the log of the server has it")
        body = b"" if status == 204 else answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        headers = [(b"content-length", b"%d" % len(body))]
        if status >= 400:
            # Also where the rest of a body that is too long would be taken for the next request.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, object]:
        key: str | None = scope.get(KEY)
        path = scope["path"].removeprefix(PREFIX)
        match (scope["method"], path):
            case ("GET", "introduction"):
                return 200, Introduction(cloud_id=self._cloud_id, authority=self._authority.certificate)
            case ("POST", "join"):
                return 200, await self._join(_decode(await _read(receive, JOIN_BYTES_MAX), Join))
            case ("POST", "known" | "hello" | "assignments" | "report" | "answer" | "key" | "image" | "image-part"):
                if key is None:
                    raise Refused("NoCertificate", "Only hosts of this cloud speak here, each with its certificate", status=401)
                host_id = self._store.read(lambda reader: host_of(reader, key))
                # Read only now: nobody else's long body is worth its memory.
                return await self._session(path, host_id, key, await _read(receive, SAID_BYTES_MAX))
        raise Refused("InvalidAction", f"There is no {scope['method']} {scope['path'][:200]}", status=404)

    async def _join(self, join: Join) -> Joined:
        try:
            key = key_of_request(join.request)
        except ValueError as error:
            raise Refused("InvalidParameterValue", f"The certificate request is not sound: {error}") from None
        host_id = "h-" + self._world.chance.hex(ID_DIGITS)
        now = self._world.clock.now()
        connected: list[Connected] = self._sessions.connected()

        def body(tx: Tx) -> tuple[str, str]:
            host = redeem(tx, join, key, host_id, connected, now)
            return host.id, host.name

        id, name = await self._store.write(body)
        log.info("a machine has joined", host=id, name=name, token=join.token_id)
        return Joined(
            cloud_id=self._cloud_id,
            host_id=id,
            name=name,
            certificate=self._authority.certify(join.request, id),
            public_pool=self._public_pool,
        )

    async def _session(self, path: str, host_id: str, key: str, body: bytes) -> tuple[int, object]:
        match path:
            case "known":
                return 200, Known(host=self._store.read(lambda reader: reader.find(FormerHost, key)) is None)
            case "hello":
                hello = msgspec.structs.replace(_decode(body, Hello), host_id=host_id, key=key)
                return 200, {"session": await self._sessions.hello(hello)}
            case "assignments":
                asked = _decode(body, AssignmentsCall)
                self._check(asked.session, key)
                timeout_s = min(max(asked.timeout_s, 0.0), POLL_MAX_S)
                news = await self._sessions.assignments(asked.session, timeout_s=timeout_s)
                return (204, None) if news is None else (200, news)
            case "key":
                disk = _decode(body, KeyCall)
                self._check(disk.session, key)
                return 200, KeyAnswer(key=await self._sessions.open_key(disk.session, disk.sealed))
            case "image":
                wanted = _decode(body, ShipmentCall)
                if not self._store.read(lambda reader: _needs_image(reader, host_id, wanted.source)):
                    raise Refused("UnauthorizedImage", "This host runs nothing that needs the image", status=403)
                return 200, await self._images.shipment(wanted.source)
            case "image-part":
                # Its digest, which nobody guesses, was told to those who may have it.
                part = _decode(body, PartCall)
                return 200, await self._images.part(part.digest, part.start)
            case "report":
                said = _decode(body, ReportCall)
                self._check(said.session, key)
                await self._sessions.report(said.session, said.reports)
                return 204, None
            case _:
                answer = _decode(body, AnswerCall)
                self._check(answer.session, key)
                await self._sessions.answer(answer.session, answer.ask, answer.data)
                return 204, None

    def _check(self, session: str, key: str) -> None:
        if not self._sessions.belongs(session, key):
            raise SessionLost(session)


def _needs_image(reader: Reader, host_id: str, source: str) -> bool:
    return any(
        one.image_source == source and one.phase is not Phase.TERMINATED for one in reader.where(Instance, host_id=host_id)
    )


class _Disconnected(Exception):
    pass


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise Refused("RequestTooLarge", f"More than {most} bytes are not read here", status=413)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused("RequestTimeout", "The request took too long to arrive", status=408) from None


def _decode(body: bytes, type: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refused("InvalidParameterValue", f"The message is not understood: {error}") from None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
