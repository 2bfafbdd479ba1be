"""Goal: a service whose balancer is an instance asks for what makes one of it, in its tenant's own account: a group of one, an
address that is the service's alone, and rules that let in clients, its host, and nobody else. Method: whole operations over a
store in memory, then the loops that keep services, and the product's own audit over all rows.
"""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.ec2.service_calls import ServiceCalls
from alto.api.hosts.session import _take_reports
from alto.control.balancers import Balancers
from alto.control.groups import Groups
from alto.control.scheduler import Scheduler
from alto.drivers.balancer.haproxy.appliance import user_data_of
from alto.model.balancers import AutoScalingGroup, BalancerReport, LoadBalancer, TargetHealth, TargetState
from alto.model.hosts import Host
from alto.model.images import BALANCER
from alto.model.instances import Instance, Phase, Report
from alto.model.sessions import Reports
from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import host, sound, tiny

IMAGE = "ami-0a170000000000003"


@pytest.fixture(autouse=True)
def rows(cloud: Cloud) -> Iterator[None]:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000), tiny(), replace(tiny(), id=IMAGE, name="balancer", source=BALANCER, version=0)
    )
    yield
    assert sound(cloud) == []


def create(tenant: Tenant, **more: Any) -> Any:
    status, answer = tenant.local("POST", "services", {"name": "web", "desired": 0, "balancer": "instance", **more})
    assert status == 201, answer
    return answer


def turn(cloud: Cloud) -> None:
    """What the server does in the next moments."""
    calls = ServiceCalls(cloud.world, cloud.store, cloud.settings, user_data_of)
    for _ in range(3):
        cloud.runner.run(Groups(cloud.store, cloud.clock, calls).reconcile())
        cloud.runner.run(Balancers(cloud.store, calls).reconcile())


def front(cloud: Cloud) -> Instance:
    (found,) = [one for one in cloud.store.read(lambda reader: reader.where(Instance)) if one.phase is not Phase.TERMINATED]
    return found


def boot(cloud: Cloud) -> Instance:
    """It has a host, which reports that it runs."""
    cloud.runner.run(Scheduler(cloud.store).reconcile())
    cloud.put(replace(front(cloud), phase=Phase.RUNNING))
    return front(cloud)


def balancer(cloud: Cloud) -> LoadBalancer:
    (found,) = cloud.store.read(lambda reader: reader.where(LoadBalancer))
    return found


def test_its_instance_is_told_all_by_user_data_and_has_the_service_s_address(cloud: Cloud, tenant: Tenant) -> None:
    made = create(tenant, port=8080, balancer_type="m1.small")
    assert (made["balancer"]["kind"], made["balancer"]["instance_id"]) == ("instance", None)
    turn(cloud)
    instance = front(cloud)
    assert (instance.image_id, instance.instance_type, instance.group_name) == (IMAGE, "m1.small", "web.balancer")
    told = base64.b64decode(
        tenant("DescribeInstanceAttribute", InstanceId=instance.id, Attribute="userData")["UserData"]["Value"]
    )
    assert told.startswith(b"#!")
    assert b"bind *:8080" in told
    assert instance.nic.public_ip == made["address"]
    assert balancer(cloud).appliance is None, "it does not run yet"


def test_clients_and_its_host_are_let_in_and_members_let_in_their_balancer(cloud: Cloud, tenant: Tenant) -> None:
    create(tenant, target_port=8000)
    groups = {one["GroupName"]: one for one in tenant("DescribeSecurityGroups")["SecurityGroups"]}

    def let_in(name: str) -> list[tuple[int, list[str], list[str]]]:
        return [
            (
                rule["FromPort"],
                [one["CidrIp"] for one in rule.get("IpRanges", [])],
                [one["GroupId"] for one in rule.get("UserIdGroupPairs", [])],
            )
            for rule in groups[name]["IpPermissions"]
        ]

    assert let_in("service-web.balancer") == [(80, ["0.0.0.0/0"], []), (8404, ["172.31.0.3/32"], [])]
    assert let_in("service-web") == [(8000, [], [groups["service-web.balancer"]["GroupId"]])]


@pytest.mark.parametrize("port", [22, 8404])
def test_a_port_that_the_instance_needs_itself_is_refused(tenant: Tenant, port: int) -> None:
    status, answer = tenant.local("POST", "services", {"name": "web", "port": port, "balancer": "instance"})
    assert (status, answer["error"]["code"]) == (400, "InvalidParameterValue")
    assert tenant.local("POST", "services", {"name": "web", "port": port})[0] == 201, "a host's has a use for neither"


@pytest.mark.parametrize(
    "wish",
    [
        {"balancer": "cloud"},
        {"balancer": "instance", "balancer_type": "m9.huge"},
        {"balancer": "host", "balancer_type": "m1.small"},
        {"balancer_type": "m1.small"},
    ],
)
def test_a_balancer_that_there_is_not_is_refused(tenant: Tenant, wish: dict[str, str]) -> None:
    assert tenant.local("POST", "services", {"name": "web", **wish})[0] == 400
    assert tenant("DescribeAddresses")["Addresses"] == []


