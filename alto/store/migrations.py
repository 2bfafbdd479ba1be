"""Bring a database file to what this version of Alto reads: numbered steps, then a table for each kind as declared.

A kind whose declaration changed (a field indexed, a guard added) gets its table made anew, each record read and written
by its class, so that fields which came later have their defaults. All in one transaction: an upgrade that fails leaves the
file as it was. A newer file is refused, never read half.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec

from alto.model.errors import Unavailable
from alto.model.records import Record
from alto.store.schema import table_of

Step = Callable[[apsw.Connection], None]

# STEPS[0] brings schema version 1 to 2, and so on. Never edit one that was released.
STEPS: tuple[Step, ...] = ()

_META = "CREATE TABLE IF NOT EXISTS alto_meta (key TEXT PRIMARY KEY NOT NULL, value ANY) STRICT, WITHOUT ROWID"


def migrate(
    connection: apsw.Connection, kinds: Sequence[type[Record]], *, path: Path | None, steps: Sequence[Step] = STEPS
) -> None:
    """`path`: where the file is; a backup is put beside it before rows are rewritten. None: nothing to back up.

    Raises: Unavailable: the file is of a newer version, or has a row that has no place in this one.
    """
    current = 1 + len(steps)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_META)
        found = get_meta(connection, "schema_version")
        if found is None:
            set_meta(connection, "schema_version", current)
            found = current
        if not isinstance(found, int) or found > current:
            raise Unavailable(
                f"The store has schema version {found}, this Alto reads up to {current}: use the newer Alto, or its backup"
            )
        # A step changes bodies: what stands beside them is written again for all kinds.
        changed = [kind for kind in kinds if found < current or _differs(connection, kind)]
        if path is not None and any(_exists(connection, kind.KIND) for kind in changed):
            _back_up(path, found, get_meta(connection, "versions_reserved"))
        for step in steps[found - 1 :]:
            step(connection)
        set_meta(connection, "schema_version", current)
        for kind in changed:
            _make_table(connection, kind)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def get_meta(connection: apsw.Connection, key: str) -> object:
    row = connection.execute("SELECT value FROM alto_meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def set_meta(connection: apsw.Connection, key: str, value: int | str) -> None:
    connection.execute("INSERT OR REPLACE INTO alto_meta VALUES (?, ?)", (key, value))


def _differs(connection: apsw.Connection, kind: type[Record]) -> bool:
    return get_meta(connection, f"kind:{kind.KIND}") != "\n".join(table_of(kind).definition)


def _exists(connection: apsw.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _make_table(connection: apsw.Connection, kind: type[Record]) -> None:
    table = table_of(kind)
    rows = []
    if _exists(connection, table.name):
        rows = connection.execute(f'SELECT id, version, body FROM "{table.name}"').fetchall()
        connection.execute(f'DROP TABLE "{table.name}"')
    for statement in table.definition:
        connection.execute(statement)
    decoder = msgspec.json.Decoder(kind)
    for id, version, body in rows:
        record = decoder.decode(str(body))
        key = table.key(str(id))
        if key[0] is None:
            raise Unavailable(
                f"The {table.name} '{id}' of this store has an id from before ids were drawn in order: this Alto cannot"
                " keep it; terminate it with the one that made it"
            )
        connection.execute(table.insert, (*key, version, msgspec.json.encode(record).decode(), *table.values(record)))
    set_meta(connection, f"kind:{table.name}", "\n".join(table.definition))


def _back_up(path: Path, schema_version: int, mark: object) -> None:
    """`mark` grows with every start, so no backup overwrites another and the youngest has the greatest."""
    target = path.with_name(f"{path.name}.schema-{schema_version}-{mark or 0}")
    # A second connection: the first is inside the transaction whose changes must not be in the copy.
    source = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    copy = apsw.Connection(str(target))
    try:
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(1000)
    finally:
        copy.close()
        source.close()
