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