def test_its_address_is_the_service_s_to_move_and_to_give_back(cloud: Cloud, tenant: Tenant) -> None:
    made = create(tenant)
    turn(cloud)
    (address,) = tenant("DescribeAddresses")["Addresses"]
    assert (address["PublicIp"], address["InstanceId"]) == (made["address"], front(cloud).id)
    for operation, which in (
        ("ReleaseAddress", {"AllocationId": address["AllocationId"]}),
        ("DisassociateAddress", {"AssociationId": address["AssociationId"]}),
        ("AssociateAddress", {"AllocationId": address["AllocationId"], "InstanceId": front(cloud).id}),
        ("AssociateAddress", {"AllocationId": tenant("AllocateAddress")["AllocationId"], "InstanceId": front(cloud).id}),
    ):
        with pytest.raises(Answered, match=r"OperationNotPermitted.*alto service delete web"):
            tenant(operation, **which)
    assert front(cloud).nic.public_ip == made["address"]


def test_its_address_is_no_nat_gateway_s_while_it_has_no_instance(tenant: Tenant) -> None:
    create(tenant)
    (address,) = tenant("DescribeAddresses")["Addresses"]
    subnet = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    assert "AssociationId" not in address
    wish = {"SubnetId": subnet, "AllocationId": address["AllocationId"]}
    assert tenant.refused("CreateNatGateway", **wish) == "OperationNotPermitted"
    gateway = tenant("CreateNatGateway", **wish | {"AllocationId": tenant("AllocateAddress")["AllocationId"]})["NatGateway"]
    further = {"NatGatewayId": gateway["NatGatewayId"], "AllocationIds": [address["AllocationId"]]}
    assert tenant.refused("AssociateNatGatewayAddress", **further) == "OperationNotPermitted"


def test_another_instance_in_its_place_has_its_address(cloud: Cloud, tenant: Tenant) -> None:
    made = create(tenant)
    turn(cloud)
    first = boot(cloud)
    turn(cloud)
    appliance = balancer(cloud).appliance
    assert appliance is not None
    assert (appliance.instance_id, appliance.private_ip, balancer(cloud).host_id) == (first.id, first.nic.private_ip, "h-1")
    tenant("TerminateInstances", InstanceIds=[first.id])
    turn(cloud)
    assert balancer(cloud).appliance is None, "whoever is terminated is not told of members any more"
    (second,) = [
        one for one in cloud.store.read(lambda reader: reader.where(Instance, group_name="web.balancer")) if one.id != first.id
    ]
    assert second.nic.public_ip == made["address"]


def test_what_another_instance_measured_is_not_its_own(cloud: Cloud, tenant: Tenant) -> None:
    create(tenant)
    turn(cloud)
    boot(cloud)
    turn(cloud)
    cloud.put(replace(balancer(cloud), ready=True, measured="i-another"))
    assert not tenant.local("GET", "services/web")[1]["ready"]
    cloud.put(replace(balancer(cloud), measured=front(cloud).id))
    assert tenant.local("GET", "services/web")[1]["ready"]


def test_a_balancer_that_begins_to_serve_gives_each_member_its_time_anew(cloud: Cloud, tenant: Tenant) -> None:
    """What is said of members while it boots, or was said by the one before it, is no verdict."""
    create(tenant)
    turn(cloud)
    boot(cloud)
    turn(cloud)

    def says(*, ready: bool, state: TargetState, at: float) -> tuple[float, ...]:
        """Its host reports of whichever instance it is now; since when the member is so."""
        health = (TargetHealth(instance_id="i-1", state=state),)
        appliance = balancer(cloud).appliance
        assert appliance is not None
        report = BalancerReport(id=balancer(cloud).id, ready=ready, health=health, appliance_id=appliance.instance_id)
        reports = Reports(number=1, balancers=(report,), at=at)
        cloud.runner.run(cloud.store.write(lambda tx: _take_reports(tx, "h-1", reports, at)))
        return tuple(one.since for one in balancer(cloud).health)

    assert says(ready=False, state=TargetState.INITIAL, at=10.0) == (10.0,)
    assert says(ready=False, state=TargetState.INITIAL, at=20.0) == (10.0,)
    assert says(ready=True, state=TargetState.INITIAL, at=30.0) == (30.0,)
    assert says(ready=True, state=TargetState.INITIAL, at=40.0) == (30.0,)
    assert says(ready=True, state=TargetState.UNHEALTHY, at=50.0) == (50.0,)
    assert says(ready=False, state=TargetState.UNHEALTHY, at=60.0) == (50.0,)
    assert says(ready=True, state=TargetState.UNHEALTHY, at=70.0) == (70.0,), "it began anew, and asks them anew"
    first = front(cloud)
    tenant("TerminateInstances", InstanceIds=[first.id])
    gone = Report(instance_id=first.id, epoch=first.epoch, incarnation=first.incarnation, phase=Phase.TERMINATED, at=75.0)
    cloud.runner.run(
        cloud.store.write(lambda tx: _take_reports(tx, "h-1", Reports(number=1, instances=(gone,), at=75.0), 75.0))
    )
    turn(cloud)
    boot(cloud)
    turn(cloud)
    assert says(ready=True, state=TargetState.UNHEALTHY, at=80.0) == (80.0,), "another measures"


