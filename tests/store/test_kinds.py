"""Every record of the model has a table, and every declaration is one that the store can make true."""

import importlib
import pkgutil

import apsw
import pytest

import alto.model
from alto.model.records import Record
from alto.store.kinds import KINDS
from alto.store.schema import table_of


def subclasses(kind: type[Record]) -> set[type[Record]]:
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


def test_every_record_of_the_model_is_stored() -> None:
    for module in pkgutil.iter_modules(alto.model.__path__):
        importlib.import_module(f"alto.model.{module.name}")
    ours = {kind for kind in subclasses(Record) if kind.__module__.startswith("alto.") and kind is not Record}
    assert set(KINDS) == ours
    assert len({kind.KIND for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_declarations_name_real_fields_and_are_valid_sql(kind: type[Record]) -> None:
    for key in (*kind.INDEXES, *kind.UNIQUE):
        for path in key:
            assert path.partition(".")[0] in kind.__struct_fields__
    connection = apsw.Connection(":memory:")
    for statement in table_of(kind).definition:
        connection.execute(statement)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_lookups_walk_their_index_in_order(kind: type[Record]) -> None:
    """SQLite says itself how it would answer: nothing is scanned, and nothing is sorted where the whole index is asked."""
    connection = apsw.Connection(":memory:")
    table = table_of(kind)
    for statement in table.definition:
        connection.execute(statement)

    def plan(sql: str, fields: int) -> str:
        values = ("x",) * fields + ("", 10)
        return " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))

    assert "SCAN" not in plan(table.page_of(()), 0)
    for index in kind.INDEXES:
        whole = plan(table.page_of(index), len(index))
        assert "SEARCH" in whole
        assert "B-TREE" not in whole
        assert "SEARCH" in plan(table.page_of(index[:1]), 1)
    for index in kind.UNIQUE:
        assert "SEARCH" in plan(table.page_of(index), len(index))
