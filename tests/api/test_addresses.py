"""Goal: elastic addresses behave as the EC2 user guide says: kept until released, led anywhere, never to two at once.
Method: whole operations over a store in memory; after each test the product's own audit looks at all rows."""

from collections.abc import Iterator
from typing import Any

import pytest

from alto.model.addresses import ADDRESSES_MAX
from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import IMAGE, host, sound, tiny, way_in


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    yield
    assert sound(cloud) == []


def launched(tenant: Tenant, count: int = 1) -> list[dict[str, Any]]:
    made = tenant("RunInstances", ImageId=IMAGE, MinCount=count, MaxCount=count, InstanceType="t3.medium")
    return list(made["Instances"])


def instance_of(tenant: Tenant, id: str) -> dict[str, Any]:
    (reservation,) = tenant("DescribeInstances", InstanceIds=[id])["Reservations"]
    return dict(reservation["Instances"][0])


def address_of(tenant: Tenant, allocation: str) -> dict[str, Any]:
    return dict(tenant("DescribeAddresses", AllocationIds=[allocation])["Addresses"][0])


def test_allocated_at_random_or_chosen_and_released(tenant: Tenant, stranger: Tenant) -> None:
    first = tenant("AllocateAddress", Domain="vpc")
    assert first["Domain"] == "vpc"
    assert first["PublicIp"].startswith("127.64.")
    tags = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "Name", "Value": "web"}]}]
    second = tenant("AllocateAddress", Address="127.64.7.7", TagSpecifications=tags)
    assert second["PublicIp"] == "127.64.7.7"
    assert stranger.refused("AllocateAddress", Address="127.64.7.7") == "InvalidAddress.NotFound"
    assert tenant.refused("AllocateAddress", Address="192.0.2.1") == "InvalidAddress.NotFound"
    assert tenant.refused("AllocateAddress", Address="x") == "InvalidParameterValue"
    assert tenant.refused("AllocateAddress", Domain="bogus") == "InvalidParameterValue"
    tenant("ReleaseAddress", AllocationId=tenant("AllocateAddress", Domain="")["AllocationId"])
    named = [{"Name": "tag:Name", "Values": ["w*"]}]
    (found,) = tenant("DescribeAddresses", Filters=named)["Addresses"]
    assert (found["PublicIp"], found["AllocationId"]) == ("127.64.7.7", second["AllocationId"])
    assert "AssociationId" not in found
    elsewhere = tenant.refused("ReleaseAddress", AllocationId=second["AllocationId"], NetworkBorderGroup="us-east-1-lax-1")
    assert elsewhere == "InvalidAddress.NotFound"
    tenant("ReleaseAddress", AllocationId=second["AllocationId"], NetworkBorderGroup="us-east-1")
    tenant("ReleaseAddress", PublicIp=first["PublicIp"])
    assert tenant("DescribeAddresses")["Addresses"] == []
    assert tenant.refused("ReleaseAddress", AllocationId=second["AllocationId"]) == "InvalidAllocationID.NotFound"
    assert tenant.refused("ReleaseAddress", AllocationId="bogus") == "InvalidAllocationID.NotFound"
    assert tenant.refused("DescribeAddresses", PublicIps=["127.64.7.7"]) == "InvalidAddress.NotFound"
    for text in ("127.64.7", "127.64.7.256", "bogus"):
        assert tenant.refusal("DescribeAddresses", PublicIps=[text]) == f"InvalidAddress.Malformed: Invalid address: '{text}'"
    assert tenant.refused("ReleaseAddress") == "MissingParameter"
    assert stranger("AllocateAddress", Address="127.64.7.7")["PublicIp"] == "127.64.7.7"


@pytest.mark.parametrize(
    ("operation", "beside"),
    [
        ("AssociateAddress", {"NetworkInterfaceId": "eni-0123456789abcdef0"}),
        ("DisassociateAddress", {}),
        ("ReleaseAddress", {}),
    ],
)
def test_an_address_of_somebody_else_or_of_nobody_is_not_ours_to_change(
    tenant: Tenant, stranger: Tenant, operation: str, beside: dict[str, str]
) -> None:
    for ip in (stranger("AllocateAddress")["PublicIp"], "127.64.7.7", "192.0.2.1"):
        refusal = f"AuthFailure: The address '{ip}' does not belong to you."
        assert tenant.refusal(operation, PublicIp=ip, **beside) == refusal
        assert tenant.refused("DescribeAddresses", PublicIps=[ip]) == "InvalidAddress.NotFound"


