"""Goal: a service whose balancer is an instance serves at the address that it always had, whatever becomes of the instance; and
the simulator would find bugs of its keeping. Method: seeds with such services (fronts.py), and bugs planted, as in
test_mutants.py."""

from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from alto.api.ec2.service_calls import ServiceCalls
from alto.api.hosts import session
from alto.control import balancers
from alto.model.balancers import Appliance, BalancerPlan, LoadBalancer, TargetHealth, TargetState
from alto.store.store import Tx
from tests.sim.mutants import Plant, _put
from tests.sim.scenario import play

pytestmark = pytest.mark.long

SEEDS = 40
SEEDS_MAX = 300


@pytest.mark.timeout(600)
def test_seeds_with_balancers_that_are_instances_keep_every_invariant_and_settle() -> None:
    outcomes = [play(f"fronts {number}") for number in range(SEEDS)]
    assert [f"seed {one.seed}: {one.failure}" for one in outcomes if one.failure] == []


def address_left_behind(stack: ExitStack) -> None:
    """The address is led to the first instance, and to none that comes in its place."""
    lead = ServiceCalls.lead

    def once(self: ServiceCalls, tx: Tx, balancer: LoadBalancer, appliance: Appliance) -> None:
        if balancer.appliance is None and balancer.measured is None:
            lead(self, tx, balancer, appliance)

    _put(stack, ServiceCalls, "lead", once)


def address_kept(stack: ExitStack) -> None:
    """The balancer goes, and its address stays its account's."""
    _put(stack, ServiceCalls, "release", lambda self, tx, balancer: None)


def host_not_told(stack: ExitStack) -> None:
    """Hosts hear of members, and not which instance balances."""
    plan = session.balancer_plan

    def without(balancer: LoadBalancer) -> BalancerPlan:
        return replace(plan(balancer), appliance=None)

    _put(stack, session, "balancer_plan", without)


def instance_never_goes(stack: ExitStack) -> None:
    """A deleted service's balancer runs on."""
    decide = balancers.decide
    _put(stack, balancers, "decide", lambda reader, balancer: decide(reader, balancer)._replace(needless=None))


def judged_by_age(stack: ExitStack) -> None:
    """A member that its balancer has not asked yet is bad for being old, though the balancer has only just begun."""
    merge = session.merge_health

    def ageless(old: Sequence[TargetHealth], new: Sequence[TargetHealth], now: float) -> tuple[TargetHealth, ...]:
        return tuple(replace(one, since=0.0) if one.state is TargetState.INITIAL else one for one in merge(old, new, now))

    _put(stack, session, "merge_health", ageless)


MUTANTS: tuple[Plant, ...] = (address_left_behind, address_kept, host_not_told, instance_never_goes, judged_by_age)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_bug_of_balancers_is_found(mutant: Plant) -> None:
    with ExitStack() as stack:
        mutant(stack)
        for number in range(SEEDS_MAX):
            outcome = play(f"fronts {number}")
            if outcome.failure:
                print(f"{mutant.__name__}: fronts {number}, {outcome.failure[:200]}")
                return
    pytest.fail(f"{mutant.__name__} lives: {mutant.__doc__}")
