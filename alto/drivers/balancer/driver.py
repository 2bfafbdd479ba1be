"""The interface of a host's load balancers."""

from collections.abc import Sequence
from typing import Protocol

from alto.model.balancers import BalancerPlan, BalancerReport


class BalancerDriver(Protocol):
    """Calls are idempotent and may raise DriverFault and nothing else. Traffic goes on while this process is dead.

    A plan with an `appliance` is served by that instance, which runs on this host."""

    async def ensure(self, plans: Sequence[BalancerPlan]) -> None:
        """Exactly these balancers listen, each with exactly these targets. Membership changes go through the runtime, with
        no reload and no lost request; a target takes traffic only after it answered its health check."""

    async def observe(self) -> list[BalancerReport]:
        """Measured health of every target, from the balancer itself."""

    async def remove_all(self) -> None:
        """No process, socket or file is left."""

    async def close(self) -> None: ...
