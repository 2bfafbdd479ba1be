"""Goal: what hosts find of their machine and of their guests is said as it is, whatever fails; hosts of two clouds that meet
stay apart. Method: seeds with such troubles (health.py), and bugs planted, as in test_mutants.py."""

from collections.abc import Collection
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from alto.agent import checks
from alto.agent.checks import StatusChecks, Subject
from alto.api.hosts import session
from alto.api.hosts.session import HostSessions
from alto.control import scheduler
from alto.model.hosts import Host
from alto.model.instances import Checks
from alto.model.pressure import Gauges, Pressure
from alto.model.sessions import Hello, Measured
from alto.plan.placement import Room, room_of
from alto.plan.pressure import under_pressure
from tests.sim.mutants import Plant, _put
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS = 40
SEEDS_MAX = 300


@pytest.mark.timeout(600)
def test_seeds_in_which_hosts_and_guests_ail_keep_every_invariant() -> None:
    outcomes = [play(f"health {number}") for number in range(SEEDS)]
    assert [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure] == []


def pressure_not_heeded(stack: ExitStack) -> None:
    """A host that is nearly full gets instances as any other."""

    def room(host: Host) -> Room:
        return room_of(replace(host, pressure=()))

    _put(stack, scheduler, "room_of", room)


def pressure_stays(stack: ExitStack) -> None:
    """A host that was short of something once is so for ever."""

    def judged(gauges: Gauges, before: Collection[Pressure]) -> tuple[Pressure, ...]:
        return tuple(sorted({*under_pressure(gauges, before), *before}))

    _put(stack, session, "under_pressure", judged)


def well_until_found_ill(stack: ExitStack) -> None:
    """An agent that has just begun says that every guest is well, before it has asked often enough to know."""
    learn = StatusChecks._learn

    def hasty(self: StatusChecks, subject: Subject, measured: Measured) -> bool:
        news = learn(self, subject, measured)
        record = self._records[subject.id]
        if record.said is None:
            record.said = Checks()
            return True
        return news

    _put(stack, StatusChecks, "_learn", hasty)


def ill_for_ever(stack: ExitStack) -> None:
    """A guest that was impaired once is not well again when it answers."""
    since = checks._since

    def stubborn(before: float | None, failures: int, patience: int, now: float) -> float | None:
        return before if before is not None else since(before, failures, patience, now)

    _put(stack, checks, "_since", stubborn)


def any_cloud_is_ours(stack: ExitStack) -> None:
    """A host is taken by its id, whichever cloud it says that it belongs to."""
    hello = HostSessions.hello

    async def welcoming(self: HostSessions, said: Hello) -> str:
        return await hello(self, replace(said, cloud_id=self._cloud_id))

    _put(stack, HostSessions, "hello", welcoming)


FOUND: dict[str, tuple[int, ...]] = {"ill_for_ever": (52,)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant",
    [pressure_not_heeded, pressure_stays, well_until_found_ill, ill_for_ever, any_cloud_is_ours],
    ids=lambda one: one.__name__,
)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with ExitStack() as stack:
        mutant(stack)
        for number in (*FOUND.get(mutant.__name__, ()), *range(SEEDS_MAX)):
            outcome = play(f"health {number}")
            if outcome.failure:
                print(f"{mutant.__name__}: health {number}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
