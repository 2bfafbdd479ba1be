"""Goal: each account begins in each region with the default VPC that Amazon's documentation describes, and sees no other.
Method: whole operations over a store in memory; numbers from "Default VPCs" in the VPC user guide."""

from alto.api.accounts import RegionKeeper, draw_region, ensure_region
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
        "us-east-1d": "172.31.48.0/20",
        "us-east-1e": "172.31.64.0/20",
        "us-east-1f": "172.31.80.0/20",
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
    assert len(by_count) == 6


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
    assert tenant.refused("DescribeVpcs", VpcIds=["nonsense"]) == "InvalidVpcID.NotFound"
    assert tenant.refused("DescribeSubnets", SubnetIds=["subnet-00000000"]) == "InvalidSubnetID.NotFound"
    assert tenant.refused("DescribeSubnets", SubnetIds=["subnet-xyz"]) == "InvalidSubnetID.NotFound"
    known = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    assert tenant.refused("DescribeSubnets", SubnetIds=[known], MaxResults=5) == "InvalidParameterCombination"


def test_regions_have_networks_of_their_own(tenant: Tenant) -> None:
    here, there = tenant("DescribeVpcs")["Vpcs"][0], tenant.in_region("eu-central-1")("DescribeVpcs")["Vpcs"][0]
    assert here["VpcId"] != there["VpcId"]
    assert tenant.refused("DescribeVpcs", VpcIds=[there["VpcId"]]) == "InvalidVpcID.NotFound"


def test_a_region_begins_once(cloud: Cloud, tenant: Tenant) -> None:
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1
    ids = draw_region(cloud.world.chance, ("us-east-1a",))
    for _ in range(2):
        cloud.runner.run(
            cloud.store.write(
                lambda tx: ensure_region(tx, ids, tenant.account.id, "us-east-1", ("us-east-1a",), "127.64.0.0/16")
            )
        )
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1
    assert len(tenant("DescribeSubnets")["Subnets"]) == 6


def test_new_keys_look_like_amazons(tenant: Tenant, stranger: Tenant) -> None:
    assert len(tenant.account.id) == 12
    assert tenant.account.id.isdigit()
    assert tenant.account.id != stranger.account.id
    assert tenant.key.id.startswith("AKIA")
    assert len(tenant.key.id) == 20
    assert len(tenant.key.secret) == 40
    assert tenant.key.secret.isalnum()


