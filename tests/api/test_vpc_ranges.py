"""Goal: further ranges come and go as "VPC CIDR blocks" says, and routes with them. Method: whole operations over a store
in memory."""

import pytest

from tests.api.cloud import Tenant


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("CreateVpc", CidrBlock="10.10.0.0/24")["Vpc"]["VpcId"]
    return id


def local_routes(tenant: Tenant, vpc: str) -> list[str]:
    (table,) = tenant("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    return sorted(
        route.get("DestinationCidrBlock") or route["DestinationIpv6CidrBlock"]
        for route in table["Routes"]
        if route["GatewayId"] == "local"
    )


def test_a_second_range(tenant: Tenant, vpc: str) -> None:
    made = tenant("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="10.10.1.0/24")["CidrBlockAssociation"]
    assert made["CidrBlockState"] == {"State": "associating"}
    (found,) = tenant("DescribeVpcs", VpcIds=[vpc])["Vpcs"]
    assert found["CidrBlock"] == "10.10.0.0/24"
    assert [each["CidrBlock"] for each in found["CidrBlockAssociationSet"]] == ["10.10.0.0/24", "10.10.1.0/24"]
    assert local_routes(tenant, vpc) == ["10.10.0.0/24", "10.10.1.0/24"]
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.10.1.0/28")["Subnet"]["SubnetId"]
    assert tenant.refused("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"]) == "DependencyViolation"
    tenant("DeleteSubnet", SubnetId=subnet)
    gone = tenant("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"])["CidrBlockAssociation"]
    assert gone["CidrBlockState"] == {"State": "disassociating"}
    assert local_routes(tenant, vpc) == ["10.10.0.0/24"]
    again = tenant.refused("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"])
    assert again == "InvalidVpcCidrBlockAssociationID.NotFound"


def test_limits(tenant: Tenant, vpc: str) -> None:
    for number in range(1, 5):
        tenant("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock=f"10.10.{number}.0/24")
    assert tenant.refused("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="10.10.9.0/24") == "CidrLimitExceeded"
    primary = tenant("DescribeVpcs", VpcIds=[vpc])["Vpcs"][0]["CidrBlockAssociationSet"][0]["AssociationId"]
    assert tenant.refused("DisassociateVpcCidrBlock", AssociationId=primary) == "OperationNotPermitted"


def test_ipv6(tenant: Tenant, vpc: str) -> None:
    made = tenant("AssociateVpcCidrBlock", VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    cidr = made["Ipv6CidrBlock"]
    assert cidr.endswith("00::/56")
    assert cidr in local_routes(tenant, vpc)
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.10.0.0/28")["Subnet"]["SubnetId"]
    narrow = cidr.replace("00::/56", "05::/64")
    given = tenant("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=narrow)["Ipv6CidrBlockAssociation"]
    (found,) = tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"]
    (association,) = found["Ipv6CidrBlockAssociationSet"]
    assert association["Ipv6CidrBlock"] == narrow
    assert association["Ipv6CidrBlockState"] == {"State": "associated"}
    assert tenant.refused("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"]) == "DependencyViolation"
    tenant("DisassociateSubnetCidrBlock", AssociationId=given["AssociationId"])
    assert tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["Ipv6CidrBlockAssociationSet"] == []
    tenant("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"])
    assert local_routes(tenant, vpc) == ["10.10.0.0/24"]


def test_a_vpc_made_with_ipv6(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    (association,) = vpc["Ipv6CidrBlockAssociationSet"]
    cidr = association["Ipv6CidrBlock"].replace("/56", "/64")
    subnet = tenant("CreateSubnet", VpcId=vpc["VpcId"], CidrBlock="10.0.0.0/24", Ipv6CidrBlock=cidr)["Subnet"]
    (given,) = subnet["Ipv6CidrBlockAssociationSet"]
    assert (given["Ipv6CidrBlock"], given["Ipv6CidrBlockState"]) == (cidr, {"State": "associating"})
    (seen,) = tenant("DescribeSubnets", SubnetIds=[subnet["SubnetId"]])["Subnets"][0]["Ipv6CidrBlockAssociationSet"]
    assert seen == {**given, "Ipv6CidrBlockState": {"State": "associated"}}
    clash = tenant.refused("CreateSubnet", VpcId=vpc["VpcId"], CidrBlock="10.0.1.0/24", Ipv6CidrBlock=cidr)
    assert clash == "InvalidSubnet.Conflict"
