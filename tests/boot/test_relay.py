"""Goal: a connection to an endpoint is one to the API, byte for byte and both ways to their ends; where there is no API, or too
many are open, it ends at once. Method: a relay between real sockets on loopback; the API is played by the test."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from alto.boot import relay
from alto.boot.relay import ApiRelay
from alto.kit.world import real_world

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BIG = bytes(range(256)) * 8192


def listener() -> socket.socket:
    sock = real_world().net.open_socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


class Scene:
    def __init__(self, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None) -> None:
        self.front, self.api = listener(), listener()
        self.where: tuple[str, int] | None = self.api.getsockname()
        self.relay = ApiRelay(real_world(), lambda: self.where)
        self.answer = answer

    async def open(self) -> Ends:
        return await real_world().net.connect(*self.front.getsockname())


def run(
    scenario: Callable[[Scene], Awaitable[None]],
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None,
) -> None:
    async def played() -> None:
        scene, net = Scene(answer), real_world().net
        servers = [await net.serve(scene.front, scene.relay.serve)]
        if scene.answer is not None:
            servers.append(await net.serve(scene.api, scene.answer))
        else:
            scene.api.close()
        async with asyncio.timeout(20):
            await scenario(scene)
        for server in servers:
            server.close()
        scene.relay.close()

    asyncio.run(played())


async def repeats(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says what it heard, once it heard all of it."""
    writer.write(await reader.read())
    await writer.drain()
    writer.close()


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await writer.drain()
    await reader.read()
    writer.close()


def test_all_that_is_said_arrives_and_who_has_said_all_still_hears() -> None:
    async def scenario(scene: Scene) -> None:
        reader, writer = await scene.open()

        async def say() -> None:
            writer.write(BIG)
            await writer.drain()
            writer.write_eof()

        heard, _ = await asyncio.gather(reader.read(), say())
        assert heard == BIG
        writer.close()

    run(scenario, repeats)


def test_without_an_api_it_ends_at_once_and_with_one_again_it_works() -> None:
    async def nobody(scene: Scene) -> None:
        for where in (scene.where, None):
            scene.where = where
            reader, writer = await scene.open()
            assert await reader.read() == b""
            writer.close()

    run(nobody)

    async def moved(scene: Scene) -> None:
        there, scene.where = scene.where, None
        reader, writer = await scene.open()
        assert await reader.read() == b""
        writer.close()
        scene.where = there
        reader, writer = await scene.open()
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    run(moved, greets)


def test_no_more_are_open_at_once_than_may_be_and_others_come_when_one_goes() -> None:
    async def scenario(scene: Scene) -> None:
        ends = [await scene.open() for _ in range(relay.CONNECTIONS_MAX)]
        for reader, _ in ends:
            assert await reader.readexactly(5) == b"hello"
        reader, writer = await scene.open()
        assert await reader.read() == b""
        writer.close()
        ends[0][1].close()
        while True:
            reader, writer = await scene.open()
            if await reader.read(5) == b"hello":
                break
            writer.close()
        for _, one in (*ends, (reader, writer)):
            one.close()

    run(scenario, greets)
