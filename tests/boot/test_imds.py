"""Goal: the metadata service speaks HTTP and AWS's rules of tokens, to whoever connects and whatever they send.

Method: a real server on a loopback port, asked byte by byte. A clock that the test turns, for tokens that end.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alto.boot.imds import CONNECTIONS_MAX, Asker, MetadataService
from alto.kit.world import World, real_world
from alto.model.instances import Machine, MetadataOptions
from tests.drivers.network.samples import machine, plan

HOST = "Host: 169.254.169.254\r\n"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
ID = "/latest/meta-data/instance-id"


@dataclass
class HandClock:
    at: float = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Service:
    """One metadata service; every connection comes from `machine`."""

    def __init__(self, known: Machine | None, clock: HandClock | None = None, key: bytes = b"k" * 32) -> None:
        self.clock = clock or HandClock()
        world: World = replace(real_world(), clock=self.clock)
        self.machine = known
        self.service = MetadataService(world, key=key, find_asker=self._find)

    def _find(self, address: str) -> Asker | None:
        assert address == "127.0.0.1"
        return Asker(machine=self.machine, plan=plan()) if self.machine else None

    async def __aenter__(self) -> "Service":
        self.server = await asyncio.start_server(self.service.serve, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        self.service.close()

    async def raw(self, data: bytes, *, end: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection(*self.address)
        async with asyncio.timeout(5):
            writer.write(data)
            if end:
                writer.write_eof()
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        writer.close()
        return answer

    async def ask(self, path: str = ID, method: str = "GET", *headers: str) -> Reply:
        text = "".join(f"{header}\r\n" for header in headers)
        head, _, body = (await self.raw(f"{method} {path} HTTP/1.1\r\n{HOST}{text}\r\n".encode())).partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return Reply(int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body)

    async def token(self, ttl: str = "60", *headers: str) -> Reply:
        return await self.ask("/latest/api/token", "PUT", f"{TTL}: {ttl}", *headers)


def run(scenario: Callable[[Service], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with Service(machine(1)) as service:
            await scenario(service)

    asyncio.run(all_of_it())


def with_options(**options: object) -> Machine:
    return machine(1, metadata=MetadataOptions(**options))  # type: ignore[arg-type]


def test_version_one_needs_no_token_unless_it_does() -> None:
    async def scenario(service: Service) -> None:
        reply = await service.ask()
        assert (reply.status, reply.body) == (200, b"i-00000000000000001")
        assert reply.headers["Content-Type"] == "text/plain"
        service.machine = with_options(tokens_required=True)
        assert (await service.ask()).status == 401
        token = (await service.token()).body.decode()
        assert (await service.ask(ID, "GET", f"{TOKEN}: {token}")).body == b"i-00000000000000001"

    run(scenario)


def test_a_token_is_for_one_instance_and_for_its_time() -> None:
    async def scenario(service: Service) -> None:
        reply = await service.token("60")
        assert reply.headers[TTL.title()] == "60"
        header = f"{TOKEN}: {reply.body.decode()}"
        assert len(reply.body) == 56  # as AWS's are
        assert (await service.ask(ID, "GET", header)).status == 200
        service.clock.at += 59
        assert (await service.ask(ID, "GET", header)).status == 200
        service.clock.at += 1
        assert (await service.ask(ID, "GET", header)).status == 401
        service.clock.at -= 60
        service.machine = machine(2)
        assert (await service.ask(ID, "GET", header)).status == 401
        service.machine = machine(1)
        async with Service(machine(1), service.clock, key=b"x" * 32) as stranger:
            assert (await stranger.ask(ID, "GET", header)).status == 401
        for bad in ("", "x", "A" * 56, "é" * 10, reply.body.decode()[:-4] + "AAA="):
            assert (await service.ask(ID, "GET", f"{TOKEN}: {bad}")).status == 401, bad

    run(scenario)


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "", "x", "1.5", "99999999", "1e2", "٣"])
def test_a_token_has_a_life_between_a_second_and_six_hours(ttl: str) -> None:
    async def scenario(service: Service) -> None:
        assert (await service.token(ttl)).status == 400
        assert (await service.token("1")).status == 200
        assert (await service.token("21600")).status == 200
        assert (await service.ask("/latest/api/token", "PUT")).status == 400

    run(scenario)


def test_proxies_and_other_names_are_refused() -> None:
    async def scenario(service: Service) -> None:
        assert (await service.token("60", "X-Forwarded-For: 10.0.0.1")).status == 403
        assert (await service.token("60", "x-forwarded-for:")).status == 403
        answer = await service.raw(f"GET {ID} HTTP/1.1\r\nHost: attacker.example\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403")
        answer = await service.raw(f"GET {ID} HTTP/1.1\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400")
        # busybox and printf | nc speak 1.0 without a Host.
        answer = await service.raw(f"GET {ID} HTTP/1.0\r\n\r\n".encode(), end=False)
        assert answer.endswith(b"\r\n\r\ni-00000000000000001")

    run(scenario)


def test_the_tokens_answer_gets_as_far_as_the_instance_allows() -> None:
    async def scenario(service: Service) -> None:
        seen: list[int] = []

        async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            watching = _Watching(writer, lambda: seen.append(sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)))
            await service.service.serve(reader, watching)  # type: ignore[arg-type]

        service.server.close()
        service.server = await asyncio.start_server(watched, "127.0.0.1", 0)
        service.address = service.server.sockets[0].getsockname()
        service.machine = with_options(hop_limit=3)
        await service.token()
        assert seen == [3]

    run(scenario)


class _Watching:
    """A StreamWriter that tells before it writes."""

    def __init__(self, writer: asyncio.StreamWriter, tell: Callable[[], None]) -> None:
        self._writer = writer
        self._tell = tell

    def write(self, data: bytes) -> None:
        self._tell()
        self._writer.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)


def test_disabled_and_unknown() -> None:
    async def scenario(service: Service) -> None:
        service.machine = with_options(enabled=False)
        assert (await service.ask()).status == 403
        assert (await service.token()).status == 403
        service.machine = None
        assert (await service.ask()).status == 404

    run(scenario)


def test_paths_versions_and_methods() -> None:
    async def scenario(service: Service) -> None:
        versions = (await service.ask("/")).body.decode().splitlines()
        assert versions[0] == "1.0"
        assert versions[-1] == "latest"
        for version in versions:
            assert (await service.ask(f"/{version}/meta-data/instance-id")).body == b"i-00000000000000001"
        for path in ("/latest", "/latest/", "/latest/meta-data", "/latest/meta-data/", f"{ID}/", f"/{ID}", f"{ID}?x=1"):
            assert (await service.ask(path)).status == 200, path
        for path in ("/latest/nothing", "/2001-01-01/meta-data/", "/latest/meta-data/../meta-data/", "/latest/user-data"):
            missing = await service.ask(path)
            assert missing.status == 404, path
            assert missing.headers["Content-Type"] == "text/html"
            assert b"<h1>404 - Not Found</h1>" in missing.body
        head = await service.ask(ID, "HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "19")
        for method in ("POST", "PUT", "DELETE"):
            assert (await service.ask(ID, method)).status == 405
        assert (await service.ask("/latest/api/token")).status == 405

    run(scenario)


def test_one_connection_for_many_requests() -> None:
    async def scenario(service: Service) -> None:
        once = f"GET {ID} HTTP/1.1\r\n{HOST}\r\n".encode()
        last = once.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answer = await service.raw(once * 3 + last + once, end=False)
        assert answer.count(b"HTTP/1.1 200") == 4
        body = f"PUT /latest/api/token HTTP/1.1\r\n{HOST}{TTL}: 60\r\nContent-Length: 5\r\n\r\nhello".encode()
        assert (await service.raw(body + once)).count(b"HTTP/1.1 200") == 2

    run(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 169.254.169.254\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: +5\r\n\r\nhello",
        b"PUT / HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        b"GET / HT",
    ],
)
def test_what_is_no_request_is_answered_once_and_ended(request_: bytes) -> None:
    async def scenario(service: Service) -> None:
        answer = await service.raw(request_)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1

    run(scenario)


def test_one_guest_cannot_take_all_connections() -> None:
    async def scenario(service: Service) -> None:
        once = f"GET {ID} HTTP/1.0\r\n\r\n".encode()
        held = [await asyncio.open_connection(*service.address) for _ in range(CONNECTIONS_MAX)]
        assert await service.raw(once) == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while not await service.raw(once):
                pass

    run(scenario)


PIECES = [b"GET ", ID.encode(), b" HTTP/1.1", b"\r\n", b"\n", b"Host: 169.254.169.254", b"\0"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary()))
def test_no_bytes_make_it_silent_or_fail(pieces: list[bytes]) -> None:
    async def scenario(service: Service) -> None:
        data = b"".join(pieces)
        answer = await service.raw(data)
        if data.strip(b"\r\n"):
            assert answer.split(b" ", 2)[1] in (b"200", b"400", b"403", b"404", b"405")

    run(scenario)
