"""What a host is told of a VPC, from the rows that say what people wish: a NetworkPlan. Pure.

A route whose target cannot carry it (a gateway that is detached, a NAT gateway that is not available, an interface that is not
attached or whose connection is not active) is kept as a black hole, as EC2 shows it.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

import msgspec

from alto.model.acls import NetworkAcl, PrefixList
from alto.model.network_plans import AclPlan, EndpointPlan, NatPlan, NetworkPlan, PeerPlan, RoutePlan, SubnetPlan
from alto.model.networks import NetworkInterface, PortAddress, SecurityGroup, Subnet, Vpc
from alto.model.routing import (
    DhcpOptions,
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    NatState,
    PeeringState,
    Route,
    RouteTable,
    Target,
    VpcEndpoint,
    VpcPeering,
)
from alto.plan.addresses import hostname
from alto.plan.endpoints import names_of


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """All that concerns one VPC. `peers`: the other VPC of each peering that still has it; `targets`: interfaces that routes
    name, by id; `prefix_lists`: those that rules or routes name; `endpoint_interfaces`: those of endpoints, by
    id; `peer_interfaces`: those of peered VPCs that are in a group which rules here name, by that group's id."""

    vpc: Vpc
    subnets: tuple[Subnet, ...]
    groups: tuple[SecurityGroup, ...] = ()
    tables: tuple[RouteTable, ...] = ()
    gateways: tuple[InternetGateway, ...] = ()
    egress_only: tuple[EgressOnlyInternetGateway, ...] = ()
    nats: tuple[NatGateway, ...] = ()
    endpoints: tuple[VpcEndpoint, ...] = ()
    endpoint_interfaces: Mapping[str, NetworkInterface] = {}
    acls: tuple[NetworkAcl, ...] = ()
    prefix_lists: tuple[PrefixList, ...] = ()
    peerings: tuple[VpcPeering, ...] = ()
    peers: Mapping[str, Vpc] = {}
    targets: Mapping[str, NetworkInterface] = {}
    peer_interfaces: Mapping[str, tuple[NetworkInterface, ...]] = {}
    dhcp: DhcpOptions | None = None


def network_plan(rows: Rows) -> NetworkPlan:
    vpc = rows.vpc
    lists = {one.id: tuple(entry.cidr for entry in one.entries) for one in rows.prefix_lists}
    peers = tuple(_peers(rows))
    nats = tuple(
        NatPlan(
            id=one.id,
            subnet_id=one.subnet_id,
            private_ip=one.private_ip,
            public_ip=one.public_ip,
            further=tuple(PortAddress(private_ip=each.private_ip, public_ip=each.public_ip) for each in one.further),
        )
        for one in sorted(rows.nats, key=lambda one: one.id)
        if one.state is NatState.AVAILABLE
    )
    working = {one.id for one in (*rows.gateways, *rows.egress_only)} | {one.id for one in nats} | {one.id for one in peers}
    tables = {one.subnet_id: table for table in rows.tables for one in table.associations if one.subnet_id is not None}
    main = next((table for table in rows.tables if table.main), None)
    acls = {one.subnet_id: acl.id for acl in rows.acls for one in acl.associations}
    default_acl = next((acl.id for acl in rows.acls if acl.default), "")
    subnets = []
    for subnet in sorted(rows.subnets, key=lambda one: one.id):
        table = tables.get(subnet.id, main)
        subnets.append(
            SubnetPlan(
                id=subnet.id,
                cidr=subnet.cidr,
                cidr_v6=subnet.ipv6[0].cidr if subnet.ipv6 else None,
                zone=subnet.zone,
                route_table_id=table.id if table is not None else "",
                routes=tuple(_routes(table.routes, working, rows.targets, lists)) if table is not None else (),
                acl_id=acls.get(subnet.id, default_acl),
            )
        )
    return NetworkPlan(
        vpc_id=vpc.id,
        region=vpc.region,
        cidr=vpc.cidr,
        secondary_cidrs=tuple(one.cidr for one in vpc.secondary),
        ranges_v6=tuple(one.cidr for one in vpc.ipv6),
        subnets=tuple(subnets),
        groups=tuple(sorted(rows.groups, key=lambda one: one.id)),
        prefix_lists=lists,
        acls=tuple(AclPlan(id=acl.id, entries=acl.entries) for acl in sorted(rows.acls, key=lambda one: one.id)),
        nats=nats,
        endpoints=tuple(_endpoints(rows)),
        names=names_of(vpc, rows.endpoints),
        peers=peers,
        internet=bool(rows.gateways),
        members={id: tuple(sorted(_addresses(interfaces))) for id, interfaces in sorted(rows.peer_interfaces.items())},
        vni=vpc.vni or 0,
        dhcp=rows.dhcp.settings if rows.dhcp is not None else {},
        dns_support=vpc.dns_support,
        dns_hostnames=vpc.dns_hostnames,
    )


