"""Goal: internet gateways are attached and detached as the API reference says. Method: whole operations over a store in
memory."""

import pytest
from msgspec.structs import replace

from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import interface_in


@pytest.fixture
def vpc(tenant: Tenant) -> str:
    id: str = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return id


@pytest.fixture
def gateway(tenant: Tenant) -> str:
    id: str = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    return id


def test_the_life_of_a_gateway(tenant: Tenant, vpc: str, gateway: str) -> None:
    def found() -> dict[str, object]:
        (each,) = tenant("DescribeInternetGateways", InternetGatewayIds=[gateway])["InternetGateways"]
        return dict(each)

    assert found()["Attachments"] == []
    assert found()["OwnerId"] == tenant.account.id
    with pytest.raises(Answered, match=f"Gateway.NotAttached: resource {gateway} is not attached to network {vpc}"):
        tenant("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    assert found()["Attachments"] == [{"VpcId": vpc, "State": "available"}]
    assert tenant.refused("DeleteInternetGateway", InternetGatewayId=gateway) == "DependencyViolation"
    assert tenant.refused("DeleteVpc", VpcId=vpc) == "DependencyViolation"
    tenant("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    tenant("DeleteInternetGateway", InternetGatewayId=gateway)
    assert tenant.refused("DeleteInternetGateway", InternetGatewayId=gateway) == "InvalidInternetGatewayID.NotFound"


def test_one_vpc_one_gateway(tenant: Tenant, vpc: str, gateway: str) -> None:
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    other_vpc = tenant("CreateVpc", CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    twice = tenant.refused("AttachInternetGateway", InternetGatewayId=gateway, VpcId=other_vpc)
    assert twice == "Resource.AlreadyAssociated"
    second = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    with pytest.raises(Answered, match=f"Network {vpc} already has an internet gateway attached"):
        tenant("AttachInternetGateway", InternetGatewayId=second, VpcId=vpc)


def test_what_is_no_vpcs_id_is_malformed(tenant: Tenant, gateway: str) -> None:
    assert tenant.refusal("AttachInternetGateway", InternetGatewayId=gateway, VpcId="junk") == (
        'InvalidVpcId.Malformed: Invalid id: "junk" (expecting "vpc-...")'
    )
    absent = {"InternetGatewayId": gateway, "VpcId": "vpc-0123456789abcdef0"}
    assert tenant.refused("AttachInternetGateway", **absent) == "InvalidVpcID.NotFound"


def test_public_addresses_hold_it(cloud: Cloud, tenant: Tenant, vpc: str, gateway: str) -> None:
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]
    interface = replace(interface_in(tenant, subnet), public_ip="127.64.0.9")
    cloud.put(interface)
    with pytest.raises(Answered, match=f"DependencyViolation: Network {vpc} has some mapped public address"):
        tenant("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)


def test_choosing_gateways(tenant: Tenant, vpc: str, gateway: str) -> None:
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    free = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    tenant("CreateTags", Resources=[free], Tags=[{"Key": "Name", "Value": "spare"}])

    def chosen(name: str, value: str) -> list[str]:
        filters = [{"Name": name, "Values": [value]}]
        return [each["InternetGatewayId"] for each in tenant("DescribeInternetGateways", Filters=filters)["InternetGateways"]]

    assert chosen("attachment.vpc-id", vpc) == [gateway]
    assert gateway in chosen("attachment.state", "available")
    assert free not in chosen("attachment.state", "available")
    assert chosen("internet-gateway-id", free) == [free]
    assert chosen("tag:Name", "spare") == [free]
    assert (
        tenant.refused("DescribeInternetGateways", InternetGatewayIds=["igw-00000000"]) == "InvalidInternetGatewayID.NotFound"
    )


def test_egress_only_gateways(tenant: Tenant, vpc: str) -> None:
    once = tenant("CreateEgressOnlyInternetGateway", VpcId=vpc, ClientToken="t")["EgressOnlyInternetGateway"]
    twice = tenant("CreateEgressOnlyInternetGateway", VpcId=vpc, ClientToken="t")["EgressOnlyInternetGateway"]
    assert once == twice
    assert once["Attachments"] == [{"VpcId": vpc, "State": "attached"}]
    id = once["EgressOnlyInternetGatewayId"]
    assert tenant("DescribeEgressOnlyInternetGateways")["EgressOnlyInternetGateways"] == [once]
    assert tenant("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=id) == {"ReturnCode": True}
    assert tenant("DescribeEgressOnlyInternetGateways")["EgressOnlyInternetGateways"] == []
    # EC2 has one code for it, wherever it is named and however it is spelled.
    for absent in (id, "nothing"):
        refusal = tenant.refusal("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=absent)
        assert refusal == f"InvalidGatewayID.NotFound: The eigw ID '{absent}' does not exist"
