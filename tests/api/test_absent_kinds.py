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
    if kind.absent is not None:
        assert tenant.refused(operation, **{parameter(operation, kind.absent.ids): ["x-1"]}) == kind.absent.code


def test_what_would_choose_among_none_is_known(tenant: Tenant) -> None:
    assert tenant("DescribeReservedInstances", OfferingClass="standard") == {"ReservedInstances": []}
    assert tenant("DescribeSpotPriceHistory", InstanceTypes=["t3.micro"]) == {"SpotPriceHistory": []}


def test_nothing_blocks_the_internet_gateways_of_vpcs(tenant: Tenant) -> None:
    options = tenant("DescribeVpcBlockPublicAccessOptions")["VpcBlockPublicAccessOptions"]
    assert (options["InternetGatewayBlockMode"], options["AwsAccountId"]) == ("off", tenant.account.id)


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
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
