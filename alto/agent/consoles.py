"""Live serial consoles of a host's machines: who has each of them, and what was said on it since.

A console has one holder; another one is told so, or takes it over. What the machine says is read at once, because it may wait
for its line, and the last of it kept: a holder who reads too slowly loses the oldest, is told how much, and holds up nobody.
Invariant: a line is open only while its holder asks for it; one that nobody has asked for in IDLE_S is closed.
Not here: who may (the server), and what is kept of a console without a holder (drivers).
"""

import asyncio
from contextlib import suppress

from alto.drivers.compute.driver import ComputeDriver, Line
from alto.kit.world import World
from alto.model.errors import AltoError
from alto.model.sessions import LineCall, LineSaid

KEPT_BYTES = 64 * 1024  # of what was said and not heard: some screens
LINES_MAX = 16  # on one host; each may have two questions of the server under way (agent.py, ASKS_MAX)
HEAR_S = 20.0  # a holder waits so long at once, and asks again
IDLE_S = 60.0
SWEEP_S = 10.0


class _Held:
    """One machine's line. `ended`: nothing more will be said on it; `taken`: another one has it now."""

    def __init__(self, console_id: str, line: Line, now: float) -> None:
        self.console_id = console_id
        self.line = line
        self.asked_at = now
        self.ended = self.taken = False
        self._kept = bytearray()
        self._said = 0  # bytes in all; `_kept` are the last of them
        self._news = asyncio.Condition()
        self._question = 0

    async def listen(self) -> None:
        while not self.ended:
            data = await self.line.read()
            async with self._news:
                self._kept += data
                del self._kept[:-KEPT_BYTES]
                self._said += len(data)
                self.ended = not data
                self._news.notify_all()

    async def hear(self, heard: int, wait_s: float) -> LineSaid:
        self._question += 1
        mine = self._question
        async with self._news:
            # An earlier question is a lost client's: only the latest one waits.
            self._news.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, HEAR_S)):
                    await self._news.wait_for(lambda: self._said > heard or self.ended or self._question != mine)
        begin = max(min(heard, self._said), self._said - len(self._kept))
        return LineSaid(
            state="off" if self.ended else "open",
            said=bytes(self._kept[len(self._kept) - (self._said - begin) :]),
            heard=self._said,
            skipped=max(0, begin - heard),
        )


class Consoles:
    def __init__(self, world: World, compute: ComputeDriver) -> None:
        self._world = world
        self._compute = compute
        self._held: dict[str, _Held] = {}
        self._opening = asyncio.Lock()
        self._some = asyncio.Event()

    async def keep(self) -> None:
        """Closes what nobody asks for any more; for ever, and all of them at the end."""
        try:
            while True:
                await self._some.wait()
                await self._world.clock.sleep(SWEEP_S)
                now = self._world.clock.monotonic()
                for id, held in list(self._held.items()):
                    if now - held.asked_at > IDLE_S:
                        await self._let_go(id)
                if not self._held:
                    self._some.clear()
        finally:
            for id in list(self._held):
                await self._let_go(id)

    async def answer(self, id: str, call: LineCall, tasks: asyncio.TaskGroup) -> LineSaid:
        """Raises: AltoError: the machine has no line now. `tasks` hold who listens."""
        if call.verb in ("open", "take"):
            return await self._open(id, call, tasks)
        held = self._held.get(id)
        if held is None or held.console_id != call.console_id:
            return LineSaid(state="off" if held is None else "busy")
        held.asked_at = self._world.clock.monotonic()
        if call.verb == "close":
            await self._let_go(id)
            return LineSaid(state="off")
        if call.verb == "hear":
            said = await held.hear(call.heard, call.wait_s)
            return LineSaid(state="busy") if held.taken else said
        try:
            await held.line.write(call.typed)
        except AltoError:
            return LineSaid(state="off" if held.ended else "stuck")
        return LineSaid(state="open")

    async def _open(self, id: str, call: LineCall, tasks: asyncio.TaskGroup) -> LineSaid:
        async with self._opening:
            before = self._held.get(id)
            if before is not None and not before.ended and call.verb == "open":
                return LineSaid(state="busy")
            if before is not None:
                before.taken = True
                await self._let_go(id)
            if len(self._held) >= LINES_MAX:
                return LineSaid(state="full")
            held = _Held(call.console_id, await self._compute.open_line(id), self._world.clock.monotonic())
            self._held[id] = held
            self._some.set()
            tasks.create_task(held.listen(), name=f"console {id}")
            return LineSaid(state="open")

    async def _let_go(self, id: str) -> None:
        """Its reader comes to the end of it, and whoever waits for news hears that."""
        held = self._held.pop(id, None)
        if held is not None:
            await held.line.close()
