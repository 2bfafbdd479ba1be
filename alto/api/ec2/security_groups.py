"""Security groups: describe, create, delete, and which group a request means.

Rules live in their group's record, so that a group changes at once and a host's rules are swapped whole; the operations on
them are in `security_group_rules.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from alto.api.accounts import default_vpc, draw_id, draw_ids
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import check_vpc_id, owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.permissions import PeerSeen, shown_permissions
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface, Permission, SecurityGroup, SecurityGroupVpc, Vpc
from alto.model.routing import PeeringState, VpcPeering
from alto.plan.security_groups import is_used
from alto.plan.vpcs import OUTWARD_IDS, Ids, outward
from alto.store.store import Reader, Tx

DEFAULT_NAME = "default"
NAME_MAX = 255
_TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]+")


def _rule_filters(prefix: str, *, egress: bool) -> Filters[SecurityGroup]:
    def over(value: Callable[[Permission], object]) -> Callable[[SecurityGroup], Values]:
        return lambda group: [
            str(found) for found in (value(rule) for rule in group.permissions if rule.egress is egress) if found is not None
        ]

    return {
        prefix + "cidr": over(lambda rule: rule.cidr),
        prefix + "from-port": over(lambda rule: rule.from_port),
        prefix + "group-id": over(lambda rule: rule.group_id),
        prefix + "ipv6-cidr": over(lambda rule: rule.cidr_v6),
        prefix + "prefix-list-id": over(lambda rule: rule.prefix_list_id),
        prefix + "protocol": over(lambda rule: rule.protocol),
        prefix + "to-port": over(lambda rule: rule.to_port),
        prefix + "user-id": lambda group: [
            rule.group_peer.account if rule.group_peer is not None else group.account
            for rule in group.permissions
            if rule.egress is egress and rule.group_id
        ],
    }


def _filters(reader: Reader) -> Filters[SecurityGroup]:
    def named(egress: bool) -> Callable[[SecurityGroup], Values]:
        def names(group: SecurityGroup) -> Iterable[str]:
            for rule in group.permissions:
                source = reader.find(SecurityGroup, rule.group_id) if rule.group_id and rule.egress is egress else None
                if source is not None:
                    yield source.name

        return names

    return {
        **_rule_filters("ip-permission.", egress=False),
        **_rule_filters("egress.ip-permission.", egress=True),
        "ip-permission.group-name": named(False),
        "egress.ip-permission.group-name": named(True),
        "description": lambda group: group.description,
        "group-id": lambda group: group.id,
        "group-name": lambda group: group.name,
        "owner-id": lambda group: group.account,
        "vpc-id": lambda group: group.vpc_id,
    }


class DescribeSecurityGroupsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    group_ids: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_security_groups(call: Call, request: DescribeSecurityGroupsRequest) -> dict[str, object]:
    check_page(request.max_results, request.group_ids + request.group_names, ids_parameter="securityGroupSet")

    def body(reader: Reader) -> dict[str, object]:
        ids = request.group_ids + tuple(by_name(reader, call, name).id for name in request.group_names)
        matches = matcher(request.filters, _filters(reader))
        page = page_of_own(reader, call, SecurityGroup, ids, matches, request.max_results, request.next_token)
        return listing("SecurityGroups", [_shown(reader, group) for group in page.items], page.next_token)

    return call.store.read(body)


def _shown(reader: Reader, group: SecurityGroup) -> dict[str, object]:
    def look(rule: Permission) -> PeerSeen:
        return peer_seen(reader, rule)

    return {
        "GroupId": group.id,
        "GroupName": group.name,
        "Description": group.description,
        "OwnerId": group.account,
        "VpcId": group.vpc_id,
        "SecurityGroupArn": _arn(group),
        "IpPermissions": shown_permissions(group, egress=False, look=look),
        "IpPermissionsEgress": shown_permissions(group, egress=True, look=look),
        "Tags": shown(group.tags),
    }


def peer_seen(reader: Reader, rule: Permission) -> PeerSeen:
    """Of a rule that names a group across a connection: one that is gone was deleted."""
    peering = reader.find(VpcPeering, rule.group_peer.peering_id) if rule.group_peer is not None else None
    return PeerSeen(
        status=peering.state if peering is not None else PeeringState.DELETED,
        is_there=reader.find(SecurityGroup, rule.group_id or "") is not None,
    )


def active_peering(reader: Reader, vpc_id: str, other_id: str) -> VpcPeering | None:
    """The connection by which groups of one of these VPCs may be named in rules of the other."""
    both = (*reader.where(VpcPeering, vpc_id=vpc_id), *reader.where(VpcPeering, accepter_vpc_id=vpc_id))
    return next(
        (one for one in both if one.state is PeeringState.ACTIVE and other_id in (one.vpc_id, one.accepter_vpc_id)), None
    )


def _arn(group: SecurityGroup) -> str:
    return f"arn:aws:ec2:{group.region}:{group.account}:security-group/{group.id}"


class CreateSecurityGroupRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_name: str | None = None
    description: str | None = None
    vpc_id: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_security_group(call: Call, request: CreateSecurityGroupRequest) -> dict[str, object]:
    # "If a name contains trailing spaces, we trim the spaces" (VPC user guide, "Security groups").
    name, description = (request.group_name or "").rstrip(" "), request.description
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter GroupName")
    if not description:
        raise Refused("MissingParameter", "The request must contain the parameter GroupDescription")
    _check_text(name, "groupName")
    _check_text(description, "groupDescription")
    if name.lower().startswith("sg-"):
        raise Refused("InvalidParameterValue", f"Value ({name}) for parameter groupName is invalid. It may not begin with sg-.")
    if name.lower() == DEFAULT_NAME:
        raise Refused("InvalidParameterValue", f"Cannot use reserved security group name: {name}")
    if request.vpc_id:
        check_vpc_id(request.vpc_id)
    tags = tags_for(request.tag_specifications, "security-group")["security-group"]
    id, rule_digits = draw_id(call.world.chance, "sg"), draw_ids(call.world.chance, OUTWARD_IDS)

    def body(tx: Tx) -> SecurityGroup:
        vpc = owned(tx, call, Vpc, request.vpc_id) if request.vpc_id else default_vpc(tx, call.account, call.region)
        if vpc is None:
            raise Refused("VPCIdNotSpecified", "No default VPC for this user")
        # "Names are case-insensitive and must be unique within the VPC" (API reference).
        if any(group.name.lower() == name.lower() for group in tx.where(SecurityGroup, vpc_id=vpc.id)):
            raise Refused("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc.id}'")
        return tx.put(
            SecurityGroup(
                id=id,
                account=call.account,
                region=call.region,
                vpc_id=vpc.id,
                name=name,
                description=description,
                permissions=outward(vpc, Ids(rule_digits)),
                tags=tags,
            )
        )

    group = await call.store.write(body)
    return {"GroupId": group.id, "SecurityGroupArn": _arn(group), "Tags": shown(group.tags)}


def _check_text(text: str, parameter: str) -> None:
    if len(text) > NAME_MAX or not _TEXT.fullmatch(text):
        raise Refused(
            "InvalidParameterValue",
            f"Value ({text[:80]}) for parameter {parameter} is invalid. Up to {NAME_MAX} characters of a-z, A-Z, 0-9, spaces, "
            "and ._-:/()#,@[]+=&;{}!$*",
        )


class DeleteSecurityGroupRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    group_name: str | None = None


async def delete_security_group(call: Call, request: DeleteSecurityGroupRequest) -> dict[str, object]:
    def body(tx: Tx) -> str:
        group = one_group(tx, call, request.group_id, request.group_name)
        if group.name == DEFAULT_NAME:
            raise Refused(
                "CannotDelete", f'the specified group: "{group.id}" name: "{DEFAULT_NAME}" cannot be deleted by a user'
            )
        interfaces = tx.where(NetworkInterface, account=group.account, region=group.region)
        groups = tx.where(SecurityGroup, account=group.account, region=group.region)
        if is_used(group.id, interfaces, groups) or tx.where(SecurityGroupVpc, group_id=group.id, limit=1):
            raise Refused("DependencyViolation", f"resource {group.id} has a dependent object")
        tx.delete(SecurityGroup, group.id)
        return group.id

    return {"Return": True, "GroupId": await call.store.write(body)}


def by_name(reader: Reader, call: Call, name: str) -> SecurityGroup:
    """The group of this name in the default VPC: names reach no further, as at EC2. Raises: Refused."""
    vpc = default_vpc(reader, call.account, call.region)
    if vpc is None:
        raise Refused("VPCIdNotSpecified", "No default VPC for this user. Name the security group by its ID.")
    found = reader.where(SecurityGroup, vpc_id=vpc.id, name=name, limit=1)
    if not found:
        raise Refused("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC '{vpc.id}'")
    return found[0]


def one_group(reader: Reader, call: Call, id: str | None, name: str | None) -> SecurityGroup:
    if id:
        return owned(reader, call, SecurityGroup, id)
    if name:
        return by_name(reader, call, name)
    raise Refused("MissingParameter", "The request must contain the parameter groupName or groupId")


OPERATIONS: Mapping[str, Operation] = {
    "CreateSecurityGroup": Operation(CreateSecurityGroupRequest, create_security_group),
    "DeleteSecurityGroup": Operation(DeleteSecurityGroupRequest, delete_security_group),
    "DescribeSecurityGroups": Operation(DescribeSecurityGroupsRequest, describe_security_groups),
}
