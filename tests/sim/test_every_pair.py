"""Goal: kill -9 at each step of address association, of a change and of interface attachment, and at each pair of steps:
nothing leaked, nothing half, and what was acknowledged is so.

Method: every_pair.py, all single deaths and a stride of the pairs; `python -m tests.sim --every-pair` leaves none out.
"""

import pytest

from tests.sim.every_pair import Kill, pairs, play_kills, singles, steps
from tests.sim.mutants import OF_ONE_STEP, Plant, planted

STRIDE = 20
PARTS = 2


def _failures(every: list[tuple[Kill, ...]]) -> list[str]:
    fates = [play_kills(*kills) for kills in every]
    return [str(one) for one in fates if one.failure]


def test_the_story_takes_each_kind_of_step() -> None:
    found = steps()
    for act in ("associate", "associate again, elsewhere", "attach", "change groups", "detach", "disassociate", "terminate"):
        for what in ("commit", "manifest", "ports"):
            assert f"{act}: {what}" in found, (act, what)
    assert "attach: machine" in found
    assert "detach: machine" in found


def test_one_death_does_no_harm() -> None:
    assert _failures(list(singles(len(steps())))) == []


@pytest.mark.parametrize("part", range(PARTS))
def test_two_deaths_do_no_harm(part: int) -> None:
    every = list(pairs(len(steps())))
    assert _failures(every[part * STRIDE // PARTS :: STRIDE]) == []


@pytest.mark.parametrize("mutant", OF_ONE_STEP, ids=lambda mutant: mutant.__name__)
def test_a_bug_at_one_step_is_found(mutant: Plant) -> None:
    count = len(steps())
    with planted(mutant):
        assert any(play_kills(*kills).failure for kills in singles(count))
