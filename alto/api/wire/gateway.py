"""The only door in: one HTTP request comes, is proven, parsed, dispatched and answered in AWS's words.

`Gateway` is a plain ASGI application; `handle` is the same without a server, `invoke` without HTTP and signatures (the
simulator, and facades that speak other protocols). Services are told apart by the credential scope. Everything under
`/alto/v1/` is what AWS has no word for: JSON, signed for service "alto", answered by the handler given as `extra`.

Invariant: whatever comes, what goes out is a well-formed error or answer of the service that was asked. A 500 is a bug of
ours and is in the log under its request id. Not here: what operations do.
"""

import asyncio
import hashlib
import re
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import structlog
from msgspec.structs import replace

from alto.api.auth.proof import AnyClaim, claim_of, prove
from alto.api.auth.sigv4 import Key, Principal
from alto.api.call import Call, Operation, Operations, Settings
from alto.api.ec2.errors import WireError, to_wire
from alto.api.rehearsal import Rehearsal, Rehearsed
from alto.api.wire.absent import told
from alto.api.wire.http import CLOSING, HttpAnswer, HttpRequest, Scope, head_of
from alto.api.wire.models import Models
from alto.api.wire.origins import preflight, shared
from alto.api.wire.query import Parser, decode_form
from alto.api.wire.requests import Honoured, honoured, unhonoured
from alto.api.wire.xml import Renderer, ec2_error, plain, query_error
from alto.kit.world import World
from alto.model.accounts import AccessKey, Account
from alto.model.errors import (
    AlreadyExists,
    AltoError,
    CapacityExceeded,
    Conflict,
    DriverFault,
    NoCapacity,
    NotFound,
    Refused,
    Unavailable,
)
from alto.store.store import Reader, Store

log = structlog.get_logger()

BODY_BYTES_MAX = 1 << 20  # the largest real request (user data, long rule lists) is a tenth of it
BODY_TIMEOUT_S = 20.0  # for the whole body, so that a trickle of bytes holds no memory for long
HEADERS_MAX = 100
LOCAL_PREFIX = "/alto/v1/"
LOCAL_SERVICE = "alto"

# What may come once only: two of them is how one server is made to read another request than the next.
_ONCE = {
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "authorization",
    "date",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
}
_FORM = "application/x-www-form-urlencoded"
_XML = "text/xml;charset=UTF-8"
_JSON = "application/json"

Message = MutableMapping[str, Any]


