"""Files of other versions: kinds that came or changed, numbered steps, and files that are too new."""

import asyncio
import time
from pathlib import Path
from typing import ClassVar

import apsw
import pytest

from alto.model.errors import Unavailable
from alto.model.records import Record
from alto.store import migrations
from alto.store.check import problems_of
from alto.store.sqlite import SqliteStore
from tests.store.kinds import Box, Piece, Thing


class OldBox(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "box"

    used: int = 0


class NewBox(Record, frozen=True, kw_only=True):
    """As OldBox, two releases later."""

    KIND: ClassVar[str] = "box"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("owner",),)
    GUARDS: ClassVar[tuple[str, ...]] = ("used <= 5",)

    used: int = 0
    owner: str = "nobody"


def use(path: Path, *kinds: type[Record], write: tuple[Record, ...] = ()) -> dict[type[Record], list[Record]]:
    async def main() -> dict[type[Record], list[Record]]:
        store = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=kinds)
        try:
            for record in write:
                await store.write(lambda tx, record=record: tx.put(record))
            assert await store.check() == []
            return {kind: store.read(lambda reader, kind=kind: reader.where(kind)) for kind in kinds}
        finally:
            await store.close()

    return asyncio.run(main())


def backups(folder: Path) -> list[Path]:
    return sorted(folder.glob("store.db.schema-*"))


def test_a_new_kind_is_added_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = use(path, Thing, write=(Thing(id="t-1"),))
    after = use(path, Thing, Box)
    assert after == {**before, Box: []}
    assert backups(tmp_path) == []


def test_a_changed_kind_keeps_its_rows_gets_defaults_and_its_new_rules(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    use(path, OldBox, write=(OldBox(id="b-1", used=3), OldBox(id="b-2", used=1)))
    rows = use(path, NewBox)[NewBox]
    assert [(row.id, row.used, row.owner) for row in rows if isinstance(row, NewBox)] == [
        ("b-1", 3, "nobody"),
        ("b-2", 1, "nobody"),
    ]

    async def look() -> None:
        store = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(NewBox,))
        assert store.read(lambda reader: reader.count(NewBox, owner="nobody")) == 2
        await store.close()

    asyncio.run(look())
    # The file as it was is kept.
    [backup] = backups(tmp_path)
    old = apsw.Connection(str(backup))
    assert old.execute("SELECT count(*) FROM box").get == 2
    assert "used <= 5" not in str(old.execute("SELECT sql FROM sqlite_schema WHERE name = 'box'").get)


class OldPiece(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "piece"

    account: str = "1"
    name: str | None = None


def test_a_kind_comes_to_stand_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ids = [f"p-{number:017x}" for number in (7, 1 << 60, 3)]
    use(path, OldPiece, write=tuple(OldPiece(id=id, name=id) for id in ids))
    assert [(one.id, one.name) for one in use(path, Piece)[Piece] if isinstance(one, Piece)] == [(id, id) for id in sorted(ids)]


def test_a_row_whose_id_has_no_number_stops_the_upgrade_and_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = use(path, OldPiece, write=(OldPiece(id=f"p-{'f' * 17}"),))
    with pytest.raises(Unavailable, match="The piece 'p-fffffffffffffffff' of this store has an id"):
        use(path, Piece)
    assert use(path, OldPiece) == before


def test_a_row_at_another_s_number_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    use(path, Piece, write=(Piece(id=f"p-{7:017x}"),))
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE piece SET number = number + 1")
    [problem] = problems_of(connection, (Piece,))
    assert problem.startswith(f"The piece 'p-{7:017x}' stands at number -")


def test_rows_that_break_a_new_rule_stop_the_upgrade_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = use(path, OldBox, write=(OldBox(id="b-1", used=9),))
    with pytest.raises(apsw.ConstraintError):
        use(path, NewBox)
    assert use(path, OldBox) == before


def test_numbered_steps_run_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    use(path, OldBox, write=(OldBox(id="b-1", used=1),))

    def add(amount: int) -> migrations.Step:
        sql = f"UPDATE box SET body = json_set(body, '$.used', json_extract(body, '$.used') * 10 + {amount})"
        return lambda connection: connection.execute(sql) and None

    steps = (add(2), add(3))
    for _ in range(2):
        connection = apsw.Connection(str(path))
        migrations.migrate(connection, (OldBox,), path=path, steps=steps)
        connection.close()
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT json_extract(body, '$.used') FROM box").get == 123
    connection.close()
    assert len(backups(tmp_path)) == 1


def test_what_a_step_changes_is_looked_up_as_it_now_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    use(path, Thing, write=(Thing(id="t-1", region="here"),))

    def move(connection: apsw.Connection) -> None:
        connection.execute("UPDATE thing SET body = json_set(body, '$.region', 'there')")

    connection = apsw.Connection(str(path))
    migrations.migrate(connection, (Thing,), path=path, steps=(move,))
    assert connection.execute("SELECT id FROM thing WHERE account = '1' AND region = 'there'").get == "t-1"
    assert problems_of(connection, (Thing,)) == []
    connection.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    use(path, Box)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE alto_meta SET value = 99 WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(Unavailable, match="99"):
        use(path, Box)


def test_a_second_process_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    # The lock is SQLite's own, which counts connections of one process as different.
    async def main() -> None:
        path = tmp_path / "store.db"
        first = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(Box,))
        with pytest.raises(Unavailable, match="Another Alto"):
            await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(Box,))
        await first.close()
        second = await SqliteStore.open(path, monotonic=time.monotonic, failed=pytest.fail, kinds=(Box,))
        await second.close()

    asyncio.run(main())
