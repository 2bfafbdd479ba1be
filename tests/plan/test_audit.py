"""Goal: each invariant speaks when it is broken, and keeps silent in a cloud in good order.

Method: a small cloud in good order (good_order.py), then one change at a time, each with the rules that must complain.
"""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from alto.model.addresses import Address
from alto.model.hosts import HostState
from alto.model.instances import Instance, Phase, PlacementWish, Wish
from alto.model.networks import (
    AddressPool,
    PortAddress,
    PublicAddress,
    SecondaryAddress,
)
from alto.model.placement_groups import Strategy
from alto.model.pressure import Pressure
from alto.model.routing import EndpointInterface, EndpointType, NatGateway, VpcEndpoint
from alto.model.volumes import AttachState, StorageJob, Task
from alto.plan.audit import audit, audit_change, outlasting
from alto.plan.violations import Found, Rule, State, Violation
from tests.plan.good_order import (
    APPLIANCE,
    BALANCER,
    GROUP,
    HEALTHY,
    PLACE,
    SEEN,
    SNAPSHOT,
    SPREAD,
    changed,
    host,
    instance,
    instances,
    interface,
    place,
    rules,
    target,
    without,
)


def test_a_cloud_in_good_order_and_an_empty_one_are_silent() -> None:
    assert audit(HEALTHY, SEEN) == []
    assert audit(HEALTHY) == []
    assert audit(State()) == []
    assert audit_change(HEALTHY, HEALTHY) == []


NIC_2 = instance(2).nic
FREE = replace(interface(3), public_ip=None, instance_id=None, attachment_id=None)
THREE = changed(HEALTHY.pools, "subnet-1", used=3)
NAT = NatGateway(
    id="nat-1", **PLACE, vpc_id="vpc-1", subnet_id="subnet-1", interface_id="eni-3", private_ip="172.31.0.3", created_at=0
)
ENDPOINT = VpcEndpoint(
    id="vpce-1",
    **PLACE,
    vpc_id="vpc-1",
    service_name="com.amazonaws.us-east-1.ec2",
    type=EndpointType.INTERFACE,
    policy="{}",
    interfaces=(EndpointInterface(interface_id="eni-3", subnet_id="subnet-1", zone="us-east-1a", private_ip="172.31.0.3"),),
    created_at=0,
)
# The first instance has an elastic address on a secondary private one.
SECOND = (PortAddress(private_ip="172.31.0.8", public_ip="127.64.0.7", elastic=True),)
ELASTIC = replace(
    HEALTHY,
    instances=changed(HEALTHY.instances, "i-1", nics=(replace(instance(1).nic, secondary=SECOND),)),
    interfaces=changed(HEALTHY.interfaces, "eni-1", secondary=SECOND),
    pools=(
        AddressPool(id="subnet-1", cidr="172.31.0.0/20", size=4091, used=3, secondary=1),
        AddressPool(id="public", cidr="127.64.0.0/16", size=65531, used=4),
    ),
    addresses=(*HEALTHY.addresses, PublicAddress(id="127.64.0.7", **PLACE, owner_id="eipalloc-1", elastic=True)),
    elastic=(
        Address(
            id="eipalloc-1",
            **PLACE,
            public_ip="127.64.0.7",
            association_id="eipassoc-1",
            interface_id="eni-1",
            private_ip="172.31.0.8",
            instance_id="i-1",
        ),
    ),
    secondary=(SecondaryAddress(id="vpc-1/172.31.0.8", interface_id="eni-1"),),
)


def in_two_vpcs(*addresses: str) -> State:
    """Free interfaces, each with an address that is claimed in its VPC."""
    made = tuple(
        replace(
            FREE, id=f"eni-v6-{n}", vpc_id=f"vpc-{n}", subnet_id=f"subnet-v6-{n}", mac=f"02:00:00:00:06:{n:02x}", ipv6=(one,)
        )
        for n, one in enumerate(addresses, 3)
    )
    claims = tuple(SecondaryAddress(id=f"{one.vpc_id}/{one.ipv6[0]}", interface_id=one.id) for one in made)
    return replace(HEALTHY, interfaces=(*HEALTHY.interfaces, *made), secondary=claims)