class LocalRequest(NamedTuple):
    """A request to `/alto/v1/`. `path` is what follows that prefix, as it stood on the request line."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


Extra = Callable[[Call, LocalRequest], Awaitable[tuple[int, Any]]]
"""Answers with a status and what `msgspec.json.encode` can write, or raises an AltoError."""

Prepare = Callable[[Call], Awaitable[None]]
"""Runs before an authenticated call does: what an account needs in a region is made at its first call there."""


class _Endpoint:
    """One operation: what it takes and what runs it."""

    __slots__ = ("honoured", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.honoured: Honoured = honoured(operation.request)


class _Service:
    def __init__(self, models: Models, name: str, operations: Operations) -> None:
        self.model = models.service(name)
        self.parser = Parser(self.model)
        self._models = models
        self._versions = models.versions(name)
        self._renderer = Renderer(self.model)
        self._older_renderers: dict[str, Renderer] = {}
        self._operations = operations
        self._endpoints: dict[str, _Endpoint] = {}

    def renderer(self, action: str, version: str | None) -> Renderer:
        """For an answer of what the API had in that version, as EC2 gives it: boto 2 takes a list that it does not know for
        more of what it lists. What the oldest model does not have, and operations that are newer, are not told apart."""
        if version is None or version >= self._versions[-1]:
            return self._renderer
        version = self._versions[max(bisect_right(self._versions, version) - 1, 0)]
        older = self._older_renderers.get(version)
        if older is None:
            older = Renderer(self._models.service(self.model.name, version), older=True)
            self._older_renderers[version] = older
        return older if older.knows(action) else self._renderer

    def endpoint(self, action: str) -> _Endpoint:
        """Raises: Refused (InvalidAction, UnsupportedOperation)."""
        endpoint = self._endpoints.get(action)
        if endpoint is None:
            if action not in self.model.operations:
                raise Refused("InvalidAction", f"The action {action[:100]} is not valid for this web service.")
            operation = self._operations.get(action)
            if operation is None:
                raise Refused("UnsupportedOperation", f"This cloud does not offer {action} yet.")
            endpoint = self._endpoints[action] = _Endpoint(operation)
        return endpoint


class Gateway:
    def __init__(
        self,
        world: World,
        store: Store,
        settings: Settings,
        models: Models,
        services: Mapping[str, Operations],
        extra: Extra | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._world = world
        self._store = store
        self._settings = settings
        self._services = {name: _Service(models, name, operations) for name, operations in services.items()}
        self._extra = extra
        self._prepare = prepare

    # HTTP.

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            request = await _read(scope, receive)
        except _Disconnected:
            return
        except Refused as refused:
            answer = self._error("ec2", to_wire(refused), self._request_id())
        else:
            answer = await self._handle_of_anybody(request)
        headers = head_of(answer)
        if answer.status in CLOSING:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})

    async def answer(
        self, method: str, path: bytes, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> HttpAnswer:
        """The same, for a server that has all of a request."""
        try:
            request = _request(method, path, query, headers, body)
        except Refused as refused:
            return self._error("ec2", to_wire(refused), self._request_id())
        return await self._handle_of_anybody(request)

    async def _handle_of_anybody(self, request: HttpRequest) -> HttpAnswer:
        """As `handle`, and web pages may see it."""
        if not _is_of_a_page(request):
            return await self.handle(request)
        return shared(preflight(request, self._request_id()) or await self.handle(request))

    async def handle(self, request: HttpRequest) -> HttpAnswer:
        """Answers whatever comes; raises nothing but cancellation."""
        request_id = self._request_id()
        local = request.path.startswith(LOCAL_PREFIX)
        name = LOCAL_SERVICE if local else ""
        try:
            claim = claim_of(request, old=self._settings.old_signatures)
            if not local and claim.scope.service != LOCAL_SERVICE:
                name = _service_of(claim, request)
            principal = prove(claim, request, now=self._world.clock.now(), key_of=self._key)
            if local:
                return await self._local(request, principal, request_id)
            return await self._aws(request, principal, _service_of(claim, request), request_id)
        except AltoError as error:
            name = name or _asked_service(request)
            wire = _local_wire(error) if local else to_wire(error)
            if error.retryable or wire.status == 500:
                log.warning("request failed", request_id=request_id, service=name, code=wire.code, error=str(error))
            return self._error(name, wire, request_id, request)
        except Exception:
            name = name or _asked_service(request)
            log.exception("request failed by a bug", request_id=request_id, service=name, path=request.path)
            return self._error(name, _INTERNAL, request_id, request)

    async def _aws(self, request: HttpRequest, principal: Principal, name: str, request_id: str) -> HttpAnswer:
        service = self._services.get(name)
        if service is None:
            offered = ", ".join(sorted(self._services))
            raise Refused("UnsupportedOperation", f"This cloud has no service '{name[:40]}' yet; it has {offered}.")
        action, version, pairs = _action(request, principal)
        endpoint = service.endpoint(action)
        parameters = service.parser.parse(action, pairs)
        result = await self._run(endpoint, self._call(principal, request_id, action), parameters)
        text = service.renderer(action, version).answer(action, result, request_id, version)
        return HttpAnswer(200, text, _XML, request_id)

    async def _local(self, request: HttpRequest, principal: Principal, request_id: str) -> HttpAnswer:
        if principal.scope.service != LOCAL_SERVICE:
            raise Refused("SignatureDoesNotMatch", f"Sign requests to {LOCAL_PREFIX} for service 'alto'", status=403)
        if self._extra is None:
            raise Refused("NotFound", f"There is nothing under {LOCAL_PREFIX} here", status=404)
        query = {name: value for name, value in decode_form(request.query) if name not in principal.parameters}
        path = request.path[len(LOCAL_PREFIX) :]
        call = self._call(principal, request_id, f"{request.method} {path}")
        if self._prepare is not None:
            await self._prepare(call)
        status, value = await self._extra(call, LocalRequest(request.method, path, query, request.body))
        return HttpAnswer(status, msgspec.json.encode(value), _JSON, request_id)

    # Without HTTP.

    def call(self, *, account: str, region: str, operator: bool = False, access_key_id: str = "") -> Call:
        """A call by somebody who needs no proof: a facade that has its own, or the simulator."""
        return Call(
            account=account,
            operator=operator,
            access_key_id=access_key_id,
            region=region if region in self._settings.regions else self._settings.regions[0],
            request_id=self._request_id(),
            operation="",
            digest="",
            world=self._world,
            store=self._store,
            settings=self._settings,
        )

    async def invoke(self, call: Call, operation: str, parameters: Mapping[str, Any], service: str = "ec2") -> dict[str, Any]:
        """Run one operation on parameters with the model's names. Raises: AltoError, with the same words as over HTTP."""
        endpoint = self._services[service].endpoint(operation)
        result: dict[str, Any] = plain(await self._run(endpoint, replace(call, operation=operation), dict(parameters)))
        return result

    async def _run(self, endpoint: _Endpoint, call: Call, parameters: dict[str, Any]) -> dict[str, Any]:
        dry = parameters.pop("DryRun", False)
        refused = unhonoured(endpoint.honoured, parameters)
        if refused is not None:
            raise Refused("UnsupportedOperation", f"{call.operation} does not support the parameter {refused} here.")
        if "ClientToken" in parameters:
            call = replace(call, digest=_digest(parameters))
        try:
            request = msgspec.convert(parameters, endpoint.operation.request)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        if self._prepare is not None:
            await self._prepare(call)
        if not dry:
            return await endpoint.operation.run(call, request)
        with suppress(Rehearsed):
            await endpoint.operation.run(replace(call, store=Rehearsal(call.store)), request)
        raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412)

    # Parts.

    def _request_id(self) -> str:
        digits = self._world.chance.hex(32)
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _key(self, access_key_id: str) -> Key | None:
        def body(reader: Reader) -> Key | None:
            key = reader.find(AccessKey, access_key_id)
            account = reader.find(Account, key.account) if key is not None else None
            if key is None or account is None:
                return None
            return Key(key.secret, account.id, account.operator)

        return self._store.read(body)

    def _call(self, principal: Principal, request_id: str, operation: str) -> Call:
        region = principal.scope.region
        return Call(
            account=principal.account,
            operator=principal.operator,
            access_key_id=principal.access_key_id,
            # euca2ools signs for "undefined-1"; the signature holds with any name, the rows live in ours.
            region=region if region in self._settings.regions else self._settings.regions[0],
            request_id=request_id,
            operation=operation,
            digest="",
            world=self._world,
            store=self._store,
            settings=self._settings,
        )

    def _error(self, name: str, wire: WireError, request_id: str, request: HttpRequest | None = None) -> HttpAnswer:
        if name == LOCAL_SERVICE:
            body = msgspec.json.encode({"error": {"code": wire.code, "message": wire.message}, "request_id": request_id})
            return HttpAnswer(wire.status, body, _JSON, request_id)
        if name == "ec2":
            return HttpAnswer(wire.status, ec2_error(wire.code, wire.message, request_id), _XML, request_id)
        service = self._services.get(name)
        if service is None and request is not None and (said := told(request, name, wire, request_id)) is not None:
            return HttpAnswer(wire.status, said.body, said.content_type, request_id, said.headers)
        xmlns = service.model.xmlns if service is not None else _NO_XMLNS
        return HttpAnswer(wire.status, query_error(xmlns, wire.code, wire.message, wire.status, request_id), _XML, request_id)


