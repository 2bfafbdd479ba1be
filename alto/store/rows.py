"""Rows of a database and records, and what transactions see: views, and what is kept in memory of them.

Not here: when a transaction begins and ends (`sqlite.py`), SQL of kinds (`schema.py`).

Invariant: the file is ours alone, so a record in the cache is the row as the writing connection sees it (`LiveView`); what a
body that fails had touched is forgotten by its caller. Whoever sees another moment (`View`) knows by the version, which is
given out once in the life of a file, whether a cached record is its own.
"""

from itertools import compress
from operator import ne
from typing import TypeVar, cast

import apsw
import msgspec
from msgspec.structs import replace

from alto.model.errors import AlreadyExists, CapacityExceeded, Conflict, NotFound
from alto.model.records import Record
from alto.store.schema import Plain, Table, Values, table_of
from alto.store.watches import Change

R = TypeVar("R", bound=Record)

# Decoded rows kept per kind; an instance takes some 4 KiB.
CACHED_ROWS_MAX = 20_000
# Lookups whose answers are kept per kind until a row of it changes, and how long such an answer may be.
ANSWERS_MAX, ANSWER_ROWS_MAX = 64, 200

_Asked = tuple[tuple[str, ...], frozenset[str]]  # the fields of a lookup, and those of them that are to be null
_Question = tuple[_Asked, tuple[Plain, ...]]  # with the values, `after` and the limit
_NO_NULLS: frozenset[str] = frozenset()


class Rows:
    """How records of one kind become rows and back."""

    def __init__(self, kind: type[Record]) -> None:
        self.kind = kind
        self.table: Table = table_of(kind)
        self.insert_sql, self.values = self.table.insert, self.table.values
        self.decode = msgspec.json.Decoder(kind).decode
        self.cached: dict[str, Record] = {}
        self.answers: dict[_Question, list[Record]] = {}  # until a row of the kind changes
        self.where_sql: dict[_Asked, str] = {}
        self.count_sql: dict[_Asked, str] = {}
        self.update_sql: dict[tuple[bool, ...], str] = {}  # by which columns change

    def keep(self, record: Record) -> None:
        if len(self.cached) >= CACHED_ROWS_MAX and record.id not in self.cached:
            self.cached.clear()
        self.cached[record.id] = record

    def update(self, record: Record, body: str, version: int) -> tuple[str, tuple[Plain | None, ...]]:
        """What writes `body`, which is `record` as of `version`, over the row that it was read from."""
        values = self.values(record)
        before = self.cached.get(record.id)
        if before is not None and before.version == record.version:
            changed = tuple(map(ne, values, self.values(before)))
        else:
            changed = (True,) * len(values)
        sql = self.update_sql.get(changed)
        if sql is None:
            sql = self.update_sql[changed] = self.table.update_of(tuple(compress(self.table.columns, changed)))
        return sql, (version, body, *compress(values, changed), *self.table.key(record.id), record.version)

    def forget(self, id: str) -> None:
        self.cached.pop(id, None)
        self.answers.clear()

    def forget_all(self) -> None:
        self.cached.clear()
        self.answers.clear()


AllRows = dict[type[Record], Rows]
_encode = msgspec.json.Encoder().encode


class View:
    """A `Reader` for as long as its transaction lasts, of a moment that may be older than the cache's."""

    def __init__(self, connection: apsw.Connection, kinds: AllRows) -> None:
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
        rows = self._kinds[kind]
        asked, values = _asked(equals)
        if asked not in rows.where_sql:
            rows.where_sql[asked] = rows.table.page_of(*asked)
        return self._answer(rows, asked, (*values, rows.table.after(after or ""), -1 if limit is None else limit))  # type: ignore[return-value]

    def count(self, kind: type[R], **equals: object) -> int:
        rows = self._kinds[kind]
        asked, values = _asked(equals)
        sql = rows.count_sql.get(asked)
        if sql is None:
            sql = rows.count_sql[asked] = rows.table.number_of(*asked)
        return cast(int, self._execute(sql, values).get)

    def _answer(self, rows: Rows, asked: _Asked, values: tuple[Plain, ...]) -> list[Record]:
        sql = rows.where_sql[asked]
        cached = rows.cached.get
        found: list[Record] = []
        # Ids and versions only: of rows that are in the cache, not even the bytes are fetched.
        for id, version in cast("list[tuple[str, int]]", self._execute(sql, values).fetchall()):
            record = cached(id)
            if record is None or record.version != version:
                record = cast(Record, self._load(rows, id))
            found.append(record)
        return found

    def _load(self, rows: Rows, id: str) -> Record | None:
        row = self._execute(rows.table.find, rows.table.key(id)).fetchone()
        if row is None:
            return None
        cached = rows.cached.get(id)
        # What is decoded here is not kept: the row may have changed since.
        return cached if cached is not None and cached.version == row[0] else rows.decode(row[1])

    def _execute(self, sql: str, values: Values) -> apsw.Cursor:
        if not self._connection.in_transaction:
            # Deferred, so that reads and the next group share one view: nobody else writes, so there is no race to lose
            # when the first change makes it a writing one.
            self._connection.execute("BEGIN")
        return self._connection.execute(sql, values)


