"""Goal: further ranges come and go as "VPC CIDR blocks" says, and routes with them. Method: whole operations over a store
in memory."""

from typing import Any

import pytest

from alto.control.keeper import TERMINATED_SHOWN_S, Keeper
from alto.plan.vpcs import FORMER_MAX
from tests.api.cloud import Cloud, Tenant
from tests.clocks import CountedClock


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
    assert tenant.refused("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"]) == "InvalidCidrBlock.InUse"
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
    assert tenant.refused("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"]) == "InvalidCidrBlock.InUse"
    tenant("DisassociateSubnetCidrBlock", AssociationId=given["AssociationId"])
    (former,) = tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["Ipv6CidrBlockAssociationSet"]
    assert former == {**association, "Ipv6CidrBlockState": {"State": "disassociated"}}
    tenant("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"])
    assert local_routes(tenant, vpc) == ["10.10.0.0/24"]


def states(associations: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (each["Ipv6CidrBlock"], each["Ipv6CidrBlockState"]["State"])
        if "Ipv6CidrBlock" in each
        else (each["CidrBlock"], each["CidrBlockState"]["State"])
        for each in associations
    ]


def test_former_ranges_are_listed_for_an_hour_and_are_free(cloud: Cloud, tenant: Tenant, vpc: str) -> None:
    """Ansible's ec2_vpc_subnet waits until a filter finds "disassociated"; Terraform takes either for gone."""
    second = tenant("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="10.10.1.0/24")["CidrBlockAssociation"]["AssociationId"]
    wide = tenant("AssociateVpcCidrBlock", VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    one, other = (wide["Ipv6CidrBlock"].replace("00::/56", f"0{number}::/64") for number in (1, 2))
    made = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.10.0.0/28", Ipv6CidrBlock=one)["Subnet"]
    subnet = made["SubnetId"]
    tenant("DisassociateSubnetCidrBlock", AssociationId=made["Ipv6CidrBlockAssociationSet"][0]["AssociationId"])

    def found(operation: str, kind: str, state: str) -> list[dict[str, Any]]:
        given = [{"Name": f"{kind}-association.state", "Values": [state]}, {"Name": "vpc-id", "Values": [vpc]}]
        listed: list[dict[str, Any]] = tenant(operation, Filters=given)["Subnets" if "Subnet" in operation else "Vpcs"]
        return listed

    assert [each["SubnetId"] for each in found("DescribeSubnets", "ipv6-cidr-block", "disassociated")] == [subnet]
    assert found("DescribeSubnets", "ipv6-cidr-block", "associated") == []
    tenant("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=other)
    (shown,) = found("DescribeSubnets", "ipv6-cidr-block", "associated")
    assert states(shown["Ipv6CidrBlockAssociationSet"]) == [(other, "associated"), (one, "disassociated")]
    tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.10.0.16/28", Ipv6CidrBlock=one)

    assert found("DescribeVpcs", "cidr-block", "disassociated") == []
    tenant("DisassociateVpcCidrBlock", AssociationId=second)
    tenant("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="10.10.1.0/24")
    (shown,) = found("DescribeVpcs", "cidr-block", "disassociated")
    listed = [("10.10.0.0/24", "associated"), ("10.10.1.0/24", "associated"), ("10.10.1.0/24", "disassociated")]
    assert states(shown["CidrBlockAssociationSet"]) == listed
    assert states(shown["Ipv6CidrBlockAssociationSet"]) == [(wide["Ipv6CidrBlock"], "associated")]

    assert isinstance(cloud.clock, CountedClock)
    keeper = Keeper(cloud.store, cloud.clock)
    cloud.runner.run(keeper.reconcile())
    assert len(found("DescribeVpcs", "cidr-block", "disassociated")) == 1
    cloud.clock.seconds += TERMINATED_SHOWN_S + 1
    cloud.runner.run(keeper.reconcile())
    cloud.clock.seconds -= TERMINATED_SHOWN_S + 1
    assert found("DescribeVpcs", "cidr-block", "disassociated") == []
    assert found("DescribeSubnets", "ipv6-cidr-block", "disassociated") == []
    assert len(found("DescribeSubnets", "ipv6-cidr-block", "associated")) == 2


def test_a_row_stays_small_whoever_changes_a_range_over_and_over(tenant: Tenant, vpc: str) -> None:
    for _ in range(FORMER_MAX + 1):
        made = tenant("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="10.10.1.0/24")["CidrBlockAssociation"]
        tenant("DisassociateVpcCidrBlock", AssociationId=made["AssociationId"])
    shown = tenant("DescribeVpcs", VpcIds=[vpc])["Vpcs"][0]["CidrBlockAssociationSet"]
    assert len(shown) == 1 + FORMER_MAX
    assert shown[1]["AssociationId"] == made["AssociationId"]


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
