"""What a security group rule may be, as a request says it and as answers show it.

Pure: from `IpPermissions` (or the flat parameters of EC2's first years) to the store's `Permission`s and back. Not here: the
operations (`security_group_rules.py`), and what a kernel makes of a rule (`plan/firewall.py`).

Invariant: two rules mean the same exactly when `meaning` is equal, so that a duplicate is found however it was spelled.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.ec2.ids import check_id
from alto.api.ec2.tags import shown
from alto.model.acls import PrefixList
from alto.model.errors import Refused
from alto.model.networks import PeerGroup, Permission, SecurityGroup
from alto.model.records import Tags

ALL = "-1"
PORT_MAX = 65_535
ICMP_MAX = 255
DESCRIPTION_MAX = 255
_DESCRIPTION = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]*")

# Numbers that EC2 shows as names. All other protocols stay numbers.
_NAMES: Mapping[str, str] = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_WITH_PORTS = ("tcp", "udp")
_WITH_TYPES = ("icmp", "icmpv6")


class IpRange(msgspec.Struct, frozen=True, rename="pascal"):
    cidr_ip: str | None = None
    description: str | None = None


class Ipv6Range(msgspec.Struct, frozen=True, rename="pascal"):
    cidr_ipv6: str | None = None
    description: str | None = None


class UserIdGroupPair(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str | None = None
    group_name: str | None = None
    user_id: str | None = None
    vpc_id: str | None = None
    vpc_peering_connection_id: str | None = None
    # What answers say of it. A client sends a rule back as it was shown, to take it away or to make it again.
    peering_status: str | None = None
    description: str | None = None


class PrefixListId(msgspec.Struct, frozen=True, rename="pascal"):
    prefix_list_id: str | None = None
    description: str | None = None


class IpPermission(msgspec.Struct, frozen=True, rename="pascal"):
    ip_protocol: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    ip_ranges: tuple[IpRange, ...] = ()
    ipv6_ranges: tuple[Ipv6Range, ...] = ()
    user_id_group_pairs: tuple[UserIdGroupPair, ...] = ()
    prefix_list_ids: tuple[PrefixListId, ...] = ()


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as asked for: its source group may still be a name, its prefix list be unknown, and it has no id."""

    protocol: str
    from_port: int
    to_port: int
    cidr: str | None = None
    cidr_v6: str | None = None
    group: UserIdGroupPair | None = None
    prefix_list_id: str | None = None
    description: str | None = None


def drafts(permissions: Sequence[IpPermission]) -> list[Draft]:
    """One draft for each protocol, range of ports and source. Raises: Refused."""
    result: list[Draft] = []
    for permission in permissions:
        protocol = checked_protocol(permission.ip_protocol)
        from_port, to_port = checked_ports(protocol, permission.from_port, permission.to_port)
        bare = Draft(protocol=protocol, from_port=from_port, to_port=to_port)
        of_this = [
            *(
                replace(bare, cidr=checked_cidr(each.cidr_ip), description=checked_description(each.description))
                for each in permission.ip_ranges
            ),
            *(
                replace(bare, cidr_v6=checked_cidr_v6(each.cidr_ipv6), description=checked_description(each.description))
                for each in permission.ipv6_ranges
            ),
            *(
                replace(bare, group=_checked_pair(each), description=checked_description(each.description))
                for each in permission.user_id_group_pairs
            ),
            *(
                replace(
                    bare,
                    prefix_list_id=checked_prefix_list(each.prefix_list_id),
                    description=checked_description(each.description),
                )
                for each in permission.prefix_list_ids
            ),
        ]
        if not of_this:
            raise Refused(
                "MissingParameter",
                "Each IP permission needs a source or destination: an IP range, a security group or a prefix list",
            )
        result += of_this
    if not result:
        raise Refused("MissingParameter", "The request must contain the parameter ipPermissions")
    return result


def checked_protocol(text: str | None) -> str:
    """ "tcp", "udp", "icmp", "icmpv6", "-1", or another protocol's number. Raises: Refused."""
    if text is None:
        raise Refused("MissingParameter", "The request must contain the parameter ipProtocol")
    name = text.lower()
    if name in (ALL, "all"):
        return ALL
    if name in _NAMES.values():
        return name
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        number = str(int(name))
        return _NAMES.get(number, number)
    raise Refused("InvalidParameterValue", f"Invalid value '{text[:80]}' for IP protocol. Unknown protocol.")


