"""Who names a security group across a peering connection, which rules name what is gone, and the groups for a VPC.

A rule may name a group of a peered VPC (`security_group_rules.py`). Such a rule is stale when that group or the connection is
gone: it stays, lets nothing through, and is listed here. So does one that names a group by a VPC that both were in, when an
association with it is gone (`security_group_vpcs.py`).
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import all_owned, owned
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.permissions import listed_permissions
from alto.api.ec2.security_groups import peer_seen
from alto.api.ec2.tags import shown
from alto.api.security_groups import groups_in, vpcs_of
from alto.model.errors import Refused
from alto.model.networks import Permission, SecurityGroup, Vpc
from alto.model.routing import PeeringState, VpcPeering
from alto.store.store import Reader


class StaleRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    max_results: int | None = None
    next_token: str | None = None


async def describe_stale_security_groups(call: Call, request: StaleRequest) -> dict[str, object]:
    check_page(request.max_results, high=255)

    def body(reader: Reader) -> list[tuple[str, dict[str, object]]]:
        vpc = owned(reader, call, Vpc, request.vpc_id)
        return [
            (group.id, _shown_stale(reader, group, stale))
            for group in reader.where(SecurityGroup, vpc_id=vpc.id)
            if (stale := [rule for rule in group.permissions if _is_stale(reader, group, rule)])
        ]

    page = page_of_list(
        call.store.read(body),
        lambda each: each[0],
        scope=f"{request.vpc_id}/stale",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("StaleSecurityGroupSet", [each[1] for each in page.items], page.next_token)


def _is_stale(reader: Reader, group: SecurityGroup, rule: Permission) -> bool:
    if rule.group_id is None:
        return False
    named = reader.find(SecurityGroup, rule.group_id)
    if named is None:
        return True
    if rule.group_peer is None:
        return named.vpc_id != group.vpc_id and vpcs_of(reader, named).isdisjoint(vpcs_of(reader, group))
    peering = reader.find(VpcPeering, rule.group_peer.peering_id)
    return peering is None or peering.state is not PeeringState.ACTIVE


def _shown_stale(reader: Reader, group: SecurityGroup, stale: list[Permission]) -> dict[str, object]:
    def listed(*, egress: bool) -> list[dict[str, object]]:
        rules = [rule for rule in stale if rule.egress is egress]
        permissions = listed_permissions(group, rules, lambda rule: peer_seen(reader, rule))
        # The answer has no such member: ranges do not become stale.
        return [{name: value for name, value in each.items() if name != "Ipv6Ranges"} for each in permissions]

    return {
        "GroupId": group.id,
        "GroupName": group.name,
        "Description": group.description,
        "VpcId": group.vpc_id,
        "StaleIpPermissions": listed(egress=False),
        "StaleIpPermissionsEgress": listed(egress=True),
    }


class ReferencesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: tuple[str, ...] = ()


async def describe_security_group_references(call: Call, request: ReferencesRequest) -> dict[str, object]:
    """The VPCs on the other sides of peering connections whose groups name these."""
    if not request.group_id:
        raise Refused("MissingParameter", "The request must contain the parameter groupId")

    def body(reader: Reader) -> list[dict[str, str]]:
        return [
            {"GroupId": group.id, "ReferencingVpcId": vpc_id, "VpcPeeringConnectionId": peering_id}
            for group in all_owned(reader, call, SecurityGroup, request.group_id)
            for vpc_id, peering_id in _referring(reader, group)
        ]

    return {"SecurityGroupReferenceSet": call.store.read(body)}


def _referring(reader: Reader, group: SecurityGroup) -> list[tuple[str, str]]:
    """(VPC, peering connection), each once."""
    mine = group.vpc_id
    found = []
    for peering in (*reader.where(VpcPeering, vpc_id=mine), *reader.where(VpcPeering, accepter_vpc_id=mine)):
        other = peering.accepter_vpc_id if peering.vpc_id == mine else peering.vpc_id
        if peering.state is PeeringState.ACTIVE and any(
            rule.group_id == group.id for each in reader.where(SecurityGroup, vpc_id=other) for rule in each.permissions
        ):
            found.append((other, peering.id))
    return found


_FILTERS: Filters[SecurityGroup] = {
    "description": lambda group: group.description,
    "group-id": lambda group: group.id,
    "group-name": lambda group: group.name,
    "owner-id": lambda group: group.account,
    "primary-vpc-id": lambda group: group.vpc_id,
}


class ForVpcRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def get_security_groups_for_vpc(call: Call, request: ForVpcRequest) -> dict[str, object]:
    """Those that interfaces in the VPC can have: its own, and those of other VPCs that are associated with it."""
    check_page(request.max_results)
    matches = matcher(request.filters, _FILTERS)

    def body(reader: Reader) -> list[SecurityGroup]:
        return groups_in(reader, owned(reader, call, Vpc, request.vpc_id).id)

    groups = call.store.read(body)
    page = page_of_list(
        [group for group in groups if matches(group)],
        lambda group: group.id,
        scope=f"{request.vpc_id}/groups",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("SecurityGroupForVpcs", [_shown_for_vpc(group) for group in page.items], page.next_token)


def _shown_for_vpc(group: SecurityGroup) -> dict[str, object]:
    return {
        "GroupId": group.id,
        "GroupName": group.name,
        "Description": group.description,
        "OwnerId": group.account,
        "PrimaryVpcId": group.vpc_id,
        "Tags": shown(group.tags),
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeSecurityGroupReferences": Operation(ReferencesRequest, describe_security_group_references),
    "DescribeStaleSecurityGroups": Operation(StaleRequest, describe_stale_security_groups),
    "GetSecurityGroupsForVpc": Operation(ForVpcRequest, get_security_groups_for_vpc),
}
