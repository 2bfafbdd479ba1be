"""Goal: rules may name groups of peered VPCs, and say when what they named is gone. Method: whole operations by two accounts
over a store in memory, and the plan that hosts are told."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.hosts.networks import read_plan
from alto.api.hosts.session import HostSessions
from alto.model.instances import Instance, Phase
from alto.model.networks import NetworkInterface
from alto.model.sessions import Assignments
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_beside_instances import IMAGE
from tests.api.test_sessions import HELLO


class Peered:
    """Two VPCs of two accounts, peered, with a group in each."""

    def __init__(self, tenant: Tenant, stranger: Tenant) -> None:
        self.vpc, self.other = (
            one("CreateVpc", CidrBlock=cidr)["Vpc"]["VpcId"]
            for one, cidr in ((tenant, "10.0.0.0/16"), (stranger, "10.1.0.0/16"))
        )
        made = tenant("CreateVpcPeeringConnection", VpcId=self.vpc, PeerVpcId=self.other, PeerOwnerId=stranger.account.id)
        self.pcx = made["VpcPeeringConnection"]["VpcPeeringConnectionId"]
        self.mine, self.theirs = (
            one("CreateSecurityGroup", GroupName="web", Description="web", VpcId=vpc)["GroupId"]
            for one, vpc in ((tenant, self.vpc), (stranger, self.other))
        )
        self.pair = {"GroupId": self.theirs, "UserId": stranger.account.id}

    def rule(self, **changes: str) -> dict[str, Any]:
        pair = {**self.pair, **changes}
        permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [pair]}
        return {"GroupId": self.mine, "IpPermissions": [permission]}


@pytest.fixture
def peered(tenant: Tenant, stranger: Tenant) -> Peered:
    return Peered(tenant, stranger)


def pairs(tenant: Tenant, group: str) -> list[dict[str, Any]]:
    (found,) = tenant("DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"]
    return [pair for permission in found["IpPermissions"] for pair in permission["UserIdGroupPairs"]]


def test_a_group_of_a_peer_is_named_once_the_connection_is_active(tenant: Tenant, stranger: Tenant, peered: Peered) -> None:
    assert tenant.refused("AuthorizeSecurityGroupIngress", **peered.rule()) == "InvalidGroup.NotFound"
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    for wrong in (
        {"UserId": tenant.account.id},
        {"VpcId": peered.vpc},
        {"GroupId": "sg-00000000000000000"},
        {"VpcPeeringConnectionId": "pcx-00000000000000000"},
    ):
        assert tenant.refused("AuthorizeSecurityGroupIngress", **peered.rule(**wrong)) == "InvalidGroup.NotFound"
    (rule,) = tenant("AuthorizeSecurityGroupIngress", **peered.rule())["SecurityGroupRules"]
    where = {"UserId": stranger.account.id, "VpcId": peered.other, "VpcPeeringConnectionId": peered.pcx}
    assert rule["ReferencedGroupInfo"] == {"GroupId": peered.theirs, **where, "PeeringStatus": "active"}
    assert pairs(tenant, peered.mine) == [{"GroupId": peered.theirs, **where, "PeeringStatus": "active"}]
    assert tenant.refused("AuthorizeSecurityGroupIngress", **peered.rule()) == "InvalidPermission.Duplicate"
    references = stranger("DescribeSecurityGroupReferences", GroupId=[peered.theirs])["SecurityGroupReferenceSet"]
    assert references == [
        {"GroupId": peered.theirs, "ReferencingVpcId": peered.vpc, "VpcPeeringConnectionId": peered.pcx},
    ]
    assert tenant("DescribeSecurityGroupReferences", GroupId=[peered.mine])["SecurityGroupReferenceSet"] == []
    by_owner = [{"Name": "ip-permission.user-id", "Values": [stranger.account.id]}]
    (found,) = tenant("DescribeSecurityGroups", Filters=by_owner)["SecurityGroups"]
    assert found["GroupId"] == peered.mine


def test_rules_that_name_a_peer_can_be_sent_back_as_they_are_shown(tenant: Tenant, stranger: Tenant, peered: Peered) -> None:
    """Tools read a group's rules, take them away and make them again."""
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    tenant("AuthorizeSecurityGroupIngress", **peered.rule())
    (before,) = tenant("DescribeSecurityGroups", GroupIds=[peered.mine])["SecurityGroups"]
    shown = {"GroupId": peered.mine, "IpPermissions": before["IpPermissions"]}
    assert shown["IpPermissions"][0]["UserIdGroupPairs"][0]["VpcPeeringConnectionId"] == peered.pcx
    tenant("UpdateSecurityGroupRuleDescriptionsIngress", **shown)
    tenant("RevokeSecurityGroupIngress", **shown)
    assert pairs(tenant, peered.mine) == []
    tenant("AuthorizeSecurityGroupIngress", **shown)
    (after,) = tenant("DescribeSecurityGroups", GroupIds=[peered.mine])["SecurityGroups"]
    assert after["IpPermissions"] == before["IpPermissions"]
    stranger("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    (gone,) = tenant("DescribeSecurityGroups", GroupIds=[peered.mine])["SecurityGroups"]
    tenant("RevokeSecurityGroupIngress", GroupId=peered.mine, IpPermissions=gone["IpPermissions"])
    assert pairs(tenant, peered.mine) == []


@pytest.mark.parametrize("what_goes", ["connection", "group"])
def test_a_rule_is_stale_when_what_it_names_is_gone(tenant: Tenant, stranger: Tenant, peered: Peered, what_goes: str) -> None:
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    tenant("AuthorizeSecurityGroupIngress", **peered.rule())
    assert tenant("DescribeStaleSecurityGroups", VpcId=peered.vpc)["StaleSecurityGroupSet"] == []
    if what_goes == "connection":
        stranger("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    else:
        stranger("DeleteSecurityGroup", GroupId=peered.theirs)
    (stale,) = tenant("DescribeStaleSecurityGroups", VpcId=peered.vpc)["StaleSecurityGroupSet"]
    assert (stale["GroupId"], stale["GroupName"], stale["VpcId"]) == (peered.mine, "web", peered.vpc)
    ((permission,), outward) = stale["StaleIpPermissions"], stale["StaleIpPermissionsEgress"]
    assert outward == []
    (pair,) = permission["UserIdGroupPairs"]
    assert (pair["GroupId"], pair["VpcPeeringConnectionId"]) == (peered.theirs, peered.pcx)
    assert pair["PeeringStatus"] == ("deleted" if what_goes == "connection" else "active")
    # Whose a deleted group was is not said.
    assert pair.get("UserId") == (stranger.account.id if what_goes == "connection" else None)
    assert pairs(tenant, peered.mine) == [pair]
    listed = tenant("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [peered.mine]}])["SecurityGroupRules"]
    assert [rule["ReferencedGroupInfo"] for rule in listed if "ReferencedGroupInfo" in rule] == [pair]
    # It can still be taken away, though nothing is there any more that it names.
    tenant("RevokeSecurityGroupIngress", **peered.rule())
    assert pairs(tenant, peered.mine) == []


def test_hosts_are_told_who_is_in_the_group(tenant: Tenant, stranger: Tenant, peered: Peered) -> None:
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    subnet = stranger("CreateSubnet", VpcId=peered.other, CidrBlock="10.1.0.0/24")["Subnet"]
    interface = NetworkInterface(
        id="eni-01111111111111111",
        account=stranger.account.id,
        region=stranger.region,
        vpc_id=peered.other,
        subnet_id=subnet["SubnetId"],
        zone=subnet["AvailabilityZone"],
        mac="0a:00:00:00:00:01",
        private_ip="10.1.0.9",
        group_ids=(peered.theirs,),
    )
    tenant.cloud.put(interface)

    def members() -> dict[str, tuple[str, ...]]:
        plan = tenant.cloud.store.read(lambda reader: read_plan(reader, peered.vpc))
        assert plan is not None
        return plan.members

    assert members() == {}
    tenant("AuthorizeSecurityGroupIngress", **peered.rule())
    assert members() == {peered.theirs: ("10.1.0.9",)}
    stranger("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    assert members() == {}


def test_groups_for_a_vpc(tenant: Tenant, peered: Peered) -> None:
    found = tenant("GetSecurityGroupsForVpc", VpcId=peered.vpc)["SecurityGroupForVpcs"]
    assert sorted(one["GroupName"] for one in found) == ["default", "web"]
    assert {one["PrimaryVpcId"] for one in found} == {peered.vpc}
    (only,) = tenant("GetSecurityGroupsForVpc", VpcId=peered.vpc, Filters=[{"Name": "group-name", "Values": ["w*"]}])[
        "SecurityGroupForVpcs"
    ]
    assert (only["GroupId"], only["OwnerId"], only["Description"]) == (peered.mine, tenant.account.id, "web")


def test_hosts_hear_at_once_of_who_joins_the_group(cloud: Cloud, tenant: Tenant, stranger: Tenant, peered: Peered) -> None:
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peered.pcx)
    tenant("AuthorizeSecurityGroupIngress", **peered.rule())
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(),
    )

    subnets = {
        vpc: who("CreateSubnet", VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
        for who, vpc, cidr in ((tenant, peered.vpc, "10.0.0.0/24"), (stranger, peered.other, "10.1.0.0/24"))
    }

    def launched(who: Tenant, vpc: str, group: str) -> dict[str, Any]:
        request = {"ImageId": IMAGE, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "SubnetId": subnets[vpc]}
        return dict(who("RunInstances", SecurityGroupIds=[group], **request)["Instances"][0])

    ours = launched(tenant, peered.vpc, peered.mine)
    row = cloud.store.read(lambda reader: reader.get(Instance, ours["InstanceId"]))
    cloud.put(replace(row, host_id="h-1", phase=Phase.PLACED))

    async def greeted() -> tuple[HostSessions, asyncio.Task[None], str, Assignments | None]:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        running = asyncio.create_task(sessions.run())
        link = await sessions.hello(replace(HELLO, capabilities=replace(HELLO.capabilities, vcpus=8, memory_mib=8192)))
        return sessions, running, link, await sessions.assignments(link, timeout_s=1.0)

    sessions, running, link, first = cloud.runner.run(greeted())
    assert first is not None
    assert [plan.members for plan in first.networks] == [{peered.theirs: ()}]
    theirs = launched(stranger, peered.other, peered.theirs)

    async def heard() -> Assignments | None:
        news = await sessions.assignments(link, timeout_s=5.0)
        running.cancel()
        return news

    news = cloud.runner.run(heard())
    assert news is not None
    assert [plan.members for plan in news.networks] == [{peered.theirs: (theirs["PrivateIpAddress"],)}]
