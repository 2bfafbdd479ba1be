"""The SQL of a kind, written from what its Record class declares; nobody writes SQL for one kind by hand.

One table per kind: `id`, `version`, `body` (the record as JSON) and one column per declared field, named by its path. The
body is the truth; `Table.values` alone says what stands in the columns, whoever writes a row writes both, and `check.py`
compares them. (Columns that SQLite generates from the body could not disagree, but it parsed the body for each write of
it, at a twentieth of a launch.) Not here: when tables are made or changed (`migrations.py`).
"""

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from alto.model.records import Record

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KEPT = frozenset({"id", "version", "body"})

Plain = int | float | str
Values = tuple[Plain | None, ...]


class Table(NamedTuple):
    """`definition` is everything that makes the table, in order; when it differs from a file's, the table is made anew."""

    name: str
    definition: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]
    guards: Mapping[str, str]  # constraint name -> the declared condition
    unique: Mapping[str, str]  # SQLite's words for the violated key -> the key's name in AlreadyExists

    columns: tuple[str, ...]
    values: Callable[[Record], Values]  # what stands in `columns`
    find: str
    insert: str  # id, version, body, then the values
    delete: str

    def update_of(self, changed: tuple[str, ...]) -> str:
        """Parameters: version, body, a value for each column that changed, then the id and the version before. What is not
        set leaves its indexes alone."""
        setting = "".join(f", {_quoted(column)} = ?" for column in changed)
        return f"UPDATE {_quoted(self.name)} SET version = ?, body = ?{setting} WHERE id = ? AND version = ?"

    def page_of(self, fields: tuple[str, ...], nulls: frozenset[str] = frozenset()) -> str:
        """Parameters: a value for each field that is not in `nulls`, then `after` and the limit.

        Raises: ValueError: no index begins with them.
        """
        self._need_index(fields)
        conditions = "".join(f"{_equals(field, nulls)} AND " for field in fields)
        return f"SELECT id, version FROM {_quoted(self.name)} WHERE {conditions}id > ? ORDER BY id LIMIT ?"

    def number_of(self, fields: tuple[str, ...], nulls: frozenset[str] = frozenset()) -> str:
        self._need_index(fields)
        conditions = " AND ".join(_equals(field, nulls) for field in fields) or "1"
        return f"SELECT count(*) FROM {_quoted(self.name)} WHERE {conditions}"

    def _need_index(self, fields: tuple[str, ...]) -> None:
        wanted = set(fields)
        if wanted and not any(set(index[: len(wanted)]) == wanted for index in self.indexes):
            raise ValueError(f"{self.name} has no index that begins with ({', '.join(sorted(wanted))}): declare it in INDEXES")


def table_of(kind: type[Record]) -> Table:
    name = kind.KIND
    table = _quoted(name)
    guards = {f"guard_{number}": guard for number, guard in enumerate(kind.GUARDS, 1)}
    optional = {field.name for field in msgspec.structs.fields(kind) if field.default is None}
    columns: dict[str, None] = {}  # a set that keeps its order
    for index in (*kind.INDEXES, *kind.UNIQUE):
        columns.update(dict.fromkeys(index))
    for guard in guards.values():
        columns.update(dict.fromkeys(word for word in _WORD.findall(guard) if _is_field(kind, word)))
    if clash := _KEPT & columns.keys():
        raise ValueError(f"{name}: the store keeps {', '.join(sorted(clash))} for itself")

    lines = ["id TEXT PRIMARY KEY NOT NULL", "version INTEGER NOT NULL", "body TEXT NOT NULL"]
    lines += [f"{_quoted(column)} ANY" for column in columns]
    for constraint, guard in guards.items():
        condition = _WORD.sub(lambda word: _quoted(word[0]) if word[0] in columns else word[0], guard)
        lines.append(f"CONSTRAINT {constraint} CHECK ({condition})")
    # Without row ids a row is written to one page less. Long rows would leave that index too few to a page.
    kept_by = "STRICT, WITHOUT ROWID" if kind.SHORT else "STRICT"
    definition = [f"CREATE TABLE {table} ({', '.join(lines)}) {kept_by}"]
    for index in kind.INDEXES:
        # The id makes a page of one condition a walk along the index, in order.
        made = _index("INDEX", f"{name}:{'+'.join(index)}", table, (*index, "id"))
        # Where the first field is mostly null, those rows are left out: what is never looked up need not be written.
        definition.append(f"{made} WHERE {_quoted(index[0])} IS NOT NULL" if index[0] in optional else made)
    for index in kind.UNIQUE:
        # SQL's own rule is ours: rows with a null in the key never collide.
        definition.append(_index("UNIQUE INDEX", f"{name}:unique:{'+'.join(index)}", table, index))
    return Table(
        name=name,
        definition=tuple(definition),
        indexes=(*kind.INDEXES, *kind.UNIQUE),
        guards=guards,
        unique={", ".join(f"{name}.{f}" for f in key): ", ".join(key) for key in (("id",), *kind.UNIQUE)},
        columns=tuple(columns),
        values=_values_of(tuple(columns)),
        find=f"SELECT version, body FROM {table} WHERE id = ?",
        insert=f"INSERT INTO {table} VALUES ({','.join('?' * (3 + len(columns)))})",
        delete=f"DELETE FROM {table} WHERE id = ?",
    )


def _values_of(columns: tuple[str, ...]) -> Callable[[Record], Values]:
    """Enumerations of texts and numbers are texts and numbers; SQLite takes no others, and truth as 1 and 0."""
    if not columns:
        return lambda record: ()
    get: Callable[[Record], Any] = attrgetter(*columns)
    if len(columns) == 1:
        return lambda record: (get(record),)
    return get


def _index(what: str, name: str, table: str, columns: tuple[str, ...]) -> str:
    return f"CREATE {what} {_quoted(name)} ON {table} ({', '.join(map(_quoted, columns))})"


def _equals(field: str, nulls: frozenset[str]) -> str:
    # Not "IS ?": only "=" tells SQLite that an index without the null rows will do.
    return f"{_quoted(field)} IS NULL" if field in nulls else f"{_quoted(field)} = ?"


def _is_field(kind: type[Record], word: str) -> bool:
    return word.partition(".")[0] in kind.__struct_fields__


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
