"""Kinds of things that Amazon has and Alto has none of, and what lists them: gateways of VPNs and between VPCs, flow logs, what
is reserved, fleets... There are none, so a listing that is asked for soundly is empty, and an id in it is not found: programs
that look over a whole account, and those that look whether a VPC has such a gateway, go on. All else about these kinds answers
UnsupportedOperation.

Not here: asking for spot instances (`markets.py`).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, matcher
from alto.api.ec2.paging import check_page, page_of_list
from alto.model.errors import Refused


class Absent(NamedTuple):
    """What is answered when the parameter `ids` names one: the code, and a sentence with {id}."""

    ids: str
    code: str
    sentence: str

    def refusal(self, id: str) -> Refused:
        return Refused(self.code, self.sentence.format(id=id[:80]))


class Kind(NamedTuple):
    """`listed` is the member of the answer, `filters` are all that Amazon documents (but for tags), `pages` the bounds of
    MaxResults, where there is one, `others` the parameters that would choose among them. `ids_alone` is what EC2 calls the ids
    where it refuses them together with MaxResults."""

    listed: str
    absent: Absent | None
    filters: str = ""
    pages: tuple[int, int] | None = (5, 1000)
    filtered_by: str = "filters"
    others: Mapping[str, type] = {}
    ids_alone: str = ""


def request_of(operation: str, kind: Kind) -> type[msgspec.Struct]:
    """What may be asked of a listing of this kind."""
    fields: list[tuple[str, Any, object]] = [(name, type | None, None) for name, type in kind.others.items()]
    if kind.absent is not None:
        fields.append((kind.absent.ids, tuple[str, ...], ()))
    if kind.filters:
        fields.append((kind.filtered_by, tuple[Filter, ...], ()))
    if kind.pages is not None:
        fields += [("max_results", int | None, None), ("next_token", str | None, None)]
    return msgspec.defstruct(operation, fields, frozen=True, rename="pascal", module=__name__)


async def describe_none(kind: Kind, call: Call, request: Any) -> dict[str, object]:
    """No item, once the request is known to be sound."""
    ids = getattr(request, kind.absent.ids) if kind.absent is not None else ()
    if kind.pages is not None:
        low, high = kind.pages
        check_page(request.max_results, ids if kind.ids_alone else (), low=low, high=high, ids_parameter=kind.ids_alone)
        # No token can be one of these listings', which have no second page.
        page_of_list((), str, scope=kind.listed, max_results=None, next_token=request.next_token or None)
    matcher(getattr(request, kind.filtered_by, ()), dict.fromkeys(kind.filters.split(), lambda nothing: None))
    if kind.absent is not None and ids:
        raise kind.absent.refusal(ids[0])
    return {kind.listed: []}


NO_SPOT_REQUEST = Absent(
    "spot_instance_request_ids", "InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '{id}' does not exist"
)
_RESERVED_CHOICE: Mapping[str, type] = {"offering_class": str, "offering_type": str}
_TRANSIT_ATTACHMENT = Absent(
    "transit_gateway_attachment_ids",
    "InvalidTransitGatewayAttachmentID.NotFound",
    "Transit Gateway Attachment {id} was deleted or does not exist.",
)
_SPOT_REQUESTS = Kind(
    "SpotInstanceRequests",
    NO_SPOT_REQUEST,
    "availability-zone-group create-time fault-code fault-message instance-id launch-group "
    "launch.block-device-mapping.delete-on-termination launch.block-device-mapping.device-name "
    "launch.block-device-mapping.snapshot-id launch.block-device-mapping.volume-size launch.block-device-mapping.volume-type "
    "launch.group-id launch.group-name launch.image-id launch.instance-type launch.kernel-id launch.key-name "
    "launch.monitoring-enabled launch.ramdisk-id launched-availability-zone launched-availability-zone-id "
    "network-interface.addresses.primary network-interface.delete-on-termination network-interface.description "
    "network-interface.device-index network-interface.group-id network-interface.network-interface-id "
    "network-interface.private-ip-address network-interface.subnet-id product-description spot-instance-request-id spot-price "
    "state status-code status-message type valid-from valid-until",
)

KINDS: Mapping[str, Kind] = {
    "DescribeBundleTasks": Kind(
        "BundleTasks",
        Absent("bundle_ids", "InvalidBundleID.NotFound", "The bundle ID '{id}' does not exist"),
        "bundle-id error-code error-message instance-id progress s3-bucket s3-prefix start-time state update-time",
        pages=None,
    ),
    "DescribeCapacityReservations": Kind(
        "CapacityReservations",
        Absent(
            "capacity_reservation_ids",
            "InvalidCapacityReservationId.NotFound",
            "The capacity reservation ID '{id}' does not exist",
        ),
        "availability-zone availability-zone-id end-date end-date-type instance-match-criteria instance-platform instance-type "
        "outpost-arn owner-id placement-group-arn start-date state tenancy",
        pages=(1, 1000),
    ),
    "DescribeCarrierGateways": Kind(
        "CarrierGateways",
        Absent("carrier_gateway_ids", "InvalidCarrierGatewayID.NotFound", "The carrierGateway ID '{id}' does not exist"),
        "carrier-gateway-id owner-id state vpc-id",
    ),
    "DescribeClientVpnEndpoints": Kind(
        "ClientVpnEndpoints",
        Absent("client_vpn_endpoint_ids", "InvalidClientVpnEndpointId.NotFound", "Endpoint {id} does not exist"),
        "endpoint-id transport-protocol",
    ),
    "DescribeConversionTasks": Kind(
        "ConversionTasks",
        Absent("conversion_task_ids", "InvalidConversionTaskId", "The conversion task ID '{id}' does not exist"),
        pages=None,
    ),
    "DescribeCustomerGateways": Kind(
        "CustomerGateways",
        Absent("customer_gateway_ids", "InvalidCustomerGatewayID.NotFound", "The customerGateway ID '{id}' does not exist"),
        "bgp-asn customer-gateway-id ip-address state type",
        pages=None,
    ),
    "DescribeExportTasks": Kind(
        "ExportTasks",
        Absent("export_task_ids", "InvalidExportTaskID.NotFound", "The export task ID '{id}' does not exist"),
        pages=None,
    ),
    "DescribeFastSnapshotRestores": Kind(
        "FastSnapshotRestores",
        None,
        "availability-zone availability-zone-id owner-id snapshot-id state",
        pages=(0, 200),
    ),
    "DescribeFleets": Kind(
        "Fleets",
        Absent("fleet_ids", "InvalidFleetId.NotFound", "The fleet ID '{id}' does not exist"),
        "activity-status excess-capacity-termination-policy fleet-state replace-unhealthy-instances type",
        pages=(1, 1000),
    ),
    "DescribeFlowLogs": Kind(
        "FlowLogs",
        Absent("flow_log_ids", "InvalidFlowLogId.NotFound", "The flow log ID '{id}' does not exist"),
        "deliver-log-status flow-log-id log-destination-type log-group-name resource-id traffic-type",
        pages=(1, 1000),
        filtered_by="filter",
    ),
    # Alto's own hosts are the operator's, and not an account's: `alto host list`.
    "DescribeHosts": Kind(
        "Hosts",
        Absent("host_ids", "InvalidHostID.NotFound", "The host ID '{id}' does not exist"),
        "auto-placement availability-zone client-token host-reservation-id instance-type state",
        pages=(5, 500),
        filtered_by="filter",
        ids_alone="hostIdSet",
    ),
    "DescribeImportImageTasks": Kind(
        "ImportImageTasks",
        Absent("import_task_ids", "InvalidConversionTaskId", "The import task ID '{id}' does not exist"),
        "task-state",
        pages=(1, 1000),
    ),
    "DescribeImportSnapshotTasks": Kind(
        "ImportSnapshotTasks",
        Absent("import_task_ids", "InvalidConversionTaskId", "The import task ID '{id}' does not exist"),
        "task-state",
        pages=(1, 1000),
    ),
    "DescribeInstanceConnectEndpoints": Kind(
        "InstanceConnectEndpoints",
        Absent(
            "instance_connect_endpoint_ids",
            "InvalidInstanceConnectEndpointId.NotFound",
            "The EC2 Instance Connect Endpoint ID '{id}' does not exist",
        ),
        "instance-connect-endpoint-id state subnet-id vpc-id",
        pages=(1, 50),
    ),
    "DescribeReservedInstances": Kind(
        "ReservedInstances",
        Absent("reserved_instances_ids", "InvalidReservedInstancesId", "The Reserved Instance ID '{id}' does not exist"),
        "availability-zone availability-zone-id duration end fixed-price instance-type product-description "
        "reserved-instances-id scope start state usage-price",
        pages=None,
        others=_RESERVED_CHOICE,
    ),
    "DescribeReservedInstancesOfferings": Kind(
        "ReservedInstancesOfferings",
        Absent(
            "reserved_instances_offering_ids",
            "InvalidReservedInstancesOfferingId",
            "The Reserved Instances Offering ID '{id}' does not exist",
        ),
        "availability-zone availability-zone-id duration fixed-price instance-type marketplace product-description "
        "reserved-instances-offering-id scope usage-price",
        others={
            **_RESERVED_CHOICE,
            "availability_zone": str,
            "availability_zone_id": str,
            "include_marketplace": bool,
            "instance_type": str,
            "max_duration": int,
            "max_instance_count": int,
            "min_duration": int,
            "product_description": str,
            "instance_tenancy": str,
        },
    ),
    "DescribeSpotFleetRequests": Kind(
        "SpotFleetRequestConfigs",
        Absent(
            "spot_fleet_request_ids", "InvalidSpotFleetRequestId.NotFound", "The spot fleet request ID '{id}' does not exist"
        ),
        pages=(1, 1000),
    ),
    "DescribeSpotInstanceRequests": _SPOT_REQUESTS,
    "DescribeSpotPriceHistory": Kind(
        "SpotPriceHistory",
        None,
        "availability-zone availability-zone-id instance-type product-description spot-price timestamp",
        pages=(1, 1000),
        others={
            "availability_zone": str,
            "availability_zone_id": str,
            "start_time": float,
            "end_time": float,
            "instance_types": tuple[str, ...],
            "product_descriptions": tuple[str, ...],
        },
    ),
    "DescribeTransitGatewayAttachments": Kind(
        "TransitGatewayAttachments",
        _TRANSIT_ATTACHMENT,
        "association.state association.transit-gateway-route-table-id resource-id resource-owner-id resource-type state "
        "transit-gateway-attachment-id transit-gateway-id transit-gateway-owner-id",
    ),
    "DescribeTransitGatewayConnects": Kind(
        "TransitGatewayConnects",
        _TRANSIT_ATTACHMENT,
        "options.protocol state transit-gateway-attachment-id transit-gateway-id transport-transit-gateway-attachment-id",
    ),
    "DescribeTransitGatewayPeeringAttachments": Kind(
        "TransitGatewayPeeringAttachments",
        _TRANSIT_ATTACHMENT,
        "local-owner-id remote-owner-id state transit-gateway-attachment-id transit-gateway-id",
    ),
    "DescribeTransitGatewayRouteTables": Kind(
        "TransitGatewayRouteTables",
        Absent(
            "transit_gateway_route_table_ids",
            "InvalidRouteTableID.NotFound",
            "Transit Gateway Route Table {id} was deleted or does not exist.",
        ),
        "default-association-route-table default-propagation-route-table state transit-gateway-id "
        "transit-gateway-route-table-id",
    ),
    "DescribeTransitGatewayVpcAttachments": Kind(
        "TransitGatewayVpcAttachments",
        _TRANSIT_ATTACHMENT,
        "state transit-gateway-attachment-id transit-gateway-id vpc-id",
    ),
    "DescribeTransitGateways": Kind(
        "TransitGateways",
        Absent(
            "transit_gateway_ids", "InvalidTransitGatewayID.NotFound", "Transit Gateway {id} was deleted or does not exist."
        ),
        "options.amazon-side-asn options.association-default-route-table-id options.auto-accept-shared-attachments "
        "options.default-route-table-association options.default-route-table-propagation options.dns-support "
        "options.propagation-default-route-table-id options.vpn-ecmp-support owner-id state transit-gateway-id",
    ),
    "DescribeVpcBlockPublicAccessExclusions": Kind(
        "VpcBlockPublicAccessExclusions",
        Absent(
            "exclusion_ids",
            "InvalidVpcBlockPublicAccessExclusionId.NotFound",
            "The VPC Block Public Access exclusion ID '{id}' does not exist",
        ),
        "internet-gateway-exclusion-mode resource-arn state",
    ),
    "DescribeVpcEndpointConnections": Kind(
        "VpcEndpointConnections",
        None,
        "ip-address-type service-id transit-gateway-attachment-id vpc-endpoint-id vpc-endpoint-owner vpc-endpoint-region "
        "vpc-endpoint-state",
        pages=(1, 1000),
    ),
    "DescribeVpcEndpointServiceConfigurations": Kind(
        "ServiceConfigurations",
        Absent("service_ids", "InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '{id}' does not exist"),
        "service-id service-name service-state supported-ip-address-types",
        pages=(1, 1000),
    ),
    "DescribeVpnConnections": Kind(
        "VpnConnections",
        Absent("vpn_connection_ids", "InvalidVpnConnectionID.NotFound", "The vpnConnection ID '{id}' does not exist"),
        "bgp-asn customer-gateway-configuration customer-gateway-id option.static-routes-only route.destination-cidr-block "
        "state transit-gateway-id type vpn-connection-id vpn-gateway-id",
        pages=None,
    ),
    "DescribeVpnGateways": Kind(
        "VpnGateways",
        Absent("vpn_gateway_ids", "InvalidVpnGatewayID.NotFound", "The vpnGateway ID '{id}' does not exist"),
        "amazon-side-asn attachment.state attachment.vpc-id availability-zone state type vpn-gateway-id",
        pages=None,
    ),
}

OPERATIONS: Mapping[str, Operation] = {
    operation: Operation(request_of(operation, kind), partial(describe_none, kind)) for operation, kind in KINDS.items()
}
