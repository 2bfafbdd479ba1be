"""Ordinary requests, around ASGI and through it: whoever asks cannot tell which way was taken."""

import asyncio
import re
import time
from collections.abc import Sequence

import pytest

from alto.api.call import Call, Operation
from alto.api.wire import edge
from alto.api.wire.direct import DirectHttp
from alto.api.wire.gateway import Gateway
from alto.api.wire.http import HttpAnswer
from alto.api.wire.models import Models
from tests.wire.cloud import sign
from tests.wire.test_edge import HOST, said, with_server
from tests.wire.test_gateway import EC2

BODY = b"Action=DescribeRegions&Version=2016-11-15"
HEAD = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

# As Java's own HTTP client asks for HTTP/2.
WISH = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
WISHING = WHOLE.replace(HOST, HOST + WISH)

WAYS: dict[str, tuple[bool, Sequence[bytes]]] = {  # whether it is the direct one
    "whole": (True, [WHOLE]),
    "chunks that came at once": (True, [CHUNKED]),
    "the body later": (False, [WHOLE[: -len(BODY)], BODY]),
    "half of the body later": (False, [WHOLE[:-5], WHOLE[-5:]]),
    "half of the head later": (True, [WHOLE[:30], WHOLE[30:]]),
    "byte by byte": (False, [WHOLE[at : at + 1] for at in range(len(WHOLE))]),
    "expecting to be told": (False, [WHOLE.replace(HOST, HOST + b"Expect: 100-continue\r\n")]),
    "wishing for another protocol": (True, [WISHING]),
    "wishing, the body later": (False, [WISHING[: -len(BODY)], BODY]),
    "wishing, half of the head later": (True, [WISHING[:60], WISHING[60:]]),
    "wishing, in chunks": (True, [CHUNKED.replace(HOST, HOST + WISH)]),
    "with the whole address": (False, [WHOLE.replace(b"POST /", b"POST http://a/")]),
}


def undated(answer: bytes) -> bytes:
    """Without what differs from request to request, and what was said before it came."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    answer = re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"ID", answer)
    return re.sub(rb"date: [^\r]+", b"date: NOW", answer)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The target of each request that went straight."""
    begin, gone = DirectHttp._begin, []

    def noted(self: DirectHttp) -> None:
        gone.append(self.url)
        begin(self)

    monkeypatch.setattr(DirectHttp, "_begin", noted)
    return gone


def test_an_answer_does_not_depend_on_the_way(models: Models, direct: list[bytes]) -> None:
    async def scenario(port: int) -> dict[str, tuple[bool, bytes]]:
        answers = {}
        for name, (_, parts) in WAYS.items():
            direct.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.002 if len(parts) < 9 else 0)
            answers[name] = (bool(direct), undated(await reader.readuntil(b"</Response>")))
            writer.close()
        return answers

    answers = with_server(models, scenario)
    assert answers["whole"][1].startswith(b"HTTP/1.1 403 Forbidden\r\ndate: NOW\r\ncontent-type: text/xml;charset=UTF-8\r\n")
    assert {answer for _, answer in answers.values()} == {answers["whole"][1]}
    taken = {name: straight for name, (straight, _) in answers.items()}
    wanted = {name: straight for name, (straight, _) in WAYS.items()}
    del taken["byte by byte"], wanted["byte by byte"]  # how they arrive is the kernel's
    assert taken == wanted


def test_answers_come_in_the_order_of_requests(models: Models, monkeypatch: pytest.MonkeyPatch, direct: list[bytes]) -> None:
    """The first straight, those behind it, in the same packet, by turns; the first is the slowest."""
    monkeypatch.setitem(EC2, "DescribeRegions", Operation(EC2["DescribeRegions"].request, slow))
    first = request_of("Action=DescribeRegions")
    others = [WHOLE.replace(b"POST / ", b"POST /%d " % number) for number in range(3)]

    async def scenario(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join([first, *others]))
        lines = []
        for _ in range(4):
            head = await reader.readuntil(b"\r\n\r\n")
            lines.append(head[:12])
            await reader.readexactly(int(re.search(rb"content-length: ([0-9]+)", head)[1]))  # type: ignore[index]
        writer.write(WHOLE)
        lines.append((await reader.readuntil(b"</Response>"))[:12])
        writer.close()
        return lines

    assert with_server(models, scenario) == [b"HTTP/1.1 200", *[b"HTTP/1.1 403"] * 4]
    assert direct == [b"/", b"/"], "the first, and the one that came alone"


