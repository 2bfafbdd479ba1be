"""The kinds that the store's contract is tested with: small, and with every sort of declaration."""

import enum
from typing import ClassVar

import msgspec

from alto.model.records import NumberOf, Record, number_of


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 10


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    corners: int = 0
    size: Size = Size.SMALL


class Thing(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "thing"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("colour",), ("shape.size",), ("hidden",))
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "name"),)

    account: str = "1"
    region: str = "here"
    name: str | None = None
    colour: Colour | None = None
    hidden: bool = False
    shape: Shape = Shape()
    tags: dict[str, str] = {}


class Box(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "box"
    GUARDS: ClassVar[tuple[str, ...]] = ("used <= room.slots", "used >= 0")

    class Room(msgspec.Struct, frozen=True, kw_only=True):
        slots: int

    room: Room
    used: int = 0


class Token(Record, frozen=True, kw_only=True):
    """An idempotency row: `id` is the caller's token."""

    KIND: ClassVar[str] = "token"

    digest: str
    result_id: str


class Piece(Record, frozen=True, kw_only=True):
    """With an id that was drawn: "p-" and 17 digits."""

    KIND: ClassVar[str] = "piece"
    NUMBER: ClassVar[NumberOf | None] = number_of
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account",),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("name",),)

    account: str = "1"
    name: str | None = None
