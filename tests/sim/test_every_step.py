"""Goal: whoever dies at whichever step of an ordinary story, everything promised comes true and nothing is left behind.

Method: every_step.py, with a stride here so that a push stays quick; `python -m tests.sim --every-step` leaves no step out.
"""

import pytest

from tests.sim.every_step import VICTIMS, count_steps, play_death

STRIDE = 20
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_death_at_any_step_does_no_harm(victim: str, part: int) -> None:
    first = 1 + part * STRIDE + VICTIMS.index(victim) * STRIDE // len(VICTIMS)
    deaths = [play_death(victim, step) for step in range(first, count_steps(), STRIDE * PARTS)]
    assert [f"{one.victim} at step {one.step}: {one.failure}" for one in deaths if one.failure] == []
