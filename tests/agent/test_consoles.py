"""Who has a machine's live console. Goal: one holder, whom another one may relieve; words are heard in order and once, and
those that came too fast are counted; a lost client holds nothing for long. Method: Consoles over the simulated host, whose
lines give back what is typed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from alto.agent.consoles import IDLE_S, KEPT_BYTES, LINES_MAX, Consoles
from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.fake import FakeCompute
from alto.kit.world import World, real_world
from alto.model.errors import DriverFault
from alto.model.sessions import LineCall, LineSaid
from tests.drivers.compute.machines import machine

WAIT_S = 20.0
Story = Callable[["Room"], Awaitable[None]]


class FastClock:
    """A second is a thousandth of one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 1000)
        self.seconds += seconds


class Room:
    """The consoles of one host, and the machines on it."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.world: World = replace(real_world(), clock=FastClock())
        self.compute = FakeCompute(self.world)
        self.consoles = Consoles(self.world, self.compute)
        self._tasks = tasks

    async def start(self, number: int = 1) -> str:
        await self.compute.start(machine(number), BootFiles(), [], [])
        return machine(number).id

    async def ask(self, id: str, who: str, verb: str, *, heard: int = 0, typed: bytes = b"", wait_s: float = 0) -> LineSaid:
        call = LineCall(console_id=who, verb=verb, heard=heard, typed=typed, wait_s=wait_s)
        return await self.consoles.answer(id, call, self._tasks)

    async def hear_until(self, id: str, who: str, count: int) -> LineSaid:
        """Asks from the beginning until `count` bytes were said."""
        heard = LineSaid(state="open")
        while heard.heard < count and heard.state == "open":
            heard = await self.ask(id, who, "hear", heard=max(heard.heard, 0), wait_s=5)
        return await self.ask(id, who, "hear")


def tell(story: Story) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            room = Room(tasks)
            keeping = tasks.create_task(room.consoles.keep())
            await asyncio.sleep(0)
            await story(room)
            keeping.cancel()

    asyncio.run(main())


def test_one_has_it_until_another_takes_it() -> None:
    async def story(room: Room) -> None:
        id = await room.start()
        assert (await room.ask(id, "a", "open")).state == "open"
        assert (await room.ask(id, "b", "open")).state == "busy"
        assert (await room.ask(id, "b", "type", typed=b"x")).state == "busy"
        waiting = asyncio.ensure_future(room.ask(id, "a", "hear", wait_s=20))
        await asyncio.sleep(0)
        assert (await room.ask(id, "b", "take")).state == "open"
        assert (await waiting).state == "busy"
        assert (await room.ask(id, "a", "type", typed=b"x")).state == "busy"
        assert (await room.ask(id, "b", "type", typed=b"x")).state == "open"
        assert (await room.hear_until(id, "b", 1)).said == b"x"
        # Who has lost it cannot close it.
        await room.ask(id, "a", "close")
        assert (await room.ask(id, "b", "hear")).state == "open"
        await room.ask(id, "b", "close")
        assert (await room.ask(id, "c", "open")).state == "open"

    tell(story)


def test_words_come_once_and_the_lost_are_counted() -> None:
    async def story(room: Room) -> None:
        id = await room.start()
        await room.ask(id, "a", "open")
        await room.ask(id, "a", "type", typed=b"first")
        first = await room.hear_until(id, "a", 5)
        assert (first.said, first.heard, first.skipped) == (b"first", 5, 0)
        piece = bytes(range(32, 127)) * 10
        pieces = KEPT_BYTES // len(piece) + 3
        for _ in range(pieces):
            await room.ask(id, "a", "type", typed=piece)
        total = 5 + pieces * len(piece)
        late = await room.hear_until(id, "a", total)
        assert late.heard == total
        assert late.skipped == total - KEPT_BYTES
        assert late.said == (piece * pieces)[-KEPT_BYTES:]
        nothing = await room.ask(id, "a", "hear", heard=total)
        assert (nothing.said, nothing.heard, nothing.skipped) == (b"", total, 0)

    tell(story)


def test_only_the_latest_question_waits() -> None:
    """A client that was lost and came back has one question under way, not two."""

    async def story(room: Room) -> None:
        id = await room.start()
        await room.ask(id, "a", "open")
        lost = asyncio.ensure_future(room.ask(id, "a", "hear", wait_s=20))
        await asyncio.sleep(0)
        latest = asyncio.ensure_future(room.ask(id, "a", "hear", wait_s=20))
        assert (await lost).said == b""
        await room.ask(id, "a", "type", typed=b"y")
        assert (await latest).said == b"y"

    tell(story)


def test_it_ends_with_its_machine_and_without_a_holder() -> None:
    async def story(room: Room) -> None:
        id = await room.start()
        with pytest.raises(DriverFault):
            await room.ask("i-absent", "a", "open")
        await room.ask(id, "a", "open")
        room.compute.machines.crash(id)
        assert (await room.ask(id, "a", "hear", wait_s=20)).state == "off"
        assert (await room.ask(id, "a", "type", typed=b"x")).state == "off"
        await room.compute.start(machine(incarnation=2), BootFiles(), [], [])
        # What ended holds nobody up.
        assert (await room.ask(id, "b", "open")).state == "open"
        await room.world.clock.sleep(3 * IDLE_S)
        assert (await room.ask(id, "b", "hear")).state == "off"
        assert (await room.ask(id, "c", "open")).state == "open"

    tell(story)


def test_a_host_has_so_many_at_once() -> None:
    async def story(room: Room) -> None:
        ids = [await room.start(number) for number in range(1, LINES_MAX + 2)]
        states = [(await room.ask(id, "a", "open")).state for id in ids]
        assert states == ["open"] * LINES_MAX + ["full"]
        await room.ask(ids[0], "a", "close")
        assert (await room.ask(ids[-1], "a", "open")).state == "open"

    tell(story)
