"""Goal: NAT gateways behave as the VPC user guide says: an address and an interface of their own, which nobody else touches.
Method: whole operations over a store in memory; after each test the product's own audit looks at all rows."""

from collections.abc import Iterator
from typing import Any

import pytest

from alto.api.hosts.networks import read_plan
from alto.control.keeper import TERMINATED_SHOWN_S, Keeper
from alto.model.routing import NatGateway
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import sound
from tests.clocks import CountedClock


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    yield
    assert sound(cloud) == []


@pytest.fixture
def subnet(tenant: Tenant) -> str:
    """Of a VPC with a way out."""
    id = without_way_out(tenant)
    (found,) = tenant("DescribeSubnets", SubnetIds=[id])["Subnets"]
    way_out(tenant, found["VpcId"])
    return id


def way_out(tenant: Tenant, vpc: str) -> None:
    gateway = tenant("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    tenant("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)


def without_way_out(tenant: Tenant) -> str:
    vpc = tenant("CreateVpc", CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
    id: str = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.6.0.0/24")["Subnet"]["SubnetId"]
    return id


def made(tenant: Tenant, subnet: str, **more: Any) -> dict[str, Any]:
    return dict(tenant("CreateNatGateway", SubnetId=subnet, **more)["NatGateway"])


def test_what_a_gateway_would_not_do_is_refused_when_it_is_asked_for(tenant: Tenant, subnet: str) -> None:
    first = tenant("AllocateAddress", Domain="vpc")["AllocationId"]
    refused = tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId=first, AvailabilityMode="regional")
    assert refused == "UnsupportedOperation"
    refused = tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId=first, AvailabilityMode="lunar")
    assert refused == "InvalidParameterValue"
    assert listed(tenant) == []
    assert made(tenant, subnet, AllocationId=first, AvailabilityMode="zonal")["AvailabilityMode"] == "zonal"


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
    attachment = interface["Attachment"]
    for name, value in (
        ("attachment.attachment-id", attachment["AttachmentId"]),
        ("attachment.attach-time", attachment["AttachTime"].strftime("%Y-%m-%dT%H:%M:%S.000Z")),
        ("attachment.delete-on-termination", "false"),
        ("attachment.device-index", str(attachment["DeviceIndex"])),
        ("attachment.instance-owner-id", attachment["InstanceOwnerId"]),
        ("attachment.status", attachment["Status"]),
    ):
        found = tenant("DescribeNetworkInterfaces", Filters=[{"Name": name, "Values": [value]}])["NetworkInterfaces"]
        assert [one["NetworkInterfaceId"] for one in found] == [interface["NetworkInterfaceId"]], name
    led = tenant("DescribeAddresses")["Addresses"][0]
    assert (led["NetworkInterfaceId"], led["AssociationId"]) == (address["NetworkInterfaceId"], address["AssociationId"])
    # Whoever wants one of these has to ask the gateway.
    own = {"NetworkInterfaceId": address["NetworkInterfaceId"]}
    assert tenant.refused("DeleteNetworkInterface", **own) == "InvalidParameterValue"
    assert tenant.refused("ModifyNetworkInterfaceAttribute", **own, SourceDestCheck={"Value": True}) == "OperationNotPermitted"
    assert tenant.refused("AssignPrivateIpAddresses", **own, SecondaryPrivateIpAddressCount=1) == "OperationNotPermitted"
    assert tenant.refused("DisassociateAddress", AssociationId=led["AssociationId"]) == "AuthFailure"
    free = tenant("AllocateAddress")["AllocationId"]
    assert tenant.refused("AssociateAddress", AllocationId=free, **own) == "AuthFailure"
    assert tenant.refused("ReleaseAddress", AllocationId=elastic["AllocationId"]) == "AuthFailure"
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
    malformed = tenant.refusal("CreateNatGateway", SubnetId="public-1a", AllocationId=elastic)
    assert malformed == "InvalidSubnet: The subnet ID 'public-1a' is malformed"
    assert tenant.refusal("CreateNatGateway", SubnetId=subnet, AllocationId="eipalloc-00000000") == (
        "InvalidElasticIpID.NotFound: The elasticIp ID 'eipalloc-00000000' does not exist"
    )
    assert tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId="nonsense") == "InvalidElasticIpID.Malformed"
    assert (
        tenant.refused("CreateNatGateway", SubnetId=subnet, AllocationId=elastic, SecondaryAllocationIds=["nonsense"])
        == "InvalidElasticIpID.Malformed"
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
    assert isinstance(cloud.clock, CountedClock)
    keeper = Keeper(cloud.store, cloud.clock)
    cloud.runner.run(keeper.reconcile())
    assert len(listed(tenant)) == 1
    cloud.clock.seconds += TERMINATED_SHOWN_S + 1
    cloud.runner.run(keeper.reconcile())
    cloud.clock.seconds -= TERMINATED_SHOWN_S + 1
    assert listed(tenant) == []


def test_a_public_one_without_a_way_out_fails_and_takes_nothing(cloud: Cloud, tenant: Tenant) -> None:
    """The troubleshooting page of the VPC user guide has the message, and that such a gateway goes by itself after an hour;
    its address is free all the while. A private one needs no way out."""
    subnet, elastic = without_way_out(tenant), tenant("AllocateAddress")["AllocationId"]
    gateway = made(tenant, subnet, AllocationId=elastic, ClientToken="t")
    id, vpc = gateway["NatGatewayId"], gateway["VpcId"]
    assert (gateway["State"], gateway["FailureCode"]) == ("failed", "Gateway.NotAttached")
    assert gateway["FailureMessage"] == f"Network {vpc} has no Internet gateway attached"
    assert gateway["NatGatewayAddresses"] == [{"AllocationId": elastic, "IsPrimary": True, "Status": "failed"}]
    assert made(tenant, subnet, AllocationId=elastic, ClientToken="t")["NatGatewayId"] == id
    assert [one["NatGatewayId"] for one in listed(tenant, Filter=[{"Name": "state", "Values": ["failed"]}])] == [id]
    assert tenant("DescribeNetworkInterfaces")["NetworkInterfaces"] == []
    table = tenant("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    to = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": id}
    assert tenant.refused("CreateRoute", **to) == "InvalidNatGatewayID.NotFound"
    way_out(tenant, vpc)
    assert listed(tenant)[0]["State"] == "failed"
    working = made(tenant, subnet, AllocationId=elastic)
    assert working["State"] == "available"
    (address,) = working["NatGatewayAddresses"]
    assert told(tenant, id) == {address["PrivateIp"]: address["PublicIp"]}
    private = made(tenant, without_way_out(tenant), ConnectivityType="private")
    assert private["State"] == "available"
    assert isinstance(cloud.clock, CountedClock)
    cloud.clock.seconds += TERMINATED_SHOWN_S + 1
    cloud.runner.run(Keeper(cloud.store, cloud.clock).reconcile())
    cloud.clock.seconds -= TERMINATED_SHOWN_S + 1
    assert [one["State"] for one in listed(tenant)] == ["available", "available"]


def test_one_whose_elastic_address_is_taken_fails(tenant: Tenant, subnet: str) -> None:
    """Code and messages of these failures are NatGateway's in the API reference."""
    used, free = (tenant("AllocateAddress")["AllocationId"] for _ in range(2))
    interface = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    tenant("AssociateAddress", AllocationId=used, NetworkInterfaceId=interface)
    for first, second in ((used, free), (free, used)):
        gateway = made(tenant, subnet, AllocationId=first, SecondaryAllocationIds=[second])
        assert (gateway["State"], gateway["FailureCode"]) == ("failed", "Resource.AlreadyAssociated")
        assert gateway["FailureMessage"] == f"Elastic IP address [{used}] is already associated"
    (address,) = tenant("DescribeAddresses", AllocationIds=[used])["Addresses"]
    assert address["NetworkInterfaceId"] == interface
    assert len(tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]) == 1
    assert made(tenant, subnet, AllocationId=free)["State"] == "available"


