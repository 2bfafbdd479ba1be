"""Goal: a group serves interfaces of a second VPC of its account from association to end, and hosts have its rules there.
Method: whole operations over a store in memory; the plan that hosts are told, and what a session says of changes."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.hosts.networks import read_plan
from alto.api.hosts.session import HostSessions
from alto.model.instances import Instance, Phase
from alto.model.sessions import Assignments
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_beside_instances import IMAGE
from tests.api.test_sessions import HELLO


class Both:
    """A group of one VPC, and another VPC with a subnet and a group."""

    def __init__(self, tenant: Tenant) -> None:
        self.vpc, self.other = (tenant("CreateVpc", CidrBlock=cidr)["Vpc"]["VpcId"] for cidr in ("10.0.0.0/16", "10.1.0.0/16"))
        self.group, self.local = (
            tenant("CreateSecurityGroup", GroupName=name, Description=name, VpcId=vpc)["GroupId"]
            for name, vpc in (("web", self.vpc), ("local", self.other))
        )
        self.subnet = tenant("CreateSubnet", VpcId=self.other, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
        self.both = {"GroupId": self.group, "VpcId": self.other}


@pytest.fixture
def both(tenant: Tenant) -> Both:
    return Both(tenant)


def naming(group: str, source: str) -> dict[str, Any]:
    return {"GroupId": group, "IpPermissions": [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": source}]}]}


def test_an_association_is_listed_from_its_beginning_to_its_end(tenant: Tenant, stranger: Tenant, both: Both) -> None:
    assert tenant("DescribeSecurityGroupVpcAssociations")["SecurityGroupVpcAssociations"] == []
    assert tenant("AssociateSecurityGroupVpc", **both.both) == {"State": "associating"}
    owner = tenant.account.id
    known = [{**both.both, "GroupOwnerId": owner, "VpcOwnerId": owner, "State": "associated"}]
    assert tenant("DescribeSecurityGroupVpcAssociations")["SecurityGroupVpcAssociations"] == known
    for name, value, found in (
        ("group-id", both.group, known),
        ("vpc-id", both.other, known),
        ("vpc-id", both.vpc, []),
        ("state", "associated", known),
        ("state", "disassociated", []),
        ("vpc-owner-id", owner, known),
        ("group-owner-id", "000000000000", []),
    ):
        filters = [{"Name": name, "Values": [value]}]
        assert tenant("DescribeSecurityGroupVpcAssociations", Filters=filters)["SecurityGroupVpcAssociations"] == found
    nope = [{"Name": "nope", "Values": ["x"]}]
    assert tenant.refused("DescribeSecurityGroupVpcAssociations", Filters=nope) == "InvalidParameterValue"
    assert stranger("DescribeSecurityGroupVpcAssociations")["SecurityGroupVpcAssociations"] == []
    assert tenant.refused("AssociateSecurityGroupVpc", **both.both) == "Resource.AlreadyAssociated"
    assert tenant("DisassociateSecurityGroupVpc", **both.both) == {"State": "disassociating"}
    assert tenant("DescribeSecurityGroupVpcAssociations")["SecurityGroupVpcAssociations"] == []
    assert tenant.refused("DisassociateSecurityGroupVpc", **both.both) == "InvalidAssociationID.NotFound"


def test_default_groups_default_vpcs_and_the_groups_own_are_refused(tenant: Tenant, both: Both) -> None:
    default = tenant("CreateSecurityGroup", GroupName="there", Description="d")["GroupId"]
    (vpc,) = tenant("DescribeVpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    own = [{"Name": "vpc-id", "Values": [both.vpc]}, {"Name": "group-name", "Values": ["default"]}]
    (unnamed,) = tenant("DescribeSecurityGroups", Filters=own)["SecurityGroups"]
    for group, other, code in (
        (unnamed["GroupId"], both.other, "InvalidParameterValue"),
        (both.group, vpc["VpcId"], "InvalidParameterValue"),
        (default, both.other, "InvalidParameterValue"),
        (both.group, both.vpc, "Resource.AlreadyAssociated"),
        ("sg-00000000000000000", both.other, "InvalidGroup.NotFound"),
        (both.group, "vpc-00000000000000000", "InvalidVpcID.NotFound"),
    ):
        assert tenant.refused("AssociateSecurityGroupVpc", GroupId=group, VpcId=other) == code
    assert tenant.refused("DisassociateSecurityGroupVpc", GroupId=both.group, VpcId=both.vpc) == "InvalidParameterValue"


def test_interfaces_of_the_other_vpc_are_in_it_only_while_it_is_associated(tenant: Tenant, both: Both) -> None:
    made = {"SubnetId": both.subnet, "Groups": [both.group]}
    assert tenant.refused("CreateNetworkInterface", **made) == "InvalidGroup.NotFound"
    tenant("AssociateSecurityGroupVpc", **both.both)
    interface = tenant("CreateNetworkInterface", **made)["NetworkInterface"]
    assert interface["Groups"] == [{"GroupId": both.group, "GroupName": "web"}]
    found = tenant("GetSecurityGroupsForVpc", VpcId=both.other)["SecurityGroupForVpcs"]
    assert sorted((one["GroupName"], one["PrimaryVpcId"]) for one in found) == sorted(
        [("default", both.other), ("local", both.other), ("web", both.vpc)]
    )
    assert tenant.refused("DisassociateSecurityGroupVpc", **both.both) == "DependencyViolation"
    id = interface["NetworkInterfaceId"]
    tenant("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=id, Groups=[both.local])
    assert tenant.refused("DeleteSecurityGroup", GroupId=both.group) == "DependencyViolation"
    tenant("DisassociateSecurityGroupVpc", **both.both)
    refused = tenant.refused("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=id, Groups=[both.group])
    assert refused == "InvalidGroup.NotFound"
    tenant("DeleteSecurityGroup", GroupId=both.group)


def test_rules_name_groups_with_which_theirs_has_a_vpc_in_common(tenant: Tenant, both: Both) -> None:
    for group, source in ((both.local, both.group), (both.group, both.local)):
        assert tenant.refused("AuthorizeSecurityGroupIngress", **naming(group, source)) == "InvalidGroup.NotFound"
    tenant("AssociateSecurityGroupVpc", **both.both)
    for group, source in ((both.local, both.group), (both.group, both.local)):
        (rule,) = tenant("AuthorizeSecurityGroupIngress", **naming(group, source))["SecurityGroupRules"]
        assert rule["ReferencedGroupInfo"] == {"GroupId": source, "UserId": tenant.account.id}
    for vpc in (both.vpc, both.other):
        assert tenant("DescribeStaleSecurityGroups", VpcId=vpc)["StaleSecurityGroupSet"] == []
    # Whom a rule names does not go, wherever the rule's group was made; without a VPC in common the rule is stale.
    tenant("DisassociateSecurityGroupVpc", **both.both)
    for vpc, group, source in ((both.vpc, both.group, both.local), (both.other, both.local, both.group)):
        (stale,) = tenant("DescribeStaleSecurityGroups", VpcId=vpc)["StaleSecurityGroupSet"]
        (permission,) = stale["StaleIpPermissions"]
        assert (stale["GroupId"], permission["UserIdGroupPairs"][0]["GroupId"]) == (group, source)
    for group in (both.group, both.local):
        assert tenant.refused("DeleteSecurityGroup", GroupId=group) == "DependencyViolation"
    for group, source in ((both.local, both.group), (both.group, both.local)):
        tenant("RevokeSecurityGroupIngress", **naming(group, source))
    for group in (both.group, both.local):
        tenant("DeleteSecurityGroup", GroupId=group)


def test_a_vpc_takes_its_associations_with_it(tenant: Tenant, both: Both) -> None:
    tenant("AssociateSecurityGroupVpc", **both.both)
    tenant("DeleteSecurityGroup", GroupId=both.local)
    tenant("DeleteSubnet", SubnetId=both.subnet)
    tenant("DeleteVpc", VpcId=both.other)
    assert tenant("DescribeSecurityGroupVpcAssociations")["SecurityGroupVpcAssociations"] == []
    tenant("DeleteSecurityGroup", GroupId=both.group)


def groups_of_plan(tenant: Tenant, vpc_id: str) -> dict[str, int]:
    """Group -> how many rules, as hosts are told."""
    plan = tenant.cloud.store.read(lambda reader: read_plan(reader, vpc_id))
    assert plan is not None
    return {one.id: len(one.permissions) for one in plan.groups}


def test_hosts_have_its_rules_in_each_vpc(tenant: Tenant, both: Both) -> None:
    assert both.group not in groups_of_plan(tenant, both.other)
    tenant("AssociateSecurityGroupVpc", **both.both)
    assert groups_of_plan(tenant, both.other)[both.group] == 1
    tenant("AuthorizeSecurityGroupIngress", GroupId=both.group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="0.0.0.0/0")
    assert groups_of_plan(tenant, both.other)[both.group] == groups_of_plan(tenant, both.vpc)[both.group] == 2
    tenant("DisassociateSecurityGroupVpc", **both.both)
    assert both.group not in groups_of_plan(tenant, both.other)


def test_a_host_of_the_other_vpc_hears_of_the_association_and_of_each_rule(cloud: Cloud, tenant: Tenant, both: Both) -> None:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(),
    )
    request = {"ImageId": IMAGE, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "SubnetId": both.subnet}
    foreign = tenant.refused("RunInstances", SecurityGroupIds=[both.group], **request)
    assert foreign == "InvalidParameter"
    launched = tenant("RunInstances", **request)["Instances"][0]["InstanceId"]
    instance = cloud.store.read(lambda reader: reader.get(Instance, launched))
    cloud.put(replace(instance, host_id="h-1", phase=Phase.RUNNING, epoch=1))

    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        running = asyncio.create_task(sessions.run())
        link = await sessions.hello(replace(HELLO, host_id="h-1", name="h-1"))

        async def hears() -> Assignments:
            said = await sessions.assignments(link, timeout_s=5.0)
            assert said is not None
            return said

        await hears()
        await tenant.ask("AssociateSecurityGroupVpc", **both.both)
        (plan,) = (await hears()).networks
        assert {one.id for one in plan.groups} >= {both.group, both.local}
        await tenant.ask("ModifyInstanceAttribute", InstanceId=launched, Groups=[both.group])
        await hears()
        await tenant.ask(
            "AuthorizeSecurityGroupIngress", GroupId=both.group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="0.0.0.0/0"
        )
        (change,) = (await hears()).network_changes
        assert change.vpc_id == both.other
        assert [(one.id, len(one.permissions)) for one in change.groups] == [(both.group, 2)]
        running.cancel()

    cloud.runner.run(body())