def checked_ports(protocol: str, from_port: int | None, to_port: int | None) -> tuple[int, int]:
    """Ports; type and code for ICMP; -1 and -1 where the protocol has neither. Raises: Refused."""
    if protocol in _WITH_PORTS:
        if from_port is None or to_port is None:
            raise _ports("Must specify both from and to ports with TCP/UDP.")
        if not (0 <= from_port <= PORT_MAX and 0 <= to_port <= PORT_MAX):
            raise _ports(f"TCP/UDP port ({to_port if 0 <= from_port <= PORT_MAX else from_port}) out of range")
        if from_port > to_port:
            raise _ports(f"Invalid TCP/UDP port range ({from_port}:{to_port})")
        return from_port, to_port
    if protocol in _WITH_TYPES:
        # "For tcp, udp, and icmp, you must specify a port range. For icmpv6, the port range is optional" (IpPermission).
        if protocol == "icmp" and (from_port is None or to_port is None):
            raise _ports("Must specify both from and to ports with ICMP.")
        type, code = -1 if from_port is None else from_port, -1 if to_port is None else to_port
        if not (-1 <= type <= ICMP_MAX and -1 <= code <= ICMP_MAX):
            raise _ports(f"ICMP type ({type}) or code ({code}) out of range")
        if type == -1 and code != -1:
            raise _ports("With all ICMP types, all ICMP codes must be specified")
        return type, code
    return -1, -1


def _ports(message: str) -> Refused:
    return Refused("InvalidParameterValue", f"Invalid value for portRange. {message}")


def checked_cidr(text: str | None) -> str:
    """Canonical: EC2 stores 100.68.0.0/18 for 100.68.0.18/18. Raises: Refused."""
    # "1.2.3.4" alone and "1.2.3.0/255.255.255.0" are CIDRs to Python and not to EC2.
    if text is not None and re.fullmatch(r"[0-9.]{7,15}/[0-9]{1,2}", text):
        try:
            return str(ipaddress.IPv4Network(text, strict=False))
        except ValueError:
            pass
    raise _malformed(text)


def checked_cidr_v6(text: str | None) -> str:
    if text is not None and re.fullmatch(r"[0-9a-fA-F:.]{2,45}/[0-9]{1,3}", text):
        try:
            return str(ipaddress.IPv6Network(text, strict=False))
        except ValueError:
            pass
    raise _malformed(text)


def _malformed(text: str | None) -> Refused:
    return Refused("InvalidParameterValue", f"CIDR block {(text or '')[:80]} is malformed")


def checked_description(text: str | None) -> str | None:
    if text and (len(text) > DESCRIPTION_MAX or not _DESCRIPTION.fullmatch(text)):
        raise Refused(
            "InvalidParameterValue",
            f"Invalid rule description. Valid descriptions are up to {DESCRIPTION_MAX} characters long and are from the "
            "character set a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{}!$*",
        )
    return text or None


def _checked_pair(pair: UserIdGroupPair) -> UserIdGroupPair:
    if not pair.group_id and not pair.group_name:
        raise Refused("MissingParameter", "The request must contain the parameter groupId or groupName")
    if pair.group_id:
        check_id(SecurityGroup.KIND, pair.group_id)
    return pair


def checked_prefix_list(id: str | None) -> str:
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter prefixListId")
    return check_id(PrefixList.KIND, id)


def made(
    draft: Draft, id: str, egress: bool, tags: Tags, group: SecurityGroup | None = None, peer: PeerGroup | None = None
) -> Permission:
    """`group` is the one that `draft` names."""
    return Permission(
        id=id,
        egress=egress,
        protocol=draft.protocol,
        from_port=draft.from_port,
        to_port=draft.to_port,
        cidr=draft.cidr,
        cidr_v6=draft.cidr_v6,
        group_id=group.id if group is not None else None,
        group_peer=peer,
        prefix_list_id=draft.prefix_list_id,
        description=draft.description,
        tags=tags,
    )


Meaning = tuple[bool, str, int, int, str]


def meaning(rule: Permission) -> Meaning:
    """What a rule lets through; its id, description and tags aside."""
    return rule.egress, rule.protocol, rule.from_port, rule.to_port, _peer(rule)


def _peer(rule: Permission) -> str:
    return rule.cidr or rule.cidr_v6 or rule.group_id or rule.prefix_list_id or ""


