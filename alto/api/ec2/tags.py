"""Tags: CreateTags, DeleteTags, DescribeTags, and the `TagSpecifications` of every request that makes something.

Tags live in the record that they are on. Not here: the `tag:` filters (filters.py). Invariant: a request that names several
resources tags all of them or none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import (
    all_peerings,
    find_dhcp_options,
    find_elastic_ip,
    find_image,
    find_peering,
    find_snapshot,
    is_id,
    is_own,
    is_requester,
    owned,
    sees_image,
    sees_snapshot,
)
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.wire.query import UNPRINTABLE
from alto.model.acls import NetworkAcl, PrefixList
from alto.model.addresses import Address
from alto.model.errors import NotFound, Refused
from alto.model.images import Image, KeyPair
from alto.model.instances import Instance
from alto.model.launch_templates import LaunchTemplate
from alto.model.networks import NetworkInterface, SecurityGroup, Subnet, Vpc
from alto.model.placement_groups import PlacementGroup
from alto.model.records import Tags
from alto.model.routing import (
    DhcpOptions,
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    RouteTable,
    VpcEndpoint,
)
from alto.model.tags import AddedTags, added_key
from alto.model.volumes import Snapshot, Volume
from alto.store.store import Reader, Tx

# "Tag restrictions" in the EC2 user guide.
TAGS_MAX = 50
KEY_MAX = 128
VALUE_MAX = 256
RESOURCES_MAX = 1000
RESERVED = "aws:"

Taggable = (
    Instance
    | Image
    | KeyPair
    | Vpc
    | Subnet
    | SecurityGroup
    | NetworkInterface
    | Volume
    | Snapshot
    | LaunchTemplate
    | PlacementGroup
    | RouteTable
    | InternetGateway
    | EgressOnlyInternetGateway
    | NetworkAcl
    | DhcpOptions
    | PrefixList
    | Address
    | NatGateway
    | VpcEndpoint
)

# Resource type as `TagSpecifications` and DescribeTags name it, by the prefix of the id.
_KINDS: Mapping[str, tuple[str, type[Taggable]]] = {
    "i": ("instance", Instance),
    "ami": ("image", Image),
    "key": ("key-pair", KeyPair),
    "vpc": ("vpc", Vpc),
    "subnet": ("subnet", Subnet),
    "sg": ("security-group", SecurityGroup),
    "eni": ("network-interface", NetworkInterface),
    "vol": ("volume", Volume),
    "snap": ("snapshot", Snapshot),
    "lt": ("launch-template", LaunchTemplate),
    "eipalloc": ("elastic-ip", Address),
    "pg": ("placement-group", PlacementGroup),
    "rtb": ("route-table", RouteTable),
    "igw": ("internet-gateway", InternetGateway),
    "eigw": ("egress-only-internet-gateway", EgressOnlyInternetGateway),
    "acl": ("network-acl", NetworkAcl),
    "dopt": ("dhcp-options", DhcpOptions),
    "pl": ("prefix-list", PrefixList),
    "nat": ("natgateway", NatGateway),
    "vpce": ("vpc-endpoint", VpcEndpoint),
}
_RULE_PREFIX, _RULE_TYPE = "sgr", "security-group-rule"
_PEERING_PREFIX, _PEERING_TYPE = "pcx", "vpc-peering-connection"


class Tag(msgspec.Struct, frozen=True, rename="pascal"):
    key: str | None = None
    value: str | None = None


class TagSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    resource_type: str | None = None
    tags: tuple[Tag, ...] = ()


# Where EC2 has another code for a resource type that the request does not make.
_SPELLED_SHORT = frozenset({"subnet", "vpc-endpoint"})


def tags_for(specifications: Sequence[TagSpecification], *resource_types: str) -> dict[str, Tags]:
    """The tags for each of `resource_types`, which are those that the request makes; all of them are in the answer.

    Raises: Refused: another resource type, none, the same twice, or tags that break a rule.
    """
    found: dict[str, Tags] = {}
    for specification in specifications:
        wanted = specification.resource_type
        if wanted is None:
            raise Refused("InvalidParameterValue", "Tag specification resource type must have a value")
        if wanted not in resource_types:
            code = "InvalidParameter" if _SPELLED_SHORT.intersection(resource_types) else "InvalidParameterValue"
            raise Refused(code, f"'{wanted}' is not a valid taggable resource type for this operation.")
        if wanted in found:
            raise Refused("InvalidParameterValue", f"Duplicate resource type '{wanted}' in tag specifications")
        if not specification.tags:
            raise Refused("InvalidParameterValue", "Tag specification must have at least one tag")
        found[wanted] = checked(specification.tags)
        check_count(found[wanted])
    return {resource_type: found.get(resource_type, {}) for resource_type in resource_types}


def checked(tags: Sequence[Tag]) -> Tags:
    """Raises: Refused: a key is empty, reserved, too long or there twice, or a value is absent or too long."""
    result: Tags = {}
    for tag in tags:
        key, value = tag.key, tag.value
        if not key:
            raise Refused("InvalidParameterValue", "Tag key cannot be null or empty.")
        if value is None:
            raise Refused("InvalidParameterValue", "Tag value cannot be null. Use empty string instead.")
        _check_key(key)
        if len(value) > VALUE_MAX:
            raise Refused("InvalidParameterValue", f"Tag value exceeds the maximum length of {VALUE_MAX} characters")
        if UNPRINTABLE.search(key + value):
            raise Refused("InvalidParameterValue", "Tag keys and values have no control characters.")
        if key in result:
            raise Refused("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        result[key] = value
    return result


def check_count(tags: Tags) -> None:
    if sum(not key.startswith(RESERVED) for key in tags) > TAGS_MAX:
        raise Refused("TagLimitExceeded", f"The maximum number of tags for a resource is {TAGS_MAX}.")


def _check_key(key: str) -> None:
    if len(key) > KEY_MAX:
        raise Refused("InvalidParameterValue", f"Tag key exceeds the maximum length of {KEY_MAX} characters")
    if key.lower().startswith(RESERVED):
        raise Refused(
            "InvalidParameterValue",
            f"Value ( {key} ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use",
        )


def shown(tags: Tags) -> list[dict[str, str]]:
    """As every Describe operation lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class CreateTagsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    resources: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()


