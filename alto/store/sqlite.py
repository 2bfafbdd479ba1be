"""The store of one machine: SQLite through apsw, one writer, group commit.

Bodies run on the event loop, one after another, on the one connection that writes; only the commit, which waits for the
disk, runs in a thread of its own. While one group commits, the next gathers. Nothing is told to anybody before its commit
has returned. Reads run inline: on the same connection, or, while that commits, on a second one that still sees what was.

Invariants: the file is ours alone, so a record in the cache is the row as the writing connection sees it; what a body that
fails had touched is forgotten. A version is given out once in the life of a file, even if its transaction is rolled back,
so whoever sees another moment knows by the version whether a cached record is its own.

Not here: SQL of kinds (`schema.py`), making and changing tables (`migrations.py`), watches (`watches.py`).
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import CoroutineType
from typing import TypeVar, cast

import apsw
import msgspec
from msgspec.structs import replace

from alto.model.errors import AlreadyExists, CapacityExceeded, Conflict, NotFound, Unavailable
from alto.model.records import Record
from alto.store.check import problems, problems_of
from alto.store.kinds import KINDS
from alto.store.migrations import get_meta, migrate, set_meta
from alto.store.schema import Table, table_of
from alto.store.store import Reader, Tx, Watch
from alto.store.watches import Change, ChangeSet

T = TypeVar("T")
R = TypeVar("R", bound=Record)

# Bodies that share one commit. Each runs on the event loop, so this also bounds how long the loop is held.
GROUP_MAX = 64
# Decoded rows kept per kind; an instance takes some 4 KiB.
CACHED_ROWS_MAX = 20_000
# Lookups whose answers are kept per kind until a row of it changes, and how long such an answer may be.
ANSWERS_MAX, ANSWER_ROWS_MAX = 64, 200
# How many versions one start, or one refill, sets aside: so that a number is on the disk before it is used.
VERSIONS_RESERVED = 1_000_000
VERSIONS_REFILL = 100_000
BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 16_384

# After these nobody knows what is on the disk; only a restart, which reads it again, does.
_FATAL = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError)


class _Job:
    """One write: what to run, and who waits for it."""

    __slots__ = ("body", "changes", "error", "future", "result")

    def __init__(self, body: Callable[[Tx], object], future: asyncio.Future[object]) -> None:
        self.body = body
        self.future = future
        self.changes: set[Change] = set()
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


_Asked = tuple[tuple[str, ...], frozenset[str]]  # the fields of a lookup, and those of them that are to be null
_Question = tuple[_Asked, tuple[int | float | str, ...]]  # with the values, `after` and the limit
_NO_NULLS: frozenset[str] = frozenset()


class _Rows:
    """How records of one kind become rows and back."""

    def __init__(self, kind: type[Record]) -> None:
        self.kind = kind
        self.table: Table = table_of(kind)
        self.decode = msgspec.json.Decoder(kind).decode
        self.cached: dict[str, Record] = {}
        self.answers: dict[_Question, list[Record]] = {}  # until a row of the kind changes
        self.where_sql: dict[_Asked, str] = {}
        self.count_sql: dict[_Asked, str] = {}

    def keep(self, record: Record) -> None:
        if len(self.cached) >= CACHED_ROWS_MAX and record.id not in self.cached:
            self.cached.clear()
        self.cached[record.id] = record

    def put(self, record: Record) -> None:
        self.keep(record)
        self.answers.clear()

    def forget(self, id: str) -> None:
        self.cached.pop(id, None)
        self.answers.clear()

    def forget_all(self) -> None:
        self.cached.clear()
        self.answers.clear()


_Kinds = dict[type[Record], _Rows]
_encode = msgspec.json.Encoder().encode


class MemoryDisk:
    """What a simulated machine's disk keeps of its store: outlives the store, as a file outlives its process. Stores that
    share one, as a server and a test that looks on do, share what is cached of it."""

    def __init__(self, image: bytes | None = None) -> None:
        self.connection = apsw.Connection(":memory:")
        self.rows: _Kinds = {}
        if image is not None:
            self.connection.deserialize("main", image)

    def image(self) -> bytes:
        return self.connection.serialize("main")


class _View:
    """A `Reader` for as long as its transaction lasts, of a moment that may be older than the cache's."""

    def __init__(self, connection: apsw.Connection, kinds: _Kinds) -> None:
        self._connection = connection
        self._kinds = kinds

    def end(self) -> None:
        # A body that kept its view would otherwise read or write outside any transaction.
        del self._connection, self._kinds

    def get(self, kind: type[R], id: str) -> R:
        record = self.find(kind, id)
        if record is None:
            raise NotFound(kind.KIND, id)
        return record

    def find(self, kind: type[R], id: str) -> R | None:
        return cast("R | None", self._load(self._kinds[kind], id))

    def where(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **equals: object) -> list[R]:
        asked, values = _asked(equals)
        return cast("list[R]", self._answer(self._kinds[kind], asked, (*values, after or "", -1 if limit is None else limit)))

    def count(self, kind: type[R], **equals: object) -> int:
        rows = self._kinds[kind]
        asked, values = _asked(equals)
        sql = rows.count_sql.get(asked)
        if sql is None:
            sql = rows.count_sql[asked] = rows.table.number_of(*asked)
        return cast(int, self._execute(sql, values).get)

    def _answer(self, rows: _Rows, asked: _Asked, values: tuple[int | float | str, ...]) -> list[Record]:
        sql = rows.where_sql.get(asked)
        if sql is None:
            sql = rows.where_sql[asked] = rows.table.page_of(*asked)
        cached = rows.cached.get
        found: list[Record] = []
        # Ids and versions only: of rows that are in the cache, not even the bytes are fetched.
        for id, version in cast("list[tuple[str, int]]", self._execute(sql, values).fetchall()):
            record = cached(id)
            if record is None or record.version != version:
                record = cast(Record, self._load(rows, id))
            found.append(record)
        return found

    def _load(self, rows: _Rows, id: str) -> Record | None:
        row = self._execute(rows.table.find, (id,)).fetchone()
        if row is None:
            return None
        cached = rows.cached.get(id)
        # What is decoded here is not kept: the row may have changed since.
        return cached if cached is not None and cached.version == row[0] else rows.decode(row[1])

    def _execute(self, sql: str, values: tuple[int | float | str, ...]) -> apsw.Cursor:
        if not self._connection.in_transaction:
            # Deferred, so that reads and the next group share one view: nobody else writes, so there is no race to lose
            # when the first change makes it a writing one.
            self._connection.execute("BEGIN")
        return self._connection.execute(sql, values)


