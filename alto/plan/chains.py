"""The chains of a VPC's firewall (firewall.py): those that are always there, and what one port, group or ACL has in its own.

Pure text; the head of firewall.py says in which order a packet meets them.
"""

import re
from collections.abc import Iterator, Mapping

from alto.model.network_plans import AclPlan, Port
from alto.model.networks import METADATA_ADDRESS, METADATA_ADDRESS_V6
from alto.plan.matches import addresses, addresses_v6, entry_match, is_id, word

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

# Tap -> what a packet from it must pass, leaving its guest or going to its guest; and at the border of its subnet.
FROM, OUT, IN, ACL_OUT, ACL_IN = MAPS = ("alto_from", "alto_out", "alto_in", "alto_acl_out", "alto_acl_in")
ARP, HOST, OWN = "alto_arp", "alto_host", "alto_own"
_VERDICTS = "type ifname : verdict;"
ADDRESSES, ADDRESSES_V6 = "type ipv4_addr;", "type ipv6_addr;"
RANGES, RANGES_V6 = "type ipv4_addr; flags interval;", "type ipv6_addr; flags interval;"
# Not even from a port whose source is not checked.
_NEVER_A_SOURCE = "{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }"
_NEVER_A_SOURCE_V6 = "{ ::/8, fd00:ec2::/32, fe80::/10, ff00::/8 }"
STATIC: Mapping[str, str] = {
    **dict.fromkeys(MAPS, _VERDICTS),
    ARP: "type ifname . ether_addr . ipv4_addr;",
    HOST: ADDRESSES,
    OWN: ADDRESSES,
}

# What a guest says of itself to its router, and asks it.
_ASKED = "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit"

# Hook and priority, then the rules. c_from sees a guest's packet before connection tracking does. Only taps have rules: what
# comes by another device (uplink, tunnel, peer) is a receiver's to judge.
BASE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "c_from": (
        "type filter hook prerouting priority -300; policy accept;",
        (
            f"iifname vmap @{FROM}",
            'iifname "tap*" counter drop',
        ),
    ),
    "c_border": (
        "type filter hook forward priority -20; policy accept;",
        (
            f"iifname vmap @{ACL_OUT}",
            f"oifname vmap @{ACL_IN}",
        ),
    ),
    "c_egress": (
        "type filter hook forward priority -10; policy drop;",
        (
            # On its way between other hosts and a peer: of its connection this host may see one direction only.
            'iifname != "tap*" oifname != "tap*" accept',
            "ct state invalid counter drop",
            "ct state established,related accept",
            f"iifname vmap @{OUT}",
            'iifname != "tap*" accept',
        ),
    ),
    "c_ingress": (
        "type filter hook forward priority 0; policy drop;",
        (
            "ct state established,related accept",
            f"oifname vmap @{IN}",
            'oifname != "tap*" accept',
        ),
    ),
    "c_input": (
        "type filter hook input priority 0; policy drop;",
        (
            'iifname "lo" accept',
            f"ip daddr @{HOST} iifname vmap @{ACL_OUT}",
            "ct state established,related accept",
            'iifname "tap*" udp dport { 53, 67, 547 } accept',
            'iifname "tap*" tcp dport 53 accept',
            f'iifname "tap*" ip daddr {METADATA_ADDRESS} tcp dport 80 accept',
            f'iifname "tap*" ip6 daddr {METADATA_ADDRESS_V6} tcp dport 80 accept',
            'iifname "tap*" icmp type echo-request accept',
            f'iifname "tap*" icmpv6 type {{ {_ASKED}, echo-request }} accept',
            "counter drop",
        ),
    ),
    "c_output": (
        "type filter hook output priority 0; policy accept;",
        (
            f"ip saddr @{HOST} oifname vmap @{ACL_IN}",
            "ct state established,related accept",
            # DHCP answers go to guests that have no address yet, so no state knows them.
            "udp sport 67 udp dport 68 accept",
            "udp sport 547 udp dport 546 accept",
            "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept",
            f"oifname vmap @{IN}",
            'oifname "tap*" counter drop',
        ),
    ),
}
ARP_BASE = (
    # Sender 0.0.0.0 is a guest that asks whether its address is taken (RFC 5227).
    f"iifname . arp saddr ether . arp saddr ip @{ARP} accept",
    'iifname "tap*" arp saddr ip 0.0.0.0 accept',
    'iifname "tap*" counter drop',
)


