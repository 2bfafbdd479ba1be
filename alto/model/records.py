"""What every stored record has in common, and how a kind declares its indexes, unique keys and guards.

A kind is a frozen struct; the store reads these declarations and writes the SQL. Field paths are dotted
(`"status.phase"`). Change is `msgspec.structs.replace`; the store alone writes `version`.
"""

from typing import ClassVar

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`KIND` names the table. `INDEXES` are looked up by equality (`reader.where(Kind, host_id="h-1")` needs an index
    whose fields are exactly, or begin with, those given). `UNIQUE` keys hold among rows where none of the fields is null.
    `GUARDS` are SQL conditions over field names that always hold, the last line against races."""

    KIND: ClassVar[str]
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = ()
    GUARDS: ClassVar[tuple[str, ...]] = ()

    id: str
    version: int = 0


Tags = dict[str, str]
