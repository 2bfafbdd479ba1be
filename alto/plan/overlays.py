"""One VPC on several hosts: which hosts have something of it, and what each is told of the others. Pure.

A host has a VPC where one of its instances is; and it stands in one without any, because packets pass through there:
* where a peered VPC has instances: what goes to a peer enters the peer's VPC on its sender's host;
* on the machine of the server: people there reach every public address from it;
* where a load balancer has targets in it.

Hosts whose underlay is at one address are on one machine. There a public address, or one of IPv6, leads into the VPC by one
host only: the one that has its instance, else the first that has the VPC.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address

import msgspec

from alto.model.instances import Nic
from alto.model.network_plans import Names, Neighbour, NetworkChange, NetworkPlan, PortAddress
from alto.plan.addresses import hostname


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A host with an underlay. `ready`: its agent was heard of lately; `at_server`: it is on the server's machine."""

    host_id: str
    underlay: str
    ready: bool
    at_server: bool

    @property
    def address(self) -> str:
        return self.underlay.rpartition(":")[0]

    def reaches(self, other: "Place") -> bool:
        """What is on loopback is there for its own machine only."""
        return _is_loopback(self.address) == _is_loopback(other.address)


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's interfaces, where they are now."""

    instance_id: str
    host_id: str
    region: str
    hostname: str
    names: Names | None = None  # of its first interface
    nics: tuple[Nic, ...]


def places(
    hosts: Mapping[str, Place], inhabited: Collection[str], peers: Iterable[Collection[str]], balancers: Collection[str]
) -> frozenset[str]:
    """Hosts that have the VPC. `inhabited`: those with its instances; `peers`: of each peered VPC the same; `balancers`: those
    with a balancer that has targets in it."""
    if not inhabited:
        return frozenset()
    found = {*inhabited, *balancers}
    for of_peer in peers:
        found.update(of_peer)
    elsewhere = {hosts[id].address for id in inhabited if id in hosts}
    at_server = sorted(id for id, host in hosts.items() if host.at_server)
    if at_server and elsewhere - {hosts[at_server[0]].address}:
        found.add(at_server[0])
    return frozenset(found & hosts.keys())


def spread(
    plan: NetworkPlan,
    host: Place,
    around: Collection[Place],
    residents: Iterable[Resident],
    *,
    standing: bool,
) -> NetworkPlan:
    """The plan as `host` is told it. `around`: all hosts that have the VPC; `residents`: the VPC's instances."""
    others = _others(host, around)
    neighbours = sorted(_neighbours(plan.vpc_id, host, around, residents), key=lambda one: one.interface_id)
    members = _members(neighbours)
    by_api = api_host(around)
    if by_api is not None and by_api.host_id in others:
        neighbours = sorted((*neighbours, *_ends(plan, by_api)), key=lambda one: one.interface_id)
        members = _members(neighbours)
    nats = []
    for nat in plan.nats:
        where = nat_host(nat.id, around)
        away = where is not None and where.host_id in others
        nats.append(msgspec.structs.replace(nat, underlay=where.underlay if where is not None and away else ""))
    return msgspec.structs.replace(
        plan,
        neighbours=tuple(neighbours),
        # Of peers' groups the plan has all members already.
        members=plan.members | {id: tuple(sorted(addresses)) for id, addresses in sorted(members.items())},
        nats=tuple(nats),
        endpoints=plan.endpoints if by_api is not None and by_api.host_id == host.host_id else (),
        hosts=underlays(host, around),
        underlay=host.underlay if others else "",
        vni=plan.vni if others else 0,
        standing=standing,
    )


def underlays(host: Place, around: Iterable[Place]) -> tuple[str, ...]:
    """`hosts` of the plan that `host` is told."""
    return tuple(sorted(one.underlay for one in _others(host, around).values()))


