"""What a security group's permission or an ACL's entry matches, as words of nftables.

Pure, and the only place where something of a tenant's becomes text: addresses and numbers are parsed and written anew, ids are
matched against a pattern, everything else is a ValueError whose text says what makes no sense.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from alto.model.acls import AclEntry
from alto.model.networks import Permission

IPV6_ONLY = {"icmpv6", "58"}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_PORTS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"}
_ICMP = {"icmp", "1"}


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def word(id: str) -> str:
    """An id as a part of a name. No two ids become one: an id has no underscore."""
    return id.replace("-", "_")


def members_of(group_id: str) -> str:
    """The set of a group's addresses."""
    return f"alto_of_{word(group_id)}"


def ranges_of(prefix_list_id: str) -> str:
    """The set of a prefix list's ranges."""
    return f"alto_ranges_{word(prefix_list_id)}"


def permission_match(permission: Permission, is_set: Callable[[str], bool]) -> str | None:
    """The words before the verdict; "" for all there is, None for what no IPv4 packet is. `is_set` says which sets there are.

    Raises: ValueError.
    """
    if permission.protocol.lower() in IPV6_ONLY:
        return None
    side = "daddr" if permission.egress else "saddr"
    if permission.group_id is not None or permission.prefix_list_id is not None:
        peer = _named(permission, side, is_set)
    elif permission.cidr is not None:
        peer = _range(permission.cidr, side)
    else:
        return None
    return _joined(peer, _traffic(permission.protocol.lower(), permission.from_port, permission.to_port))


def entry_match(entry: AclEntry) -> str | None:
    """As of a permission; an entry's range is the other side's. Raises: ValueError."""
    if entry.protocol in IPV6_ONLY or (entry.cidr is None and entry.cidr_v6 is not None):
        return None
    if entry.cidr is None:
        raise ValueError("it has no range")
    low, high = entry.from_port, entry.to_port
    if entry.protocol in _ICMP:
        low, high = entry.icmp_type, entry.icmp_code
    traffic = _traffic(entry.protocol, -1 if low is None else low, -1 if high is None else high)
    return _joined(_range(entry.cidr, "daddr" if entry.egress else "saddr"), traffic)


def addresses(texts: Iterable[str]) -> Iterator[str]:
    """Those that are IPv4 addresses as they are written everywhere."""
    for text in texts:
        try:
            address = str(IPv4Address(text))
        except ValueError:
            continue
        if address == text:
            yield address


def ranges(texts: Iterable[str]) -> list[str]:
    """The IPv4 ranges among them; none overlaps or touches another, as sets of intervals want it."""
    networks = []
    for text in texts:
        try:
            networks.append(IPv4Network(text, strict=False))
        except ValueError:
            continue
    return [str(network) for network in ipaddress.collapse_addresses(networks)]


def _named(permission: Permission, side: str, is_set: Callable[[str], bool]) -> str:
    if permission.group_id is not None:
        if not is_id(permission.group_id) or not is_set(members_of(permission.group_id)):
            raise ValueError(f"the group {permission.group_id!r} is not in this VPC")
        return f"ip {side} @{members_of(permission.group_id)}"
    id = permission.prefix_list_id or ""
    if not is_id(id) or not is_set(ranges_of(id)):
        raise ValueError(f"there is no prefix list {id!r}")
    return f"ip {side} @{ranges_of(id)}"


def _range(cidr: str, side: str) -> str:
    network = IPv4Network(cidr, strict=False)
    return f"ip {side} {network}" if network.prefixlen else ""


def _traffic(protocol: str, low: int, high: int) -> str:
    """The protocol part; "" for all traffic. `low` and `high` are ports, or an ICMP type and code; -1 is any."""
    if protocol == "-1":
        return ""
    if protocol in _PORTS:
        name = _PORTS[protocol]
        if (low, high) in ((-1, -1), (0, 65535)):
            return f"meta l4proto {name}"
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"{low} to {high} is no range of ports")
        return f"{name} dport {low}" if low == high else f"{name} dport {low}-{high}"
    if protocol in _ICMP:
        if not (-1 <= low <= 255 and -1 <= high <= 255):
            raise ValueError(f"{low} and {high} are no ICMP type and code")
        if low == -1:
            return "meta l4proto icmp"
        return f"icmp type {low}" if high == -1 else f"icmp type {low} icmp code {high}"
    if protocol.isascii() and protocol.isdigit() and int(protocol) <= 255:
        return f"meta l4proto {int(protocol)}"
    raise ValueError(f"{protocol!r} is no protocol")


def _joined(*words: str) -> str:
    return " ".join(one for one in words if one)
