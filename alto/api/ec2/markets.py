"""What Amazon sells beside instances on demand, and Alto has none of: spot requests, reserved instances, reserved capacity,
dedicated hosts. There are none, so listings are empty; asking for a spot instance is refused as AWS refuses whom it has given
no quota. All else about them answers UnsupportedOperation.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.launch_options import NO_SPOT
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.model.errors import Refused


class _Nothing(msgspec.Struct, frozen=True):
    """What the filters would look at."""


def _none(*names: str) -> Filters[_Nothing]:
    return dict.fromkeys(names, lambda nothing: None)


class Page(msgspec.Struct, frozen=True, rename="pascal"):
    max_results: int | None = None
    next_token: str | None = None


def _empty(
    member: str,
    page: Page,
    filters: Sequence[Filter],
    table: Filters[_Nothing],
    ids: Iterable[str] = (),
    absent: tuple[str, str] = ("", ""),
    *,
    low: int = 5,
) -> dict[str, object]:
    """No item, once the request itself is known to be sound. `absent`: code and words for an id that there is not."""
    check_page(page.max_results, low=low)
    matcher(filters, table)
    for id in ids:
        raise Refused(absent[0], absent[1].format(id=id[:80]))
    nothing: list[str] = []
    rest = page_of_list(
        nothing, lambda item: item, scope=member, max_results=page.max_results, next_token=page.next_token or None
    )
    return listing(member, rest.items, rest.next_token)


_SPOT_ABSENT = ("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '{id}' does not exist")
_SPOT_FILTERS = _none(
    "availability-zone-group",
    "create-time",
    "fault-code",
    "fault-message",
    "instance-id",
    "launch-group",
    "launch.block-device-mapping.delete-on-termination",
    "launch.block-device-mapping.device-name",
    "launch.block-device-mapping.snapshot-id",
    "launch.block-device-mapping.volume-size",
    "launch.block-device-mapping.volume-type",
    "launch.group-id",
    "launch.group-name",
    "launch.image-id",
    "launch.instance-type",
    "launch.kernel-id",
    "launch.key-name",
    "launch.monitoring-enabled",
    "launch.ramdisk-id",
    "launched-availability-zone",
    "launched-availability-zone-id",
    "network-interface.addresses.primary",
    "network-interface.delete-on-termination",
    "network-interface.description",
    "network-interface.device-index",
    "network-interface.group-id",
    "network-interface.network-interface-id",
    "network-interface.private-ip-address",
    "network-interface.subnet-id",
    "product-description",
    "spot-instance-request-id",
    "spot-price",
    "state",
    "status-code",
    "status-message",
    "type",
    "valid-from",
    "valid-until",
)


class SpotRequests(Page, frozen=True, rename="pascal"):
    spot_instance_request_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


async def describe_spot_instance_requests(call: Call, request: SpotRequests) -> dict[str, object]:
    ids = request.spot_instance_request_ids
    return _empty("SpotInstanceRequests", request, request.filters, _SPOT_FILTERS, ids, _SPOT_ABSENT)


class CancelSpotRequests(msgspec.Struct, frozen=True, rename="pascal"):
    spot_instance_request_ids: tuple[str, ...]


async def cancel_spot_instance_requests(call: Call, request: CancelSpotRequests) -> dict[str, object]:
    ids = request.spot_instance_request_ids
    return _empty("CancelledSpotInstanceRequests", Page(), (), _SPOT_FILTERS, ids, _SPOT_ABSENT)


class RequestSpotInstances(msgspec.Struct, frozen=True, rename="pascal"):
    """Known, so that the refusal is about the market and not about a parameter."""

    launch_specification: dict[str, object] | None = None
    instance_count: int | None = None
    spot_price: str | None = None
    type: str | None = None
    client_token: str | None = None
    valid_from: float | None = None
    valid_until: float | None = None
    launch_group: str | None = None
    availability_zone_group: str | None = None
    block_duration_minutes: int | None = None
    instance_interruption_behavior: str | None = None
    tag_specifications: tuple[dict[str, object], ...] = ()


async def request_spot_instances(call: Call, request: RequestSpotInstances) -> dict[str, object]:
    raise Refused("MaxSpotInstanceCountExceeded", NO_SPOT)


class SpotPrices(Page, frozen=True, rename="pascal"):
    availability_zone: str | None = None
    availability_zone_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    instance_types: tuple[str, ...] = ()
    product_descriptions: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


_PRICE_FILTERS = _none(
    "availability-zone", "availability-zone-id", "instance-type", "product-description", "spot-price", "timestamp"
)


async def describe_spot_price_history(call: Call, request: SpotPrices) -> dict[str, object]:
    return _empty("SpotPriceHistory", request, request.filters, _PRICE_FILTERS, low=1)


class ReservedInstances(msgspec.Struct, frozen=True, rename="pascal"):
    reserved_instances_ids: tuple[str, ...] = ()
    offering_class: str | None = None
    offering_type: str | None = None
    filters: tuple[Filter, ...] = ()


_RESERVED_FILTERS = _none(
    "availability-zone",
    "availability-zone-id",
    "duration",
    "end",
    "fixed-price",
    "instance-type",
    "product-description",
    "reserved-instances-id",
    "scope",
    "start",
    "state",
    "usage-price",
)


async def describe_reserved_instances(call: Call, request: ReservedInstances) -> dict[str, object]:
    absent = ("InvalidReservedInstancesId", "The Reserved Instance ID '{id}' does not exist")
    ids = request.reserved_instances_ids
    return _empty("ReservedInstances", Page(), request.filters, _RESERVED_FILTERS, ids, absent)


class ReservedOfferings(Page, frozen=True, rename="pascal"):
    reserved_instances_offering_ids: tuple[str, ...] = ()
    availability_zone: str | None = None
    availability_zone_id: str | None = None
    include_marketplace: bool | None = None
    instance_type: str | None = None
    max_duration: int | None = None
    max_instance_count: int | None = None
    min_duration: int | None = None
    offering_class: str | None = None
    offering_type: str | None = None
    product_description: str | None = None
    instance_tenancy: str | None = None
    filters: tuple[Filter, ...] = ()


_OFFERING_FILTERS = _none(
    "availability-zone",
    "availability-zone-id",
    "duration",
    "fixed-price",
    "instance-type",
    "marketplace",
    "product-description",
    "reserved-instances-offering-id",
    "scope",
    "usage-price",
)


async def describe_reserved_instances_offerings(call: Call, request: ReservedOfferings) -> dict[str, object]:
    absent = ("InvalidReservedInstancesOfferingId", "The Reserved Instances Offering ID '{id}' does not exist")
    ids = request.reserved_instances_offering_ids
    return _empty("ReservedInstancesOfferings", request, request.filters, _OFFERING_FILTERS, ids, absent)


class CapacityReservations(Page, frozen=True, rename="pascal"):
    capacity_reservation_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


_RESERVATION_FILTERS = _none(
    "availability-zone",
    "availability-zone-id",
    "end-date",
    "end-date-type",
    "instance-match-criteria",
    "instance-platform",
    "instance-type",
    "outpost-arn",
    "owner-id",
    "placement-group-arn",
    "start-date",
    "state",
    "tenancy",
)


async def describe_capacity_reservations(call: Call, request: CapacityReservations) -> dict[str, object]:
    absent = ("InvalidCapacityReservationId.NotFound", "The capacity reservation ID '{id}' does not exist")
    ids = request.capacity_reservation_ids
    return _empty("CapacityReservations", request, request.filters, _RESERVATION_FILTERS, ids, absent, low=1)


class DedicatedHosts(Page, frozen=True, rename="pascal"):
    """Alto's own hosts are the operator's, and not an account's: `alto host list`."""

    host_ids: tuple[str, ...] = ()
    filter: tuple[Filter, ...] = ()