class _LiveView(_View):
    """The writing connection's own moment, which is the cache's."""

    def find(self, kind: type[R], id: str) -> R | None:
        rows = self._kinds[kind]
        return cast("R | None", rows.cached.get(id) or self._load(rows, id))

    def _answer(self, rows: _Rows, asked: _Asked, values: tuple[int | float | str, ...]) -> list[Record]:
        found = rows.answers.get((asked, values))
        if found is None:
            found = super()._answer(rows, asked, values)
            if len(found) <= ANSWER_ROWS_MAX and len(rows.answers) < ANSWERS_MAX:
                rows.answers[(asked, values)] = found
        return found.copy()

    def _load(self, rows: _Rows, id: str) -> Record | None:
        row = self._execute(rows.table.find, (id,)).fetchone()
        if row is None:
            return None
        record = rows.decode(row[1])
        rows.keep(record)
        return record


def _asked(equals: dict[str, object]) -> tuple[_Asked, tuple[int | float | str, ...]]:
    nulls = _NO_NULLS
    if None in equals.values():
        nulls = frozenset([name for name, value in equals.items() if value is None])
    return (tuple(equals), nulls), tuple([_plain(value) for value in equals.values() if value is not None])


def _plain(value: object) -> int | float | str:
    """As `json_extract` would answer it: enumerations by value, truth as 1 and 0."""
    if type(value) is str:
        return value
    builtin = msgspec.to_builtins(value)
    if isinstance(builtin, bool):
        return int(builtin)
    if isinstance(builtin, int | float | str):
        return builtin
    raise ValueError(f"no index holds a {type(value).__name__}")


class _Transaction(_LiveView):
    """A `Tx`."""

    def __init__(
        self, connection: apsw.Connection, kinds: _Kinds, next_version: Callable[[], int], changes: set[Change]
    ) -> None:
        super().__init__(connection, kinds)
        self._next_version = next_version
        self._changes = changes

    def put(self, record: R) -> R:
        rows = self._kinds[type(record)]
        version = self._next_version()
        written = replace(record, version=version)
        body = _encode(written).decode()
        try:
            if record.version == 0:
                self._connection.execute(rows.table.insert, (record.id, version, body))
            else:
                self._connection.execute(rows.table.update, (version, body, record.id, record.version))
                if self._connection.changes() == 0:
                    raise Conflict(f"The {record.KIND} '{record.id}' changed meanwhile")
        except apsw.ConstraintError as error:
            raise _refusal(rows.table, error) from error
        rows.put(written)
        self._changes.add((record.KIND, record.id))
        return written

    def delete(self, kind: type[R], id: str) -> None:
        rows = self._kinds[kind]
        self._connection.execute(rows.table.delete, (id,))
        if self._connection.changes():
            rows.forget(id)
            self._changes.add((kind.KIND, id))


def _refusal(table: Table, error: apsw.ConstraintError) -> Exception:
    """SQLite says "UNIQUE constraint failed: t.a, t.b" and "CHECK constraint failed: guard_1"."""
    broken = str(error).partition("constraint failed: ")[2]
    if broken in table.unique:
        return AlreadyExists(table.name, table.unique[broken])
    if broken in table.guards:
        return CapacityExceeded(f"The {table.name} would break its limit: {table.guards[broken]}")
    return error


