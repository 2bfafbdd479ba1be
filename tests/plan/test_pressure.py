"""When a host is full. Goal: a machine that is nearly used up is told from one that is not, and stays told until it has room
again. Method: gauges by hand beside the words that a person would use of them."""

import pytest
from msgspec.structs import replace

from alto.model.pressure import Gauges, Pressure
from alto.plan.pressure import differs, under_pressure

EASY = Gauges(
    memory_mib=16384, memory_free_mib=9000, disk_mib=500_000, disk_free_mib=90_000, processes_max=32_000, processes=900
)


@pytest.mark.parametrize(
    ("changed", "short_of"),
    [
        ({}, ()),
        ({"memory_free_mib": 600}, (Pressure.MEMORY,)),
        ({"disk_free_mib": 15_000}, (Pressure.DISK,)),
        # A large disk is not full because 5 % of it is left: that is a terabyte.
        ({"disk_mib": 20_000_000, "disk_free_mib": 900_000}, ()),
        ({"processes": 31_500}, (Pressure.PROCESSES,)),
        # Enough is free, and yet nothing gets on.
        ({"stalled": 0.5}, (Pressure.MEMORY,)),
        ({"memory_free_mib": 100, "disk_free_mib": 0}, (Pressure.DISK, Pressure.MEMORY)),
    ],
)
def test_what_is_nearly_used_up_is_named(changed: dict[str, float], short_of: tuple[Pressure, ...]) -> None:
    assert under_pressure(replace(EASY, **changed), ()) == short_of


def test_it_is_over_only_with_room_to_spare() -> None:
    mark = [replace(EASY, memory_free_mib=free) for free in (830, 810, 830, 1100, 1300, 830)]
    found: list[tuple[Pressure, ...]] = []
    for gauges in mark:
        found.append(under_pressure(gauges, found[-1] if found else ()))
    full = (Pressure.MEMORY,)
    assert found == [(), full, full, full, (), ()]


def test_small_moves_are_not_worth_a_word() -> None:
    assert differs(EASY, None)
    assert not differs(replace(EASY, memory_free_mib=8900, processes=905), EASY)
    assert differs(replace(EASY, memory_free_mib=8000), EASY)
