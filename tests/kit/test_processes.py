"""The real World's processes. Goal: a command's end, words and failure come back whole, whatever it does with what it was
given; a process that is to outlive us has nothing of ours but what it was passed, and leaves no corpse. Method: small shell
scripts, on the event loop of the tests and on the one that the daemons run on."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from alto.kit.world import Pid, RealProcesses

SOON_S = 20.0
Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(body: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(body, SOON_S))

    return run


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_what_a_command_says_comes_back(run: Run) -> None:
    async def main() -> None:
        done = await RealProcesses().run(["sh", "-c", "cat; printf 'why\nno\n' >&2; exit 3"], stdin=b"words\n")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"words\n", b"why\nno\n")
        assert (done.complaint(), done.complaint(lines=2)) == ("no", "why; no")
        assert (await RealProcesses().run(["false"])).complaint(lines=2) == "exit code 1"

    run(main())


def test_more_than_a_pipe_holds_goes_in_and_out(run: Run) -> None:
    much = os.urandom(1 << 20)

    async def main() -> None:
        processes = RealProcesses()
        assert (await processes.run(["cat"], stdin=much)).stdout == much
        # Nor is it an error that a command wants none of it.
        assert (await processes.run(["true"], stdin=much)).returncode == 0

    run(main())


def test_a_command_is_over_when_it_ends_whoever_still_has_its_output(run: Run) -> None:
    async def main() -> None:
        began = time.monotonic()
        done = await RealProcesses().run(["sh", "-c", "sleep 100 & echo $!"])
        assert time.monotonic() - began < SOON_S / 2
        os.kill(int(done.stdout), 9)

    run(main())


def test_a_command_that_takes_too_long_is_killed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        processes, number = RealProcesses(), tmp_path / "pid"
        words = ["sh", "-c", f"echo $$ >{number}; exec sleep 100"]
        with pytest.raises(TimeoutError):
            await processes.run(words, timeout_s=0.5)
        assert state_of(int(number.read_text())) is None
        number.unlink()
        # So is one whose caller goes.
        task = asyncio.create_task(processes.run(words))
        await until(lambda: number.exists() and number.read_text() != "")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert state_of(int(number.read_text())) is None

    run(main())


def test_a_command_that_is_not_there_is_said(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await RealProcesses().run(["no-such-command-anywhere"])

    run(main())


def test_many_commands_run_side_by_side(run: Run) -> None:
    async def main() -> None:
        processes = RealProcesses()
        tasks = [asyncio.create_task(processes.run(["sh", "-c", f"sleep 0.1; echo {number}"])) for number in range(20)]
        assert [(await task).stdout for task in tasks] == [f"{number}\n".encode() for number in range(20)]

    run(main())


def test_a_detached_process_has_a_session_of_its_own_and_only_what_it_was_passed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        processes, log = RealProcesses(), tmp_path / "log"
        passed, kept = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/full", os.O_RDONLY)
        os.set_inheritable(kept, True)
        try:
            words = ["sh", "-c", "readlink /proc/self/fd/*; echo $ONLY; exec sleep 100"]
            process = await processes.spawn(words, log=log, pass_fds=[passed], env={"ONLY": "this", "PATH": os.environ["PATH"]})
        finally:
            os.close(passed)
            os.close(kept)
        await until(lambda: b"this\n" in log.read_bytes())
        said = log.read_text()
        assert "/dev/zero" in said
        assert "/dev/full" not in said
        assert os.getsid(process.pid) == process.pid
        assert processes.alive(process)
        processes.signal(process, 9)
        assert await processes.wait_gone(process, timeout_s=SOON_S)
        assert not processes.alive(process)
        await until(lambda: state_of(process.pid) is None)  # and no corpse is left

    run(main())


FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_is_alive_until_its_last_thread_has_ended(run: Run, tmp_path: Path) -> None:
    """A hypervisor that is killed ends thread by thread; its disks' locks go with the last."""

    async def main() -> None:
        processes = RealProcesses()
        process = await processes.spawn([sys.executable, "-c", FIRST_THREAD_ENDS], log=tmp_path / "log")
        await until(lambda: state_of(process.pid) == "Z")
        assert processes.alive(process)
        assert processes.find(process.pid) == process
        assert not await processes.wait_gone(process, timeout_s=0.05)
        processes.signal(process, 9)
        assert await processes.wait_gone(process, timeout_s=SOON_S)
        assert not processes.alive(process)

    run(main())


def test_a_detached_process_outlives_the_loop_that_started_it(run: Run, tmp_path: Path) -> None:
    started: list[Pid] = []
    processes = RealProcesses()

    async def main() -> None:
        started.append(await processes.spawn(["sleep", "100"], log=tmp_path / "log"))

    async def after() -> None:
        assert processes.alive(started[0])
        processes.signal(started[0], 9)
        assert await processes.wait_gone(started[0], timeout_s=SOON_S)

    run(main())
    run(after())
