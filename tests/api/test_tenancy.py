"""Goal: an instance of dedicated tenancy has no other account's beside it, from its placement until it stops, and whoever
that keeps away reads why. Method: two accounts call through the gateway; the scheduler is run by hand: it chooses for real."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.hosts.session import _take_reports
from alto.control.scheduler import Scheduler
from alto.model.errors import CapacityExceeded
from alto.model.hosts import Host
from alto.model.instances import Instance, Phase, PlacementWish, Report
from alto.model.sessions import Reports
from alto.plan import placement
from alto.plan.placement import Demand
from alto.store.claims import give_room
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.rows import host, sound, tiny
from tests.api.test_launches import ONE

DEDICATED = {"Placement": {"Tenancy": "dedicated"}}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(host(1, vcpus=8, memory_mib=1024), host(2, vcpus=8, memory_mib=1024), tiny())


def place(cloud: Cloud, id: str) -> Instance:
    cloud.runner.run(Scheduler(cloud.store).reconcile())
    return cloud.store.read(lambda reader: reader.get(Instance, id))


def launch(tenant: Tenant, **more: Any) -> Instance:
    (made,) = tenant("RunInstances", **ONE, **more)["Instances"]
    return place(tenant.cloud, made["InstanceId"])


def says(cloud: Cloud, id: str, phase: Phase) -> None:
    """Its host reports, and the room that it held is counted."""
    one = cloud.store.read(lambda reader: reader.get(Instance, id))
    report = Report(instance_id=id, epoch=one.epoch, incarnation=one.incarnation, phase=phase, at=NOW)
    reports = Reports(number=1, instances=(report,), at=NOW)
    assert one.host_id is not None
    host_id = one.host_id
    cloud.runner.run(cloud.store.write(lambda tx: _take_reports(tx, host_id, reports, NOW)))


def stop(tenant: Tenant, id: str) -> None:
    says(tenant.cloud, id, Phase.RUNNING)
    tenant("StopInstances", InstanceIds=[id])
    says(tenant.cloud, id, Phase.STOPPED)


def shown(tenant: Tenant, id: str) -> str:
    (found,) = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"]
    return str(found["Placement"]["Tenancy"])


def test_no_other_account_comes_beside_it_and_its_own_does(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    mine = [launch(tenant, **DEDICATED), launch(tenant, **DEDICATED)]
    assert mine[0].host_id == mine[1].host_id, "they keep few hosts from others"
    theirs = {launch(stranger).host_id for _ in range(8)}
    assert theirs == {"h-1", "h-2"} - {mine[0].host_id}
    assert stranger.refusal("RunInstances", **ONE) == (
        "InsufficientInstanceCapacity: no host fits m1.tiny (1 vCPUs, 128 MiB): 1 host kept for dedicated instances of another "
        "account, 1 host short of memory. Try fewer or smaller instances, or add a host."
    )
    assert launch(tenant).host_id == mine[0].host_id, "ordinary ones of its account may stand beside it"
    assert sound(cloud) == []


def test_it_comes_to_no_host_that_others_have(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    theirs = [launch(stranger), launch(stranger)]
    assert {one.host_id for one in theirs} == {"h-1", "h-2"}
    refusal = tenant.refusal("RunInstances", **ONE, **DEDICATED)
    assert "2 hosts shared with other accounts, and a dedicated one is needed" in refusal
    says(cloud, theirs[0].id, Phase.RUNNING)
    stranger("TerminateInstances", InstanceIds=[theirs[0].id])
    says(cloud, theirs[0].id, Phase.TERMINATED)
    assert launch(tenant, **DEDICATED).host_id == theirs[0].host_id
    assert sound(cloud) == []


def test_of_many_as_many_come_as_fit_and_each_is_looked_for_once(
    cloud: Cloud, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch of many plays the placing through while it has the writer, so it must not play it through for each number."""
    looked: list[Demand] = []
    choose = placement.place
    monkeypatch.setattr(placement, "place", lambda demand, rooms: looked.append(demand) or choose(demand, rooms))
    made = tenant("RunInstances", **{**ONE, "MaxCount": 1000}, **DEDICATED)["Instances"]
    assert len(made) == 8, "one host takes so many, and the other is left for all accounts"
    assert len(looked) == 9
    refusal = tenant.refusal("RunInstances", **{**ONE, "MinCount": 9, "MaxCount": 1000}, **DEDICATED)
    assert "2 hosts with room for fewer than were asked for" in refusal


