"""What a security group's permission or an ACL's entry matches: as words of nftables, and asked about one packet.

Pure, and the only place where something of a tenant's becomes text: addresses and numbers are parsed and written anew, ids are
matched against a pattern, everything else is a ValueError whose text says what makes no sense.
Both answers come from one reading of the rule (`_read`), so that a trace says what the kernel does.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from alto.model.acls import AclEntry
from alto.model.networks import Permission

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
ANY = -1
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}
V4, V6 = "ip", "ip6"
_NOT_OF = {V4: ICMPV6, V6: ICMP}  # what the family never carries
_NUMBERS = {name: number for number, name in NAMES.items()}
_NUMBER = {V4: "", V6: "6"}


class Traffic(NamedTuple):
    """`low` and `high`: ports, or an ICMP type and code. ANY is all of them."""

    protocol: int
    low: int = ANY
    high: int = ANY

    def covers(self, protocol: int, port: int) -> bool:
        """`port`: the destination's, or an ICMP type, whose code is 0."""
        if self.protocol in (ANY, protocol) and protocol in (TCP, UDP) and self.low != ANY:
            return self.low <= port <= self.high
        if self.protocol in (ICMP, ICMPV6) and self.protocol == protocol:
            return self.low in (ANY, port) and self.high in (ANY, 0)
        return self.protocol in (ANY, protocol)

    def __str__(self) -> str:
        """For people."""
        if self.protocol == ANY:
            return "all traffic"
        name = NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self.low == ANY:
            return f"all {name}" if self.protocol in NAMES else name
        if self.protocol in (ICMP, ICMPV6):
            return f"{name} type {self.low}" + (f" code {self.high}" if self.high != ANY else "")
        return f"{name} {self.low}" if self.low == self.high else f"{name} {self.low}-{self.high}"


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def word(id: str) -> str:
    """An id as a part of a name. No two ids become one: an id has no underscore."""
    return id.replace("-", "_")


def members_of(group_id: str, family: str = V4) -> str:
    """The set of a group's addresses."""
    return f"alto_of{_NUMBER[family]}_{word(group_id)}"


def ranges_of(prefix_list_id: str, family: str = V4) -> str:
    """The set of a prefix list's ranges."""
    return f"alto_ranges{_NUMBER[family]}_{word(prefix_list_id)}"


def permission_matches(permission: Permission, is_set: Callable[[str], bool]) -> list[str]:
    """The words before the verdict, for each family that has any such packet. `is_set` says which sets there are.

    Raises: ValueError.
    """
    side = "daddr" if permission.egress else "saddr"
    traffic = traffic_of(permission)
    if permission.group_id is not None or permission.prefix_list_id is not None:
        peers = _named(permission, side, is_set)
    elif permission.cidr is not None:
        peers = {V4: _range(permission.cidr, side)}
    elif permission.cidr_v6 is not None:
        peers = {V6: _range_v6(permission.cidr_v6, side)}
    else:
        return []
    return [_joined(peer, _words(traffic)) for family, peer in peers.items() if traffic.protocol != _NOT_OF[family]]


def traffic_of(permission: Permission) -> Traffic:
    """Raises: ValueError."""
    return _read(permission.protocol.lower(), permission.from_port, permission.to_port)


def entry_traffic(entry: AclEntry) -> Traffic:
    """Raises: ValueError."""
    low, high = entry.from_port, entry.to_port
    if entry.protocol in ("icmp", str(ICMP), "icmpv6", str(ICMPV6)):
        low, high = entry.icmp_type, entry.icmp_code
    return _read(entry.protocol, ANY if low is None else low, ANY if high is None else high)


def entry_match(entry: AclEntry) -> str | None:
    """As of a permission; an entry's range is the other side's. None for what no packet is. Raises: ValueError."""
    side = "daddr" if entry.egress else "saddr"
    traffic = entry_traffic(entry)
    if entry.cidr is not None:
        family, peer = V4, _range(entry.cidr, side)
    elif entry.cidr_v6 is not None:
        family, peer = V6, _range_v6(entry.cidr_v6, side)
    else:
        raise ValueError("it has no range")
    return _joined(peer, _words(traffic)) if traffic.protocol != _NOT_OF[family] else None


def addresses(texts: Iterable[str]) -> Iterator[str]:
    """Those that are IPv4 addresses as they are written everywhere."""
    for text in texts:
        try:
            address = str(IPv4Address(text))
        except ValueError:
            continue
        if address == text:
            yield address


def addresses_v6(texts: Iterable[str]) -> Iterator[str]:
    """Likewise."""
    for text in texts:
        try:
            address = str(IPv6Address(text))
        except ValueError:
            continue
        if address == text and "%" not in text:
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


def ranges_v6(texts: Iterable[str]) -> list[str]:
    networks = []
    for text in texts:
        try:
            networks.append(IPv6Network(text, strict=False))
        except ValueError:
            continue
    return [str(network) for network in ipaddress.collapse_addresses(networks)]


def _named(permission: Permission, side: str, is_set: Callable[[str], bool]) -> dict[str, str]:
    """Of each family that has such a set; there may be none of IPv6."""
    if permission.group_id is not None:
        if not is_id(permission.group_id) or not is_set(members_of(permission.group_id)):
            raise ValueError(f"the group {permission.group_id!r} is not in this VPC")
        names = {family: members_of(permission.group_id, family) for family in (V4, V6)}
    else:
        id = permission.prefix_list_id or ""
        if not is_id(id) or not is_set(ranges_of(id)):
            raise ValueError(f"there is no prefix list {id!r}")
        names = {family: ranges_of(id, family) for family in (V4, V6)}
    return {family: f"{family} {side} @{name}" for family, name in names.items() if is_set(name)}


def _range(cidr: str, side: str) -> str:
    network = IPv4Network(cidr, strict=False)
    return f"ip {side} {network}" if network.prefixlen else "meta nfproto ipv4"


def _range_v6(cidr: str, side: str) -> str:
    network = IPv6Network(cidr, strict=False)
    return f"ip6 {side} {network}" if network.prefixlen else "meta nfproto ipv6"


def _read(protocol: str, low: int, high: int) -> Traffic:
    """Raises: ValueError."""
    if protocol == "-1":
        return Traffic(ANY)
    number = _NUMBERS.get(protocol)
    if number is None:
        if not (protocol.isascii() and protocol.isdigit() and int(protocol) <= 255):
            raise ValueError(f"{protocol!r} is no protocol")
        number = int(protocol)
    if number in (TCP, UDP):
        if (low, high) in ((ANY, ANY), (0, 65535)):
            return Traffic(number)
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"{low} to {high} is no range of ports")
        return Traffic(number, low, high)
    if number in (ICMP, ICMPV6):
        if not (-1 <= low <= 255 and -1 <= high <= 255):
            raise ValueError(f"{low} and {high} are no ICMP type and code")
        return Traffic(number, low, high if low != ANY else ANY)
    return Traffic(number)


def _words(traffic: Traffic) -> str:
    """ "" for all traffic."""
    protocol, low, high = traffic
    if protocol == ANY:
        return ""
    if low == ANY:
        return f"meta l4proto {protocol if protocol == ICMPV6 else NAMES.get(protocol, protocol)}"
    if protocol in (ICMP, ICMPV6):
        name = NAMES[protocol]
        return f"{name} type {low}" if high == ANY else f"{name} type {low} {name} code {high}"
    return f"{NAMES[protocol]} dport {low}" if low == high else f"{NAMES[protocol]} dport {low}-{high}"


def _joined(*words: str) -> str:
    return " ".join(one for one in words if one)