def acl_rules(acl: AclPlan, egress: bool, complaints: list[str]) -> Iterator[str]:
    for entry in sorted(acl.entries, key=lambda one: one.number):
        if entry.egress is not egress:
            continue
        try:
            match = entry_match(entry)
        except ValueError as error:
            complaints.append(f"{acl.id}: entry {entry.number} lets nothing through, because {error}")
            if entry.allow:
                continue
            break  # whom it would deny is not known, so all are
        if match is not None:
            yield f"{match} {'return' if entry.allow else 'counter drop'}".lstrip()
    yield "counter drop"


def own_packets(port: Port) -> tuple[str, ...]:
    # Bytes 28..33 of a DHCP message name the client; a guest that named another could have its address declined.
    own_dhcp = f"udp dport 67 @th,288,48 0x{port.mac.replace(':', '')} accept"
    own = addresses_of(port)
    forged = [f"ip saddr != {own[0] if len(own) == 1 else '{ ' + ', '.join(own) + ' }'} counter drop"]
    if not port.source_dest_check:
        forged = [f"ip saddr {_NEVER_A_SOURCE} counter drop", f"ip saddr @{OWN} counter drop"]
    return (
        f"ether saddr != {port.mac} counter drop",
        *_own_packets_v6(port),
        f"ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 {own_dhcp}",
        *forged,
        own_dhcp,
        "udp dport 67 counter drop",
        "accept",
    )


def _own_packets_v6(port: Port) -> Iterator[str]:
    own, mac = addresses_v6_of(port), port.mac.replace(":", "")
    if not own:
        yield "meta nfproto != ipv4 counter drop"
        return
    yield "icmpv6 type { nd-router-advert, nd-redirect } counter drop"
    # The first option names the speaker's MAC: else a guest could be taken for another by who gives addresses.
    yield f"icmpv6 type nd-neighbor-advert @th,192,64 != 0x0201{mac} counter drop"
    yield f"ip6 saddr != :: icmpv6 type nd-neighbor-solicit @th,192,64 != 0x0101{mac} counter drop"
    yield f"ip6 saddr != :: icmpv6 type nd-router-solicit @th,64,64 != 0x0101{mac} counter drop"
    # Between itself and its router alone: the kernel carries these addresses nowhere else.
    yield f"ip6 saddr {{ ::, fe80::/64 }} icmpv6 type {{ {_ASKED} }} accept"
    # A DHCPv6 client's word that an address is taken (9) would keep it from its owner.
    yield "udp dport 547 @th,64,8 9 counter drop"
    yield "ip6 saddr fe80::/64 udp sport 546 udp dport 547 accept"
    forged = f"!= {own[0] if len(own) == 1 else '{ ' + ', '.join(own) + ' }'}"
    yield f"ip6 saddr {forged if port.source_dest_check else _NEVER_A_SOURCE_V6} counter drop"
    yield "meta nfproto ipv6 accept"


def problem_of(port: Port) -> str | None:
    """Why this port cannot have rules, in which case it has no traffic either."""
    if not is_id(port.id) or not is_id(port.device):
        return f"{port.id!r} is no id of a port"
    if not _MAC.fullmatch(port.mac):
        return f"{port.id}: {port.mac!r} is no MAC address in lower case"
    if not list(addresses([port.private_ip])):
        return f"{port.id}: {port.private_ip!r} is no IPv4 address"
    return None


def addresses_of(port: Port | None) -> list[str]:
    if port is None or problem_of(port) is not None:
        return []
    return list(dict.fromkeys(addresses([port.private_ip, *(one.private_ip for one in port.secondary)])))


def addresses_v6_of(port: Port | None) -> list[str]:
    if port is None or problem_of(port) is not None:
        return []
    return list(dict.fromkeys(addresses_v6(port.ipv6)))


def arp_of(port: Port) -> list[str]:
    return [f'"{port.device}" . {port.mac} . {address}' for address in addresses_of(port)]


def port_chains(device: str) -> dict[str, str]:
    return {name: f"c_{name.removeprefix('alto_')}_{device}" for name in (FROM, OUT, IN)}


def group_chain(group_id: str, egress: bool) -> str:
    return f"c_{'to' if egress else 'by'}_{word(group_id)}"


def acl_chain(acl_id: str, egress: bool) -> str:
    return f"c_{'aclout' if egress else 'aclin'}_{word(acl_id)}"


def subnet_chain(subnet_id: str, egress: bool) -> str:
    return f"c_{'leave' if egress else 'enter'}_{word(subnet_id)}"
