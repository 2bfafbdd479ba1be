"""An agent is asked. Goal: a question that takes long holds up neither another nor the next assignments. Method: a real agent
over fake drivers, one of which takes as long as the test wants; the server's side of the link is spoken by hand."""

import asyncio
from pathlib import Path

from alto.agent.agent import Agent, Drivers
from alto.agent.manifests import Manifests
from alto.drivers.balancer.fake import FakeBalancer
from alto.drivers.compute.fake import FakeCompute
from alto.drivers.image.fake import FakeImages
from alto.drivers.network.fake import FakeNetwork
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import real_world
from alto.model.sessions import Ask, Assignments, Hello, Reports

WAIT_S = 10.0


class SlowCompute(FakeCompute):
    """Its console is read when the test lets it."""

    def __init__(self) -> None:
        super().__init__(real_world())
        self.may_read = asyncio.Event()

    async def console(self, id: str) -> bytes:
        await self.may_read.wait()
        return b"late"


class Spoken:
    """A server that says what is put into `news`, and keeps the answers."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[Assignments] = asyncio.Queue()
        self.answers: asyncio.Queue[tuple[str, bytes | None]] = asyncio.Queue()

    async def hello(self, hello: Hello) -> str:
        return "s-1"

    async def assignments(self, session: str, *, timeout_s: float) -> Assignments | None:
        return await self.news.get()

    async def report(self, session: str, reports: Reports) -> None:
        return None

    async def answer(self, session: str, ask: str, data: bytes | None) -> None:
        self.answers.put_nowait((ask, data))


async def _story() -> None:
    world, compute, server = real_world(), SlowCompute(), Spoken()
    network, balancer = FakeNetwork(world), FakeBalancer(world, answers=lambda _: True)
    drivers = Drivers(compute=compute, images=FakeImages(world), network=network, balancer=balancer)
    manifests = Manifests(MemoryFiles(), Path("/manifests"))
    agent = Agent(world, drivers, manifests, server, cloud_id="c-1", host_id="h-1", name="host")
    running = asyncio.create_task(agent.run())
    async with asyncio.timeout(WAIT_S):
        server.news.put_nowait(Assignments(full=True, asks=(Ask(id="slow", what="console", instance_id="i-1"),)))
        # It comes with the next assignments, which are only asked for when the first were dealt with.
        server.news.put_nowait(Assignments(full=False, asks=(Ask(id="quick", what="inventory"),)))
        first, data = await server.answers.get()
        assert first == "quick"
        assert data is not None
        compute.may_read.set()
        assert await server.answers.get() == ("slow", b"late")
    running.cancel()


def test_a_slow_question_holds_up_nobody() -> None:
    asyncio.run(_story())