def test_elastic_and_secondary_addresses_and_gateways_in_order_are_silent() -> None:
    assert audit(ELASTIC, SEEN) == []
    interfaces = (*HEALTHY.interfaces, replace(FREE, requester="nat_gateway"))
    assert audit(replace(HEALTHY, nat_gateways=(NAT,), interfaces=interfaces, pools=THREE), SEEN) == []
    interfaces = (*HEALTHY.interfaces, replace(FREE, requester="vpc_endpoint"))
    assert audit(replace(HEALTHY, vpc_endpoints=(ENDPOINT,), interfaces=interfaces, pools=THREE), SEEN) == []
    assert audit(in_two_vpcs("fd00:a::9", "fd00:b::9"), SEEN) == []


def in_instance(**more: object) -> State:
    """The balancer is an instance, which has its address; `more` is what was said of it."""
    return replace(
        ELASTIC,
        balancers=(replace(BALANCER, address="127.64.0.7", allocation_id="eipalloc-1", appliance=APPLIANCE, **more),),
        addresses=without(ELASTIC.addresses, "127.64.0.9"),
        pools=(ELASTIC.pools[0], replace(ELASTIC.pools[1], used=3)),
    )


BROKEN: list[tuple[str, State, set[Rule]]] = [
    ("counter too low", replace(HEALTHY, hosts=changed(HEALTHY.hosts, "h-1", vcpus_used=0)), {Rule.HOST_COUNTERS}),
    ("instances miscounted", replace(HEALTHY, hosts=changed(HEALTHY.hosts, "h-1", instances=2)), {Rule.HOST_COUNTERS}),
    (
        "room kept after the machine stopped",
        instances("i-1", phase=Phase.STOPPED, wish=Wish.STOPPED),
        {Rule.HOST_COUNTERS, Rule.BALANCER_TARGET, Rule.GROUP_SIZE},
    ),
    ("more memory than the host has", instances("i-1", memory_mib=2048), {Rule.HOST_OVERFULL, Rule.HOST_COUNTERS}),
    ("more processors than the host has", instances("i-1", vcpus=5), {Rule.HOST_OVERFULL, Rule.HOST_COUNTERS}),
    (
        "on a host that is not there",
        instances("i-1", host_id="h-9"),
        {Rule.HOST_UNKNOWN, Rule.HOST_COUNTERS, Rule.DISK_COUNTERS},
    ),
    ("running nowhere", instances("i-1", host_id=None), {Rule.UNPLACED_PHASE, Rule.HOST_COUNTERS, Rule.DISK_COUNTERS}),
    (
        "private address twice",
        instances("i-2", nics=(replace(NIC_2, private_ip="172.31.0.1"),)),
        {Rule.ADDRESS_TWICE, Rule.INTERFACE_MISSING, Rule.BALANCER_TARGET},
    ),
    (
        "hardware address twice",
        replace(HEALTHY, interfaces=changed(HEALTHY.interfaces, "eni-2", mac="02:00:00:00:00:01")),
        {Rule.ADDRESS_TWICE, Rule.INTERFACE_MISSING},
    ),
    (
        "an elastic address that nobody has",
        replace(HEALTHY, elastic=(Address(id="eipalloc-1", **PLACE, public_ip="127.64.0.7"),)),
        {Rule.ADDRESS_UNCLAIMED},
    ),
    (
        "an elastic address that leads where nobody knows of it",
        replace(ELASTIC, elastic=changed(ELASTIC.elastic, "eipalloc-1", private_ip="172.31.0.9")),
        {Rule.ADDRESS_ASTRAY},
    ),
    (
        "an elastic address that says another instance",
        replace(ELASTIC, elastic=changed(ELASTIC.elastic, "eipalloc-1", instance_id="i-2")),
        {Rule.ADDRESS_ASTRAY},
    ),
    (
        "an elastic address that is gone",
        replace(ELASTIC, elastic=()),
        {Rule.ADDRESS_ASTRAY, Rule.ADDRESS_UNCLAIMED, Rule.ADDRESS_LEAKED},
    ),
    (
        "a secondary address without a claim",
        replace(ELASTIC, secondary=()),
        {Rule.ADDRESS_UNCLAIMED},
    ),
    (
        "a claim on a secondary address of nobody",
        replace(HEALTHY, secondary=ELASTIC.secondary),
        {Rule.ADDRESS_LEAKED},
    ),
    (
        "a gateway without its interface",
        replace(HEALTHY, nat_gateways=(NAT,)),
        {Rule.INTERFACE_MISSING},
    ),
    (
        "an interface of a gateway that is gone",
        replace(HEALTHY, interfaces=(*HEALTHY.interfaces, replace(FREE, requester="nat_gateway")), pools=THREE),
        {Rule.INTERFACE_LEAKED},
    ),
    (
        "an endpoint without its interface",
        replace(HEALTHY, vpc_endpoints=(ENDPOINT,)),
        {Rule.INTERFACE_MISSING},
    ),
    (
        "an interface of an endpoint that is gone",
        replace(HEALTHY, interfaces=(*HEALTHY.interfaces, replace(FREE, requester="vpc_endpoint")), pools=THREE),
        {Rule.INTERFACE_LEAKED},
    ),
    (
        "an interface that its instance does not have",
        replace(HEALTHY, interfaces=(*HEALTHY.interfaces, replace(FREE, instance_id="i-1")), pools=THREE),
        {Rule.INTERFACE_LEAKED},
    ),
    (
        "an attachment that only one knows to be kept",
        replace(HEALTHY, interfaces=changed(HEALTHY.interfaces, "eni-1", delete_on_termination=False)),
        {Rule.INTERFACE_MISSING},
    ),
    ("address of IPv6 in two VPCs", in_two_vpcs("fd00:a::9", "fd00:a::9"), {Rule.ADDRESS_TWICE}),
    (
        "public address twice",
        instances("i-2", nics=(replace(NIC_2, public_ip="127.64.0.1"),)),
        {Rule.ADDRESS_TWICE, Rule.ADDRESS_UNCLAIMED, Rule.ADDRESS_LEAKED, Rule.INTERFACE_MISSING},
    ),
    (
        "public address of a balancer and an instance",
        replace(HEALTHY, balancers=(replace(BALANCER, address="127.64.0.1"),)),
        {Rule.ADDRESS_TWICE, Rule.ADDRESS_UNCLAIMED, Rule.ADDRESS_LEAKED},
    ),
    (
        "claim missing",
        replace(HEALTHY, addresses=without(HEALTHY.addresses, "127.64.0.1")),
        {Rule.ADDRESS_UNCLAIMED, Rule.POOL_COUNTERS},
    ),
    (
        "claim of a stranger",
        replace(HEALTHY, addresses=changed(HEALTHY.addresses, "127.64.0.1", owner_id="i-7")),
        {Rule.ADDRESS_UNCLAIMED, Rule.ADDRESS_LEAKED},
    ),
    (
        "interface of nobody",
        replace(HEALTHY, interfaces=(*HEALTHY.interfaces, replace(interface(3), instance_id="i-3"))),
        {Rule.INTERFACE_LEAKED, Rule.POOL_COUNTERS},
    ),
    (
        "instance without interface",
        replace(HEALTHY, interfaces=without(HEALTHY.interfaces, "eni-1")),
        {Rule.INTERFACE_MISSING, Rule.POOL_COUNTERS},
    ),
    (
        "everything kept after termination",
        instances("i-1", phase=Phase.TERMINATED, wish=Wish.TERMINATED),
        {
            Rule.HOST_COUNTERS,
            Rule.INTERFACE_LEAKED,
            Rule.VOLUME_LEAKED,
            Rule.ADDRESS_LEAKED,
            Rule.BALANCER_TARGET,
            Rule.GROUP_SIZE,
        },
    ),
    ("volume gone", replace(HEALTHY, volumes=without(HEALTHY.volumes, "vol-1")), {Rule.VOLUME_MISSING, Rule.DISK_COUNTERS}),
    (
        "volume of nobody",
        replace(HEALTHY, volumes=changed(HEALTHY.volumes, "vol-1", instance_id="i-7")),
        {Rule.VOLUME_LEAKED, Rule.VOLUME_MISSING, Rule.DISK_COUNTERS},
    ),
    (
        "volume that its instance does not know",
        replace(
            HEALTHY,
            volumes=(*HEALTHY.volumes, replace(HEALTHY.volumes[0], id="vol-7")),
            hosts=changed(HEALTHY.hosts, "h-1", disk_gib_used=2),
        ),
        {Rule.VOLUME_LEAKED},
    ),
    (
        "volume that comes for ever",
        replace(HEALTHY, volumes=changed(HEALTHY.volumes, "vol-1", attach_state=AttachState.ATTACHING)),
        {Rule.VOLUME_UNSETTLED},
    ),
    ("disk counts wrongly", replace(HEALTHY, hosts=changed(HEALTHY.hosts, "h-1", disk_gib_used=2)), {Rule.DISK_COUNTERS}),
    (
        "snapshot that is not counted",
        replace(HEALTHY, snapshots=(SNAPSHOT,)),
        {Rule.DISK_COUNTERS},
    ),
    (
        "asked of a host and not done",
        replace(HEALTHY, jobs=(StorageJob(id="vol-7", host_id="h-1", account="1", task=Task.DELETE, size_gib=1),)),
        {Rule.JOB_OPEN},
    ),
    ("pool counts wrongly", replace(HEALTHY, pools=changed(HEALTHY.pools, "public", used=4)), {Rule.POOL_COUNTERS}),
    ("subnet counts wrongly", replace(HEALTHY, pools=changed(HEALTHY.pools, "subnet-1", used=1)), {Rule.POOL_COUNTERS}),
    ("one token, two reservations", instances("i-2", reservation_id="r-2"), {Rule.TOKEN_TWICE}),
    ("one place, two instances", instances("i-2", launch_index=1), {Rule.TOKEN_TWICE}),
    ("should have stopped", instances("i-1", wish=Wish.STOPPED), {Rule.WISH_OPEN, Rule.GROUP_SIZE}),
    ("should have gone", instances("i-1", wish=Wish.TERMINATED), {Rule.WISH_OPEN, Rule.GROUP_SIZE}),
    (
        "should run",
        instances("i-1", phase=Phase.PREPARING),
        {Rule.WISH_OPEN, Rule.BALANCER_TARGET},
    ),
    (
        "waits and does not say why",
        instances("i-1", phase=Phase.PENDING, host_id=None),
        {Rule.WISH_UNEXPLAINED, Rule.HOST_COUNTERS, Rule.DISK_COUNTERS, Rule.BALANCER_TARGET},
    ),
    (
        "says there is no room, and there is",
        instances("i-1", phase=Phase.PENDING, host_id=None, waiting_because="no host fits"),
        {Rule.WISH_UNEXPLAINED, Rule.HOST_COUNTERS, Rule.DISK_COUNTERS, Rule.BALANCER_TARGET},
    ),
    ("place of nobody", replace(HEALTHY, placement_groups=(SPREAD,), places=(place(7),)), {Rule.PLACE_LEAKED}),
    ("place elsewhere", replace(HEALTHY, placement_groups=(SPREAD,), places=(place(1, "h-2"),)), {Rule.PLACE_LEAKED}),
    (
        "two on one host",
        replace(instances("i-2", host_id="h-1"), placement_groups=(SPREAD,), places=(place(1), place(2, "h-1"))),
        {Rule.PLACE_BROKEN, Rule.HOST_COUNTERS, Rule.DISK_COUNTERS},
    ),
    (
        "a cluster on two hosts",
        replace(HEALTHY, placement_groups=(replace(SPREAD, strategy=Strategy.CLUSTER),), places=(place(1), place(2))),
        {Rule.PLACE_BROKEN},
    ),
    (
        "dedicated and not counted",
        instances("i-1", placement=PlacementWish(dedicated=True)),
        {Rule.HOST_COUNTERS},
    ),
    ("places of a group that is gone", replace(HEALTHY, places=(place(1),)), {Rule.PLACE_BROKEN}),
    ("a member too few", replace(HEALTHY, groups=(replace(GROUP, desired=3),)), {Rule.GROUP_SIZE}),
    ("a member too many", replace(HEALTHY, groups=(replace(GROUP, desired=1, waiting_because="x"),)), {Rule.GROUP_SIZE}),
    ("group that should go", replace(HEALTHY, groups=(replace(GROUP, deleting=True),)), {Rule.GROUP_SIZE}),
    ("member not behind it", replace(HEALTHY, balancers=(replace(BALANCER, targets=(target(1),)),)), {Rule.BALANCER_MISSING}),
    (
        "behind it at another's address",
        replace(HEALTHY, balancers=(replace(BALANCER, targets=(target(1), replace(target(2), private_ip="172.31.0.7"))),)),
        {Rule.BALANCER_TARGET},
    ),
    (
        "stranger behind it",
        replace(HEALTHY, balancers=(replace(BALANCER, targets=(target(1), target(2), target(3))),)),
        {Rule.BALANCER_TARGET},
    ),
    (
        "a balancer whose address leads to no instance",
        replace(
            HEALTHY,
            balancers=(replace(BALANCER, allocation_id="eipalloc-1", appliance=APPLIANCE, measured="i-1"),),
            elastic=(Address(id="eipalloc-1", **PLACE, public_ip="127.64.0.9"),),
            addresses=(*HEALTHY.addresses[:2], replace(HEALTHY.addresses[2], owner_id="eipalloc-1", elastic=True)),
        ),
        {Rule.BALANCER_MISSING},
    ),
    ("a balancer's instance that runs and does not serve", in_instance(ready=False, measured="i-1"), {Rule.BALANCER_SILENT}),
    ("a balancer's instance that nobody has heard", in_instance(measured="i-another"), {Rule.BALANCER_SILENT}),
]


