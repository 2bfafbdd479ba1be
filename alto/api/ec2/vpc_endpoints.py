"""VPC endpoints: gateway endpoints of Amazon's services, and the routes that they put into route tables.

A table is in an endpoint by its route to the service's prefix list, which is the only place where that is said. The lists
are empty as long as those services are not in this cloud (`plan/endpoints.py`): an endpoint is there for whoever manages it,
and no packet goes through it. Not here: interface endpoints and services that accounts offer each other, which are refused.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, is_own, owned, page_of_own
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.routes import check_route_number
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.acls import PrefixList
from alto.model.errors import Refused
from alto.model.networks import Vpc
from alto.model.routing import Route, RouteTable, Target, VpcEndpoint
from alto.plan.endpoints import SERVICES, amazons_lists, service_name
from alto.store.store import Reader, Tx

GATEWAY, AVAILABLE, IPV4 = "Gateway", "available", "ipv4"
EVERYTHING = '{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}'
POLICY_MAX = 20_480  # characters; "Amazon VPC quotas"

_FILTERS: Filters[VpcEndpoint] = {
    "ip-address-type": lambda one: IPV4,
    "service-name": lambda one: one.service_name,
    "service-region": lambda one: one.region,
    "vpc-endpoint-id": lambda one: one.id,
    "vpc-endpoint-state": lambda one: AVAILABLE,
    "vpc-endpoint-type": lambda one: GATEWAY,
    "vpc-id": lambda one: one.vpc_id,
}


class DescribeEndpointsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    vpc_endpoint_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoints(call: Call, request: DescribeEndpointsRequest) -> dict[str, object]:
    ids = request.vpc_endpoint_ids
    check_page(request.max_results, ids, low=1, ids_parameter="vpcEndpointIdSet")
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> dict[str, object]:
        page = page_of_own(reader, call, VpcEndpoint, ids, matches, request.max_results, request.next_token)
        return listing("VpcEndpoints", [_shown(reader, one) for one in page.items], page.next_token)

    return call.store.read(read)


def _shown(reader: Reader, one: VpcEndpoint) -> dict[str, object]:
    return {
        "VpcEndpointId": one.id,
        "VpcEndpointType": GATEWAY,
        "VpcId": one.vpc_id,
        "ServiceName": one.service_name,
        "ServiceRegion": one.region,
        "State": AVAILABLE,
        "PolicyDocument": one.policy,
        "RouteTableIds": sorted(table.id for table in _tables(reader, one)),
        "SubnetIds": [],
        "Groups": [],
        "IpAddressType": IPV4,
        "PrivateDnsEnabled": False,
        "RequesterManaged": False,
        "NetworkInterfaceIds": [],
        "DnsEntries": [],
        "CreationTimestamp": one.created_at,
        "Tags": shown(one.tags),
        "OwnerId": one.account,
    }


def _tables(reader: Reader, endpoint: VpcEndpoint) -> list[RouteTable]:
    tables = reader.where(RouteTable, vpc_id=endpoint.vpc_id)
    return [table for table in tables if any(route.target_id == endpoint.id for route in table.routes)]


# What it leads to.

_SERVICE_FILTERS: Filters[PrefixList] = {
    "owner": lambda one: "amazon",
    "service-name": lambda one: one.name,
    "service-region": lambda one: one.region,
    "service-type": lambda one: GATEWAY,
    "supported-ip-address-types": lambda one: IPV4,
}


class DescribeServicesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    service_names: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoint_services(call: Call, request: DescribeServicesRequest) -> dict[str, object]:
    check_page(request.max_results, low=1)
    matches = matcher(request.filters, _SERVICE_FILTERS)
    wanted = [_service(call, name) for name in request.service_names] or amazons_lists(call.region)
    page = page_of_list(
        [one for one in wanted if matches(one)],
        lambda one: one.name,
        scope="vpc_endpoint_service",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    names = [one.name for one in page.items]
    details = [_shown_service(call, service) for service in SERVICES if service_name(call.region, service) in names]
    return {"ServiceNames": names, **listing("ServiceDetails", details, page.next_token)}


def _shown_service(call: Call, service: str) -> dict[str, object]:
    name = service_name(call.region, service)
    (its,) = (one for one in amazons_lists(call.region) if one.name == name)
    return {
        "ServiceName": name,
        "ServiceId": its.id.replace("pl-", "vpce-svc-"),
        "ServiceType": [{"ServiceType": GATEWAY}],
        "ServiceRegion": call.region,
        "AvailabilityZones": call.settings.zones(call.region),
        "Owner": "amazon",
        "BaseEndpointDnsNames": [f"{service}.{call.region}.amazonaws.com"],
        "VpcEndpointPolicySupported": True,
        "AcceptanceRequired": False,
        "ManagesVpcEndpoints": False,
        "Tags": [],
        "SupportedIpAddressTypes": [IPV4],
    }


def _service(call: Call, name: str) -> PrefixList:
    """By its list. Raises: Refused."""
    for one in amazons_lists(call.region):
        if one.name == name:
            return one
    raise Refused("InvalidServiceName", f"The Vpc Endpoint Service '{name[:255]}' does not exist")


# Making, changing, deleting.


class CreateEndpointRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    service_name: str | None = None
    vpc_endpoint_type: str = GATEWAY
    policy_document: str | None = None
    private_dns_enabled: bool = False
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_vpc_endpoint(call: Call, request: CreateEndpointRequest) -> dict[str, object]:
    check_token(request.client_token)
    if request.service_name is None:
        raise Refused("MissingParameter", "The request must contain the parameter ServiceName")
    service = _service(call, request.service_name)
    if request.vpc_endpoint_type != GATEWAY:
        type = request.vpc_endpoint_type[:80]
        raise Refused("InvalidParameter", f"Endpoint type ({type}) does not match available service types ([{GATEWAY}]).")
    _refuse_interface(request.subnet_ids, request.security_group_ids, request.private_dns_enabled)
    policy = _checked_policy(request.policy_document) or EVERYTHING
    tags = tags_for(request.tag_specifications, "vpc-endpoint")["vpc-endpoint"]
    id, now = draw_id(call.world.chance, "vpce"), call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return _shown(tx, owned(tx, call, VpcEndpoint, known))
        vpc = owned(tx, call, Vpc, request.vpc_id)
        remember_result(tx, call, request.client_token, id, now)
        made = tx.put(
            VpcEndpoint(
                id=id,
                account=call.account,
                region=call.region,
                vpc_id=vpc.id,
                service_name=service.name,
                policy=policy,
                created_at=now,
                tags=tags,
            )
        )
        for table_id in dict.fromkeys(request.route_table_ids):
            _enter(tx, call, made, service, table_id)
        return _shown(tx, made)

    return {"VpcEndpoint": await call.store.write(body), "ClientToken": request.client_token}


def _refuse_interface(subnets: Sequence[str], groups: Sequence[str], dns: bool | None) -> None:
    for given, what in ((subnets, "Subnets"), (groups, "Security groups"), (dns, "Private DNS")):
        if given:
            raise Refused("InvalidParameter", f"{what} cannot be specified for a {GATEWAY} endpoint.")


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


def _enter(tx: Tx, call: Call, endpoint: VpcEndpoint, service: PrefixList, table_id: str) -> None:
    table = owned(tx, call, RouteTable, table_id)
    if table.vpc_id != endpoint.vpc_id:
        raise Refused("InvalidParameter", f"Route table {table.id} and VPC {endpoint.vpc_id} belong to different networks.")
    if any(route.target_id == endpoint.id for route in table.routes):
        return
    if any(route.destination == service.id for route in table.routes):
        raise Refused(
            "RouteAlreadyExists",
            f"route table {table.id} already has a route with destination-prefix-list-id {service.id}",
        )
    routes = (*table.routes, Route(destination=service.id, target=Target.ENDPOINT, target_id=endpoint.id))
    check_route_number(tx, routes)
    tx.put(replace(table, routes=routes))


def _leave(tx: Tx, endpoint: VpcEndpoint, which: Callable[[RouteTable], bool] = lambda table: True) -> None:
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
    add_security_group_ids: tuple[str, ...] = ()
    remove_security_group_ids: tuple[str, ...] = ()
    private_dns_enabled: bool | None = None


async def modify_vpc_endpoint(call: Call, request: ModifyEndpointRequest) -> dict[str, object]:
    _refuse_interface(
        request.add_subnet_ids + request.remove_subnet_ids,
        request.add_security_group_ids + request.remove_security_group_ids,
        request.private_dns_enabled,
    )
    policy = _checked_policy(request.policy_document)
    if request.reset_policy:
        if policy is not None:
            raise Refused("InvalidParameterCombination", "Give a policy document, or reset it to the default one: not both")
        policy = EVERYTHING

    def body(tx: Tx) -> None:
        endpoint = owned(tx, call, VpcEndpoint, request.vpc_endpoint_id)
        gone = {owned(tx, call, RouteTable, id).id for id in request.remove_route_table_ids}
        _leave(tx, endpoint, lambda table: table.id in gone)
        for table_id in request.add_route_table_ids:
            _enter(tx, call, endpoint, _service(call, endpoint.service_name), table_id)
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
            _leave(tx, endpoint)
            tx.delete(VpcEndpoint, id)
        return absent

    return {
        "Unsuccessful": [
            {
                "ResourceId": id,
                "Error": {
                    "Code": "InvalidVpcEndpointId.NotFound",
                    "Message": f"The Vpc Endpoint Id '{id}' does not exist",
                },
            }
            for id in await call.store.write(body)
        ]
    }


OPERATIONS: Mapping[str, Operation] = {
    "CreateVpcEndpoint": Operation(CreateEndpointRequest, create_vpc_endpoint),
    "DeleteVpcEndpoints": Operation(DeleteEndpointsRequest, delete_vpc_endpoints),
    "DescribeVpcEndpointServices": Operation(DescribeServicesRequest, describe_vpc_endpoint_services),
    "DescribeVpcEndpoints": Operation(DescribeEndpointsRequest, describe_vpc_endpoints),
    "ModifyVpcEndpoint": Operation(ModifyEndpointRequest, modify_vpc_endpoint),
}
