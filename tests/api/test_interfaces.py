"""Goal: interfaces are made, attached, launched with and removed as the EC2 user guide says; limits hold; nothing is left.
Method: whole operations over a store in memory; after each test the product's own audit looks at all rows."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest

from tests.api.cloud import Cloud, Tenant
from tests.api.rows import IMAGE, host, sound, tiny, way_in
from tests.api.test_addresses import address_of, instance_of, launched


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    yield
    assert sound(cloud) == []


@pytest.fixture
def subnet(tenant: Tenant) -> str:
    vpc = tenant("CreateVpc", CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    id: str = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.5.0.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    return id


def made(tenant: Tenant, subnet: str, **more: Any) -> dict[str, Any]:
    return dict(tenant("CreateNetworkInterface", SubnetId=subnet, **more)["NetworkInterface"])


def interface_of(tenant: Tenant, id: str) -> dict[str, Any]:
    return dict(tenant("DescribeNetworkInterfaces", NetworkInterfaceIds=[id])["NetworkInterfaces"][0])


def launch(tenant: Tenant, interfaces: list[dict[str, Any]], count: int = 1, **more: Any) -> list[dict[str, Any]]:
    given = {"ImageId": IMAGE, "InstanceType": "t3.medium", "MinCount": count, "MaxCount": count, **more}
    return list(tenant("RunInstances", NetworkInterfaces=interfaces, **given)["Instances"])


def refused_launch(tenant: Tenant, *interfaces: dict[str, Any], **more: Any) -> str:
    given = {"ImageId": IMAGE, "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1, **more}
    return tenant.refused("RunInstances", NetworkInterfaces=list(interfaces), **given)


def end(tenant: Tenant, id: str) -> None:
    """An instance that no host has is terminated at once."""
    tenant("TerminateInstances", InstanceIds=[id])
    assert instance_of(tenant, id)["State"]["Name"] == "terminated"


def test_a_launch_with_several_makes_each_and_gives_none_a_public_address(tenant: Tenant, subnet: str) -> None:
    tenant("ModifySubnetAttribute", SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    wanted = [
        {"DeviceIndex": 2, "SubnetId": subnet, "Description": "third", "SecondaryPrivateIpAddressCount": 2},
        {
            "DeviceIndex": 0,
            "SubnetId": subnet,
            "PrivateIpAddresses": [
                {"PrivateIpAddress": "10.5.0.20", "Primary": True},
                {"PrivateIpAddress": "10.5.0.21"},
            ],
            "DeleteOnTermination": False,
        },
        {"DeviceIndex": 1, "DeleteOnTermination": False},
    ]
    (instance,) = launch(tenant, wanted)
    first, second, third = sorted(instance["NetworkInterfaces"], key=lambda one: one["Attachment"]["DeviceIndex"])
    assert [one["Attachment"]["DeviceIndex"] for one in (first, second, third)] == [0, 1, 2]
    assert [one["PrivateIpAddress"] for one in first["PrivateIpAddresses"]] == ["10.5.0.20", "10.5.0.21"]
    assert {one["SubnetId"] for one in (first, second, third)} == {subnet}
    assert (third["Description"], len(third["PrivateIpAddresses"])) == ("third", 3)
    assert [one["Attachment"]["DeleteOnTermination"] for one in (first, second, third)] == [False, False, True]
    assert "PublicIpAddress" not in instance
    assert instance["PrivateDnsName"].startswith("ip-10-5-0-20.")
    end(tenant, instance["InstanceId"])
    left = tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]
    assert {one["NetworkInterfaceId"] for one in left} == {first["NetworkInterfaceId"], second["NetworkInterfaceId"]}
    assert {one["Status"] for one in left} == {"available"}
    for one in left:
        tenant("DeleteNetworkInterface", NetworkInterfaceId=one["NetworkInterfaceId"])


def test_each_of_many_has_its_own(tenant: Tenant, subnet: str) -> None:
    instances = launch(tenant, [{"DeviceIndex": 0, "SubnetId": subnet}, {"DeviceIndex": 1, "SubnetId": subnet}], count=3)
    ids = [one["NetworkInterfaceId"] for instance in instances for one in instance["NetworkInterfaces"]]
    assert len(set(ids)) == 6
    addresses = {one["PrivateIpAddress"] for one in tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]}
    assert len(addresses) == 6


def test_an_existing_one_is_the_primary_and_outlives_the_instance(tenant: Tenant, subnet: str) -> None:
    way_in(tenant, subnet)
    one = made(tenant, subnet, PrivateIpAddress="10.5.0.50", Description="mine")
    id = one["NetworkInterfaceId"]
    elastic = tenant("AllocateAddress")
    tenant("AssociateAddress", AllocationId=elastic["AllocationId"], NetworkInterfaceId=id)
    other = made(tenant, subnet)
    (instance,) = launch(
        tenant,
        [{"DeviceIndex": 0, "NetworkInterfaceId": id}, {"DeviceIndex": 1, "NetworkInterfaceId": other["NetworkInterfaceId"]}],
    )
    assert instance["PrivateIpAddress"] == "10.5.0.50"
    assert instance["PublicIpAddress"] == elastic["PublicIp"]
    assert instance["SubnetId"] == subnet
    assert instance["NetworkInterfaces"][0]["MacAddress"] == one["MacAddress"]
    assert address_of(tenant, elastic["AllocationId"])["InstanceId"] == instance["InstanceId"]
    assert refused_launch(tenant, {"DeviceIndex": 0, "NetworkInterfaceId": id}) == "InvalidNetworkInterface.InUse"
    assert tenant.refused("DeleteNetworkInterface", NetworkInterfaceId=id) == "InvalidParameterValue"
    end(tenant, instance["InstanceId"])
    kept = interface_of(tenant, id)
    assert (kept["Status"], kept["Association"]["PublicIp"]) == ("available", elastic["PublicIp"])
    assert address_of(tenant, elastic["AllocationId"])["InstanceId"] == ""


def test_a_launch_that_contradicts_itself_claims_nothing(tenant: Tenant, subnet: str) -> None:
    one = made(tenant, subnet)["NetworkInterfaceId"]
    far = tenant(
        "CreateSubnet", VpcId=interface_of(tenant, one)["VpcId"], CidrBlock="10.5.1.0/24", AvailabilityZone="us-east-1b"
    )
    first = {"DeviceIndex": 0, "SubnetId": subnet}
    assert refused_launch(tenant, {"DeviceIndex": 1, "SubnetId": subnet}) == "InvalidParameterCombination"
    assert refused_launch(tenant, first, first) == "InvalidParameterValue"
    assert refused_launch(tenant, first, {"SubnetId": subnet}) == "InvalidParameterValue"
    assert refused_launch(tenant, {"SubnetId": subnet}) == "InvalidParameterValue", "also a single one needs its index"
    public = {"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": True}
    assert refused_launch(tenant, public, {"DeviceIndex": 1}) == "InvalidParameterCombination"
    named = {"DeviceIndex": 0, "NetworkInterfaceId": one}
    assert refused_launch(tenant, {**named, "SubnetId": subnet}) == "InvalidParameterCombination"
    assert refused_launch(tenant, {**named, "DeleteOnTermination": True}) == "InvalidParameterCombination"
    assert refused_launch(tenant, named, MaxCount=2) == "InvalidParameterCombination"
    assert refused_launch(tenant, named, SubnetId=subnet) == "InvalidParameterCombination"
    assert (
        refused_launch(tenant, first, {"DeviceIndex": 1, "SubnetId": far["Subnet"]["SubnetId"]})
        == "InvalidParameterCombination"
    )
    many = [{"DeviceIndex": index, "SubnetId": subnet} for index in range(4)]
    assert refused_launch(tenant, *many) == "AttachmentLimitExceeded"
    assert refused_launch(tenant, {**first, "SecondaryPrivateIpAddressCount": 6}) == "PrivateIpAddressLimitExceeded"
    assert tenant("DescribeInstances")["Reservations"] == []
    assert [each["NetworkInterfaceId"] for each in tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]] == [one]


def test_attached_and_detached_with_its_elastic_address(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    id, own = instance["InstanceId"], instance["NetworkInterfaces"][0]
    interface = made(tenant, instance["SubnetId"])["NetworkInterfaceId"]
    elastic = tenant("AllocateAddress")
    tenant("AssociateAddress", AllocationId=elastic["AllocationId"], NetworkInterfaceId=interface)
    to = {"NetworkInterfaceId": interface, "InstanceId": id}
    assert tenant.refused("AttachNetworkInterface", **to, DeviceIndex=0) == "InvalidParameterValue"
    attachment = tenant("AttachNetworkInterface", **to, DeviceIndex=1)["AttachmentId"]
    assert tenant.refused("AttachNetworkInterface", **to, DeviceIndex=2) == "InvalidNetworkInterface.InUse"
    shown = interface_of(tenant, interface)
    assert (shown["Status"], shown["Attachment"]["InstanceId"], shown["Attachment"]["DeviceIndex"]) == ("in-use", id, 1)
    assert address_of(tenant, elastic["AllocationId"])["InstanceId"] == id
    # Which of several interfaces an address is for has to be said.
    assert tenant.refused("AssociateAddress", AllocationId=elastic["AllocationId"], InstanceId=id) == "InvalidInstanceID"
    assert tenant.refused("ModifyInstanceAttribute", InstanceId=id, SourceDestCheck={"Value": False}) == "InvalidInstanceID"
    tenant(
        "ModifyNetworkInterfaceAttribute",
        NetworkInterfaceId=interface,
        Attachment={"AttachmentId": attachment, "DeleteOnTermination": True},
    )
    for name, value in (
        ("attachment.instance-id", id),
        ("attachment.attachment-id", attachment),
        ("attachment.device-index", "1"),
        ("attachment.delete-on-termination", "true"),
        ("association.allocation-id", elastic["AllocationId"]),
        ("status", "in-use"),
    ):
        found = tenant("DescribeNetworkInterfaces", Filters=[{"Name": name, "Values": [value]}])["NetworkInterfaces"]
        assert interface in [one["NetworkInterfaceId"] for one in found], name
    refused = tenant.refusal("DetachNetworkInterface", AttachmentId=own["Attachment"]["AttachmentId"])
    assert refused == (
        "OperationNotPermitted: The network interface at device index 0 and networkCard index 0 cannot be detached."
    )
    assert (
        tenant.refused("DetachNetworkInterface", AttachmentId="eni-attach-00000000000000000") == "InvalidAttachmentID.NotFound"
    )
    tenant("DetachNetworkInterface", AttachmentId=attachment)
    shown = interface_of(tenant, interface)
    assert (shown["Status"], shown["Association"]["PublicIp"]) == ("available", elastic["PublicIp"])
    assert "Attachment" not in shown
    assert len(instance_of(tenant, id)["NetworkInterfaces"]) == 1


def test_attributes_are_read_and_unknown_ones_named(tenant: Tenant, subnet: str) -> None:
    interface = made(tenant, subnet, Description="a")["NetworkInterfaceId"]
    ask = {"NetworkInterfaceId": interface}
    assert tenant("DescribeNetworkInterfaceAttribute", **ask, Attribute="description")["Description"] == {"Value": "a"}
    assert tenant("DescribeNetworkInterfaceAttribute", **ask, Attribute="sourceDestCheck")["SourceDestCheck"]["Value"] is True
    assert len(tenant("DescribeNetworkInterfaceAttribute", **ask, Attribute="groupSet")["Groups"]) == 1
    assert "Attachment" not in tenant("DescribeNetworkInterfaceAttribute", **ask, Attribute="attachment")
    refused = tenant.refusal("DescribeNetworkInterfaceAttribute", **ask, Attribute="attach")
    assert refused == "InvalidParameterValue: Value (attach) for parameter attribute is invalid. Unknown attribute."
    tenant("ModifyNetworkInterfaceAttribute", **ask, SourceDestCheck={"Value": False})
    assert interface_of(tenant, interface)["SourceDestCheck"] is False
    tenant("ResetNetworkInterfaceAttribute", **ask, SourceDestCheck="true")
    assert interface_of(tenant, interface)["SourceDestCheck"] is True
    assert tenant.refused("ModifyNetworkInterfaceAttribute", **ask) == "InvalidParameterCombination"
    tenant("ModifyNetworkInterfaceAttribute", **ask, Description={"Value": ""})  # as Terraform takes one away
    assert interface_of(tenant, interface)["Description"] == ""


def test_further_private_addresses_come_go_and_move(tenant: Tenant, subnet: str) -> None:
    one, two = (made(tenant, subnet)["NetworkInterfaceId"] for _ in range(2))
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=one, PrivateIpAddresses=["10.5.0.90"])
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=one, PrivateIpAddresses=["10.5.0.90"])
    assert [each["PrivateIpAddress"] for each in interface_of(tenant, one)["PrivateIpAddresses"]][1:] == ["10.5.0.90"]
    taken = {"NetworkInterfaceId": two, "PrivateIpAddresses": ["10.5.0.90"]}
    primary = interface_of(tenant, one)["PrivateIpAddress"]
    asked = {"NetworkInterfaceId": two, "PrivateIpAddresses": ["10.5.0.90", "10.5.0.91", primary]}
    assert tenant.refusal("AssignPrivateIpAddresses", **asked) == (
        f"InvalidParameterValue: [10.5.0.90, {primary}] assigned, but move is not allowed."
    )
    assert tenant.refused("AssignPrivateIpAddresses", **asked, AllowReassignment=True) == "InvalidIPAddress.InUse"
    tenant("AssignPrivateIpAddresses", **taken, AllowReassignment=True)
    assert len(interface_of(tenant, one)["PrivateIpAddresses"]) == 1
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=two, SecondaryPrivateIpAddressCount=3)
    assert len(interface_of(tenant, two)["PrivateIpAddresses"]) == 5
    tenant("UnassignPrivateIpAddresses", **taken)
    left = [each["PrivateIpAddress"] for each in interface_of(tenant, two)["PrivateIpAddresses"]]
    assert len(left) == 4
    assert "10.5.0.90" not in left
    assert tenant.refused("UnassignPrivateIpAddresses", **taken) == "InvalidParameterValue"
    assert tenant.refused("UnassignPrivateIpAddresses", NetworkInterfaceId=two, PrivateIpAddresses=[left[0]]) == (
        "InvalidParameterValue"
    )


def test_an_address_that_moves_takes_its_elastic_address_along(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    subnet, target = instance["SubnetId"], instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    (spare,) = (each["CidrBlock"] for each in tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"])
    private = str(IPv4Network(spare)[99])
    one = made(tenant, subnet)["NetworkInterfaceId"]
    elastic = tenant("AllocateAddress")
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=one, PrivateIpAddresses=[private])
    to = {"AllocationId": elastic["AllocationId"], "PrivateIpAddress": private}
    association = tenant("AssociateAddress", NetworkInterfaceId=one, **to)["AssociationId"]
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=target, PrivateIpAddresses=[private], AllowReassignment=True)
    shown = address_of(tenant, elastic["AllocationId"])
    assert (shown["NetworkInterfaceId"], shown["PrivateIpAddress"]) == (target, private)
    assert (shown["InstanceId"], shown["AssociationId"]) == (instance["InstanceId"], association)
    moved = interface_of(tenant, target)["PrivateIpAddresses"][1]
    assert (moved["PrivateIpAddress"], moved["Association"]["PublicIp"]) == (private, elastic["PublicIp"])
    assert len(interface_of(tenant, one)["PrivateIpAddresses"]) == 1


def test_a_number_of_further_addresses_beside_one_that_is_chosen(tenant: Tenant, subnet: str) -> None:
    """SecondaryPrivateIpAddressCount excludes "more than one private IP address using privateIpAddresses" (API reference)."""
    listed = [{"PrivateIpAddress": "10.5.0.30", "Primary": True}]
    one = made(tenant, subnet, PrivateIpAddresses=listed, SecondaryPrivateIpAddressCount=2)
    assert (one["PrivateIpAddress"], len(one["PrivateIpAddresses"])) == ("10.5.0.30", 3)
    several = [{"PrivateIpAddress": "10.5.0.31", "Primary": True}, {"PrivateIpAddress": "10.5.0.32"}]
    wish = {"SubnetId": subnet, "PrivateIpAddresses": several, "SecondaryPrivateIpAddressCount": 1}
    assert tenant.refused("CreateNetworkInterface", **wish) == "InvalidParameterCombination"


def test_what_is_not_said_to_be_primary_is_secondary(tenant: Tenant, subnet: str) -> None:
    """The primary one is then any other: also where those that are listed would have been the next to be given."""
    listed = [{"PrivateIpAddress": "10.5.0.4"}, {"PrivateIpAddress": "10.5.0.5", "Primary": False}]
    one = made(tenant, subnet, PrivateIpAddresses=listed)
    tenant("DeleteNetworkInterface", NetworkInterfaceId=one["NetworkInterfaceId"])
    wanted = {"DeviceIndex": 0, "SubnetId": subnet, "PrivateIpAddresses": [{"PrivateIpAddress": "10.5.0.7"}]}
    (instance,) = launch(tenant, [wanted])
    for shown, secondary in ((one, ["10.5.0.4", "10.5.0.5"]), (instance["NetworkInterfaces"][0], ["10.5.0.7"])):
        primary, *others = shown["PrivateIpAddresses"]
        assert (primary["Primary"], primary["PrivateIpAddress"]) == (True, shown["PrivateIpAddress"])
        assert [each["PrivateIpAddress"] for each in others] == secondary
        assert shown["PrivateIpAddress"] not in secondary
    twice = {"SubnetId": subnet, "PrivateIpAddresses": [{"PrivateIpAddress": "10.5.0.9"}] * 2}
    assert tenant.refused("CreateNetworkInterface", **twice) == "InvalidParameterValue"


@pytest.mark.parametrize(
    "others",
    [({}, {}, {"PrivateIpAddress": "10.5.0.5"}), ({"SecondaryPrivateIpAddressCount": 1}, {"PrivateIpAddress": "10.5.0.5"})],
    ids=["another interface's", "a secondary one"],
)
def test_what_a_launch_names_is_chosen_for_nothing_else(
    tenant: Tenant, subnet: str, others: tuple[dict[str, Any], ...]
) -> None:
    listed = [{"DeviceIndex": at, "SubnetId": subnet, **each} for at, each in enumerate(others)]
    (instance,) = launch(tenant, listed)
    assert instance["NetworkInterfaces"][-1]["PrivateIpAddress"] == "10.5.0.5"


def test_groups_that_are_not_there_have_codes_of_their_own(tenant: Tenant, stranger: Tenant, subnet: str) -> None:
    (foreign,) = stranger("DescribeSecurityGroups")["SecurityGroups"]
    interface = made(tenant, subnet)
    assert interface["Operator"] == {"Managed": False}
    for id in ("sg-00000000", "web", foreign["GroupId"]):
        expected = f"InvalidSecurityGroupID.NotFound: The securityGroup ID '{id}' does not exist"
        assert tenant.refusal("CreateNetworkInterface", SubnetId=subnet, Groups=[id]) == expected
        named = {"NetworkInterfaceId": interface["NetworkInterfaceId"], "Groups": [id]}
        assert tenant.refusal("ModifyNetworkInterfaceAttribute", **named) == (
            f"InvalidGroup.NotFound: The security group '{id}' does not exist"
        )


def test_a_token_makes_one(tenant: Tenant, subnet: str) -> None:
    first, again = (made(tenant, subnet, ClientToken="t-1") for _ in range(2))
    assert first["NetworkInterfaceId"] == again["NetworkInterfaceId"]
    changed = {"SubnetId": subnet, "Description": "other", "ClientToken": "t-1"}
    assert tenant.refused("CreateNetworkInterface", **changed) == "IdempotentParameterMismatch"
