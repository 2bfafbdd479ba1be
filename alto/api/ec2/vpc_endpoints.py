"""VPC endpoints: gateway endpoints of Amazon's services, with the routes that they put into route tables, and interface
endpoints of this cloud's own, whose interfaces are in interface_endpoints.py.

A table is in an endpoint by its route to the service's prefix list, which is the only place where that is said. The lists
are empty as long as those services are not in this cloud (`plan/endpoints.py`): a gateway endpoint is there for whoever manages
it, and no packet goes through it. Not here: endpoints of load balancers and of other accounts' services, which are refused.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, is_own, owned, owned_or, page_of_own
from alto.api.ec2.interface_endpoints import (
    ID_CHARACTERS,
    SubnetConfiguration,
    check_policy,
    check_private_dns,
    draw_wanted,
    enter,
    has_dns,
    leave,
    refuse_without_host,
    regroup,
)
from alto.api.ec2.new_interfaces import find_groups
from alto.api.ec2.paging import capped, check_page, listing
from alto.api.ec2.routes import check_route_number
from alto.api.ec2.shapes import group_names
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.api.ec2.vpc_endpoint_services import IPV4, Service, check_service_region, find_service
from alto.model.acls import PrefixList
from alto.model.errors import Refused
from alto.model.networks import Vpc
from alto.model.routing import EndpointType, Route, RouteTable, Target, VpcEndpoint
from alto.plan.endpoints import amazons_lists, dns_names, own_service, private_name
from alto.store.store import Reader, Tx

AVAILABLE, PENDING = "available", "pending"
EVERYTHING = '{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}'
POLICY_MAX = 20_480  # characters; "Amazon VPC quotas"

_FILTERS: Filters[VpcEndpoint] = {
    "ip-address-type": lambda one: IPV4,
    "service-name": lambda one: one.service_name,
    "service-region": lambda one: one.region,
    "vpc-endpoint-id": lambda one: one.id,
    "vpc-endpoint-state": lambda one: AVAILABLE,
    "vpc-endpoint-type": lambda one: one.type.value,
    "vpc-id": lambda one: one.vpc_id,
}


class DescribeEndpointsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    vpc_endpoint_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoints(call: Call, request: DescribeEndpointsRequest) -> dict[str, object]:
    ids = request.vpc_endpoint_ids
    most = capped(request.max_results)
    check_page(most, ids, low=1, ids_parameter="vpcEndpointIdSet")
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> dict[str, object]:
        page = page_of_own(reader, call, VpcEndpoint, ids, matches, most, request.next_token)
        return listing("VpcEndpoints", [_shown(reader, one) for one in page.items], page.next_token)

    return call.store.read(read)


def _shown(reader: Reader, one: VpcEndpoint, *, state: str = AVAILABLE) -> dict[str, object]:
    shape: dict[str, object] = {
        "VpcEndpointId": one.id,
        "VpcEndpointType": one.type.value,
        "VpcId": one.vpc_id,
        "ServiceName": one.service_name,
        "ServiceRegion": one.region,
        "State": state,
        "PolicyDocument": one.policy,
        "RouteTableIds": sorted(table.id for table in _tables(reader, one)),
        "SubnetIds": [each.subnet_id for each in one.interfaces],
        "Groups": group_names(reader, one.group_ids),
        "IpAddressType": IPV4,
        "PrivateDnsEnabled": one.private_dns,
        "RequesterManaged": False,
        "NetworkInterfaceIds": [each.interface_id for each in one.interfaces],
        "DnsEntries": [{"DnsName": name} for name in _names(one)],
        "CreationTimestamp": one.created_at,
        "Tags": shown(one.tags),
        "OwnerId": one.account,
    }
    if one.type is EndpointType.INTERFACE:
        shape["DnsOptions"] = {"DnsRecordIpType": IPV4}
    return shape


def _names(one: VpcEndpoint) -> list[str]:
    service = own_service(one.region, one.service_name)
    return [*dns_names(one), *([private_name(one.region, service)] if one.private_dns and service is not None else [])]


def _tables(reader: Reader, endpoint: VpcEndpoint) -> list[RouteTable]:
    tables = reader.where(RouteTable, vpc_id=endpoint.vpc_id)
    return [table for table in tables if any(route.target_id == endpoint.id for route in table.routes)]


# Making, changing, deleting.


class DnsOptions(msgspec.Struct, frozen=True, rename="pascal"):
    dns_record_ip_type: str | None = None
    private_dns_only_for_inbound_resolver_endpoint: bool = False


NO_DNS_OPTIONS = DnsOptions()


def _check_dns_options(options: DnsOptions) -> None:
    if options.dns_record_ip_type not in (None, IPV4):
        raise Refused("InvalidParameter", f"The DNS records of endpoints are of the type {IPV4}.")
    if options.private_dns_only_for_inbound_resolver_endpoint:
        raise Refused("InvalidParameter", "No service here has private DNS names for inbound Resolver endpoints only.")


class CreateEndpointRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    service_name: str | None = None
    service_region: str | None = None
    vpc_endpoint_type: str = EndpointType.GATEWAY.value
    policy_document: str | None = None
    private_dns_enabled: bool | None = None
    ip_address_type: str | None = None
    dns_options: DnsOptions = NO_DNS_OPTIONS
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    subnet_configurations: tuple[SubnetConfiguration, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_vpc_endpoint(call: Call, request: CreateEndpointRequest) -> dict[str, object]:
    check_token(request.client_token)
    if request.service_name is None:
        raise Refused("MissingParameter", "The request must contain the parameter ServiceName")
    if request.service_region is not None:
        check_service_region(call, request.service_region)
    service = find_service(call, request.service_name)
    if request.vpc_endpoint_type != service.type:
        type = request.vpc_endpoint_type[:80]
        raise Refused("InvalidParameter", f"Endpoint type ({type}) does not match available service types ([{service.type}]).")
    interfaces = service.type is EndpointType.INTERFACE
    if request.ip_address_type not in (None, IPV4):
        raise Refused("InvalidParameter", f"The IP address type of endpoints is {IPV4}: this is all that {service.name} has.")
    _check_dns_options(request.dns_options)
    policy = _checked_policy(request.policy_document) or EVERYTHING
    if interfaces:
        _refuse_members(service.type, {"Route tables": request.route_table_ids})
        check_policy(policy)
    else:
        _refuse_members(
            service.type,
            {
                "Subnets": request.subnet_ids or request.subnet_configurations,
                "Security groups": request.security_group_ids,
                "Private DNS": request.private_dns_enabled,
                "DNS options": request.dns_options != NO_DNS_OPTIONS,
            },
        )
    wanted = draw_wanted(call, request.subnet_ids, request.subnet_configurations)
    tags = tags_for(request.tag_specifications, "vpc-endpoint")["vpc-endpoint"]
    id, now = draw_id(call.world.chance, "vpce"), call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return _shown(tx, owned(tx, call, VpcEndpoint, known))
        vpc = owned(tx, call, Vpc, request.vpc_id)
        remember_result(tx, call, request.client_token, id, now)
        endpoint = VpcEndpoint(
            id=id,
            account=call.account,
            region=call.region,
            vpc_id=vpc.id,
            service_name=service.name,
            type=service.type,
            policy=policy,
            group_ids=find_groups(tx, call, request.security_group_ids, vpc.id) if interfaces else (),
            # Unless it is said otherwise, where the VPC's attributes let it.
            private_dns=interfaces and (has_dns(vpc) if request.private_dns_enabled is None else request.private_dns_enabled),
            created_at=now,
            tags=tags,
        )
        if interfaces:
            refuse_without_host(tx)
            if endpoint.private_dns:
                check_private_dns(tx, endpoint)
            return _shown(tx, tx.put(enter(tx, call, endpoint, wanted, now)), state=PENDING)
        made = tx.put(endpoint)
        for table_id in dict.fromkeys(request.route_table_ids):
            _enter(tx, call, made, service, table_id)
        return _shown(tx, made)

    return {"VpcEndpoint": await call.store.write(body), "ClientToken": request.client_token}


def _refuse_members(type: EndpointType, members: Mapping[str, object]) -> None:
    """Those that have a value, of the other type's alone."""
    for what, given in members.items():
        if given:
            article = "an" if type is EndpointType.INTERFACE else "a"
            raise Refused("InvalidParameter", f"{what} cannot be specified for {article} {type} endpoint.")


