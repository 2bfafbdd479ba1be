"""Goal: placement groups are told as EC2 tells them, a launch that they forbid is refused with the reason, and a group in use
stays. Method: whole calls through the gateway; the scheduler is run by hand, so hosts are chosen for real."""

from typing import Any

import pytest

from alto.control.scheduler import Scheduler
from alto.model.instances import Instance, Phase
from alto.model.placement_groups import PlacementMember
from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_launches import ONE, says

HOSTS = 3


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        *(host(number, vcpus=8, memory_mib=1024) for number in range(1, HOSTS + 1)),
        tiny(),
    )


def group(tenant: Tenant, strategy: str, **more: Any) -> dict[str, Any]:
    made = tenant("CreatePlacementGroup", GroupName="g", Strategy=strategy, **more)["PlacementGroup"]
    return dict(made)


def launch(tenant: Tenant, count: int, **placement: Any) -> list[str]:
    """Their hosts, once the scheduler has placed them."""
    wanted = {**ONE, "MinCount": count, "MaxCount": count, "Placement": {"GroupName": "g", **placement}}
    ids = [one["InstanceId"] for one in tenant("RunInstances", **wanted)["Instances"]]
    tenant.cloud.runner.run(Scheduler(tenant.cloud.store).reconcile())
    found = tenant.cloud.store.read(lambda reader: [reader.get(Instance, id) for id in ids])
    assert all(one.host_id for one in found), [one.waiting_because for one in found]
    return [one.host_id or "" for one in found]


def words(tenant: Tenant, operation: str, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(Answered) as refusal:
        tenant(operation, **parameters)
    return refusal.value.code, refusal.value.message


def test_a_group_is_made_told_and_deleted(tenant: Tenant) -> None:
    made = group(tenant, "partition", PartitionCount=3)
    tags = [{"ResourceType": "placement-group", "Tags": [{"Key": "a", "Value": "b"}]}]
    tenant("CreatePlacementGroup", GroupName="other", Strategy="spread", TagSpecifications=tags)
    assert (made["State"], made["Strategy"], made["PartitionCount"]) == ("available", "partition", 3)
    assert made["GroupArn"] == f"arn:aws:ec2:us-east-1:{tenant.account.id}:placement-group/g"

    def found(**parameters: Any) -> list[str]:
        return [one["GroupName"] for one in tenant("DescribePlacementGroups", **parameters)["PlacementGroups"]]

    assert found() == ["g", "other"]
    assert found(GroupNames=["other"]) == ["other"]
    assert found(GroupIds=[made["GroupId"]]) == ["g"]
    assert found(Filters=[{"Name": "tag:a", "Values": ["b"]}]) == ["other"]
    assert found(Filters=[{"Name": "strategy", "Values": ["partition"]}]) == ["g"]
    assert found(Filters=[{"Name": "spread-level", "Values": ["rack"]}]) == ["other"]
    tenant("DeletePlacementGroup", GroupName="g")
    assert found() == ["other"]
    assert words(tenant, "DeletePlacementGroup", GroupName="g") == (
        "InvalidPlacementGroup.Unknown",
        "The Placement Group 'g' is unknown.",
    )


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "MissingParameter"),
        ({"GroupName": "taken"}, "InvalidPlacementGroup.Duplicate"),
        ({"GroupName": "g", "Strategy": "random"}, "InvalidParameterValue"),
        ({"GroupName": "g", "Strategy": "spread", "PartitionCount": 2}, "InvalidParameterCombination"),
        ({"GroupName": "g", "Strategy": "partition", "PartitionCount": 8}, "InvalidParameterValue"),
        ({"GroupName": "g", "Strategy": "cluster", "SpreadLevel": "host"}, "InvalidParameterCombination"),
    ],
)
def test_what_is_no_group_is_refused(tenant: Tenant, parameters: dict[str, Any], code: str) -> None:
    tenant("CreatePlacementGroup", GroupName="taken", Strategy="cluster")
    assert tenant.refused("CreatePlacementGroup", **parameters) == code
    assert len(tenant("DescribePlacementGroups")["PlacementGroups"]) == 1


