"""Large pages go where a process's own memory has room for a whole one, and nothing is lost by it."""

import asyncio
import errno

import pytest

from alto.kit.pages import AT_ONCE, LARGE, LargePages, keep_large_pages, large_places
from alto.kit.world import RealClock


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0\n", [0x7F0000000000, 0x7F0000200000]),
        ("7f0000001000-7f0000401000 rw-p 00000000 00:00 0\n", [0x7F0000200000]),
        ("7f0000001000-7f0000200000 rw-p 00000000 00:00 0\n", []),
        ("560000000000-560000200000 rw-p 00000000 00:00 0     [heap]\n", [0x560000000000]),
        ("7f0000000000-7f0000400000 r-xp 00000000 00:00 0\n", []),
        ("7f0000000000-7f0000400000 rw-s 00000000 00:01 77   /dev/shm/of others\n", []),
        ("7f0000000000-7f0000400000 rw-p 00000000 fe:00 2693  /usr/lib/libpython3.11.so.1.0\n", []),
    ],
)
def test_where_a_large_page_fits(line: str, places: list[int]) -> None:
    assert list(large_places(line)) == places


def test_what_is_in_memory_stays_as_it_is() -> None:
    things = [bytes([number % 256]) * 1000 for number in range(4 * LARGE // 1000)]
    pages = LargePages()
    assert 0 <= pages.use() <= AT_ONCE
    while left := pages.use():
        assert left <= AT_ONCE
    assert all(thing == bytes([number % 256]) * 1000 for number, thing in enumerate(things))


def test_the_server_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the process depends on it: not on a descriptor for it, for one."""
    tries = 0

    class Enough(Exception):
        pass

    class Clock(RealClock):
        async def sleep(self, seconds: float) -> None:
            nonlocal tries
            tries += 1
            if tries == 3:
                raise Enough

    def use(self: LargePages) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(LargePages, "use", use)
    with pytest.raises(Enough):
        asyncio.run(keep_large_pages(Clock()))
