"""What VPC endpoints lead to: DescribeVpcEndpointServices, and which service a request means.

Gateway endpoints lead to services of Amazon's, of which this cloud has none yet; interface endpoints to those that it is itself
(`plan/endpoints.py`). Not here: services that accounts offer each other, which are refused.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.paging import capped, check_page, listing, page_of_list
from alto.api.ec2.regions import zone_id
from alto.model.errors import Refused
from alto.model.routing import EndpointType
from alto.plan.endpoints import INTERFACE_SERVICES, SERVICES, amazons_lists, private_name, service_name

IPV4 = "ipv4"


class Service(msgspec.Struct, frozen=True):
    name: str  # "com.amazonaws.REGION.ec2"
    short: str  # "ec2"
    type: EndpointType
    region: str


def services(region: str) -> list[Service]:
    """By name."""
    found = [Service(service_name(region, one), one, EndpointType.GATEWAY, region) for one in SERVICES]
    found += [Service(service_name(region, one), one, EndpointType.INTERFACE, region) for one in INTERFACE_SERVICES]
    return sorted(found, key=lambda one: one.name)


def find_service(call: Call, name: str) -> Service:
    """Raises: Refused."""
    for one in services(call.region):
        if one.name == name:
            return one
    raise Refused("InvalidServiceName", f"The Vpc Endpoint Service '{name[:255]}' does not exist")


def check_service_region(call: Call, region: str) -> None:
    """Raises: Refused: a service is reached from its own region."""
    if region not in call.settings.regions:
        raise Refused("InvalidParameter", f"The region '{region[:80]}' does not exist")
    if region != call.region:
        raise Refused(
            "UnsupportedOperation", f"The services of another region than {call.region} are not reached by endpoints here"
        )


_FILTERS: Filters[Service] = {
    "owner": lambda one: "amazon",
    "service-name": lambda one: one.name,
    "service-region": lambda one: one.region,
    "service-type": lambda one: one.type.value,
    "supported-ip-address-types": lambda one: IPV4,
}


class DescribeServicesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    service_names: tuple[str, ...] = ()
    service_regions: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_endpoint_services(call: Call, request: DescribeServicesRequest) -> dict[str, object]:
    most = capped(request.max_results)
    check_page(most, low=1)
    matches = matcher(request.filters, _FILTERS)
    for region in request.service_regions:
        check_service_region(call, region)
    wanted = [find_service(call, name) for name in request.service_names] or services(call.region)
    page = page_of_list(
        [one for one in wanted if matches(one)],
        lambda one: one.name,
        scope="vpc_endpoint_service",
        max_results=most,
        next_token=request.next_token,
    )
    details = [_shown(call, one) for one in page.items]
    return {"ServiceNames": [one.name for one in page.items], **listing("ServiceDetails", details, page.next_token)}


def _shown(call: Call, one: Service) -> dict[str, object]:
    shape: dict[str, object] = {
        "ServiceName": one.name,
        "ServiceId": f"vpce-svc-{_digits(one)}",
        "ServiceType": [{"ServiceType": one.type.value}],
        "ServiceRegion": one.region,
        "AvailabilityZoneIds": [zone_id(zone) for zone in call.settings.zones(call.region)],
        "AvailabilityZones": call.settings.zones(call.region),
        "Owner": "amazon",
        "BaseEndpointDnsNames": [private_name(one.region, one.short)],
        # The policy of an interface endpoint can only be the one that allows everything.
        "VpcEndpointPolicySupported": one.type is EndpointType.GATEWAY,
        "AcceptanceRequired": False,
        "ManagesVpcEndpoints": False,
        "Tags": [],
        "SupportedIpAddressTypes": [IPV4],
    }
    if one.type is EndpointType.INTERFACE:
        name = private_name(one.region, one.short)
        shape["BaseEndpointDnsNames"] = [f"{one.short}.{one.region}.vpce.amazonaws.com"]
        shape["PrivateDnsName"], shape["PrivateDnsNames"] = name, [{"PrivateDnsName": name}]
        shape["PrivateDnsNameVerificationState"] = "verified"
    return shape


def _digits(one: Service) -> str:
    its = next((each for each in amazons_lists(one.region) if each.name == one.name), None)
    return its.id.removeprefix("pl-") if its is not None else hashlib.blake2s(one.name.encode(), digest_size=4).hexdigest()


OPERATIONS: Mapping[str, Operation] = {
    "DescribeVpcEndpointServices": Operation(DescribeServicesRequest, describe_vpc_endpoint_services),
}
