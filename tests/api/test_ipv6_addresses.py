"""Goal: addresses of IPv6 are given, chosen, shown, found and taken back as at EC2, and none is given twice.
Method: whole operations over a store in memory; after each test the product's own audit looks at all rows."""

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.hosts import Capabilities, Host
from alto.model.networks import SecondaryAddress
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import IMAGE, host, sound, tiny
from tests.api.test_addresses import instance_of
from tests.api.test_interfaces import interface_of, made


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    yield
    assert sound(cloud) == []


class Dual:
    def __init__(self, tenant: Tenant) -> None:
        vpc = tenant("CreateVpc", CidrBlock="10.5.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
        self.vpc = vpc["VpcId"]
        self.range = IPv6Network(vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])
        self.subnet_range = next(self.range.subnets(new_prefix=64))
        asked = {"VpcId": self.vpc, "CidrBlock": "10.5.0.0/24", "Ipv6CidrBlock": str(self.subnet_range)}
        self.subnet = tenant("CreateSubnet", **asked)["Subnet"]["SubnetId"]
        self.association = tenant("DescribeSubnets", SubnetIds=[self.subnet])["Subnets"][0]["Ipv6CidrBlockAssociationSet"][0]

    def __getitem__(self, number: int) -> str:
        return str(self.subnet_range[number])


@pytest.fixture
def dual(tenant: Tenant) -> Dual:
    return Dual(tenant)


def launch(tenant: Tenant, count: int = 1, **more: Any) -> list[dict[str, Any]]:
    given = {"ImageId": IMAGE, "InstanceType": "t3.medium", "MinCount": count, "MaxCount": count, **more}
    return list(tenant("RunInstances", **given)["Instances"])


