"""Managed prefix lists: named sets of ranges that rules and routes mention, with their versions.

Not here: what a rule or a route makes of a list (`plan/`), and what Amazon's own lists are (`plan/endpoints.py`), which nobody
changes. Invariant: a list that a rule or a route names does not go, and none holds more
entries than its maximum, which is what it counts for in the limits of those that name it.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, find_prefix_list, owned
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.routes import check_route_number
from alto.api.ec2.security_group_rules import check_rule_number
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.acls import PrefixList, PrefixListEntry
from alto.model.errors import Refused
from alto.model.networks import SecurityGroup
from alto.model.routing import RouteTable
from alto.plan.endpoints import AMAZON, amazons_list, amazons_lists
from alto.plan.ranges import parse_v4, parse_v6
from alto.store.store import Reader, Tx

ENTRIES_MAX = 1000  # "Amazon VPC quotas": of a list
ENTRIES_AT_ONCE = 100  # of one request
TEXT_MAX = 255
EARLIER_KEPT = 100  # revisions that can be read and restored
FAMILIES = ("IPv4", "IPv6")
AMAZONS = "com.amazonaws"

_FILTERS: Filters[PrefixList] = {
    "owner-id": lambda one: one.account,
    "prefix-list-id": lambda one: one.id,
    "prefix-list-name": lambda one: one.name,
}


class DescribeManagedRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    prefix_list_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_managed_prefix_lists(call: Call, request: DescribeManagedRequest) -> dict[str, object]:
    ids = request.prefix_list_ids
    check_page(request.max_results, ids, low=1, high=100, ids_parameter="prefixListIdSet")
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> list[PrefixList]:
        if ids:
            return [find_prefix_list(reader, call, id) for id in sorted(set(ids))]
        return [*amazons_lists(call.region), *reader.where(PrefixList, account=call.account, region=call.region)]

    page = page_of_list(
        [one for one in call.store.read(read) if matches(one)],
        lambda one: one.id,
        scope=PrefixList.KIND,
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("PrefixLists", [_shown(one) for one in page.items], page.next_token)


def _begun(one: PrefixList, change: str, revision: int) -> dict[str, object]:
    """The answer to a request that changes it, which EC2 gives before the change and its version are there."""
    return {"PrefixList": {**_shown(one), "State": f"{change}-in-progress", "Version": revision}}


def _shown(one: PrefixList) -> dict[str, object]:
    amazons = one.account == AMAZON
    shape: dict[str, object] = {
        "PrefixListId": one.id,
        "AddressFamily": one.family,
        "State": one.done,
        "PrefixListArn": f"arn:aws:ec2:{one.region}:{'aws' if amazons else one.account}:prefix-list/{one.id}",
        "PrefixListName": one.name,
        "Tags": shown(one.tags),
        "OwnerId": one.account,
    }
    return shape if amazons else shape | {"MaxEntries": one.max_entries, "Version": one.revision}


_SERVICE_FILTERS: Filters[PrefixList] = {
    "prefix-list-id": lambda one: one.id,
    "prefix-list-name": lambda one: one.name,
}


class DescribePrefixListsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    prefix_list_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_prefix_lists(call: Call, request: DescribePrefixListsRequest) -> dict[str, object]:
    """Those of Amazon's services: the caller's own are not in this listing at EC2 either."""
    ids = request.prefix_list_ids
    check_page(request.max_results, ids, low=1, ids_parameter="prefixListIdSet")
    matches = matcher(request.filters, _SERVICE_FILTERS)
    for id in ids:
        if amazons_list(call.region, check_id(PrefixList.KIND, id)) is None:
            # Spelled otherwise than for the caller's own lists.
            raise Refused("InvalidPrefixListId.NotFound", f"The prefix list ID '{id}' does not exist")
    page = page_of_list(
        [one for one in amazons_lists(call.region) if (not ids or one.id in ids) and matches(one)],
        lambda one: one.id,
        scope="service_prefix_list",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    items = [
        {"PrefixListId": one.id, "PrefixListName": one.name, "Cidrs": [entry.cidr for entry in one.entries]}
        for one in page.items
    ]
    return listing("PrefixLists", items, page.next_token)


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    cidr: str | None = None
    description: str | None = None


class CreateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_name: str
    max_entries: int
    address_family: str
    entries: tuple[Entry, ...] = ()
    tag_specifications: tuple[TagSpecification, ...] = ()
    client_token: str | None = None


async def create_managed_prefix_list(call: Call, request: CreateRequest) -> dict[str, object]:
    check_token(request.client_token)
    _check_name(request.prefix_list_name)
    _check_maximum(request.max_entries)
    if request.address_family not in FAMILIES:
        raise _invalid(request.address_family, "AddressFamily", f"Valid values: {', '.join(FAMILIES)}")
    made = PrefixList(
        id=draw_id(call.world.chance, "pl"),
        account=call.account,
        region=call.region,
        name=request.prefix_list_name,
        family=request.address_family,
        max_entries=request.max_entries,
        entries=_checked(request.entries, request.address_family),
        tags=tags_for(request.tag_specifications, "prefix-list")["prefix-list"],
    )
    _check_room(made)
    now = call.world.clock.now()

    def body(tx: Tx) -> PrefixList:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return owned(tx, call, PrefixList, known)
        remember_result(tx, call, request.client_token, made.id, now)
        return tx.put(made)

    written = await call.store.write(body)
    return _begun(written, "create", written.revision) if written.id == made.id else {"PrefixList": _shown(written)}


def _invalid(value: object, parameter: str, why: str) -> Refused:
    return Refused("InvalidParameterValue", f"Value ({str(value)[:80]}) for parameter {parameter} is invalid. {why}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= TEXT_MAX or name.startswith(AMAZONS):
        raise _invalid(name, "PrefixListName", f"Up to {TEXT_MAX} characters, not beginning with '{AMAZONS}'")


def _check_maximum(entries: int) -> None:
    if not 1 <= entries <= ENTRIES_MAX:
        raise _invalid(entries, "MaxEntries", f"Must specify a max size between 1 and {ENTRIES_MAX}")


def _checked(asked: Sequence[Entry], family: str) -> tuple[PrefixListEntry, ...]:
    """Raises: Refused: too many, one that is no range of this family, or the same range twice."""
    _check_number(asked)
    found: dict[str, PrefixListEntry] = {}
    for each in asked:
        cidr = _checked_cidr(each.cidr, family)
        if each.description is not None and len(each.description) > TEXT_MAX:
            raise _invalid(each.description, "Description", f"Up to {TEXT_MAX} characters")
        if cidr in found:
            raise Refused("InvalidParameterValue", f"Request contains duplicate Cidr {cidr}")
        found[cidr] = PrefixListEntry(cidr=cidr, description=each.description or None)
    return tuple(found.values())


def _check_number(asked: Sequence[object]) -> None:
    if len(asked) > ENTRIES_AT_ONCE:
        raise Refused("InvalidParameterValue", f"The number of entries per request cannot exceeds limit ({ENTRIES_AT_ONCE}).")


def _checked_cidr(text: str | None, family: str) -> str:
    if text is None:
        raise Refused("MissingParameter", "The request must contain the parameter Cidr")
    network, example = (parse_v4(text), "10.0.0.0/16") if family == "IPv4" else (parse_v6(text), "2001:db8::/32")
    # Unlike the ranges of rules and routes, these have to be written without a host's bits.
    if network is None or ip_address(text.partition("/")[0]) != network.network_address:
        raise Refused(
            "InvalidParameterValue",
            f"The specified CIDR ({text[:80]}) is not valid. For example, specify a CIDR in the following form: {example}.",
        )
    return str(network)


def _check_room(one: PrefixList) -> None:
    if len(one.entries) > one.max_entries:
        raise Refused(
            "PrefixListMaxEntriesExceeded",
            f"The prefix list {one.id} can have {one.max_entries} entries, and not {len(one.entries)}.",
        )


class RemovedEntry(msgspec.Struct, frozen=True, rename="pascal"):
    cidr: str | None = None


class ModifyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str
    current_version: int | None = None
    prefix_list_name: str | None = None
    add_entries: tuple[Entry, ...] = ()
    remove_entries: tuple[RemovedEntry, ...] = ()
    max_entries: int | None = None


async def modify_managed_prefix_list(call: Call, request: ModifyRequest) -> dict[str, object]:
    """New entries make a new version; a name or a maximum does not."""
    changes_entries = bool(request.add_entries or request.remove_entries)
    if request.prefix_list_name is not None:
        _check_name(request.prefix_list_name)
    if request.max_entries is not None:
        _check_maximum(request.max_entries)
        if changes_entries:
            raise Refused(
                "InvalidParameterCombination",
                "You cannot modify the entries and the maximum entries for the prefix list in the same request.",
            )
    _check_number(request.remove_entries)

    def body(tx: Tx) -> dict[str, object]:
        old = owned(tx, call, PrefixList, request.prefix_list_id)
        _check_version(old, request.current_version)
        new = replace(old, name=request.prefix_list_name or old.name, max_entries=request.max_entries or old.max_entries)
        if changes_entries:
            added = {one.cidr: one for one in _checked(request.add_entries, old.family)}
            removed = {_checked_cidr(each.cidr, old.family) for each in request.remove_entries}
            for cidr in removed & added.keys():
                raise Refused(
                    "InvalidParameterValue",
                    f"Request cannot contain Cidr {cidr} in both AddPrefixListEntries and RemovePrefixListEntries",
                )
            for cidr in sorted(removed - {one.cidr for one in old.entries}):
                raise Refused("InvalidPrefixListModification", f"The entry {cidr} of the prefix list {old.id} does not exist.")
            kept = {one.cidr: one for one in old.entries if one.cidr not in removed}
            new = _revised(new, tuple((kept | added).values()))
        _check_room(new)
        if new.max_entries > old.max_entries:
            _check_users(tx, call, new)
        return _begun(tx.put(replace(new, done="modify-complete")), "modify", old.revision)

    return await call.store.write(body)


def _check_version(one: PrefixList, current: int | None) -> None:
    if current is not None and current != one.revision:
        raise Refused("PrefixListVersionMismatch", "The prefix list has the incorrect version number")


def _revised(one: PrefixList, entries: tuple[PrefixListEntry, ...]) -> PrefixList:
    return replace(one, entries=entries, revision=one.revision + 1, earlier=(*one.earlier, one.entries)[-EARLIER_KEPT:])


def _users(reader: Reader, call: Call, id: str) -> tuple[list[SecurityGroup], list[RouteTable]]:
    """The caller's groups and tables that name it: nobody else can."""
    groups = reader.where(SecurityGroup, account=call.account, region=call.region)
    tables = reader.where(RouteTable, account=call.account, region=call.region)
    return (
        [group for group in groups if any(rule.prefix_list_id == id for rule in group.permissions)],
        [table for table in tables if any(route.destination == id for route in table.routes)],
    )


