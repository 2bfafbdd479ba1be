"""Goal: ids sort in the order in which they were drawn, whatever the clock does, and never come twice.
Method: draw with clocks that stand still, run and step back, and with the least and the most that chance can give.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from alto.kit.serial import Serial
from alto.kit.world import real_world

DIGITS, GAP = 17, 64


def ids(serial: Serial, count: int) -> list[int]:
    text = serial.draw(count, DIGITS, GAP)
    assert len(text) == count * DIGITS
    found = [text[at : at + DIGITS] for at in range(0, len(text), DIGITS)]
    assert found == sorted(found)
    return [int(one, 16) for one in found]


@pytest.mark.parametrize("bits", [lambda n: 0, lambda n: 2**n - 1, random.Random(1).getrandbits], ids=["least", "most", "any"])
def test_none_comes_twice_and_each_leaves_its_gap(bits: Callable[[int], int]) -> None:
    serial = Serial(lambda: 1.79e9, bits)
    drawn = [number for _ in range(50) for number in ids(serial, 100)]
    assert all(later - earlier >= GAP for earlier, later in pairwise(drawn))


def test_a_clock_that_steps_back_does_not_turn_the_order() -> None:
    now = [1.79e9]
    serial = Serial(lambda: now[0], random.Random(1).getrandbits)
    before = ids(serial, 3)
    now[0] -= 3600
    assert min(ids(serial, 3)) >= max(before) + GAP


def test_two_processes_agree_on_the_order_of_what_is_some_steps_apart() -> None:
    now = [1.79e9]
    one, other = (Serial(lambda: now[0], random.Random(seed).getrandbits) for seed in (1, 2))
    first = ids(one, 10)
    now[0] += 0.032
    assert min(ids(other, 10)) > max(first)


def test_as_amazons_they_begin_with_a_0() -> None:
    """For the next centuries: 17 digits hold the time and the tail, with one to spare."""
    chance = real_world().chance
    assert chance.serials(1, DIGITS, GAP)[0] == "0"
    assert Serial(lambda: 1.79e9 + 200 * 365 * 86400, lambda n: 2**n - 1).draw(1, DIGITS, GAP)[0] == "0"


def test_none_drawn_is_nothing_drawn() -> None:
    assert Serial(lambda: 1.79e9, lambda n: 0).draw(0, DIGITS, GAP) == ""
