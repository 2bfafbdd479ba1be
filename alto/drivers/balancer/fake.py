"""Balancers that exist only in memory: for the simulator, for `alto up --simulate`, and for tests of what drives them.

What a balancer "is" lives in `FakeBalancers`, which outlives the driver object as real balancers outlive the agent. Whether
a target answers is not decided here: `answers` is given by whoever simulates the machines. No clock, no chance: the same
calls give the same answers.

A balancer that is an instance knows nobody when it begins, as its HAProxy: its first word of each target is that it has not
asked yet.

The invariant: a target is HEALTHY only if it answered, and one that is draining or unplanned takes no traffic.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from alto.kit.world import World
from alto.model.balancers import BalancerPlan, BalancerReport, Target, TargetHealth, TargetState
from alto.model.errors import DriverFault

DOWN = "the balancer is down"


class Fault(enum.Enum):
    """When a call fails, seen from its effect. A caller must come to the same end after either."""

    BEFORE = "before"  # nothing happened
    AFTER = "after"  # it happened, and the answer was lost


def _no_fault(call: str) -> Fault | None:
    return None


def _no_delay(call: str) -> float:
    return 0.0


@dataclass
class BalancerKnobs:
    """Both are asked at each call with its name ("ensure", "observe", "remove_all")."""

    fault: Callable[[str], Fault | None] = _no_fault
    delay_s: Callable[[str], float] = _no_delay


class Known(NamedTuple):
    """A target, as one balancer knows it; another instance in the place of that balancer does not."""

    plan_id: str
    appliance_id: str | None
    instance_id: str


@dataclass
class FakeBalancers:
    """What exists on one simulated host."""

    plans: dict[str, BalancerPlan] = field(default_factory=dict)
    answered: set[Known] = field(default_factory=set)  # once were healthy
    asked: set[Known] = field(default_factory=set)  # behind balancers that are instances
    down: bool = False  # as if the balancer's process had died: nothing listens until the next `ensure`


class FakeBalancer:
    """A BalancerDriver over `FakeBalancers`."""

    def __init__(
        self,
        world: World,
        *,
        answers: Callable[[str], bool],
        balancers: FakeBalancers | None = None,
        knobs: BalancerKnobs | None = None,
    ) -> None:
        """`answers(instance_id)` says whether that machine would answer a health check now."""
        self._world = world
        self._answers = answers
        self._balancers = balancers if balancers is not None else FakeBalancers()
        self._knobs = knobs if knobs is not None else BalancerKnobs()

    async def ensure(self, plans: Sequence[BalancerPlan]) -> None:
        def effect() -> None:
            self._balancers.plans = {plan.id: plan for plan in plans}
            members = {_known(plan, target) for plan in plans for target in plan.targets}
            self._balancers.answered &= members
            self._balancers.asked &= members
            self._balancers.down = False

        await self._call("ensure", effect)

    async def observe(self) -> list[BalancerReport]:
        reports: list[BalancerReport] = []

        def effect() -> None:
            for plan in self._balancers.plans.values():
                reports.append(
                    BalancerReport(
                        id=plan.id,
                        ready=self._serves(plan),
                        unready_because="" if self._serves(plan) else DOWN,
                        health=self._health(plan),
                        appliance_id=plan.appliance.instance_id if plan.appliance is not None else None,
                    )
                )

        await self._call("observe", effect)
        return reports

    async def remove_all(self) -> None:
        def effect() -> None:
            self._balancers.plans.clear()
            self._balancers.answered.clear()
            self._balancers.asked.clear()

        await self._call("remove_all", effect)

    async def close(self) -> None:
        pass

    def serving(self, plan_id: str) -> list[str]:
        """Instances that a request to this balancer may reach now; not part of the interface, for assertions."""
        plan = self._balancers.plans.get(plan_id)
        if plan is None or not self._serves(plan):
            return []
        return [health.instance_id for health in self._health(plan) if health.state is TargetState.HEALTHY]

    def _serves(self, plan: BalancerPlan) -> bool:
        if plan.appliance is not None:
            return self._answers(plan.appliance.instance_id)
        return not self._balancers.down

    def _health(self, plan: BalancerPlan) -> tuple[TargetHealth, ...]:
        health: list[TargetHealth] = []
        for target in plan.targets:
            key = _known(plan, target)
            if target.draining:
                state, reason = TargetState.DRAINING, "finishes what it has"
            elif not self._serves(plan):
                self._balancers.asked.discard(key)
                state, reason = TargetState.INITIAL, DOWN
            elif plan.appliance is not None and key not in self._balancers.asked:
                self._balancers.asked.add(key)
                state, reason = TargetState.INITIAL, "has not been asked yet"
            elif self._answers(target.instance_id):
                self._balancers.answered.add(key)
                state, reason = TargetState.HEALTHY, ""
            elif key in self._balancers.answered:
                state, reason = TargetState.UNHEALTHY, "no answer to the health check"
            else:
                state, reason = TargetState.INITIAL, "has not answered the health check yet"
            health.append(TargetHealth(instance_id=target.instance_id, state=state, reason=reason))
        return tuple(health)

    async def _call(self, name: str, effect: Callable[[], None]) -> None:
        delay_s = self._knobs.delay_s(name)
        if delay_s > 0:
            await self._world.clock.sleep(delay_s)
        fault = self._knobs.fault(name)
        if fault is Fault.BEFORE:
            raise DriverFault(f"the balancer was told to fail before {name}")
        effect()
        if fault is Fault.AFTER:
            raise DriverFault(f"the balancer was told to fail after {name}")


def _known(plan: BalancerPlan, target: Target) -> Known:
    return Known(plan.id, plan.appliance.instance_id if plan.appliance is not None else None, target.instance_id)
