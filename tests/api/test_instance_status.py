"""Goal: DescribeInstanceStatus tells what was measured, and nothing that was not. Method: a host's words are put into the store
as its reports, and read through the gateway."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.model.hosts import Host, HostState
from alto.model.instances import Checks, Instance, Phase, Report
from alto.model.sessions import Reports
from alto.plan.instances import accept
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_launches import launch, says
from tests.api.test_sessions import HELLO


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
    measured(cloud, id, Checks(guest_failed_since=NOW + 50))
    (one,) = statuses(tenant, Filters=[{"Name": "instance-status.status", "Values": ["impaired"]}])
    (detail,) = one["InstanceStatus"]["Details"]
    assert (detail["Name"], detail["Status"]) == ("reachability", "failed")
    assert detail["ImpairedSince"].timestamp() == NOW + 50
    assert statuses(tenant, Filters=[{"Name": "system-status.reachability", "Values": ["failed"]}]) == []
    measured(cloud, id, Checks())
    assert told(tenant) == ("ok", "ok")


def test_a_machine_that_does_not_answer_fails_the_systems_check(cloud: Cloud, tenant: Tenant, id: str) -> None:
    measured(cloud, id, Checks(machine_failed_since=NOW, guest_failed_since=NOW))
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
    measured(cloud, id, Checks(guest_failed_since=NOW + 50))
    status, view = tenant.local("GET", f"instances/{id}")
    assert status == 200
    assert view["checks"] == {
        "system": "ok",
        "system_failed_since": None,
        "instance": "impaired",
        "instance_failed_since": NOW + 50,
        "measured_age_s": None,
    }


def test_checks_are_taken_by_the_order_of_reports_and_not_by_the_hosts_clock(cloud: Cloud, id: str) -> None:
    """The host's clock is an hour ahead, its agent begins anew, and then the clock is right."""

    def row() -> Instance:
        return cloud.store.read(lambda reader: reader.get(Instance, id))

    def said(number: int, *, ahead_s: float, failed_for_s: float | None) -> Reports:
        now, one = cloud.clock.now() + ahead_s, row()
        checks = Checks(guest_failed_since=now - failed_for_s if failed_for_s is not None else None)
        report = Report(
            instance_id=id, epoch=one.epoch, incarnation=one.incarnation, phase=Phase.RUNNING, at=now, checks=checks
        )
        return Reports(number=number, instances=(report,), at=now)

    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        hello = replace(HELLO, host_id=row().host_id or "")
        session = await sessions.hello(hello)
        await sessions.report(session, said(2, ahead_s=3600.0, failed_for_s=20.0))
        impaired = Checks(guest_failed_since=pytest.approx(cloud.clock.now() - 20.0, abs=0.1))
        assert row().checks == impaired, "by the server's clock"
        await sessions.report(session, said(1, ahead_s=3600.0, failed_for_s=None))
        assert row().checks == impaired, "that was late"
        session = await sessions.hello(hello)
        await sessions.report(session, said(1, ahead_s=0.0, failed_for_s=None))
        assert row().checks == Checks()

    cloud.runner.run(body())