def test_an_account_has_a_limit(tenant: Tenant) -> None:
    for _ in range(ADDRESSES_MAX):
        tenant("AllocateAddress")
    assert tenant.refused("AllocateAddress") == "AddressLimitExceeded"


def test_it_takes_the_place_of_the_automatic_one_which_comes_back(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    id, automatic = instance["InstanceId"], instance["PublicIpAddress"]
    elastic = tenant("AllocateAddress")
    association = tenant("AssociateAddress", AllocationId=elastic["AllocationId"], InstanceId=id)["AssociationId"]
    again = tenant("AssociateAddress", PublicIp=elastic["PublicIp"], InstanceId=id)["AssociationId"]
    assert again == association
    seen = instance_of(tenant, id)
    assert seen["PublicIpAddress"] == elastic["PublicIp"]
    (interface,) = seen["NetworkInterfaces"]
    assert interface["Association"]["IpOwnerId"] == tenant.account.id
    (own,) = tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]
    assert own["Association"]["AllocationId"] == elastic["AllocationId"]
    assert own["Association"]["AssociationId"] == association
    shown = address_of(tenant, elastic["AllocationId"])
    assert shown["InstanceId"] == id
    assert shown["NetworkInterfaceId"] == own["NetworkInterfaceId"]
    assert shown["PrivateIpAddress"] == own["PrivateIpAddress"]
    for name, value in (
        ("association-id", association),
        ("instance-id", id),
        ("network-interface-id", own["NetworkInterfaceId"]),
        ("private-ip-address", own["PrivateIpAddress"]),
        ("subnet-id", own["SubnetId"]),
    ):
        assert len(tenant("DescribeAddresses", Filters=[{"Name": name, "Values": [value]}])["Addresses"]) == 1, name
    tenant("DisassociateAddress", AssociationId=association)
    back = instance_of(tenant, id)
    assert back["PublicIpAddress"] not in (elastic["PublicIp"], automatic)
    assert back["NetworkInterfaces"][0]["Association"]["IpOwnerId"] == "amazon"
    assert address_of(tenant, elastic["AllocationId"])["InstanceId"] == ""
    assert tenant.refused("DisassociateAddress", AssociationId=association) == "InvalidAssociationID.NotFound"
    assert tenant.refused("DisassociateAddress", AssociationId="bogus") == "InvalidAssociationID.NotFound"
    assert tenant.refused("DisassociateAddress") == "MissingParameter"


def test_it_goes_over_from_one_to_another_unless_that_is_forbidden(tenant: Tenant) -> None:
    one, two = launched(tenant, 2)
    allocation = tenant("AllocateAddress")
    to = {"AllocationId": allocation["AllocationId"]}
    tenant("AssociateAddress", **to, InstanceId=one["InstanceId"])
    refused = tenant.refused("AssociateAddress", **to, InstanceId=two["InstanceId"], AllowReassociation=False)
    assert refused == "Resource.AlreadyAssociated"
    tenant("AssociateAddress", **to, InstanceId=two["InstanceId"])
    assert instance_of(tenant, two["InstanceId"])["PublicIpAddress"] == allocation["PublicIp"]
    assert instance_of(tenant, one["InstanceId"])["PublicIpAddress"] != allocation["PublicIp"]
    # Another one pushes it out, and it stays its owner's.
    other = tenant("AllocateAddress")
    tenant("AssociateAddress", AllocationId=other["AllocationId"], InstanceId=two["InstanceId"])
    assert "AssociationId" not in address_of(tenant, allocation["AllocationId"])
    assert instance_of(tenant, two["InstanceId"])["PublicIpAddress"] == other["PublicIp"]


