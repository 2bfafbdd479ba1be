"""Filters and pages mean what EC2's documentation says, by comparison with naive definitions written here."""

import fnmatch
import re
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alto.api.ec2.filters import Filter, matcher, patterns
from alto.api.ec2.paging import check_page, page_of_list, page_of_records
from alto.model.errors import Refused
from alto.model.records import Record, Tags


class Thing(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "thing"
    size: int = 0
    on: bool = False
    groups: tuple[str, ...] = ()
    note: str | None = None
    tags: Tags = {}


TABLE = {
    "size": lambda thing: thing.size,
    "on": lambda thing: thing.on,
    "group": lambda thing: thing.groups,
    "note": lambda thing: thing.note,
}


def passes(thing: Thing, *filters: tuple[str, list[str]]) -> bool:
    return matcher([Filter(name=name, values=tuple(values)) for name, values in filters], TABLE)(thing)


def test_and_between_or_within() -> None:
    thing = Thing(id="t-1", size=5, on=True, groups=("a", "b"), tags={"Name": "web-1", "Empty": ""})
    assert passes(thing)
    assert passes(thing, ("size", ["4", "5"]), ("on", ["true"]), ("group", ["x", "b"]))
    assert not passes(thing, ("size", ["4", "5"]), ("on", ["false"]))
    assert not passes(thing, ("note", ["*"])), "a value that is absent matches nothing"
    assert not passes(thing, ("size", [])), "no value is equal to none of them"
    assert not passes(thing, ("on", ["true"]), ("tag:Name", []))
    assert passes(thing, ("tag:Name", ["web-?"]), ("tag-key", ["Nam*"]), ("tag-value", ["web-1"]))
    assert passes(thing, ("tag:Empty", [""]))
    assert not passes(thing, ("tag:name", ["web-1"])), "case-sensitive"
    assert not passes(thing, ("tag:Name", ["Web-1"]))


@pytest.mark.parametrize(
    ("filters", "code", "words"),
    [
        ((("nope", ["1"]),), "InvalidParameterValue", "The filter 'nope' is invalid"),
        (((None, ["1"]),), "InvalidParameterValue", "The filter 'null' is invalid"),
        ((("nope", []),), "InvalidParameterValue", "The filter 'nope' is invalid"),
        ((("tag:", ["1"]),), "InvalidParameterValue", "The filter 'tag:' is invalid"),
        ((("size", ["1"] * 201),), "FilterLimitExceeded", "200"),
    ],
)
def test_refused(filters: tuple[tuple[str, list[str]], ...], code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        passes(Thing(id="t-1"), *filters)
    assert refused.value.aws_code == code
    assert words in str(refused.value)


@given(st.text("ab*?[]", max_size=8), st.text("ab[]", max_size=10))
def test_globs_agree_with_the_backtracking_definition(pattern: str, text: str) -> None:
    # fnmatch's brackets are not EC2's: made literal.
    naive = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert patterns([pattern])(text) == bool(re.fullmatch(naive, text, re.DOTALL))
    if "[" not in pattern:
        assert patterns([pattern])(text) == fnmatch.fnmatchcase(text, pattern)


@given(st.text("a*?\\", max_size=8))
def test_escaped_is_literal(text: str) -> None:
    escaped = "".join("\\" + letter if letter in "*?\\" else letter for letter in text)
    assert patterns([escaped])(text)
    assert not patterns([escaped])(text + "a")


def test_a_hostile_pattern_is_linear() -> None:
    # With plain ".*" for each star this one would not end in the life of the machine.
    assert not patterns(["*a" * 60 + "*b"])("a" * 255)


class Rows:
    """A reader over a dict, by the definition of `where`."""

    def __init__(self, rows: dict[str, Thing]) -> None:
        self.rows = rows
        self.read = 0

    def where(self, kind: type, *, after: str | None = None, limit: int | None = None, **equals: object) -> list[Thing]:
        found = [row for id, row in sorted(self.rows.items()) if (after is None or id > after)]
        found = [row for row in found if all(getattr(row, field) == value for field, value in equals.items())]
        found = found[:limit]
        self.read += len(found)
        return found


def walk(rows: Rows, size: int, matches: Callable[[Thing], bool], between: Callable[[int], None]) -> list[str]:
    seen: list[str] = []
    token = None
    for turn in range(1000):
        page = page_of_records(rows, Thing, matches=matches, max_results=size, next_token=token, on=False)  # type: ignore[arg-type]
        assert len(page.items) <= size
        seen += [thing.id for thing in page.items]
        token = page.next_token
        if token is None:
            return seen
        between(turn)
    raise AssertionError("the pages do not end")


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 5))
def test_pages_show_each_match_once(total: int, size: int, modulus: int) -> None:
    rows = Rows({f"t-{n:03}": Thing(id=f"t-{n:03}", size=n) for n in range(total)})
    expected = [f"t-{n:03}" for n in range(total) if n % modulus == 0]
    assert walk(rows, size, lambda thing: thing.size % modulus == 0, lambda turn: None) == expected


def test_pages_survive_inserts_and_deletions() -> None:
    rows = Rows({f"t-{n:03}": Thing(id=f"t-{n:03}", size=n) for n in range(50)})

    def between(turn: int) -> None:
        rows.rows.pop(f"t-{turn * 5 + 4:03}", None)  # the very row that the token names
        rows.rows[f"t-000-{turn}"] = Thing(id=f"t-000-{turn}")

    seen = walk(rows, 5, lambda thing: True, between)
    assert [id for id in seen if len(id) == 5] == [f"t-{n:03}" for n in range(50)]
    assert len(seen) == len(set(seen))


def test_a_page_costs_what_it_shows() -> None:
    rows = Rows({f"t-{n:05}": Thing(id=f"t-{n:05}") for n in range(20_000)})
    page = page_of_records(rows, Thing, matches=lambda thing: True, max_results=50, next_token=None, on=False)  # type: ignore[arg-type]
    assert len(page.items) == 50
    assert rows.read == 51


def test_a_filtered_page_looks_at_a_bounded_number_of_rows() -> None:
    rows = Rows({f"t-{n:05}": Thing(id=f"t-{n:05}") for n in range(45_000)})
    page = page_of_records(rows, Thing, matches=lambda thing: False, max_results=50, next_token=None, on=False)  # type: ignore[arg-type]
    assert page.items == []
    assert page.next_token is not None
    assert rows.read <= 22_000
    assert walk(rows, 50, lambda thing: False, lambda turn: None) == []


@pytest.mark.parametrize("token", ["x", "dGhpcyBpcyBub3Qgb25l", "", "ä", "====", "A" * 100_000])
def test_a_token_of_nobody(token: str) -> None:
    with pytest.raises(Refused) as refused:
        page_of_list([], str, scope="thing", max_results=5, next_token=token)
    assert refused.value.aws_code == "InvalidParameterValue"


def test_a_token_of_another_listing() -> None:
    token = page_of_list(["a", "b"], str, scope="one", max_results=1, next_token=None).next_token
    assert page_of_list(["a", "b"], str, scope="one", max_results=1, next_token=token).items == ["b"]
    with pytest.raises(Refused):
        page_of_list(["a", "b"], str, scope="two", max_results=1, next_token=token)


@pytest.mark.parametrize(
    ("size", "ids", "code"),
    [(4, None, "InvalidParameterValue"), (1001, [], "InvalidParameterValue"), (5, ["i-1"], "InvalidParameterCombination")],
)
def test_bounds(size: int, ids: list[str] | None, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_page(size, ids)
    assert refused.value.aws_code == code
    check_page(5)
    check_page(1000, [])
    check_page(None, ["i-1"])
