"""Goal: volumes and snapshots keep their invariants whatever fails, and the simulator would find bugs that storages have had.
Method: seeds in which somebody uses disks, encrypted and not (disks.py), and bugs planted, as in test_mutants.py."""

from contextlib import ExitStack

import pytest

from alto.api.ec2 import snapshots
from alto.api.hosts import keys, session, storage
from alto.model.instances import Instance
from alto.model.volumes import StorageJob
from alto.store import volumes
from alto.store.store import Reader, Tx
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


def key_for_any_host(stack: ExitStack) -> None:
    """Whoever has a session has any key opened."""
    _put(stack, session, "needs_key", lambda reader, host_id, sealed: True)


def keys_of_jobs_refused(stack: ExitStack) -> None:
    """A host has the keys opened of what it runs, and not of what it works on."""

    def needs_key(reader: Reader, host_id: str, sealed: str) -> bool:
        return any(sealed in keys.keys_of(one) for one in reader.where(Instance, host_id=host_id))

    _put(stack, session, "needs_key", needs_key)


def keys_of_sources_refused(stack: ExitStack) -> None:
    """What a disk is made from is forgotten, which has another key when it is copied under a new one."""
    _put(stack, keys, "_of_snapshot", lambda reader, id: None)


def snapshot_not_told_its_key(stack: ExitStack) -> None:
    """The row of a snapshot says that it is encrypted, and the host is not told with what."""
    _put(stack, snapshots, "sealed_key_of", lambda encryption: None)


MUTANTS: tuple[Plant, ...] = (
    claim_forgotten,
    wish_lost,
    key_for_any_host,
    keys_of_jobs_refused,
    keys_of_sources_refused,
    snapshot_not_told_its_key,
)

FOUND: dict[str, tuple[int, ...]] = {
    "key_for_any_host": (16, 22, 25),
    "keys_of_sources_refused": (9, 15, 16),
    "snapshot_not_told_its_key": (9, 15, 16),
    "wish_lost": (51, 58, 75),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with ExitStack() as stack:
        mutant(stack)
        for number in (*FOUND.get(mutant.__name__, ()), *range(SEEDS_MAX)):
            outcome = play(f"disks {number}")
            if outcome.failure:
                print(f"{mutant.__name__}: disks {number}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