def test_its_release_takes_it_from_an_instance_in_the_default_vpc_alone(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    elastic = tenant("AllocateAddress")
    tenant("AssociateAddress", AllocationId=elastic["AllocationId"], InstanceId=instance["InstanceId"])
    tenant("ReleaseAddress", PublicIp=elastic["PublicIp"])
    assert instance_of(tenant, instance["InstanceId"])["PublicIpAddress"] != elastic["PublicIp"]
    assert tenant("DescribeAddresses")["Addresses"] == []
    vpc = tenant("CreateVpc", CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.5.0.0/24")["Subnet"]["SubnetId"]
    interface = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    way_in(tenant, subnet)
    other = tenant("AllocateAddress")
    association = tenant("AssociateAddress", AllocationId=other["AllocationId"], NetworkInterfaceId=interface)["AssociationId"]
    assert tenant.refused("ReleaseAddress", AllocationId=other["AllocationId"]) == "InvalidIPAddress.InUse"
    tenant("DisassociateAddress", AssociationId=association)
    shown = address_of(tenant, other["AllocationId"])
    assert [shown["InstanceId"], shown["NetworkInterfaceId"]] == ["", ""]
    tenant("ReleaseAddress", AllocationId=other["AllocationId"])


def test_it_leads_into_no_vpc_without_an_internet_gateway(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.5.0.0/24")["Subnet"]["SubnetId"]
    interface = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    instance = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]["InstanceId"]
    to = {"AllocationId": tenant("AllocateAddress")["AllocationId"]}
    refused = f"Gateway.NotAttached: Network {vpc} is not attached to any internet gateway"
    assert tenant.refusal("AssociateAddress", **to, NetworkInterfaceId=interface) == refused
    assert tenant.refusal("AssociateAddress", **to, InstanceId=instance) == refused
    assert "AssociationId" not in address_of(tenant, to["AllocationId"])
    gateway = way_in(tenant, subnet)
    tenant("AssociateAddress", **to, InstanceId=instance)
    assert tenant.refused("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc) == "DependencyViolation"


def test_a_secondary_private_address_has_its_own(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    assigned = tenant("AssignPrivateIpAddresses", NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    (private,) = [one["PrivateIpAddress"] for one in assigned["AssignedPrivateIpAddresses"]]
    elastic = tenant("AllocateAddress")
    to = {"AllocationId": elastic["AllocationId"], "NetworkInterfaceId": interface}
    assert tenant.refused("AssociateAddress", **to, PrivateIpAddress="172.31.9.9") == "InvalidParameterValue"
    tenant("AssociateAddress", **to, PrivateIpAddress=private)
    seen = instance_of(tenant, instance["InstanceId"])
    assert seen["PublicIpAddress"] == instance["PublicIpAddress"]
    by_private = {one["PrivateIpAddress"]: one for one in seen["NetworkInterfaces"][0]["PrivateIpAddresses"]}
    assert by_private[private]["Association"]["PublicIp"] == elastic["PublicIp"]
    tenant("UnassignPrivateIpAddresses", NetworkInterfaceId=interface, PrivateIpAddresses=[private])
    assert "AssociationId" not in address_of(tenant, elastic["AllocationId"])


def test_what_is_missing_or_too_much_is_said(tenant: Tenant) -> None:
    (instance,) = launched(tenant)
    allocation = tenant("AllocateAddress")
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    both = {"InstanceId": instance["InstanceId"], "NetworkInterfaceId": interface}
    assert tenant.refused("AssociateAddress", InstanceId=instance["InstanceId"]) == "MissingParameter"
    assert tenant.refused("AssociateAddress", AllocationId=allocation["AllocationId"]) == "MissingParameter"
    refused = tenant.refused("AssociateAddress", AllocationId=allocation["AllocationId"], **both)
    assert refused == "InvalidParameterCombination"
    two = {"AllocationId": allocation["AllocationId"], "PublicIp": allocation["PublicIp"]}
    assert tenant.refused("AssociateAddress", **two, InstanceId=instance["InstanceId"]) == "InvalidParameterCombination"
    tenant("TerminateInstances", InstanceIds=[instance["InstanceId"]])
    to = {"AllocationId": allocation["AllocationId"], "InstanceId": instance["InstanceId"]}
    assert tenant.refused("AssociateAddress", **to) == "InvalidInstanceID"


def test_many_at_once_lead_it_to_one(tenant: Tenant) -> None:
    """Goal: a race has one winner. Method: five calls side by side, then every reader tells the same."""
    instances = launched(tenant, 5)
    allocation = tenant("AllocateAddress")
    calls = [
        ("AssociateAddress", {"AllocationId": allocation["AllocationId"], "InstanceId": one["InstanceId"]}) for one in instances
    ]
    answers = tenant.at_once(*calls)
    assert not [one for one in answers if isinstance(one, Answered)]
    seen = [instance_of(tenant, one["InstanceId"]) for one in instances]
    holders = [one["InstanceId"] for one in seen if one["PublicIpAddress"] == allocation["PublicIp"]]
    assert holders == [address_of(tenant, allocation["AllocationId"])["InstanceId"]]
    assert len({one["PublicIpAddress"] for one in seen}) == 5


def test_attributes_are_read_and_no_name_is_promised(tenant: Tenant) -> None:
    allocations = sorted(tenant("AllocateAddress")["AllocationId"] for _ in range(3))
    first = tenant("DescribeAddressesAttribute", Attribute="domain-name", MaxResults=2)
    rest = tenant("DescribeAddressesAttribute", Attribute="domain-name", MaxResults=2, NextToken=first["NextToken"])
    assert [one["AllocationId"] for one in first["Addresses"] + rest["Addresses"]] == allocations
    refused = tenant.refused("ModifyAddressAttribute", AllocationId=allocations[0], DomainName="a.example")
    assert refused == "UnsupportedOperation"
    reset = tenant("ResetAddressAttribute", AllocationId=allocations[0], Attribute="domain-name")
    assert reset["Address"]["AllocationId"] == allocations[0]


def test_without_hostnames_public_addresses_have_no_names(tenant: Tenant) -> None:
    """In what instances and interfaces show; their private names stay."""
    made = launched(tenant)[0]

    def names() -> set[str]:
        (one,) = tenant("DescribeInstances")["Reservations"][0]["Instances"]
        (interface,) = tenant("DescribeNetworkInterfaces")["NetworkInterfaces"]
        assert one["PrivateDnsName"] == made["PrivateDnsName"] != ""
        shown = (one["NetworkInterfaces"][0]["Association"], interface["Association"])
        return {one["PublicDnsName"], *(each["PublicDnsName"] for each in shown)}

    instance_filters = (
        "dns-name",
        "network-interface.public-dns-name",
        "network-interface.association.public-dns-name",
        "network-interface.addresses.association.public-dns-name",
    )

    def found_by_name() -> list[str]:
        """Filters by a public name that find what it names."""
        (name,) = {instance_of(tenant, made["InstanceId"])["PublicIpAddress"]}
        instances = [
            one
            for one in instance_filters
            if tenant("DescribeInstances", Filters=[{"Name": one, "Values": [name]}])["Reservations"]
        ]
        by_name = [{"Name": "association.public-dns-name", "Values": [name]}]
        return instances + [one["Status"] for one in tenant("DescribeNetworkInterfaces", Filters=by_name)["NetworkInterfaces"]]

    assert "" not in names()
    assert found_by_name() == [*instance_filters, "in-use"]
    tenant("ModifyVpcAttribute", VpcId=made["VpcId"], EnableDnsHostnames={"Value": False})
    assert names() == {""}
    assert found_by_name() == []
    tenant("ModifyVpcAttribute", VpcId=made["VpcId"], EnableDnsHostnames={"Value": True})
    assert "" not in names()


def test_instances_are_found_by_what_their_elastic_addresses_are(tenant: Tenant) -> None:
    first, second = launched(tenant, 2)
    interface = first["NetworkInterfaces"][0]["NetworkInterfaceId"]
    tenant("AssignPrivateIpAddresses", NetworkInterfaceId=interface, PrivateIpAddresses=["172.31.0.77"])
    on_primary, on_secondary = (tenant("AllocateAddress")["AllocationId"] for _ in range(2))
    ids = {
        on_primary: tenant("AssociateAddress", AllocationId=on_primary, NetworkInterfaceId=interface)["AssociationId"],
        on_secondary: tenant(
            "AssociateAddress", AllocationId=on_secondary, NetworkInterfaceId=interface, PrivateIpAddress="172.31.0.77"
        )["AssociationId"],
    }

    def found(name: str, value: str) -> list[str]:
        reservations = tenant("DescribeInstances", Filters=[{"Name": name, "Values": [value]}])["Reservations"]
        return [one["InstanceId"] for each in reservations for one in each["Instances"]]

    mine = [first["InstanceId"]]
    for allocation, primary in ((on_primary, mine), (on_secondary, [])):
        assert found("network-interface.association.allocation-id", allocation) == primary
        assert found("network-interface.association.association-id", ids[allocation]) == primary
        assert found("network-interface.addresses.association.allocation-id", allocation) == mine
        assert found("network-interface.addresses.association.association-id", ids[allocation]) == mine
    assert second["InstanceId"] not in found("network-interface.addresses.association.allocation-id", "*")


def test_taking_an_address_off_twice_by_its_name_is_no_error(tenant: Tenant) -> None:
    """EC2 calls the operation idempotent; an association that is over is not known any more."""
    (instance,) = launched(tenant)
    made = tenant("AllocateAddress")
    association = tenant("AssociateAddress", AllocationId=made["AllocationId"], InstanceId=instance["InstanceId"])
    for _ in range(2):
        tenant("DisassociateAddress", PublicIp=made["PublicIp"])
    assert tenant.refused("DisassociateAddress", **association) == "InvalidAssociationID.NotFound"
    slip = tenant.refusal("DescribeAddresses", AllocationIds=["nothing"])
    assert slip == "InvalidAllocationID.NotFound: The allocation ID 'nothing' does not exist"