async def create_tags(call: Call, request: CreateTagsRequest) -> dict[str, object]:
    resources = _resources(request.resources)
    if not request.tags:
        raise Refused("MissingParameter", "The request must contain the parameter tagSet")
    new = checked(request.tags)

    def body(tx: Tx) -> None:
        for resource in resources:
            _retag(tx, call, resource, lambda old: {**old, **new})

    await call.store.write(body)
    return {}


class DeleteTagsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    resources: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()


async def delete_tags(call: Call, request: DeleteTagsRequest) -> dict[str, object]:
    """A key without a value goes whatever its value is; with one (an empty one too) only when it is equal; without any
    `Tags` all go that are the user's own."""
    resources = _resources(request.resources)
    for tag in request.tags:
        if not tag.key:
            raise Refused("InvalidParameterValue", "Tag key cannot be null or empty.")
        _check_key(tag.key)

    def remaining(old: Tags) -> Tags:
        if not request.tags:
            return {key: value for key, value in old.items() if key.startswith(RESERVED)}
        gone = {tag.key for tag in request.tags if tag.value is None or old.get(tag.key or "") == tag.value}
        return {key: value for key, value in old.items() if key not in gone}

    def body(tx: Tx) -> None:
        for resource in resources:
            _retag(tx, call, resource, remaining)

    await call.store.write(body)
    return {}


def _resources(ids: Sequence[str]) -> list[str]:
    if not ids:
        raise Refused("MissingParameter", "The request must contain the parameter resourceIdSet")
    if len(ids) > RESOURCES_MAX:
        raise Refused("InvalidParameterValue", f"At most {RESOURCES_MAX} resources can be tagged by one request")
    return list(dict.fromkeys(ids))


def _retag(tx: Tx, call: Call, id: str, change: Callable[[Tags], Tags]) -> None:
    prefix = id.partition("-")[0]
    if not is_id(id) or not (prefix in _KINDS or prefix in (_RULE_PREFIX, _PEERING_PREFIX)):
        # One code for all kinds, unlike everywhere else.
        raise Refused("InvalidID", f"The ID '{id[:80]}' is not valid")
    if prefix == _RULE_PREFIX:
        _retag_rule(tx, call, id, change)
        return
    if prefix == _PEERING_PREFIX:
        _retag_peering(tx, call, id, change)
        return
    record = _find(tx, call, id)
    if isinstance(record, Image | Snapshot) and record.account != call.account:
        _add_tags(tx, call, id, change)
        return
    tags = change(record.tags)
    check_count(tags)
    if tags != record.tags:
        tx.put(replace(record, tags=tags))


def _find(reader: Reader, call: Call, id: str) -> Taggable:
    kind = _KINDS[id.partition("-")[0]][1]
    if kind is Address:
        return find_elastic_ip(reader, call, id)
    if kind is DhcpOptions:
        return find_dhcp_options(reader, call, id)
    if kind is Image:
        return find_image(reader, call, id)
    if kind is Snapshot:
        return find_snapshot(reader, call, id)
    return owned(reader, call, kind, id)


def _add_tags(tx: Tx, call: Call, id: str, change: Callable[[Tags], Tags]) -> None:
    """To what another account shares: they are the caller's alone."""
    known = tx.find(AddedTags, added_key(id, call.account, call.region))
    tags = change({} if known is None else known.tags)
    check_count(tags)
    if known is None:
        known = AddedTags(
            id=added_key(id, call.account, call.region), account=call.account, region=call.region, resource_id=id, tags={}
        )
    if not tags and known.version:
        tx.delete(AddedTags, known.id)
    elif tags != known.tags:
        tx.put(replace(known, tags=tags))


def _retag_rule(tx: Tx, call: Call, id: str, change: Callable[[Tags], Tags]) -> None:
    for group in tx.where(SecurityGroup, account=call.account, region=call.region):
        for rule in group.permissions:
            if rule.id == id:
                changed = replace(rule, tags=change(rule.tags))
                check_count(changed.tags)
                tx.put(replace(group, permissions=tuple(changed if r.id == id else r for r in group.permissions)))
                return
    raise NotFound("security_group_rule", id)


