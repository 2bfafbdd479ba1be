"""Goal: subnets are made, changed and deleted as the API reference says. Method: whole operations over a store in memory."""

import pytest

from tests.api.cloud import Answered, Tenant


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return id


def test_a_new_subnet(tenant: Tenant, vpc: str) -> None:
    made = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1b")["Subnet"]
    (found,) = tenant("DescribeSubnets", SubnetIds=[made["SubnetId"]])["Subnets"]
    assert found == made
    assert made["AvailabilityZone"] == "us-east-1b"
    assert made["AvailabilityZoneId"] == "use1-az2"
    assert made["AvailableIpAddressCount"] == 251  # 256 less the five that EC2 keeps
    assert made["MapPublicIpOnLaunch"] is False
    assert made["DefaultForAz"] is False
    assert made["BlockPublicAccessStates"] == {"InternetGatewayBlockMode": "off"}
    assert made["SubnetArn"] == f"arn:aws:ec2:us-east-1:{tenant.account.id}:subnet/{made['SubnetId']}"
    by_id = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.2.0/24", AvailabilityZoneId="use1-az3")["Subnet"]
    assert by_id["AvailabilityZone"] == "us-east-1c"


def test_refused_ranges(tenant: Tenant, vpc: str) -> None:
    tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")

    def refusal(cidr: str) -> tuple[str, str]:
        with pytest.raises(Answered) as refused:
            tenant("CreateSubnet", VpcId=vpc, CidrBlock=cidr)
        return refused.value.code, refused.value.message

    # Sentences as EC2 says them.
    assert refusal("10.1.0.0/20") == ("InvalidSubnet.Range", "The CIDR '10.1.0.0/20' is invalid.")
    assert refusal("10.0.1.0/28") == ("InvalidSubnet.Conflict", "The CIDR '10.0.1.0/28' conflicts with another subnet")
    code, message = refusal("1000.0.0.0/24")
    assert (code, message) == (
        "InvalidParameterValue",
        "Value (1000.0.0.0/24) for parameter cidrBlock is invalid. This is not a valid CIDR block.",
    )
    for name in ("vpc-id", "vpcId"):
        assert len(tenant("DescribeSubnets", Filters=[{"Name": name, "Values": [vpc]}])["Subnets"]) == 1
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]
    other = tenant.refusal("CreateSubnet", VpcId=vpc, CidrBlock="10.0.9.0/24", TagSpecifications=tags)
    assert other == "InvalidParameter: 'vpc' is not a valid taggable resource type for this operation."


def test_a_zone_that_is_not_there(tenant: Tenant, vpc: str) -> None:
    with pytest.raises(Answered, match="following availability zones: us-east-1a, us-east-1b, us-east-1c"):
        tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="asfasfas")
    assert tenant.refused("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZoneId="use1-az9") == (
        "InvalidParameterValue"
    )


def test_attributes_change_one_at_a_time(tenant: Tenant, vpc: str) -> None:
    id = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    tenant("ModifySubnetAttribute", SubnetId=id, MapPublicIpOnLaunch={"Value": True})
    assert tenant("DescribeSubnets", SubnetIds=[id])["Subnets"][0]["MapPublicIpOnLaunch"] is True
    tenant("ModifySubnetAttribute", SubnetId=id, MapPublicIpOnLaunch={"Value": False})
    assert tenant("DescribeSubnets", SubnetIds=[id])["Subnets"][0]["MapPublicIpOnLaunch"] is False
    # Without an IPv6 range there is no address to assign.
    tenant("ModifySubnetAttribute", SubnetId=id, EnableDns64={"Value": False})  # what it is
    assert tenant.refused("ModifySubnetAttribute", SubnetId=id, EnableDns64={"Value": True}) == "UnsupportedOperation"
    refused = tenant.refused("ModifySubnetAttribute", SubnetId=id, AssignIpv6AddressOnCreation={"Value": True})
    assert refused == "InvalidParameterValue"


def test_deleting(tenant: Tenant, vpc: str) -> None:
    id = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    table = tenant("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    tenant("AssociateRouteTable", RouteTableId=table, SubnetId=id)
    tenant("DeleteSubnet", SubnetId=id)
    assert tenant.refused("DeleteSubnet", SubnetId=id) == "InvalidSubnetID.NotFound"
    assert tenant("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]["Associations"] == []
    tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")  # its range is free again


def test_a_default_subnet_is_made_again(tenant: Tenant) -> None:
    (old,) = tenant("DescribeSubnets", Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])["Subnets"]
    refused = tenant.refused("CreateDefaultSubnet", AvailabilityZone="us-east-1b")
    assert refused == "DefaultSubnetAlreadyExistsInAvailabilityZone"
    tenant("DeleteSubnet", SubnetId=old["SubnetId"])
    new = tenant("CreateDefaultSubnet", AvailabilityZone="us-east-1b")["Subnet"]
    assert {**new, "SubnetId": "", "SubnetArn": ""} == {**old, "SubnetId": "", "SubnetArn": ""}
