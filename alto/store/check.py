"""Is a store's file sound? For `alto doctor`; works while the store is in use, and changes nothing."""

from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec

from alto.model.records import Record
from alto.store.migrations import get_meta
from alto.store.schema import table_of

# More than these help nobody.
PROBLEMS_MAX = 100


def problems(path: Path, kinds: Sequence[type[Record]]) -> list[str]:
    """One sentence each; none when all is well. SQLite's own check covers pages, indexes, unique keys and guards; ours
    covers the records. Reads the whole file: call it off the event loop."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute("BEGIN")  # all of it at one moment
        return problems_of(connection, kinds)
    except apsw.Error as error:
        return [f"The file cannot be read: {error}"]
    finally:
        connection.close()


def problems_of(connection: apsw.Connection, kinds: Sequence[type[Record]]) -> list[str]:
    found = [str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})") if line != "ok"]
    reserved = get_meta(connection, "versions_reserved") or 0
    for kind in kinds:
        decode = msgspec.json.Decoder(kind).decode
        table = table_of(kind)
        columns = "".join(f', "{column}"' for column in table.columns)
        rows = connection.execute(f'SELECT "{table.order}", id, version, body{columns} FROM "{table.name}"')
        for key, id, version, body, *values in rows:
            if len(found) >= PROBLEMS_MAX:
                return found
            try:
                record = decode(str(body))
            except msgspec.DecodeError as error:
                found.append(f"The {kind.KIND} '{id}' cannot be read: {error}")
                continue
            if (record.id, record.version) != (id, version):
                found.append(
                    f"The {kind.KIND} '{id}' of version {version} says it is '{record.id}' of version {record.version}"
                )
            if key != table.key(str(id))[0]:
                found.append(f"The {kind.KIND} '{id}' stands at {table.order} {key}")
            for column, value, own in zip(table.columns, values, table.values(record), strict=True):
                if value != own:
                    found.append(f"The {kind.KIND} '{id}' is looked up by {column} '{value}' but says '{own}'")
            if not 0 < record.version <= int(str(reserved)):
                found.append(f"The {kind.KIND} '{id}' has version {version}, which was never given out")
    return found
