"""A seeded event loop: virtual time, random order, simulated processes that can be killed between any two steps.

One seed gives one history. Time stands still while something can run and jumps to the next timer when nothing can; which of
the ready callbacks runs next is the seed's choice. There are no threads, no sockets, no real waiting. A `Process` groups what
one operating system process would run: everything started in its context belongs to it. `kill` is `kill -9`: nothing of it
runs any more, no `finally`, no `except`; what it held is kept referenced so that garbage collection cannot run them either.

Deliberately not here: faults, worlds, anything of Alto. The invariant: same seed and same program, same trace, in every
Python process (no dependence on addresses or PYTHONHASHSEED; tests/sim/test_loop.py shows it).
"""

import asyncio
import contextvars
import hashlib
import heapq
import random
import selectors
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_TRIES = 50  # a dead coroutine whose `finally` awaits needs several closes


class SimulationStuck(Exception):
    """The simulation passed its bound of steps or time, or nothing is left that could ever happen."""


class Process:
    """One simulated operating system process. `generation` tells a restarted one from the one before."""

    def __init__(self, loop: "SimLoop", name: str, generation: int) -> None:
        self.loop = loop
        self.name = name
        self.generation = generation
        self.dead = False
        self._mourners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"{self.name}#{self.generation}"

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> "SimTask[T]":
        """Run `coroutine` as a task of this process, whoever calls. In a dead process it never takes a step."""
        context = contextvars.copy_context()
        context.run(_process.set, self)
        return self.loop.create_task(coroutine, name=name, context=context)

    def when_killed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` runs once, in the step of the killer. Call the answer to take it back."""
        if self.dead:
            callback()
            return lambda: None
        self._mourners.append(callback)

        def forget() -> None:
            with suppress(ValueError):
                self._mourners.remove(callback)

        return forget

    def mourn(self) -> None:
        mourners, self._mourners = self._mourners, []
        for callback in mourners:
            callback()


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    return _process.get()


class SimFuture(asyncio.Future[T]):
    """A future that hashes by its number: sets of futures then iterate alike in every run."""

    _number: int

    def __hash__(self) -> int:
        return self._number


class SimTask(asyncio.Task[T]):
    _number: int
    process: Process | None

    def __hash__(self) -> int:
        return getattr(self, "_number", 0)  # the weak set of all tasks asks before we can number it


class _NoSelector(selectors.BaseSelector):
    def register(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("real I/O in a simulation")

    unregister = register

    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def get_map(self) -> Any:
        return {}

    def close(self) -> None:
        pass


class SimLoop(asyncio.BaseEventLoop):
    """`stall` is the chance, at each step, that time goes on although something could run: a slow process."""

    def __init__(self, seed: int | str, *, shuffle: bool = True, steps_max: int = 1_000_000, time_max_s: float = 1e6) -> None:
        super().__init__()
        self.set_debug(False)
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9
        self.random = random.Random(f"loop {seed}")
        self.shuffle = shuffle
        self.stall = 0.0
        self.steps = 0
        self.steps_max = steps_max
        self.time_max_s = time_max_s
        self.trace: Callable[[str], None] | None = None
        self.complaints: list[str] = []
        self.after_step: Callable[[], None] | None = None
        self._now = 0.0
        self._hash = hashlib.sha256()
        self._numbers = 0
        self._tasks: dict[int, SimTask[Any]] = {}
        self._graveyard: list[Any] = []
        self._generations: dict[str, int] = {}
        self.set_exception_handler(_complain)

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError("threads are forbidden in a simulation")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def create_future(self) -> SimFuture[Any]:
        future: SimFuture[Any] = SimFuture(loop=self)
        future._number = self._number()
        return future

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        number = self._number()
        task: SimTask[Any] = SimTask(coro, loop=self, name=name or f"task {number}", context=context)
        task._number = number
        task.process = (context or contextvars.copy_context()).get(_process)
        # Strong references: the coroutine of a task that is dead or waits in a forgotten cycle must never be collected.
        self._tasks[number] = task
        task.add_done_callback(self._forget, context=contextvars.Context())
        return task

    def _forget(self, task: "SimTask[Any]") -> None:
        self._tasks.pop(task._number, None)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _run_once(self) -> None:
        """One step: one callback, picked by the seed."""
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if scheduled and (not ready or (self.stall and self.random.random() < self.stall)):
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        if not ready:
            if not scheduled and not self._stopping:  # type: ignore[attr-defined]
                raise SimulationStuck("nothing is left that could ever happen")
            return
        pick = self.random.randrange(len(ready)) if self.shuffle else 0
        ready.rotate(-pick)
        handle = ready.popleft()
        ready.rotate(pick)
        if handle._cancelled:
            return
        process = handle._context.get(_process)
        if process is not None and process.dead:
            self._graveyard.append(handle)
            return
        self.steps += 1
        self._record(process, handle)
        if self.steps > self.steps_max or self._now > self.time_max_s:
            raise SimulationStuck(f"still busy after {self.steps} steps and {self._now:.1f} s")
        handle._run()
        if self.after_step is not None:
            self.after_step()

    def _record(self, process: Process | None, handle: Any) -> None:
        owner = getattr(handle._callback, "__self__", None)
        if isinstance(owner, SimTask):
            what = owner.get_name()
        else:
            what = getattr(handle._callback, "__qualname__", None) or type(handle._callback).__name__
        self.note(f"{process or '-'} {what}")

    # -- the simulation

    def note(self, line: str) -> None:
        """Part of the trace: two runs of one seed agree on every note."""
        entry = f"{self.steps} {self._now:.9f} {line}\n"
        self._hash.update(entry.encode())
        if self.trace is not None:
            self.trace(entry)

    @property
    def digest(self) -> str:
        """Of the whole trace so far."""
        return self._hash.hexdigest()

    def process(self, name: str) -> Process:
        """A new process; the next one of the same name is the next generation."""
        generation = self._generations.get(name, 0) + 1
        self._generations[name] = generation
        return Process(self, name, generation)

    def kill(self, process: Process) -> None:
        """`kill -9`: from now on no callback, timer or `finally` of it runs. A process cannot kill itself."""
        if process.dead:
            return
        if current_process() is process:
            raise RuntimeError(f"{process} would go on until its next await: kill it from outside")
        process.dead = True
        self.note(f"killed {process}")
        for queue in (self._ready, self._scheduled):  # type: ignore[attr-defined]
            mine = [handle for handle in queue if handle._context.get(_process) is process]
            if mine:
                self._graveyard.extend(mine)
                kept = [handle for handle in queue if handle._context.get(_process) is not process]
                queue.clear()
                queue.extend(kept)
        heapq.heapify(self._scheduled)  # type: ignore[attr-defined]
        process.mourn()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end of `coroutine`, then close everything that is still suspended, without a word."""
        asyncio.set_event_loop(self)
        try:
            return self.run_until_complete(coroutine)
        finally:
            asyncio.set_event_loop(None)
            self._bury()
            self.close()

    def _bury(self) -> None:
        """Close every suspended coroutine: their `finally` blocks run now, when nobody looks any more."""
        self.after_step = None
        self.trace = None
        for _, task in sorted(self._tasks.items()):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task._log_traceback = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if isinstance(coroutine, Coroutine | Generator):
                for _ in range(CLOSE_TRIES):
                    try:
                        coroutine.close()
                        break
                    except BaseException:
                        continue
        self._tasks.clear()
        self._graveyard.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    error = context.get("exception")
    loop.complaints.append(f"{context.get('message')}: {error!r}")
