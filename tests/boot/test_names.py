"""Goal: questions for outside names come back with the answer of this machine's resolver, and only with that.

Method: a relay between real sockets on loopback; the resolver is played by the test.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from alto.boot import names
from alto.boot.names import NameRelay, resolvers
from alto.kit.world import real_world

QUESTION = b"\x12\x34" + bytes(10) + b"question"


def udp() -> socket.socket:
    sock = real_world().net.open_socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


class Scene:
    def __init__(self) -> None:
        self.relay, self.guest, self.first, self.second = udp(), udp(), udp(), udp()
        self.listener = real_world().net.open_socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.upstream = [self.first.getsockname(), self.second.getsockname()]

    async def ask(self, question: bytes = QUESTION) -> None:
        await asyncio.get_running_loop().sock_sendto(self.guest, question, self.relay.getsockname())

    async def heard(self, sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recvfrom(sock, 1000)

    async def say(self, sock: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        await asyncio.get_running_loop().sock_sendto(sock, data, to)


def run(scenario: Callable[[Scene], Awaitable[None]], *, servers: int = 1) -> None:
    async def played() -> None:
        scene = Scene()
        del scene.upstream[servers:]
        relay = asyncio.ensure_future(NameRelay(real_world(), scene.relay, scene.listener, lambda: scene.upstream).run())
        await scenario(scene)
        relay.cancel()
        for sock in (scene.relay, scene.listener, scene.guest, scene.first, scene.second):
            sock.close()

    asyncio.run(played())


def test_the_answer_goes_to_who_asked_and_a_strangers_does_not() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.ask()
        question, asker = await scene.heard(scene.first)
        assert question == QUESTION
        await scene.say(scene.second, b"\x12\x34forged", asker)
        await scene.say(scene.first, b"\x99\x99another's answer", asker)
        await scene.say(scene.first, b"\x12\x34answer", asker)
        assert await scene.heard(scene.guest) == (b"\x12\x34answer", scene.relay.getsockname())

    run(scenario)


def test_the_next_server_is_asked_when_the_first_is_not_there() -> None:
    async def scenario(scene: Scene) -> None:
        scene.first.close()  # the kernel refuses for it
        await scene.ask()
        _, asker = await scene.heard(scene.second)
        await scene.say(scene.second, b"\x12\x34answer", asker)
        assert (await scene.heard(scene.guest))[0] == b"\x12\x34answer"

    run(scenario, servers=2)


def test_what_is_no_question_is_dropped_and_the_number_of_open_ones_is_bounded() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.ask(b"short")
        asked = []
        for number in range(names.OPEN_MAX + 20):
            await scene.ask(number.to_bytes(2, "big") + QUESTION[2:])
            if number < names.OPEN_MAX:
                asked.append(await scene.heard(scene.first))
        assert len({question[:2] for question, _ in asked}) == names.OPEN_MAX
        await asyncio.sleep(0.05)
        scene.first.setblocking(False)
        try:
            scene.first.recv(1000)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("more questions are open than the bound allows")
        await scene.say(scene.first, asked[0][0], asked[0][1])
        assert (await scene.heard(scene.guest))[0] == asked[0][0]

    run(scenario)


def test_questions_by_tcp_are_answered_by_the_server_that_is_there() -> None:
    """The first server takes no connections, so the second is asked; its answer is larger than a datagram may be."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        asked = await reader.readexactly(size)
        writer.write((40_000).to_bytes(2) + asked[:2] + bytes(39_998))
        await writer.drain()
        writer.close()

    async def scenario(scene: Scene) -> None:
        # Ports of their own: that a datagram socket has a number says nothing of who has it by TCP.
        silent = real_world().net.open_socket()
        silent.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        scene.upstream[:] = [silent.getsockname(), server.sockets[0].getsockname()]
        reader, writer = await asyncio.open_connection(*scene.listener.getsockname())
        for number in (b"\x12\x34", b"\x56\x78"):
            writer.write((20).to_bytes(2) + number + QUESTION[2:])
            async with asyncio.timeout(5):
                assert await reader.readexactly(40_002) == (40_000).to_bytes(2) + number + bytes(39_998)
        # A question that is cut off ends the conversation, and harms no other.
        writer.write(b"\x00\x20half")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        server.close()
        silent.close()

    run(scenario, servers=2)


def test_resolv_conf_is_read_as_it_is_written() -> None:
    text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.53\nnameserver fd00::1\nnameserver\nnameserver\t198.51.100.53 \n"
    assert resolvers(text) == ["192.0.2.53", "198.51.100.53"]