def _is_of_a_page(request: HttpRequest) -> bool:
    return request.header("origin") is not None and not request.path.startswith(LOCAL_PREFIX)


# The status of our own JSON API, whose codes are those of `model/errors.py` themselves.
_LOCAL_STATUS: Mapping[str, int] = {
    NotFound.code: 404,
    AlreadyExists.code: 409,
    CapacityExceeded.code: 409,
    NoCapacity.code: 409,
    Conflict.code: 503,
    DriverFault.code: 503,
    Unavailable.code: 503,
}


def _local_wire(error: AltoError) -> WireError:
    if isinstance(error, Refused):
        return WireError(error.aws_code, str(error), error.status)
    return WireError(error.code, str(error), _LOCAL_STATUS.get(error.code, 400))


_INTERNAL = WireError("InternalError", "An internal error has occurred", 500)
_NO_XMLNS = "http://webservices.amazon.com/AWSFault/2005-15-09"  # what AWS puts on errors of no service in particular


def _service_of(claim: AnyClaim, request: HttpRequest) -> str:
    """boto 2 signs for the first label of the host that it asks: "127" at 127.0.0.1. There is no service of such a name."""
    name = claim.scope.service
    return _asked_service(request) if name.isdigit() or name == "localhost" else name


def _asked_service(request: HttpRequest) -> str:
    """In whose words to refuse a request that does not say whom it asks."""
    return "sts" if "Version=2011-06-15" in request.query or b"Version=2011-06-15" in request.body[:4096] else "ec2"


