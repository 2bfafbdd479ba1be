"""Goal: the simulator has power: a bug of any kind that clouds have had is found soon.

Method: each mutant of mutants.py is planted in turn, and seeds are played until one fails: first those that found it last
time, so that this stays quick, then all of the first SEEDS_MAX. `python -m tests.sim --mutants` counts from 0 for each and
prints the table. Without a mutant all seeds pass (test_seeds.py).
"""

import pytest

from tests.sim.mutants import MUTANTS, Plant, planted
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS_MAX = 1000

# Seeds that found those that most seeds miss. Any change of the product may move them; then the search begins at 0.
FOUND: dict[str, tuple[int, ...]] = {
    "addresses_not_followed": (9,),
    "automatic_address_kept": (9,),
    "check_then_act": (70, 203, 205),
    "dead_target_kept": (43, 5, 19),
    "destroy_on_absence": (66, 67, 82),
    "failure_believed": (165, 168, 356),
    "launch_intent_lost": (74, 52, 36),
    "leaving_forgotten": (431, 509, 757),
    "networks_forgotten": (37, 5, 61),
    "old_holder_not_told": (9,),
    "old_incarnation_believed": (17,),
    "phase_may_shrink": (120, 64, 159),
    "start_takes_no_room": (17,),
    "watch_after_reading": (118, 154, 208),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with planted(mutant):
        for seed in (*FOUND.get(mutant.__name__, ()), *range(SEEDS_MAX)):
            outcome = play(seed)
            if outcome.failure:
                print(f"{mutant.__name__}: seed {seed}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
