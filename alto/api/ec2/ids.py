"""Ids as EC2 spells them, and the one way from an id in a request to the caller's own record.

Invariant: an id of another account or another region is answered exactly like one that never was.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from alto.api.accounts import region_key
from alto.api.call import Call
from alto.api.ec2.paging import Page, page_of_records
from alto.model.accounts import ALL_SHARING, AccountRegion
from alto.model.acls import PrefixList
from alto.model.addresses import Address
from alto.model.errors import NotFound, Refused
from alto.model.images import FormerImage, Image, stand_in
from alto.model.records import Record, Tags
from alto.model.routing import DhcpOptions, VpcPeering
from alto.model.tags import AddedTags
from alto.model.volumes import Snapshot
from alto.plan.endpoints import amazons_list
from alto.plan.peerings import is_visible
from alto.store.store import Reader

R = TypeVar("R", bound=Record)

_DIGITS = re.compile(r"[0-9a-f]{8}(?:[0-9a-f]{9})?")
_ACCOUNT = re.compile(r"[0-9]{12}")
SHARED_TAG = "ec2:SharedTag/"


class _Spelling(NamedTuple):
    prefix: str
    # AWS's own code: the spelling of "ID" differs from kind to kind. None: EC2 tells no slip from an absence.
    malformed: str | None = None
    # What has another prefix is no id of this kind, but a bad value of the parameter.
    bad_value: bool = False


# By KIND of the record. "Error codes for the Amazon EC2 API" lists more codes than EC2 answers with: what belongs to a VPC does
# not exist, whatever its id looks like ("The vpc ID '10.20.0.0/16' does not exist").
_SPELLINGS: dict[str, _Spelling] = {
    "instance": _Spelling("i-", "InvalidInstanceID.Malformed"),
    "image": _Spelling("ami-", "InvalidAMIID.Malformed"),
    "vpc": _Spelling("vpc-"),
    "subnet": _Spelling("subnet-"),
    "security_group": _Spelling("sg-", "InvalidGroupId.Malformed"),
    "security_group_rule": _Spelling("sgr-", "InvalidSecurityGroupRuleId.Malformed"),
    "network_interface": _Spelling("eni-"),
    "route_table": _Spelling("rtb-"),
    "route_table_association": _Spelling("rtbassoc-"),
    "internet_gateway": _Spelling("igw-"),
    "egress_only_internet_gateway": _Spelling("eigw-"),
    "vpc_cidr_association": _Spelling("vpc-cidr-assoc-"),
    "subnet_cidr_association": _Spelling("subnet-cidr-assoc-"),
    "network_acl": _Spelling("acl-"),
    "network_acl_association": _Spelling("aclassoc-"),
    "dhcp_options": _Spelling("dopt-"),
    "prefix_list": _Spelling("pl-", "InvalidPrefixListId.Malformed"),
    "vpc_endpoint": _Spelling("vpce-", "InvalidVpcEndpointId.Malformed"),
    "vpc_peering": _Spelling("pcx-", "InvalidVpcPeeringConnectionId.Malformed"),
    "volume": _Spelling("vol-", "InvalidVolumeID.Malformed", bad_value=True),
    "launch_template": _Spelling("lt-", "InvalidLaunchTemplateId.Malformed"),
    "profile_association": _Spelling("iip-assoc-"),
    "placement_group": _Spelling("pg-", "InvalidPlacementGroupId.Malformed"),
    "nat_gateway": _Spelling("nat-", "NatGatewayMalformed"),
    "address": _Spelling("eipalloc-"),
    "snapshot": _Spelling("snap-", "InvalidSnapshotID.Malformed", bad_value=True),
}


def check_id(kind: str, id: str) -> str:
    """The id itself. Raises: Refused (Malformed), NotFound when it cannot be the id of a record of `kind`."""
    if is_id_of(kind, id):
        return id
    spelling = _SPELLINGS[kind]
    if spelling.malformed is None:
        raise NotFound(kind, id[:80])
    of_another_kind = not id.startswith(spelling.prefix)
    if spelling.bad_value and of_another_kind:
        raise Refused(
            "InvalidParameterValue", f"Value ({id[:80]}) for parameter {kind}Id is invalid. Expected: '{spelling.prefix}...'."
        )
    expecting = f' (expecting "{spelling.prefix}...")' if of_another_kind else ""
    raise Refused(spelling.malformed, f'Invalid id: "{id}"{expecting}')


def check_vpc_id(id: str) -> str:
    """For the operations that look at a VPC's id before they look for the VPC.

    CreateSecurityGroup and AttachInternetGateway do. `InvalidVpcId.Malformed`, 'Invalid id: "..." (expecting "vpc-...")' is
    what others recorded of AWS's own answers, though "Error codes for the Amazon EC2 API" lists `InvalidVpcID.Malformed`.
    Raises: Refused.
    """
    if not is_id_of("vpc", id):
        raise Refused("InvalidVpcId.Malformed", f'Invalid id: "{id[:80]}" (expecting "vpc-...")')
    return id


def is_id_of(kind: str, id: str) -> bool:
    """Whether it can be the id of a record of `kind`: for operations that EC2 gives an error of their own when it cannot."""
    spelling = _SPELLINGS.get(kind)
    return spelling is None or (id.startswith(spelling.prefix) and _DIGITS.fullmatch(id, len(spelling.prefix)) is not None)


def is_id(id: str) -> bool:
    """Whether it is spelled as ids of any kind are: "PREFIX-" and 8 or 17 digits."""
    prefix, _, digits = id.partition("-")
    return prefix.isalpha() and _DIGITS.fullmatch(digits) is not None


def owned(reader: Reader, call: Call, kind: type[R], id: str) -> R:
    """The caller's record. Raises: Refused (Malformed), NotFound."""
    check_id(kind.KIND, id)
    record = reader.find(kind, id)
    if record is None or not is_own(call, record):
        raise NotFound(kind.KIND, id)
    return record