def test_a_wish_for_another_protocol_loses_nothing(models: Models) -> None:
    """A signed request, whose body therefore counts, with one behind it; then one more."""
    wishing = request_of("Action=DescribeRegions").replace(b"\r\n", b"\r\n" + WISH, 1)
    tunnel = b"CONNECT a:1 HTTP/1.1\r\n" + HOST + WISH + b"\r\n"

    async def scenario(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wishing + wishing)
        lines = []
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            lines.append(head[:12])
            await reader.readexactly(int(re.search(rb"content-length: ([0-9]+)", head)[1]))  # type: ignore[index]
            if len(lines) == 2:
                writer.write(wishing)
        writer.close()
        return [*lines, (await said(port, tunnel))[:12]]

    assert with_server(models, scenario) == [*[b"HTTP/1.1 200"] * 3, b"HTTP/1.1 400"]


@pytest.mark.parametrize("last", [(b"\r\n", b"\r\nConnection: close\r\n", 1), (b"HTTP/1.1", b"HTTP/1.0", 1)])
def test_a_wish_with_the_last_request_of_a_connection(models: Models, last: tuple[bytes, bytes, int]) -> None:
    wishing = request_of("Action=DescribeRegions").replace(*last).replace(b"\r\n", b"\r\n" + WISH, 1)

    answer, rest = with_server(models, lambda port: last_answer(port, wishing))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert rest.endswith(b"</DescribeRegionsResponse>")


def test_a_connection_whose_body_came_late_stays_open(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a head that is here."""
    monkeypatch.setattr(edge, "HEAD_TIMEOUT_S", 0.2)

    async def scenario(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = []
        for pause_s in (0.5, 0.0):
            writer.write(WHOLE[: -len(BODY)])
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(BODY)
            answers.append((await reader.readuntil(b"</Response>"))[:12])
            await asyncio.sleep(pause_s)
        writer.close()
        return answers

    assert with_server(models, scenario) == [b"HTTP/1.1 403"] * 2


def test_a_body_that_may_not_be_ends_the_connection(models: Models) -> None:
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (2 << 20)

    answer, rest = with_server(models, lambda port: last_answer(port, head + BODY))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert rest.endswith(b"</Response>")


def test_a_bug_is_answered_and_ends_the_connection(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Gateway, *request: object) -> HttpAnswer:
        raise OverflowError("a bug")

    monkeypatch.setattr(Gateway, "answer", broken)

    answer, rest = with_server(models, lambda port: last_answer(port, WHOLE))
    assert (answer[:13], rest) == (b"HTTP/1.1 500 ", b"Internal Server Error")
    assert b"x-amzn-requestid" not in answer


@pytest.mark.parametrize("target", ["http://x", "http://x:99999/", "http://[::1/", "/" + "a" * 65_536, "//x y"])
def test_what_is_no_address_is_refused_however_it_comes(models: Models, target: str) -> None:
    request = WHOLE.replace(b"POST /", b"POST " + target.encode())

    async def scenario(port: int) -> list[bytes]:
        return [(await said(port, request))[:13], (await said(port, request[:-5], request[-5:]))[:13]]

    assert with_server(models, scenario) in ([b"HTTP/1.1 400 "] * 2, [b"HTTP/1.1 403 "] * 2)


def test_who_leaves_before_the_answer_disturbs_nobody(
    models: Models, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(EC2, "DescribeRegions", Operation(EC2["DescribeRegions"].request, slow))

    async def scenario(port: int) -> bytes:
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of("Action=DescribeRegions"))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()
        await asyncio.sleep(0.4)
        return (await said(port, WHOLE))[:12]

    assert with_server(models, scenario) == b"HTTP/1.1 403"
    assert "raised" not in capfd.readouterr().err


def test_a_server_that_ends_answers_first(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EC2, "DescribeRegions", Operation(EC2["DescribeRegions"].request, slow))
    made: list[DirectHttp] = []
    connected = DirectHttp.connection_made

    def noted(self: DirectHttp, transport: asyncio.Transport) -> None:
        made.append(self)
        connected(self, transport)

    monkeypatch.setattr(DirectHttp, "connection_made", noted)

    async def scenario(port: int) -> tuple[bytes, bytes]:
        answering = asyncio.ensure_future(last_answer(port, request_of("Action=DescribeRegions")))
        await asyncio.sleep(0.1)
        made[0].shutdown()  # as the server does with each of its connections
        return await answering

    answer, rest = with_server(models, scenario)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert rest.endswith(b"</DescribeRegionsResponse>")


async def last_answer(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of one after which the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, body = await reader.readuntil(b"\r\n\r\n"), await reader.read()
    writer.close()
    return head, body


async def slow(call: Call, request: object) -> dict[str, object]:
    await asyncio.sleep(0.3)
    return {"Regions": []}


def request_of(form: str) -> bytes:
    """As it goes over the wire, signed now."""
    request = sign(f"{form}&Version=2016-11-15".encode(), at=time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    return f"POST / HTTP/1.1\r\n{lines}content-length: {len(request.body)}\r\n\r\n".encode() + request.body
