"""What one VPC's namespace on one host lets through, as nftables text. Same input, same text: no I/O, no clock.

A `Firewall` is data (sets, verdict maps, chains). `compiled` makes it of a plan and its ports, `with_port` and `without_port`
change one port of it; `ruleset` writes all of it as one transaction that replaces the table, `change` only what differs between
two. Each text is one `nft -f` transaction, so no packet ever meets half a rule set. Connections that are already established
go on across both (as in EC2, a revoked rule does not cut them; removing a port does, and that is the driver's work).

The order in which a guest's packet meets it: anti-spoofing (its own MAC, address and DHCP identity, IPv4 only, before any
state is looked at), then the egress rules of the sender's groups, then the ingress rules of the receiver's. What no rule
names is dropped. A rule that cannot be expressed lets nothing through, is named in `Firewall.refused`, and harms no other.

Connections that do not come from a guest have one of two fixed addresses, and rules mean them literally:
* MACHINE_ADDRESS (169.254.169.252): everything that came to a public address, from this machine or through it. A rule with
  source 0.0.0.0/0 lets it in; a narrower one only if it contains this address.
* `NetworkPlan.host_address` (the VPC's base + 3, which EC2 reserves and never assigns): what this host itself opens inside the
  namespace, that is balancers and health checks. So a rule for the VPC's own range lets them in, as in EC2.
docs/adr/0004-public-addresses-by-kernel-nat.md says why.

Deliberately not here: address translation (drivers/network/uplink.py), which has tables of its own.
Invariant: every name of ours begins with `alto_` or `c_` (nft has many keywords), and text from tenants never gets in: ids are
matched against a pattern, addresses and numbers are parsed and written anew.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

import msgspec

from alto.model.network_plans import Firewall, NetworkPlan, Port
from alto.model.networks import METADATA_ADDRESS, UPLINK_DEVICE, Permission, SecurityGroup

T = TypeVar("T")


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PORTS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"}
_ICMP = {"icmp", "1"}
_IPV6_ONLY = {"icmpv6", "58"}

_MAPS = ("alto_from", "alto_out", "alto_in")  # tap -> what a packet from it, leaving its guest, going to its guest, must pass

# Hook and priority, then the rules. c_from sees a guest's packet before connection tracking does.
_BASE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "c_from": (
        "type filter hook prerouting priority -300; policy accept;",
        (
            'iifname "tap*" meta nfproto != ipv4 counter drop',
            "iifname vmap @alto_from",
            'iifname "tap*" counter drop',
        ),
    ),
    "c_egress": (
        "type filter hook forward priority -10; policy drop;",
        (
            "ct state invalid counter drop",
            "ct state established,related accept",
            "iifname vmap @alto_out",
            f'iifname "{UPLINK_DEVICE}" accept',
        ),
    ),
    "c_ingress": (
        "type filter hook forward priority 0; policy drop;",
        (
            "ct state established,related accept",
            "oifname vmap @alto_in",
            f'oifname "{UPLINK_DEVICE}" accept',
        ),
    ),
    "c_input": (
        "type filter hook input priority 0; policy drop;",
        (
            'iifname "lo" accept',
            "ct state established,related accept",
            'iifname "tap*" udp dport { 53, 67 } accept',
            'iifname "tap*" tcp dport 53 accept',
            f'iifname "tap*" ip daddr {METADATA_ADDRESS} tcp dport 80 accept',
            'iifname "tap*" icmp type echo-request accept',
            "counter drop",
        ),
    ),
    "c_output": (
        "type filter hook output priority 0; policy accept;",
        (
            "ct state established,related accept",
            # DHCP answers go to guests that have no address yet, so no state knows them.
            "udp sport 67 udp dport 68 accept",
            "oifname vmap @alto_in",
            'oifname "tap*" counter drop',
        ),
    ),
}
_ARP_BASE = (
    # Sender 0.0.0.0 is a guest that asks whether its address is taken (RFC 5227).
    "iifname . arp saddr ether . arp saddr ip @alto_arp accept",
    'iifname "tap*" arp saddr ip 0.0.0.0 accept',
    'iifname "tap*" counter drop',
)


def compiled(plan: NetworkPlan, ports: Iterable[Port]) -> Firewall:
    chains: dict[str, tuple[str, ...]] = {}
    refused: dict[str, tuple[str, ...]] = {}
    groups = {group.id: group for group in plan.groups if _ID.fullmatch(group.id)}
    sets = {_set(id): frozenset(_addresses(plan.members.get(id, ()))) for id in groups}
    for id, group in groups.items():
        complaints: list[str] = []
        for egress in (False, True):
            chains[_group_chain(id, egress)] = tuple(_rules(group, egress, groups, complaints))
        if complaints:
            refused[id] = tuple(complaints)
    firewall = Firewall(sets=sets, chains=chains, verdicts={name: {} for name in _MAPS}, arp={}, refused=refused)
    return _with_ports(firewall, ports)


def with_port(firewall: Firewall, port: Port) -> Firewall:
    """Also for a port that is in it already, with other groups. The groups come from the plan that `firewall` was made of."""
    return _with_ports(without_port(firewall, port.id, port.device), [port])


def _with_ports(firewall: Firewall, ports: Iterable[Port]) -> Firewall:
    joined: dict[str, set[str]] = {}
    chains = dict(firewall.chains)
    verdicts = {name: dict(taps) for name, taps in firewall.verdicts.items()}
    arp = dict(firewall.arp)
    refused = dict(firewall.refused)
    for port in ports:
        problem = _problem(port)
        if problem:
            refused[port.id] = (problem,)
            continue
        tap = port.device
        known = [id for id in port.group_ids if _ID.fullmatch(id) and _set(id) in firewall.sets]
        for id in known:
            joined.setdefault(_set(id), set()).add(port.private_ip)
        for name in _MAPS:
            verdicts[name][tap] = f"c_{name.removeprefix('alto_')}_{tap}"
        chains[verdicts["alto_from"][tap]] = _own_packets(port.mac, port.private_ip)
        chains[verdicts["alto_out"][tap]] = (*(f"jump {_group_chain(id, True)}" for id in known), "counter drop")
        chains[verdicts["alto_in"][tap]] = (*(f"jump {_group_chain(id, False)}" for id in known), "counter drop")
        arp[tap] = f'"{tap}" . {port.mac} . {port.private_ip}'
        unknown = [id for id in port.group_ids if id not in known]
        if unknown:
            refused[port.id] = tuple(f"{port.id}: group {id!r} is not in this VPC" for id in unknown)
    sets = {**firewall.sets, **{name: firewall.sets[name] | new for name, new in joined.items()}}
    return Firewall(sets=sets, chains=chains, verdicts=verdicts, arp=arp, refused=refused)


def _own_packets(mac: str, ip: str) -> tuple[str, ...]:
    # Bytes 28..33 of a DHCP message name the client; a guest that named another could have its address declined.
    own_dhcp = f"udp dport 67 @th,288,48 0x{mac.replace(':', '')} accept"
    return (
        f"ether saddr != {mac} counter drop",
        f"ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 {own_dhcp}",
        f"ip saddr != {ip} counter drop",
        own_dhcp,
        "udp dport 67 counter drop",
        "accept",
    )


def without_port(firewall: Firewall, port_id: str, device: str) -> Firewall:
    if device not in firewall.arp:
        if port_id not in firewall.refused:
            return firewall
        return msgspec.structs.replace(firewall, refused=_without(firewall.refused, {port_id}))
    ip = firewall.arp[device].rsplit(" ", 1)[1]
    return Firewall(
        sets={name: members - {ip} if ip in members else members for name, members in firewall.sets.items()},
        chains=_without(firewall.chains, {f"c_{name.removeprefix('alto_')}_{device}" for name in _MAPS}),
        verdicts={name: _without(taps, {device}) for name, taps in firewall.verdicts.items()},
        arp=_without(firewall.arp, {device}),
        refused=_without(firewall.refused, {port_id}),
    )


def ruleset(firewall: Firewall) -> str:
    """Everything, in the place of whatever the tables held, in one transaction."""
    lines = []
    for table in ("inet alto", "arp alto"):
        # `delete` alone would fail where there is none yet.
        lines += [f"add table {table}", f"delete table {table}", f"add table {table}"]
    lines += [f"add map inet alto {name} {{ type ifname : verdict; }}" for name in _MAPS]
    lines += [f"add chain inet alto {name} {{ {hook} }}" for name, (hook, _) in _BASE.items()]
    lines += ["add set arp alto alto_arp { type ifname . ether_addr . ipv4_addr; }"]
    lines += ["add chain arp alto c_arp { type filter hook input priority 0; policy accept; }"]
    lines += [f"add rule arp alto c_arp {rule}" for rule in _ARP_BASE]
    empty = Firewall(sets={}, chains={}, verdicts={name: {} for name in _MAPS}, arp={}, refused={})
    lines += _change(empty, firewall)
    lines += [f"add rule inet alto {name} {rule}" for name, (_, rules) in _BASE.items() for rule in rules]
    return "\n".join(lines) + "\n"


def change(old: Firewall, new: Firewall) -> str:
    """From `old` to `new` in one transaction as long as what changed; empty when nothing did."""
    lines = list(_change(old, new))
    return "\n".join(lines) + "\n" if lines else ""


def _change(old: Firewall, new: Firewall) -> Iterator[str]:
    # Names first, then what refers to them; what goes is emptied first and deleted last.
    yield from (f"add set inet alto {name} {{ type ipv4_addr; }}" for name in new.sets if name not in old.sets)
    yield from (f"add chain inet alto {name}" for name in new.chains if name not in old.chains)
    for name in _MAPS:
        before, after = old.verdicts[name], new.verdicts[name]
        yield from _elements("delete", "inet", name, (f'"{tap}"' for tap in before if tap not in after))
    for name, rules in old.chains.items():
        if new.chains.get(name) != rules:
            yield f"flush chain inet alto {name}"
    for name, rules in new.chains.items():
        if old.chains.get(name) != rules:
            yield from (f"add rule inet alto {name} {rule}" for rule in rules)
    for name, members in new.sets.items():
        had = old.sets.get(name, frozenset())
        if had is not members:
            yield from _elements("delete", "inet", name, sorted(had - members))
            yield from _elements("add", "inet", name, sorted(members - had))
    yield from _elements("delete", "arp", "alto_arp", (old.arp[tap] for tap in old.arp if new.arp.get(tap) != old.arp[tap]))
    yield from _elements("add", "arp", "alto_arp", (new.arp[tap] for tap in new.arp if old.arp.get(tap) != new.arp[tap]))
    for name in _MAPS:
        before, after = old.verdicts[name], new.verdicts[name]
        added = (f'"{tap}" : goto {chain}' for tap, chain in after.items() if tap not in before)
        yield from _elements("add", "inet", name, added)
    yield from (f"delete chain inet alto {name}" for name in old.chains if name not in new.chains)
    yield from (f"delete set inet alto {name}" for name in old.sets if name not in new.sets)


def _elements(verb: str, family: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    text = ", ".join(elements)
    if text:
        yield f"{verb} element {family} alto {name} {{ {text} }}"


def _rules(group: SecurityGroup, egress: bool, groups: Mapping[str, SecurityGroup], complaints: list[str]) -> Iterator[str]:
    for permission in group.permissions:
        if permission.egress is not egress or permission.protocol.lower() in _IPV6_ONLY:
            continue
        try:
            peer = _peer(permission, groups)
            traffic = _traffic(permission)
        except ValueError as error:
            complaints.append(f"{group.id}: a rule lets nothing through, because {error}")
            continue
        if peer is not None:
            yield " ".join(word for word in (peer, traffic, "accept") if word)


def _peer(permission: Permission, groups: Mapping[str, SecurityGroup]) -> str | None:
    """The address part of a rule; "" for everybody, None for nobody that speaks IPv4."""
    side = "daddr" if permission.egress else "saddr"
    if permission.group_id is not None:
        if permission.group_id not in groups:
            raise ValueError(f"the group {permission.group_id!r} is not in this VPC")
        return f"ip {side} @{_set(permission.group_id)}"
    if permission.cidr is not None:
        network = IPv4Network(permission.cidr, strict=False)
        return f"ip {side} {network}" if network.prefixlen else ""
    return None


def _traffic(permission: Permission) -> str:
    """The protocol part of a rule; "" for all traffic."""
    protocol, low, high = permission.protocol.lower(), permission.from_port, permission.to_port
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
    raise ValueError(f"{permission.protocol!r} is no protocol")


def _problem(port: Port) -> str | None:
    """Why this port cannot have rules, in which case it has no traffic either."""
    if not _ID.fullmatch(port.id) or not _ID.fullmatch(port.device):
        return f"{port.id!r} is no id of a port"
    if not _MAC.fullmatch(port.mac):
        return f"{port.id}: {port.mac!r} is no MAC address in lower case"
    if not list(_addresses([port.private_ip])):
        return f"{port.id}: {port.private_ip!r} is no IPv4 address"
    return None


def _addresses(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        try:
            address = str(IPv4Address(text))
        except ValueError:
            continue
        if address == text:
            yield address


def _set(group_id: str) -> str:
    return f"alto_of_{group_id.replace('-', '_')}"


def _group_chain(group_id: str, egress: bool) -> str:
    return f"c_{'to' if egress else 'by'}_{group_id.replace('-', '_')}"


def _without(entries: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: value for name, value in entries.items() if name not in names}
