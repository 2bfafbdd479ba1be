"""A small cloud in good order, written out by hand: what tests of the audit change one thing of."""

from typing import TypeVar

from msgspec.structs import replace

from alto.model.balancers import Appliance, AutoScalingGroup, LaunchSpec, LoadBalancer, Target
from alto.model.hosts import Capabilities, Host
from alto.model.instances import Instance, Nic, Phase, RootVolume
from alto.model.networks import (
    AddressPool,
    NetworkInterface,
    PublicAddress,
    Subnet,
)
from alto.model.placement_groups import PlacementGroup, PlacementMember, Strategy
from alto.model.records import Record
from alto.model.volumes import Snapshot, SnapshotPhase, Volume
from alto.plan.audit import audit
from alto.plan.violations import Found, HostSeen, Rule, State

R = TypeVar("R", bound=Record)

PLACE = {"account": "000000000001", "region": "us-east-1"}


def host(number: int) -> Host:
    capabilities = Capabilities(kind="fake", accelerator="none", vcpus=4, memory_mib=1024)
    return Host(
        id=f"h-{number}",
        name=f"host{number}",
        capabilities=capabilities,
        vcpus=4,
        memory_mib=1024,
        vcpus_used=1,
        memory_mib_used=256,
        disk_gib_used=1,
        instances=1,
        joined_at=0,
    )


def instance(number: int) -> Instance:
    return Instance(
        id=f"i-{number}",
        **PLACE,
        reservation_id="r-1",
        launch_index=number,
        launched_at=10.0,
        created_at=10.0,
        image_id="ami-1",
        image_source="tiny",
        instance_type="m1.tiny",
        vcpus=1,
        memory_mib=256,
        zone="us-east-1a",
        nics=(
            Nic(
                interface_id=f"eni-{number}",
                attachment_id=f"eni-attach-{number}",
                subnet_id="subnet-1",
                vpc_id="vpc-1",
                mac=f"02:00:00:00:00:0{number}",
                private_ip=f"172.31.0.{number}",
                public_ip=f"127.64.0.{number}",
                group_ids=("sg-1",),
            ),
        ),
        root=RootVolume(volume_id=f"vol-{number}", size_gib=1),
        hostname=f"ip-172-31-0-{number}.ec2.internal",
        client_token="token",
        group_name="web",
        host_id=f"h-{number}",
        epoch=1,
        phase=Phase.RUNNING,
    )


def interface(number: int) -> NetworkInterface:
    return NetworkInterface(
        id=f"eni-{number}",
        **PLACE,
        vpc_id="vpc-1",
        subnet_id="subnet-1",
        zone="us-east-1a",
        mac=f"02:00:00:00:00:0{number}",
        private_ip=f"172.31.0.{number}",
        public_ip=f"127.64.0.{number}",
        group_ids=("sg-1",),
        instance_id=f"i-{number}",
        attachment_id=f"eni-attach-{number}",
    )


def target(number: int, *, draining: bool = False) -> Target:
    return Target(instance_id=f"i-{number}", vpc_id="vpc-1", private_ip=f"172.31.0.{number}", port=80, draining=draining)


BALANCER = LoadBalancer(
    id="lb-1",
    **PLACE,
    name="web",
    address="127.64.0.9",
    created_at=0,
    host_id="h-1",
    targets=(target(1), target(2)),
    ready=True,
)
APPLIANCE = Appliance(instance_id="i-1", interface_id="eni-1", vpc_id="vpc-1", private_ip="172.31.0.1")
GROUP = AutoScalingGroup(
    id="asg-1",
    **PLACE,
    name="web",
    desired=2,
    launch=LaunchSpec(image_id="ami-1", instance_type="m1.tiny"),
    load_balancer_id="lb-1",
    created_at=0,
)

HEALTHY = State(
    hosts=(host(1), host(2)),
    instances=(instance(1), instance(2)),
    interfaces=(interface(1), interface(2)),
    volumes=tuple(
        Volume(id=f"vol-{n}", **PLACE, zone="us-east-1a", size_gib=1, created_at=0, instance_id=f"i-{n}") for n in (1, 2)
    ),
    subnets=(Subnet(id="subnet-1", **PLACE, vpc_id="vpc-1", cidr="172.31.0.0/20", zone="us-east-1a"),),
    pools=(
        AddressPool(id="subnet-1", cidr="172.31.0.0/20", size=4091, used=2),
        AddressPool(id="public", cidr="127.64.0.0/16", size=65531, used=3),
    ),
    addresses=(
        PublicAddress(id="127.64.0.1", **PLACE, owner_id="i-1"),
        PublicAddress(id="127.64.0.2", **PLACE, owner_id="i-2"),
        PublicAddress(id="127.64.0.9", **PLACE, owner_id="lb-1"),
    ),
    balancers=(BALANCER,),
    groups=(GROUP,),
)

SNAPSHOT = Snapshot(
    id="snap-1",
    **PLACE,
    volume_id="vol-1",
    size_gib=1,
    started_at=0,
    phase=SnapshotPhase.COMPLETED,
    host_id="h-1",
    storage="st-1",
)
SPREAD = PlacementGroup(id="pg-1", **PLACE, name="p", strategy=Strategy.SPREAD, created_at=0)


def place(number: int, host_id: str | None = None) -> PlacementMember:
    return PlacementMember(id=f"i-{number}", group_id="pg-1", spread_of="pg-1", host_id=host_id or f"h-{number}")


SEEN = (
    HostSeen(
        host_id="h-1",
        machines=(Found(instance_id="i-1", incarnation=1, on=True),),
        ports=("eni-1",),
        balancers={"lb-1": ("i-1", "i-2")},
    ),
    HostSeen(host_id="h-2", machines=(Found(instance_id="i-2", incarnation=1, on=True),), ports=("eni-2",), balancers={}),
)


def changed(rows: tuple[R, ...] | object, id: str, **values: object) -> tuple[R, ...]:
    assert isinstance(rows, tuple)
    assert any(row.id == id for row in rows)
    return tuple(replace(row, **values) if row.id == id else row for row in rows)


def without(rows: object, id: str) -> tuple[R, ...]:
    assert isinstance(rows, tuple)
    return tuple(row for row in rows if row.id != id)


def instances(id: str, **values: object) -> State:
    return replace(HEALTHY, instances=changed(HEALTHY.instances, id, **values))


def rules(state: State, seen: tuple[HostSeen, ...] = ()) -> set[Rule]:
    return {violation.rule for violation in audit(state, seen)}
