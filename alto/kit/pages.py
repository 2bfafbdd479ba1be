"""The pages of memory that this process has. Not here: how much memory there is (`model/pressure.py`)."""

import ctypes
from collections.abc import Iterator

LARGE = 2 << 20  # bytes of a large page, of x86-64 and of ARM with small pages of 4 KiB

_MADV_COLLAPSE = 25  # include/uapi/asm-generic/mman-common.h, since Linux 6.1
_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def use_large_pages() -> int:
    """Put what is in memory by now, mostly code and types, on large pages; how many these are, 0 where the kernel cannot.

    A process that sleeps between two requests finds no address of its pages in the processor any more when it wakes, and looks
    up each that it touches: there are 512 times fewer of the large ones."""
    with open("/proc/self/maps") as maps:
        places = [place for line in maps for place in large_places(line)]
    return sum(_madvise(place, LARGE, _MADV_COLLAPSE) == 0 for place in places)


def large_places(line: str) -> Iterator[int]:
    """Where large pages fit in an area of the process's own, from its line in proc(5)'s maps; nowhere in one of a file."""
    area, rights, *_, inode = line.split(maxsplit=5)[:5]
    begin, _, end = area.partition("-")
    if rights == "rw-p" and inode == "0":
        yield from range(-(-int(begin, 16) // LARGE) * LARGE, int(end, 16) - LARGE + 1, LARGE)