def all_owned(reader: Reader, call: Call, kind: type[R], ids: Sequence[str]) -> list[R]:
    """The caller's records with these ids, each once, as they are given. Raises: Refused (Malformed), NotFound."""
    found = _found(kind, ids, lambda id: reader.find(kind, id), partial(is_own, call))
    if absent := [id for id, record in found.items() if record is None]:
        raise NotFound(kind.KIND, *absent)
    return [record for record in found.values() if record is not None]


def _found(
    kind: type[R], ids: Sequence[str], find: Callable[[str], R | None], sees: Callable[[R], bool]
) -> dict[str, R | None]:
    """None for what the caller does not see. All ids are looked at before any row. Raises: Refused (Malformed)."""
    for id in ids:
        check_id(kind.KIND, id)
    rows = {id: find(id) for id in dict.fromkeys(ids)}
    return {id: record if record is not None and sees(record) else None for id, record in rows.items()}


def find_image(reader: Reader, call: Call, id: str) -> Image:
    """An image that the caller sees, and so may launch. Raises: Refused (Malformed, deregistered), NotFound."""
    images = find_images(reader, call, (id,))
    if not images:
        raise Refused("InvalidAMIID.Unavailable", f"The image ID '{id}' is no longer available")
    return images[0]


def find_images(reader: Reader, call: Call, ids: Sequence[str]) -> list[Image]:
    """The same for several, each once, as they are given, without those that the caller has just deregistered (DescribeImages:
    "Recently deregistered images ... return empty results")."""
    found = _found(Image, ids, lambda id: reader.find(Image, id), partial(sees_image, call))
    if absent := [id for id, image in found.items() if image is None and not _is_former(reader, call, id)]:
        raise NotFound(Image.KIND, *absent)
    return [image for image in found.values() if image is not None]


def _is_former(reader: Reader, call: Call, id: str) -> bool:
    former = reader.find(FormerImage, id)
    return former is not None and former.account == call.account and former.region in (None, call.region)


def find_launchable(reader: Reader, call: Call, id: str) -> Image:
    """The same for a launch, which a cloud of simulated hosts may do from images that nobody registered (`--any-image`)."""
    if call.settings.any_image:
        check_id(Image.KIND, id)
        if reader.find(Image, id) is None and not _is_former(reader, call, id):
            return stand_in(id, call.region)
    return find_image(reader, call, id)


def sees_image(call: Call, image: Image) -> bool:
    """Images are, with snapshots, what other accounts may see."""
    mine = image.account == call.account or call.account in image.shared_with
    return (mine or image.public) and image.region in (None, call.region)


def added_tags(reader: Reader, call: Call) -> dict[str, Tags]:
    """What the caller has written on what others share with it, by the id of that."""
    return {one.resource_id: one.tags for one in reader.where(AddedTags, account=call.account, region=call.region)}


def tags_seen(call: Call, record: Image | Snapshot, added: Mapping[str, Tags]) -> Tags:
    """What others have written on something that they share is theirs ("Share an AMI with specific AWS accounts", "Tags"), but
    for keys that say otherwise (CopyImage, `CopyImageTags`); what the caller has written on it is its own."""
    if record.account == call.account:
        return record.tags
    told = {key: value for key, value in record.tags.items() if key.startswith(SHARED_TAG)}
    return {**told, **added.get(record.id, {})}


def find_peering(reader: Reader, call: Call, id: str) -> VpcPeering:
    """A connection that the caller asked for or was asked for. Raises: Refused (Malformed), NotFound."""
    check_id(VpcPeering.KIND, id)
    found = reader.find(VpcPeering, id)
    if found is None or not sees_peering(call, found):
        raise NotFound(VpcPeering.KIND, id)
    return found