def test_one_that_waits_says_for_what(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    """Two that were taken while there was room, and each keeps the other out."""
    (first,) = stranger("RunInstances", **ONE, Placement={"HostId": "h-1"})["Instances"]
    (second,) = tenant("RunInstances", **ONE, Placement={"HostId": "h-1", **DEDICATED["Placement"]})["Instances"]
    assert [place(cloud, one["InstanceId"]).host_id for one in (first, second)] == ["h-1", None]
    assert place(cloud, second["InstanceId"]).waiting_because == (
        "no host fits m1.tiny (1 vCPUs, 128 MiB): 1 host other than the one asked for, 1 host shared with other accounts, and "
        "a dedicated one is needed"
    )
    assert sound(cloud) == []


def test_room_on_a_host_is_given_to_nobody_but_whom_it_is_kept_for(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    launch(tenant, Placement={"Tenancy": "dedicated", "HostId": "h-1"})
    ordinary = launch(stranger)
    for one in (ordinary, replace(ordinary, placement=PlacementWish(dedicated=True))):
        with pytest.raises(CapacityExceeded, match="kept for dedicated instances of another account"):
            cloud.runner.run(cloud.store.write(lambda tx, one=one: give_room(tx, "h-1", one)))  # type: ignore[misc]
    assert sound(cloud) == []


def test_nobody_is_kept_out_of_the_whole_cloud(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    mine = launch(tenant, Placement={"Tenancy": "dedicated", "HostId": "h-1"})
    assert "1 host left to the tenancy 'default', as the last that all accounts share" in stranger.refusal(
        "RunInstances", **ONE, **DEDICATED
    )
    assert launch(stranger).host_id == "h-2"
    stop(tenant, mine.id)
    cloud.put(replace(cloud.store.read(lambda reader: reader.get(Host, "h-2")), draining=True))
    assert tenant.refusal("StartInstances", InstanceIds=[mine.id]) == (
        f"InsufficientInstanceCapacity: The host that keeps the disk of {mine.id} is left to the tenancy 'default', as the "
        "last that all accounts share: one host more, or that tenancy (ModifyInstancePlacement), would do. Try again later."
    )
    assert sound(cloud) == []


def test_a_stopped_one_keeps_nobody_away_and_starts_when_it_can(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    mine = launch(tenant, Placement={"Tenancy": "dedicated", "HostId": "h-1"})
    stop(tenant, mine.id)
    theirs = launch(stranger, Placement={"HostId": "h-1"})
    assert tenant.refusal("StartInstances", InstanceIds=[mine.id]) == (
        f"InsufficientInstanceCapacity: The host that keeps the disk of {mine.id} is shared with other accounts, and a "
        "dedicated one is needed. Try again later."
    )
    stop(stranger, theirs.id)
    tenant("StartInstances", InstanceIds=[mine.id])
    assert "kept for dedicated instances of another account" in stranger.refusal("StartInstances", InstanceIds=[theirs.id])
    assert sound(cloud) == []
    says(cloud, mine.id, Phase.RUNNING)
    tenant("TerminateInstances", InstanceIds=[mine.id])
    says(cloud, mine.id, Phase.TERMINATED)
    stranger("StartInstances", InstanceIds=[theirs.id])
    assert sound(cloud) == []


def test_a_vpc_of_dedicated_tenancy_makes_its_instances_so(cloud: Cloud, tenant: Tenant) -> None:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16", InstanceTenancy="dedicated")["Vpc"]["VpcId"]
    subnet = tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    before = launch(tenant, SubnetId=subnet)
    asked = launch(tenant, SubnetId=subnet, Placement={"Tenancy": "default"})
    stop(tenant, before.id)
    to_default = {"InstanceId": before.id, "Tenancy": "default"}
    assert tenant.refused("ModifyInstancePlacement", **to_default) == "InvalidRequest"
    tenant("ModifyInstancePlacement", **to_default | {"Tenancy": "dedicated"})
    tenant("ModifyVpcTenancy", VpcId=vpc, InstanceTenancy="default")
    after = launch(tenant, SubnetId=subnet)
    assert [shown(tenant, one.id) for one in (before, asked, after)] == ["dedicated", "dedicated", "default"]
    filters = [{"Name": "tenancy", "Values": ["dedicated"]}]
    found = {one["Instances"][0]["InstanceId"] for one in tenant("DescribeInstances", Filters=filters)["Reservations"]}
    assert found == {before.id, asked.id}
    tenant("ModifyInstancePlacement", **to_default)
    assert shown(tenant, before.id) == "default"


def test_a_template_may_say_it_and_is_made_of_it(tenant: Tenant) -> None:
    data = {"ImageId": ONE["ImageId"], "InstanceType": "m1.tiny", "Placement": {"Tenancy": "dedicated"}}
    tenant("CreateLaunchTemplate", LaunchTemplateName="alone", LaunchTemplateData=data)
    (made,) = tenant("RunInstances", LaunchTemplate={"LaunchTemplateName": "alone"}, MinCount=1, MaxCount=1)["Instances"]
    assert made["Placement"]["Tenancy"] == "dedicated"
    said = tenant("GetLaunchTemplateData", InstanceId=made["InstanceId"])["LaunchTemplateData"]
    assert said["Placement"]["Tenancy"] == "dedicated"


def test_a_stopped_instance_changes_its_tenancy(cloud: Cloud, tenant: Tenant, stranger: Tenant) -> None:
    mine = launch(tenant, Placement={"HostId": "h-1"})
    assert tenant.refused("ModifyInstancePlacement", InstanceId=mine.id, Tenancy="dedicated") == "IncorrectInstanceState"
    stop(tenant, mine.id)
    tenant("ModifyInstancePlacement", InstanceId=mine.id, Tenancy="dedicated")
    tenant("ModifyInstancePlacement", InstanceId=mine.id, Affinity="default")
    assert shown(tenant, mine.id) == "dedicated", "what is not said stays"
    tenant("StartInstances", InstanceIds=[mine.id])
    assert launch(stranger).host_id == "h-2"
    stop(tenant, mine.id)
    tenant("ModifyInstancePlacement", InstanceId=mine.id, Tenancy="default")
    tenant("StartInstances", InstanceIds=[mine.id])
    assert {launch(stranger).host_id for _ in range(4)} == {"h-1", "h-2"}
    assert sound(cloud) == []


def test_operators_see_for_whom_a_host_is_kept(tenant: Tenant, operator: Tenant) -> None:
    launch(tenant, **DEDICATED)
    by_host = {one["id"]: one for one in operator.local("GET", "hosts")[1]["hosts"]}
    assert sorted(str(one["dedicated"]) for one in by_host.values()) == [
        "None",
        str({"account": tenant.account.id, "instances": 1}),
    ]
    assert all("dedicated" not in one for one in tenant.local("GET", "hosts")[1]["hosts"])


def test_dedicated_hosts_are_not_offered(tenant: Tenant) -> None:
    assert tenant.refused("RunInstances", **ONE, Placement={"Tenancy": "host"}) == "InsufficientHostCapacity"
