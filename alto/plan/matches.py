"""What a security group's permission or an ACL's entry matches: as words of nftables, and asked about one packet.

Pure, and the only place where something of a tenant's becomes text: addresses and numbers are parsed and written anew, ids are
matched against a pattern, everything else is a ValueError whose text says what makes no sense.
Both answers come from one reading of the rule (`_read`), so that a trace says what the kernel does.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from alto.model.acls import AclEntry
from alto.model.networks import Permission

IPV6_ONLY = {"icmpv6", "58"}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
ANY = -1
TCP, UDP, ICMP = 6, 17, 1
NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp"}
_NUMBERS = {name: number for number, name in NAMES.items()}


class Traffic(NamedTuple):
    """`low` and `high`: ports, or an ICMP type and code. ANY is all of them."""

    protocol: int
    low: int = ANY
    high: int = ANY

    def covers(self, protocol: int, port: int) -> bool:
        """`port`: the destination's, or an ICMP type, whose code is 0."""
        if self.protocol in (ANY, protocol) and protocol in (TCP, UDP) and self.low != ANY:
            return self.low <= port <= self.high
        if self.protocol == ICMP == protocol:
            return self.low in (ANY, port) and self.high in (ANY, 0)
        return self.protocol in (ANY, protocol)

    def __str__(self) -> str:
        """For people."""
        if self.protocol == ANY:
            return "all traffic"
        name = NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self.low == ANY:
            return f"all {name}" if self.protocol in NAMES else name
        if self.protocol == ICMP:
            return f"icmp type {self.low}" + (f" code {self.high}" if self.high != ANY else "")
        return f"{name} {self.low}" if self.low == self.high else f"{name} {self.low}-{self.high}"


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
    return _joined(peer, _words(traffic_of(permission)))


def traffic_of(permission: Permission) -> Traffic:
    """Raises: ValueError."""
    return _read(permission.protocol.lower(), permission.from_port, permission.to_port)


def entry_traffic(entry: AclEntry) -> Traffic:
    """Raises: ValueError."""
    low, high = entry.from_port, entry.to_port
    if entry.protocol in ("icmp", str(ICMP)):
        low, high = entry.icmp_type, entry.icmp_code
    return _read(entry.protocol, ANY if low is None else low, ANY if high is None else high)


def entry_match(entry: AclEntry) -> str | None:
    """As of a permission; an entry's range is the other side's. Raises: ValueError."""
    if entry.protocol in IPV6_ONLY or (entry.cidr is None and entry.cidr_v6 is not None):
        return None
    if entry.cidr is None:
        raise ValueError("it has no range")
    traffic = entry_traffic(entry)
    return _joined(_range(entry.cidr, "daddr" if entry.egress else "saddr"), _words(traffic))


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
    if number == ICMP:
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
        return f"meta l4proto {NAMES.get(protocol, protocol)}"
    if protocol == ICMP:
        return f"icmp type {low}" if high == ANY else f"icmp type {low} icmp code {high}"
    return f"{NAMES[protocol]} dport {low}" if low == high else f"{NAMES[protocol]} dport {low}-{high}"


def _joined(*words: str) -> str:
    return " ".join(one for one in words if one)
