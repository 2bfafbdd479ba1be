"""Goal: whatever fails, no account's instances hold room beside another's dedicated ones; and the simulator would find who
forgets to look. Method: seeds in which two accounts share hosts (tenancy.py), and bugs planted, as in test_mutants.py."""

from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.ec2 import instances as instances_api
from alto.control import scheduler
from alto.plan.placement import Demand, Placed, Room, Unplaced
from alto.store import claims
from tests.sim.mutants import Plant, _put
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS = 40
SEEDS_MAX = 200


@pytest.mark.timeout(600)
def test_seeds_in_which_accounts_share_hosts_keep_every_invariant() -> None:
    outcomes = [play(f"tenancy {number}") for number in range(SEEDS)]
    assert [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure] == []


def placed_beside_others(stack: ExitStack) -> None:
    """Who places an ordinary instance does not heed for whom a host is kept."""
    place = scheduler.place

    def blind(demand: Demand, rooms: list[Room]) -> Placed | Unplaced:
        return place(demand, [replace(room, dedicated_to=None) for room in rooms])

    _put(stack, scheduler, "place", blind)


def placed_among_others(stack: ExitStack) -> None:
    """Who places a dedicated instance heeds other dedicated ones, and not who else is there."""
    _put(stack, scheduler, "look_around", lambda rooms, instances_on: [setattr(room, "accounts", set()) for room in rooms])


def started_beside_others(stack: ExitStack) -> None:
    """Who starts again is not asked whose the host is by now."""
    _put(stack, instances_api, "_kept_out_by", lambda tx, instance, host_id: None)


def kept_for_ever(stack: ExitStack) -> None:
    """A host stays kept for an account when its last dedicated instance stopped or ended."""
    dedication = claims.dedication
    _put(stack, claims, "dedication", lambda now, account, more: dedication(now, account, max(more, 0)))


BUGS: tuple[Any, ...] = (placed_beside_others, placed_among_others, started_beside_others, kept_for_ever)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Plant) -> None:
    with ExitStack() as stack:
        bug(stack)
        for seed in range(SEEDS_MAX):
            outcome = play(f"tenancy {seed}")
            if outcome.failure:
                print(f"{bug.__name__}: seed {seed}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{bug.__name__} lives: {bug.__doc__}")
