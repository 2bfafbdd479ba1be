"""The VXLAN that joins a VPC's namespaces on several hosts, one device in each.

Nothing is learned and nothing flooded: the plan says which address lives behind which host (alto.plan.routes). Each host may
listen on a port of its own, so that two hosts can be on one machine. What arrives is believed only from a host that has
something of this VPC, under that host's own MAC; the outer addresses are seen only here, in the namespace that Alto runs in.

Two hosts may be on one machine. Then the kernel takes a short cut from one VXLAN device to the other and forgets to take the
routing decision and the connection off the packet, which goes in circles. So the namespace speaks to the VXLAN through a pair
of devices, whose crossing takes both off: TUNNEL_DEVICE is one end, and what comes to the other is passed on as it is.
"""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import TypeAlias

import msgspec

from alto.drivers.network.commands import Commands
from alto.drivers.network.nft import Nft
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.network_plans import TUNNEL_DEVICE, TUNNEL_MTU, VXLAN_DEVICE, NetworkPlan, tunnel_mac

FAR_END = "vx1"  # of the pair
# Outer source ports. What guests send to the world leaves from lower ones (uplink.py), so that it never looks like a host's.
PORTS_FROM, PORTS_TO = 49152, 65535
# Sets of the packet filter, and what is in them.
_HOSTS, _OURS = "alto_hosts", "alto_ours"
_Element: TypeAlias = tuple[str, str]

_PASSING_ON = "\n".join(
    (
        "add table netdev alto_tunnel",
        "delete table netdev alto_tunnel",
        "add table netdev alto_tunnel",
        f"add chain netdev alto_tunnel c_out {{ type filter hook ingress device {FAR_END} priority 0; policy drop; }}",
        f'add rule netdev alto_tunnel c_out fwd to "{VXLAN_DEVICE}"',
        f"add chain netdev alto_tunnel c_in {{ type filter hook ingress device {VXLAN_DEVICE} priority 0; policy drop; }}",
        f'add rule netdev alto_tunnel c_in fwd to "{FAR_END}"',
        "",
    )
)


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
        before: Callable[[], Iterable[NetworkPlan]],
    ) -> None:
        self._world = world
        self._commands = Commands(world)
        self._nft = nft
        self._table = table
        self._before = before
        self._port: int | None = None  # the guard stands for this one
        self._believed: dict[str, frozenset[_Element]] = {}  # by VPC
        self._lock = asyncio.Lock()

    async def ensure(self, netns: str, plan: NetworkPlan) -> list[str]:
        """The device is there, or not, as the plan says. Returns it when it was made now."""
        links = self._commands.links(netns)
        if not plan.vni:
            if TUNNEL_DEVICE in links or VXLAN_DEVICE in links:
                await self._delete(netns)
            await self.forget(plan.vpc_id)
            return []
        address, port = endpoint(plan.underlay)
        async with self._lock:
            await self._guard(port)
            await self._believe(plan.vpc_id, _known(plan))
        wanted = _Info(id=plan.vni, local=address, port=port)
        if not {TUNNEL_DEVICE, FAR_END, VXLAN_DEVICE} <= links or await self._found(netns) != wanted:
            await self._delete(netns)
            kind = f"vxlan id {wanted.id} local {address} dstport {port} srcport {PORTS_FROM} {PORTS_TO} nolearning"
            await self._commands.ip(None, [f"link add name {VXLAN_DEVICE} netns {netns} type {kind}"])
            await self._commands.ip(
                netns,
                [
                    f"link add {TUNNEL_DEVICE} type veth peer name {FAR_END}",
                    f"link set {TUNNEL_DEVICE} address {tunnel_mac(plan.underlay)} mtu {TUNNEL_MTU}",
                    *(f"link set {name} up" for name in (VXLAN_DEVICE, FAR_END)),
                ],
            )
            await self._nft.apply(netns, _PASSING_ON)
            # Other hosts speak from the addresses that this one has for itself; whose they are, the rules know (routes.py).
            settings = {f"net/ipv4/conf/{TUNNEL_DEVICE}/accept_local": "1", f"net/ipv4/conf/{TUNNEL_DEVICE}/rp_filter": "0"}
            self._world.net.sysctl(settings, netns=netns)
            made = [TUNNEL_DEVICE, VXLAN_DEVICE]
        else:
            made = []
        await self._commands.ip(netns, [f"link set {TUNNEL_DEVICE} up"])
        return made

    async def _found(self, netns: str) -> "_Info | None":
        links = await self._commands.listed(netns, ["-details", "link", "show", VXLAN_DEVICE], _Link)
        return links[0].linkinfo.info_data if links else None

    async def _delete(self, netns: str) -> None:
        await self._commands.delete_links(netns, (TUNNEL_DEVICE, VXLAN_DEVICE))

    async def forget(self, vpc_id: str) -> None:
        async with self._lock:
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
        hosts, ours = f"ip {self._table} {_HOSTS}", f"ip {self._table} {_OURS}"
        lines = [
            f"add table ip {self._table}",
            f"add set {hosts} {{ typeof ip saddr . @th,96,24 . @th,176,48; }}",
            f"add set {ours} {{ typeof udp dport . @th,96,24; }}",
            f"add chain ip {self._table} c_input {{ type filter hook input priority -5; policy accept; }}",
            f"flush chain ip {self._table} c_input",
            f"flush set {hosts}",
            f"flush set {ours}",
            *_change(self._table, frozenset(), frozenset().union(*self._believed.values())),
            f"add rule ip {self._table} c_input udp dport {port} udp sport {PORTS_FROM}-{PORTS_TO} "
            f"ip saddr . @th,96,24 . @th,176,48 @{_HOSTS} accept",
            # Other VXLANs, another cloud's for one, may come to the same port: they are left alone.
            f"add rule ip {self._table} c_input udp dport . @th,96,24 @{_OURS} counter drop",
        ]
        await self._nft.apply(None, "\n".join(lines) + "\n")
        self._port = port

    async def _believe(self, vpc_id: str, wanted: frozenset[_Element]) -> None:
        old: frozenset[_Element] = self._believed.get(vpc_id, frozenset())
        if old == wanted:
            return
        lines = _change(self._table, old, wanted)
        await self._nft.apply(None, "".join(f"{line}\n" for line in lines))
        self._believed[vpc_id] = wanted


class _Info(msgspec.Struct):
    id: int
    port: int
    local: str = ""


class _LinkInfo(msgspec.Struct):
    info_data: _Info


class _Link(msgspec.Struct):
    linkinfo: _LinkInfo


def _known(plan: NetworkPlan) -> frozenset[_Element]:
    hosts = {*plan.hosts, *(one.underlay for one in plan.neighbours), *(one.underlay for one in plan.nats)} - {
        "",
        plan.underlay,
    }
    known = {(_HOSTS, f"{endpoint(one)[0]} . {plan.vni:#x} . 0x{tunnel_mac(one).replace(':', '')}") for one in hosts}
    return frozenset({*known, (_OURS, f"{endpoint(plan.underlay)[1]} . {plan.vni:#x}")})


def _change(table: str, old: frozenset[_Element], new: frozenset[_Element]) -> list[str]:
    lines = [f"delete element ip {table} {name} {{ {element} }}" for name, element in sorted(old - new)]
    return lines + [f"add element ip {table} {name} {{ {element} }}" for name, element in sorted(new - old)]
