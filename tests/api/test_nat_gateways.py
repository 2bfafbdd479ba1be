"""Goal: NAT gateways behave as the VPC user guide says: an address and an interface of their own, which nobody else touches.
Method: whole operations over a store in memory; after each test the product's own audit looks at all rows."""

from collections.abc import Iterator
from typing import Any

import pytest

from alto.control.keeper import TERMINATED_SHOWN_S, Keeper
from tests.api.cloud import Cloud, StandingClock, Tenant
from tests.api.rows import sound


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    yield
    assert sound(cloud) == []


@pytest.fixture
def subnet(tenant: Tenant) -> str:
    vpc = tenant("CreateVpc", CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
    id: str = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.6.0.0/24")["Subnet"]["SubnetId"]
    return id


def made(tenant: Tenant, subnet: str, **more: Any) -> dict[str, Any]:
    return dict(tenant("CreateNatGateway", SubnetId=subnet, **more)["NatGateway"])


def test_what_a_gateway_would_not_do_is_refused_when_it_is_asked_for(tenant: Tenant, subnet: str) -> None:
    first, second = (tenant("AllocateAddress", Domain="vpc")["AllocationId"] for _ in range(2))
    for more in (
        {"SecondaryAllocationIds": [second]},
        {"SecondaryPrivateIpAddresses": ["10.6.0.9"]},
        {"SecondaryPrivateIpAddressCount": 1},
        {"AvailabilityMode": "regional"},
    ):
        refused = tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId=first, **more)
        assert refused == "UnsupportedOperation", more
    assert listed(tenant) == []


def listed(tenant: Tenant, **how: Any) -> list[dict[str, Any]]:
    return list(tenant("DescribeNatGateways", **how)["NatGateways"])


