"""What every stored record has in common, and how a kind declares its indexes, unique keys and guards.

A kind is a frozen struct; the store reads these declarations and writes the SQL. Field paths are dotted
(`"status.phase"`). Change is `msgspec.structs.replace`; the store alone writes `version`.
"""

from collections.abc import Callable
from typing import ClassVar

import msgspec

# From an id to a number of 64 bits, greater than -2**63; None: there is no such id. Of what is given out, no two are the same.
NumberOf = Callable[[str], int | None]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`KIND` names the table. `INDEXES` are looked up by equality (`reader.where(Kind, host_id="h-1")` needs an index
    whose fields are exactly, or begin with, those given). `UNIQUE` keys hold among rows where none of the fields is null.
    `GUARDS` are SQL conditions over field names that always hold, the last line against races. With `omit_defaults` a row
    says only what is not a field's default, so that those that are written most are short: such a default is for ever. Where
    `NUMBER` says which number an id is, rows stand in the order of those, and need no index of ids."""

    KIND: ClassVar[str]
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = ()
    GUARDS: ClassVar[tuple[str, ...]] = ()
    NUMBER: ClassVar[NumberOf | None] = None

    id: str
    version: int = 0


Tags = dict[str, str]

# Of Amazon's ids: "vpc-0123456789abcdef0".
ID_DIGITS = 17
# No id is drawn among these numbers behind one that was: what comes with a record may count on from the record's own.
ID_GAP = 64

# Below all numbers of ids: they take the 64 bits of a signed number.
BELOW_ALL = -(1 << 63)


def number_of(id: str) -> int | None:
    """Of an id that was drawn: greater for one that sorts behind it."""
    try:
        number = int(id[-ID_DIGITS:].lstrip("-"), 16)
    except ValueError:
        try:
            number = int(id.rpartition("-")[2], 16)  # fewer digits than are drawn, as people write
        except ValueError:
            return None
    return number + 1 + BELOW_ALL if 0 <= number < (1 << 64) - 1 else None


def number_of_address(id: str) -> int | None:
    """Of an id that is an IPv4 address."""
    try:
        octets = bytes(map(int, id.split(".")))
    except ValueError:
        return None
    return int.from_bytes(octets) if len(octets) == 4 and ".".join(map(str, octets)) == id else None