def test_one_in_a_full_subnet_fails(tenant: Tenant, subnet: str) -> None:
    vpc = tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    small = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.6.1.0/28")["Subnet"]["SubnetId"]
    for _ in range(10):
        tenant("CreateNetworkInterface", SubnetId=small)
    elastic = tenant("AllocateAddress")["AllocationId"]
    # Two addresses are wanted, and one is left.
    both = made(tenant, small, ConnectivityType="private", SecondaryPrivateIpAddressCount=1)
    assert made(tenant, small, ConnectivityType="private")["State"] == "available"
    for gateway, connectivity in ((both, "private"), (made(tenant, small, AllocationId=elastic), "public")):
        assert (gateway["State"], gateway["ConnectivityType"]) == ("failed", connectivity)
        assert gateway["FailureCode"] == "InsufficientFreeAddressesInSubnet"
        assert gateway["FailureMessage"] == "Subnet has insufficient free addresses to create this NAT gateway"
    assert both["NatGatewayAddresses"] == [{"IsPrimary": True, "Status": "failed"}]


def test_nobody_takes_an_address_away_from_a_gateway(tenant: Tenant, subnet: str) -> None:
    gateway = made(tenant, subnet, ConnectivityType="private", SecondaryPrivateIpAddresses=["10.6.0.9"])
    interface = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    wish = {"NetworkInterfaceId": interface, "PrivateIpAddresses": ["10.6.0.9"], "AllowReassignment": True}
    assert tenant.refused("AssignPrivateIpAddresses", **wish) == "OperationNotPermitted"
    assert "10.6.0.9" in told(tenant, gateway["NatGatewayId"])