def _checked_policy(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) > POLICY_MAX:
        raise Refused("InvalidPolicyDocument", f"A policy document has at most {POLICY_MAX} characters.")
    try:
        msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError):
        raise Refused("InvalidPolicyDocument", "The specified policy document is not a valid JSON policy document.") from None
    return text


def _enter(tx: Tx, call: Call, endpoint: VpcEndpoint, service: Service, table_id: str) -> None:
    its = _list_of(service)
    table = _own_table(tx, call, table_id)
    if table.vpc_id != endpoint.vpc_id:
        raise Refused("InvalidParameter", f"Route table {table.id} and VPC {endpoint.vpc_id} belong to different networks.")
    if any(route.target_id == endpoint.id for route in table.routes):
        return
    if any(route.destination == its.id for route in table.routes):
        raise Refused(
            "RouteAlreadyExists",
            f"route table {table.id} already has a route with destination-prefix-list-id {its.id}",
        )
    routes = (*table.routes, Route(destination=its.id, target=Target.ENDPOINT, target_id=endpoint.id))
    check_route_number(tx, routes)
    tx.put(replace(table, routes=routes))


def _own_table(reader: Reader, call: Call, id: str) -> RouteTable:
    """EC2 spells the codes otherwise here than for every other operation. Raises: Refused."""
    return owned_or(
        reader,
        call,
        RouteTable,
        id,
        malformed=Refused("InvalidRouteTableId.Malformed", f"Invalid Id: '{id[:80]}' (expecting 'rtb-...; {ID_CHARACTERS}')"),
        absent=Refused("InvalidRouteTableId.NotFound", f"The routeTable ID '{id[:80]}' does not exist"),
    )


