"""The pages of memory that this process has. Not here: how much memory there is (`model/pressure.py`)."""

import asyncio
import ctypes
from collections.abc import Iterator
from contextlib import suppress

from alto.kit.world import Clock

LARGE = 2 << 20  # bytes of a large page, of x86-64 and of ARM with small pages of 4 KiB
AT_ONCE = 32
PAUSE_S = 5.0

_MADV_COLLAPSE = 25  # include/uapi/asm-generic/mman-common.h, since Linux 6.1
_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


async def keep_large_pages(clock: Clock) -> None:
    """What is in memory goes to large pages, and what comes goes there too; for ever. In a thread, which the kernel may hold
    up; whatever hinders it is borne, as memory that stays on small pages is slower and no worse."""
    pages = LargePages()
    while True:
        with suppress(OSError):
            await asyncio.to_thread(pages.use)
        await clock.sleep(PAUSE_S)


class LargePages:
    """A process that sleeps between two requests finds no address of its pages in the processor any more when it wakes, and
    looks up each that it touches: there are 512 times fewer of the large ones."""

    def __init__(self) -> None:
        self._tried: set[int] = set()  # a kernel without room for one is not asked again and again

    def use(self) -> int:
        """Put memory that is still on small pages, mostly code and types, on large ones, some at once. How many these are: 0
        where the kernel cannot. Raises: OSError."""
        with open("/proc/self/maps", errors="replace") as maps:
            places = {place for line in maps for place in large_places(line)}
        new = sorted(places - self._tried)[:AT_ONCE]
        self._tried = self._tried & places | set(new)
        return sum(_madvise(place, LARGE, _MADV_COLLAPSE) == 0 for place in new)


def large_places(line: str) -> Iterator[int]:
    """Where large pages fit in an area of the process's own, from its line in proc(5)'s maps; nowhere in one of a file."""
    area, rights, *_, inode = line.split(maxsplit=5)[:5]
    begin, _, end = area.partition("-")
    if rights == "rw-p" and inode == "0":
        yield from range(-(-int(begin, 16) // LARGE) * LARGE, int(end, 16) - LARGE + 1, LARGE)
