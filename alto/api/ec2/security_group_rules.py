"""The rules of security groups: describe, authorize, revoke, modify.

Rules are part of their group's record. What a rule may be is judged in `permissions.py`. Invariant: a refused request
changes nothing, whatever part of it was at fault.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_id, find_prefix_list, is_id_of
from alto.api.ec2.paging import Page, check_page, listing, page_of_list
from alto.api.ec2.permissions import (
    ALL,
    Draft,
    IpPermission,
    IpRange,
    UserIdGroupPair,
    checked_cidr,
    checked_cidr_v6,
    checked_description,
    checked_ports,
    checked_prefix_list,
    checked_protocol,
    drafts,
    in_words,
    made,
    meaning,
    shown_revoked,
    shown_rule,
)
from alto.api.ec2.security_groups import active_peering, by_name, one_group, peer_seen
from alto.api.ec2.tags import TagSpecification, tags_for
from alto.api.security_groups import vpcs_of
from alto.model.acls import PrefixList
from alto.model.errors import NotFound, Refused
from alto.model.networks import PeerGroup, Permission, SecurityGroup, Vpc
from alto.model.records import Tags
from alto.store.store import Reader, Tx

# "Amazon VPC quotas": rules of one direction, IPv4 and IPv6 counted apart.
RULES_MAX = 60


class _RuleOf(msgspec.Struct, frozen=True):
    group: SecurityGroup
    rule: Permission

    @property
    def tags(self) -> Mapping[str, str]:
        return self.rule.tags


_RULE_FILTERS: Filters[_RuleOf] = {
    "group-id": lambda each: each.group.id,
    "security-group-rule-id": lambda each: each.rule.id,
}


class DescribeSecurityGroupRulesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    security_group_rule_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_security_group_rules(call: Call, request: DescribeSecurityGroupRulesRequest) -> dict[str, object]:
    ids = request.security_group_rule_ids
    check_page(request.max_results, ids, ids_parameter="securityGroupRuleIdSet")
    for id in ids:
        check_id("security_group_rule", id)
    matches = matcher(request.filters, _RULE_FILTERS)
    _check_group_ids(request.filters)

    def body(reader: Reader) -> dict[str, object]:
        groups = reader.where(SecurityGroup, account=call.account, region=call.region)
        rules = {rule.id: _RuleOf(group, rule) for group in groups for rule in group.permissions}
        for id in ids:
            if id not in rules:
                raise NotFound("security_group_rule", id)
        found = [each for each in (rules[id] for id in ids or rules) if matches(each)]
        page = Page(found, None)
        if request.max_results is None and request.next_token is None:
            # As they stand in their groups, inward ones first: people compare it with what they wrote.
            found.sort(key=lambda each: (each.group.id, each.rule.egress))
        else:
            page = page_of_list(
                found,
                lambda each: each.rule.id,
                scope="security_group_rules",
                max_results=request.max_results,
                next_token=request.next_token,
            )
        shown = [shown_rule(each.group, each.rule, lambda rule: peer_seen(reader, rule)) for each in page.items]
        return listing("SecurityGroupRules", shown, page.next_token)

    return call.store.read(body)


def _check_group_ids(filters: Sequence[Filter]) -> None:
    """EC2 looks at the ids in this operation's filter before it looks for rules: others recorded this code and message of AWS's
    own answers, and none for an id that only is unknown. Raises: Refused."""
    for value in (value for filter in filters if filter.name == "group-id" for value in filter.values):
        if not is_id_of(SecurityGroup.KIND, value) and not set(value) & set("*?"):
            raise Refused("InvalidGroupId.Malformed", f"The security group ID '{value[:80]}' is malformed")


class AuthorizeIngressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    group_name: str | None = None
    ip_permissions: tuple[IpPermission, ...] = ()
    ip_protocol: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    cidr_ip: str | None = None
    source_security_group_name: str | None = None
    source_security_group_owner_id: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


class AuthorizeEgressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """EC2 has the flat parameters here too, and says of each that it is not supported."""

    group_id: str | None = None
    ip_permissions: tuple[IpPermission, ...] = ()
    tag_specifications: tuple[TagSpecification, ...] = ()


class RevokeIngressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    group_name: str | None = None
    ip_permissions: tuple[IpPermission, ...] = ()
    security_group_rule_ids: tuple[str, ...] = ()
    ip_protocol: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    cidr_ip: str | None = None
    source_security_group_name: str | None = None
    source_security_group_owner_id: str | None = None


class RevokeEgressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    ip_permissions: tuple[IpPermission, ...] = ()
    security_group_rule_ids: tuple[str, ...] = ()


async def authorize_ingress(call: Call, request: AuthorizeIngressRequest) -> dict[str, object]:
    permissions = _with_flat(request)
    return await _authorize(
        call, request.group_id, request.group_name, drafts(permissions), request.tag_specifications, egress=False
    )


async def authorize_egress(call: Call, request: AuthorizeEgressRequest) -> dict[str, object]:
    return await _authorize(
        call, request.group_id, None, drafts(request.ip_permissions), request.tag_specifications, egress=True
    )


async def revoke_ingress(call: Call, request: RevokeIngressRequest) -> dict[str, object]:
    permissions = _with_flat(request)
    return await _revoke(call, request.group_id, request.group_name, permissions, request.security_group_rule_ids, egress=False)


async def revoke_egress(call: Call, request: RevokeEgressRequest) -> dict[str, object]:
    return await _revoke(call, request.group_id, None, request.ip_permissions, request.security_group_rule_ids, egress=True)


def _with_flat(request: AuthorizeIngressRequest | RevokeIngressRequest) -> tuple[IpPermission, ...]:
    """The flat parameters as one more permission. A source group alone means all of TCP, UDP and ICMP, as in EC2's first
    API; the two forms together are refused."""
    plain = (request.ip_protocol, request.from_port, request.to_port, request.cidr_ip)
    source, owner = request.source_security_group_name, request.source_security_group_owner_id
    if all(value is None for value in (*plain, source, owner)):
        return request.ip_permissions
    if request.ip_permissions:
        raise Refused("InvalidParameterCombination", "The parameter 'ipPermissions' may not be used with 'ipProtocol'")
    if source is None and owner is not None:
        raise Refused(
            "InvalidParameterCombination", "The parameter 'SourceSecurityGroupOwnerId' needs 'SourceSecurityGroupName'"
        )
    if source is not None:
        if any(value is not None for value in plain):
            raise Refused(
                "InvalidParameterCombination",
                "The parameter 'SourceSecurityGroupName' may not be used with 'CidrIp', 'IpProtocol' or ports",
            )
        pair = UserIdGroupPair(group_name=source, user_id=owner)
        return (
            IpPermission("tcp", 0, 65_535, user_id_group_pairs=(pair,)),
            IpPermission("udp", 0, 65_535, user_id_group_pairs=(pair,)),
            IpPermission("icmp", -1, -1, user_id_group_pairs=(pair,)),
        )
    ranges = (IpRange(request.cidr_ip),) if request.cidr_ip is not None else ()
    return (IpPermission(request.ip_protocol, request.from_port, request.to_port, ip_ranges=ranges),)


async def _authorize(
    call: Call,
    id: str | None,
    name: str | None,
    asked: Sequence[Draft],
    specifications: Sequence[TagSpecification],
    *,
    egress: bool,
) -> dict[str, object]:
    tags = tags_for(specifications, "security-group-rule")["security-group-rule"]
    ids = [draw_id(call.world.chance, "sgr") for _ in asked]

    def body(tx: Tx) -> tuple[SecurityGroup, list[Permission]]:
        group = one_group(tx, call, id, name)
        new = _resolved(tx, call, group, asked, ids, tags, egress=egress)
        _refuse_duplicates(group.permissions, new)
        changed = replace(group, permissions=group.permissions + tuple(new))
        check_rule_number(tx, changed)
        return tx.put(changed), new

    group, new = await call.store.write(body)
    return {"Return": True, "SecurityGroupRules": [shown_rule(group, rule) for rule in new]}


def _resolved(
    reader: Reader,
    call: Call,
    group: SecurityGroup,
    asked: Sequence[Draft],
    ids: Sequence[str],
    tags: Tags,
    *,
    egress: bool,
) -> list[Permission]:
    """The rules that `asked` are, source groups and prefix lists found."""
    return [_made(reader, call, group, draft, id, tags, egress) for draft, id in zip(asked, ids, strict=True)]


def _made(reader: Reader, call: Call, group: SecurityGroup, draft: Draft, id: str, tags: Tags, egress: bool) -> Permission:
    if draft.prefix_list_id is not None:
        find_prefix_list(reader, call, draft.prefix_list_id)
    if draft.group is None:
        return made(draft, id, egress, tags)
    source, peer = _source(reader, call, group, draft.group)
    return made(draft, id, egress, tags, source, peer)


def _source(reader: Reader, call: Call, group: SecurityGroup, pair: UserIdGroupPair) -> tuple[SecurityGroup, PeerGroup | None]:
    """The group that a rule of `group` names as its source: of its own VPC, of one that is peered with it, in the same
    region, or one that has some VPC in common with it; another account's with that account's id beside it. Raises: NotFound."""
    account = pair.user_id or call.account
    if account == call.account and pair.group_id is None:
        source: SecurityGroup | None = by_name(reader, call, pair.group_name or "")
    else:
        source = reader.find(SecurityGroup, pair.group_id or "")
    if (
        source is not None
        and (source.account, source.region) == (account, call.region)
        and pair.vpc_id in (None, source.vpc_id)
    ):
        if source.vpc_id == group.vpc_id:
            return source, None
        peering = active_peering(reader, group.vpc_id, source.vpc_id)
        if peering is not None and pair.vpc_peering_connection_id in (None, peering.id):
            return source, PeerGroup(account=source.account, vpc_id=source.vpc_id, peering_id=peering.id)
        if not vpcs_of(reader, group).isdisjoint(vpcs_of(reader, source)):
            return source, None
    raise NotFound(SecurityGroup.KIND, pair.group_id or pair.group_name or "")


def _refuse_duplicates(present: Sequence[Permission], new: Sequence[Permission]) -> None:
    known = {meaning(rule) for rule in present}
    asked = set()
    for rule in new:
        if meaning(rule) in known:
            raise Refused("InvalidPermission.Duplicate", f'the specified rule "{in_words(rule)}" already exists')
        if meaning(rule) in asked:
            raise Refused("InvalidParameterValue", "The same permission must not appear multiple times")
        asked.add(meaning(rule))


def check_rule_number(reader: Reader, group: SecurityGroup, *, changed: PrefixList | None = None) -> None:
    """`changed` is a prefix list as it will be. Raises: Refused: more rules than a group may have."""
    for egress in (False, True):
        v4 = v6 = 0
        for rule in group.permissions:
            if rule.egress is not egress:
                continue
            if rule.prefix_list_id is None:
                # A rule with a group as its source counts for both.
                v4 += rule.cidr_v6 is None
                v6 += rule.cidr is None
            else:
                is_it = changed is not None and changed.id == rule.prefix_list_id
                named = changed if is_it else reader.find(PrefixList, rule.prefix_list_id)
                weight = named.max_entries if named is not None else 1
                v4 += weight if named is None or named.family == "IPv4" else 0
                v6 += weight if named is None or named.family == "IPv6" else 0
        if max(v4, v6) > RULES_MAX:
            raise Refused(
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            )


async def _revoke(
    call: Call,
    id: str | None,
    name: str | None,
    permissions: Sequence[IpPermission],
    rule_ids: Sequence[str],
    *,
    egress: bool,
) -> dict[str, object]:
    if permissions and rule_ids:
        raise Refused(
            "InvalidParameterCombination", "The parameters 'ipPermissions' and 'securityGroupRuleIds' exclude each other"
        )
    for rule_id in rule_ids:
        check_id("security_group_rule", rule_id)
    asked = [] if rule_ids else [(permission, draft) for permission in permissions for draft in drafts([permission])]
    if not asked and not rule_ids:
        raise Refused("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")

    def body(tx: Tx) -> tuple[SecurityGroup, list[Permission], list[IpPermission]]:
        group = one_group(tx, call, id, name)
        gone: set[str] = set()
        unknown: list[IpPermission] = []
        present = {rule.id: rule for rule in group.permissions if rule.egress is egress}
        for rule_id in rule_ids:
            if rule_id not in present:
                raise NotFound("security_group_rule", rule_id)
            gone.add(rule_id)
        by_meaning = {meaning(rule): rule for rule in present.values()}
        for permission, draft in asked:
            rule = _meant(tx, call, group, draft, egress)
            found = by_meaning.get(meaning(rule))
            if found is not None:
                gone.add(found.id)
            elif _is_in_default_vpc(tx, group):
                # EC2's own words: "For a default VPC, ... no error is returned".
                unknown += [permission] if permission not in unknown else []
            else:
                raise Refused("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        if gone:
            group = tx.put(replace(group, permissions=tuple(r for r in group.permissions if r.id not in gone)))
        return group, [rule for rule in present.values() if rule.id in gone], unknown

    group, revoked, unknown = await call.store.write(body)
    answer: dict[str, object] = {
        "Return": True,
        "RevokedSecurityGroupRules": [shown_revoked(group, rule) for rule in revoked],
    }
    return {**answer, "UnknownIpPermissions": [msgspec.to_builtins(each) for each in unknown]} if unknown else answer


def _meant(reader: Reader, call: Call, group: SecurityGroup, draft: Draft, egress: bool) -> Permission:
    """The rule that a request describes which is about one that is there. It may be stale: what a present rule names by id
    need not be there any more."""
    pair = draft.group
    if pair is not None and pair.group_id is not None and any(rule.group_id == pair.group_id for rule in group.permissions):
        return replace(made(draft, "", egress, {}), group_id=pair.group_id)
    return _made(reader, call, group, draft, "", {}, egress)


def _is_in_default_vpc(reader: Reader, group: SecurityGroup) -> bool:
    return reader.get(Vpc, group.vpc_id).default_of is not None


class RuleRequest(msgspec.Struct, frozen=True, rename="pascal"):
    ip_protocol: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    cidr_ipv4: str | None = None
    cidr_ipv6: str | None = None
    prefix_list_id: str | None = None
    referenced_group_id: str | None = None
    description: str | None = None


class RuleUpdate(msgspec.Struct, frozen=True, rename="pascal"):
    security_group_rule_id: str | None = None
    security_group_rule: RuleRequest | None = None


class ModifyRulesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    security_group_rules: tuple[RuleUpdate, ...] = ()


async def modify_security_group_rules(call: Call, request: ModifyRulesRequest) -> dict[str, object]:
    """Each rule is replaced whole, and keeps its id, direction and tags, and the kind of what it lets in ("When you modify a
    rule, you cannot change the rule type": SecurityGroupRuleRequest in the API reference)."""
    if not request.security_group_rules:
        raise Refused("MissingParameter", "The request must contain the parameter SecurityGroupRule")
    wanted = {
        update.security_group_rule_id or "": _draft(update.security_group_rule) for update in request.security_group_rules
    }
    for rule_id in wanted:
        check_id("security_group_rule", rule_id)

    def body(tx: Tx) -> None:
        group = one_group(tx, call, request.group_id, None)
        by_id = {rule.id: rule for rule in group.permissions}
        changed: dict[str, Permission] = {}
        for rule_id, draft in wanted.items():
            old = by_id.get(rule_id)
            if old is None:
                raise NotFound("security_group_rule", rule_id)
            (new_rule,) = _resolved(tx, call, group, [draft], [rule_id], old.tags, egress=old.egress)
            if (was := _kind_of_peer(old)) != (now := _kind_of_peer(new_rule)):
                raise Refused("InvalidParameterValue", f"You may not specify {now} for an existing rule that has {was}.")
            changed[rule_id] = new_rule
        _refuse_duplicates([rule for rule in group.permissions if rule.id not in changed], list(changed.values()))
        new = replace(group, permissions=tuple(changed.get(rule.id, rule) for rule in group.permissions))
        check_rule_number(tx, new)
        tx.put(new)

    await call.store.write(body)
    return {"Return": True}


def _kind_of_peer(rule: Permission) -> str:
    if rule.cidr is not None:
        return "an IPv4 CIDR"
    if rule.cidr_v6 is not None:
        return "an IPv6 CIDR"
    return "a prefix list id" if rule.prefix_list_id is not None else "a referenced group id"


def _draft(rule: RuleRequest | None) -> Draft:
    if rule is None:
        raise Refused("MissingParameter", "The request must contain the parameter SecurityGroupRule")
    sources = (rule.cidr_ipv4, rule.cidr_ipv6, rule.prefix_list_id, rule.referenced_group_id)
    given = sum(source is not None for source in sources)
    if given != 1:
        raise Refused(
            "InvalidParameterCombination" if given else "MissingParameter",
            "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId",
        )
    protocol = checked_protocol(rule.ip_protocol)
    if protocol == ALL and not {rule.from_port, rule.to_port} <= {None, -1}:
        # AuthorizeSecurityGroupIngress and -Egress take such ports for all.
        raise Refused(
            "InvalidParameterValue",
            "You may not specify all protocols and specific ports. Please specify each protocol and port range combination "
            "individually, or all protocols and no port range.",
        )
    from_port, to_port = checked_ports(protocol, rule.from_port, rule.to_port)
    return Draft(
        protocol=protocol,
        from_port=from_port,
        to_port=to_port,
        cidr=checked_cidr(rule.cidr_ipv4) if rule.cidr_ipv4 is not None else None,
        cidr_v6=checked_cidr_v6(rule.cidr_ipv6) if rule.cidr_ipv6 is not None else None,
        group=UserIdGroupPair(group_id=rule.referenced_group_id) if rule.referenced_group_id is not None else None,
        prefix_list_id=checked_prefix_list(rule.prefix_list_id) if rule.prefix_list_id is not None else None,
        description=checked_description(rule.description),
    )


class RuleDescription(msgspec.Struct, frozen=True, rename="pascal"):
    security_group_rule_id: str | None = None
    description: str | None = None


class UpdateDescriptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    group_name: str | None = None
    ip_permissions: tuple[IpPermission, ...] = ()
    security_group_rule_descriptions: tuple[RuleDescription, ...] = ()


async def update_ingress_descriptions(call: Call, request: UpdateDescriptionsRequest) -> dict[str, object]:
    return await _update_descriptions(call, request, egress=False)


async def update_egress_descriptions(call: Call, request: UpdateDescriptionsRequest) -> dict[str, object]:
    return await _update_descriptions(call, request, egress=True)


async def _update_descriptions(call: Call, request: UpdateDescriptionsRequest, *, egress: bool) -> dict[str, object]:
    by_id = {
        each.security_group_rule_id or "": checked_description(each.description)
        for each in request.security_group_rule_descriptions
    }
    for rule_id in by_id:
        check_id("security_group_rule", rule_id)
    if bool(by_id) == bool(request.ip_permissions):
        raise Refused(
            "InvalidParameterCombination", "Give either IpPermissions or SecurityGroupRuleDescriptions, and at least one"
        )
    asked = drafts(request.ip_permissions) if request.ip_permissions else []

    def body(tx: Tx) -> None:
        group = one_group(tx, call, request.group_id, request.group_name)
        own = [rule for rule in group.permissions if rule.egress is egress]
        descriptions = dict(by_id)
        known = {meaning(rule): rule.id for rule in own}
        for draft in asked:
            rule = _meant(tx, call, group, draft, egress)
            if meaning(rule) not in known:
                raise Refused("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
            descriptions[known[meaning(rule)]] = draft.description
        for rule_id in descriptions:
            if rule_id not in known.values():
                raise NotFound("security_group_rule", rule_id)
        tx.put(
            replace(
                group,
                permissions=tuple(
                    replace(rule, description=descriptions[rule.id]) if rule.id in descriptions else rule
                    for rule in group.permissions
                ),
            )
        )

    await call.store.write(body)
    return {"Return": True}


OPERATIONS: Mapping[str, Operation] = {
    "AuthorizeSecurityGroupEgress": Operation(AuthorizeEgressRequest, authorize_egress),
    "AuthorizeSecurityGroupIngress": Operation(AuthorizeIngressRequest, authorize_ingress),
    "DescribeSecurityGroupRules": Operation(DescribeSecurityGroupRulesRequest, describe_security_group_rules),
    "ModifySecurityGroupRules": Operation(ModifyRulesRequest, modify_security_group_rules),
    "RevokeSecurityGroupEgress": Operation(RevokeEgressRequest, revoke_egress),
    "RevokeSecurityGroupIngress": Operation(RevokeIngressRequest, revoke_ingress),
    "UpdateSecurityGroupRuleDescriptionsEgress": Operation(UpdateDescriptionsRequest, update_egress_descriptions),
    "UpdateSecurityGroupRuleDescriptionsIngress": Operation(UpdateDescriptionsRequest, update_ingress_descriptions),
}
