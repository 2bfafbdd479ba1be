"""Goal: DescribeInstanceStatus tells what was measured, and nothing that was not. Method: a host's words are put into the store
as its reports, and read through the gateway."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.hosts import Host, HostState
from alto.model.instances import Checks, Instance, Phase, Report
from alto.plan.instances import accept
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_launches import launch, says


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=8, memory_mib=1024),
        tiny(),
    )


@pytest.fixture
def id(cloud: Cloud, tenant: Tenant) -> str:
    id: str = launch(tenant)[0]["InstanceId"]
    says(cloud, id, Phase.RUNNING)
    return id


def measured(cloud: Cloud, id: str, checks: Checks | None) -> None:
    before = cloud.store.read(lambda reader: reader.get(Instance, id))
    report = Report(
        instance_id=id,
        epoch=before.epoch,
        incarnation=before.incarnation,
        phase=Phase.RUNNING,
        guest_reached=True,
        checks=checks,
        at=NOW,
    )
    after = accept(before, report)
    assert after is not None
    cloud.put(after)


def statuses(tenant: Tenant, **parameters: Any) -> list[dict[str, Any]]:
    return list(tenant("DescribeInstanceStatus", **parameters)["InstanceStatuses"])


def told(tenant: Tenant) -> tuple[str, str]:
    (one,) = statuses(tenant)
    return one["SystemStatus"]["Status"], one["InstanceStatus"]["Status"]


def test_a_guest_initializes_until_it_answers(cloud: Cloud, tenant: Tenant, id: str) -> None:
    assert told(tenant) == ("ok", "initializing")
    measured(cloud, id, None)
    assert told(tenant) == ("ok", "ok")


def test_an_impairment_is_told_since_when_and_goes_when_it_heals(cloud: Cloud, tenant: Tenant, id: str) -> None:
    measured(cloud, id, Checks(at=NOW + 60, guest_failed_since=NOW + 50))
    (one,) = statuses(tenant, Filters=[{"Name": "instance-status.status", "Values": ["impaired"]}])
    (detail,) = one["InstanceStatus"]["Details"]
    assert (detail["Name"], detail["Status"]) == ("reachability", "failed")
    assert detail["ImpairedSince"].timestamp() == NOW + 50
    assert statuses(tenant, Filters=[{"Name": "system-status.reachability", "Values": ["failed"]}]) == []
    measured(cloud, id, Checks(at=NOW + 90))
    assert told(tenant) == ("ok", "ok")


def test_a_machine_that_does_not_answer_fails_the_systems_check(cloud: Cloud, tenant: Tenant, id: str) -> None:
    measured(cloud, id, Checks(at=NOW + 60, machine_failed_since=NOW, guest_failed_since=NOW))
    assert told(tenant) == ("impaired", "impaired")


def test_of_a_host_that_is_not_heard_of_nothing_is_known(cloud: Cloud, tenant: Tenant, id: str) -> None:
    measured(cloud, id, None)
    lost = cloud.store.read(lambda reader: reader.get(Host, "h-1"))
    cloud.put(replace(lost, state=HostState.UNREACHABLE))
    assert told(tenant) == ("impaired", "insufficient-data")


def test_only_those_that_run_are_told_unless_all_are_asked_for(cloud: Cloud, tenant: Tenant, id: str) -> None:
    tenant("StopInstances", InstanceIds=[id])
    assert statuses(tenant) == []
    assert statuses(tenant, InstanceIds=[id]) == []
    (one,) = statuses(tenant, IncludeAllInstances=True)
    assert (one["InstanceState"]["Name"], one["InstanceStatus"]["Status"]) == ("stopping", "not-applicable")
    by_state = [{"Name": "instance-state-name", "Values": ["stopping"]}]
    assert [each["InstanceId"] for each in statuses(tenant, Filters=by_state, IncludeAllInstances=True)] == [id]


def test_the_operators_view_says_how_old_the_last_look_is(cloud: Cloud, tenant: Tenant, id: str) -> None:
    """No host is connected here, so nobody knows: that is said, and not a number."""
    measured(cloud, id, Checks(at=NOW + 60, guest_failed_since=NOW + 50))
    status, view = tenant.local("GET", f"instances/{id}")
    assert status == 200
    assert view["checks"] == {
        "system": "ok",
        "system_failed_since": None,
        "instance": "impaired",
        "instance_failed_since": NOW + 50,
        "measured_age_s": None,
    }
