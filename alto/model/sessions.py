"""What a host's agent and the server say to each other: whole wishes down, observations up.

Each message is complete for the thing that it names, so that a lost, late or doubled one does no harm.
"""

import msgspec

from alto.model.balancers import BalancerPlan, BalancerReport
from alto.model.hosts import Capabilities
from alto.model.instances import Machine, Report
from alto.model.networks import NetworkPlan


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's first word. `found` are the manifests on its disk: what runs there, whatever the store remembers."""

    cloud_id: str
    host_id: str
    name: str
    capabilities: Capabilities
    found: tuple[Machine, ...] = ()


class Assignments(msgspec.Struct, frozen=True, kw_only=True):
    """What changed for a host since the last one; `full` when it is everything (at the start, and now and then).

    `tombstones` are instances to remove with all they have on the host, at this epoch or a lower one. An instance that
    is merely not mentioned is never removed.
    """

    full: bool
    machines: tuple[Machine, ...] = ()
    tombstones: tuple[tuple[str, int], ...] = ()
    networks: tuple[NetworkPlan, ...] = ()
    balancers: tuple[BalancerPlan, ...] = ()
    gone_balancers: tuple[str, ...] = ()
    gone_networks: tuple[str, ...] = ()


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    instances: tuple[Report, ...] = ()
    balancers: tuple[BalancerReport, ...] = ()
    quarantined: tuple[str, ...] = ()  # machines found here that nobody assigned
    at: float