def resettled(
    told: NetworkPlan, host: Place, around: Collection[Place], residents: Iterable[Resident], interface_ids: Collection[str]
) -> NetworkChange:
    """What becomes different in what `host` was told when nobody but these interfaces may have come, gone or changed, and the
    hosts are the same. `residents`: whoever has any of them now."""
    found = _neighbours(told.vpc_id, host, around, residents)
    now = {one.interface_id: one for one in found if one.interface_id in interface_ids}
    before = {one.interface_id: one for one in told.find_neighbours(interface_ids)}
    was, will_be = _members(before.values()), _members(now.values())
    fresh: dict[str, tuple[str, ...]] = {}
    empty: list[str] = []
    joined: dict[str, tuple[str, ...]] = {}
    left: dict[str, tuple[str, ...]] = {}
    for id in sorted(was.keys() | will_be.keys()):
        come, go = will_be.get(id, set()) - was.get(id, set()), was.get(id, set()) - will_be.get(id, set())
        if id not in told.members:
            fresh[id] = tuple(sorted(come))
        elif not come and len(go) == len(told.members[id]):
            empty.append(id)
        else:
            joined.update({id: tuple(sorted(come))} if come else {})
            left.update({id: tuple(sorted(go))} if go else {})
    return NetworkChange(
        vpc_id=told.vpc_id,
        members=fresh,
        gone_members=tuple(empty),
        joined=joined,
        left=left,
        neighbours=tuple(one for id, one in sorted(now.items()) if before.get(id) != one),
        gone_neighbours=tuple(sorted(before.keys() - now.keys())),
    )


def nat_host(nat_id: str, around: Iterable[Place]) -> Place | None:
    """Where a NAT gateway works: on the server's machine if the VPC is there, as that one stays; else on any, but on the same
    one as long as there is that.

    It moves when that host is gone or silent, or when the server's machine gets the VPC. Connections through it break then:
    what it knew of them was that host's kernel's. Their next packets are answered by a reset from the far end or lost, new
    ones pass as soon as the hosts of the VPC have heard; its addresses stay the same.
    """
    ready = [one for one in around if one.ready] or list(around)
    at_server = [one for one in ready if one.at_server]
    if at_server:
        return min(at_server, key=lambda one: one.host_id)
    return max(ready, key=lambda one: hashlib.blake2s(f"{nat_id}/{one.host_id}".encode()).digest(), default=None)


def api_host(around: Iterable[Place]) -> Place | None:
    """Where endpoints work: on the server's machine, which has the VPC as soon as anybody has. None: that has no host."""
    return min((one for one in around if one.at_server), key=lambda one: one.host_id, default=None)


def _ends(plan: NetworkPlan, where: Place) -> Iterator[Neighbour]:
    for one in plan.endpoints:
        yield Neighbour(
            interface_id=one.interface_id,
            vpc_id=plan.vpc_id,
            addresses=(one.private_ip,),
            hostname=one.hostname,
            group_ids=one.group_ids,
            underlay=where.underlay,
        )


def _others(host: Place, around: Iterable[Place]) -> dict[str, Place]:
    return {one.host_id: one for one in around if one.host_id != host.host_id and host.reaches(one)}


def _members(neighbours: Iterable[Neighbour]) -> dict[str, set[str]]:
    members: dict[str, set[str]] = {}
    for neighbour in neighbours:
        for group_id in neighbour.group_ids:
            members.setdefault(group_id, set()).update(neighbour.addresses)
    return members


def _neighbours(vpc_id: str, host: Place, around: Collection[Place], residents: Iterable[Resident]) -> Iterator[Neighbour]:
    others = _others(host, around)
    first = min((one.host_id for one in around if one.address == host.address), default=host.host_id)
    for resident in residents:
        far = others.get(resident.host_id)
        if far is not None:
            shown = far.address != host.address and first == host.host_id
            yield from _interfaces(vpc_id, resident, far.underlay, shown=shown)


def _interfaces(vpc_id: str, resident: Resident, underlay: str, *, shown: bool) -> Iterator[Neighbour]:
    for nic in resident.nics:
        if nic.vpc_id == vpc_id:
            addresses = (PortAddress(private_ip=nic.private_ip, public_ip=nic.public_ip), *nic.secondary)
            yield Neighbour(
                interface_id=nic.interface_id,
                vpc_id=vpc_id,
                addresses=(*(one.private_ip for one in addresses), *nic.ipv6),
                hostname=resident.hostname if nic.device_index == 0 else hostname(nic.private_ip, resident.region),
                names=resident.names if nic.device_index == 0 else None,
                group_ids=nic.group_ids,
                underlay=underlay,
                source_dest_check=nic.source_dest_check,
                public=tuple(one for one in addresses if one.public_ip is not None) if shown else (),
                entered_here=shown and bool(nic.ipv6),
            )


def _is_loopback(address: str) -> bool:
    try:
        return IPv4Address(address).is_loopback
    except ValueError:
        return False
