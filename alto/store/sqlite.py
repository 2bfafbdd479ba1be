"""The store of one machine: SQLite through apsw, one writer, group commit.

Bodies run on the event loop, one after another, on the one connection that writes; the commit, which waits for the disk,
runs in a thread of its own. While one group commits, the next gathers. Nothing is told to anybody before its commit has
returned. Reads run inline: on the same connection, or, while that commits, on a second one that still sees what was.
Only where no other client waits and the disk has been fast lately, the loop commits itself: a thread costs more than that.
Who has been alone for some time is not even kept waiting for the next turn of the loop.
Patient writes, which no client waits for, let some milliseconds pass, to go along with another's commit.

Invariant: a version is given out once in the life of a file, even if its transaction is rolled back.

Not here: what transactions see and what is cached (`rows.py`), SQL of kinds (`schema.py`), making and changing tables
(`migrations.py`), watches (`watches.py`).
"""

import asyncio
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import CoroutineType
from typing import TypeVar, cast

import apsw

from alto.model.errors import Unavailable
from alto.model.records import Record
from alto.store.check import problems, problems_of
from alto.store.kinds import KINDS
from alto.store.migrations import get_meta, migrate, set_meta
from alto.store.rows import AllRows, LiveView, Rows, Transaction, View
from alto.store.store import Reader, Tx, Watch
from alto.store.watches import Change, ChangeSet

T = TypeVar("T")
R = TypeVar("R", bound=Record)

# Bodies that share one commit. Each runs on the event loop, so this also bounds how long the loop is held.
GROUP_MAX = 64
# How many versions one start, or one refill, sets aside: so that a number is on the disk before it is used.
VERSIONS_RESERVED = 1_000_000
VERSIONS_REFILL = 100_000
BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 16_384
# Prepared statements that are kept, as many as apsw can: some ten of each kind, and one for each set of columns that change.
STATEMENTS_MAX = 512

# A commit that takes less is done on the event loop when at most one client waits: to wake a thread and be woken costs some
# 0.15 ms of processor time. A disk is slow when so many of its commits, counted up and down again by quick ones, were: now
# and then one empties the log into the file, and tells nothing.
QUICK_COMMIT_S = 0.001
SLOW_COMMITS, SLOW_COMMITS_MAX = 3, 10

# After so many groups with one client each, the next is not waited for: a write runs within the step of who asks, though but
# one in a turn of the loop. Who finds it taken is one of several, and they share again.
LONE_GROUPS = 8

# How long a patient write waits for another's commit: a commit costs a launch as much as all that it writes, and under load
# the next launch is not far.
PATIENCE_S = 0.003

# No lock of SQLite's own, of which each statement takes some dozen: a connection is only ever one thread's at a time.
_OURS = apsw.SQLITE_OPEN_NOMUTEX

# After these nobody knows what is on the disk; only a restart, which reads it again, does.
_FATAL = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError)


class _Job:
    """One write: what to run, and who waits for it."""

    __slots__ = ("body", "changes", "error", "future", "patient", "result")

    def __init__(self, body: Callable[[Tx], object], future: asyncio.Future[object], patient: bool) -> None:
        self.body = body
        self.patient = patient
        self.future = future
        self.changes: dict[str, set[Change]] = defaultdict(set)  # by kind
        self.result: object = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        if self.future.done():  # the caller was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            self.future.set_exception(RuntimeError("the body raised StopIteration"))
        else:
            self.future.set_exception(self.error)


class MemoryDisk:
    """What a simulated machine's disk keeps of its store: outlives the store, as a file outlives its process. Stores that
    share one, as a server and a test that looks on do, share what is cached of it."""

    def __init__(self, image: bytes | None = None) -> None:
        self.connection = apsw.Connection(":memory:")
        self.rows: AllRows = {}
        if image is not None:
            self.connection.deserialize("main", image)

    def image(self) -> bytes:
        return self.connection.serialize("main")


