"""Goal: what Amazon has and Alto has none of is told to be absent, and asking for it is refused in AWS's words. Method: whole
calls through the gateway."""

from typing import Any

import pytest

from alto.api.ec2.absent_kinds import KINDS, Kind
from tests.api.cloud import MODEL, Tenant


def parameter(operation: str, field: str) -> str:
    """As boto3 spells it."""
    return next(name for name in MODEL.operation_model(operation).input_shape.members if name.lower() == field.replace("_", ""))


@pytest.mark.parametrize(("operation", "kind"), KINDS.items(), ids=KINDS)
def test_there_is_none(tenant: Tenant, operation: str, kind: Kind) -> None:
    tagged = {parameter(operation, kind.filtered_by): [{"Name": "tag:a", "Values": ["b"]}]} if kind.filters else {}
    for asked in ({}, {"MaxResults": 20} if kind.pages else {}, tagged):
        assert tenant(operation, **asked) == {kind.listed: []}
    if kind.filters:
        unknown = {parameter(operation, kind.filtered_by): [{"Name": "colour", "Values": ["red"]}]}
        assert tenant.refused(operation, **unknown) == "InvalidParameterValue"
    if kind.pages:
        assert tenant.refused(operation, NextToken="x") == "InvalidParameterValue"


def test_what_would_choose_among_none_is_known(tenant: Tenant) -> None:
    assert tenant("DescribeReservedInstances", OfferingClass="standard") == {"ReservedInstances": []}
    assert tenant("DescribeSpotPriceHistory", InstanceTypes=["t3.micro"]) == {"SpotPriceHistory": []}


def test_nothing_blocks_the_internet_gateways_of_vpcs(tenant: Tenant) -> None:
    options = tenant("DescribeVpcBlockPublicAccessOptions")["VpcBlockPublicAccessOptions"]
    assert (options["InternetGatewayBlockMode"], options["AwsAccountId"]) == ("off", tenant.account.id)


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("DescribeBundleTasks", {"BundleIds": ["bun-1"]}, "InvalidBundleID.NotFound"),
        ("DescribeCapacityReservations", {"CapacityReservationIds": ["cr-1"]}, "InvalidCapacityReservationId.NotFound"),
        ("DescribeCarrierGateways", {"CarrierGatewayIds": ["cagw-1"]}, "InvalidCarrierGatewayID.NotFound"),
        ("DescribeClientVpnEndpoints", {"ClientVpnEndpointIds": ["cvpn-1"]}, "InvalidClientVpnEndpointId.NotFound"),
        ("DescribeCustomerGateways", {"CustomerGatewayIds": ["cgw-1"]}, "InvalidCustomerGatewayID.NotFound"),
        ("DescribeFlowLogs", {"FlowLogIds": ["fl-1"]}, "InvalidFlowLogId.NotFound"),
        ("DescribeHosts", {"HostIds": ["h-1"]}, "InvalidHostID.NotFound"),
        ("DescribeHosts", {"HostIds": ["h-1"], "MaxResults": 5}, "InvalidParameterCombination"),
        ("DescribeReservedInstances", {"ReservedInstancesIds": ["r-1"]}, "InvalidReservedInstancesId"),
        ("DescribeSpotInstanceRequests", {"SpotInstanceRequestIds": ["sir-1"]}, "InvalidSpotInstanceRequestID.NotFound"),
        ("DescribeTransitGateways", {"TransitGatewayIds": ["tgw-1"], "MaxResults": 5}, "InvalidTransitGatewayID.NotFound"),
        (
            "DescribeTransitGatewayVpcAttachments",
            {"TransitGatewayAttachmentIds": ["tgw-attach-1"]},
            "InvalidTransitGatewayAttachmentID.NotFound",
        ),
        ("DescribeVpnConnections", {"VpnConnectionIds": ["vpn-1"]}, "InvalidVpnConnectionID.NotFound"),
        ("DescribeVpnGateways", {"VpnGatewayIds": ["vgw-1"]}, "InvalidVpnGatewayID.NotFound"),
        ("CancelSpotInstanceRequests", {"SpotInstanceRequestIds": ["sir-1"]}, "InvalidSpotInstanceRequestID.NotFound"),
        (
            "RequestSpotInstances",
            {"LaunchSpecification": {"ImageId": "ami-1"}, "InstanceCount": 1},
            "MaxSpotInstanceCountExceeded",
        ),
        ("DescribeSpotPriceHistory", {"NextToken": "x"}, "InvalidParameterValue"),
    ],
)
def test_what_is_not_there_is_not_found(tenant: Tenant, operation: str, parameters: dict[str, Any], code: str) -> None:
    assert tenant.refused(operation, **parameters) == code
