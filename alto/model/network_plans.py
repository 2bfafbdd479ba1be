"""What a host is told of a VPC and of its ports there: data from `plan/networks.py` for `plan/firewall.py`,
`plan/routes.py` and the network driver. Whole for the VPC it names; a host needs no other rows to make it true.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network
from typing import TypeVar

import msgspec

from alto.model.acls import AclEntry
from alto.model.networks import PortAddress as PortAddress
from alto.model.networks import SecurityGroup, host_address
from alto.model.routing import Target

T = TypeVar("T")

# Names, or their beginnings, inside a VPC's namespace.
NAT_DEVICE, PEER_DEVICE, ENDPOINT_DEVICE = "nat", "pcx", "tapv"
TUNNEL_DEVICE, VXLAN_DEVICE = "vx0", "vx2"  # where routes lead to other hosts, and what puts packets on the way to them
TUNNEL_MTU = 1450  # of the 1,500 that networks carry, 50 are for the outer frame; a smaller underlay breaks that in two
VNI_FROM, VNI_TO = 1 << 23, (1 << 24) - 1  # other VXLANs on a machine have lower numbers, mostly


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """`address` is where an interface's or NAT gateway's packets go inside the VPC. A route with neither it nor a gateway
    that works is a black hole (`target` None)."""

    destination: str
    target: Target | None
    target_id: str = ""
    address: str | None = None


class SubnetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Subnets with one route table have equal `routes`, and say which table it is."""

    id: str
    cidr: str
    zone: str
    route_table_id: str = ""
    routes: tuple[RoutePlan, ...] = ()  # without the local ones
    acl_id: str = ""
    cidr_v6: str | None = None


