"""What lies between two simulated processes: calls that get lost, wait, arrive twice, arrive after the caller gave up.

A call runs as a task of the process that answers it. When that process dies, the caller hears ConnectionResetError; when
the network eats question or answer, TimeoutError at its deadline. So the caller never knows whether it happened.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from alto.model.sessions import Assignments, Hello, Reports, ServerLink
from tests.sim.loop import Process, SimLoop

T = TypeVar("T")

# As a client with a deadline on each call: longer than a long poll waits.
DEADLINE_S = 15.0


@dataclass
class Weather:
    """How bad the network is, each a chance per call; 0 everywhere is a calm day."""

    lose_question: float = 0.0
    lose_answer: float = 0.0
    double: float = 0.0
    late: float = 0.0  # the caller gives up, and then it arrives
    hang_up: float = 0.0  # the server notices that the caller gave up, and cancels the work
    delay_s: float = 0.02  # the longest usual way, one direction

    def calm(self) -> None:
        self.lose_question = self.lose_answer = self.double = self.late = self.hang_up = 0.0


class Link:
    """One caller's way to whichever process answers now."""

    def __init__(self, loop: SimLoop, chance: random.Random, weather: Weather, answerer: Callable[[], Process | None]) -> None:
        self._loop = loop
        self._chance = chance
        self._weather = weather
        self._answerer = answerer
        self.cut = False  # a partition: nothing arrives in either direction

    async def call(self, name: str, body: Callable[[], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
        """Run `body` in the process that answers. Raises: OSError, TimeoutError, or what `body` raises."""
        weather, chance = self._weather, self._chance
        if chance.random() < weather.late:
            self._later(name, body)
            await self._give_up(deadline_s)
        if chance.random() < weather.double:
            self._later(name, body)
        await asyncio.sleep(chance.uniform(0, weather.delay_s))
        if self.cut or chance.random() < weather.lose_question:
            await self._give_up(deadline_s)
        process = self._answerer()
        if process is None:
            raise ConnectionRefusedError("nobody listens")
        answer = self._run(process, name, body)
        task, outcome = answer
        try:
            async with asyncio.timeout(deadline_s):
                result = await outcome
        except TimeoutError:
            if chance.random() < weather.hang_up:
                task.cancel()
            raise
        if self.cut or chance.random() < weather.lose_answer:
            await self._give_up(deadline_s)
        await asyncio.sleep(chance.uniform(0, weather.delay_s))
        return result

    def _run(
        self, process: Process, name: str, body: Callable[[], Awaitable[T]]
    ) -> tuple["asyncio.Task[None]", "asyncio.Future[T]"]:
        outcome: asyncio.Future[T] = self._loop.create_future()

        def fail(error: Exception) -> None:
            if not outcome.done():
                outcome.set_exception(error)
                # A caller that died or gave up never asks for it; asyncio would complain about that much later.
                outcome.exception()

        def died() -> None:
            fail(ConnectionResetError(f"{process} is gone"))

        forget = process.when_killed(died)

        async def run() -> None:
            try:
                result = await body()
            except asyncio.CancelledError:
                died()
                raise
            except Exception as error:
                fail(error)
            else:
                if not outcome.done():
                    outcome.set_result(result)
            finally:
                forget()

        return process.start(run(), name=name), outcome

    def _later(self, name: str, body: Callable[[], Awaitable[T]]) -> None:
        """The same question once more, after a while, whose answer nobody awaits."""

        def arrive() -> None:
            process = self._answerer()
            if process is not None and not self.cut:
                self._run(process, f"{name} (again)", body)

        # Mostly among the messages right after it, sometimes long after everything it speaks of.
        self._loop.call_later(self._chance.uniform(0, self._chance.choice((0.5, 5.0, 2 * DEADLINE_S))), arrive)

    async def _give_up(self, deadline_s: float) -> None:
        await asyncio.sleep(deadline_s)
        raise TimeoutError("no answer")


class AgentLink:
    """`ServerLink` over a Link: what an agent of another machine has. The sessions that answer are the newest server's."""

    def __init__(self, link: Link, host_id: str, sessions: Callable[[], ServerLink]) -> None:
        self._link = link
        self._host_id = host_id
        self._sessions = sessions

    async def hello(self, hello: Hello) -> str:
        return await self._link.call(f"hello {self._host_id}", lambda: self._sessions().hello(hello))

    async def assignments(self, session: str, *, timeout_s: float) -> Assignments | None:
        return await self._link.call(
            f"assignments {self._host_id}", lambda: self._sessions().assignments(session, timeout_s=timeout_s)
        )

    async def report(self, session: str, reports: Reports) -> None:
        await self._link.call(f"report {self._host_id}", lambda: self._sessions().report(session, reports))

    async def answer(self, session: str, ask: str, data: bytes | None) -> None:
        await self._link.call(f"answer {self._host_id}", lambda: self._sessions().answer(session, ask, data))

    async def open_key(self, session: str, sealed: str) -> str:
        return await self._link.call(f"key {self._host_id}", lambda: self._sessions().open_key(session, sealed))