def _list_of(service: Service) -> PrefixList:
    return next(one for one in amazons_lists(service.region) if one.name == service.name)


def _leave_tables(tx: Tx, endpoint: VpcEndpoint, which: Callable[[RouteTable], bool] = lambda table: True) -> None:
    for table in _tables(tx, endpoint):
        if which(table):
            kept = tuple(route for route in table.routes if route.target_id != endpoint.id)
            tx.put(replace(table, routes=kept))


class ModifyEndpointRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_endpoint_id: str
    reset_policy: bool = False
    policy_document: str | None = None
    add_route_table_ids: tuple[str, ...] = ()
    remove_route_table_ids: tuple[str, ...] = ()
    add_subnet_ids: tuple[str, ...] = ()
    remove_subnet_ids: tuple[str, ...] = ()
    subnet_configurations: tuple[SubnetConfiguration, ...] = ()
    add_security_group_ids: tuple[str, ...] = ()
    remove_security_group_ids: tuple[str, ...] = ()
    private_dns_enabled: bool | None = None
    ip_address_type: str | None = None
    dns_options: DnsOptions = NO_DNS_OPTIONS


async def modify_vpc_endpoint(call: Call, request: ModifyEndpointRequest) -> dict[str, object]:
    policy = _checked_policy(request.policy_document)
    if request.reset_policy:
        if policy is not None:
            raise Refused("InvalidParameterCombination", "Give a policy document, or reset it to the default one: not both")
        policy = EVERYTHING
    if request.ip_address_type not in (None, IPV4):
        raise Refused("InvalidParameter", f"The IP address type of endpoints is {IPV4}.")
    _check_dns_options(request.dns_options)
    wanted, now = draw_wanted(call, request.add_subnet_ids, request.subnet_configurations), call.world.clock.now()

    def changed(tx: Tx, endpoint: VpcEndpoint) -> VpcEndpoint:
        """An interface endpoint."""
        tables = request.add_route_table_ids + request.remove_route_table_ids
        _refuse_members(endpoint.type, {"Route tables": tables})
        if policy is not None:
            check_policy(policy)
        endpoint = regroup(tx, call, endpoint, request.add_security_group_ids, request.remove_security_group_ids)
        endpoint = enter(tx, call, leave(tx, endpoint, request.remove_subnet_ids), wanted, now)
        if request.private_dns_enabled:
            check_private_dns(tx, endpoint)
        private = endpoint.private_dns if request.private_dns_enabled is None else request.private_dns_enabled
        return replace(endpoint, private_dns=private, policy=policy or endpoint.policy)

    def body(tx: Tx) -> None:
        endpoint = owned(tx, call, VpcEndpoint, request.vpc_endpoint_id)
        if endpoint.type is EndpointType.INTERFACE:
            after = changed(tx, endpoint)
            if after != endpoint:
                tx.put(after)
            return
        _refuse_members(
            endpoint.type,
            {
                "Subnets": request.add_subnet_ids + request.remove_subnet_ids,
                "Security groups": request.add_security_group_ids + request.remove_security_group_ids,
                "Private DNS": request.private_dns_enabled,
                "DNS options": request.dns_options != NO_DNS_OPTIONS,
            },
        )
        gone = {_own_table(tx, call, id).id for id in request.remove_route_table_ids}
        _leave_tables(tx, endpoint, lambda table: table.id in gone)
        for table_id in request.add_route_table_ids:
            _enter(tx, call, endpoint, find_service(call, endpoint.service_name), table_id)
        if policy is not None and policy != endpoint.policy:
            tx.put(replace(endpoint, policy=policy))

    await call.store.write(body)
    return {"Return": True}


class DeleteEndpointsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_endpoint_ids: tuple[str, ...]


async def delete_vpc_endpoints(call: Call, request: DeleteEndpointsRequest) -> dict[str, object]:
    """Those that are there go; what is said of the others does not keep them."""
    if not request.vpc_endpoint_ids:
        raise Refused("MissingParameter", "The request must contain the parameter VpcEndpointId")
    for id in request.vpc_endpoint_ids:
        check_id(VpcEndpoint.KIND, id)

    def body(tx: Tx) -> list[str]:
        absent = []
        for id in dict.fromkeys(request.vpc_endpoint_ids):
            endpoint = tx.find(VpcEndpoint, id)
            if endpoint is None or not is_own(call, endpoint):
                absent.append(id)
                continue
            _leave_tables(tx, endpoint)
            leave(tx, endpoint)
            tx.delete(VpcEndpoint, id)
        return absent

    return {
        "Unsuccessful": [
            {
                "ResourceId": id,
                "Error": {
                    "Code": "InvalidVpcEndpoint.NotFound",  # of requests in bulk ("Error codes for the Amazon EC2 API")
                    "Message": f"The Vpc Endpoint Id '{id}' does not exist",
                },
            }
            for id in await call.store.write(body)
        ]
    }


OPERATIONS: Mapping[str, Operation] = {
    "CreateVpcEndpoint": Operation(CreateEndpointRequest, create_vpc_endpoint),
    "DeleteVpcEndpoints": Operation(DeleteEndpointsRequest, delete_vpc_endpoints),
    "DescribeVpcEndpoints": Operation(DescribeEndpointsRequest, describe_vpc_endpoints),
    "ModifyVpcEndpoint": Operation(ModifyEndpointRequest, modify_vpc_endpoint),
}