def test_the_default_vpc_reaches_the_internet(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    (gateway,) = tenant("DescribeInternetGateways")["InternetGateways"]
    (table,) = tenant("DescribeRouteTables")["RouteTables"]
    assert gateway["Attachments"] == [{"VpcId": vpc["VpcId"], "State": "available"}]
    assert {route["DestinationCidrBlock"]: route["GatewayId"] for route in table["Routes"]} == {
        "172.31.0.0/16": "local",
        "0.0.0.0/0": gateway["InternetGatewayId"],
    }
    assert vpc["DhcpOptionsId"].startswith("dopt-")


def test_a_new_vpc(tenant: Tenant) -> None:
    made = tenant("CreateVpc", CidrBlock="10.0.0.5/16")["Vpc"]
    assert made["State"] == "pending"
    (vpc,) = tenant("DescribeVpcs", VpcIds=[made["VpcId"]])["Vpcs"]
    assert vpc == {**made, "State": "available"}
    assert (vpc["CidrBlock"], vpc["IsDefault"], vpc["InstanceTenancy"]) == ("10.0.0.0/16", False, "default")
    assert vpc["BlockPublicAccessStates"] == {"InternetGatewayBlockMode": "off"}
    # "VPC attributes": names are resolved in each VPC, and given in the default one only.
    assert attribute(tenant, vpc["VpcId"], "enableDnsSupport") is True
    assert attribute(tenant, vpc["VpcId"], "enableDnsHostnames") is False
    assert attribute(tenant, vpc["VpcId"], "enableNetworkAddressUsageMetrics") is False
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    (group,) = tenant("DescribeSecurityGroups", Filters=inside)["SecurityGroups"]
    assert (group["GroupName"], group["Description"]) == ("default", "default VPC security group")
    assert tenant("DescribeSubnets", Filters=inside)["Subnets"] == []
    assert len(tenant("DescribeRouteTables", Filters=inside)["RouteTables"]) == 1


def attribute(tenant: Tenant, vpc: str, name: str) -> bool:
    member = name[0].upper() + name[1:]
    value: bool = tenant("DescribeVpcAttribute", VpcId=vpc, Attribute=name)[member]["Value"]
    return value


def test_attributes_change_one_at_a_time(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    for name in ("enableDnsHostnames", "enableNetworkAddressUsageMetrics", "enableDnsSupport"):
        value = not attribute(tenant, vpc, name)
        tenant("ModifyVpcAttribute", VpcId=vpc, **{name[0].upper() + name[1:]: {"Value": value}})
        assert attribute(tenant, vpc, name) is value
    both = {"EnableDnsSupport": {"Value": True}, "EnableDnsHostnames": {"Value": True}}
    assert tenant.refused("ModifyVpcAttribute", VpcId=vpc, **both) == "InvalidParameterCombination"


def test_refused_ranges(tenant: Tenant) -> None:
    assert tenant.refusal("CreateVpc", CidrBlock="10.0.0.0/29") == "InvalidVpc.Range: The CIDR '10.0.0.0/29' is invalid."
    malformed = "Value (1000.1.0.0/20) for parameter cidrBlock is invalid. This is not a valid CIDR block."
    assert tenant.refusal("CreateVpc", CidrBlock="1000.1.0.0/20") == f"InvalidParameterValue: {malformed}"
    assert tenant.refused("CreateVpc") == "MissingParameter"
    assert len(tenant("DescribeVpcs")["Vpcs"]) == 1


def test_a_vpc_in_use_stays(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    words = f"DependencyViolation: The vpc '{vpc}' has dependencies and cannot be deleted."
    assert tenant.refusal("DeleteVpc", VpcId=vpc) == words
    tenant("DeleteSubnet", SubnetId=subnet)
    for create, member, delete in (
        ("CreateRouteTable", "RouteTable", "DeleteRouteTable"),
        ("CreateEgressOnlyInternetGateway", "EgressOnlyInternetGateway", "DeleteEgressOnlyInternetGateway"),
    ):
        made = tenant(create, VpcId=vpc)[member]
        assert tenant.refusal("DeleteVpc", VpcId=vpc) == words
        tenant(delete, **{member + "Id": made[member + "Id"]})
    group = tenant("CreateSecurityGroup", VpcId=vpc, GroupName="g", Description="d")["GroupId"]
    assert tenant.refused("DeleteVpc", VpcId=vpc) == "DependencyViolation"
    tenant("DeleteSecurityGroup", GroupId=group)
    tenant("DeleteVpc", VpcId=vpc)
    assert tenant.refused("DeleteVpc", VpcId=vpc) == "InvalidVpcID.NotFound"
    assert tenant("DescribeRouteTables", Filters=inside)["RouteTables"] == []
    assert tenant("DescribeSecurityGroups", Filters=inside)["SecurityGroups"] == []


def test_a_deleted_default_vpc_stays_away_until_it_is_asked_for(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    assert tenant.refused("CreateDefaultVpc") == "DefaultVpcAlreadyExists"
    for subnet in tenant("DescribeSubnets")["Subnets"]:
        tenant("DeleteSubnet", SubnetId=subnet["SubnetId"])
    (gateway,) = tenant("DescribeInternetGateways")["InternetGateways"]
    tenant("DetachInternetGateway", InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc["VpcId"])
    tenant("DeleteVpc", VpcId=vpc["VpcId"])
    # As at a restart: a keeper that remembers nothing sees the account's next call.
    anew = RegionKeeper()
    tenant.cloud.runner.run(anew.ready(tenant.cloud.gateway.call(account=tenant.account.id, region=tenant.region)))
    assert tenant("DescribeVpcs")["Vpcs"] == []
    assert tenant.refused("CreateDefaultSubnet", AvailabilityZone="us-east-1a") == "DefaultVpcDoesNotExist"
    made = tenant("CreateDefaultVpc")["Vpc"]
    assert (made["CidrBlock"], made["IsDefault"]) == ("172.31.0.0/16", True)
    assert made["DhcpOptionsId"] == vpc["DhcpOptionsId"]
    assert len(tenant("DescribeSubnets")["Subnets"]) == 6


def test_tenancy(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16", InstanceTenancy="dedicated")["Vpc"]
    assert vpc["InstanceTenancy"] == "dedicated"
    assert tenant.refused("CreateVpc", CidrBlock="10.0.0.0/16", InstanceTenancy="host") == "InvalidParameterValue"
    refusal = tenant.refusal("ModifyVpcTenancy", VpcId=vpc["VpcId"], InstanceTenancy="dedicated")
    assert refusal == "UnsupportedTenancy: The tenancy value dedicated is not supported."
    assert tenant("ModifyVpcTenancy", VpcId=vpc["VpcId"], InstanceTenancy="default")["ReturnValue"] is True
    assert tenant("DescribeVpcs", VpcIds=[vpc["VpcId"]])["Vpcs"][0]["InstanceTenancy"] == "default"


def test_nothing_is_linked_to_classic(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    (link,) = tenant("DescribeVpcClassicLink")["Vpcs"]
    assert (link["VpcId"], link["ClassicLinkEnabled"]) == (vpc["VpcId"], False)
    (dns,) = tenant("DescribeVpcClassicLinkDnsSupport")["Vpcs"]
    assert (dns["VpcId"], dns["ClassicLinkDnsSupported"]) == (vpc["VpcId"], False)