def test_one_that_failed_may_be_deleted_and_keeps_nothing_from_going(tenant: Tenant) -> None:
    subnet, elastic = without_way_out(tenant), tenant("AllocateAddress")["AllocationId"]
    gateway = made(tenant, subnet, AllocationId=elastic)
    tenant("ReleaseAddress", AllocationId=elastic)
    tenant("DeleteNatGateway", NatGatewayId=gateway["NatGatewayId"])
    assert listed(tenant)[0]["State"] == "deleted"
    other = made(tenant, subnet, AllocationId=tenant("AllocateAddress")["AllocationId"])
    tenant("DeleteSubnet", SubnetId=subnet)
    tenant("DeleteVpc", VpcId=gateway["VpcId"])
    assert listed(tenant, NatGatewayIds=[other["NatGatewayId"]])[0]["State"] == "failed"


def told(tenant: Tenant, id: str) -> dict[str, str | None]:
    """Private address -> the public one behind which it is, as hosts are told."""
    gateway = tenant.cloud.store.read(lambda reader: reader.get(NatGateway, id))
    plan = tenant.cloud.store.read(lambda reader: read_plan(reader, gateway.vpc_id))
    assert plan is not None
    return {one.private_ip: one.public_ip for nat in plan.nats for one in nat.addresses}


def test_a_public_one_gets_and_gives_further_elastic_addresses(tenant: Tenant, subnet: str) -> None:
    first, second, third, fourth = (tenant("AllocateAddress") for _ in range(4))
    gateway = made(
        tenant,
        subnet,
        AllocationId=first["AllocationId"],
        SecondaryAllocationIds=[second["AllocationId"]],
        SecondaryPrivateIpAddresses=["10.6.0.9"],
    )
    id = gateway["NatGatewayId"]
    ours = [(one["AllocationId"], one["IsPrimary"], one["Status"]) for one in gateway["NatGatewayAddresses"]]
    assert ours == [(first["AllocationId"], True, "succeeded"), (second["AllocationId"], False, "succeeded")]
    assert gateway["NatGatewayAddresses"][1]["PrivateIp"] == "10.6.0.9"
    more = tenant("AssociateNatGatewayAddress", NatGatewayId=id, AllocationIds=[third["AllocationId"], fourth["AllocationId"]])
    new = more["NatGatewayAddresses"]
    assert [one["PublicIp"] for one in new] == [third["PublicIp"], fourth["PublicIp"]]
    (shown,) = listed(tenant, NatGatewayIds=[id])
    assert shown["NatGatewayAddresses"] == [*gateway["NatGatewayAddresses"], *new]
    primary = gateway["NatGatewayAddresses"][0]
    assert told(tenant, id) == {
        primary["PrivateIp"]: first["PublicIp"],
        "10.6.0.9": second["PublicIp"],
        **{one["PrivateIp"]: one["PublicIp"] for one in new},
    }
    # Elsewhere they are as the gateway's first.
    (address,) = tenant("DescribeAddresses", AllocationIds=[third["AllocationId"]])["Addresses"]
    assert (address["AssociationId"], address["PrivateIpAddress"]) == (new[0]["AssociationId"], new[0]["PrivateIp"])
    taken = tenant.refused("AssociateNatGatewayAddress", NatGatewayId=id, AllocationIds=[third["AllocationId"]])
    assert taken == "Resource.AlreadyAssociated"
    other = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    for allocation in (first, third):
        stolen = tenant.refused("AssociateAddress", AllocationId=allocation["AllocationId"], NetworkInterfaceId=other)
        assert stolen == "AuthFailure"
    ids = [one["AssociationId"] for one in new]
    gone = tenant("DisassociateNatGatewayAddress", NatGatewayId=id, AssociationIds=ids)
    assert {(one["PublicIp"], one["Status"]) for one in gone["NatGatewayAddresses"]} == {
        (third["PublicIp"], "disassociating"),
        (fourth["PublicIp"], "disassociating"),
    }
    assert told(tenant, id) == {primary["PrivateIp"]: first["PublicIp"], "10.6.0.9": second["PublicIp"]}
    tenant("ReleaseAddress", AllocationId=third["AllocationId"])
    for wrong, code in (
        (primary["AssociationId"], "InvalidParameterValue"),
        (ids[0], "InvalidAssociationID.NotFound"),
    ):
        assert tenant.refused("DisassociateNatGatewayAddress", NatGatewayId=id, AssociationIds=[wrong]) == code
    tenant("DeleteNatGateway", NatGatewayId=id)
    assert tenant.refused("AssociateNatGatewayAddress", NatGatewayId=id, AllocationIds=[fourth["AllocationId"]]) == (
        "IncorrectState"
    )
    for allocation in (first, second):
        tenant("ReleaseAddress", AllocationId=allocation["AllocationId"])