def test_spread_keeps_members_on_different_hosts(tenant: Tenant) -> None:
    group(tenant, "spread")
    assert len({*launch(tenant, 2), *launch(tenant, 1)}) == HOSTS
    code, message = words(tenant, "RunInstances", **ONE, Placement={"GroupName": "g"})
    assert code == "InsufficientInstanceCapacity"
    assert "3 hosts with another member of the spread placement group g" in message


def test_more_than_can_be_spread_are_refused_at_once_and_as_many_as_fit_are_taken(cloud: Cloud, tenant: Tenant) -> None:
    group(tenant, "spread")
    wanted = {**ONE, "Placement": {"GroupName": "g"}}
    assert tenant.refused("RunInstances", **{**wanted, "MinCount": 4, "MaxCount": 4}) == "InsufficientInstanceCapacity"
    assert len(tenant("RunInstances", **{**wanted, "MaxCount": 9})["Instances"]) == HOSTS


def test_cluster_keeps_members_on_one_host(tenant: Tenant) -> None:
    group(tenant, "cluster")
    assert len({*launch(tenant, 5), *launch(tenant, 2)}) == 1
    wanted = {**ONE, "MinCount": 2, "MaxCount": 2, "Placement": {"GroupName": "g"}}
    code, message = words(tenant, "RunInstances", **wanted)
    assert code == "InsufficientInstanceCapacity", "eight fit on a host, and seven are there"
    assert "2 hosts away from the other members of the cluster placement group g" in message


def test_partitions_share_no_host(tenant: Tenant) -> None:
    group(tenant, "partition", PartitionCount=2)
    first = {*launch(tenant, 2, PartitionNumber=1)}
    second = {*launch(tenant, 2, PartitionNumber=2)}
    assert not first & second
    told = [one["Placement"] for r in tenant("DescribeInstances")["Reservations"] for one in r["Instances"]]
    assert sorted(one["PartitionNumber"] for one in told) == [1, 1, 2, 2]
    assert {one["GroupName"] for one in told} == {"g"}
    filters = [{"Name": "placement-partition-number", "Values": ["2"]}]
    assert len(tenant("DescribeInstances", Filters=filters)["Reservations"][0]["Instances"]) == 2
    third = {"GroupName": "g", "PartitionNumber": 3}
    assert tenant.refused("RunInstances", **ONE, Placement=third) == "InvalidParameterValue"


def test_who_asks_for_no_partition_goes_to_the_smallest_that_can_be(tenant: Tenant) -> None:
    group(tenant, "partition", PartitionCount=7)
    launch(tenant, 6)
    members = tenant.cloud.store.read(lambda reader: reader.where(PlacementMember))
    partitions = sorted(member.partition or 0 for member in members)
    assert partitions == [1, 1, 2, 2, 3, 3], "there are three hosts"


def test_a_group_stays_while_it_has_members(cloud: Cloud, tenant: Tenant) -> None:
    group(tenant, "spread")
    launch(tenant, 1)
    assert words(tenant, "DeletePlacementGroup", GroupName="g") == (
        "InvalidPlacementGroup.InUse",
        "The placement group 'g' is in use and may not be deleted.",
    )
    (instance,) = cloud.store.read(lambda reader: reader.where(Instance))
    tenant("TerminateInstances", InstanceIds=[instance.id])
    assert tenant.refused("DeletePlacementGroup", GroupName="g") == "InvalidPlacementGroup.InUse", "it still is on its host"


def test_one_that_never_had_a_host_leaves_its_group_at_once(tenant: Tenant) -> None:
    group(tenant, "spread")
    (one,) = tenant("RunInstances", **ONE, Placement={"GroupName": "g"})["Instances"]
    tenant("TerminateInstances", InstanceIds=[one["InstanceId"]])
    tenant("DeletePlacementGroup", GroupName="g")


def test_an_instance_may_ask_for_one_host(cloud: Cloud, tenant: Tenant) -> None:
    wanted = {**ONE, "MinCount": 3, "MaxCount": 3, "Placement": {"HostId": "h-2"}}
    ids = [one["InstanceId"] for one in tenant("RunInstances", **wanted)["Instances"]]
    cloud.runner.run(Scheduler(cloud.store).reconcile())
    assert {cloud.store.read(lambda reader, id=id: reader.get(Instance, id)).host_id for id in ids} == {"h-2"}
    filters = [{"Name": "host-id", "Values": ["h-2"]}]
    assert len(tenant("DescribeInstances", Filters=filters)["Reservations"][0]["Instances"]) == 3
    code, message = words(tenant, "RunInstances", **{**wanted, "MinCount": 6, "MaxCount": 6})
    assert code == "InsufficientInstanceCapacity"
    assert "2 hosts other than the one asked for" in message
    assert tenant.refused("RunInstances", **ONE, Placement={"HostId": "h-9"}) == "InvalidHostID.NotFound"


