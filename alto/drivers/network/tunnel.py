"""The VXLAN that joins a VPC's namespaces on several hosts, one device in each.

Nothing is learned and nothing flooded: the plan says which address lives behind which host (alto.plan.routes). Each host may
listen on a port of its own, so that two hosts can be on one machine. What arrives is believed only from a host that has
something of this VPC, under that host's own MAC; the outer addresses are seen only here, in the namespace that Alto runs in.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from alto.drivers.network.commands import Commands
from alto.drivers.network.nft import Nft
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.network_plans import TUNNEL_DEVICE, NetworkPlan, tunnel_mac

MTU = 1450  # of the 1,500 that networks carry, 50 are for the outer frame; a smaller underlay breaks the outer packet in two


def endpoint(underlay: str) -> tuple[str, int]:
    """Raises: DriverFault."""
    address, _, port = underlay.rpartition(":")
    try:
        found = str(IPv4Address(address)), int(port)
    except ValueError as error:
        raise DriverFault(f"{underlay!r} is no address and port of a host's tunnel") from error
    if not 0 < found[1] < 65536:
        raise DriverFault(f"{underlay!r} is no address and port of a host's tunnel")
    return found


class Tunnels:
    """`table` is of nftables, in the namespace that Alto runs in. `before()`: the plans on the disk; asked once."""

    def __init__(
        self,
        world: World,
        nft: Nft,
        *,
        table: str,
        links: Callable[[str | None], set[str]],
        before: Callable[[], Iterable[NetworkPlan]],
    ) -> None:
        self._commands = Commands(world)
        self._nft = nft
        self._table = table
        self._links = links
        self._before = before
        self._port: int | None = None  # the guard stands for this one
        self._believed: dict[str, frozenset[str]] = {}  # VPC -> elements

    async def ensure(self, netns: str, plan: NetworkPlan) -> list[str]:
        """The device is there, or not, as the plan says. Returns it when it was made now."""
        there = TUNNEL_DEVICE in self._links(netns)
        if not plan.vni:
            if there:
                await self._commands.ip(netns, [f"link delete {TUNNEL_DEVICE}"])
            await self._believe(plan.vpc_id, frozenset())
            return []
        address, port = endpoint(plan.underlay)
        await self._guard(port)
        await self._believe(plan.vpc_id, _known(plan))
        made = []
        if not there:
            kind = f"vxlan id {plan.vni} local {address} dstport {port} nolearning"
            await self._commands.ip(None, [f"link add name {TUNNEL_DEVICE} netns {netns} type {kind}"])
            made.append(TUNNEL_DEVICE)
        own = tunnel_mac(plan.underlay)
        await self._commands.ip(netns, [f"link set {TUNNEL_DEVICE} address {own} mtu {MTU}", f"link set {TUNNEL_DEVICE} up"])
        return made

    async def forget(self, vpc_id: str) -> None:
        await self._believe(vpc_id, frozenset())

    async def remove(self) -> None:
        await self._nft.apply(None, f"add table ip {self._table}\ndelete table ip {self._table}\n")
        self._port = None
        self._believed.clear()

    async def _guard(self, port: int) -> None:
        """What a predecessor let in goes on, as its plans on the disk say, until each VPC is ensured."""
        if self._port == port:
            return
        self._believed = {plan.vpc_id: _known(plan) for plan in self._before() if plan.vni}
        # Offsets in bits behind the UDP header's start: the VXLAN's number at 96, the inner frame's source at 176.
        names = f"add set ip {self._table} alto_hosts {{ typeof ip saddr . @th,96,24 . @th,176,48; }}"
        lines = [
            f"add table ip {self._table}",
            names,
            f"add chain ip {self._table} c_input {{ type filter hook input priority -5; policy accept; }}",
            f"flush chain ip {self._table} c_input",
            f"flush set ip {self._table} alto_hosts",
            *_change(self._table, frozenset(), frozenset().union(*self._believed.values())),
            f"add rule ip {self._table} c_input udp dport {port} ip saddr . @th,96,24 . @th,176,48 @alto_hosts accept",
            f"add rule ip {self._table} c_input udp dport {port} counter drop",
        ]
        await self._nft.apply(None, "\n".join(lines) + "\n")
        self._port = port

    async def _believe(self, vpc_id: str, wanted: frozenset[str]) -> None:
        old = self._believed.get(vpc_id, frozenset())
        if old == wanted:
            return
        lines = _change(self._table, old, wanted)
        await self._nft.apply(None, "".join(f"{line}\n" for line in lines))
        self._believed[vpc_id] = wanted


def _known(plan: NetworkPlan) -> frozenset[str]:
    hosts = {*plan.hosts, *(one.underlay for one in plan.neighbours), *(one.underlay for one in plan.nats)} - {
        "",
        plan.underlay,
    }
    return frozenset(f"{endpoint(one)[0]} . {plan.vni:#x} . 0x{tunnel_mac(one).replace(':', '')}" for one in hosts)


def _change(table: str, old: frozenset[str], new: frozenset[str]) -> list[str]:
    lines = []
    if old - new:
        lines.append(f"delete element ip {table} alto_hosts {{ {', '.join(sorted(old - new))} }}")
    if new - old:
        lines.append(f"add element ip {table} alto_hosts {{ {', '.join(sorted(new - old))} }}")
    return lines
