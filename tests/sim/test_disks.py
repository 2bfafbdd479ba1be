"""Goal: volumes and snapshots keep their invariants whatever fails, and the simulator would find bugs that storages have had.
Method: seeds in which somebody uses disks (disks.py), and two bugs planted, as in test_mutants.py."""

from contextlib import ExitStack

import pytest

from alto.api.hosts import storage
from alto.model.volumes import StorageJob
from alto.store import volumes
from alto.store.store import Tx
from tests.sim.mutants import Plant, _put
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS = 40
SEEDS_MAX = 300


@pytest.mark.timeout(600)
def test_seeds_with_disks_keep_every_invariant_and_settle() -> None:
    outcomes = [play(f"disks {number}") for number in range(SEEDS)]
    assert [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure] == []


def claim_forgotten(stack: ExitStack) -> None:
    """A volume that is deleted keeps its room."""
    _put(stack, storage, "claim_disk", lambda tx, host_id, gib: None)


def wish_lost(stack: ExitStack) -> None:
    """A later wish for a volume does not take the earlier one's place."""

    def put_job(tx: Tx, job: StorageJob) -> None:
        if tx.find(StorageJob, job.id) is None:
            tx.put(job)

    _put(stack, volumes, "put_job", put_job)


FOUND: dict[str, tuple[int, ...]] = {"wish_lost": (10,)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [claim_forgotten, wish_lost], ids=lambda one: one.__name__)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with ExitStack() as stack:
        mutant(stack)
        for number in (*FOUND.get(mutant.__name__, ()), *range(SEEDS_MAX)):
            outcome = play(f"disks {number}")
            if outcome.failure:
                print(f"{mutant.__name__}: disks {number}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
