"""What EC2's documentation says of a packet, written from that alone: the expected value of tests that send real ones.

Sources: "Control traffic to your AWS resources using security groups" (stateful; only allows; any rule of any group of the
interface; a group as source means the private addresses of its interfaces; both ends' groups are asked) and "Control subnet
traffic with network access control lists" (stateless; in order of number, the first that matches decides; else denied; asked
when traffic enters or leaves the subnet, never within it), and "Enable outbound IPv6 traffic using an egress-only internet
gateway", all in the VPC user guide. A small language of its own, so that nothing here is shared with the code under test.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

ANY = -1


@dataclass
class Rule:
    """`peer`: ("cidr", range), ("group", id) or ("list", id). `low` and `high`: ports, or ICMP type and code; ANY for all.
    A range is of one family; what names a group or a list means both."""

    egress: bool
    protocol: int
    low: int
    high: int
    peer: tuple[str, str]


@dataclass
class Entry:
    number: int
    egress: bool
    allow: bool
    protocol: int
    low: int
    high: int
    cidr: str


@dataclass
class Interface:
    id: str
    subnet: str
    mac: str
    addresses: list[str]
    groups: list[str]
    checked: bool = True
    ipv6: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return self.addresses + self.ipv6


@dataclass
class Network:
    subnets: dict[str, str]  # id -> range
    acl_of: dict[str, str]  # subnet -> ACL
    acls: dict[str, list[Entry]] = field(default_factory=dict)
    groups: dict[str, list[Rule]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    behind: dict[str, str] = field(
        default_factory=dict
    )  # address that is no interface's -> the interface that routes lead it to
    subnets_v6: dict[str, str] = field(default_factory=dict)
    way_of: dict[str, str] = field(default_factory=dict)  # subnet whose IPv6 leads to the world -> "both" ways, or "out" alone
    nat_of: dict[str, str] = field(default_factory=dict)  # subnet whose way out is a NAT gateway -> the gateway's subnet
    host_of: dict[str, str] = field(default_factory=dict)  # interface -> where it is; none: all on one

    def at(self, address: str) -> Interface | None:
        """Who has it, or stands for it."""
        return self.owner(address) or self.interfaces.get(self.behind.get(address, ""))

    def owner(self, address: str) -> Interface | None:
        return next((one for one in self.interfaces.values() if address in one.all), None)

    def passes_groups(self, interface: Interface, egress: bool, peer: str, protocol: int, port: int) -> bool:
        return any(
            rule.egress is egress and self._is_peer(rule.peer, peer) and covers(rule, protocol, port)
            for id in interface.groups
            for rule in self.groups.get(id, [])
        )

    def passes_acl(self, subnet: str, egress: bool, peer: str, protocol: int, port: int) -> bool:
        within = [self.subnets[subnet], *filter(None, [self.subnets_v6.get(subnet)])]
        if any(inside(peer, cidr) for cidr in within):
            return True
        for entry in sorted(self.acls[self.acl_of[subnet]], key=lambda one: one.number):
            if entry.egress is egress and inside(peer, entry.cidr) and covers(entry, protocol, port):
                return entry.allow
        return False

    def _is_peer(self, named: tuple[str, str], address: str) -> bool:
        kind, what = named
        if kind == "cidr":
            return inside(address, what)
        if kind == "list":
            return any(inside(address, one) for one in self.lists.get(what, []))
        owner = self.owner(address)
        return owner is not None and what in owner.groups

    def _is_taken(self, interface: Interface, address: str) -> bool:
        return not interface.checked or address in interface.all

    def _nat_subnet(self, sender: Interface | None, destination: str) -> str | None:
        """Of the NAT gateway that carries what leaves the VPC."""
        if sender is None or ":" in destination or self.at(destination) is not None:
            return None
        return self.nat_of.get(sender.subnet)

    def _crosses_border(self, source: str, destination: str) -> bool:
        """Of IPv6: an interface's address needs nothing but a route, and an egress-only gateway lets nobody in."""
        if ":" not in source or (self.at(source) is not None and self.at(destination) is not None):
            return True
        sender, receiver = self.owner(source), self.owner(destination)
        if receiver is not None:
            return self.way_of.get(receiver.subnet) == "both"
        return sender is not None and sender.subnet in self.way_of

    def arrives(self, source: str, destination: str, protocol: int, port: int) -> bool:
        """The first packet of a flow. `port`: the destination's, or an ICMP type (its code is 0). An address that no
        interface has is the world's."""
        sender, receiver = self.at(source), self.at(destination)
        within = self._are_within_one(sender, receiver)
        if not self._crosses_border(source, destination):
            return False
        if sender is not None and not (
            self._is_taken(sender, source)
            and self.passes_groups(sender, True, destination, protocol, port)
            and (within or self.passes_acl(sender.subnet, True, destination, protocol, port))
        ):
            return False
        nat = self._nat_subnet(sender, destination)
        if nat is not None and not (
            self.passes_acl(nat, False, source, protocol, port) and self.passes_acl(nat, True, destination, protocol, port)
        ):
            return False
        return receiver is None or (
            self._is_taken(receiver, destination)
            and (self._are_beside(sender, receiver) or self.passes_acl(receiver.subnet, False, source, protocol, port))
            and self.passes_groups(receiver, False, source, protocol, port)
        )

    def answers(self, source: str, destination: str, protocol: int, port: int) -> bool:
        """The answer to a packet that arrived: groups remember it, ACLs do not. `source`: the answer's."""
        sender, receiver = self.at(source), self.at(destination)
        nat = self._nat_subnet(receiver, source)
        if nat is not None and not (
            self.passes_acl(nat, False, source, protocol, port) and self.passes_acl(nat, True, destination, protocol, port)
        ):
            return False
        within = self._are_within_one(sender, receiver)
        return (sender is None or within or self.passes_acl(sender.subnet, True, destination, protocol, port)) and (
            receiver is None
            or self._are_beside(sender, receiver)
            or self.passes_acl(receiver.subnet, False, source, protocol, port)
        )

    def _are_within_one(self, sender: Interface | None, receiver: Interface | None) -> bool:
        """Between interfaces of one subnet, of which one may stand for an address that is neither's."""
        return sender is not None and receiver is not None and sender.subnet == receiver.subnet

    def _are_beside(self, sender: Interface | None, receiver: Interface | None) -> bool:
        """On one host, too. Here Alto is stricter than EC2, and says so (plan/firewall.py): what a router on another host gives
        a foreign address meets the ACL of its own subnet."""
        if sender is None or receiver is None or not self._are_within_one(sender, receiver):
            return False
        return self.host_of.get(sender.id) == self.host_of.get(receiver.id)


def covers(rule: Rule | Entry, protocol: int, port: int) -> bool:
    if rule.protocol == ANY:
        return True
    if rule.protocol != protocol:
        return False
    if protocol in (6, 17):
        return rule.low == ANY or rule.low <= port <= rule.high
    if protocol in (1, 58):
        return rule.low in (ANY, port) and rule.high in (ANY, 0)
    return True


def inside(address: str, cidr: str) -> bool:
    return ip_address(address) in ip_network(cidr, strict=False)
