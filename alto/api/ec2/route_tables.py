"""Route tables and which subnet uses which: create, describe, delete, associate.

Not here: the routes in them (`routes.py`). Invariant: each VPC has one main table, and a subnet is named by at most one; a
subnet that none names uses the main one.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.routes import is_active, shown_route
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.errors import NotFound, Refused
from alto.model.networks import Subnet, Vpc
from alto.model.routing import Route, RouteTable, RouteTableAssociation, Target
from alto.plan.vpcs import local_routes
from alto.store.store import Reader, Tx

TABLES_MAX = 200  # "Amazon VPC quotas": in a VPC


def _of(routes: tuple[Route, ...], *targets: Target) -> list[str]:
    return [route.target_id for route in routes if route.target in targets]


def _filters(reader: Reader) -> Filters[RouteTable]:
    return {
        "association.gateway-id": lambda table: [each.gateway_id for each in table.associations],
        "association.main": lambda table: [_is_main(each) for each in table.associations] or [False],
        "association.route-table-association-id": lambda table: [each.id for each in table.associations],
        "association.route-table-id": lambda table: table.id if table.associations else None,
        "association.state": lambda table: "associated" if table.associations else None,
        "association.subnet-id": lambda table: [each.subnet_id for each in table.associations],
        "owner-id": lambda table: table.account,
        "route-table-id": lambda table: table.id,
        "route.carrier-gateway-id": lambda table: None,
        "route.core-network-arn": lambda table: None,
        "route.destination-cidr-block": lambda table: [
            each.destination for each in table.routes if _is_range(each) and ":" not in each.destination
        ],
        "route.destination-ipv6-cidr-block": lambda table: [
            each.destination for each in table.routes if _is_range(each) and ":" in each.destination
        ],
        "route.destination-prefix-list-id": lambda table: [each.destination for each in table.routes if not _is_range(each)],
        "route.egress-only-internet-gateway-id": lambda table: _of(table.routes, Target.EGRESS_ONLY),
        "route.gateway-id": lambda table: _of(table.routes, Target.LOCAL, Target.INTERNET, Target.ENDPOINT),
        "route.instance-id": lambda table: [each.instance_id for each in table.routes],
        "route.local-gateway-id": lambda table: None,
        "route.nat-gateway-id": lambda table: _of(table.routes, Target.NAT),
        "route.network-interface-id": lambda table: _of(table.routes, Target.INTERFACE),
        "route.origin": lambda table: [each.origin for each in table.routes],
        "route.state": lambda table: ["active" if is_active(reader, table, each) else "blackhole" for each in table.routes],
        "route.transit-gateway-id": lambda table: None,
        "route.vpc-peering-connection-id": lambda table: _of(table.routes, Target.PEERING),
        "transit-gateway-id": lambda table: None,
        "vpc-id": lambda table: table.vpc_id,
    }


def _is_range(route: Route) -> bool:
    return not route.destination.startswith("pl-")


def _is_main(association: RouteTableAssociation) -> bool:
    return association.subnet_id is None and association.gateway_id is None


class DescribeRouteTablesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    route_table_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_route_tables(call: Call, request: DescribeRouteTablesRequest) -> dict[str, object]:
    ids = request.route_table_ids
    check_page(request.max_results, ids, high=100, ids_parameter="routeTableIdSet")

    def body(reader: Reader) -> dict[str, object]:
        matches = matcher(request.filters, _filters(reader))
        page = page_of_own(reader, call, RouteTable, ids, matches, request.max_results, request.next_token)
        return listing("RouteTables", [_shown(reader, table) for table in page.items], page.next_token)

    return call.store.read(body)


def _shown(reader: Reader, table: RouteTable) -> dict[str, object]:
    return {
        "RouteTableId": table.id,
        "VpcId": table.vpc_id,
        "OwnerId": table.account,
        "Routes": [shown_route(reader, table, route) for route in table.routes],
        "Associations": [
            {
                "RouteTableAssociationId": each.id,
                "RouteTableId": table.id,
                "SubnetId": each.subnet_id,
                "GatewayId": each.gateway_id,
                "Main": _is_main(each),
                "AssociationState": {"State": "associated"},
            }
            for each in table.associations
        ],
        "PropagatingVgws": [],
        "Tags": shown(table.tags),
    }


class CreateRouteTableRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    tag_specifications: tuple[TagSpecification, ...] = ()
    client_token: str | None = None


async def create_route_table(call: Call, request: CreateRouteTableRequest) -> dict[str, object]:
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "route-table")["route-table"]
    id, now = draw_id(call.world.chance, "rtb"), call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return _shown(tx, owned(tx, call, RouteTable, known))
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if tx.count(RouteTable, vpc_id=vpc.id) >= TABLES_MAX:
            raise Refused("RouteTableLimitExceeded", f"The maximum number of route tables of a VPC is {TABLES_MAX}.")
        table = RouteTable(id=id, account=call.account, region=call.region, vpc_id=vpc.id, routes=local_routes(vpc), tags=tags)
        remember_result(tx, call, request.client_token, id, now)
        return _shown(tx, tx.put(table))

    return {"RouteTable": await call.store.write(body), "ClientToken": request.client_token}


class RouteTableIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    route_table_id: str


async def delete_route_table(call: Call, request: RouteTableIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        table = owned(tx, call, RouteTable, request.route_table_id)
        if table.associations:
            raise Refused("DependencyViolation", f"The routeTable '{table.id}' has dependencies and cannot be deleted.")
        tx.delete(RouteTable, table.id)

    await call.store.write(body)
    return {}


class AssociateRouteTableRequest(msgspec.Struct, frozen=True, rename="pascal"):
    route_table_id: str
    subnet_id: str | None = None
    gateway_id: str | None = None


async def associate_route_table(call: Call, request: AssociateRouteTableRequest) -> dict[str, object]:
    if request.gateway_id is not None:
        raise Refused("UnsupportedOperation", "Routing what comes in through a gateway is not supported: give a SubnetId")
    if request.subnet_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter subnetId")
    subnet_id, id = request.subnet_id, draw_id(call.world.chance, "rtbassoc")

    def body(tx: Tx) -> str:
        table = owned(tx, call, RouteTable, request.route_table_id)
        subnet = owned(tx, call, Subnet, subnet_id)
        if subnet.vpc_id != table.vpc_id:
            raise _apart(table, f"subnet {subnet.id}")
        for other in tx.where(RouteTable, vpc_id=table.vpc_id):
            for each in other.associations:
                if each.subnet_id != subnet.id:
                    continue
                if other.id == table.id:
                    return each.id
                raise Refused(
                    "Resource.AlreadyAssociated",
                    f"the specified association for route table {table.id} conflicts with an existing association",
                )
        made = RouteTableAssociation(id=id, subnet_id=subnet.id)
        tx.put(replace(table, associations=(*table.associations, made)))
        return id

    return {"AssociationId": await call.store.write(body), "AssociationState": {"State": "associated"}}


def _apart(table: RouteTable, what: str) -> Refused:
    return Refused("InvalidParameterValue", f"route table {table.id} and {what} belong to different networks")


class AssociationIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str


async def disassociate_route_table(call: Call, request: AssociationIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        table, found = _association(tx, call, request.association_id)
        if _is_main(found):
            raise Refused("InvalidParameterValue", f"cannot disassociate the main route table association {found.id}")
        tx.put(replace(table, associations=tuple(each for each in table.associations if each.id != found.id)))

    await call.store.write(body)
    return {}


class ReplaceAssociationRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str
    route_table_id: str


async def replace_route_table_association(call: Call, request: ReplaceAssociationRequest) -> dict[str, object]:
    """The association of the main table can be replaced too: this is how another table becomes the main one."""
    id = draw_id(call.world.chance, "rtbassoc")

    def body(tx: Tx) -> str:
        new = owned(tx, call, RouteTable, request.route_table_id)
        old, found = _association(tx, call, request.association_id)
        if old.id == new.id:
            return found.id
        if old.vpc_id != new.vpc_id:
            raise _apart(new, f"route table {old.id}")
        tx.put(replace(old, associations=tuple(each for each in old.associations if each.id != found.id)))
        tx.put(replace(new, associations=(*new.associations, replace(found, id=id))))
        return id

    return {"NewAssociationId": await call.store.write(body), "AssociationState": {"State": "associated"}}


def _association(tx: Tx, call: Call, id: str) -> tuple[RouteTable, RouteTableAssociation]:
    """Raises: Refused (Malformed), NotFound."""
    check_id(ASSOCIATION, id)
    for table in tx.where(RouteTable, account=call.account, region=call.region):
        for each in table.associations:
            if each.id == id:
                return table, each
    raise NotFound(ASSOCIATION, id)


ASSOCIATION = "route_table_association"


OPERATIONS: Mapping[str, Operation] = {
    "AssociateRouteTable": Operation(AssociateRouteTableRequest, associate_route_table),
    "CreateRouteTable": Operation(CreateRouteTableRequest, create_route_table),
    "DeleteRouteTable": Operation(RouteTableIdRequest, delete_route_table),
    "DescribeRouteTables": Operation(DescribeRouteTablesRequest, describe_route_tables),
    "DisassociateRouteTable": Operation(AssociationIdRequest, disassociate_route_table),
    "ReplaceRouteTableAssociation": Operation(ReplaceAssociationRequest, replace_route_table_association),
}