class SqliteStore:
    """A `Store`. Belongs to the event loop that made it. Make one with `open` or `inline`."""

    def __init__(
        self,
        writer: apsw.Connection,
        reader: apsw.Connection,
        rows: AllRows,
        *,
        failed: Callable[[BaseException], None],
        pause: Callable[[], Awaitable[None]] | None,
        monotonic: Callable[[], float] | None = None,
        path: Path | None = None,
        owner: apsw.Connection | None = None,
    ) -> None:
        self._path = path
        self._writer = writer
        self._cursor = writer.cursor()
        self._reader = reader
        self._owner = owner
        self._kinds = rows
        self._by_name = {kind.KIND: rows for kind, rows in self._kinds.items()}
        self._failed = failed
        self._pause = pause
        self._slow_commits = SLOW_COMMITS  # nothing is known yet
        self._lone = 0  # so many groups, up to now, had one client at most
        self._turn_taken = False  # somebody wrote without waiting, in this turn of the loop
        # In the order they began, so that a replay wakes them alike.
        self._watches: dict[ChangeSet, None] = {}
        self._waiting: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()  # those that wait for company
        self._patience: asyncio.TimerHandle | None = None
        self._busy = False  # a group is scheduled, running or committing
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_body = False
        self._committing = False  # the writing connection is not ours but the committing thread's
        self._closed = False
        self._broken: Unavailable | None = None
        self._version = self._reserved = _as_int(get_meta(writer, "versions_reserved"))
        self._reserving = 0
        self._committer = None if monotonic is None else _Committer(writer, asyncio.get_running_loop(), monotonic)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        monotonic: Callable[[], float],
        failed: Callable[[BaseException], None],
        kinds: Sequence[type[Record]] = KINDS,
    ) -> "SqliteStore":
        """The store in file `path`, made or upgraded as needed. `monotonic` is the clock's, also called from the committing
        thread. `failed` is called once, when the disk let us down: the
        process should end and start again, because only a fresh start knows what is on the disk.

        Raises: Unavailable: another process has it, or it is of a newer version.
        """
        with ExitStack() as undo:
            owner = _own(path)
            undo.callback(owner.close)
            writer = apsw.Connection(
                str(path), flags=_OURS | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, statementcachesize=STATEMENTS_MAX
            )
            undo.callback(writer.close)
            _settle(writer)
            writer.execute("PRAGMA journal_mode = WAL").fetchall()
            writer.execute("PRAGMA synchronous = FULL")
            migrate(writer, kinds, path=path)
            reader = apsw.Connection(str(path), flags=_OURS | apsw.SQLITE_OPEN_READONLY, statementcachesize=STATEMENTS_MAX)
            undo.callback(reader.close)
            _settle(reader)
            rows = {kind: Rows(kind) for kind in kinds}
            store = cls(writer, reader, rows, failed=failed, pause=None, monotonic=monotonic, path=path, owner=owner)
            undo.pop_all()
        return store

    @classmethod
    def inline(
        cls, disk: MemoryDisk, *, pause: Callable[[], Awaitable[None]], kinds: Sequence[type[Record]] = KINDS
    ) -> "SqliteStore":
        """The same without threads, for the simulator: each write awaits `pause` before and after its transaction. To crash,
        drop it and make another on the same disk: a transaction never spans an await, so it is there or it is not."""
        if disk.connection.in_transaction:
            disk.connection.execute("ROLLBACK")  # a view that the store which crashed still held
        _settle(disk.connection)
        migrate(disk.connection, kinds, path=None)

        for kind in kinds:
            disk.rows.setdefault(kind, Rows(kind)).forget_all()

        def failed(error: BaseException) -> None:
            raise error

        return cls(disk.connection, disk.connection, disk.rows, failed=failed, pause=pause)

    async def write(self, body: Callable[[Tx], T], *, patient: bool = False) -> T:
        self._check()
        job = _Job(body, asyncio.get_running_loop().create_future(), patient)
        if self._pause is None:
            self._idle.clear()
            if patient:
                self._patient.append(job)
                if self._patience is None:
                    self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._hurry)
            else:
                self._waiting.append(job)
                if not self._is_alone():
                    self._wake()
                else:
                    self._busy = self._turn_taken = True
                    asyncio.get_running_loop().call_soon(self._turned)
                    self._next_group()
                    if job.future.done():
                        return cast(T, job.future.result())
        else:
            await self._pause()
            if self._run([job]):
                self._committed([job], _commit(self._writer))
            if job.error is not None:
                job.future.exception()  # a caller that is cancelled in the pause never asks for it
            await self._pause()
        return cast(T, await job.future)

    def read(self, body: Callable[[Reader], T]) -> T:
        if self._in_body:
            raise RuntimeError("read inside a transaction would see another state: use its own tx")
        # The writing connection has its pages in memory; the other one forgets them at each commit, and serves while that
        # waits for the disk.
        view = View(self._reader, self._kinds) if self._committing else LiveView(self._writer, self._kinds)
        try:
            return _not_a_coroutine(body(view))
        except apsw.Error as error:
            raise _unavailable(error) from error
        finally:
            view.end()
            if self._committing and self._reader.in_transaction:
                # A view that is kept would keep the log from being emptied into the file.
                self._reader.execute("COMMIT")

    def watch(self, *kinds: type[Record]) -> Watch:
        watch = ChangeSet([kind.KIND for kind in kinds], lambda watch: self._watches.pop(watch, None))
        self._watches[watch] = None
        return watch

    async def check(self) -> list[str]:
        """What is wrong with the file, one sentence each, while it is in use; none when all is well."""
        if self._path is None:
            return problems_of(self._reader, tuple(self._kinds))
        return await asyncio.to_thread(problems, self._path, tuple(self._kinds))

    async def close(self) -> None:
        """What was asked before is still done; what comes later is Unavailable. Idempotent."""
        already, self._closed = self._closed, True
        self._hurry()
        await self._idle.wait()
        if already or self._committer is None:  # a MemoryDisk is its owner's
            return
        self._committer.close()
        self._reader.close()
        self._writer.close()
        if self._owner is not None:
            self._owner.close()

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("The store is closed")
        if self._broken is not None:
            raise Unavailable(str(self._broken)) from self._broken.__cause__

    # A group: gathered on one turn of the loop (_wake), run on the next (_next_group), committed in the thread, told.

    def _is_alone(self) -> bool:
        """Nobody else is to be expected, so nobody is waited for."""
        if self._turn_taken:
            self._lone = 0
        return not self._busy and self._lone >= LONE_GROUPS and self._is_quick()

    def _turned(self) -> None:
        self._turn_taken = False

    def _is_quick(self) -> bool:
        return self._slow_commits < SLOW_COMMITS

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._next_group)

    def _hurry(self) -> None:
        """Nobody else came: patient writes go by themselves."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._patient:
            self._waiting.extend(self._patient)
            self._patient.clear()
            self._wake()

    def _next_group(self) -> None:
        while self._waiting:
            # The patient ones began first.
            jobs = [self._patient.popleft() for _ in range(min(GROUP_MAX - 1, len(self._patient)))]
            jobs += [self._waiting.popleft() for _ in range(min(GROUP_MAX - len(jobs), len(self._waiting)))]
            if self._run(jobs):
                assert self._committer is not None
                alone = sum(not job.patient for job in jobs) <= 1
                self._lone = min(self._lone + 1, LONE_GROUPS) if alone else 0
                if alone and self._is_quick():
                    self._timed(jobs, *self._committer.now())
                else:
                    self._committer.later(lambda error, took_s, jobs=jobs: self._group_done(jobs, error, took_s))  # type: ignore[misc]
                    return
        self._busy = False
        if not self._patient:
            self._idle.set()

    def _group_done(self, jobs: list[_Job], error: BaseException | None, took_s: float) -> None:
        self._timed(jobs, error, took_s)
        self._next_group()

    def _timed(self, jobs: list[_Job], error: BaseException | None, took_s: float) -> None:
        change = 1 if took_s > QUICK_COMMIT_S else -1
        self._slow_commits = min(max(self._slow_commits + change, 0), SLOW_COMMITS_MAX)
        self._committed(jobs, error)

    def _run(self, jobs: list[_Job]) -> bool:
        """Run the bodies in one transaction. True: it waits for its commit. False: nothing changed, and all were told."""
        if self._broken is not None:
            return self._abandon(jobs, self._broken)
        alone = len(jobs) == 1  # what a single body changed is undone with the whole transaction
        try:
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN")
            self._reserve_versions()
            for job in jobs:
                if not alone:
                    self._writer.execute("SAVEPOINT body")
                self._run_body(job)
                if not alone:
                    if job.error is not None:
                        self._writer.execute("ROLLBACK TO body")
                    self._writer.execute("RELEASE body")
            if any(job.changes for job in jobs):
                self._committing = True
                return True
            self._writer.execute("ROLLBACK")
            self._reserving = 0
        except BaseException as error:
            return self._abandon(jobs, error)
        for job in jobs:
            job.tell()
        return False

    def _run_body(self, job: _Job) -> None:
        tx = Transaction(self._cursor, self._kinds, job.changes, self._version, max(self._reserved, self._reserving))
        self._in_body = True
        try:
            job.result = _not_a_coroutine(job.body(tx))
        except BaseException as error:
            if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
                raise  # the disk, not the body: SQLite may have given up the whole transaction
            job.error = error
            for changes in job.changes.values():
                for kind, id in changes:
                    self._by_name[kind].forget(id)
            job.changes.clear()
        finally:
            self._in_body = False
            self._version = tx.version
            tx.end()

    def _abandon(self, jobs: list[_Job], error: BaseException) -> bool:
        """Nothing of this group was done."""
        self._reserving = 0
        for rows in self._kinds.values():
            rows.forget_all()
        if self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except apsw.Error as second:
                error = second
        if isinstance(error, _FATAL) and self._broken is None:
            self._broken = _unavailable(error)
            self._failed(error)
        for job in jobs:
            job.error = job.error or _unavailable(error)
            job.tell()
        return False

    def _committed(self, jobs: list[_Job], error: BaseException | None) -> None:
        self._committing = False
        if error is not None:
            self._abandon(jobs, error)
            return
        if self._reserving:
            self._reserved, self._reserving = self._reserving, 0
        changes = jobs[0].changes
        for job in jobs[1:]:
            for kind, its in job.changes.items():
                changes[kind] |= its
        for watch in self._watches:
            watch.add(changes)
        for job in jobs:
            job.tell()

    def _reserve_versions(self) -> None:
        if self._reserved - self._version < VERSIONS_REFILL:
            self._reserving = self._version + VERSIONS_RESERVED
            set_meta(self._writer, "versions_reserved", self._reserving)


class _Committer:
    """Commits, and says how long each took; `later` in a thread, which alone touches the connection until it calls `done`."""

    def __init__(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._connection = connection
        self._loop = loop
        self._monotonic = monotonic
        self._wanted: queue.SimpleQueue[Callable[[BaseException | None, float], None] | None] = queue.SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="store-commit", daemon=True)
        self._thread.start()

    def now(self) -> tuple[BaseException | None, float]:
        """(what went wrong, seconds)."""
        begun = self._monotonic()
        error = _commit(self._connection)
        return error, self._monotonic() - begun

    def later(self, done: Callable[[BaseException | None, float], None]) -> None:
        self._wanted.put(done)

    def close(self) -> None:
        self._wanted.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (done := self._wanted.get()) is not None:
            error, took_s = self.now()
            try:
                self._loop.call_soon_threadsafe(done, error, took_s)
            except RuntimeError:
                return  # the loop is closed: nobody is left to tell


def _settle(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    # Plans must not depend on what is bound to a statement: SQLite would plan it anew for each value, at four times the cost.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _commit(connection: apsw.Connection) -> BaseException | None:
    try:
        connection.execute("COMMIT")
    except BaseException as error:
        return error
    return None


def _own(path: Path) -> apsw.Connection:
    """One process at a time: SQLite's own lock, on a file of its own, so that readers of the store are not shut out."""
    owner = apsw.Connection(str(path.with_name(path.name + ".owner")))
    try:
        owner.execute("BEGIN EXCLUSIVE")
    except apsw.BusyError as error:
        owner.close()
        raise Unavailable(f"Another Alto runs on the store {path.name}: alto status") from error
    return owner


def _unavailable(error: BaseException) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, apsw.FullError):
        refusal = Unavailable("The store's disk is full: make room and try again")
    elif isinstance(error, _FATAL):
        refusal = Unavailable("The store's disk failed: Alto takes no more changes until it is started again")
    else:
        refusal = Unavailable("The store could not do this now: try again")
    refusal.__cause__ = error
    return refusal


def _not_a_coroutine(result: T) -> T:
    if isinstance(result, CoroutineType):
        result.close()
        raise TypeError("a transaction's body is a plain function: nothing may be awaited inside")
    return result


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0
