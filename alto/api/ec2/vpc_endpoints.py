"""VPC endpoints, of which there are none: they lead from a VPC to Amazon's services, and those are not in this cloud.

The listings are empty, and that is true; making one is refused by the name of the service, as EC2 refuses a service that is not
in the region. Not here: services that accounts offer each other.
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, owned
from alto.api.ec2.paging import check_page
from alto.api.ec2.tags import TagSpecification, tags_for
from alto.model.errors import NotFound, Refused
from alto.model.networks import Vpc

_ENDPOINT = "vpc_endpoint"
_FILTERS: Filters[Vpc] = dict.fromkeys(
    (
        "ip-address-type",
        "service-name",
        "service-region",
        "vpc-endpoint-id",
        "vpc-endpoint-state",
        "vpc-endpoint-type",
        "vpc-id",
    ),
    lambda vpc: None,
)
_SERVICE_FILTERS: Filters[Vpc] = dict.fromkeys(
    ("owner", "service-name", "service-region", "service-type", "supported-ip-address-types"), lambda vpc: None
)


class DescribeEndpointsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    vpc_endpoint_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoints(call: Call, request: DescribeEndpointsRequest) -> dict[str, object]:
    check_page(request.max_results, request.vpc_endpoint_ids, ids_parameter="vpcEndpointIdSet")
    matcher(request.filters, _FILTERS)
    for id in request.vpc_endpoint_ids:
        raise NotFound(_ENDPOINT, check_id(_ENDPOINT, id))
    return {"VpcEndpoints": []}


class DescribeServicesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    service_names: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoint_services(call: Call, request: DescribeServicesRequest) -> dict[str, object]:
    check_page(request.max_results)
    matcher(request.filters, _SERVICE_FILTERS)
    for name in request.service_names:
        raise _no_service(name)
    return {"ServiceNames": [], "ServiceDetails": []}


def _no_service(name: str) -> Refused:
    return Refused(
        "InvalidServiceName", f"The Vpc Endpoint Service '{name[:255]}' does not exist: no service has endpoints here"
    )


class CreateEndpointRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    service_name: str
    vpc_endpoint_type: str | None = None
    policy_document: str | None = None
    private_dns_enabled: bool | None = None
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_vpc_endpoint(call: Call, request: CreateEndpointRequest) -> dict[str, object]:
    tags_for(request.tag_specifications, "vpc-endpoint")
    call.store.read(lambda reader: owned(reader, call, Vpc, request.vpc_id))
    raise _no_service(request.service_name)


OPERATIONS: Mapping[str, Operation] = {
    "CreateVpcEndpoint": Operation(CreateEndpointRequest, create_vpc_endpoint),
    "DescribeVpcEndpointServices": Operation(DescribeServicesRequest, describe_vpc_endpoint_services),
    "DescribeVpcEndpoints": Operation(DescribeEndpointsRequest, describe_vpc_endpoints),
}