class LiveView(View):
    """The writing connection's own moment, which is the cache's."""

    def find(self, kind: type[R], id: str) -> R | None:
        rows = self._kinds[kind]
        return rows.cached.get(id) or self._load(rows, id)  # type: ignore[return-value]

    def _answer(self, rows: Rows, asked: _Asked, values: tuple[Plain, ...]) -> list[Record]:
        found = rows.answers.get((asked, values))
        if found is None:
            found = super()._answer(rows, asked, values)
            if len(found) <= ANSWER_ROWS_MAX and len(rows.answers) < ANSWERS_MAX:
                rows.answers[(asked, values)] = found
        return found.copy()

    def _load(self, rows: Rows, id: str) -> Record | None:
        row = self._execute(rows.table.find, rows.table.key(id)).fetchone()
        if row is None:
            return None
        record = rows.decode(row[1])
        rows.keep(record)
        return record


def _asked(equals: dict[str, object]) -> tuple[_Asked, tuple[Plain, ...]]:
    names, values = tuple(equals), tuple(equals.values())
    if None not in values:
        return (names, _NO_NULLS), values  # type: ignore[return-value]
    nulls = frozenset([name for name, value in equals.items() if value is None])
    return (names, nulls), tuple([value for value in values if value is not None])  # type: ignore[misc]


class Transaction(LiveView):
    """A `Tx`."""

    def __init__(
        self, cursor: apsw.Cursor, kinds: AllRows, changes: dict[str, set[Change]], version: int, last_version: int
    ) -> None:
        super().__init__(cursor.connection, kinds)
        self._write = cursor.execute  # one cursor for all that answers nothing: a new one costs as much as a short statement
        self._changes = changes
        self.version = version  # the last that was given out
        self._last_version = last_version  # that may be

    def end(self) -> None:
        super().end()
        del self._write

    def put(self, record: R) -> R:
        rows = self._kinds[type(record)]
        if self.version >= self._last_version:
            raise RuntimeError("one transaction writes more rows than there are versions set aside")
        self.version = version = self.version + 1
        written = replace(record, version=version)
        body = _encode(written).decode()
        try:
            if record.version == 0:
                key = rows.table.key(record.id)
                if key[0] is None:
                    raise ValueError(f"The {record.KIND} '{record.id}' has no id that was drawn")
                self._write(rows.insert_sql, (*key, version, body, *rows.values(record)))
            else:
                self._write(*rows.update(record, body, version))
                if self._connection.changes() == 0:
                    raise Conflict(f"The {record.KIND} '{record.id}' changed meanwhile")
        except apsw.ConstraintError as error:
            raise _refusal(rows.table, error) from error
        rows.keep(written)
        rows.answers.clear()
        self._changes[record.KIND].add((record.KIND, record.id))
        return written

    def delete(self, kind: type[R], id: str) -> None:
        rows = self._kinds[kind]
        self._write(rows.table.delete, rows.table.key(id))
        if self._connection.changes():
            rows.forget(id)
            self._changes[kind.KIND].add((kind.KIND, id))


def _refusal(table: Table, error: apsw.ConstraintError) -> Exception:
    """SQLite says "UNIQUE constraint failed: t.a, t.b" and "CHECK constraint failed: guard_1"."""
    broken = str(error).partition("constraint failed: ")[2]
    if broken in table.unique:
        return AlreadyExists(table.name, table.unique[broken])
    if broken in table.guards:
        return CapacityExceeded(f"The {table.name} would break its limit: {table.guards[broken]}")
    return error