def _check_users(tx: Tx, call: Call, new: PrefixList) -> None:
    """A list counts for its maximum wherever it is named. Raises: Refused: a limit there would be passed."""
    groups, tables = _users(tx, call, new.id)
    for group in groups:
        check_rule_number(tx, group, changed=new)
    for table in tables:
        check_route_number(tx, table.routes, changed=new)


class PrefixListIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str


async def delete_managed_prefix_list(call: Call, request: PrefixListIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> PrefixList:
        gone = owned(tx, call, PrefixList, request.prefix_list_id)
        groups, tables = _users(tx, call, gone.id)
        for user in (*groups, *tables):
            raise Refused("DependencyViolation", f"The prefix list '{gone.id}' is in use by '{user.id}' and cannot be deleted.")
        tx.delete(PrefixList, gone.id)
        return gone

    deleted = await call.store.write(body)
    return _begun(deleted, "delete", deleted.revision)


class EntriesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str
    target_version: int | None = None
    max_results: int | None = None
    next_token: str | None = None


async def get_managed_prefix_list_entries(call: Call, request: EntriesRequest) -> dict[str, object]:
    check_page(request.max_results, low=1, high=100)
    one = call.store.read(lambda reader: find_prefix_list(reader, call, request.prefix_list_id))
    page = page_of_list(
        _entries_at(one, request.target_version),
        lambda entry: entry.cidr,
        scope=f"{one.id}/{request.target_version}",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    entries = [{"Cidr": entry.cidr, "Description": entry.description} for entry in page.items]
    return listing("Entries", entries, page.next_token)


def _entries_at(one: PrefixList, revision: int | None) -> tuple[PrefixListEntry, ...]:
    """Raises: Refused: there was no such version, or it is too long ago."""
    back = 0 if revision is None else one.revision - revision
    if not 0 <= back <= len(one.earlier):
        raise _invalid(revision, "TargetVersion", f"The prefix list {one.id} has no such version")
    return one.earlier[-back] if back else one.entries


class AssociationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str
    max_results: int | None = None
    next_token: str | None = None


async def get_managed_prefix_list_associations(call: Call, request: AssociationsRequest) -> dict[str, object]:
    check_page(request.max_results, high=255)

    def body(reader: Reader) -> Iterable[str]:
        groups, tables = _users(reader, call, owned(reader, call, PrefixList, request.prefix_list_id).id)
        return [user.id for user in (*groups, *tables)]

    page = page_of_list(
        list(call.store.read(body)),
        str,
        scope=f"{request.prefix_list_id}/associations",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    users = [{"ResourceId": id, "ResourceOwner": call.account} for id in page.items]
    return listing("PrefixListAssociations", users, page.next_token)


class RestoreRequest(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str
    previous_version: int
    current_version: int


async def restore_managed_prefix_list_version(call: Call, request: RestoreRequest) -> dict[str, object]:
    def body(tx: Tx) -> dict[str, object]:
        old = owned(tx, call, PrefixList, request.prefix_list_id)
        _check_version(old, request.current_version)
        new = _revised(old, _entries_at(old, request.previous_version))
        _check_room(new)
        return _begun(tx.put(replace(new, done="restore-complete")), "restore", old.revision)

    return await call.store.write(body)


OPERATIONS: Mapping[str, Operation] = {
    "CreateManagedPrefixList": Operation(CreateRequest, create_managed_prefix_list),
    "DeleteManagedPrefixList": Operation(PrefixListIdRequest, delete_managed_prefix_list),
    "DescribeManagedPrefixLists": Operation(DescribeManagedRequest, describe_managed_prefix_lists),
    "DescribePrefixLists": Operation(DescribePrefixListsRequest, describe_prefix_lists),
    "GetManagedPrefixListAssociations": Operation(AssociationsRequest, get_managed_prefix_list_associations),
    "GetManagedPrefixListEntries": Operation(EntriesRequest, get_managed_prefix_list_entries),
    "ModifyManagedPrefixList": Operation(ModifyRequest, modify_managed_prefix_list),
    "RestoreManagedPrefixListVersion": Operation(RestoreRequest, restore_managed_prefix_list_version),
}
