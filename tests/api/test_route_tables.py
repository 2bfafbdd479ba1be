"""Goal: route tables and their routes behave as the API reference and "Configure route tables" say. Method: whole operations
over a store in memory."""

from typing import Any

import pytest

from alto.model.instances import Phase
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_launches import ONE, says


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return id


def table_of(tenant: Tenant, vpc: str) -> str:
    id: str = tenant("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    return id


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (table,) = tenant("DescribeRouteTables", RouteTableIds=[id])["RouteTables"]
    return dict(table)


def main_of(tenant: Tenant, vpc: str) -> dict[str, Any]:
    wanted = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    (table,) = tenant("DescribeRouteTables", Filters=wanted)["RouteTables"]
    return dict(table)


def gateway_of(tenant: Tenant, vpc: str) -> str:
    id: str = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    tenant("AttachInternetGateway", InternetGatewayId=id, VpcId=vpc)
    return id


def test_a_vpc_has_a_main_table_with_its_local_route(tenant: Tenant, vpc: str) -> None:
    main = main_of(tenant, vpc)
    assert main["Routes"] == [
        {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "Origin": "CreateRouteTable", "State": "active"}
    ]
    (association,) = main["Associations"]
    assert association["Main"] is True
    assert "SubnetId" not in association
    assert tenant.refused("DeleteRouteTable", RouteTableId=main["RouteTableId"]) == "DependencyViolation"
    gone = tenant.refused("DisassociateRouteTable", AssociationId=association["RouteTableAssociationId"])
    assert gone == "InvalidParameterValue"


def test_a_route_to_the_internet(tenant: Tenant, vpc: str) -> None:
    table, gateway = table_of(tenant, vpc), gateway_of(tenant, vpc)
    to = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    assert tenant("CreateRoute", **to, GatewayId=gateway) == {"Return": True}
    assert shown(tenant, table)["Routes"][1:] == [
        {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway, "Origin": "CreateRoute", "State": "active"}
    ]
    again = tenant.refusal("CreateRoute", **to, GatewayId=gateway)
    assert again == "RouteAlreadyExists: The route identified by 0.0.0.0/0 already exists."
    # A detached gateway leaves a black hole, which the way back mends.
    tenant("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    assert [each["State"] for each in shown(tenant, table)["Routes"]] == ["active", "blackhole"]
    holes = tenant("DescribeRouteTables", Filters=[{"Name": "route.state", "Values": ["blackhole"]}])["RouteTables"]
    assert [each["RouteTableId"] for each in holes] == [table]
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    assert [each["State"] for each in shown(tenant, table)["Routes"]] == ["active", "active"]
    tenant("DeleteRoute", **to)
    gone = tenant.refusal("DeleteRoute", **to)
    assert gone == f"InvalidRoute.NotFound: no route with destination-cidr-block 0.0.0.0/0 in route table {table}"


def test_what_a_route_may_not_be(tenant: Tenant, vpc: str) -> None:
    table, gateway = table_of(tenant, vpc), gateway_of(tenant, vpc)
    elsewhere = gateway_of(tenant, tenant("CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"])

    def refusal(operation: str, **parameters: Any) -> str:
        return tenant.refused(operation, RouteTableId=table, **parameters)

    assert refusal("CreateRoute", DestinationCidrBlock="1016.1.1.1/16", GatewayId=gateway) == "InvalidParameterValue"
    assert refusal("CreateRoute", DestinationCidrBlock="0.0.0.0/0", GatewayId=elsewhere) == "InvalidParameterValue"
    private = refusal("CreateRoute", DestinationCidrBlock="0.0.0.0/0", GatewayId="vgw-00000000000000000")
    assert private == "InvalidVpnGatewayID.NotFound"
    for id in ("igw-00000000000000000", "nat-00000000000000000", "nothing"):
        to = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": id}
        refused = tenant.refusal("CreateRoute", **to)
        assert refused == f"InvalidGatewayID.NotFound: The gateway ID '{id}' does not exist"
    # As clients know it that try again until a new NAT gateway is there.
    absent = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-00000000000000000"}
    refused = tenant.refusal("CreateRoute", **absent)
    assert refused == "InvalidNatGatewayID.NotFound: The natGateway ID 'nat-00000000000000000' does not exist"
    assert refusal("CreateRoute", DestinationCidrBlock="0.0.0.0/0") == "MissingParameter"
    assert refusal("CreateRoute", GatewayId=gateway) == "MissingParameter"
    # Within the VPC itself packets go to an interface at most.
    assert refusal("CreateRoute", DestinationCidrBlock="10.0.1.0/24", GatewayId=gateway) == "InvalidParameterValue"
    assert refusal("CreateRoute", DestinationCidrBlock="10.0.0.0/16", GatewayId=gateway) == "RouteAlreadyExists"
    assert refusal("ReplaceRoute", DestinationCidrBlock="8.0.0.0/8", GatewayId=gateway) == "InvalidParameterValue"
    assert refusal("DeleteRoute", DestinationCidrBlock="10.0.0.0/16") == "InvalidParameterValue"
    # Where the cloud itself answers: exactly there and within, but not all around it.
    for destination in ("169.254.168.0/22", "169.254.169.254/32"):
        assert refusal("CreateRoute", DestinationCidrBlock=destination, GatewayId=gateway) == "InvalidParameterValue"
    assert refusal("CreateRoute", DestinationIpv6CidrBlock="fd00:ec2::/48", GatewayId=gateway) == "InvalidParameterValue"
    tenant("CreateRoute", RouteTableId=table, DestinationCidrBlock="169.254.0.0/16", GatewayId=gateway)
    tenant("DeleteRoute", RouteTableId=table, DestinationCidrBlock="169.254.0.0/16")
    v6 = {"DestinationIpv6CidrBlock": "::/0", "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}
    assert refusal("CreateRoute", **v6) == "InvalidParameterCombination"
    assert len(shown(tenant, table)["Routes"]) == 1


def test_a_gateway_takes_the_family_that_it_carries(tenant: Tenant, vpc: str) -> None:
    """Written as a range, or by a prefix list of that family."""
    table, subnet = table_of(tenant, vpc), tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    nat = tenant("CreateNatGateway", SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    only_out = tenant("CreateEgressOnlyInternetGateway", VpcId=vpc)["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
    lists = {
        family: tenant("CreateManagedPrefixList", PrefixListName="l", AddressFamily=family, MaxEntries=1)["PrefixList"]
        for family in ("IPv4", "IPv6")
    }
    v4 = ({"DestinationCidrBlock": "0.0.0.0/0"}, {"DestinationPrefixListId": lists["IPv4"]["PrefixListId"]})
    v6 = ({"DestinationIpv6CidrBlock": "::/0"}, {"DestinationPrefixListId": lists["IPv6"]["PrefixListId"]})
    for right, wrong, target in (
        (v4, v6, {"NatGatewayId": nat}),
        (v6, v4, {"EgressOnlyInternetGatewayId": only_out}),
    ):
        for destination in wrong:
            assert tenant.refused("CreateRoute", RouteTableId=table, **destination, **target) == "InvalidParameterValue"
        for destination in right:
            tenant("CreateRoute", RouteTableId=table, **destination, **target)
    assert {"DestinationIpv6CidrBlock": "::/0", "EgressOnlyInternetGatewayId": only_out}.items() <= shown(tenant, table)[
        "Routes"
    ][3].items()


def test_a_route_is_replaced_and_goes_through_an_interface(cloud: Cloud, tenant: Tenant, vpc: str) -> None:
    table, gateway = table_of(tenant, vpc), gateway_of(tenant, vpc)
    cloud.put(host(1), tiny())
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    (instance,) = tenant("RunInstances", **ONE, SubnetId=subnet)["Instances"]
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    tenant("CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    tenant("ReplaceRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NetworkInterfaceId=interface)
    (route,) = shown(tenant, table)["Routes"][1:]
    assert route == {
        "DestinationCidrBlock": "0.0.0.0/0",
        "NetworkInterfaceId": interface,
        "InstanceId": instance["InstanceId"],
        "InstanceOwnerId": tenant.account.id,
        "Origin": "CreateRoute",
        "State": "active",
    }


def test_a_route_inside_the_vpc_is_of_a_whole_subnet_and_goes_through_an_interface(tenant: Tenant, vpc: str) -> None:
    """ "Subnet route tables" in the VPC user guide: middleboxes."""
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    interface = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    through = {"RouteTableId": table_of(tenant, vpc), "NetworkInterfaceId": interface}
    for other in ("10.0.1.0/25", "10.0.1.9/32", "10.0.2.0/24", "10.0.0.0/17"):
        refusal = tenant.refusal("CreateRoute", **through, DestinationCidrBlock=other)
        assert refusal == "InvalidParameterValue: Route destination doesn't match any subnet CIDR blocks."
    tenant("CreateRoute", **through, DestinationCidrBlock="10.0.1.0/24")
    to_world = {"RouteTableId": through["RouteTableId"], "GatewayId": gateway_of(tenant, vpc)}
    assert tenant.refused("ReplaceRoute", **to_world, DestinationCidrBlock="10.0.1.0/24") == "InvalidParameterValue"
    tenant("ReplaceRoute", **through, DestinationCidrBlock="10.0.1.0/24")


def test_a_route_to_a_stopped_instance_is_a_black_hole(cloud: Cloud, tenant: Tenant, vpc: str) -> None:
    cloud.put(host(1), tiny())
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    (instance,) = tenant("RunInstances", **ONE, SubnetId=subnet)["Instances"]
    table, id = table_of(tenant, vpc), instance["InstanceId"]
    tenant("CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", InstanceId=id)

    def state() -> str:
        (route,) = shown(tenant, table)["Routes"][1:]
        assert route["InstanceId"] == id
        return str(route["State"])

    says(cloud, id, Phase.RUNNING)
    assert state() == "active"
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    assert state() == "blackhole"
    tenant("StartInstances", InstanceIds=[id])
    assert state() == "active"


def test_associations(tenant: Tenant, vpc: str) -> None:
    one, other = table_of(tenant, vpc), table_of(tenant, vpc)
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    made = tenant("AssociateRouteTable", RouteTableId=one, SubnetId=subnet)
    assert made["AssociationState"] == {"State": "associated"}
    again = tenant("AssociateRouteTable", RouteTableId=one, SubnetId=subnet)
    assert again["AssociationId"] == made["AssociationId"]
    assert tenant.refused("AssociateRouteTable", RouteTableId=other, SubnetId=subnet) == "Resource.AlreadyAssociated"
    assert tenant.refused("DeleteRouteTable", RouteTableId=one) == "DependencyViolation"
    moved = tenant("ReplaceRouteTableAssociation", AssociationId=made["AssociationId"], RouteTableId=other)
    assert shown(tenant, one)["Associations"] == []
    (association,) = shown(tenant, other)["Associations"]
    assert association["RouteTableAssociationId"] == moved["NewAssociationId"] != made["AssociationId"]
    assert (association["SubnetId"], association["Main"]) == (subnet, False)
    found = tenant("DescribeRouteTables", Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"]
    assert [each["RouteTableId"] for each in found] == [other]
    tenant("DisassociateRouteTable", AssociationId=moved["NewAssociationId"])
    assert tenant.refused("DisassociateRouteTable", AssociationId=moved["NewAssociationId"]) == "InvalidAssociationID.NotFound"
    tenant("DeleteRouteTable", RouteTableId=one)
    assert tenant.refused("DeleteRouteTable", RouteTableId=one) == "InvalidRouteTableID.NotFound"


def test_another_table_becomes_the_main_one(tenant: Tenant, vpc: str) -> None:
    old, new = main_of(tenant, vpc), table_of(tenant, vpc)
    association = old["Associations"][0]["RouteTableAssociationId"]
    tenant("ReplaceRouteTableAssociation", AssociationId=association, RouteTableId=new)
    assert main_of(tenant, vpc)["RouteTableId"] == new
    tenant("DeleteRouteTable", RouteTableId=old["RouteTableId"])


def test_tables_and_subnets_of_two_vpcs_do_not_mix(tenant: Tenant, vpc: str) -> None:
    other = tenant("CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = tenant("CreateSubnet", VpcId=other, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    assert tenant.refused("AssociateRouteTable", RouteTableId=table_of(tenant, vpc), SubnetId=subnet) == "InvalidParameterValue"


def test_a_token_makes_one_table(tenant: Tenant, vpc: str) -> None:
    once = tenant("CreateRouteTable", VpcId=vpc, ClientToken="t")["RouteTable"]
    twice = tenant("CreateRouteTable", VpcId=vpc, ClientToken="t")["RouteTable"]
    assert once == twice
    tags = [{"ResourceType": "route-table", "Tags": [{"Key": "a", "Value": "1"}]}]
    other = tenant.refused("CreateRouteTable", VpcId=vpc, ClientToken="t", TagSpecifications=tags)
    assert other == "IdempotentParameterMismatch"
