"""The routes of a route table: create, replace, delete, and how they are shown.

A route keeps its target's id when the target goes, and is a black hole then, as at EC2; so is one through a peering connection
that waits to be accepted. Not here: the tables (`route_tables.py`), and what a kernel makes of a route (`plan/routes.py`).
Invariant: a table has at most one route for a destination, and the local ones of its VPC's ranges.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.ids import find_peering, find_prefix_list, is_own, owned
from alto.model.acls import PrefixList
from alto.model.errors import Refused
from alto.model.instances import Instance, Phase
from alto.model.networks import NetworkInterface, Subnet
from alto.model.routing import (
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    NatState,
    PeeringState,
    Route,
    RouteTable,
    Target,
    VpcPeering,
)
from alto.plan.endpoints import amazons_list
from alto.plan.peerings import peering_state
from alto.plan.ranges import checked_v4, checked_v6, parse_v4, parse_v6
from alto.store.store import Reader, Tx

ROUTES_MAX = 500  # "Amazon VPC quotas": in a table, IPv4 and IPv6 together here
# "Subnet route tables": no route leads to these or into them, where the cloud itself answers; a wider one leaves them out.
_RESERVED = ("169.254.168.0/22", "fd00:ec2::/32")

# The answer's member by target.
_MEMBERS: Mapping[Target, str] = {
    Target.LOCAL: "GatewayId",
    Target.INTERNET: "GatewayId",
    Target.EGRESS_ONLY: "EgressOnlyInternetGatewayId",
    Target.NAT: "NatGatewayId",
    Target.INTERFACE: "NetworkInterfaceId",
    Target.PEERING: "VpcPeeringConnectionId",
    Target.ENDPOINT: "GatewayId",
}


def shown_route(reader: Reader, table: RouteTable, route: Route) -> dict[str, object]:
    shown: dict[str, object] = {
        _destination_member(route.destination): route.destination,
        _MEMBERS[route.target]: route.target_id,
        "Origin": route.origin,
        "State": "active" if is_active(reader, table, route) else "blackhole",
    }
    if route.target is Target.INTERFACE:
        interface = reader.find(NetworkInterface, route.target_id)
        if interface is not None and interface.instance_id is not None:
            shown |= {"InstanceId": interface.instance_id, "InstanceOwnerId": interface.account}
    return shown


def _destination_member(destination: str) -> str:
    if destination.startswith("pl-"):
        return "DestinationPrefixListId"
    return "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"


def is_active(reader: Reader, table: RouteTable, route: Route) -> bool:
    """Whether packets for it have somewhere to go."""
    match route.target:
        case Target.LOCAL | Target.ENDPOINT:
            return True  # with the endpoint goes its route
        case Target.INTERNET:
            gateway = reader.find(InternetGateway, route.target_id)
            return gateway is not None and gateway.vpc_id == table.vpc_id
        case Target.EGRESS_ONLY:
            return reader.find(EgressOnlyInternetGateway, route.target_id) is not None
        case Target.NAT:
            nat = reader.find(NatGateway, route.target_id)
            return nat is not None and nat.state in (NatState.PENDING, NatState.AVAILABLE)
        case Target.INTERFACE:
            interface = reader.find(NetworkInterface, route.target_id)
            return interface is not None and _is_up(reader, interface.instance_id)
        case Target.PEERING:
            peering = reader.find(VpcPeering, route.target_id)
            return peering is not None and peering.state is PeeringState.ACTIVE


def _is_up(reader: Reader, instance_id: str | None) -> bool:
    """Whether an interface of it could take a packet. A stopped one has no process."""
    instance = reader.find(Instance, instance_id) if instance_id is not None else None
    return instance is not None and instance.phase is not Phase.STOPPED


class RouteRequest(msgspec.Struct, frozen=True, rename="pascal"):
    route_table_id: str
    destination_cidr_block: str | None = None
    destination_ipv6_cidr_block: str | None = None
    destination_prefix_list_id: str | None = None
    gateway_id: str | None = None
    nat_gateway_id: str | None = None
    network_interface_id: str | None = None
    instance_id: str | None = None
    vpc_peering_connection_id: str | None = None
    egress_only_internet_gateway_id: str | None = None


class ReplaceRouteRequest(RouteRequest, frozen=True, rename="pascal"):
    local_target: bool | None = None


class DeleteRouteRequest(msgspec.Struct, frozen=True, rename="pascal"):
    route_table_id: str
    destination_cidr_block: str | None = None
    destination_ipv6_cidr_block: str | None = None
    destination_prefix_list_id: str | None = None


class _Destination(NamedTuple):
    text: str
    parameter: str  # as EC2's sentences name it
    v6: bool


def _destination(reader: Reader, call: Call, request: RouteRequest | DeleteRouteRequest) -> _Destination:
    given = [
        (request.destination_cidr_block, "destination-cidr-block"),
        (request.destination_ipv6_cidr_block, "destination-ipv6-cidr-block"),
        (request.destination_prefix_list_id, "destination-prefix-list-id"),
    ]
    if sum(text is not None for text, _ in given) != 1:
        raise Refused(
            "InvalidParameterCombination" if any(text is not None for text, _ in given) else "MissingParameter",
            "The request must contain exactly one of destinationCidrBlock, destinationIpv6CidrBlock, destinationPrefixListId",
        )
    if request.destination_cidr_block is not None:
        return _Destination(str(checked_v4(request.destination_cidr_block, "destinationCidrBlock")), given[0][1], False)
    if request.destination_ipv6_cidr_block is not None:
        return _Destination(str(checked_v6(request.destination_ipv6_cidr_block, "destinationIpv6CidrBlock")), given[1][1], True)
    named = find_prefix_list(reader, call, request.destination_prefix_list_id or "")
    return _Destination(named.id, given[2][1], named.family == "IPv6")


def _target(
    reader: Reader, call: Call, request: RouteRequest, table: RouteTable, *, v6: bool
) -> tuple[Target, str, str | None]:
    """(target, its id, the instance that was named), for a destination of this family. Raises: Refused, NotFound."""
    given = {
        "gatewayId": request.gateway_id,
        "natGatewayId": request.nat_gateway_id,
        "networkInterfaceId": request.network_interface_id,
        "instanceId": request.instance_id,
        "vpcPeeringConnectionId": request.vpc_peering_connection_id,
        "egressOnlyInternetGatewayId": request.egress_only_internet_gateway_id,
    }
    named = {name: id for name, id in given.items() if id is not None}
    if len(named) != 1:
        raise Refused(
            "InvalidParameterCombination" if named else "MissingParameter",
            f"The request must contain exactly one of {', '.join(given)}",
        )
    ((parameter, id),) = named.items()
    match parameter:
        case "gatewayId":
            if id.startswith("vgw-"):
                raise Refused("InvalidVpnGatewayID.NotFound", f"The vpnGateway ID '{id[:80]}' does not exist")
            gateway = reader.find(InternetGateway, id)
            if gateway is None or not is_own(call, gateway):
                # Of whatever kind it is by its spelling.
                raise Refused("InvalidGatewayID.NotFound", f"The gateway ID '{id[:80]}' does not exist")
            _same_network(table, gateway.vpc_id, "network gateway", id)
            return Target.INTERNET, id, None
        case "natGatewayId":
            nat = reader.find(NatGateway, id)
            if nat is None or not is_own(call, nat) or nat.state not in (NatState.PENDING, NatState.AVAILABLE):
                raise Refused("InvalidNatGatewayID.NotFound", f"The natGateway ID '{id[:80]}' does not exist")
            _same_network(table, nat.vpc_id, "NAT gateway", id)
            if v6:
                raise Refused("InvalidParameterValue", "A NAT gateway takes no IPv6 traffic")
            return Target.NAT, id, None
        case "networkInterfaceId":
            interface = owned(reader, call, NetworkInterface, id)
            _same_network(table, interface.vpc_id, "interface", id)
            return Target.INTERFACE, id, None
        case "instanceId":
            known = [reader.find(NetworkInterface, nic.interface_id) for nic in owned(reader, call, Instance, id).nics]
            interfaces = [one for one in known if one is not None and one.instance_id == id]
            if len(interfaces) != 1:
                raise Refused(
                    "InvalidInstanceID",
                    f"There are multiple interfaces attached to instance '{id}'. Please specify an interface ID for the "
                    "operation instead."
                    if interfaces
                    else f"The instance '{id}' has no interface",
                )
            _same_network(table, interfaces[0].vpc_id, "interface", interfaces[0].id)
            return Target.INTERFACE, interfaces[0].id, id
        case "vpcPeeringConnectionId":
            peering = find_peering(reader, call, id)
            if table.vpc_id not in (peering.vpc_id, peering.accepter_vpc_id):
                raise Refused(
                    "InvalidParameterValue", f"route table {table.id} and peering connection {id} belong to different networks"
                )
            if peering_state(peering, call.world.clock.now()) not in (PeeringState.PENDING, PeeringState.ACTIVE):
                raise Refused("InvalidParameterValue", f"The vpcPeeringConnection {id} is neither active nor to be accepted")
            return Target.PEERING, id, None
    egress_only = owned(reader, call, EgressOnlyInternetGateway, id)
    _same_network(table, egress_only.vpc_id, "egress-only internet gateway", id)
    if not v6:
        raise Refused("InvalidParameterValue", "An egress-only internet gateway takes IPv6 traffic only")
    return Target.EGRESS_ONLY, id, None


def _same_network(table: RouteTable, vpc_id: str | None, what: str, id: str) -> None:
    if vpc_id != table.vpc_id:
        raise Refused("InvalidParameterValue", f"route table {table.id} and {what} {id} belong to different networks")


async def create_route(call: Call, request: RouteRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        table = owned(tx, call, RouteTable, request.route_table_id)
        destination = _destination(tx, call, request)
        if amazons_list(call.region, destination.text) is not None:
            raise Refused(
                "InvalidParameterValue", f"A route to {destination.text} is made by a gateway endpoint: use ModifyVpcEndpoint"
            )
        if any(_within(destination.text, each) for each in _RESERVED):
            raise Refused("InvalidParameterValue", f"The destination {destination.text} is reserved: no route can lead there.")
        target, id, instance_id = _target(tx, call, request, table, v6=destination.v6)
        if _find(table, destination.text) is not None:
            raise Refused("RouteAlreadyExists", f"The route identified by {destination.text} already exists.")
        if _is_inside(table, destination.text, target):
            _check_subnet(tx, table, destination.text)
        new = Route(destination=destination.text, target=target, target_id=id, instance_id=instance_id)
        routes = (*table.routes, new)
        check_route_number(tx, routes)
        tx.put(replace(table, routes=routes))

    await call.store.write(body)
    return {"Return": True}


def check_route_number(reader: Reader, routes: Sequence[Route], *, changed: PrefixList | None = None) -> None:
    """A prefix list counts for its maximum; `changed` is one as it will be. Raises: Refused."""
    number = 0
    for route in routes:
        if not route.destination.startswith("pl-"):
            number += 1
            continue
        is_it = changed is not None and changed.id == route.destination
        named = changed if is_it else reader.find(PrefixList, route.destination)
        number += named.max_entries if named is not None else 1
    if number > ROUTES_MAX:
        raise Refused("RouteLimitExceeded", f"The maximum number of routes of a route table is {ROUTES_MAX}.")


def _find(table: RouteTable, destination: str) -> Route | None:
    return next((each for each in table.routes if each.destination == destination), None)


def _is_inside(table: RouteTable, destination: str, target: Target) -> bool:
    """Whether it is more special than a local route, and so can only go through an interface ("Subnet route tables":
    middleboxes). Raises: Refused: the target is none."""
    inside = any(each.target is Target.LOCAL and _within(destination, each.destination) for each in table.routes)
    if inside and target is not Target.INTERFACE:
        raise Refused(
            "InvalidParameterValue",
            f"The destination CIDR block {destination} is equal to or more specific than one of this VPC's CIDR blocks. "
            "This route can target only an interface or an instance.",
        )
    return inside


def _check_subnet(reader: Reader, table: RouteTable, destination: str) -> None:
    """Such a route is of a whole subnet. Raises: Refused."""
    subnets = reader.where(Subnet, vpc_id=table.vpc_id)
    if not any(destination in (subnet.cidr, *(each.cidr for each in subnet.ipv6)) for subnet in subnets):
        raise Refused("InvalidParameterValue", "Route destination doesn't match any subnet CIDR blocks.")


def _within(inner: str, outer: str) -> bool:
    one, other = _network(inner), _network(outer)
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.subnet_of(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.subnet_of(other)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    return parse_v4(text) or parse_v6(text)


async def replace_route(call: Call, request: ReplaceRouteRequest) -> dict[str, object]:
    if request.local_target:
        raise Refused("UnsupportedOperation", "Local routes stay local here: LocalTarget is not supported")

    def body(tx: Tx) -> None:
        table = owned(tx, call, RouteTable, request.route_table_id)
        destination = _destination(tx, call, request)
        target, id, instance_id = _target(tx, call, request, table, v6=destination.v6)
        found = _find(table, destination.text)
        if found is None:
            raise Refused(
                "InvalidParameterValue",
                f"There is no route defined for '{destination.text}' in the route table. Use CreateRoute instead.",
            )
        if found.target is Target.LOCAL:
            raise Refused("InvalidParameterValue", f"cannot replace local route {found.destination} in route table {table.id}")
        _refuse_endpoints(found, table, "replace")
        _is_inside(table, destination.text, target)
        new = Route(destination=destination.text, target=target, target_id=id, instance_id=instance_id)
        tx.put(replace(table, routes=tuple(new if each is found else each for each in table.routes)))

    await call.store.write(body)
    return {}


async def delete_route(call: Call, request: DeleteRouteRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        table = owned(tx, call, RouteTable, request.route_table_id)
        destination = _destination(tx, call, request)
        found = _find(table, destination.text)
        if found is None:
            raise Refused(
                "InvalidRoute.NotFound",
                f"no route with {destination.parameter} {destination.text} in route table {table.id}",
            )
        if found.target is Target.LOCAL:
            raise Refused("InvalidParameterValue", f"cannot remove local route {found.destination} in route table {table.id}")
        _refuse_endpoints(found, table, "remove")
        tx.put(replace(table, routes=tuple(each for each in table.routes if each is not found)))

    await call.store.write(body)
    return {}


def _refuse_endpoints(route: Route, table: RouteTable, verb: str) -> None:
    if route.target is Target.ENDPOINT:
        raise Refused(
            "InvalidParameterValue", f"cannot {verb} VPC endpoint route {route.destination} in route table {table.id}"
        )


OPERATIONS: Mapping[str, Operation] = {
    "CreateRoute": Operation(RouteRequest, create_route),
    "DeleteRoute": Operation(DeleteRouteRequest, delete_route),
    "ReplaceRoute": Operation(ReplaceRouteRequest, replace_route),
}
