"""Short names for devices and namespaces, that follow from ids."""

import hashlib
import re

from alto.model.network_plans import Port


def letters(id: str, count: int) -> str:
    return re.sub("[^a-z0-9]", "", id.lower())[-count:]


def mark(id: str, count: int) -> str:
    """`count` letters and digits that follow from all of an id: 31 bits in six of them, where its hex digits have 24."""
    number = int.from_bytes(hashlib.blake2s(id.encode()).digest())
    letters = ""
    for _ in range(count):
        number, digit = divmod(number, 36)
        letters += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return letters


def peer_of(port: Port) -> str:
    """A veth's guest end, while no guest has it."""
    return f"ct{port.id[-12:]}"