@pytest.mark.parametrize(("state", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_each_broken_state_is_told(state: State, expected: set[Rule]) -> None:
    found = audit(state)
    assert {violation.rule for violation in found} == expected
    assert all(violation.sentence and violation.subject for violation in found)


def test_what_has_a_good_reason_is_silent() -> None:
    assert audit(in_instance(measured="i-1")) == []
    full = replace(
        instances("i-1", phase=Phase.PENDING, host_id=None, waiting_because="no host fits", vcpus=4),
        hosts=(replace(host(1), instances=0, vcpus_used=0, memory_mib_used=0, disk_gib_used=0, draining=True), host(2)),
        balancers=(replace(BALANCER, targets=(target(2),)),),
    )
    assert rules(full) == set()
    lost = replace(instances("i-1", wish=Wish.STOPPED), hosts=changed(HEALTHY.hosts, "h-1", state=HostState.UNREACHABLE))
    assert rules(lost) == {Rule.GROUP_SIZE}
    waiting = replace(HEALTHY, groups=(replace(GROUP, desired=3, waiting_because="no host fits"),))
    assert rules(waiting) == set()
    kept = replace(
        HEALTHY,
        volumes=(*HEALTHY.volumes, replace(HEALTHY.volumes[0], id="vol-kept", instance_id=None)),
        addresses=(*HEALTHY.addresses, PublicAddress(id="127.64.0.8", **PLACE, owner_id="eipalloc-8", elastic=True)),
        elastic=(Address(id="eipalloc-8", **PLACE, public_ip="127.64.0.8"),),
        pools=changed(HEALTHY.pools, "public", used=4),
    )
    assert rules(kept) == set()


def on(*ids: str, incarnation: int = 1) -> tuple[Found, ...]:
    return tuple(Found(instance_id=id, incarnation=incarnation, on=True) for id in ids)


ENDED = replace(
    HEALTHY,
    instances=changed(HEALTHY.instances, "i-2", phase=Phase.TERMINATED, wish=Wish.TERMINATED),
)

HOSTS: list[tuple[str, State, dict[str, object], dict[str, object], set[Rule]]] = [
    ("runs twice", HEALTHY, {"machines": on("i-1", "i-2")}, {}, {Rule.RUNS_TWICE, Rule.RUNS_UNKNOWN, Rule.PORT_MISSING}),
    ("runs what nobody knows", HEALTHY, {"machines": on("i-1", "i-7")}, {}, {Rule.RUNS_UNKNOWN}),
    ("does not run what it should", HEALTHY, {"machines": ()}, {}, {Rule.RUNNING_UNSEEN}),
    (
        "has it, switched off",
        HEALTHY,
        {"machines": (Found(instance_id="i-1", incarnation=1, on=False),)},
        {},
        {Rule.RUNNING_UNSEEN},
    ),
    ("runs an incarnation of the future", HEALTHY, {"machines": on("i-1", incarnation=2)}, {}, {Rule.RUNS_AHEAD}),
    ("runs an old incarnation", instances("i-1", incarnation=2), {}, {}, {Rule.RUNS_OUTDATED}),
    (
        "runs what is stopped",
        replace(
            instances("i-1", phase=Phase.STOPPED, wish=Wish.STOPPED),
            hosts=changed(HEALTHY.hosts, "h-1", vcpus_used=0, memory_mib_used=0, instances=0),
            balancers=(replace(BALANCER, targets=(target(2),)),),
            groups=(replace(GROUP, desired=1),),
        ),
        {"balancers": {"lb-1": ("i-2",)}},
        {},
        {Rule.RUNS_ENDED},
    ),
    ("keeps bytes of nobody", HEALTHY, {"stored": ("vol-1", "snap-7")}, {}, {Rule.BYTES_LEAKED}),
    (
        "lost a volume's bytes",
        replace(HEALTHY, volumes=changed(HEALTHY.volumes, "vol-1", host_id="h-1")),
        {"stored": ()},
        {},
        {Rule.BYTES_LOST},
    ),
    ("port of nobody", HEALTHY, {"ports": ("eni-1", "eni-7")}, {}, {Rule.PORT_LEAKED}),
    ("port on the wrong host", HEALTHY, {"ports": ("eni-1", "eni-2")}, {}, {Rule.PORT_LEAKED}),
    ("machine without port", HEALTHY, {"ports": ()}, {}, {Rule.PORT_MISSING}),
    ("balancer not there", HEALTHY, {"balancers": {}}, {}, {Rule.BALANCER_MISSING}),
    ("balancer of nobody", HEALTHY, {}, {"balancers": {"lb-7": ()}}, {Rule.BALANCER_TARGET}),
    ("sends to a stranger", HEALTHY, {"balancers": {"lb-1": ("i-1", "i-7")}}, {}, {Rule.BALANCER_TARGET}),
    (
        "sends to one that drains",
        replace(HEALTHY, balancers=(replace(BALANCER, targets=(target(1), target(2, draining=True))),)),
        {},
        {},
        {Rule.BALANCER_TARGET},
    ),
]


@pytest.mark.parametrize(
    ("state", "first", "second", "expected"), [case[1:] for case in HOSTS], ids=[case[0] for case in HOSTS]
)
def test_each_broken_host_is_told(
    state: State, first: dict[str, object], second: dict[str, object], expected: set[Rule]
) -> None:
    seen = (replace(SEEN[0], **first), replace(SEEN[1], **second))
    assert rules(state, seen) == expected


def test_a_terminated_machine_still_there_is_wrong_at_once() -> None:
    found = audit(ENDED, SEEN)
    at_once = {violation.rule for violation in found if violation.grace_s == 0}
    assert {Rule.RUNS_UNKNOWN, Rule.PORT_LEAKED} <= at_once


CHANGES: list[tuple[str, Callable[[Instance], Instance | None], set[Rule]]] = [
    ("phase back", lambda one: replace(one, phase=Phase.PREPARING), {Rule.PHASE_SHRANK}),
    ("incarnation back", lambda one: replace(one, incarnation=0), {Rule.PHASE_SHRANK}),
    ("next incarnation while it runs", lambda one: replace(one, incarnation=2, phase=Phase.PLACED), {Rule.PHASE_SHRANK}),
    ("epoch back", lambda one: replace(one, epoch=0), {Rule.EPOCH_SHRANK}),
    ("moved in the same epoch", lambda one: replace(one, host_id="h-2"), {Rule.MOVED_WITHOUT_EPOCH}),
    ("forgotten alive", lambda one: None, {Rule.VANISHED}),
    ("other address", lambda one: replace(one, nics=(replace(one.nic, private_ip="172.31.0.7"),)), {Rule.ADDRESS_CHANGED}),
]


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_each_forbidden_change_is_told(change: Callable[[Instance], Instance | None], expected: set[Rule]) -> None:
    after = change(instance(1))
    rows = (*((after,) if after is not None else ()), instance(2))
    found = audit_change(HEALTHY, replace(HEALTHY, instances=rows))
    assert {violation.rule for violation in found} == expected
    assert {violation.subject for violation in found} == {"i-1"}


def test_the_terminated_stay_so_and_may_be_forgotten() -> None:
    terminating = instances("i-1", wish=Wish.TERMINATED)
    assert {v.rule for v in audit_change(terminating, instances("i-1", wish=Wish.RUNNING, phase=Phase.STOPPED))} == {
        Rule.REVIVED
    }
    terminated = instances("i-1", wish=Wish.TERMINATED, phase=Phase.TERMINATED)
    assert audit_change(terminating, terminated) == []
    assert audit_change(terminated, replace(HEALTHY, instances=without(HEALTHY.instances, "i-1"))) == []


def test_a_start_of_a_stopped_instance_and_a_move_in_a_new_epoch_are_fine() -> None:
    stopped = instances("i-1", wish=Wish.STOPPED, phase=Phase.STOPPED)
    assert audit_change(stopped, instances("i-1", incarnation=2, phase=Phase.PENDING)) == []
    assert audit_change(HEALTHY, instances("i-1", host_id="h-2", epoch=2)) == []


def test_only_what_lasts_longer_than_its_grace_is_reported() -> None:
    def wrong(grace_s: float, subject: str = "i-1") -> Violation:
        return Violation(rule=Rule.WISH_OPEN, subject=subject, sentence="...", grace_s=grace_s)

    since, lasting = outlasting({}, [wrong(0.0)], 100.0)
    assert lasting == [wrong(0.0)]
    since, lasting = outlasting({}, [wrong(60.0)], 100.0)
    assert lasting == []
    since, lasting = outlasting(since, [wrong(60.0), wrong(60.0, "i-2")], 160.0)
    assert lasting == [wrong(60.0)]
    since, lasting = outlasting(since, [], 170.0)
    since, lasting = outlasting(since, [wrong(60.0)], 180.0)
    assert lasting == []


@pytest.mark.parametrize(
    "unwilling",
    [{"draining": True}, {"pressure": (Pressure.DISK,)}, {"state": HostState.UNREACHABLE}],
    ids=["draining", "nearly full", "silent"],
)
def test_nothing_comes_to_a_host_that_takes_nothing_new(unwilling: dict[str, object]) -> None:
    """A host that was so before and after; one that changed its mind between two looks is no proof. What it has, it keeps."""
    full = (host(1), replace(host(2), **unwilling))
    moved = instances("i-1", host_id="h-2", epoch=2)
    before, after = replace(HEALTHY, hosts=full), replace(moved, hosts=full)
    assert [(v.rule, v.subject) for v in audit_change(before, after)] == [(Rule.PLACED_UNWILLING, "i-1")]
    assert audit_change(HEALTHY, after) == []
    assert audit_change(before, before) == []
