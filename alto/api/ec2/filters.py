"""EC2's filters: AND between filters, OR within one, `*` and `?` as wildcards, `\\` as escape, everything case-sensitive.

A Describe operation declares a table from filter name to a function of its record (or of whatever it has joined) that
gives the values to compare; `tag:KEY`, `tag-key` and `tag-value` come from the record's `tags`, or from `tags` given to
`matcher`. A name that is in no table is refused, never ignored: a filter that silently matches everything has deleted
people's machines. Not here: reading the store (paging.py).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec

from alto.model.errors import Refused

R = TypeVar("R")

Value = str | int | float | None
Values = Value | Iterable[Value]
Filters = Mapping[str, Callable[[R], Values]]

VALUES_MAX = 200  # EC2's own limit, over all filters of a request


class Filter(msgspec.Struct, frozen=True, rename="pascal"):
    """One filter of a request; operations declare `filters: tuple[Filter, ...] = ()`."""

    name: str | None = None
    values: tuple[str, ...] = ()


def matcher(
    filters: Sequence[Filter],
    table: Filters[R],
    *,
    tags: Callable[[R], Mapping[str, str]] | None = None,
) -> Callable[[R], bool]:
    """A function that says whether a record passes. Booleans compare as "true" and "false", numbers as decimals. A filter
    without values lets nothing pass, as at EC2: a list that a script has found empty asks for nothing.

    Raises: Refused: a filter is unknown, or there are too many values.
    """
    tags_of: Callable[[R], Mapping[str, str]] = tags or _own_tags
    if sum(len(filter.values) for filter in filters) > VALUES_MAX:
        raise Refused("FilterLimitExceeded", f"The maximum number of filter values specified on a single call is {VALUES_MAX}")
    tests = [_test(filter, table, tags_of) for filter in filters]
    if not tests:
        return lambda record: True
    if len(tests) == 1:
        return tests[0]
    return lambda record: all(test(record) for test in tests)


def _own_tags(record: object) -> Mapping[str, str]:
    tags: Mapping[str, str] = getattr(record, "tags", {})
    return tags


def _test(filter: Filter, table: Filters[R], tags_of: Callable[[R], Mapping[str, str]]) -> Callable[[R], bool]:
    name = filter.name
    if not name:
        raise Refused("InvalidParameterValue", "The filter 'null' is invalid")
    values_of = table.get(name) or _tag_values(name, tags_of)
    if values_of is None:
        raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
    wanted = patterns(filter.values)

    def test(record: R) -> bool:
        values = values_of(record)
        if values is None:
            return False
        if isinstance(values, str | int | float):
            return wanted(_text(values))
        return any(wanted(_text(value)) for value in values if value is not None)

    return test


def _tag_values(name: str, tags_of: Callable[[R], Mapping[str, str]]) -> Callable[[R], Values] | None:
    if name.startswith("tag:") and len(name) > len("tag:"):
        key = name[len("tag:") :]
        return lambda record: tags_of(record).get(key)
    if name == "tag-key":
        return lambda record: tags_of(record).keys()
    if name == "tag-value":
        return lambda record: tags_of(record).values()
    return None


def _text(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def patterns(values: Sequence[str]) -> Callable[[str], bool]:
    """True for a text that equals one of `values`, wildcards considered."""
    plain = frozenset(value for value in values if not _SPECIAL.search(value))
    wild = [_compiled(value) for value in values if _SPECIAL.search(value)]
    if not wild:
        return plain.__contains__
    return lambda text: text in plain or any(pattern.fullmatch(text) for pattern in wild)


_SPECIAL = re.compile(r"[*?\\]")
_TOKEN = re.compile(r"\\(.)|(\*+)|(\?)|([^*?\\]+|\\)", re.DOTALL)


@lru_cache(maxsize=1024)
def _compiled(value: str) -> re.Pattern[str]:
    """A regular expression that takes time linear in the text: what stands between two stars is found once, leftmost,
    and never given back (an atomic group), which for globs loses no match."""
    pieces = [""]
    for escaped, star, any_one, literal in _TOKEN.findall(value):
        if star:
            pieces.append("")
        elif any_one:
            pieces[-1] += "."
        else:
            pieces[-1] += re.escape(escaped or literal)
    first, *rest = pieces
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last, re.DOTALL)
