"""Goal: what hosts have of a VPC that they share is what its rows say, soon after each change and whatever fails; and the
simulator would find who forgets to tell, or to heed. Method: seeds with such a VPC (spread.py), and bugs planted, as in
test_mutants.py."""

from collections.abc import Set as AbstractSet
from contextlib import ExitStack

import pytest

from alto.agent.networks import Networks
from alto.api.hosts.network_news import NetworkNews
from alto.api.hosts.session import HostSessions
from alto.api.hosts.whereabouts import Whereabouts
from alto.model.acls import NetworkAcl
from alto.model.instances import Instance
from alto.model.network_plans import NetworkChange, NetworkPlan
from alto.model.records import Record
from tests.sim.mutants import Plant, _put
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS = 60
SEEDS_MAX = 300

# What each showed when it failed. A later change may lead such a seed elsewhere; it stays a seed like any other.
PAST = {
    11: "the port of a machine that ended while no agent was there stayed, with the rules of that time, for ever",
    31: "a host that had left a VPC and came back was not told who had left it meanwhile",
}


@pytest.mark.timeout(600)
def test_seeds_in_which_hosts_share_a_vpc_keep_every_invariant() -> None:
    outcomes = [play(f"spread {number}") for number in (*range(SEEDS), *(one for one in PAST if one >= SEEDS))]
    assert [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure] == []


def acl_not_told(stack: ExitStack) -> None:
    """A changed ACL is told when something else is."""
    rule_changed = NetworkNews.rule_changed

    def forgetful(self: NetworkNews, kind: str, id: str, row: Record | None) -> bool:
        return kind != NetworkAcl.KIND and rule_changed(self, kind, id, row)

    _put(stack, NetworkNews, "rule_changed", forgetful)


def owed_forgotten(stack: ExitStack) -> None:
    """A group that changed while nobody here was in it is not told to a host that gets somebody."""
    rule_changed = NetworkNews.rule_changed

    def forgetful(self: NetworkNews, kind: str, id: str, row: Record | None) -> bool:
        told = rule_changed(self, kind, id, row)
        self._owed.clear()
        return told

    _put(stack, NetworkNews, "rule_changed", forgetful)


def others_not_told(stack: ExitStack) -> None:
    """Who changes a group stays in the hosts' eyes what it was, until it goes."""
    put_instance = Whereabouts.put_instance

    def hasty(self: Whereabouts, id: str, instance: Instance | None) -> dict[str, set[str]]:
        known = id in self._residents
        moved = put_instance(self, id, instance)
        return {} if known and id in self._residents else moved

    _put(stack, Whereabouts, "put_instance", hasty)


def gone_not_told(stack: ExitStack) -> None:
    """Who is gone is told by nobody: the hosts find out when they hear everything."""
    moved = HostSessions._moved

    def silent(
        self: HostSessions,
        vpc_id: str,
        interface_ids: AbstractSet[str] = frozenset(),
        where: AbstractSet[str | None] = frozenset(),
    ) -> None:
        if all(id in self._whereabouts._owners for id in interface_ids):
            moved(self, vpc_id, interface_ids, where)

    _put(stack, HostSessions, "_moved", silent)


def last_change_only(stack: ExitStack) -> None:
    """Of several changes that wait, the driver is told the last one."""
    steps = Networks._steps

    def last(
        self: Networks, vpc_id: str, ensured: NetworkPlan | None, plan: NetworkPlan
    ) -> list[tuple[NetworkPlan, NetworkChange]]:
        return steps(self, vpc_id, ensured, plan)[-1:]

    _put(stack, Networks, "_steps", last)


FOUND: dict[str, tuple[int, ...]] = {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant",
    [acl_not_told, owed_forgotten, others_not_told, gone_not_told, last_change_only],
    ids=lambda one: one.__name__,
)
def test_a_planted_bug_is_found(mutant: Plant) -> None:
    with ExitStack() as stack:
        mutant(stack)
        for number in (*FOUND.get(mutant.__name__, ()), *range(SEEDS_MAX)):
            outcome = play(f"spread {number}")
            if outcome.failure:
                print(f"{mutant.__name__}: spread {number}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
