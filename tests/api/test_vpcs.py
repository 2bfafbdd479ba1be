"""Goal: each account begins in each region with the default VPC that Amazon's documentation describes, and sees no other.
Method: whole operations over a store in memory; numbers from "Default VPCs" in the VPC user guide."""

from alto.api.accounts import draw_region, ensure_region
from tests.api.cloud import Cloud, Tenant


def test_the_default_vpc(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    assert vpc["CidrBlock"] == "172.31.0.0/16"
    assert vpc["IsDefault"] is True
    assert vpc["State"] == "available"
    assert vpc["OwnerId"] == tenant.account.id
    assert vpc["CidrBlockAssociationSet"][0]["CidrBlockState"] == {"State": "associated"}


def test_a_default_subnet_of_slash_20_in_each_zone(tenant: Tenant) -> None:
    subnets = tenant("DescribeSubnets")["Subnets"]
    assert {subnet["AvailabilityZone"]: subnet["CidrBlock"] for subnet in subnets} == {
        "us-east-1a": "172.31.0.0/20",
        "us-east-1b": "172.31.16.0/20",
        "us-east-1c": "172.31.32.0/20",
    }
    for subnet in subnets:
        assert subnet["DefaultForAz"] is True
        assert subnet["MapPublicIpOnLaunch"] is True
        assert subnet["AvailableIpAddressCount"] == 4091  # 4096 less the five that EC2 keeps


def test_terraforms_spelling_of_filters_is_known(tenant: Tenant) -> None:
    vpcs = tenant("DescribeVpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    assert len(vpcs) == 1
    chosen = tenant(
        "DescribeSubnets",
        Filters=[
            {"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]},
            {"Name": "availabilityZone", "Values": ["us-east-1b"]},
            {"Name": "defaultForAz", "Values": ["true"]},
        ],
    )["Subnets"]
    assert [subnet["CidrBlock"] for subnet in chosen] == ["172.31.16.0/20"]
    by_count = tenant("DescribeSubnets", Filters=[{"Name": "available-ip-address-count", "Values": ["4091"]}])["Subnets"]
    assert len(by_count) == 3


def test_vpc_attributes_that_terraform_reads(tenant: Tenant) -> None:
    vpc = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    for attribute, member, value in (
        ("enableDnsSupport", "EnableDnsSupport", True),
        ("enableDnsHostnames", "EnableDnsHostnames", True),
        ("enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics", False),
    ):
        assert tenant("DescribeVpcAttribute", VpcId=vpc, Attribute=attribute)[member] == {"Value": value}
    assert tenant.refused("DescribeVpcAttribute", VpcId=vpc, Attribute="x") == "InvalidParameterValue"


def test_errors_by_id(tenant: Tenant) -> None:
    assert tenant.refused("DescribeVpcs", VpcIds=["vpc-00000000000000000"]) == "InvalidVpcID.NotFound"
    assert tenant.refused("DescribeVpcs", VpcIds=["nonsense"]) == "InvalidVpcID.Malformed"
    assert tenant.refused("DescribeSubnets", SubnetIds=["subnet-00000000"]) == "InvalidSubnetID.NotFound"
    assert tenant.refused("DescribeSubnets", SubnetIds=["subnet-xyz"]) == "InvalidSubnetID.Malformed"
    known = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    assert tenant.refused("DescribeSubnets", SubnetIds=[known], MaxResults=5) == "InvalidParameterCombination"


def test_regions_have_networks_of_their_own(tenant: Tenant) -> None:
    here, there = tenant("DescribeVpcs")["Vpcs"][0], tenant.in_region("eu-central-1")("DescribeVpcs")["Vpcs"][0]
    assert here["VpcId"] != there["VpcId"]
    assert tenant.refused("DescribeVpcs", VpcIds=[there["VpcId"]]) == "InvalidVpcID.NotFound"


def test_a_region_begins_once(cloud: Cloud, tenant: Tenant) -> None:
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1
    ids = draw_region(cloud.world.chance)
    for _ in range(2):
        cloud.runner.run(
            cloud.store.write(
                lambda tx: ensure_region(tx, ids, tenant.account.id, "us-east-1", ("us-east-1a",), "127.64.0.0/16")
            )
        )
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1
    assert len(tenant("DescribeSubnets")["Subnets"]) == 3


def test_new_keys_look_like_amazons(tenant: Tenant, stranger: Tenant) -> None:
    assert len(tenant.account.id) == 12
    assert tenant.account.id.isdigit()
    assert tenant.account.id != stranger.account.id
    assert tenant.key.id.startswith("AKIA")
    assert len(tenant.key.id) == 20
    assert len(tenant.key.secret) == 40
    assert tenant.key.secret.isalnum()
