"""Goal: what Amazon sells and Alto has not is told to be absent, and asking for it is refused in AWS's words. Method: whole
calls through the gateway."""

from typing import Any

import pytest

from tests.api.cloud import Tenant


@pytest.mark.parametrize(
    ("operation", "member", "more"),
    [
        ("DescribeCapacityReservations", "CapacityReservations", {"MaxResults": 10}),
        ("DescribeHosts", "Hosts", {"Filter": [{"Name": "state", "Values": ["available"]}]}),
        ("DescribeReservedInstances", "ReservedInstances", {"OfferingClass": "standard"}),
        ("DescribeReservedInstancesOfferings", "ReservedInstancesOfferings", {"InstanceType": "t3.micro"}),
        ("DescribeSpotInstanceRequests", "SpotInstanceRequests", {"MaxResults": 5}),
        ("DescribeSpotPriceHistory", "SpotPriceHistory", {"InstanceTypes": ["t3.micro"]}),
    ],
)
def test_there_is_none(tenant: Tenant, operation: str, member: str, more: dict[str, Any]) -> None:
    answer = tenant(operation, **more)
    assert answer.get(member, []) == []
    assert "NextToken" not in answer
    if "Filter" not in more:
        assert tenant.refused(operation, Filters=[{"Name": "colour", "Values": ["red"]}]) == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("DescribeCapacityReservations", {"CapacityReservationIds": ["cr-1"]}, "InvalidCapacityReservationId.NotFound"),
        ("DescribeHosts", {"HostIds": ["h-1"]}, "InvalidHostID.NotFound"),
        ("DescribeReservedInstances", {"ReservedInstancesIds": ["r-1"]}, "InvalidReservedInstancesId"),
        ("DescribeSpotInstanceRequests", {"SpotInstanceRequestIds": ["sir-1"]}, "InvalidSpotInstanceRequestID.NotFound"),
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