def test_a_private_one_gets_and_gives_private_addresses(tenant: Tenant, subnet: str) -> None:
    gateway = made(tenant, subnet, ConnectivityType="private", SecondaryPrivateIpAddressCount=2)
    id, has = gateway["NatGatewayId"], [one["PrivateIp"] for one in gateway["NatGatewayAddresses"]]
    assert len(has) == 3
    chosen = tenant("AssignPrivateNatGatewayAddress", NatGatewayId=id, PrivateIpAddresses=["10.6.0.77"])
    assert [one["PrivateIp"] for one in chosen["NatGatewayAddresses"]] == ["10.6.0.77"]
    more = tenant("AssignPrivateNatGatewayAddress", NatGatewayId=id, PrivateIpAddressCount=4)["NatGatewayAddresses"]
    assert told(tenant, id) == dict.fromkeys([*has, "10.6.0.77", *(one["PrivateIp"] for one in more)])
    eight = {"NatGatewayId": id, "PrivateIpAddressCount": 1}
    assert tenant.refused("AssignPrivateNatGatewayAddress", **eight) == "PrivateIpAddressLimitExceeded"
    gone = tenant("UnassignPrivateNatGatewayAddress", NatGatewayId=id, PrivateIpAddresses=["10.6.0.77", has[1]])
    assert {one["PrivateIp"] for one in gone["NatGatewayAddresses"]} == {"10.6.0.77", has[1]}
    assert set(told(tenant, id)) == {has[0], has[2], *(one["PrivateIp"] for one in more)}
    primary = tenant.refused("UnassignPrivateNatGatewayAddress", NatGatewayId=id, PrivateIpAddresses=[has[0]])
    assert primary == "InvalidParameterValue"
    allocation = tenant("AllocateAddress")["AllocationId"]
    refused = tenant.refused("AssociateNatGatewayAddress", NatGatewayId=id, AllocationIds=[allocation])
    assert refused == "InvalidParameterValue"
    in_use = tenant.refused("AssignPrivateNatGatewayAddress", NatGatewayId=id, PrivateIpAddresses=[has[2]])
    assert in_use == "InvalidIPAddress.InUse"
    tenant("DeleteNatGateway", NatGatewayId=id)
    tenant("DeleteSubnet", SubnetId=subnet)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"SecondaryPrivateIpAddresses": ["10.6.0.9"]}, "InvalidParameterCombination"),
        ({"SecondaryPrivateIpAddressCount": 1}, "InvalidParameterCombination"),
        ({"SecondaryAllocationIds": ["eipalloc-00000000000000000"]}, "InvalidElasticIpID.NotFound"),
        ({"ConnectivityType": "private", "SecondaryPrivateIpAddressCount": 8}, "PrivateIpAddressLimitExceeded"),
        (
            {"ConnectivityType": "private", "SecondaryPrivateIpAddressCount": 1, "SecondaryPrivateIpAddresses": ["10.6.0.9"]},
            "InvalidParameterCombination",
        ),
    ],
)
def test_a_refused_one_leaves_nothing(tenant: Tenant, subnet: str, more: dict[str, Any], code: str) -> None:
    if "ConnectivityType" not in more:
        more = {**more, "AllocationId": tenant("AllocateAddress")["AllocationId"]}
    assert tenant.refused("CreateNatGateway", SubnetId=subnet, **more) == code
    assert listed(tenant) == []
    tenant("DeleteSubnet", SubnetId=subnet)