@pytest.mark.parametrize(
    ("placement", "code"),
    [
        ({"GroupName": "nobody"}, "InvalidPlacementGroup.Unknown"),
        ({"Tenancy": "dedicated", "GroupName": "g"}, "InvalidParameterCombination"),
        ({"Tenancy": "host"}, "InsufficientHostCapacity"),
        ({"Affinity": "host"}, "InvalidParameterCombination"),
        ({"Affinity": "yes"}, "InvalidParameterValue"),
        ({"PartitionNumber": 1}, "InvalidParameterCombination"),
        ({"GroupName": "g", "PartitionNumber": 1}, "InvalidParameterCombination"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(tenant: Tenant, placement: dict[str, Any], code: str) -> None:
    group(tenant, "spread")
    assert tenant.refused("RunInstances", **ONE, Placement=placement) == code
    assert tenant("DescribeInstances")["Reservations"] == []


def test_a_stopped_member_keeps_its_place(cloud: Cloud, tenant: Tenant) -> None:
    group(tenant, "spread")
    launch(tenant, HOSTS)
    first = cloud.store.read(lambda reader: reader.where(Instance))[0]
    says(cloud, first.id, Phase.RUNNING)
    tenant("StopInstances", InstanceIds=[first.id])
    says(cloud, first.id, Phase.STOPPED)
    assert tenant.refused("RunInstances", **ONE, Placement={"GroupName": "g"}) == "InsufficientInstanceCapacity"


def test_a_stopped_instance_changes_its_placement(cloud: Cloud, tenant: Tenant) -> None:
    """Only as the host allows that has its disk; who leaves a group no longer holds it."""
    group(tenant, "spread")
    (host_id,) = launch(tenant, 1)
    inside = tenant("DescribeInstances")["Reservations"][0]["Instances"][0]["InstanceId"]
    alone = tenant("RunInstances", **ONE, Placement={"HostId": host_id})["Instances"][0]["InstanceId"]
    tenant.cloud.runner.run(Scheduler(cloud.store).reconcile())
    assert tenant.refused("ModifyInstancePlacement", InstanceId=alone, GroupName="g") == "IncorrectInstanceState"
    for id in (inside, alone):
        says(cloud, id, Phase.RUNNING)
        tenant("StopInstances", InstanceIds=[id])
        says(cloud, id, Phase.STOPPED)
    wanted = {"InstanceId": alone, "GroupName": "g"}
    assert words(tenant, "ModifyInstancePlacement", **wanted) == (
        "InsufficientInstanceCapacity",
        f"The host that has the disk of {alone} is with another member of the spread placement group g.",
    )
    elsewhere = next(f"h-{number}" for number in range(1, HOSTS + 1) if f"h-{number}" != host_id)
    assert tenant.refused("ModifyInstancePlacement", InstanceId=alone, HostId=elsewhere) == "InvalidHostConfiguration"
    assert tenant("ModifyInstancePlacement", InstanceId=inside, GroupName="")["Return"] is True
    tenant("ModifyInstancePlacement", **wanted)
    tenant("ModifyInstancePlacement", InstanceId=alone, Affinity="default")

    def placement(id: str) -> tuple[str, str | None]:
        shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]["Placement"]
        return shown["GroupName"], shown.get("HostId")

    assert (placement(inside), placement(alone)) == (("", None), ("g", None))
    (member,) = cloud.store.read(lambda reader: reader.where(PlacementMember))
    assert (member.id, member.host_id) == (alone, host_id)
    assert tenant.refused("ModifyInstancePlacement", InstanceId=alone, GroupName="none") == "InvalidPlacementGroup.Unknown"
    assert tenant.refused("ModifyInstancePlacement", InstanceId=alone) == "MissingParameter"
