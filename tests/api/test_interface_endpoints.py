"""Goal: an interface endpoint is in its subnets by interfaces of its own, has its names, and leaves nothing; and its hosts are
told what makes it work. Method: whole operations over a store in memory; the plan that hosts are told. What packets do:
tests/drivers/network/test_endpoints.py."""

from typing import Any

import pytest

from alto.api.hosts.networks import read_plan
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, sound

EC2, STS = "com.amazonaws.us-east-1.ec2", "com.amazonaws.us-east-1.sts"
PRIVATE = "ec2.us-east-1.amazonaws.com"


class Site:
    """A VPC with names, three subnets (two in one zone) and a group."""

    def __init__(self, cloud: Cloud, tenant: Tenant) -> None:
        cloud.put(host(1))
        self.cloud, self.tenant = cloud, tenant
        self.vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        tenant("ModifyVpcAttribute", VpcId=self.vpc, EnableDnsHostnames={"Value": True})
        self.subnets = [
            tenant("CreateSubnet", VpcId=self.vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in enumerate("aba")
        ]
        self.group = tenant("CreateSecurityGroup", GroupName="ends", Description="d", VpcId=self.vpc)["GroupId"]

    def asked(self, **more: Any) -> dict[str, Any]:
        wish = {"VpcId": self.vpc, "ServiceName": EC2, "VpcEndpointType": "Interface", "SubnetIds": self.subnets[:2]}
        return wish | more

    def made(self, **more: Any) -> dict[str, Any]:
        return dict(self.tenant("CreateVpcEndpoint", **self.asked(**more))["VpcEndpoint"])

    def refused(self, **more: Any) -> str:
        return self.tenant.refusal("CreateVpcEndpoint", **self.asked(**more))

    def shown(self, id: str) -> dict[str, Any]:
        (found,) = self.tenant("DescribeVpcEndpoints", VpcEndpointIds=[id])["VpcEndpoints"]
        return dict(found)

    def interfaces(self) -> list[dict[str, Any]]:
        of_vpc = [{"Name": "vpc-id", "Values": [self.vpc]}]
        return list(self.tenant("DescribeNetworkInterfaces", Filters=of_vpc)["NetworkInterfaces"])

    def names(self) -> dict[str, tuple[str, ...]]:
        plan = self.cloud.store.read(lambda reader: read_plan(reader, self.vpc))
        assert plan is not None
        return plan.names


@pytest.fixture
def site(cloud: Cloud, tenant: Tenant) -> Site:
    return Site(cloud, tenant)


def test_what_a_new_one_is(site: Site) -> None:
    tenant = site.tenant
    answered = site.made(
        SecurityGroupIds=[site.group],
        TagSpecifications=[{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    id = answered["VpcEndpointId"]
    assert answered["State"] == "pending"
    shown = site.shown(id)
    assert shown == {**answered, "State": "available"}
    interfaces = {one["SubnetId"]: one for one in site.interfaces()}
    first, second = (interfaces[subnet] for subnet in site.subnets[:2])
    assert shown.pop("CreationTimestamp") is not None
    assert shown.pop("PolicyDocument").startswith("{")
    names = [one["DnsName"] for one in shown.pop("DnsEntries")]
    assert shown == {
        "VpcEndpointId": id,
        "VpcEndpointType": "Interface",
        "VpcId": site.vpc,
        "ServiceName": EC2,
        "ServiceRegion": "us-east-1",
        "State": "available",
        "RouteTableIds": [],
        "SubnetIds": site.subnets[:2],
        "Groups": [{"GroupId": site.group, "GroupName": "ends"}],
        "IpAddressType": "ipv4",
        "DnsOptions": {"DnsRecordIpType": "ipv4"},
        "PrivateDnsEnabled": True,
        "RequesterManaged": False,
        "NetworkInterfaceIds": [first["NetworkInterfaceId"], second["NetworkInterfaceId"]],
        "Tags": [{"Key": "a", "Value": "b"}],
        "OwnerId": tenant.account.id,
    }
    for one in (first, second):
        assert (one["InterfaceType"], one["RequesterManaged"], one["Status"]) == ("vpc_endpoint", True, "in-use")
        assert one["Description"] == f"VPC Endpoint Interface {id}"
        assert [group["GroupId"] for group in one["Groups"]] == [site.group]
    general, *zonal, private = names
    assert general.startswith(f"{id}-")
    assert general.endswith(".ec2.us-east-1.vpce.amazonaws.com")
    mark = general.removeprefix(f"{id}-").partition(".")[0]
    assert zonal == [f"{id}-{mark}-us-east-1{zone}.ec2.us-east-1.vpce.amazonaws.com" for zone in "ab"]
    assert private == PRIVATE
    addresses = (first["PrivateIpAddress"], second["PrivateIpAddress"])
    assert site.names() == {
        general: addresses,
        zonal[0]: addresses[:1],
        zonal[1]: addresses[1:],
        PRIVATE: addresses,
    }
    assert sound(site.cloud) == []


def test_hosts_are_told_of_it_until_it_is_gone(site: Site) -> None:
    id = site.made(SubnetIds=site.subnets[:1])["VpcEndpointId"]
    (interface,) = site.interfaces()
    plan = site.cloud.store.read(lambda reader: read_plan(reader, site.vpc))
    assert plan is not None
    (told,) = plan.endpoints
    assert (told.interface_id, told.private_ip, told.mac, told.subnet_id) == (
        interface["NetworkInterfaceId"],
        interface["PrivateIpAddress"],
        interface["MacAddress"],
        site.subnets[0],
    )
    # In none but its VPC's default group.
    assert list(told.group_ids) == [one["GroupId"] for one in interface["Groups"]]
    assert site.tenant("DeleteVpcEndpoints", VpcEndpointIds=[id]) == {"Unsuccessful": []}
    assert site.interfaces() == []
    gone = site.cloud.store.read(lambda reader: read_plan(reader, site.vpc))
    assert gone is not None
    assert (gone.endpoints, gone.names) == ((), {})
    assert sound(site.cloud) == []
    for subnet in site.subnets:
        site.tenant("DeleteSubnet", SubnetId=subnet)
    site.tenant("DeleteSecurityGroup", GroupId=site.group)
    site.tenant("DeleteVpc", VpcId=site.vpc)


def test_while_it_is_there_nobody_takes_its_parts(site: Site) -> None:
    site.made(SecurityGroupIds=[site.group])
    own = {"NetworkInterfaceId": site.interfaces()[0]["NetworkInterfaceId"]}
    tenant = site.tenant
    assert tenant.refused("DeleteNetworkInterface", **own) == "InvalidParameterValue"
    assert tenant.refused("ModifyNetworkInterfaceAttribute", **own, SourceDestCheck={"Value": False}) == "OperationNotPermitted"
    assert tenant.refused("AssignPrivateIpAddresses", **own, SecondaryPrivateIpAddressCount=1) == "OperationNotPermitted"
    assert tenant.refused("DeleteSubnet", SubnetId=site.subnets[0]) == "DependencyViolation"
    assert tenant.refused("DeleteSecurityGroup", GroupId=site.group) == "DependencyViolation"
    assert tenant.refused("DeleteVpc", VpcId=site.vpc) == "DependencyViolation"


def test_it_comes_to_subnets_and_groups_and_leaves_them(site: Site) -> None:
    tenant = site.tenant
    id = site.made(SubnetIds=site.subnets[:1], SecurityGroupIds=[site.group])["VpcEndpointId"]
    other = tenant("CreateSecurityGroup", GroupName="other", Description="d", VpcId=site.vpc)["GroupId"]
    its = {"VpcEndpointId": id}
    assert tenant("ModifyVpcEndpoint", **its, AddSubnetIds=[site.subnets[1]], AddSecurityGroupIds=[other]) == {"Return": True}
    assert site.shown(id)["SubnetIds"] == site.subnets[:2]
    assert all([one["GroupId"] for one in each["Groups"]] == [site.group, other] for each in site.interfaces())
    # From one subnet to another of its zone, at an address of one's choice.
    chosen = [{"SubnetId": site.subnets[2], "Ipv4": "10.0.2.77"}]
    tenant(
        "ModifyVpcEndpoint",
        **its,
        RemoveSubnetIds=[site.subnets[0]],
        AddSubnetIds=[site.subnets[2]],
        SubnetConfigurations=chosen,
        RemoveSecurityGroupIds=[site.group],
    )
    assert sorted(site.shown(id)["SubnetIds"]) == sorted(site.subnets[1:])
    assert sorted(one["PrivateIpAddress"] for one in site.interfaces())[1] == "10.0.2.77"
    assert [one["GroupId"] for one in site.shown(id)["Groups"]] == [other]
    refusal = tenant.refusal("ModifyVpcEndpoint", **its, AddSubnetIds=[site.subnets[0]])
    assert refusal.startswith("DuplicateSubnetsInSameZone: ")
    assert tenant.refused("ModifyVpcEndpoint", **its, RemoveSubnetIds=[site.subnets[0]]) == "InvalidParameter"
    assert tenant.refused("ModifyVpcEndpoint", **its, RemoveSecurityGroupIds=[other]) == "InvalidParameter"
    assert tenant.refused("ModifyVpcEndpoint", **its, AddRouteTableIds=["rtb-00000000000000000"]) == "InvalidParameter"
    assert site.shown(id)["SubnetIds"] == [site.subnets[1], site.subnets[2]]
    assert sound(site.cloud) == []


def test_a_services_own_name_leads_to_one_endpoint_and_as_long_as_the_vpc_has_names(site: Site) -> None:
    tenant = site.tenant
    first = site.made(SubnetIds=site.subnets[:1])["VpcEndpointId"]
    assert site.refused(SubnetIds=site.subnets[:1]) == (
        "InvalidParameter: private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
        f"{PRIVATE} in the VPC {site.vpc}"
    )
    second = site.made(SubnetIds=site.subnets[:1], PrivateDnsEnabled=False)["VpcEndpointId"]
    assert len(site.shown(second)["DnsEntries"]) == 2
    assert tenant.refused("ModifyVpcEndpoint", VpcEndpointId=second, PrivateDnsEnabled=True) == "InvalidParameter"
    tenant("ModifyVpcEndpoint", VpcEndpointId=first, PrivateDnsEnabled=False)
    assert PRIVATE not in site.names()
    tenant("ModifyVpcEndpoint", VpcEndpointId=second, PrivateDnsEnabled=True)
    (address,) = (one["PrivateIpAddress"] for one in site.interfaces() if second in one["Description"])
    assert site.names()[PRIVATE] == (address,)
    # Another service's name is another name.
    assert site.made(ServiceName=STS)["PrivateDnsEnabled"] is True
    tenant("ModifyVpcAttribute", VpcId=site.vpc, EnableDnsHostnames={"Value": False})
    assert PRIVATE not in site.names()
    refusal = tenant.refusal("ModifyVpcEndpoint", VpcEndpointId=first, PrivateDnsEnabled=True)
    assert refusal == (
        "InvalidParameter: Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes "
        f"set to true for {site.vpc}"
    )


ALL = '{"Statement": [{"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}]}'
FEW = '{"Statement": [{"Action": "ec2:Describe*", "Effect": "Allow", "Principal": "*", "Resource": "*"}]}'


def test_what_cannot_be_made(site: Site, stranger: Tenant) -> None:
    (far,) = site.tenant("DescribeSubnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}, A_ZONE])["Subnets"]
    strange = stranger("DescribeSubnets")["Subnets"][0]["SubnetId"]
    for wish, code in (
        ({"VpcEndpointType": "Gateway"}, "InvalidParameter"),
        ({"VpcEndpointType": "GatewayLoadBalancer"}, "InvalidParameter"),
        ({"RouteTableIds": ["rtb-00000000000000000"]}, "InvalidParameter"),
        ({"SubnetIds": [site.subnets[0], site.subnets[2]]}, "DuplicateSubnetsInSameZone"),
        ({"SubnetIds": [far["SubnetId"]]}, "InvalidParameter"),
        ({"SubnetIds": [strange]}, "InvalidSubnetId.NotFound"),
        ({"SubnetIds": ["module.vpc.subnets"]}, "InvalidSubnetId.Malformed"),
        ({"SecurityGroupIds": ["sg-00000000000000000"]}, "InvalidGroup.NotFound"),
        ({"IpAddressType": "dualstack"}, "InvalidParameter"),
        ({"DnsOptions": {"DnsRecordIpType": "dualstack"}}, "InvalidParameter"),
        ({"DnsOptions": {"PrivateDnsOnlyForInboundResolverEndpoint": True}}, "InvalidParameter"),
        ({"PolicyDocument": FEW}, "UnsupportedOperation"),
        ({"SubnetConfigurations": [{"SubnetId": site.subnets[2]}]}, "InvalidParameter"),
    ):
        assert site.refused(**wish).startswith(f"{code}: "), wish
    assert site.interfaces() == []
    # What endpoints have anyway may be asked for, as Terraform does.
    options = {"DnsRecordIpType": "ipv4", "PrivateDnsOnlyForInboundResolverEndpoint": False}
    made = site.made(PolicyDocument=ALL, DnsOptions=options)
    assert made["PolicyDocument"] == ALL
    its = {"VpcEndpointId": made["VpcEndpointId"]}
    assert site.tenant("ModifyVpcEndpoint", **its, DnsOptions=options) == {"Return": True}
    dual = {"DnsRecordIpType": "dualstack"}
    assert site.tenant.refused("ModifyVpcEndpoint", **its, DnsOptions=dual) == "InvalidParameter"
    assert sound(site.cloud) == []


A_ZONE = {"Name": "availability-zone", "Values": ["us-east-1a"]}


def test_a_cloud_whose_server_has_no_host_says_so(cloud: Cloud, tenant: Tenant) -> None:
    vpc = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    refusal = tenant.refusal("CreateVpcEndpoint", VpcId=vpc, ServiceName=EC2, VpcEndpointType="Interface")
    assert refusal.startswith("UnsupportedOperation: ")
    assert "--no-host" in refusal


def test_filters_and_tokens(site: Site) -> None:
    id = site.made(ClientToken="once")["VpcEndpointId"]
    assert site.made(ClientToken="once")["VpcEndpointId"] == id
    assert len(site.interfaces()) == 2
    for name, value, found in (
        ("vpc-endpoint-type", "Interface", True),
        ("vpc-endpoint-type", "Gateway", False),
        ("service-name", EC2, True),
        ("vpc-id", site.vpc, True),
        ("vpc-endpoint-state", "available", True),
    ):
        answer = site.tenant("DescribeVpcEndpoints", Filters=[{"Name": name, "Values": [value]}])["VpcEndpoints"]
        assert bool(answer) is found
