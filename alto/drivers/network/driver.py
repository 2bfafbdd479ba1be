"""The interface of a host's network."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from alto.drivers.compute.driver import Tap
from alto.model.instances import Machine
from alto.model.network_plans import (
    Firewall,
    FirewallPatch,
    NetworkChange,
    NetworkPlan,
    Port,
    RouteCommands,
    Routing,
    RoutingPatch,
)


class NetworkDriver(Protocol):
    """Calls are idempotent, and each may raise DriverFault and nothing else.

    A driver holds no memory that a restart may lose: after one, the agent calls `ensure_network` for every VPC with all
    ports that it still has, and traffic that was allowed before and after is never interrupted.
    """

    def has_ipv6(self) -> bool:
        """Else ports with an address of IPv6 are refused; a VPC may have a range of it, which does nothing then."""

    async def prepare(self) -> None:
        """What the host's first VPC would wait for, begun ahead of it."""

    async def ensure_network(self, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        """The VPC's namespace, DHCP, DNS, metadata and rules are there, for exactly `ports`; rules swapped at once."""

    async def change_network(self, plan: NetworkPlan, change: NetworkChange) -> None:
        """An ensured VPC has `plan` from now on, which differs by `change` alone: rules are swapped at once, ways to other
        hosts' instances and names of these follow, at a cost of what is different."""

    async def plug(self, port: Port, machine: Machine) -> Tap:
        """A tap with address, DHCP entry, metadata and rules (rules before link up). The caller closes `Tap.fd`, after it
        gave it to a machine; a tap that no process holds vanishes, so plug again before each start."""

    async def describe(self, port: Port, machine: Machine) -> None:
        """Metadata, public address or groups of a plugged port changed: make that true without touching the tap."""

    async def reach(self, port: Port) -> bool:
        """Whether the guest answers on its network (ARP, ICMP or a refused connection will do); within a quarter second."""

    async def unplug(self, port_id: str, vpc_id: str) -> None:
        """Nothing of the port is left: rules, DHCP entry, metadata, established connections."""

    async def hold(self, addresses: Collection[str]) -> None:
        """Exactly these public addresses are this host's own, so that its balancers can listen on them."""

    async def observe(self) -> dict[str, tuple[str, ...]]:
        """VPC id -> port ids found on this host, from the host itself."""

    async def remove_network(self, vpc_id: str) -> None:
        """No namespace, process or rule of the VPC is left."""

    async def remove_all(self) -> None:
        """Everything of this cloud on this host is gone: for `alto down`."""

    async def close(self) -> None:
        """Let go of connections; networks work on."""


class Rules(Protocol):
    """`alto.plan.firewall`, as the driver sees it: drivers do not import plan, so whoever builds one hands it over."""

    def compiled(self, plan: NetworkPlan, ports: Iterable[Port]) -> Firewall: ...

    def replanned(self, firewall: Firewall, plan: NetworkPlan, ports: Iterable[Port]) -> FirewallPatch: ...

    def amended(self, firewall: Firewall, change: NetworkChange) -> FirewallPatch: ...

    def plugged(self, firewall: Firewall, port: Port) -> FirewallPatch: ...

    def unplugged(self, firewall: Firewall, port_id: str) -> FirewallPatch: ...

    def ruleset(self, firewall: Firewall) -> str: ...

    def statements(self, firewall: Firewall, patch: FirewallPatch) -> str: ...

    def take(self, firewall: Firewall, patch: FirewallPatch) -> None: ...


class Routes(Protocol):
    """`alto.plan.routes`, likewise."""

    @property
    def LOCAL_PREFERENCE(self) -> int: ...

    def compiled(
        self, plan: NetworkPlan, ports: Iterable[Port], *, way_out: bool, way_out_v6: bool, direct: bool
    ) -> Routing: ...

    def with_port(self, routing: Routing, plan: NetworkPlan, port: Port) -> RoutingPatch: ...

    def without_port(self, routing: Routing, plan: NetworkPlan, device: str) -> RoutingPatch: ...

    def resettled(
        self, routing: Routing, before: NetworkPlan, plan: NetworkPlan, change: NetworkChange
    ) -> RoutingPatch | None: ...

    def through(self, patch: RoutingPatch, device: str) -> list[str]: ...

    def puts(self, patch: RoutingPatch) -> RouteCommands: ...

    def drops(self, patch: RoutingPatch) -> RouteCommands: ...

    def ruleset(self, routing: Routing) -> str: ...

    def change(self, patch: RoutingPatch) -> str: ...

    def take(self, routing: Routing, patch: RoutingPatch) -> Routing: ...
