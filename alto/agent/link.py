"""The server over HTTPS, as an agent of another machine has it: it dials out, and trusts one cloud's authority, nothing else.

The four calls of a session are JSON, one request each; a long poll carries the wishes. Whoever answers under another
authority is another cloud (or somebody in the middle), and hears nothing of ours: TLS ends before the first word.
"""

import ssl
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from alto.kit.certificates import fingerprint
from alto.kit.https import Answer, HttpsClient
from alto.kit.world import Net
from alto.model.errors import AltoError, Refused
from alto.model.joining import Introduction, Known, Problem, door_name
from alto.model.sessions import (
    AnswerCall,
    Assignments,
    AssignmentsCall,
    Hello,
    KeyAnswer,
    KeyCall,
    ReportCall,
    Reports,
    SessionLost,
)
from alto.model.shipments import PART_BYTES, PartCall, Shipment, ShipmentCall

PREFIX = "/alto/hosts/v1/"
CALL_S = 20.0
HELLO_S = 60.0  # it carries every manifest of this host
SHIPMENT_S = 3600.0  # the server may have to copy a large disk first, and read all of it
POLL_MARGIN_S = 10.0  # beyond what the server was asked to wait
SHORT_BYTES_MAX = 64 * 1024
ASSIGNMENTS_BYTES_MAX = 256 * 1024 * 1024
# The registered port for VXLAN (RFC 7348).
VXLAN_PORT = 4789

T = TypeVar("T")


class _Session(msgspec.Struct, frozen=True):
    session: str


def address_of(url: str) -> tuple[str, int]:
    """Raises: Refused: it is no https://HOST:PORT."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "https" or not parts.hostname or port is None or parts.path.strip("/"):
        raise Refused("InvalidParameterValue", f"'{url}' is no address of a cloud: it is https://HOST:PORT")
    return parts.hostname, port


class HttpsLink:
    """Implements `ServerLink` and `ImageSource`.

    `certificate`: PEM files of this host's certificate and key; None before it has joined."""

    def __init__(
        self, net: Net, url: str, *, cloud_id: str, authority: str, certificate: tuple[str, str] | None = None
    ) -> None:
        self._net = net
        self._url = url
        self._cloud_id = cloud_id
        self._authority = authority
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=authority)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        host, port = address_of(url)
        self._client = HttpsClient(net, host, port, context=context, name=door_name(cloud_id))

    async def hello(self, hello: Hello) -> str:
        if not hello.underlay:
            # Where the server is reached from is where other hosts most likely reach this one; known once it was reached.
            await self.known()
            address = self._client.local_address or ""
            host = f"[{address}]" if ":" in address else address
            hello = replace(hello, underlay=f"{host}:{VXLAN_PORT}" if host else "")
        answer = await self.call("hello", hello, timeout_s=HELLO_S)
        return _decode(answer, _Session).session

    async def assignments(self, session: str, *, timeout_s: float) -> Assignments | None:
        asked = AssignmentsCall(session=session, timeout_s=timeout_s)
        answer = await self.call(
            "assignments", asked, timeout_s=timeout_s + POLL_MARGIN_S, answer_bytes_max=ASSIGNMENTS_BYTES_MAX
        )
        return _decode(answer, Assignments) if answer.status != 204 else None

    async def report(self, session: str, reports: Reports) -> None:
        await self.call("report", ReportCall(session=session, reports=reports))

    async def answer(self, session: str, ask: str, data: bytes | None) -> None:
        await self.call("answer", AnswerCall(session=session, ask=ask, data=data))

    async def open_key(self, session: str, sealed: str) -> str:
        return _decode(await self.call("key", KeyCall(session=session, sealed=sealed)), KeyAnswer).key

    async def shipment(self, source: str) -> Shipment:
        return _decode(await self.call("image", ShipmentCall(source=source), timeout_s=SHIPMENT_S), Shipment)

    async def part(self, digest: str, start: int) -> bytes:
        return (await self.call("image-part", PartCall(digest=digest, start=start), answer_bytes_max=PART_BYTES)).body

    async def known(self) -> bool:
        """Whether we are a host of this cloud; False when we were one. Raises: Refused when it never heard of us."""
        return _decode(await self.call("known", None), Known).host

    def close(self) -> None:
        self._client.close()

    async def call(
        self, name: str, message: object, *, timeout_s: float = CALL_S, answer_bytes_max: int = SHORT_BYTES_MAX
    ) -> Answer:
        """Raises: Refused, SessionLost, OSError, TimeoutError."""
        body = msgspec.json.encode(message)
        try:
            answer = await self._client.call(
                "POST", PREFIX + name, body, timeout_s=timeout_s, answer_bytes_max=answer_bytes_max
            )
        except ssl.SSLCertVerificationError as error:
            raise await self._stranger(error) from error
        if answer.status < 400:
            return answer
        if answer.status == 410:
            raise SessionLost(name)
        problem = _problem(answer)
        if answer.status >= 500 or answer.status == 408:
            raise OSError(f"the server at {self._url} could not answer to {name}: {problem.message}")
        raise Refused(problem.code, problem.message, status=answer.status)

    async def _stranger(self, error: ssl.SSLCertVerificationError) -> AltoError:
        """Somebody else answers at our server's address: who, as far as they say it themselves?"""
        try:
            found = await introduction(self._net, self._url)
        except (OSError, TimeoutError, AltoError):
            return Refused("WrongCloud", f"Who answers at {self._url} is not cloud {self._cloud_id}: {error.verify_message}")
        if found.cloud_id != self._cloud_id:
            return Refused(
                "WrongCloud",
                f"At {self._url} answers cloud {found.cloud_id}, and this host belongs to {self._cloud_id}. Give the right "
                "address with --join, or a folder of its own with --state",
            )
        if fingerprint(found.authority) != fingerprint(self._authority):
            return Refused(
                "WrongCloud",
                f"At {self._url} answers another authority than the one that this host was given for cloud {self._cloud_id}: "
                "the cloud was made anew, or somebody is in between. Join again with a new token",
            )
        return Refused(
            "WrongCloud",
            f"The certificate of {self._url} is not good here: {error.verify_message}. Is this machine's clock right?",
        )


async def introduction(net: Net, url: str) -> Introduction:
    """Who answers at `url`, by their own word, unproven. Raises: Refused, OSError, TimeoutError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Nothing is told here and nothing believed: what is read is compared with a fingerprint that came another way.
    context.verify_mode = ssl.CERT_NONE
    host, port = address_of(url)
    client = HttpsClient(net, host, port, context=context, name=host)
    try:
        answer = await client.call("GET", PREFIX + "introduction", timeout_s=CALL_S, answer_bytes_max=SHORT_BYTES_MAX)
    except ssl.SSLError as error:
        raise Refused("NotADoor", f"{url} does not speak TLS as a cloud's door does: {error.reason or error}") from error
    finally:
        client.close()
    if answer.status != 200:
        raise Refused("NotADoor", f"{url} is no door of a cloud: it answers HTTP {answer.status}")
    return _decode(answer, Introduction)


def _decode(answer: Answer, type: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=type)
    except msgspec.MsgspecError as error:
        raise OSError(f"the server's answer is not understood: {error}") from error


def _problem(answer: Answer) -> Problem:
    try:
        return msgspec.json.decode(answer.body, type=Problem)
    except msgspec.MsgspecError:
        return Problem(code=f"HTTP {answer.status}", message=f"HTTP {answer.status}")