def _action(request: HttpRequest, principal: Principal) -> tuple[str, str | None, list[tuple[str, str]]]:
    """The action, the version, and the other parameters, from the query and the body. Raises: Refused."""
    if request.method not in ("GET", "POST"):
        raise Refused("UnsupportedOperation", "Use GET or POST", status=405)
    pairs: Sequence[tuple[str, str]] = ()
    if request.query:
        pairs = decode_form(request.query)
    if request.body:
        kind = (request.header("content-type") or _FORM).partition(";")[0].strip().lower()
        if kind != _FORM:
            raise Refused("InvalidQueryParameter", f"The content type must be {_FORM}")
        if not request.body.isascii():
            raise Refused("MalformedQueryString", "The request is not a form")
        pairs = [*pairs, *decode_form(request.body.decode("ascii"))]
    if principal.parameters:
        pairs = [pair for pair in pairs if pair[0] not in principal.parameters]
    own = [pair for pair in pairs if pair[0] in _OWN]
    asked = dict(own)
    if len(asked) < len(own):
        raise Refused("InvalidQueryParameter", f"The parameter {_twice(own)} is given more than once")
    action, version = asked.get("Action"), asked.get("Version")
    if not action:
        raise Refused("MissingAction", "The request is missing an action or a required parameter.")
    if version is not None and version != _USUAL_VERSION and not _VERSION.fullmatch(version):
        raise Refused("NoSuchVersion", f"The requested version ({version[:40]}) of the service does not exist")
    return action, version, [pair for pair in pairs if pair[0] not in _OWN]


_OWN = frozenset({"Action", "Version"})  # what says which operation is asked for


def _twice(pairs: Sequence[tuple[str, str]]) -> str:
    """The first name that comes again."""
    names = [name for name, _ in pairs]
    return next(name for place, name in enumerate(names) if name in names[:place])


# Older clients name older versions of the same API, and read an answer in the namespace of theirs.
_USUAL_VERSION, _VERSION = "2016-11-15", re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")


def _digest(parameters: Mapping[str, Any]) -> str:
    """Of everything but the token, in an order that does not depend on the client's."""
    rest = {name: value for name, value in parameters.items() if name != "ClientToken"}
    return hashlib.blake2b(msgspec.json.encode(rest, order="deterministic"), digest_size=16).hexdigest()


_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`")


def _invalid(problem: str) -> Refused:
    """msgspec's complaint about a request struct, in AWS's words."""
    place = _PLACE.search(problem)
    where = place[1] if place else ""
    if missing := _MISSING.match(problem):
        name = f"{where}.{missing[1]}" if where else missing[1]
        return Refused("MissingParameter", f"The request must contain the parameter {name}")
    detail = _PLACE.sub("", problem).replace("`", "'")
    return Refused("InvalidParameterValue", f"The value of parameter {where} is invalid. {detail}.")


class _Disconnected(Exception):
    """The client went away before its request was whole."""


async def _read(scope: Scope, receive: Callable[[], Awaitable[Message]]) -> HttpRequest:
    """Raises: Refused (what no honest client sends), _Disconnected."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    request = _request(scope["method"], path, scope["query_string"], scope["headers"])
    if request.header("content-length") is None and request.header("transfer-encoding") is None:
        return request
    return replace(request, body=await _read_body(receive))


def _request(method: str, path: bytes, query: bytes, raw: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> HttpRequest:
    """Raises: Refused (what no honest client sends)."""
    if len(raw) > HEADERS_MAX:
        raise Refused("InvalidRequest", f"The request has more than {HEADERS_MAX} headers", status=431)
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
    once = [pair for pair in headers if pair[0] in _ONCE]
    seen = dict(once)
    if len(seen) < len(once):
        raise Refused("InvalidRequest", f"The header {_twice(once)} is given more than once")
    if "content-length" in seen and "transfer-encoding" in seen:
        raise Refused("InvalidRequest", "Content-Length and Transfer-Encoding exclude each other")
    if "host" not in seen:
        raise Refused("InvalidRequest", "The request has no Host header")
    if not (query.isascii() and path.isascii()):
        raise Refused("InvalidRequest", "The request line is not ASCII")
    if (stated := seen.get("content-length")) is not None:
        if not (stated.isascii() and stated.isdigit()):
            raise Refused("InvalidRequest", "Content-Length is no number")
        if len(stated) > 12 or int(stated) > BODY_BYTES_MAX:
            raise _too_large()
    if len(body) > BODY_BYTES_MAX:
        raise _too_large()
    return HttpRequest(method=method, path=path.decode("ascii"), query=query.decode("ascii"), headers=headers, body=body)


async def _read_body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_chunks(receive)
    except TimeoutError:
        raise Refused("RequestTimeout", f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s", status=408) from None


async def _read_chunks(receive: Callable[[], Awaitable[Message]]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large() -> Refused:
    return Refused("RequestEntityTooLarge", f"The body may have at most {BODY_BYTES_MAX} bytes", status=413)


async def _live(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
