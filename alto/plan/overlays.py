"""One VPC on several hosts: which hosts have something of it, and what each is told of the others. Pure.

A host has a VPC where one of its instances is; and it stands in one without any, because packets pass through there:
* where a peered VPC has instances: what goes to a peer enters the peer's VPC on its sender's host;
* on the machine of the server: people there reach every public address from it;
* where a load balancer has targets in it.

Hosts whose underlay is at one address are on one machine. There a public address leads into the VPC by one host only: the one
that has its instance, else the first that has the VPC.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address

import msgspec

from alto.model.instances import Nic
from alto.model.network_plans import Neighbour, NetworkPlan, PortAddress
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
    others = {one.host_id: one for one in around if one.host_id != host.host_id and host.reaches(one)}
    first = min((one.host_id for one in around if one.address == host.address), default=host.host_id)
    neighbours: list[Neighbour] = []
    for resident in residents:
        far = others.get(resident.host_id)
        if far is not None:
            shown = far.address != host.address and first == host.host_id
            neighbours += _neighbours(plan.vpc_id, resident, far.underlay, shown=shown)
    members: dict[str, list[str]] = {}
    for neighbour in neighbours:
        for group_id in neighbour.group_ids:
            members.setdefault(group_id, []).extend(neighbour.addresses)
    nats = []
    for nat in plan.nats:
        where = nat_host(nat.id, around)
        away = where is not None and where.host_id in others
        nats.append(msgspec.structs.replace(nat, underlay=where.underlay if where is not None and away else ""))
    return msgspec.structs.replace(
        plan,
        neighbours=tuple(neighbours),
        # Of peers' groups the plan has all members already.
        members=plan.members | {id: tuple(addresses) for id, addresses in sorted(members.items())},
        nats=tuple(nats),
        hosts=tuple(sorted(one.underlay for one in others.values())),
        underlay=host.underlay if others else "",
        vni=plan.vni if others else 0,
        standing=standing,
    )


def nat_host(nat_id: str, around: Iterable[Place]) -> Place | None:
    """Where a NAT gateway works: on the server's machine if the VPC is there, as that one stays; else on any, but on the same
    one as long as there is that."""
    ready = [one for one in around if one.ready] or list(around)
    at_server = [one for one in ready if one.at_server]
    if at_server:
        return min(at_server, key=lambda one: one.host_id)
    return max(ready, key=lambda one: hashlib.blake2s(f"{nat_id}/{one.host_id}".encode()).digest(), default=None)


def _neighbours(vpc_id: str, resident: Resident, underlay: str, *, shown: bool) -> Iterator[Neighbour]:
    for nic in resident.nics:
        if nic.vpc_id == vpc_id:
            addresses = (PortAddress(private_ip=nic.private_ip, public_ip=nic.public_ip), *nic.secondary)
            yield Neighbour(
                interface_id=nic.interface_id,
                vpc_id=vpc_id,
                addresses=tuple(one.private_ip for one in addresses),
                hostname=resident.hostname if nic.device_index == 0 else hostname(nic.private_ip, resident.region),
                group_ids=nic.group_ids,
                underlay=underlay,
                source_dest_check=nic.source_dest_check,
                public=tuple(one for one in addresses if one.public_ip is not None) if shown else (),
            )


def _is_loopback(address: str) -> bool:
    try:
        return IPv4Address(address).is_loopback
    except ValueError:
        return False
