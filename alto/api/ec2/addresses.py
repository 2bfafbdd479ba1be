"""Elastic addresses, to be read. None can be allocated yet, and clients ask for them beside every instance (libcloud), so
the truth is said: there are none. An instance's own public address is no elastic one, here as at EC2.
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.paging import check_page, page_of_list
from alto.model.errors import Refused
from alto.model.networks import PublicAddress

_FILTERS: Filters[PublicAddress] = dict.fromkeys(
    (
        "allocation-id",
        "association-id",
        "domain",
        "instance-id",
        "network-border-group",
        "network-interface-id",
        "network-interface-owner-id",
        "private-ip-address",
        "public-ip",
        "service-managed",
        "subnet-id",
    ),
    lambda address: None,
)


class DescribeAddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    public_ips: tuple[str, ...] = ()
    allocation_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


async def describe_addresses(call: Call, request: DescribeAddressesRequest) -> dict[str, object]:
    matcher(request.filters, _FILTERS)
    for address in request.public_ips:
        raise Refused("InvalidAddress.NotFound", f"Address '{address[:80]}' not found.")
    _refuse_absent(request.allocation_ids)
    return {"Addresses": []}


class DescribeAddressesAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_ids: tuple[str, ...] = ()
    attribute: str | None = None
    max_results: int | None = None
    next_token: str | None = None


async def describe_addresses_attribute(call: Call, request: DescribeAddressesAttributeRequest) -> dict[str, object]:
    check_page(request.max_results, low=1)
    if request.attribute not in (None, "domain-name"):
        raise Refused("InvalidParameterValue", "Value for parameter Attribute is invalid. It can be domain-name.")
    _refuse_absent(request.allocation_ids)
    nothing: list[str] = []
    page_of_list(nothing, str, scope="addresses", max_results=request.max_results, next_token=request.next_token)
    return {"Addresses": []}


def _refuse_absent(allocation_ids: tuple[str, ...]) -> None:
    for id in allocation_ids:
        raise Refused("InvalidAllocationID.NotFound", f"The allocation ID '{id[:80]}' does not exist")


OPERATIONS: Mapping[str, Operation] = {
    "DescribeAddresses": Operation(DescribeAddressesRequest, describe_addresses),
    "DescribeAddressesAttribute": Operation(DescribeAddressesAttributeRequest, describe_addresses_attribute),
}