class AclPlan(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    entries: tuple[AclEntry, ...]


class NatPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A NAT gateway works on one host: on this one, or on the one behind `underlay`. A connection that it takes goes on under
    one of its addresses, whichever."""

    id: str
    subnet_id: str
    private_ip: str
    public_ip: str | None
    underlay: str = ""
    further: tuple[PortAddress, ...] = ()

    @property
    def addresses(self) -> tuple[PortAddress, ...]:
        """The primary one first."""
        return (PortAddress(private_ip=self.private_ip, public_ip=self.public_ip), *self.further)

    @property
    def device(self) -> str:
        """The VPC's end of the way to it."""
        return f"{NAT_DEVICE}{self.id[-12:]}"


class EndpointPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An interface of an interface endpoint. It works on the host of the cloud's server, and is a neighbour to others."""

    interface_id: str
    subnet_id: str
    mac: str
    private_ip: str
    hostname: str
    group_ids: tuple[str, ...]


class PeerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Another VPC that this one may talk to through connection `id`."""

    id: str
    vpc_id: str
    cidrs: tuple[str, ...]  # of both families

    @property
    def device(self) -> str:
        """This VPC's end of the way to the other."""
        return f"{PEER_DEVICE}{self.id[-12:]}"


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What DNS knows of one interface: whole names that lead to its first address of either family, of which the first is what
    the address leads back to."""

    v4: tuple[str, ...]
    v6: tuple[str, ...] = ()


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """An interface of the VPC on another host, behind that host's underlay endpoint ("IP:PORT")."""

    interface_id: str
    vpc_id: str
    addresses: tuple[str, ...]  # the primary one first, those of IPv6 last
    hostname: str
    names: Names | None = None  # None: its host name alone
    group_ids: tuple[str, ...]
    underlay: str
    source_dest_check: bool = True
    public: tuple[PortAddress, ...] = ()  # its addresses that have a public one
    entered_here: bool = False  # what this machine sends to its addresses of IPv6 goes in by this host


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a host must know of a VPC beside its own ports: data for `plan/firewall.py` and the network driver.

    Subnets, groups, ACLs and neighbours are in the order of their ids, and members in that of their letters: a change finds
    what it names by that."""

    vpc_id: str
    region: str
    cidr: str
    secondary_cidrs: tuple[str, ...] = ()
    ranges_v6: tuple[str, ...] = ()
    subnets: tuple[SubnetPlan, ...]
    groups: tuple[SecurityGroup, ...]
    prefix_lists: dict[str, tuple[str, ...]] = {}  # id -> ranges
    acls: tuple[AclPlan, ...] = ()
    nats: tuple[NatPlan, ...] = ()
    endpoints: tuple[EndpointPlan, ...] = ()  # that work on this host
    names: dict[str, tuple[str, ...]] = {}  # of endpoints, wherever they work -> addresses
    peers: tuple[PeerPlan, ...] = ()
    internet: bool = True  # an internet gateway is attached
    neighbours: tuple[Neighbour, ...] = ()
    members: dict[str, tuple[str, ...]] = {}  # group id -> private addresses on other hosts
    vni: int = 0  # of the VXLAN that joins its hosts, VNI_FROM and above; 0: there is one host
    underlay: str = ""  # this host's own end of it
    hosts: tuple[str, ...] = ()  # the other hosts that have something of this VPC: their ends
    standing: bool = False  # to be there although no port of it is on this host
    dhcp: dict[str, tuple[str, ...]] = {}  # EC2's DHCP options; empty: Amazon's own
    dns_support: bool = True
    dns_hostnames: bool = True

    def find_group(self, id: str) -> SecurityGroup | None:
        return _found(self.groups, id, lambda one: one.id)

    def find_acl(self, id: str) -> AclPlan | None:
        return _found(self.acls, id, lambda one: one.id)

    def find_neighbours(self, interface_ids: Iterable[str]) -> tuple[Neighbour, ...]:
        """Those of these interfaces that are on other hosts."""
        each = (_found(self.neighbours, id, lambda one: one.interface_id) for id in sorted(interface_ids))
        return tuple(one for one in each if one is not None)

    @property
    def host_address(self) -> str:
        return host_address(self.cidr)

    @property
    def resolver_address(self) -> str:
        return str(IPv4Network(self.cidr)[2])

    @property
    def ranges(self) -> tuple[str, ...]:
        return (self.cidr, *self.secondary_cidrs)

    @property
    def endpoint_ports(self) -> "tuple[Port, ...]":
        """Endpoints are ports as instances' are, of no instance: the same rules and routes hold for them."""
        subnets = {one.id: one for one in self.subnets}
        return tuple(
            Port(
                id=one.interface_id,
                instance_id="",
                vpc_id=self.vpc_id,
                subnet_id=one.subnet_id,
                subnet_cidr=subnets[one.subnet_id].cidr,
                mac=one.mac,
                private_ip=one.private_ip,
                public_ip=None,
                hostname=one.hostname,
                group_ids=one.group_ids,
            )
            for one in self.endpoints
        )


def _found(listed: Sequence[T], id: str, id_of: Callable[[T], str]) -> T | None:
    """By halves: `listed` is in the order of ids."""
    at = bisect_left(listed, id, key=id_of)
    return listed[at] if at < len(listed) and id_of(listed[at]) == id else None


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of an instance, or of an endpoint: its way into its VPC on this host."""

    id: str  # the network interface's
    instance_id: str  # "": it is an endpoint's
    vpc_id: str
    subnet_id: str = ""
    subnet_cidr: str
    mac: str
    private_ip: str
    public_ip: str | None
    secondary: tuple[PortAddress, ...] = ()
    ipv6: tuple[str, ...] = ()
    subnet_cidr_v6: str | None = None
    hostname: str
    names: Names | None = None  # None: its host name alone
    group_ids: tuple[str, ...]
    source_dest_check: bool = True
    device_index: int = 0
    rate_mbps: int | None = None  # the most that goes through, each way; None: as fast as it can

    @property
    def addresses(self) -> tuple[PortAddress, ...]:
        """All of IPv4, the primary one first."""
        return (PortAddress(private_ip=self.private_ip, public_ip=self.public_ip), *self.secondary)

    @property
    def all_addresses(self) -> tuple[str, ...]:
        """Of both families, the primary one first."""
        if not (self.secondary or self.ipv6):
            return (self.private_ip,)
        return (self.private_ip, *(one.private_ip for one in self.secondary), *self.ipv6)

    @property
    def public(self) -> dict[str, str]:
        """Public address -> the private one that it leads to."""
        found = {self.public_ip: self.private_ip} if self.public_ip is not None else {}
        for one in self.secondary:
            if one.public_ip is not None:
                found[one.public_ip] = one.private_ip
        return found

    @property
    def device(self) -> str:
        """The name of its tap inside the VPC's namespace. The kernel takes 15 characters; 12 of an id are enough there, and 11
        of an endpoint's, whose devices are told from instances' by a letter that no id has."""
        return f"tap{self.id[-12:]}" if self.instance_id else f"{ENDPOINT_DEVICE}{self.id[-11:]}"


class NetworkChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a NetworkPlan's rules and neighbours is different from now on: as long as what changed, whatever else the plan
    has.

    `groups`, `acls`, `subnets`, `prefix_lists`, `members` and `neighbours` are whole for what they name; `gone_*` are no more,
    neighbours by their interfaces' ids. `joined` and `left` are addresses of groups in `members` that stay.
    """

    vpc_id: str
    groups: tuple[SecurityGroup, ...] = ()
    gone_groups: tuple[str, ...] = ()
    members: dict[str, tuple[str, ...]] = {}
    gone_members: tuple[str, ...] = ()
    joined: dict[str, tuple[str, ...]] = {}
    left: dict[str, tuple[str, ...]] = {}
    prefix_lists: dict[str, tuple[str, ...]] = {}
    gone_prefix_lists: tuple[str, ...] = ()
    acls: tuple[AclPlan, ...] = ()
    gone_acls: tuple[str, ...] = ()
    subnets: tuple[SubnetPlan, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    gone_neighbours: tuple[str, ...] = ()


class Firewall(msgspec.Struct, kw_only=True):
    """What a VPC's namespace on one host lets through: data of `plan/firewall.py`, which alone changes it, in place.

    First what it was made of, by id, then what nftables has of it: `declared`: name of a set or map -> its type; `elements`:
    name -> element -> what a map says of it, or how many reasons a set has for it; `chains`: name -> rules. `refused` are
    sentences about rules, ports and subnets that let nothing through because they make no sense, by id.
    """

    dual: bool = False  # the VPC has IPv6 too; for life
    groups: dict[str, SecurityGroup] = {}
    members: dict[str, frozenset[str]] = {}
    prefix_lists: dict[str, tuple[str, ...]] = {}
    acls: dict[str, AclPlan] = {}
    subnets: dict[str, SubnetPlan] = {}
    nats: dict[str, NatPlan] = {}  # that work on this host
    ports: dict[str, Port] = {}
    own: tuple[str, ...] = ()  # the host's own addresses in the VPC: where its connections come from, then its resolver
    joined: dict[str, set[str]] = {}  # group id -> ports in it
    routers: dict[str, set[str]] = {}  # subnet id -> ports in it whose source is not checked
    referrers: dict[str, set[str]] = {}  # id of a group or prefix list -> groups whose rules name it
    declared: dict[str, str] = {}
    elements: dict[str, dict[str, str | int]] = {}
    chains: dict[str, tuple[str, ...]] = {}
    refused: dict[str, tuple[str, ...]] = {}


class FirewallPatch(msgspec.Struct, kw_only=True):
    """What is different in a Firewall, by the same names; None is no more."""

    groups: dict[str, SecurityGroup | None] = {}
    members: dict[str, frozenset[str] | None] = {}
    prefix_lists: dict[str, tuple[str, ...] | None] = {}
    acls: dict[str, AclPlan | None] = {}
    subnets: dict[str, SubnetPlan | None] = {}
    nats: dict[str, NatPlan | None] = {}
    ports: dict[str, Port | None] = {}
    own: tuple[str, ...] | None = None
    declared: dict[str, str | None] = {}
    elements: dict[str, dict[str, str | int | None]] = {}
    chains: dict[str, tuple[str, ...] | None] = {}
    refused: dict[str, tuple[str, ...] | None] = {}


class Routing(msgspec.Struct, kw_only=True):
    """Where packets go in a VPC's namespace on one host: data of `plan/routes.py`, which alone changes it, in place.

    A table's number is also the mark of packets that use it. `routes`: (table, destination, metric) -> what `ip route` says.
    """

    routes: dict[tuple[int, str, int], str] = {}
    tables: frozenset[int] = frozenset()  # that marked packets use
    tables_v6: frozenset[int] = frozenset()  # those of IPv6 among them
    marks: dict[str, int] = {}  # device -> table for what comes from there
    subnets: dict[str, int] = {}  # range -> table, for what comes through the tunnel from there
    ranges: frozenset[str] = frozenset()  # the VPC's own
    peers: frozenset[tuple[str, str]] = frozenset()  # (device, range that may come from there)
    # Address of the VPC on another host -> who says to have it, and that host's MAC in the tunnel, "" for none. For as long as
    # it takes to hear that an address went from one to another there are two.
    claims: dict[str, tuple[tuple[str, str], ...]] = {}
    far: dict[str, str] = {}  # of these, the MAC that is believed
    strangers: dict[str, frozenset[str]] = {}  # MAC of a host from which also other sources than the VPC's may come -> whose
    hosts: dict[str, str] = {}  # MAC -> underlay endpoint
    returns: dict[str, int] = {}  # MAC -> table that leads back to that host
    machine: frozenset[str] = frozenset()  # addresses that every host has for itself in this VPC
    reached: dict[str, str] = {}  # address of IPv6 that this machine reaches -> its port's device, "" when on another host
    led: dict[str, str] = {}  # these, and those of this host whose answers from the world come back here
    source: str = ""  # what this host itself speaks from


class RoutingPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What of a Routing becomes different: that part of it as it is, and as it will be. What neither names stays. Sets and the
    source differ only if the patch is of all of it."""

    was: Routing
    will_be: Routing


class RouteCommands(msgspec.Struct, frozen=True, kw_only=True):
    """Lines for `ip -batch`, `ip -6 -batch` and `bridge -batch`, in this order when they put something there."""

    ip: list[str]
    ip_v6: list[str]
    bridge: list[str]


def tunnel_mac(underlay: str) -> str:
    """What a host is called inside the tunnels of all VPCs; follows from where it is reached."""
    return "02:" + hashlib.blake2s(underlay.encode(), digest_size=5).digest().hex(":")