_HOST_FILTERS = _none("auto-placement", "availability-zone", "client-token", "host-reservation-id", "instance-type", "state")


async def describe_hosts(call: Call, request: DedicatedHosts) -> dict[str, object]:
    absent = ("InvalidHostID.NotFound", "The host ID '{id}' does not exist")
    check_page(request.max_results, request.host_ids, ids_parameter="hostIdSet", high=500)
    return _empty("Hosts", request, request.filter, _HOST_FILTERS, request.host_ids, absent)


OPERATIONS: Mapping[str, Operation] = {
    "CancelSpotInstanceRequests": Operation(CancelSpotRequests, cancel_spot_instance_requests),
    "DescribeCapacityReservations": Operation(CapacityReservations, describe_capacity_reservations),
    "DescribeHosts": Operation(DedicatedHosts, describe_hosts),
    "DescribeReservedInstances": Operation(ReservedInstances, describe_reserved_instances),
    "DescribeReservedInstancesOfferings": Operation(ReservedOfferings, describe_reserved_instances_offerings),
    "DescribeSpotInstanceRequests": Operation(SpotRequests, describe_spot_instance_requests),
    "DescribeSpotPriceHistory": Operation(SpotPrices, describe_spot_price_history),
    "RequestSpotInstances": Operation(RequestSpotInstances, request_spot_instances),
}