def all_peerings(reader: Reader, call: Call) -> list[VpcPeering]:
    """All that the caller asked for or was asked for and still sees, each once."""
    asked = reader.where(VpcPeering, account=call.account, region=call.region)
    was_asked = reader.where(VpcPeering, accepter_account=call.account, accepter_region=call.region)
    found = {one.id: one for one in (*asked, *was_asked)}.values()
    return [one for one in found if sees_peering(call, one)]


def sees_peering(call: Call, peering: VpcPeering) -> bool:
    has_part = is_requester(call, peering) or is_accepter(call, peering)
    return has_part and is_visible(peering, call.account, call.world.clock.now())


def is_requester(call: Call, peering: VpcPeering) -> bool:
    return is_own(call, peering)


def is_accepter(call: Call, peering: VpcPeering) -> bool:
    return (call.account, call.region) == (peering.accepter_account, peering.accepter_region)


def find_prefix_list(reader: Reader, call: Call, id: str) -> PrefixList:
    """The caller's, or one of Amazon's. Raises: Refused (Malformed), NotFound."""
    return amazons_list(call.region, id) or owned(reader, call, PrefixList, id)


def find_snapshot(reader: Reader, call: Call, id: str) -> Snapshot:
    """One that the caller may make volumes of: its own, or one that others share. Raises: Refused (Malformed), NotFound."""
    check_id(Snapshot.KIND, id)
    snapshot = reader.find(Snapshot, id)
    if snapshot is None or not sees_snapshot(reader, call, snapshot):
        raise NotFound(Snapshot.KIND, id)
    return snapshot


def sees_snapshot(reader: Reader, call: Call, snapshot: Snapshot) -> bool:
    if snapshot.region != call.region:
        return False
    if call.account == snapshot.account or call.account in snapshot.shared_with:
        return True
    return snapshot.public and not _is_hidden(reader, snapshot)


def _is_hidden(reader: Reader, snapshot: Snapshot) -> bool:
    """Its owner shows nothing to everybody, whatever its permissions say (EnableSnapshotBlockPublicAccess)."""
    region = reader.find(AccountRegion, region_key(snapshot.account, snapshot.region))
    return region is not None and region.snapshots_blocked == ALL_SHARING


def user_ids(call: Call, given: Sequence[str], words: Collection[str]) -> frozenset[str]:
    """The accounts that a listing is narrowed to; `self` is the caller. `words` stay as they are.

    Raises: Refused: one is neither an account's number nor a word that the operation knows."""
    for user in given:
        if user != "self" and user not in words and not _ACCOUNT.fullmatch(user):
            raise Refused("InvalidUserID.Malformed", f'Invalid user id: "{user[:80]}"')
    return frozenset(call.account if user == "self" else user for user in given)


def owned_or(reader: Reader, call: Call, kind: type[R], id: str, *, malformed: Refused, absent: Refused) -> R:
    """As `owned`, for operations that have codes of their own. Raises: one of these two."""
    if not is_id_of(kind.KIND, id):
        raise malformed
    found = reader.find(kind, id)
    if found is None or not is_own(call, found):
        raise absent
    return found


def find_elastic_ip(reader: Reader, call: Call, id: str) -> Address:
    """For the operations whose errors call an elastic address so: on NAT gateways, and for an absent one on tags. Raises:
    Refused."""
    return owned_or(
        reader,
        call,
        Address,
        id,
        malformed=Refused("InvalidElasticIpID.Malformed", f"The elastic-ip ID '{id[:80]}' is malformed"),
        absent=Refused("InvalidElasticIpID.NotFound", f"The elasticIp ID '{id}' does not exist"),
    )


def find_dhcp_options(reader: Reader, call: Call, id: str) -> DhcpOptions:
    """For the operations whose errors have codes of their own: what deletes them, and for absent ones what tags them. Raises:
    Refused."""
    return owned_or(
        reader,
        call,
        DhcpOptions,
        id,
        malformed=Refused("InvalidDhcpOptionsId.Malformed", f'Invalid id: "{id[:80]}" (expecting "dopt-...")'),
        absent=Refused("InvalidDhcpOptionsID.NotFound", f"The dhcpOptions ID '{id}' does not exist"),
    )


def is_own(call: Call, record: Record) -> bool:
    return getattr(record, "account", None) == call.account and getattr(record, "region", None) == call.region


def page_of_own(
    reader: Reader,
    call: Call,
    kind: type[R],
    ids: Sequence[str],
    matches: Callable[[R], bool],
    max_results: int | None,
    next_token: str | None,
) -> Page[R]:
    """What every Describe operation with ids, filters and pages shows of a kind that belongs to an account and a region.

    `check_page` has seen `max_results`. Raises: Refused, NotFound.
    """
    if ids:
        return Page([record for record in all_owned(reader, call, kind, ids) if matches(record)], None)
    return page_of_records(
        reader,
        kind,
        matches=matches,
        max_results=max_results,
        next_token=next_token,
        account=call.account,
        region=call.region,
    )
