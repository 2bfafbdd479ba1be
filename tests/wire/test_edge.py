"""The HTTP edge as it is shipped, over a loopback socket: what could smuggle, flood or starve is refused, and the connection of
the next client works. Bytes are written by hand here, because no honest client can send them."""

import asyncio
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

import boto3
import pytest
from botocore.config import Config

from alto.api.call import Call, Operation
from alto.api.wire import edge
from alto.api.wire.models import Models
from alto.daemons.server import serve_http
from alto.kit.world import real_world
from tests.wire.cloud import KEYS, gateway
from tests.wire.test_gateway import EC2

T = TypeVar("T")
HOST = b"Host: a\r\n"


def with_server(models: Models, scenario: Callable[[int], Awaitable[T]]) -> T:
    async def main() -> T:
        world = real_world()
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        started = asyncio.Event()
        door = await gateway(models, EC2, world=world)
        async with asyncio.timeout(60):
            serving = asyncio.ensure_future(serve_http(world, door, sock, started.set))
            try:
                await started.wait()
                return await scenario(sock.getsockname()[1])
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    return asyncio.run(main())


async def said(port: int, *parts: bytes) -> bytes:
    """All that comes back until the server closes, or until a whole answer with Content-Length is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        while chunk := await reader.read(65536):
            answer += chunk
            head, found, body = answer.partition(b"\r\n\r\n")
            if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
                break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


REFUSED = {
    "both lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two hosts": b"POST / HTTP/1.1\r\n" + HOST + b"Host: b\r\nContent-Length: 0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "bare LF": b"POST / HTTP/1.1\nHost: a\n\n",
    "folded": b"POST / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "hexadecimal chunk": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "signed chunk": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "odd encoding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "bare CR": b"POST / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "NUL": b"POST / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "negative length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    "anonymous": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "websocket": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "proxy": b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n",
}


def test_what_no_honest_client_sends(models: Models) -> None:
    async def scenario(port: int) -> dict[str, bytes]:
        return {name: (await said(port, data))[:13] for name, data in REFUSED.items()}

    answers = with_server(models, scenario)
    assert {name: line for name, line in answers.items() if not line.startswith(b"HTTP/1.1 4")} == {}


def test_a_head_without_end_is_cut(models: Models) -> None:
    """In one header, in many, and in the request line; each would otherwise grow in memory for ever."""
    piece = b"a" * 65536

    async def scenario(port: int) -> list[bytes]:
        begin = b"GET / HTTP/1.1\r\n" + HOST
        return [
            await said(port, begin + b"X: ", *[piece] * 64),
            await said(port, begin, *[b"".join(b"X-%d: %s\r\n" % (n, b"a" * 500) for n in range(100))] * 64),
            await said(port, b"GET /", *[piece] * 64),
        ]

    for answer in with_server(models, scenario):
        # The answer may be lost when the other side still writes; that the connection ended is what counts.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_a_head_that_never_ends_is_given_up(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "HEAD_TIMEOUT_S", 0.2)

    async def scenario(port: int) -> list[bytes]:
        return [
            await said(port),
            await said(port, b"GET / HT"),
            await said(port, b"\r\n"),
            await said(port, b"GET / HTTP/1.1\r\nX:"),
        ]

    assert with_server(models, scenario) == [b""] * 4


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    made = edge.BoundedHttp.connection_made

    def impatient(self: edge.BoundedHttp, transport: asyncio.Transport) -> None:
        made(self, transport)
        self.timeout_keep_alive = 0.3  # type: ignore[assignment]

    monkeypatch.setattr(edge.BoundedHttp, "connection_made", impatient)

    async def scenario(port: int) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = 0
        for _ in range(8):  # longer than it may be idle
            writer.write(REFUSED["anonymous"])
            answers += (await reader.read(65536)).startswith(b"HTTP/1.1 403")
            await asyncio.sleep(0.1)
        rest = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answers, rest

    assert with_server(models, scenario) == (8, b"")


def test_an_idle_connection_keeps_nothing_of_its_last_request(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    made, protocols = edge.BoundedHttp.connection_made, []

    def noted(self: edge.BoundedHttp, transport: asyncio.Transport) -> None:
        made(self, transport)
        protocols.append(self)

    monkeypatch.setattr(edge.BoundedHttp, "connection_made", noted)
    body = b"a" * 20_000

    async def scenario(port: int) -> tuple[bytes, list[object]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = await reader.readuntil(b"</Response>")
        kept = [*vars(protocols[0]).values(), protocols[0].cycle.body]
        writer.close()
        return answer[:12], [one for one in kept if isinstance(one, bytes | bytearray) and body[:100] in one]

    assert with_server(models, scenario) == (b"HTTP/1.1 403", [])


def test_a_lost_connection_is_nothing_for_the_search_for_garbage(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client brings one: what refers to itself would stay until the next search, which is rare."""
    made = edge.BoundedHttp.connection_made
    gone: list[weakref.ref[edge.BoundedHttp]] = []

    def noted(self: edge.BoundedHttp, transport: asyncio.Transport) -> None:
        made(self, transport)
        gone.append(weakref.ref(self))

    monkeypatch.setattr(edge.BoundedHttp, "connection_made", noted)

    async def scenario(port: int) -> None:
        gc.disable()
        try:
            await said(port, REFUSED["anonymous"])
            for _ in range(200):
                if gone[0]() is None:
                    break
                await asyncio.sleep(0.01)
            assert gone[0]() is None
        finally:
            gc.enable()

    with_server(models, scenario)


def test_a_slow_answer_is_waited_for(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on the head: an answer may take longer, and a connection serves many requests."""
    monkeypatch.setattr(edge, "HEAD_TIMEOUT_S", 0.3)

    async def slow(call: Call, request: object) -> dict[str, object]:
        await asyncio.sleep(0.6)
        return {"Regions": []}

    monkeypatch.setitem(EC2, "DescribeRegions", Operation(EC2["DescribeRegions"].request, slow))

    async def scenario(port: int) -> list[int]:
        def ask() -> list[int]:
            access_key, secret = KEYS["111111111111"]
            client = boto3.client(
                "ec2",
                endpoint_url=f"http://127.0.0.1:{port}",
                aws_access_key_id=access_key,
                aws_secret_access_key=secret,
                region_name="us-east-1",
                config=Config(max_pool_connections=1, retries={"total_max_attempts": 1}),
            )
            return [client.describe_regions()["ResponseMetadata"]["HTTPStatusCode"] for _ in range(3)]

        return await asyncio.to_thread(ask)

    assert with_server(models, scenario) == [200, 200, 200]


def test_connections_beyond_the_bound_are_turned_away_and_the_others_serve(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "CONNECTIONS_MAX", 2)

    async def scenario(port: int) -> tuple[bytes, bytes]:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        try:
            refused = await said(port)
            reader, writer = idle[0]
            writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            await writer.drain()
            return refused, await reader.readline()
        finally:
            for _, writer in idle:
                writer.close()

    refused, served = with_server(models, scenario)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert served.startswith(b"HTTP/1.1 4"), "anonymous, and answered"