def _retag_peering(tx: Tx, call: Call, id: str, change: Callable[[Tags], Tags]) -> None:
    """The tags of the caller's side: the other's are not shown to it."""
    peering = find_peering(tx, call, id)
    asked = is_requester(call, peering)
    tags = change(peering.tags if asked else peering.accepter_tags)
    check_count(tags)
    tx.put(replace(peering, tags=tags) if asked else replace(peering, accepter_tags=tags))


class _Row(msgspec.Struct, frozen=True):
    """One tag of one resource, as DescribeTags lists it."""

    resource_id: str
    resource_type: str
    key: str
    value: str

    @property
    def tags(self) -> Tags:
        return {self.key: self.value}


_FILTERS: Filters[_Row] = {
    "key": lambda row: row.key,
    "resource-id": lambda row: row.resource_id,
    "resource-type": lambda row: row.resource_type,
    "value": lambda row: row.value,
}


class DescribeTagsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_tags(call: Call, request: DescribeTagsRequest) -> dict[str, object]:
    check_page(request.max_results)
    matches = matcher(request.filters, _FILTERS)
    ids = _plain_values(request.filters, "resource-id")
    types = _plain_values(request.filters, "resource-type")
    rows = call.store.read(lambda reader: [row for row in _rows(reader, call, ids, types) if matches(row)])
    page = page_of_list(
        rows,
        lambda row: f"{row.resource_id}\0{row.key}",
        scope="tags",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    items = [
        {"ResourceId": row.resource_id, "ResourceType": row.resource_type, "Key": row.key, "Value": row.value}
        for row in page.items
    ]
    return listing("Tags", items, page.next_token)


def _plain_values(filters: Sequence[Filter], name: str) -> frozenset[str] | None:
    """The only values that such a filter lets pass, or None when there is no telling without looking."""
    for filter in filters:
        if filter.name == name and not any(set(value) & set("*?\\") for value in filter.values):
            return frozenset(filter.values)
    return None


def _rows(reader: Reader, call: Call, ids: frozenset[str] | None, types: frozenset[str] | None) -> Iterator[_Row]:
    for resource_type, kind in _KINDS.values():
        if types is None or resource_type in types:
            for record in _records(reader, call, kind, ids):
                yield from (_Row(record.id, resource_type, key, value) for key, value in record.tags.items())
    for added in reader.where(AddedTags, account=call.account, region=call.region):
        resource_type = _KINDS[added.resource_id.partition("-")[0]][0]
        asked = (types is None or resource_type in types) and (ids is None or added.resource_id in ids)
        if asked and _sees(reader, call, added.resource_id):
            yield from (_Row(added.resource_id, resource_type, key, value) for key, value in added.tags.items())
    if _may_be_asked(_RULE_PREFIX, _RULE_TYPE, ids, types):
        for group in reader.where(SecurityGroup, account=call.account, region=call.region):
            for rule in group.permissions:
                yield from (_Row(rule.id, _RULE_TYPE, key, value) for key, value in rule.tags.items())
    if _may_be_asked(_PEERING_PREFIX, _PEERING_TYPE, ids, types):
        for one in all_peerings(reader, call):
            tags = one.tags if is_requester(call, one) else one.accepter_tags
            yield from (_Row(one.id, _PEERING_TYPE, key, value) for key, value in tags.items())


def _sees(reader: Reader, call: Call, id: str) -> bool:
    """An image or a snapshot that may no longer be shared with the caller."""
    image, snapshot = reader.find(Image, id), reader.find(Snapshot, id)
    return (image is not None and sees_image(call, image)) or (snapshot is not None and sees_snapshot(reader, call, snapshot))


def _may_be_asked(prefix: str, resource_type: str, ids: frozenset[str] | None, types: frozenset[str] | None) -> bool:
    return (types is None or resource_type in types) and (ids is None or any(id.startswith(f"{prefix}-") for id in ids))


def _records(reader: Reader, call: Call, kind: type[Taggable], ids: frozenset[str] | None) -> Iterator[Taggable]:
    if ids is not None:
        # Terraform asks for one resource's tags at each refresh: that must not read all that the account has.
        for id in ids:
            record = reader.find(kind, id)
            if record is not None and (is_own(call, record) or _is_own_image(call, record)):
                yield record
    elif kind is Image:
        yield from (image for image in reader.where(Image, account=call.account) if image.region in (None, call.region))
    else:
        yield from reader.where(kind, account=call.account, region=call.region)


def _is_own_image(call: Call, record: Taggable) -> bool:
    return isinstance(record, Image) and record.account == call.account and record.region is None


OPERATIONS: Mapping[str, Operation] = {
    "CreateTags": Operation(CreateTagsRequest, create_tags),
    "DeleteTags": Operation(DeleteTagsRequest, delete_tags),
    "DescribeTags": Operation(DescribeTagsRequest, describe_tags),
}
