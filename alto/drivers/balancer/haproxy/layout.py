"""Which member sits in which of HAProxy's server slots. Pure: plans and the last layout in, the next layout out.

Why slots (docs/adr/0008): HAProxy 2.6 does not accept `namespace` for servers added at run time, and members live in
their VPC's namespace. So every balancer has server lines to spare, already in the right namespace and in maintenance;
joining gives one of them an address. When they run out their number doubles, which costs one reload.

The invariant: a slot has one member from the moment it is given until HAProxy has let go of it (`released`), so that a
connection to the old member can never be taken for one to the new.
"""

import enum
from collections.abc import Callable, Collection, Sequence

import msgspec

from alto.model.balancers import BalancerPlan, HealthCheck, Target

SLOTS_AT_FIRST = 8


class Use(enum.StrEnum):
    FREE = "free"
    MEMBER = "member"
    DRAINING = "draining"  # planned, and told to finish
    LEAVING = "leaving"  # no longer planned; free as soon as it has no sessions left, or its time is over


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # HAProxy's server name
    netns: str | None
    use: Use = Use.FREE
    target: Target | None = None
    answered: bool = False  # this member passed its health check at least once


class Balancer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    address: str
    port: int
    check: HealthCheck
    drain_s: float
    slots: tuple[Slot, ...] = ()
    waiting: tuple[Target, ...] = ()  # members whose network is not on this host yet


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """`runs`: HAProxy was started with it, and not only meant to be.

    `netns_ids` are the inodes of the namespaces when HAProxy opened them: it never opens a name twice, so one that was
    made anew under the same name is reached only after a reload."""

    balancers: tuple[Balancer, ...] = ()
    netns_ids: dict[str, int] = {}
    runs: bool = True


def arrange(
    before: Layout,
    plans: Sequence[BalancerPlan],
    *,
    netns_of: Callable[[str], str | None],
    netns_ids: dict[str, int],
) -> Layout:
    """The layout for `plans`. `netns_of` names the namespace of a VPC (None: this host's own); `netns_ids` has those that
    exist now. Members keep their slots."""
    known = {balancer.id: balancer for balancer in before.balancers}
    balancers: list[Balancer] = []
    for plan in sorted(plans, key=lambda plan: plan.id):
        slots = list(known[plan.id].slots) if plan.id in known else []
        # A namespace that is gone takes its slots with it: a configuration that names it would not load.
        slots = [slot for slot in slots if slot.netns is None or slot.netns in netns_ids]
        wanted = {_key(target): target for target in plan.targets}
        for index, slot in enumerate(slots):
            if slot.target is None or slot.use is Use.FREE:
                continue
            target = wanted.pop(_key(slot.target), None) if slot.use is not Use.LEAVING else None
            if target is None:
                slots[index] = msgspec.structs.replace(slot, use=Use.LEAVING)
            else:
                use = Use.DRAINING if target.draining else Use.MEMBER
                slots[index] = msgspec.structs.replace(slot, use=use, target=target)
        waiting: list[Target] = []
        for target in wanted.values():
            netns = netns_of(target.vpc_id)
            if netns is not None and netns not in netns_ids:
                waiting.append(target)
            else:
                # One that is drained before it ever joined takes its slot too: it must be told of, and takes no traffic.
                use = Use.DRAINING if target.draining else Use.MEMBER
                index = _free_index(slots, netns)
                slots[index] = msgspec.structs.replace(slots[index], use=use, target=target, answered=False)
        balancers.append(
            Balancer(
                id=plan.id,
                address=plan.address,
                port=plan.port,
                check=plan.check,
                drain_s=plan.drain_s,
                slots=tuple(slots),
                waiting=tuple(waiting),
            )
        )
    used = {slot.netns for balancer in balancers for slot in balancer.slots if slot.netns is not None}
    return Layout(balancers=tuple(balancers), netns_ids={name: netns_ids[name] for name in sorted(used)})


def needs_reload(before: Layout, after: Layout) -> bool:
    """Whether the difference is more than who sits in which slot."""

    def shape(layout: Layout) -> object:
        return layout.netns_ids, [
            (b.id, b.address, b.port, b.check, [(slot.name, slot.netns) for slot in b.slots]) for b in layout.balancers
        ]

    return not before.runs or shape(before) != shape(after)


def released(layout: Layout, slots: Collection[tuple[str, str]]) -> Layout:
    """`slots` (balancer id, slot name) have been let go of by HAProxy."""
    return _change(layout, slots, use=Use.FREE, target=None, answered=False)


def answered(layout: Layout, slots: Collection[tuple[str, str]]) -> Layout:
    """The members in `slots` passed a health check."""
    return _change(layout, slots, answered=True)


def _change(layout: Layout, slots: Collection[tuple[str, str]], **fields: object) -> Layout:
    if not slots:
        return layout
    return msgspec.structs.replace(
        layout,
        balancers=tuple(
            msgspec.structs.replace(
                balancer,
                slots=tuple(
                    msgspec.structs.replace(slot, **fields) if (balancer.id, slot.name) in slots else slot
                    for slot in balancer.slots
                ),
            )
            for balancer in layout.balancers
        ),
    )


def _key(target: Target) -> tuple[str, str, str, int]:
    return target.instance_id, target.vpc_id, target.private_ip, target.port


def _free_index(slots: list[Slot], netns: str | None) -> int:
    """The index of a free slot in `netns`, the lowest, so that a replay gives the same; makes more when there is none."""
    for index, slot in enumerate(slots):
        if slot.netns == netns and slot.use is Use.FREE:
            return index
    have = sum(slot.netns == netns for slot in slots)
    first = len(slots)
    # Doubled, so that growth to n members costs log n reloads.
    slots.extend(Slot(name=f"{netns or 'host'}.{have + more + 1}", netns=netns) for more in range(max(have, SLOTS_AT_FIRST)))
    return first
