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

from alto.model.records import BELOW_ALL, NumberOf, Record

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KEPT = frozenset({"id", "number", "version", "body"})

Plain = int | float | str
Values = tuple[Plain | None, ...]


class Table(NamedTuple):
    """`definition` is everything that makes the table, in order; when it differs from a file's, the table is made anew.
    `order` is the column that rows stand in the order of."""

    name: str
    order: str
    definition: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]
    guards: Mapping[str, str]  # constraint name -> the declared condition
    unique: Mapping[str, str]  # SQLite's words for the violated key -> the key's name in AlreadyExists

    columns: tuple[str, ...]
    values: Callable[[Record], Values]  # what stands in `columns`
    key: Callable[[str], Values]  # what a row is found by: its id, and before it its number; None: there can be no such row
    after: Callable[[str], Plain]  # of an id: what stands for it in a page
    find: str
    insert: str  # the key, version, body, then the values
    delete: str

    def update_of(self, changed: tuple[str, ...]) -> str:
        """Parameters: version, body, a value for each column that changed, then the key and the version before. What is not
        set leaves its indexes alone."""
        setting = "".join(f", {_quoted(column)} = ?" for column in changed)
        return f"UPDATE {_quoted(self.name)} SET version = ?, body = ?{setting} WHERE {_is_it(self.order)} AND version = ?"

    def page_of(self, fields: tuple[str, ...], nulls: frozenset[str] = frozenset()) -> str:
        """Parameters: a value for each field that is not in `nulls`, then `after` and the limit.

        Raises: ValueError: no index begins with them.
        """
        self._need_index(fields)
        conditions = "".join(f"{_equals(field, nulls)} AND " for field in fields)
        order = self.order
        return f"SELECT id, version FROM {_quoted(self.name)} WHERE {conditions}{order} > ? ORDER BY {order} LIMIT ?"

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
    number_of = kind.NUMBER
    order = "id" if number_of is None else "number"
    columns: dict[str, None] = {}  # a set that keeps its order
    for index in (*kind.INDEXES, *kind.UNIQUE):
        columns.update(dict.fromkeys(index))
    for guard in guards.values():
        columns.update(dict.fromkeys(word for word in _WORD.findall(guard) if _is_field(kind, word)))
    if clash := _KEPT & columns.keys():
        raise ValueError(f"{name}: the store keeps {', '.join(sorted(clash))} for itself")

    # SQLite keeps a table in the order of its numbers: what is drawn now is written to its last page, and nowhere else.
    lines = (
        ["id TEXT PRIMARY KEY NOT NULL"] if number_of is None else ["number INTEGER PRIMARY KEY NOT NULL", "id TEXT NOT NULL"]
    )
    lines += ["version INTEGER NOT NULL", "body TEXT NOT NULL", *(f"{_quoted(column)} ANY" for column in columns)]
    for constraint, guard in guards.items():
        condition = _WORD.sub(lambda word: _quoted(word[0]) if word[0] in columns else word[0], guard)
        lines.append(f"CONSTRAINT {constraint} CHECK ({condition})")
    definition = [f"CREATE TABLE {table} ({', '.join(lines)}) STRICT"]
    for index in kind.INDEXES:
        # The order makes a page of one condition a walk along the index; the number is at the end of each by itself.
        made = _index("INDEX", f"{name}:{'+'.join(index)}", table, (*index, "id") if number_of is None else index)
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
        order=order,
        unique={f"{name}.{order}": "id"}
        | {", ".join(f"{name}.{field}" for field in key): ", ".join(key) for key in kind.UNIQUE},
        columns=tuple(columns),
        values=_values_of(tuple(columns)),
        key=_plain if number_of is None else _numbered(number_of),
        after=str if number_of is None else _after(number_of),
        find=f"SELECT version, body FROM {table} WHERE {_is_it(order)}",
        insert=f"INSERT INTO {table} VALUES ({','.join('?' * (len(lines) - len(guards)))})",
        delete=f"DELETE FROM {table} WHERE {_is_it(order)}",
    )


def _is_it(order: str) -> str:
    return "id = ?" if order == "id" else f"{order} = ? AND id = ?"


def _plain(id: str) -> Values:
    return (id,)


def _numbered(number_of: NumberOf) -> Callable[[str], Values]:
    return lambda id: (number_of(id), id)


def _after(number_of: NumberOf) -> Callable[[str], Plain]:
    def after(id: str) -> int:
        number = number_of(id) if id else BELOW_ALL
        return (1 << 63) - 1 if number is None else number  # nothing stands behind what never was

    return after


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
