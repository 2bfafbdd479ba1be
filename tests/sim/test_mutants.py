"""Goal: the simulator has power: a bug of any kind that clouds have had is found soon.

Method: each mutant of mutants.py is planted in turn, and seeds are played until one fails; SEEDS_MAX are allowed, and how
many were needed is printed (`pytest -s`). Without a mutant all seeds pass (test_seeds.py).
"""

import pytest

from tests.sim.mutants import MUTANTS, Plant, planted
from tests.sim.scenario import play

SEEDS_MAX = 1000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with planted(mutant):
        for seed in range(SEEDS_MAX):
            outcome = play(seed)
            if outcome.failure:
                print(f"{mutant.__name__}: seed {seed}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
