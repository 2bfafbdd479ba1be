"""Goal: one seed, one history; a killed process leaves no step behind. Method: small programs on the loop, and the same
program in fresh Python processes with other hash seeds."""

import asyncio
import gc
import os
import subprocess
import sys

import pytest

from tests.sim.loop import Process, SimLoop, SimulationStuck, current_process


def test_time_jumps_to_the_next_timer_and_stands_still_meanwhile() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = []
        for seconds in (3600.0, 0.5, 0.0):
            await asyncio.sleep(seconds)
            seen.append(loop.time())
        return seen

    assert SimLoop(1).run(main()) == [3600.0, 3600.5, 3600.5]


def test_seeds_explore_orders() -> None:
    def order(seed: int) -> tuple[int, ...]:
        async def main() -> tuple[int, ...]:
            seen: list[int] = []

            async def one(number: int) -> None:
                await asyncio.sleep(0)
                seen.append(number)

            async with asyncio.TaskGroup() as tasks:
                for number in range(3):
                    tasks.create_task(one(number))
            return tuple(seen)

        return SimLoop(seed).run(main())

    # Three tasks have six orders; 100 seeds leave none out.
    assert len({order(seed) for seed in range(100)}) == 6


def test_task_groups_timeouts_events_and_queues_work() -> None:
    async def main() -> str:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        done = asyncio.Event()

        async def produce() -> None:
            for number in range(10):
                await queue.put(number)
            done.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            got = [await queue.get() for _ in range(10)]
            await done.wait()
        assert got == list(range(10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() == 5

        async def fail() -> None:
            raise ValueError("one")

        with pytest.raises(ExceptionGroup):  # noqa: PT012
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
                tasks.create_task(asyncio.sleep(100))
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        first, _ = await asyncio.wait({tasks_sleep(1), tasks_sleep(2)}, return_when=asyncio.FIRST_COMPLETED)
        assert len(first) == 1
        return "ok"

    def tasks_sleep(seconds: float) -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(asyncio.sleep(seconds))

    for seed in range(20):
        assert SimLoop(seed).run(main()) == "ok"


def _kill_at(step: int) -> tuple[list[str], list[str]]:
    """What a process and its child task did when it is killed after `step` steps: before, and all told."""
    loop = SimLoop(7)
    said: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(50)
            said.append("child went on")
        finally:
            said.append("child finally")

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())
                for number in range(5):
                    said.append(f"work {number}")
                    await asyncio.sleep(1)
                raise ValueError
        except BaseException:
            said.append("except")
            raise
        finally:
            said.append("finally")

    async def main() -> tuple[list[str], list[str]]:
        process = loop.process("worker")
        process.start(work(), name="work")
        while loop.steps < step:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        loop.kill(process)
        before = list(said)
        gc.collect()
        await asyncio.sleep(1000)
        gc.collect()
        return before, list(said)

    return loop.run(main())


def test_a_killed_process_never_takes_another_step_nor_runs_a_finally() -> None:
    for step in range(1, 120, 7):
        before, after = _kill_at(step)
        assert before == after
        assert "finally" not in after or "child finally" in after


def test_tasks_belong_to_the_process_that_started_them() -> None:
    loop = SimLoop(3)

    async def inner() -> Process | None:
        return current_process()

    async def outer() -> Process | None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(inner())
        return task.result()

    async def main() -> None:
        one, two = loop.process("one"), loop.process("two")
        assert await one.start(outer(), name="outer") is one
        assert await two.start(outer(), name="outer") is two
        assert current_process() is None
        assert repr(loop.process("one")) == "one#2"

    loop.run(main())


def test_a_future_set_by_the_living_does_not_wake_the_dead() -> None:
    loop = SimLoop(3)
    woken: list[str] = []

    async def wait(event: asyncio.Event) -> None:
        await event.wait()
        woken.append("dead")

    async def main() -> None:
        event = asyncio.Event()
        process = loop.process("p")
        process.start(wait(event), name="wait")
        await asyncio.sleep(1)
        loop.kill(process)
        event.set()
        await asyncio.sleep(1)

    loop.run(main())
    assert woken == []


def test_threads_real_io_endless_loops_and_deadlocks_are_refused() -> None:
    async def thread() -> None:
        await asyncio.to_thread(print)

    async def io() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    async def endless() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def deadlock() -> None:
        await asyncio.Event().wait()

    for program in (thread, io):
        with pytest.raises((RuntimeError, NotImplementedError)):
            SimLoop(1).run(program())
    with pytest.raises(SimulationStuck, match="still busy"):
        SimLoop(1, steps_max=1000).run(endless())
    with pytest.raises(SimulationStuck, match="nothing is left"):
        SimLoop(1).run(deadlock())


PROGRAM = """
import asyncio, sys
from tests.sim.loop import SimLoop

async def child(number):
    try:
        await asyncio.sleep(number % 3)
        if number == 17:
            raise ValueError
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(0)

async def main():
    for _ in range(5):
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(40):
                    tasks.create_task(child(number))
        except* ValueError:
            pass
        await asyncio.wait([asyncio.ensure_future(asyncio.sleep(n)) for n in range(9)], return_when="FIRST_COMPLETED")

loop = SimLoop(int(sys.argv[1]))
loop.run(main())
print(loop.steps, loop.digest)
"""


def test_a_seed_gives_the_same_trace_in_every_python_process() -> None:
    def run(seed: int, hash_seed: str) -> str:
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed, PYTHONPATH=os.getcwd())
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(seed)], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    assert len({run(5, hash_seed) for hash_seed in ("0", "1", "random")}) == 1
    assert run(5, "0") != run(6, "0")
