"""Goal: a gateway endpoint is where its routes say it is, and is not believed to lead anywhere. Method: whole operations over a
store in memory; codes and sentences are those that clients of EC2 were seen to get."""

from typing import Any

import pytest

from tests.api.cloud import Tenant

EC2, STS, S3, DYNAMODB = (f"com.amazonaws.us-east-1.{name}" for name in ("ec2", "sts", "s3", "dynamodb"))


def default_vpc(tenant: Tenant) -> str:
    return str(tenant("DescribeVpcs")["Vpcs"][0]["VpcId"])


def tables(tenant: Tenant) -> list[str]:
    return sorted(one["RouteTableId"] for one in tenant("DescribeRouteTables")["RouteTables"])


def list_of(tenant: Tenant, service: str) -> str:
    (found,) = tenant("DescribePrefixLists", Filters=[{"Name": "prefix-list-name", "Values": [service]}])["PrefixLists"]
    assert found == {"PrefixListId": found["PrefixListId"], "PrefixListName": service, "Cidrs": []}
    return str(found["PrefixListId"])


def made(tenant: Tenant, **more: Any) -> dict[str, Any]:
    answer = tenant("CreateVpcEndpoint", **({"VpcId": default_vpc(tenant), "ServiceName": S3} | more))
    return dict(answer["VpcEndpoint"])


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeVpcEndpoints", VpcEndpointIds=[id])["VpcEndpoints"]
    return dict(found)


def endpoint_routes(tenant: Tenant, table: str) -> list[tuple[str, str, str]]:
    (found,) = tenant("DescribeRouteTables", RouteTableIds=[table])["RouteTables"]
    return [
        (route["DestinationPrefixListId"], route["GatewayId"], route["State"])
        for route in found["Routes"]
        if "DestinationPrefixListId" in route
    ]


def test_what_a_new_one_is(tenant: Tenant) -> None:
    table = tables(tenant)[0]
    one = made(
        tenant,
        RouteTableIds=[table],
        VpcEndpointType="Gateway",
        TagSpecifications=[{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    id = one["VpcEndpointId"]
    assert id.startswith("vpce-")
    assert one.pop("CreationTimestamp") is not None
    assert one.pop("PolicyDocument").startswith('{"Version":"2008-10-17"')
    assert one == {
        "VpcEndpointId": id,
        "VpcEndpointType": "Gateway",
        "VpcId": default_vpc(tenant),
        "ServiceName": S3,
        "ServiceRegion": "us-east-1",
        "State": "available",
        "RouteTableIds": [table],
        "SubnetIds": [],
        "Groups": [],
        "IpAddressType": "ipv4",
        "PrivateDnsEnabled": False,
        "RequesterManaged": False,
        "NetworkInterfaceIds": [],
        "DnsEntries": [],
        "Tags": [{"Key": "a", "Value": "b"}],
        "OwnerId": tenant.account.id,
    }
    assert shown(tenant, id)["RouteTableIds"] == [table]
    assert endpoint_routes(tenant, table) == [(list_of(tenant, S3), id, "active")]
    by_gateway = [{"Name": "route.gateway-id", "Values": [id]}]
    assert [one["RouteTableId"] for one in tenant("DescribeRouteTables", Filters=by_gateway)["RouteTables"]] == [table]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("service-name", S3, True),
        ("service-name", DYNAMODB, False),
        ("vpc-endpoint-type", "Gateway", True),
        ("vpc-endpoint-state", "available", True),
        ("vpc-endpoint-state", "pending", False),
        ("tag:a", "b", True),
        ("tag:a", "c", False),
    ],
)
def test_filters(tenant: Tenant, name: str, value: str, found: bool) -> None:
    made(tenant, TagSpecifications=[{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "a", "Value": "b"}]}])
    answer = tenant("DescribeVpcEndpoints", Filters=[{"Name": name, "Values": [value]}])["VpcEndpoints"]
    assert bool(answer) is found