def test_nothing_of_it_is_left(cloud: Cloud, tenant: Tenant) -> None:
    create(tenant)
    turn(cloud)
    assert tenant.local("DELETE", "services/web")[0] == 202
    turn(cloud)
    assert cloud.store.read(lambda reader: reader.where(LoadBalancer)) == []
    assert cloud.store.read(lambda reader: reader.where(AutoScalingGroup)) == []
    assert tenant("DescribeAddresses")["Addresses"] == []
    assert [one["GroupName"] for one in tenant("DescribeSecurityGroups")["SecurityGroups"]] == ["default"]


def test_a_cloud_that_has_no_image_for_balancers_says_so(cloud: Cloud, tenant: Tenant) -> None:
    image = tenant("DescribeImages", ImageIds=[IMAGE])["Images"]
    assert image[0]["Name"] == "balancer"
    cloud.runner.run(cloud.store.write(lambda tx: tx.delete(type(tiny()), IMAGE)))
    status, answer = tenant.local("POST", "services", {"name": "web", "balancer": "instance"})
    assert (status, answer["error"]["code"]) == (400, "MissingParameter")


def of_kind(cloud: Cloud, kind: str) -> None:
    there = cloud.store.read(lambda reader: reader.get(Host, "h-1"))
    cloud.put(replace(there, capabilities=replace(there.capabilities, kind=kind)))


def test_a_cloud_that_can_never_run_it_says_so_at_once(cloud: Cloud, tenant: Tenant) -> None:
    of_kind(cloud, "container")
    status, answer = tenant.local("POST", "services", {"name": "web", "balancer": "instance"})
    assert (status, answer["error"]["code"]) == (400, "UnsupportedOperation")
    assert "--balancer host" in answer["error"]["message"]
    assert tenant("DescribeAddresses")["Addresses"] == []
    assert tenant.local("POST", "services", {"name": "web"})[0] == 201
    cloud.put(host(2))
    create(tenant, name="simulated")


def test_a_balancer_that_does_not_serve_says_why(cloud: Cloud, tenant: Tenant) -> None:
    def why() -> str | None:
        (one,) = tenant.local("GET", "services")[1]["services"]
        assert one["balancer_ready"] is (one["balancer"]["unready_because"] is None)
        return str(one["balancer"]["unready_because"]) if not one["balancer_ready"] else None

    create(tenant)
    assert why() == "its instance is not there yet"
    of_kind(cloud, "container")
    turn(cloud)
    waits = why()
    assert waits is not None
    assert waits.startswith("it waits: no host fits m1.tiny")
    of_kind(cloud, "qemu")
    turn(cloud)
    id = front(cloud).id
    assert why() == f"{id} is pending"
    boot(cloud)
    turn(cloud)
    assert why() == f"{id} boots"
    cloud.put(replace(balancer(cloud), measured=id, unready_because="the balancer does not answer"))
    assert why() == f"{id} boots"
    cloud.put(replace(front(cloud), guest_reached_at=1.0))
    assert why() == "the balancer does not answer"
    cloud.put(replace(balancer(cloud), unready_because="the balancer refused a change"))
    assert why() == "the balancer refused a change"
    cloud.put(replace(balancer(cloud), ready=True, unready_because=""))
    assert why() is None


def test_health_is_unknown_while_nobody_measures_it(cloud: Cloud, tenant: Tenant) -> None:
    create(tenant, balancer="host", desired=1)
    turn(cloud)
    member = boot(cloud)
    turn(cloud)

    def shown(*, ready: bool, state: TargetState) -> tuple[str, str, int]:
        health = (TargetHealth(instance_id=member.id, state=state, reason="said"),)
        cloud.put(replace(balancer(cloud), ready=ready, health=health))
        answer = tenant.local("GET", "services/web")[1]
        (one,) = answer["members"]
        return one["health"], one["reason"], answer["healthy"]

    assert shown(ready=True, state=TargetState.HEALTHY) == ("healthy", "said", 1)
    assert shown(ready=False, state=TargetState.HEALTHY) == ("unknown", "", 0)
    assert shown(ready=False, state=TargetState.DRAINING) == ("draining", "said", 0)


def test_how_many_members_is_for_the_hosts_to_say(tenant: Tenant) -> None:
    for desired in (-1, 2**31):
        status, answer = tenant.local("POST", "services", {"name": "web", "desired": desired})
        assert (status, answer["error"]["code"]) == (400, "InvalidParameterValue")
    assert tenant.local("POST", "services", {"name": "web", "desired": 1001})[0] == 201
    assert tenant.local("POST", "services/web/scale", {"desired": 100_000})[1]["desired"] == 100_000