def _endpoints(rows: Rows) -> Iterator[EndpointPlan]:
    ids = (one.interface_id for endpoint in rows.endpoints for one in endpoint.interfaces)
    for interface in (rows.endpoint_interfaces[id] for id in sorted(ids) if id in rows.endpoint_interfaces):
        yield EndpointPlan(
            interface_id=interface.id,
            subnet_id=interface.subnet_id,
            mac=interface.mac,
            private_ip=interface.private_ip,
            hostname=hostname(interface.private_ip, interface.region),
            group_ids=interface.group_ids,
        )


def named_interfaces(tables: Iterable[RouteTable]) -> set[str]:
    return {route.target_id for table in tables for route in table.routes if route.target is Target.INTERFACE}


def routers_of(plans: Iterable[NetworkPlan]) -> set[str]:
    """Interfaces whose attachment decides over a route of these plans."""
    routes = (route for plan in plans for subnet in plan.subnets for route in subnet.routes)
    return {route.target_id for route in routes if route.target_id.startswith("eni-")}


def named_lists(tables: Iterable[RouteTable], groups: Iterable[SecurityGroup]) -> set[str]:
    named = {route.destination for table in tables for route in table.routes if route.destination.startswith("pl-")}
    return named | {one.prefix_list_id for group in groups for one in group.permissions if one.prefix_list_id is not None}


def peer_groups(groups: Iterable[SecurityGroup], peerings: Iterable[VpcPeering]) -> dict[str, str]:
    """The groups of peered VPCs that rules of `groups` name, each with its VPC. A connection that is not active leads to
    none: such a rule is stale and lets nothing through."""
    active = {one.id for one in peerings if one.state is PeeringState.ACTIVE}
    return {
        rule.group_id: rule.group_peer.vpc_id
        for group in groups
        for rule in group.permissions
        if rule.group_id is not None and rule.group_peer is not None and rule.group_peer.peering_id in active
    }


def _addresses(interfaces: Iterable[NetworkInterface]) -> Iterator[str]:
    for one in interfaces:
        yield one.private_ip
        yield from (each.private_ip for each in one.secondary)
        yield from one.ipv6


def _peers(rows: Rows) -> Iterator[PeerPlan]:
    for peering in sorted(rows.peerings, key=lambda one: one.id):
        other = rows.peers.get(peering.accepter_vpc_id if peering.vpc_id == rows.vpc.id else peering.vpc_id)
        if peering.state is PeeringState.ACTIVE and other is not None:
            further = (one.cidr for one in (*other.secondary, *other.ipv6))
            yield PeerPlan(id=peering.id, vpc_id=other.id, cidrs=(other.cidr, *further))


def _routes(
    routes: Iterable[Route],
    working: set[str],
    targets: Mapping[str, NetworkInterface],
    lists: Mapping[str, tuple[str, ...]],
) -> Iterator[RoutePlan]:
    seen: set[str] = set()
    # A range that is written in the table itself comes before an equal one out of a prefix list, as in EC2.
    for route in sorted(routes, key=lambda one: one.destination.startswith("pl-")):
        if route.target is Target.LOCAL:
            continue
        interface = targets.get(route.target_id) if route.target is Target.INTERFACE else None
        attached = interface is not None and interface.instance_id is not None
        for cidr in lists.get(route.destination, (route.destination,)):
            if cidr.startswith("pl-") or cidr in seen:
                continue
            seen.add(cidr)
            v6 = ":" in cidr
            hop = _hop(interface, v6) if interface is not None and attached else None
            works = hop is not None or (route.target_id in working and _carries(route.target, v6))
            yield RoutePlan(
                destination=str(ip_network(cidr, strict=False)),
                target=route.target if works else None,
                target_id=route.target_id,
                address=hop,
            )


def _carries(target: Target, v6: bool) -> bool:
    """Routes by a prefix list of the other family are refused where they are made (api/ec2/routes.py)."""
    return target is not (Target.NAT if v6 else Target.EGRESS_ONLY)


def _hop(interface: NetworkInterface, v6: bool) -> str | None:
    return interface.private_ip if not v6 else interface.ipv6[0] if interface.ipv6 else None
