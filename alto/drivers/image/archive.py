"""A file tree as a cpio archive ("newc", the kernel's initramfs format: its buffer-format.rst).

Same entries, same bytes: owner root, time zero, order as given. Not here: where the entries come from.
"""

from collections.abc import Sequence

import msgspec

S_IFDIR, S_IFREG, S_IFLNK = 0o040000, 0o100000, 0o120000


class Entry(msgspec.Struct, frozen=True):
    """`path` is relative. A folder has neither data nor target; folders come before what is in them."""

    path: str
    mode: int = 0o755
    data: bytes | None = None
    target: str | None = None


def cpio(entries: Sequence[Entry]) -> bytes:
    parts: list[bytes] = []
    for number, entry in enumerate(entries, start=1):
        if entry.target is not None:
            parts += _member(number, entry.path, S_IFLNK | 0o777, entry.target.encode())
        elif entry.data is not None:
            parts += _member(number, entry.path, S_IFREG | entry.mode, entry.data)
        else:
            parts += _member(number, entry.path, S_IFDIR | entry.mode, b"")
    parts += _member(0, "TRAILER!!!", 0, b"")
    return b"".join(parts)


def _member(number: int, path: str, mode: int, data: bytes) -> list[bytes]:
    name = path.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device (two), special device (two), name's length, checksum
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return [header, b"\0" * (-len(header) % 4), data, b"\0" * (-len(data) % 4)]
