"""Goal: the audit tells of an instance that waits though it would fit, and is silent of one that waits rightly; and dedicated
instances have nobody beside them. Method: hosts and instances of the cloud in good order, one rule of placement each."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.hosts import Dedication, Host
from alto.model.instances import Instance, Phase, PlacementWish, RootVolume
from alto.model.placement_groups import PlacementGroup, PlacementMember, Strategy
from alto.plan.violations import Rule, State
from tests.plan.good_order import PLACE, host, instance, rules


def test_dedicated_instances_have_no_other_account_beside_them() -> None:
    def beside(account: str, phase: Phase = Phase.RUNNING) -> State:
        kept = replace(host(1), dedicated=Dedication(account="123456789012", instances=1))
        mine = replace(instance(1), account="123456789012", placement=PlacementWish(dedicated=True))
        return State(hosts=(kept,), instances=(mine, replace(instance(2), host_id="h-1", account=account, phase=phase)))

    assert Rule.TENANCY_BROKEN in rules(beside("999999999999"))
    assert Rule.TENANCY_BROKEN not in rules(beside("999999999999", Phase.STOPPED))
    assert Rule.TENANCY_BROKEN not in rules(beside("123456789012"))


def test_who_waits_because_of_tenancy_waits_rightly() -> None:
    kept = replace(host(1), dedicated=Dedication(account="123456789012", instances=1))
    mine = replace(instance(1), account="123456789012", placement=PlacementWish(dedicated=True))
    waits = {"host_id": None, "phase": Phase.PENDING, "waiting_because": "a host is kept"}
    other = replace(instance(2), account="999999999999", **waits)
    assert Rule.WISH_UNEXPLAINED not in rules(State(hosts=(kept,), instances=(mine, other)))
    assert Rule.WISH_UNEXPLAINED in rules(State(hosts=(kept,), instances=(mine, replace(other, account="123456789012"))))
    theirs = replace(instance(1), account="123456789012")
    alone = replace(other, placement=PlacementWish(dedicated=True))
    assert Rule.WISH_UNEXPLAINED not in rules(State(hosts=(host(1),), instances=(theirs, alone)))
    assert Rule.WISH_UNEXPLAINED in rules(State(hosts=(host(1),), instances=(theirs, other)))


def test_who_is_kept_from_the_last_host_of_all_waits_rightly() -> None:
    """One of dedicated tenancy was launched while two hosts were everybody's, and one of these drains before it is placed."""
    waiting = {"host_id": None, "phase": Phase.PENDING, "waiting_because": "a host is left"}
    alone = replace(instance(1), placement=PlacementWish(dedicated=True), **waiting)
    free = [replace(host(number), vcpus_used=0, memory_mib_used=0, instances=0) for number in (1, 2)]

    def unexplained(one: Instance, *hosts: Host) -> bool:
        return Rule.WISH_UNEXPLAINED in rules(State(hosts=hosts, instances=(one,)))

    assert unexplained(alone, *free)
    assert not unexplained(alone, free[0], replace(free[1], draining=True))
    assert unexplained(replace(alone, placement=None), free[0], replace(free[1], draining=True)), "it may have the last"
    other_kind = replace(free[1], capabilities=replace(free[1].capabilities, kind="container"))
    assert not unexplained(alone, free[0], other_kind), "a host of another kind is none for it"


@pytest.mark.parametrize(
    ("strategy", "partitions", "fits"),
    [
        (Strategy.SPREAD, (None, None), False),
        (Strategy.CLUSTER, (None, None), True),
        (Strategy.PARTITION, (1, 2), False),
        (Strategy.PARTITION, (1, 1), True),
        (Strategy.PARTITION, (1, None), True),
    ],
)
def test_who_waits_because_of_its_group_waits_rightly(
    strategy: Strategy, partitions: tuple[int | None, int | None], fits: bool
) -> None:
    """A member stands on the only host that takes anything, and another one waits."""
    group = PlacementGroup(id="pg-1", **PLACE, name="g", strategy=strategy, partitions=2, created_at=0)
    there, waits = (
        PlacementMember(id=f"i-{number}", group_id="pg-1", host_id=host_id, partition=partition)
        for number, host_id, partition in zip((1, 2), ("h-1", None), partitions, strict=True)
    )
    one = replace(instance(2), host_id=None, phase=Phase.PENDING, waiting_because="members keep apart")
    state = State(hosts=(host(1),), instances=(instance(1), one), placement_groups=(group,), places=(there, waits))
    assert (Rule.WISH_UNEXPLAINED in rules(state)) is fits


@pytest.mark.parametrize(
    "lacks", [{"placement": PlacementWish(host_id="h-9")}, {"root": RootVolume(volume_id="vol-1", size_gib=9)}]
)
def test_who_asks_for_what_no_host_has_waits_rightly(lacks: dict[str, Any]) -> None:
    one = replace(instance(1), host_id=None, phase=Phase.PENDING, waiting_because="no host has it")
    small = replace(host(1), disk_gib=8, disk_gib_used=0)
    assert Rule.WISH_UNEXPLAINED in rules(State(hosts=(small,), instances=(one,)))
    assert Rule.WISH_UNEXPLAINED not in rules(State(hosts=(small,), instances=(replace(one, **lacks),)))