def refused_launch(tenant: Tenant, **more: Any) -> str:
    return tenant.refused("RunInstances", **{"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, **more})


def of(shape: dict[str, Any]) -> list[str]:
    return [one["Ipv6Address"] for one in shape["Ipv6Addresses"]]


def test_an_interface_has_the_addresses_that_were_chosen_or_others_of_its_subnet(tenant: Tenant, dual: Dual) -> None:
    chosen = made(tenant, dual.subnet, Ipv6Addresses=[{"Ipv6Address": dual[9].upper()}, {"Ipv6Address": dual[5]}])
    assert chosen["Ipv6Addresses"] == [
        {"Ipv6Address": dual[9], "IsPrimaryIpv6": False},
        {"Ipv6Address": dual[5], "IsPrimaryIpv6": False},
    ]
    drawn = of(made(tenant, dual.subnet, Ipv6AddressCount=3))
    assert len(set(drawn)) == 3
    assert all(IPv6Address(one) in dual.subnet_range for one in drawn)
    assert of(made(tenant, dual.subnet)) == []
    filters = [{"Name": "ipv6-addresses.ipv6-address", "Values": [dual[5]]}]
    found = tenant("DescribeNetworkInterfaces", Filters=filters)["NetworkInterfaces"]
    assert [one["NetworkInterfaceId"] for one in found] == [chosen["NetworkInterfaceId"]]


def test_what_cannot_be_given_is_refused_and_nothing_is_left(tenant: Tenant, dual: Dual, cloud: Cloud) -> None:
    made(tenant, dual.subnet, Ipv6Addresses=[{"Ipv6Address": dual[9]}])
    before = len(cloud.store.read(lambda reader: reader.where(SecondaryAddress)))

    def refused(**more: Any) -> str:
        return tenant.refused("CreateNetworkInterface", SubnetId=dual.subnet, **more)

    assert refused(Ipv6Addresses=[{"Ipv6Address": dual[9]}]) == "InvalidIPAddress.InUse"
    assert refused(Ipv6Addresses=[{"Ipv6Address": dual[3]}]) == "InvalidParameterValue"
    assert refused(Ipv6Addresses=[{"Ipv6Address": str(dual.subnet_range[-1])}]) == "InvalidParameterValue"
    assert refused(Ipv6Addresses=[{"Ipv6Address": "fd00::9"}]) == "InvalidParameterValue"
    assert refused(Ipv6Addresses=[{"Ipv6Address": "10.5.0.9"}]) == "InvalidParameterValue"
    assert refused(Ipv6Addresses=[{"Ipv6Address": dual[9] + "%eth0"}]) == "InvalidParameterValue"
    assert refused(Ipv6Addresses=[{"Ipv6Address": dual[7]}], Ipv6AddressCount=1) == "InvalidParameterCombination"
    assert refused(Ipv6AddressCount=-1) == "InvalidParameterValue"
    assert refused(Ipv6AddressCount=51) == "PrivateIpAddressLimitExceeded"
    bare = tenant("CreateSubnet", VpcId=dual.vpc, CidrBlock="10.5.1.0/24")["Subnet"]["SubnetId"]
    assert tenant.refused("CreateNetworkInterface", SubnetId=bare, Ipv6AddressCount=1) == "InvalidParameterValue"
    assert len(cloud.store.read(lambda reader: reader.where(SecondaryAddress))) == before


def test_addresses_are_assigned_and_unassigned(tenant: Tenant, dual: Dual) -> None:
    one = made(tenant, dual.subnet)["NetworkInterfaceId"]
    two = made(tenant, dual.subnet)["NetworkInterfaceId"]
    answer = tenant("AssignIpv6Addresses", NetworkInterfaceId=one, Ipv6Addresses=[dual[9]])
    assert answer == {"NetworkInterfaceId": one, "AssignedIpv6Addresses": [dual[9]]}
    assert tenant("AssignIpv6Addresses", NetworkInterfaceId=one, Ipv6Addresses=[dual[9]])["AssignedIpv6Addresses"] == [dual[9]]
    more = tenant("AssignIpv6Addresses", NetworkInterfaceId=one, Ipv6AddressCount=2)["AssignedIpv6Addresses"]
    assert of(interface_of(tenant, one)) == [dual[9], *more]
    taken = {"NetworkInterfaceId": two, "Ipv6Addresses": [dual[9]]}
    assert tenant.refused("AssignIpv6Addresses", **taken) == "InvalidIPAddress.InUse"
    assert tenant.refused("AssignIpv6Addresses", NetworkInterfaceId=two) == "MissingParameter"
    assert tenant.refused("AssignIpv6Addresses", **taken, Ipv6AddressCount=1) == "InvalidParameterCombination"
    assert tenant.refused("AssignIpv6Addresses", NetworkInterfaceId=two, Ipv6AddressCount=0) == "InvalidParameterValue"
    assert tenant.refused("UnassignIpv6Addresses", **taken) == "InvalidParameterValue"
    answer = tenant("UnassignIpv6Addresses", NetworkInterfaceId=one, Ipv6Addresses=[dual[9]])
    assert answer == {"NetworkInterfaceId": one, "UnassignedIpv6Addresses": [dual[9]]}
    tenant("AssignIpv6Addresses", **taken)
    # An interface that is deleted lets go of all.
    tenant("DeleteNetworkInterface", NetworkInterfaceId=two)
    tenant("AssignIpv6Addresses", NetworkInterfaceId=one, Ipv6Addresses=[dual[9]])


def test_a_launch_gives_addresses_and_shows_them(tenant: Tenant, dual: Dual) -> None:
    several = launch(tenant, 2, SubnetId=dual.subnet, Ipv6AddressCount=2)
    addresses = [address for one in several for address in of(one["NetworkInterfaces"][0])]
    assert len(set(addresses)) == 4
    assert [one["Ipv6Address"] for one in several] == [of(one["NetworkInterfaces"][0])[0] for one in several]
    named = launch(tenant, SubnetId=dual.subnet, Ipv6Addresses=[{"Ipv6Address": dual[9]}])[0]
    assert named["Ipv6Address"] == dual[9]
    spec = {"DeviceIndex": 0, "SubnetId": dual.subnet, "Ipv6Addresses": [{"Ipv6Address": dual[10]}]}
    by_interface = launch(tenant, NetworkInterfaces=[spec, {"DeviceIndex": 1, "SubnetId": dual.subnet, "Ipv6AddressCount": 1}])[
        0
    ]
    assert [len(of(one)) for one in by_interface["NetworkInterfaces"]] == [1, 1]
    assert by_interface["Ipv6Address"] == dual[10]
    plain = launch(tenant, SubnetId=dual.subnet)[0]
    assert (plain.get("Ipv6Address"), of(plain["NetworkInterfaces"][0])) == (None, [])
    for name in ("ipv6-address", "network-interface.ipv6-addresses.ipv6-address"):
        filters = [{"Name": name, "Values": [dual[9]]}]
        found = tenant("DescribeInstances", Filters=filters)["Reservations"]
        assert [one["InstanceId"] for each in found for one in each["Instances"]] == [named["InstanceId"]]
    tenant("TerminateInstances", InstanceIds=[named["InstanceId"]])
    assert instance_of(tenant, named["InstanceId"])["State"]["Name"] == "terminated"
    assert launch(tenant, SubnetId=dual.subnet, Ipv6Addresses=[{"Ipv6Address": dual[9]}])[0]["Ipv6Address"] == dual[9]


def test_a_launch_that_contradicts_itself_is_refused(tenant: Tenant, dual: Dual) -> None:
    chosen = [{"Ipv6Address": dual[9]}]
    combination = "InvalidParameterCombination"
    assert refused_launch(tenant, SubnetId=dual.subnet, Ipv6Addresses=chosen, MaxCount=2) == combination
    assert refused_launch(tenant, SubnetId=dual.subnet, Ipv6Addresses=chosen, Ipv6AddressCount=1) == combination
    interfaces = [{"DeviceIndex": 0, "SubnetId": dual.subnet}]
    assert refused_launch(tenant, NetworkInterfaces=interfaces, Ipv6AddressCount=1) == combination
    free = made(tenant, dual.subnet)["NetworkInterfaceId"]
    interfaces = [{"DeviceIndex": 0, "NetworkInterfaceId": free, "Ipv6AddressCount": 1}]
    assert refused_launch(tenant, NetworkInterfaces=interfaces) == combination
    assert refused_launch(tenant, Ipv6AddressCount=1) == "InvalidParameterValue"  # the default subnet has no range
    limit = refused_launch(tenant, SubnetId=dual.subnet, InstanceType="t3.medium", Ipv6AddressCount=7)
    assert limit == "PrivateIpAddressLimitExceeded"


def test_a_subnet_may_give_one_to_whatever_begins_there(tenant: Tenant, dual: Dual) -> None:
    tenant("ModifySubnetAttribute", SubnetId=dual.subnet, AssignIpv6AddressOnCreation={"Value": True})
    assert len(of(made(tenant, dual.subnet))) == 1
    assert len(of(made(tenant, dual.subnet, Ipv6AddressCount=2))) == 2
    assert of(made(tenant, dual.subnet, Ipv6AddressCount=0)) == []
    assert len(of(launch(tenant, SubnetId=dual.subnet)[0]["NetworkInterfaces"][0])) == 1
    assert of(launch(tenant, SubnetId=dual.subnet, Ipv6AddressCount=0)[0]["NetworkInterfaces"][0]) == []
    own = made(tenant, dual.subnet)
    taken = launch(tenant, NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": own["NetworkInterfaceId"]}])[0]
    assert of(taken["NetworkInterfaces"][0]) == of(own)


def test_a_range_in_use_does_not_go(tenant: Tenant, dual: Dual) -> None:
    interface = made(tenant, dual.subnet, Ipv6AddressCount=1)
    association = {"AssociationId": dual.association["AssociationId"]}
    assert tenant.refused("DisassociateSubnetCidrBlock", **association) == "InvalidCidrBlock.InUse"
    tenant("UnassignIpv6Addresses", NetworkInterfaceId=interface["NetworkInterfaceId"], Ipv6Addresses=of(interface))
    tenant("ModifySubnetAttribute", SubnetId=dual.subnet, AssignIpv6AddressOnCreation={"Value": True})
    assert tenant.refused("DisassociateSubnetCidrBlock", **association) == "InvalidCidrBlock.InUse"
    tenant("ModifySubnetAttribute", SubnetId=dual.subnet, AssignIpv6AddressOnCreation={"Value": False})
    tenant("DisassociateSubnetCidrBlock", **association)


def test_a_vpc_that_gets_ipv6_lets_it_out_where_nobody_changed_the_rules(tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.5.0.0/16")["Vpc"]["VpcId"]
    touched = tenant("CreateSecurityGroup", VpcId=vpc, GroupName="touched", Description="d")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    tenant("AuthorizeSecurityGroupEgress", GroupId=touched, IpPermissions=[rule])
    tenant("AssociateVpcCidrBlock", VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)
    groups = tenant("DescribeSecurityGroups", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    out = {
        one["GroupName"]: [each["CidrIpv6"] for rule in one["IpPermissionsEgress"] for each in rule["Ipv6Ranges"]]
        for one in groups
    }
    assert out == {"default": ["::/0"], "touched": []}


def test_a_host_without_ipv6_gets_none(tenant: Tenant, dual: Dual, cloud: Cloud) -> None:
    known = cloud.store.read(lambda reader: reader.where(Host))[0]
    without = Capabilities(kind="qemu", accelerator="tcg", vcpus=64, memory_mib=64_000, ipv6=False)
    cloud.put(replace(known, capabilities=without))
    assert refused_launch(tenant, SubnetId=dual.subnet, Ipv6AddressCount=1) == "InsufficientInstanceCapacity"
    assert launch(tenant, SubnetId=dual.subnet)


def test_metadata_by_ipv6_is_switched(tenant: Tenant, dual: Dual) -> None:
    options = {"HttpProtocolIpv6": "enabled"}
    instance = launch(tenant, SubnetId=dual.subnet, Ipv6AddressCount=1, MetadataOptions=options)[0]
    assert instance["MetadataOptions"]["HttpProtocolIpv6"] == "enabled"
    changed = tenant("ModifyInstanceMetadataOptions", InstanceId=instance["InstanceId"], HttpProtocolIpv6="disabled")
    assert changed["InstanceMetadataOptions"]["HttpProtocolIpv6"] == "disabled"


def test_a_template_asks_for_as_many_as_its_instance_has(tenant: Tenant, dual: Dual) -> None:
    options = {"HttpProtocolIpv6": "enabled"}
    first = launch(tenant, SubnetId=dual.subnet, Ipv6AddressCount=2, MetadataOptions=options)[0]
    data = tenant("GetLaunchTemplateData", InstanceId=first["InstanceId"])["LaunchTemplateData"]
    assert data["NetworkInterfaces"][0]["Ipv6AddressCount"] == 2
    assert data["MetadataOptions"]["HttpProtocolIpv6"] == "enabled"
    like = {"ImageId": IMAGE, "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": dual.subnet, "Ipv6AddressCount": 2}]}
    tenant("CreateLaunchTemplate", LaunchTemplateName="dual", LaunchTemplateData=like)
    given = {"MinCount": 1, "MaxCount": 1, "LaunchTemplate": {"LaunchTemplateName": "dual"}}
    again = tenant("RunInstances", **given)["Instances"][0]
    assert len(of(again["NetworkInterfaces"][0])) == 2
    assert not set(of(again["NetworkInterfaces"][0])) & set(of(first["NetworkInterfaces"][0]))
