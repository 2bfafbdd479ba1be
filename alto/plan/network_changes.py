"""A VPC's plan changes: what differs between two, and what a plan is after a change. Pure.

`difference` is for whoever has two whole plans; who knows what changed makes the NetworkChange at its own cost. `changed` looks
at what the change names alone: a plan lists things in the order of their ids, and what stays is copied as it lies there.
Invariant: `changed(old, difference(old, new))` equals `new`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from alto.model.network_plans import NetworkChange, NetworkPlan

T = TypeVar("T")


def difference(old: NetworkPlan, new: NetworkPlan) -> NetworkChange | None:
    """None when a NetworkChange cannot say it: something else than rules and neighbours differs."""
    if _fixed(old) != _fixed(new):
        return None
    groups, gone_groups = _listed(old.groups, new.groups, lambda one: one.id)
    acls, gone_acls = _listed(old.acls, new.acls, lambda one: one.id)
    subnets, _ = _listed(old.subnets, new.subnets, lambda one: one.id)
    neighbours, gone_neighbours = _listed(old.neighbours, new.neighbours, lambda one: one.interface_id)
    stays = old.members.keys() & new.members.keys()
    joined = {id: _less(new.members[id], old.members[id]) for id in stays}
    left = {id: _less(old.members[id], new.members[id]) for id in stays}
    return NetworkChange(
        vpc_id=new.vpc_id,
        groups=groups,
        gone_groups=gone_groups,
        members={id: addresses for id, addresses in new.members.items() if id not in stays},
        gone_members=tuple(id for id in old.members if id not in stays),
        joined={id: addresses for id, addresses in joined.items() if addresses},
        left={id: addresses for id, addresses in left.items() if addresses},
        prefix_lists={id: cidrs for id, cidrs in new.prefix_lists.items() if old.prefix_lists.get(id) != cidrs},
        gone_prefix_lists=tuple(id for id in old.prefix_lists if id not in new.prefix_lists),
        acls=acls,
        gone_acls=gone_acls,
        subnets=subnets,
        neighbours=neighbours,
        gone_neighbours=gone_neighbours,
    )


def changed(plan: NetworkPlan, change: NetworkChange) -> NetworkPlan:
    members, lists = plan.members, plan.prefix_lists
    if change.members or change.gone_members or change.joined or change.left:
        members = _without(members, change.gone_members) | change.members
        for id in change.joined.keys() | change.left.keys():
            members[id] = _moved(members.get(id, ()), change.left.get(id, ()), change.joined.get(id, ()))
    if change.prefix_lists or change.gone_prefix_lists:
        lists = _without(lists, change.gone_prefix_lists) | change.prefix_lists
    return msgspec.structs.replace(
        plan,
        groups=_merged(plan.groups, change.groups, change.gone_groups, lambda one: one.id),
        acls=_merged(plan.acls, change.acls, change.gone_acls, lambda one: one.id),
        subnets=_merged(plan.subnets, change.subnets, (), lambda one: one.id),
        neighbours=_merged(plan.neighbours, change.neighbours, change.gone_neighbours, lambda one: one.interface_id),
        members=members,
        prefix_lists=lists,
    )


def _fixed(plan: NetworkPlan) -> NetworkPlan:
    """Of which a change says nothing."""
    subnets = tuple(msgspec.structs.replace(one, acl_id="") for one in plan.subnets)
    return msgspec.structs.replace(plan, groups=(), members={}, prefix_lists={}, acls=(), subnets=subnets, neighbours=())


def _listed(old: Iterable[T], new: Iterable[T], id_of: Callable[[T], str]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """What is new or different, and the ids of what is gone."""
    before, after = {id_of(one): one for one in old}, {id_of(one): one for one in new}
    news = tuple(one for id, one in after.items() if before.get(id) != one)
    return news, tuple(id for id in before if id not in after)


def _merged(old: tuple[T, ...], news: Iterable[T], gone: Iterable[str], id_of: Callable[[T], str]) -> tuple[T, ...]:
    fresh: dict[str, T | None] = {**dict.fromkeys(gone), **{id_of(one): one for one in news}}
    if not fresh:
        return old
    listed = list(old)
    for id, one in fresh.items():
        at = bisect_left(listed, id, key=id_of)
        known = at < len(listed) and id_of(listed[at]) == id
        listed[at : at + known] = [one] if one is not None else []
    return tuple(listed)


def _moved(addresses: Iterable[str], left: Iterable[str], joined: Iterable[str]) -> tuple[str, ...]:
    """In the order of their letters, as they came."""
    listed = list(addresses)
    for each, stays in (*((one, False) for one in left), *((one, True) for one in joined)):
        at = bisect_left(listed, each)
        known = at < len(listed) and listed[at] == each
        listed[at : at + known] = [each] if stays else []
    return tuple(listed)


def _without(values: dict[str, T], gone: Iterable[str]) -> dict[str, T]:
    kept = dict(values)
    for id in gone:
        kept.pop(id, None)
    return kept


def _less(some: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    without = set(others)
    return tuple(one for one in some if one not in without)
