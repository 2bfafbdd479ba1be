"""Nothing that was acknowledged is ever lost: a real process killed in the middle, and a disk that fails or fills up.

`kill -9` proves that a commit reached the kernel; that it was also told to reach the disk is seen one layer lower, by a
SQLite file system (VFS) that writes down each write and each sync.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from alto.model.errors import Unavailable
from alto.store.sqlite import SqliteStore
from alto.store.store import Reader, Tx
from tests.store.kinds import Thing
from tests.store.writer import WRITES

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(6))
def test_kill_minus_9_loses_no_acknowledged_write(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    acknowledged: list[str] = []
    kill_after = random.Random(seed).randrange(1, WRITES)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", str(path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged.append(line.decode().strip())
            if len(acknowledged) == kill_after:
                child.send_signal(signal.SIGKILL)
                # What is still in the pipe was said before the kill, and counts.
    assert child.returncode == -signal.SIGKILL
    assert len(acknowledged) >= kill_after

    async def look() -> set[str]:
        store = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(Thing,))
        try:
            assert await store.check() == []
            await store.write(lambda tx: tx.put(Thing(id="after")))
            return {thing.id for thing in store.read(lambda reader: reader.where(Thing))}
        finally:
            await store.close()

    kept = asyncio.run(look())
    assert set(acknowledged) <= kept


class _Disk(apsw.VFS):
    """The machine's own disk, written down in `log`, and made to fail."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.sync_error: type[apsw.Error] | None = None
        self.write_error: type[apsw.Error] | None = None
        super().__init__("alto-test-disk", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: _Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._wal = str(name.filename() if isinstance(name, apsw.URIFilename) else name).endswith("-wal")
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._wal:
            self._disk.log.append("write")
            if self._disk.write_error is not None:
                raise self._disk.write_error
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._wal:
            self._disk.log.append("sync")
            if self._disk.sync_error is not None:
                raise self._disk.sync_error
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[_Disk]:
    disk = _Disk()
    yield disk
    disk.unregister()


def test_nothing_is_acknowledged_before_it_was_told_to_reach_the_disk(tmp_path: Path, disk: _Disk) -> None:
    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=time.monotonic, failed=pytest.fail, kinds=(Thing,))

        async def write(number: int) -> None:
            await store.write(lambda tx: tx.put(Thing(id=f"t-{number}")))
            disk.log.append("acknowledged")

        await write(0)  # makes the log's file
        disk.log.clear()
        await asyncio.gather(*(write(number) for number in range(1, 50)))
        for number in range(50, 60):
            await write(number)
        await store.close()

    asyncio.run(main())
    assert disk.log.count("acknowledged") == 59
    unsynced = False
    for entry in disk.log:
        if entry == "acknowledged":
            assert not unsynced
        else:
            unsynced = entry == "write"
    # The first fifty shared few commits: that is what group commit is for.
    assert disk.log.count("sync") <= 15


@pytest.mark.parametrize("clock", [lambda: 0.0, itertools.count().__next__], ids=["a quick disk", "a slow disk"])
def test_a_patient_write_shares_another_s_commit(tmp_path: Path, disk: _Disk, clock: Callable[[], float]) -> None:
    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=clock, failed=pytest.fail, kinds=(Thing,))
        for number in range(4):
            await store.write(lambda tx, number=number: tx.put(Thing(id=f"t-{number}")))  # type: ignore[misc]
        disk.log.clear()
        hasty = [False, True, False, False, True, False]
        writes = [
            store.write(lambda tx, n=n: tx.put(Thing(id=f"u-{n}")), patient=not hasty[n])  # type: ignore[misc]
            for n in range(len(hasty))
        ]
        # As they come: those that wait for company are there before whoever brings it.
        await asyncio.gather(*writes)
        assert disk.log.count("sync") == 1
        await store.close()

    asyncio.run(main())


def test_those_who_come_together_share_commits_though_the_first_was_alone(tmp_path: Path, disk: _Disk) -> None:
    """Also where each has work to do before it writes, so that they do not come all at once."""

    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=lambda: 0.0, failed=pytest.fail, kinds=(Thing,))

        async def write(id: str) -> None:
            until = time.perf_counter() + 0.0003
            while time.perf_counter() < until:
                pass
            await store.write(lambda tx: tx.put(Thing(id=id)))

        for number in range(20):
            await write(f"t-{number}")
        disk.log.clear()
        for number in range(10):
            await asyncio.gather(*(write(f"u-{number}-{n}") for n in range(16)))
        await store.close()

    asyncio.run(main())
    assert disk.log.count("sync") <= 12, "each for itself would be 160"


def test_who_is_alone_waits_for_no_turn_of_the_loop_but_once_in_each(tmp_path: Path) -> None:
    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=lambda: 0.0, failed=pytest.fail, kinds=(Thing,))
        for number in range(20):  # disk and clients become known
            await store.write(lambda tx, number=number: tx.put(Thing(id=f"t-{number}")))  # type: ignore[misc]
            await asyncio.sleep(0)
        with pytest.raises(StopIteration):
            store.write(lambda tx: tx.put(Thing(id="t-20"))).send(None)
        assert store.read(lambda reader: reader.count(Thing)) == 21
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.ensure_future(others())
        for _ in range(100):
            with contextlib.suppress(ZeroDivisionError):
                await store.write(lambda tx: 1 / 0)
            await store.write(lambda tx: tx.find(Thing, "t-0"))
        other.cancel()
        assert turns >= 50, "who writes again and again leaves time to others"
        await store.close()

    asyncio.run(main())