def test_it_enters_and_leaves_route_tables(tenant: Tenant) -> None:
    vpc = default_vpc(tenant)
    first = tables(tenant)[0]
    second = tenant("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    id = made(tenant, RouteTableIds=[first])["VpcEndpointId"]
    assert tenant("ModifyVpcEndpoint", VpcEndpointId=id, AddRouteTableIds=[second], RemoveRouteTableIds=[first]) == {
        "Return": True
    }
    assert shown(tenant, id)["RouteTableIds"] == [second]
    assert (endpoint_routes(tenant, first), len(endpoint_routes(tenant, second))) == ([], 1)
    # The route is the endpoint's: nobody else takes it out, replaces it, or makes another.
    its = {"RouteTableId": second, "DestinationPrefixListId": list_of(tenant, S3)}
    assert "cannot remove VPC endpoint route" in tenant.refusal("DeleteRoute", **its)
    gateway = tenant("DescribeInternetGateways")["InternetGateways"][0]["InternetGatewayId"]
    assert "cannot replace VPC endpoint route" in tenant.refusal("ReplaceRoute", **its, GatewayId=gateway)
    assert tenant.refused("CreateRoute", **its | {"RouteTableId": first}, GatewayId=gateway) == "InvalidParameterValue"
    refusal = tenant.refusal("CreateVpcEndpoint", VpcId=vpc, ServiceName=S3, RouteTableIds=[second])
    assert refusal == (
        f"RouteAlreadyExists: route table {second} already has a route with "
        f"destination-prefix-list-id {its['DestinationPrefixListId']}"
    )
    assert len(tenant("DescribeVpcEndpoints")["VpcEndpoints"]) == 1  # nothing half made
    tenant("DeleteRouteTable", RouteTableId=second)
    assert shown(tenant, id)["RouteTableIds"] == []


def test_its_policy(tenant: Tenant) -> None:
    id = made(tenant, PolicyDocument='{"Statement": []}')["VpcEndpointId"]
    assert shown(tenant, id)["PolicyDocument"] == '{"Statement": []}'
    for text in ("{", "[]", "x" * 30_000):
        assert tenant.refused("ModifyVpcEndpoint", VpcEndpointId=id, PolicyDocument=text) == "InvalidPolicyDocument"
    tenant("ModifyVpcEndpoint", VpcEndpointId=id, PolicyDocument="{}")
    assert shown(tenant, id)["PolicyDocument"] == "{}"
    tenant("ModifyVpcEndpoint", VpcEndpointId=id, ResetPolicy=True)
    assert '"Effect":"Allow"' in shown(tenant, id)["PolicyDocument"]


def test_deletion(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    of_it = [{"Name": "vpc-id", "Values": [vpc]}]
    table = tenant("DescribeRouteTables", Filters=of_it)["RouteTables"][0]["RouteTableId"]
    id = made(tenant, VpcId=vpc, RouteTableIds=[table])["VpcEndpointId"]
    assert tenant.refused("DeleteVpc", VpcId=vpc) == "DependencyViolation"
    absent = "vpce-00000000000000000"
    assert tenant("DeleteVpcEndpoints", VpcEndpointIds=[id, absent])["Unsuccessful"] == [
        {
            "ResourceId": absent,
            "Error": {
                "Code": "InvalidVpcEndpoint.NotFound",
                "Message": f"The Vpc Endpoint Id '{absent}' does not exist",
            },
        }
    ]
    assert endpoint_routes(tenant, table) == []
    assert tenant.refused("DescribeVpcEndpoints", VpcEndpointIds=[id]) == "InvalidVpcEndpointId.NotFound"
    assert tenant.refused("DeleteVpcEndpoints", VpcEndpointIds=["vpce"]) == "InvalidVpcEndpointId.Malformed"
    tenant("DeleteVpc", VpcId=vpc)


def test_what_cannot_be_made(tenant: Tenant) -> None:
    vpc = default_vpc(tenant)
    other = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    far = tenant("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [other]}])["RouteTables"][0]["RouteTableId"]
    for wish, code in (
        ({"ServiceName": "com.amazonaws.us-east-1.sqs"}, "InvalidServiceName"),
        ({"ServiceName": EC2}, "InvalidParameter"),
        ({"ServiceName": S3, "VpcEndpointType": "Interface"}, "InvalidParameter"),
        ({"ServiceName": S3, "ServiceRegion": "eu-central-1"}, "UnsupportedOperation"),
        ({"ServiceName": S3, "ServiceRegion": "mars-1"}, "InvalidParameter"),
        ({"ServiceName": S3, "PrivateDnsEnabled": True}, "InvalidParameter"),
        ({"ServiceName": S3, "RouteTableIds": [far]}, "InvalidParameter"),
        ({"ServiceName": S3, "RouteTableIds": ["rtb-00000000000000000"]}, "InvalidRouteTableId.NotFound"),
        ({"ServiceName": S3, "RouteTableIds": ["rtb-"]}, "InvalidRouteTableId.Malformed"),
        ({"ServiceName": S3, "VpcId": "vpc-00000000000000000"}, "InvalidVpcID.NotFound"),
    ):
        assert tenant.refused("CreateVpcEndpoint", **{"VpcId": vpc, **wish}) == code
    assert tenant("DescribeVpcEndpoints") == {"VpcEndpoints": []}


def test_asking_again_with_the_token_makes_no_second_one(tenant: Tenant) -> None:
    wish = {"VpcId": default_vpc(tenant), "ServiceName": S3, "ServiceRegion": "us-east-1", "ClientToken": "once"}
    first, second = (tenant("CreateVpcEndpoint", **wish) for _ in range(2))
    assert first == second
    assert first["ClientToken"] == "once"
    changed = wish | {"ServiceName": DYNAMODB}
    assert tenant.refused("CreateVpcEndpoint", **changed) == "IdempotentParameterMismatch"


def test_the_services(tenant: Tenant) -> None:
    answer = tenant("DescribeVpcEndpointServices")
    assert answer["ServiceNames"] == [DYNAMODB, EC2, S3, STS]
    (s3,) = tenant("DescribeVpcEndpointServices", ServiceNames=[S3])["ServiceDetails"]
    assert (s3["ServiceName"], s3["ServiceType"], s3["Owner"]) == (S3, [{"ServiceType": "Gateway"}], "amazon")
    assert (s3["AvailabilityZones"][0], s3["AvailabilityZoneIds"][0]) == ("us-east-1a", "use1-az1")
    by_type = [{"Name": "service-type", "Values": ["Interface"]}]
    interfaces = tenant("DescribeVpcEndpointServices", Filters=by_type)
    assert interfaces["ServiceNames"] == [EC2, STS]
    assert [one["PrivateDnsName"] for one in interfaces["ServiceDetails"]] == [
        "ec2.us-east-1.amazonaws.com",
        "sts.us-east-1.amazonaws.com",
    ]
    assert all(one["ServiceType"] == [{"ServiceType": "Interface"}] for one in interfaces["ServiceDetails"])
    by_type[0]["Values"] = ["GatewayLoadBalancer"]
    assert tenant("DescribeVpcEndpointServices", Filters=by_type) == {"ServiceNames": [], "ServiceDetails": []}
    assert tenant("DescribeVpcEndpointServices", ServiceRegions=["us-east-1"]) == answer
    assert tenant.refused("DescribeVpcEndpointServices", ServiceRegions=["eu-central-1"]) == "UnsupportedOperation"
    assert tenant.refused("DescribeVpcEndpointServices", ServiceNames=[S3, "nope"]) == "InvalidServiceName"
    # EC2 names no least page here.
    first = tenant("DescribeVpcEndpointServices", MaxResults=1)
    rest = tenant("DescribeVpcEndpointServices", MaxResults=3, NextToken=first["NextToken"])
    assert first["ServiceNames"] + rest["ServiceNames"] == [DYNAMODB, EC2, S3, STS]
    assert "NextToken" not in rest


def test_a_page_of_more_than_a_thousand_is_a_page_of_a_thousand(tenant: Tenant) -> None:
    for operation in ("DescribeVpcEndpoints", "DescribeVpcEndpointServices"):
        assert tenant(operation, MaxResults=5000) == tenant(operation)
        assert tenant.refused(operation, MaxResults=0) == "InvalidParameterValue"


def test_a_rule_may_name_a_services_list(tenant: Tenant) -> None:
    group = tenant("DescribeSecurityGroups")["SecurityGroups"][0]["GroupId"]
    id = list_of(tenant, S3)
    rule = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": id}]}
    tenant("AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[rule])
    (amazons, *_) = tenant("DescribeManagedPrefixLists", Filters=[{"Name": "owner-id", "Values": ["AWS"]}])["PrefixLists"]
    assert "MaxEntries" not in amazons
    assert tenant("GetManagedPrefixListEntries", PrefixListId=id)["Entries"] == []
    assert tenant.refused("DeleteManagedPrefixList", PrefixListId=id) == "InvalidPrefixListID.NotFound"