class SqliteStore:
    """A `Store`. Belongs to the event loop that made it. Make one with `open` or `inline`."""

    def __init__(
        self,
        writer: apsw.Connection,
        reader: apsw.Connection,
        rows: _Kinds,
        *,
        failed: Callable[[BaseException], None],
        pause: Callable[[], Awaitable[None]] | None,
        path: Path | None = None,
        owner: apsw.Connection | None = None,
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._owner = owner
        self._kinds = rows
        self._by_name = {kind.KIND: rows for kind, rows in self._kinds.items()}
        self._failed = failed
        self._pause = pause
        # In the order they began, so that a replay wakes them alike.
        self._watches: dict[ChangeSet, None] = {}
        self._waiting: deque[_Job] = deque()
        self._busy = False  # a group is scheduled, running or committing
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_body = False
        self._committing = False  # the writing connection is not ours but the committing thread's
        self._closed = False
        self._broken: Unavailable | None = None
        self._version = self._reserved = _as_int(get_meta(writer, "versions_reserved"))
        self._reserving = 0
        self._committer = None if pause is not None else _Committer(writer, asyncio.get_running_loop())

    @classmethod
    async def open(
        cls, path: Path, *, failed: Callable[[BaseException], None], kinds: Sequence[type[Record]] = KINDS
    ) -> "SqliteStore":
        """The store in file `path`, made or upgraded as needed. `failed` is called once, when the disk let us down: the
        process should end and start again, because only a fresh start knows what is on the disk.

        Raises: Unavailable: another process has it, or it is of a newer version.
        """
        with ExitStack() as undo:
            owner = _own(path)
            undo.callback(owner.close)
            writer = apsw.Connection(str(path))
            undo.callback(writer.close)
            _settle(writer)
            writer.execute("PRAGMA journal_mode = WAL").fetchall()
            writer.execute("PRAGMA synchronous = FULL")
            migrate(writer, kinds, path=path)
            reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            undo.callback(reader.close)
            _settle(reader)
            rows = {kind: _Rows(kind) for kind in kinds}
            store = cls(writer, reader, rows, failed=failed, pause=None, path=path, owner=owner)
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
            disk.rows.setdefault(kind, _Rows(kind)).forget_all()

        def failed(error: BaseException) -> None:
            raise error

        return cls(disk.connection, disk.connection, disk.rows, failed=failed, pause=pause)

    async def write(self, body: Callable[[Tx], T]) -> T:
        self._check()
        job = _Job(body, asyncio.get_running_loop().create_future())
        if self._pause is None:
            self._waiting.append(job)
            self._idle.clear()
            self._wake()
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
        view = _View(self._reader, self._kinds) if self._committing else _LiveView(self._writer, self._kinds)
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

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._next_group)

    def _next_group(self) -> None:
        while self._waiting:
            jobs = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
            if self._run(jobs):
                assert self._committer is not None
                self._committer.commit(lambda error, jobs=jobs: self._group_done(jobs, error))  # type: ignore[misc]
                return
        self._busy = False
        self._idle.set()

    def _group_done(self, jobs: list[_Job], error: BaseException | None) -> None:
        self._committed(jobs, error)
        self._next_group()

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
        tx = _Transaction(self._writer, self._kinds, self._next_version, job.changes)
        self._in_body = True
        try:
            job.result = _not_a_coroutine(job.body(tx))
        except BaseException as error:
            if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
                raise  # the disk, not the body: SQLite may have given up the whole transaction
            job.error = error
            for kind, id in job.changes:
                self._by_name[kind].forget(id)
            job.changes = set()
        finally:
            self._in_body = False
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
        changes = set().union(*(job.changes for job in jobs))
        for watch in tuple(self._watches):
            watch.add(changes)
        for job in jobs:
            job.tell()

    def _next_version(self) -> int:
        self._version += 1
        if self._version > max(self._reserved, self._reserving):
            raise RuntimeError(f"one transaction wrote more than {VERSIONS_REFILL} rows")
        return self._version

    def _reserve_versions(self) -> None:
        if self._reserved - self._version < VERSIONS_REFILL:
            self._reserving = self._version + VERSIONS_RESERVED
            set_meta(self._writer, "versions_reserved", self._reserving)


class _Committer:
    """The thread that waits for the disk. It touches the connection only between `commit` and the call of `done`."""

    def __init__(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._wanted: queue.SimpleQueue[Callable[[BaseException | None], None] | None] = queue.SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="store-commit", daemon=True)
        self._thread.start()

    def commit(self, done: Callable[[BaseException | None], None]) -> None:
        self._wanted.put(done)

    def close(self) -> None:
        self._wanted.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (done := self._wanted.get()) is not None:
            error = _commit(self._connection)
            try:
                self._loop.call_soon_threadsafe(done, error)
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
