"""What a host is told when rules change: of security groups, network ACLs and prefix lists. One row is read and one thing said
for each, whatever else its VPC has.

The plan that was sent last is what the host has, so a change leads from there to the row. What no change can say (a route that
names the prefix list, a peer's group that the host does not know yet, a subnet that its ACL let go and no other took) is
answered with the whole plan.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network

from msgspec.structs import replace

from alto.api.security_groups import is_in_vpc
from alto.model.acls import NetworkAcl, PrefixList
from alto.model.network_plans import AclPlan, NetworkChange, NetworkPlan
from alto.model.networks import SecurityGroup
from alto.model.records import Record
from alto.plan.endpoints import amazons_list
from alto.plan.network_changes import changed
from alto.store.store import Reader

KINDS: Mapping[str, type[SecurityGroup] | type[NetworkAcl] | type[PrefixList]] = {
    one.KIND: one for one in (SecurityGroup, NetworkAcl, PrefixList)
}

Plans = dict[str, NetworkPlan]
Guests = Mapping[str, AbstractSet[str]]  # VPC -> groups of other VPCs in its plan


def concerns(record: Record, sent: Plans, guests: Guests) -> bool:
    """Whether a host that was sent these plans must hear of the record's change."""
    if isinstance(record, PrefixList):
        return any(record.id in plan.prefix_lists for plan in sent.values())
    if isinstance(record, SecurityGroup):
        return bool(_plans_with(record, sent, guests))
    return isinstance(record, NetworkAcl) and record.vpc_id in sent


def _plans_with(group: SecurityGroup, sent: Plans, guests: Guests) -> list[NetworkPlan]:
    """Those of its own VPC and of any that it is associated with, as they were sent."""
    return [plan for id, plan in sent.items() if id == group.vpc_id or group.id in guests.get(id, ())]


def rule_changes(
    reader: Reader, sent: Plans, guests: Guests, dirty: Iterable[tuple[str, str]]
) -> tuple[tuple[NetworkChange, ...], bool]:
    """What leads from `sent` to the rows `dirty` (kind, id), and whether that is not all. `sent` is as the host then has it."""
    changes: list[NetworkChange] = []
    losers: list[NetworkAcl] = []
    whole = False
    for kind, id in sorted(dirty):
        row = reader.find(KINDS[kind], id)
        if row is None:
            news = [one for one in (_gone(plan, kind, id) for plan in sent.values()) if one is not None]
        elif isinstance(row, PrefixList):
            named = [plan for plan in sent.values() if id in plan.prefix_lists]
            whole = whole or any(_is_routed(plan, id) for plan in named)
            news = [_of_list(plan, row) for plan in named if not _is_routed(plan, id)]
        elif isinstance(row, SecurityGroup):
            # An association may be gone that was there when the plan was sent.
            plans = [plan for plan in _plans_with(row, sent, guests) if is_in_vpc(reader, row, plan.vpc_id)]
            found = [_of_group(reader, plan, row) for plan in plans]
            whole = whole or None in found
            news = [change for change in found if change is not None]
        elif row.vpc_id in sent:
            losers.append(row)
            news = [_of_acl(sent[row.vpc_id], row)]
        else:
            continue
        for change in news:
            if change != NetworkChange(vpc_id=change.vpc_id):
                changes.append(change)
                sent[change.vpc_id] = changed(sent[change.vpc_id], change)
    # Asked when all ACLs have taken theirs: a subnet goes from one to another in one transaction.
    for acl in losers:
        own = {one.subnet_id for one in acl.associations}
        if not acl.default:
            whole = whole or any(one.acl_id == acl.id and one.id not in own for one in sent[acl.vpc_id].subnets)
    return tuple(changes), whole


def _gone(plan: NetworkPlan, kind: str, id: str) -> NetworkChange | None:
    if kind == SecurityGroup.KIND and plan.find_group(id) is not None:
        return NetworkChange(vpc_id=plan.vpc_id, gone_groups=(id,))
    if kind == NetworkAcl.KIND and plan.find_acl(id) is not None:
        return NetworkChange(vpc_id=plan.vpc_id, gone_acls=(id,))
    if kind == PrefixList.KIND and id in plan.prefix_lists:
        return NetworkChange(vpc_id=plan.vpc_id, gone_prefix_lists=(id,))
    return None


def _of_group(reader: Reader, plan: NetworkPlan, group: SecurityGroup) -> NetworkChange | None:
    """None: it names a peered VPC's group whose members the host was not told. What it names by a connection of its own VPC
    lets nobody in elsewhere."""
    if group.vpc_id == plan.vpc_id and any(
        rule.group_peer is not None and rule.group_id not in plan.members for rule in group.permissions
    ):
        return None
    named = {rule.prefix_list_id for rule in group.permissions if rule.prefix_list_id is not None} - plan.prefix_lists.keys()
    lists = [reader.find(PrefixList, id) or amazons_list(plan.region, id) for id in sorted(named)]
    return NetworkChange(
        vpc_id=plan.vpc_id,
        groups=(group,) if plan.find_group(group.id) != group else (),
        prefix_lists={one.id: _ranges(one) for one in lists if one is not None},
    )


def _of_acl(plan: NetworkPlan, acl: NetworkAcl) -> NetworkChange:
    now = AclPlan(id=acl.id, entries=acl.entries)
    own = {one.subnet_id for one in acl.associations}
    return NetworkChange(
        vpc_id=plan.vpc_id,
        acls=(now,) if plan.find_acl(acl.id) != now else (),
        subnets=tuple(replace(one, acl_id=acl.id) for one in plan.subnets if one.id in own and one.acl_id != acl.id),
    )


def _of_list(plan: NetworkPlan, found: PrefixList) -> NetworkChange:
    now = _ranges(found)
    return NetworkChange(vpc_id=plan.vpc_id, prefix_lists={found.id: now} if plan.prefix_lists[found.id] != now else {})


def _ranges(found: PrefixList) -> tuple[str, ...]:
    return tuple(entry.cidr for entry in found.entries)


def _is_routed(plan: NetworkPlan, list_id: str) -> bool:
    """Whether a route may have come from this list. One that was empty cannot be told, so it may."""
    ranges = {str(IPv4Network(cidr, strict=False)) for cidr in plan.prefix_lists[list_id] if ":" not in cidr}
    return not ranges or any(route.destination in ranges for subnet in plan.subnets for route in subnet.routes)