def in_words(rule: Permission) -> str:
    """As EC2 names a rule in a refusal."""
    peer = _peer(rule)
    if rule.protocol == ALL:
        return f"peer: {peer}, ALL, ALLOW"
    if rule.protocol in _WITH_PORTS:
        return f"peer: {peer}, {rule.protocol.upper()}, from port: {rule.from_port}, to port: {rule.to_port}, ALLOW"
    if rule.protocol in _WITH_TYPES:
        return f"peer: {peer}, {rule.protocol.upper()}, type: {rule.from_port}, code: {rule.to_port}, ALLOW"
    return f"peer: {peer}, protocol: {rule.protocol}, ALLOW"


class PeerSeen(msgspec.Struct, frozen=True):
    """What has become of a group that a rule names across a peering connection."""

    status: str = "active"  # of the connection
    is_there: bool = True  # the group


Look = Callable[[Permission], PeerSeen]
"""Only asked about rules that name such a group."""


def shown_permissions(group: SecurityGroup, *, egress: bool, look: Look = lambda rule: PeerSeen()) -> list[dict[str, object]]:
    """`IpPermissions`: rules of one protocol and range of ports stand together, in the order in which they were made."""
    return listed_permissions(group, [rule for rule in group.permissions if rule.egress is egress], look)


def listed_permissions(group: SecurityGroup, rules: Sequence[Permission], look: Look) -> list[dict[str, object]]:
    found: dict[tuple[str, int, int], dict[str, list[dict[str, object]]]] = {}
    for rule in rules:
        sources = found.setdefault(
            (rule.protocol, rule.from_port, rule.to_port),
            {"UserIdGroupPairs": [], "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": []},
        )
        if rule.cidr is not None:
            sources["IpRanges"].append({"CidrIp": rule.cidr, "Description": rule.description})
        elif rule.cidr_v6 is not None:
            sources["Ipv6Ranges"].append({"CidrIpv6": rule.cidr_v6, "Description": rule.description})
        elif rule.prefix_list_id is not None:
            sources["PrefixListIds"].append({"PrefixListId": rule.prefix_list_id, "Description": rule.description})
        else:
            sources["UserIdGroupPairs"].append(_pair(group, rule, look))
    return [
        {
            "IpProtocol": protocol,
            **({"FromPort": from_port, "ToPort": to_port} if protocol in _WITH_PORTS + _WITH_TYPES else {}),
            **sources,
        }
        for (protocol, from_port, to_port), sources in found.items()
    ]


def _pair(group: SecurityGroup, rule: Permission, look: Look) -> dict[str, object]:
    return {**_referenced(group, rule, look), "Description": rule.description}


def _referenced(group: SecurityGroup, rule: Permission, look: Look) -> dict[str, object]:
    """The group that a rule names. Whose it was is not said of one that is deleted (UserIdGroupPair in the API reference)."""
    peer = rule.group_peer
    if peer is None:
        return {"GroupId": rule.group_id, "UserId": group.account}
    seen = look(rule)
    return {
        "GroupId": rule.group_id,
        "UserId": peer.account if seen.is_there else None,
        "VpcId": peer.vpc_id,
        "VpcPeeringConnectionId": peer.peering_id,
        "PeeringStatus": seen.status,
    }


def shown_rule(group: SecurityGroup, rule: Permission, look: Look = lambda rule: PeerSeen()) -> dict[str, object]:
    """As DescribeSecurityGroupRules and the Authorize operations list a rule."""
    return {
        "SecurityGroupRuleId": rule.id,
        "GroupId": group.id,
        "GroupOwnerId": group.account,
        "IsEgress": rule.egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        "CidrIpv4": rule.cidr,
        "CidrIpv6": rule.cidr_v6,
        "PrefixListId": rule.prefix_list_id,
        "ReferencedGroupInfo": _referenced(group, rule, look) if rule.group_id is not None else None,
        "Description": rule.description,
        "Tags": shown(rule.tags),
        "SecurityGroupRuleArn": f"arn:aws:ec2:{group.region}:{group.account}:security-group-rule/{rule.id}",
    }


def shown_revoked(group: SecurityGroup, rule: Permission) -> dict[str, object]:
    return {
        "SecurityGroupRuleId": rule.id,
        "GroupId": group.id,
        "IsEgress": rule.egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        "CidrIpv4": rule.cidr,
        "CidrIpv6": rule.cidr_v6,
        "PrefixListId": rule.prefix_list_id,
        "ReferencedGroupId": rule.group_id,
        "Description": rule.description,
    }
