"""Reads what concerns a VPC, for the plan that its hosts are told (alto.plan.networks)."""

from collections.abc import Mapping

from alto.api.security_groups import groups_in
from alto.model.acls import NetworkAcl, PrefixList
from alto.model.network_plans import NetworkPlan
from alto.model.networks import NetworkInterface, SecurityGroup, SecurityGroupVpc, Subnet, Vpc
from alto.model.records import Record
from alto.model.routing import (
    DhcpOptions,
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    RouteTable,
    VpcEndpoint,
    VpcPeering,
)
from alto.plan.endpoints import amazons_list
from alto.plan.networks import Rows, named_interfaces, named_lists, network_plan, peer_groups
from alto.store.store import Reader

# A change of one of these may change a plan, and so may one of a rule (rules.py). DHCP options never change.
KINDS: Mapping[str, type[Record]] = {
    one.KIND: one
    for one in (
        Vpc,
        SecurityGroupVpc,
        Subnet,
        RouteTable,
        InternetGateway,
        EgressOnlyInternetGateway,
        NatGateway,
        VpcEndpoint,
        VpcPeering,
    )
}


def vpcs_of(row: Record | None) -> frozenset[str]:
    """VPCs in whose plans the row is."""
    match row:
        case Vpc():
            return frozenset((row.id,))
        case VpcPeering():
            return frozenset((row.vpc_id, row.accepter_vpc_id))
        case SecurityGroupVpc() | Subnet() | RouteTable() | NatGateway() | EgressOnlyInternetGateway() | VpcEndpoint():
            return frozenset((row.vpc_id,))
        case InternetGateway():
            return frozenset((row.vpc_id,)) if row.vpc_id else frozenset()
    return frozenset()


def read_plan(reader: Reader, vpc_id: str) -> NetworkPlan | None:
    """None when there is no such VPC (any more)."""
    vpc = reader.find(Vpc, vpc_id)
    if vpc is None:
        return None
    tables = tuple(reader.where(RouteTable, vpc_id=vpc_id))
    groups = tuple(groups_in(reader, vpc_id))
    peerings = (*reader.where(VpcPeering, vpc_id=vpc_id), *reader.where(VpcPeering, accepter_vpc_id=vpc_id))
    others = {one.vpc_id for one in peerings} | {one.accepter_vpc_id for one in peerings}
    interfaces = (reader.find(NetworkInterface, id) for id in sorted(named_interfaces(tables)))
    lists = (reader.find(PrefixList, id) or amazons_list(vpc.region, id) for id in sorted(named_lists(tables, groups)))
    endpoints = tuple(reader.where(VpcEndpoint, vpc_id=vpc_id))
    ends = (reader.find(NetworkInterface, one.interface_id) for endpoint in endpoints for one in endpoint.interfaces)
    peers = (reader.find(Vpc, id) for id in sorted(others - {vpc_id}))
    groups_of_peers = {
        id: [one for one in reader.where(NetworkInterface, vpc_id=other) if id in one.group_ids]
        for id, other in peer_groups(groups, peerings).items()
        if reader.find(SecurityGroup, id) is not None
    }
    return network_plan(
        Rows(
            vpc=vpc,
            subnets=tuple(reader.where(Subnet, vpc_id=vpc_id)),
            groups=groups,
            tables=tables,
            gateways=tuple(reader.where(InternetGateway, vpc_id=vpc_id)),
            egress_only=tuple(reader.where(EgressOnlyInternetGateway, vpc_id=vpc_id)),
            nats=tuple(reader.where(NatGateway, vpc_id=vpc_id)),
            endpoints=endpoints,
            endpoint_interfaces={one.id: one for one in ends if one is not None},
            acls=tuple(reader.where(NetworkAcl, vpc_id=vpc_id)),
            prefix_lists=tuple(one for one in lists if one is not None),
            peerings=peerings,
            peers={one.id: one for one in peers if one is not None},
            targets={one.id: one for one in interfaces if one is not None},
            peer_interfaces={id: tuple(found) for id, found in groups_of_peers.items()},
            dhcp=reader.find(DhcpOptions, vpc.dhcp_options_id) if vpc.dhcp_options_id else None,
        )
    )
