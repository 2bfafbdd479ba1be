"""What every stored record has in common, and how a kind declares its indexes, unique keys and guards.

A kind is a frozen struct; the store reads these declarations and writes the SQL. Field paths are dotted
(`"status.phase"`). Change is `msgspec.structs.replace`; the store alone writes `version`.
"""

from typing import ClassVar

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`KIND` names the table. `INDEXES` are looked up by equality (`reader.where(Kind, host_id="h-1")` needs an index
    whose fields are exactly, or begin with, those given). `UNIQUE` keys hold among rows where none of the fields is null.
    `GUARDS` are SQL conditions over field names that always hold, the last line against races. With `omit_defaults` a row
    says only what is not a field's default, so that those that are written most are short: such a default is for ever. Rows of
    a kind that is `SHORT`, of some hundred bytes, may stand in the index of their ids, and have no table beside it."""

    KIND: ClassVar[str]
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = ()
    GUARDS: ClassVar[tuple[str, ...]] = ()
    SHORT: ClassVar[bool] = False

    id: str
    version: int = 0


Tags = dict[str, str]

# Of Amazon's ids: "vpc-0123456789abcdef0".
ID_DIGITS = 17
# No id is drawn among these numbers behind one that was: what comes with a record may count on from the record's own.
ID_GAP = 64
