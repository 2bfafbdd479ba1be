"""How an image reaches a host that does not have it: named by its digest, in parts that may come again.

An image's source ("file:///...") is a path of the server's machine and means nothing on another; the digest means the same
everywhere, and whoever was told it may have the bytes.
"""

from typing import Protocol

import msgspec

PART_BYTES = 1024 * 1024


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    digest: str  # SHA-256 of the whole, hexadecimal
    size_bytes: int
    format: str  # "qcow2" | "raw"


class ShipmentCall(msgspec.Struct, frozen=True, kw_only=True):
    source: str


class PartCall(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    start: int


class ImageSource(Protocol):
    """Where images come from. Raises: Refused: there is none, or not for us; OSError, TimeoutError: ask again."""

    async def shipment(self, source: str) -> Shipment: ...

    async def part(self, digest: str, start: int) -> bytes:
        """PART_BYTES from `start`, fewer at the end; nothing when they are all zeros."""