def test_while_a_commit_waits_for_the_disk_reads_see_what_was(tmp_path: Path) -> None:
    """And what they saw then is not taken for what is: an older row that was read meanwhile must not come back."""

    def look(reader: Reader) -> tuple[str | None, str | None, list[str]]:
        changed, deleted = reader.find(Thing, "changed"), reader.find(Thing, "deleted")
        listed = [thing.region for thing in reader.where(Thing, account="1")]
        return changed and changed.region, deleted and deleted.region, listed

    seconds, may_commit = itertools.count(), threading.Event()
    may_commit.set()

    def slow() -> float:
        """Every commit seems to take a second, so that a thread does it, and asks for the time before it begins."""
        assert may_commit.wait(timeout=30)
        return next(seconds)

    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=slow, failed=pytest.fail, kinds=(Thing,))
        await store.write(lambda tx: (tx.put(Thing(id="changed")), tx.put(Thing(id="deleted"))))
        for _ in range(2):  # the second time from a file that was opened again, with nothing in memory
            ran = asyncio.Event()

            def body(tx: Tx, ran: asyncio.Event = ran) -> None:
                tx.put(replace(tx.get(Thing, "changed"), region="there"))
                tx.delete(Thing, "deleted")
                ran.set()

            may_commit.clear()
            writing = asyncio.ensure_future(store.write(body))
            await ran.wait()
            # The commit is another thread's work by now.
            assert store.read(look) == ("here", "here", ["here", "here"])
            may_commit.set()
            await writing
            assert store.read(look) == ("there", None, ["there"])
            assert await store.write(look) == ("there", None, ["there"])
            await store.write(
                lambda tx: (tx.put(replace(tx.get(Thing, "changed"), region="here")), tx.put(Thing(id="deleted")))
            )
            await store.close()
            store = await SqliteStore.open(tmp_path / "store.db", monotonic=slow, failed=pytest.fail, kinds=(Thing,))
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("writers", [1, 3], ids=["on the loop", "in the thread"])
def test_when_a_sync_fails_the_store_stops_and_says_so(tmp_path: Path, disk: _Disk, writers: int) -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=lambda: 0.0, failed=failures.append, kinds=(Thing,))
        await store.write(lambda tx: tx.put(Thing(id="before")))
        watch = store.watch(Thing)
        disk.sync_error = apsw.IOError
        lost = [asyncio.ensure_future(store.write(lambda tx, n=n: tx.put(Thing(id=f"lost-{n}")))) for n in range(writers)]
        await asyncio.sleep(0)
        late = asyncio.ensure_future(store.write(lambda tx: tx.put(Thing(id="late"))))
        for answer in await asyncio.gather(*lost, late, return_exceptions=True):
            assert isinstance(answer, Unavailable)
        disk.sync_error = None
        # After a failed fsync the kernel may have dropped the pages: only a fresh start knows what is there.
        with pytest.raises(Unavailable, match="until it is started again"):
            await store.write(lambda tx: tx.put(Thing(id="after")))
        assert await watch.changed(timeout_s=0.01) == frozenset()
        assert len(failures) == 1
        await store.close()
        again = await SqliteStore.open(tmp_path / "store.db", monotonic=time.monotonic, failed=failures.append, kinds=(Thing,))
        assert again.read(lambda reader: reader.get(Thing, "before"))
        assert await again.check() == []
        await again.close()

    asyncio.run(main())


def test_a_full_disk_refuses_writes_keeps_reads_and_recovers(tmp_path: Path, disk: _Disk) -> None:
    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "store.db", monotonic=time.monotonic, failed=pytest.fail, kinds=(Thing,))
        await store.write(lambda tx: tx.put(Thing(id="before")))
        disk.write_error = apsw.FullError
        writes = [store.write(lambda tx, n=n: tx.put(Thing(id=f"lost-{n}"))) for n in range(3)]
        writes.append(store.write(lambda tx: tx.put(replace(tx.get(Thing, "before"), region="lost"))))
        for answer in await asyncio.gather(*writes, return_exceptions=True):
            assert isinstance(answer, Unavailable)
            assert "full" in str(answer)
        assert store.read(lambda reader: reader.get(Thing, "before")).region == "here"
        assert [thing.id for thing in store.read(lambda reader: reader.where(Thing))] == ["before"]
        disk.write_error = None
        await store.write(lambda tx: tx.put(Thing(id="after")))
        assert [thing.id for thing in store.read(lambda reader: reader.where(Thing))] == ["after", "before"]
        assert await store.check() == []
        await store.close()

    asyncio.run(main())


def test_the_check_finds_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> list[str]:
        store = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(Thing,))
        await store.write(lambda tx: [tx.put(Thing(id=f"t-{n}")) for n in range(5)])
        assert await store.check() == []
        other = apsw.Connection(str(path))
        other.execute("UPDATE thing SET version = 77 WHERE id = 't-1'")
        other.execute("UPDATE thing SET body = '{\"id\": 3}' WHERE id = 't-2'")
        other.execute("UPDATE thing SET body = json_set(body, '$.version', 9000000), version = 9000000 WHERE id = 't-3'")
        other.execute("UPDATE thing SET region = 'elsewhere' WHERE id = 't-4'")
        other.close()
        found = await store.check()
        await store.close()
        return found

    found = asyncio.run(main())
    assert [sum(id in line for line in found) for id in ("t-0", "t-1", "t-2", "t-3", "t-4")] == [0, 1, 1, 1, 1]