def test_a_public_one_has_an_elastic_address_and_an_interface_that_is_its_own(tenant: Tenant, subnet: str) -> None:
    elastic = tenant("AllocateAddress", Domain="vpc")
    tags = [{"ResourceType": "natgateway", "Tags": [{"Key": "Name", "Value": "out"}]}]
    gateway = made(tenant, subnet, AllocationId=elastic["AllocationId"], TagSpecifications=tags)
    assert (gateway["State"], gateway["ConnectivityType"], gateway["SubnetId"]) == ("available", "public", subnet)
    assert gateway["Tags"] == [{"Key": "Name", "Value": "out"}]
    (address,) = gateway["NatGatewayAddresses"]
    assert (address["PublicIp"], address["AllocationId"]) == (elastic["PublicIp"], elastic["AllocationId"])
    assert address["PrivateIp"].startswith("10.6.0.")
    (interface,) = tenant("DescribeNetworkInterfaces", NetworkInterfaceIds=[address["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert (interface["InterfaceType"], interface["Status"], interface["RequesterManaged"]) == ("nat_gateway", "in-use", True)
    assert interface["PrivateIpAddress"] == address["PrivateIp"]
    assert interface["Association"]["PublicIp"] == elastic["PublicIp"]
    assert interface["SourceDestCheck"] is False
    led = tenant("DescribeAddresses")["Addresses"][0]
    assert (led["NetworkInterfaceId"], led["AssociationId"]) == (address["NetworkInterfaceId"], address["AssociationId"])
    # Whoever wants one of these has to ask the gateway.
    own = {"NetworkInterfaceId": address["NetworkInterfaceId"]}
    assert tenant.refused("DeleteNetworkInterface", **own) == "OperationNotPermitted"
    assert tenant.refused("ModifyNetworkInterfaceAttribute", **own, SourceDestCheck={"Value": True}) == "OperationNotPermitted"
    assert tenant.refused("AssignPrivateIpAddresses", **own, SecondaryPrivateIpAddressCount=1) == "OperationNotPermitted"
    assert tenant.refused("DisassociateAddress", AssociationId=led["AssociationId"]) == "OperationNotPermitted"
    assert tenant.refused("ReleaseAddress", AllocationId=elastic["AllocationId"]) == "InvalidIPAddress.InUse"
    refused = tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId=elastic["AllocationId"])
    assert refused == "Resource.AlreadyAssociated"
    assert tenant.refused("DeleteSubnet", SubnetId=subnet) == "DependencyViolation"


def test_a_private_one_has_no_public_address(tenant: Tenant, subnet: str) -> None:
    gateway = made(tenant, subnet, ConnectivityType="private", PrivateIpAddress="10.6.0.77")
    assert gateway["ConnectivityType"] == "private"
    (address,) = gateway["NatGatewayAddresses"]
    assert address["PrivateIp"] == "10.6.0.77"
    assert "PublicIp" not in address
    elastic = tenant("AllocateAddress")["AllocationId"]
    both = {"SubnetId": subnet, "ConnectivityType": "private", "AllocationId": elastic}
    assert tenant.refused("CreateNatGateway", **both) == "InvalidParameterCombination"
    assert tenant.refused("CreateNatGateway", SubnetId=subnet) == "MissingParameter"
    assert tenant.refused("CreateNatGateway", SubnetId=subnet, ConnectivityType="other") == "InvalidParameterValue"
    assert tenant.refused("CreateNatGateway", SubnetId="subnet-00000000", AllocationId=elastic) == "InvalidSubnetID.NotFound"
    assert tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId="eipalloc-00000000") == (
        "InvalidAllocationID.NotFound"
    )
    taken = {"SubnetId": subnet, "ConnectivityType": "private", "PrivateIpAddress": "10.6.0.77"}
    assert tenant.refused("CreateNatGateway", **taken) == "InvalidIPAddress.InUse"


def test_a_token_makes_one_and_filters_find_it(tenant: Tenant, subnet: str) -> None:
    first, again = (made(tenant, subnet, ConnectivityType="private", ClientToken="t-1") for _ in range(2))
    assert first["NatGatewayId"] == again["NatGatewayId"]
    other = made(tenant, subnet, ConnectivityType="private")
    tenant("CreateTags", Resources=[other["NatGatewayId"]], Tags=[{"Key": "stage", "Value": "test"}])
    for name, value, count in (
        ("nat-gateway-id", first["NatGatewayId"], 1),
        ("state", "available", 2),
        ("subnet-id", subnet, 2),
        ("vpc-id", first["VpcId"], 2),
        ("tag:stage", "te*", 1),
        ("tag-key", "stage", 1),
    ):
        assert len(listed(tenant, Filter=[{"Name": name, "Values": [value]}])) == count, name
    assert tenant.refused("DescribeNatGateways", Filter=[{"Name": "bogus", "Values": ["x"]}]) == "InvalidParameterValue"
    assert tenant.refused("DescribeNatGateways", NatGatewayIds=["nat-00000000"]) == "NatGatewayNotFound"
    assert tenant.refused("DescribeNatGateways", NatGatewayIds=["x"]) == "NatGatewayMalformed"


def test_a_deleted_one_gives_all_back_and_is_shown_for_an_hour(cloud: Cloud, tenant: Tenant, subnet: str) -> None:
    elastic = tenant("AllocateAddress")["AllocationId"]
    gateway = made(tenant, subnet, AllocationId=elastic)
    id = gateway["NatGatewayId"]
    assert tenant("DeleteNatGateway", NatGatewayId=id) == {"NatGatewayId": id}
    tenant("DeleteNatGateway", NatGatewayId=id)
    (shown,) = listed(tenant)
    assert (shown["State"], shown["NatGatewayId"]) == ("deleted", id)
    assert shown["DeleteTime"] >= shown["CreateTime"]
    assert tenant("DescribeNetworkInterfaces")["NetworkInterfaces"] == []
    tenant("ReleaseAddress", AllocationId=elastic)
    tenant("DeleteSubnet", SubnetId=subnet)
    assert tenant.refused("DeleteNatGateway", NatGatewayId="nat-00000000") == "NatGatewayNotFound"
    assert isinstance(cloud.clock, StandingClock)
    keeper = Keeper(cloud.store, cloud.clock)
    cloud.runner.run(keeper.reconcile())
    assert len(listed(tenant)) == 1
    cloud.clock.seconds += TERMINATED_SHOWN_S + 1
    cloud.runner.run(keeper.reconcile())
    cloud.clock.seconds -= TERMINATED_SHOWN_S + 1
    assert listed(tenant) == []
