"""Public addresses, and the way out: address translation between a VPC's namespace and the one that Alto runs in.

Each VPC has one veth pair here, and the kernel does the rest; no process carries the bytes, so it all works on while nothing of
Alto runs. A public address from the loopback pool (127.64.a.b) has an alias, 240.64.a.b, that is unique on this machine and
means nothing on any network:

    client -> 127.64.a.b --(here: dnat to alias, snat to MACHINE_ADDRESS)--> veth --(VPC: dnat alias to private)--> guest
    guest -> world --(VPC: snat private to alias)--> veth --(here: masquerade, when this machine has a way out)--> world

So every port of TCP and UDP, and ICMP, arrives, and a closed port, a half-closed connection or a full buffer is what the
guest's own kernel makes of it. Only addresses that are given out have an alias; the pool's others are refused at once, unless
somebody bound them by name (balancers do). docs/adr/0004-public-addresses-by-kernel-nat.md has what else was tried.

A pool that is not of loopback needs no alias, as its addresses are what others call guests by (ADR 0015). They are routed, and
both ends see each other's own address; translated is only in the VPC's namespace, and lan.py says who learns of it:

    client -> 203.0.113.5 --(here: routed)--> veth --(VPC: dnat public to private)--> guest
    guest -> world or another's public address --(VPC: snat private to public)--> veth --(here: routed)--> world, or a veth

A guest gets at nothing of this machine through its uplink, but at balancers on addresses of such a pool: what else is not an
answer is dropped here. Everything of ours is in tables and devices that carry the cloud's name; no table of others is touched.
"""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec

from alto.drivers.network.tunnel import PORTS_FROM
from alto.model.errors import DriverFault
from alto.model.networks import MACHINE_ADDRESS, UPLINK_DEVICE

NEXT_HOP = "169.254.169.253"
HOST_MAC, VPC_MAC = "02:a1:70:ff:00:01", "02:a1:70:ff:00:02"
ALIAS_NET = 240

_NOWHERE = "{ 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }"  # never on the way out; link-local has other clouds' metadata


class Published(msgspec.Struct, frozen=True):
    """What leads into one VPC, or into several, from this machine. `public`: public address -> alias. `near`: device of a VPC
    and a range that means somebody inside it: who comes from outside under such an address is called MACHINE_ADDRESS, so that
    nobody passes for a member of a group, and answers find out again. Only a routed pool lets other addresses in."""

    public: Mapping[str, str] = {}
    near: frozenset[tuple[str, str]] = frozenset()


def alias(public_ip: str, pool: IPv4Network) -> str:
    """What it is called between this machine and its VPC; of a routed pool, itself. Raises: DriverFault when the address is
    not of this machine's pool."""
    try:
        address = IPv4Address(public_ip)
    except ValueError as error:
        raise DriverFault(f"{public_ip!r} is no IPv4 address") from error
    if address not in pool:
        raise DriverFault(f"{public_ip} is not in this host's pool of public addresses, {pool}")
    return str(IPv4Address(int(address) % 2**24 + ALIAS_NET * 2**24)) if pool.is_loopback else str(address)


def is_ours(public_ip: str, pool: IPv4Network) -> bool:
    try:
        return bool(alias(public_ip, pool))
    except DriverFault:
        return False


def host_ruleset(table: str, devices: str, pool: IPv4Network, published: Published, *, nat: bool) -> str:
    """This machine's side, replacing what there was in one transaction. `devices` is the pattern of our veths' names;
    `nat`: guests may begin what leaves this machine."""
    lines = _routed(table, devices, pool, nat=nat) if not pool.is_loopback else _aliased(table, devices, pool, nat=nat)
    return "\n".join([*lines, *host_change(table, pool, Published(), published)]) + "\n"


def _aliased(table: str, devices: str, pool: IPv4Network, *, nat: bool) -> list[str]:
    aliases = IPv4Network((int(IPv4Address(alias(str(pool[0]), pool))), pool.prefixlen))
    lines = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f"add table ip {table}",
        f"add map ip {table} alto_public {{ type ipv4_addr : ipv4_addr; }}",
        f"add chain ip {table} c_destination {{ type nat hook output priority -100; policy accept; }}",
        f"add rule ip {table} c_destination dnat to ip daddr map @alto_public",
        f"add chain ip {table} c_source {{ type nat hook postrouting priority 100; policy accept; }}",
        f'add rule ip {table} c_source oifname "{devices}" snat to {MACHINE_ADDRESS}',
        f"add chain ip {table} c_input {{ type filter hook input priority -5; policy accept; }}",
        f'add rule ip {table} c_input iifname "{devices}" ct state established,related accept',
        f'add rule ip {table} c_input iifname "{devices}" counter drop',
        # Whoever forwards between our devices and others (a router, containers): only what a guest itself began.
        f"add chain ip {table} c_forward {{ type filter hook forward priority -5; policy accept; }}",
        f'add rule ip {table} c_forward iifname "{devices}" oifname "{devices}" counter drop',
        f'add rule ip {table} c_forward oifname "{devices}" ct state established,related accept',
        f'add rule ip {table} c_forward oifname "{devices}" counter drop',
    ]
    if nat:
        # Not from the ports that hosts' tunnels speak from: a guest could else write in another's name into any VPC.
        lines.append(f"add rule ip {table} c_source ip saddr {aliases} meta l4proto udp masquerade to :1024-{PORTS_FROM - 1}")
        lines.append(f"add rule ip {table} c_source ip saddr {aliases} masquerade")
    else:
        lines.append(f'add rule ip {table} c_forward iifname "{devices}" counter drop')
    return lines


def _routed(table: str, devices: str, pool: IPv4Network, *, nat: bool) -> list[str]:
    lines = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f"add table ip {table}",
        f"add set ip {table} alto_public {{ type ipv4_addr; }}",
        f"add set ip {table} alto_near {{ type ifname . ipv4_addr; flags interval; }}",
        f"add chain ip {table} c_source {{ type nat hook postrouting priority 100; policy accept; }}",
        f"add rule ip {table} c_source oifname . ip saddr @alto_near snat to {MACHINE_ADDRESS}",
        # Who speaks from what each machine has for itself is not found again from inside.
        f'add rule ip {table} c_source oifname "{devices}" ip saddr 127.0.0.0/8 snat to {MACHINE_ADDRESS}',
        f"add chain ip {table} c_pool",
        f"add chain ip {table} c_input {{ type filter hook input priority -5; policy accept; }}",
        f'add rule ip {table} c_input iifname "{devices}" ct state established,related accept',
        f"add rule ip {table} c_input ip daddr {pool} jump c_pool",
        f'add rule ip {table} c_input iifname "{devices}" counter drop',
        f"add chain ip {table} c_forward {{ type filter hook forward priority -5; policy accept; }}",
        f'add rule ip {table} c_forward oifname "{devices}" ip daddr @alto_public accept',
        f'add rule ip {table} c_forward oifname "{devices}" counter drop',
    ]
    if not nat:
        lines += [
            f'add rule ip {table} c_forward iifname "{devices}" ct state established,related accept',
            f'add rule ip {table} c_forward iifname "{devices}" ip daddr {pool} accept',
            f'add rule ip {table} c_forward iifname "{devices}" counter drop',
        ]
    return lines


def pool_guard(table: str, pool: IPv4Network) -> str:
    """Addresses of the pool that nobody has are refused, although this machine's sshd may listen on 0.0.0.0. After
    `host_ruleset`, and apart from it: kernels without nft_socket cannot do it and need not.

    It refuses what a wildcard socket would take, and lets all else pass: to accept what an exact socket would take and
    refuse the rest is not the same. A SYN whose port pair is still in TIME-WAIT finds that remnant, of which nft_socket
    says neither, and the kernel would have let it begin anew: balancers refused one request in thirty.

    Of a routed pool this machine has those addresses alone that balancers listen on; guests come to them too."""
    chain = f"ip {table} c_input" if pool.is_loopback else f"ip {table} c_pool"
    wildcard = f'iifname "lo" ip daddr {pool} socket wildcard 1' if pool.is_loopback else "socket wildcard 1"
    return (
        f"add rule {chain} {wildcard} ct state established,related accept\n"
        f"add rule {chain} {wildcard} meta l4proto tcp reject with tcp reset\n"
        f"add rule {chain} {wildcard} reject\n"
    ) + ("" if pool.is_loopback else f"add rule {chain} accept\n")


def host_change(table: str, pool: IPv4Network, old: Published, new: Published) -> list[str]:
    name = f"ip {table} alto_public"
    if pool.is_loopback:
        return _map_change(name, old.public, new.public)
    lines = _set_change(name, old.public.keys(), new.public.keys())
    return lines + _set_change(
        f"ip {table} alto_near", *([f'"{device}" . {cidr}' for device, cidr in one.near] for one in (old, new))
    )


class Translations(msgspec.Struct, frozen=True):
    """Of one VPC on one host. `inward`: alias -> private address, also of guests on other hosts; `outward`: private address
    -> alias, of those who leave from here: guests with a public address, and NAT gateways."""

    inward: Mapping[str, str] = {}
    outward: Mapping[str, str] = {}


NOTHING = Translations()


def vpc_ruleset(wanted: Translations) -> str:
    """The namespace's side. Only those with a public address may leave, as in EC2."""
    lines = [
        "add table ip alto_nat",
        "delete table ip alto_nat",
        "add table ip alto_nat",
        "add map ip alto_nat alto_inward { type ipv4_addr : ipv4_addr; }",
        "add map ip alto_nat alto_outward { type ipv4_addr : ipv4_addr; }",
        "add set ip alto_nat alto_leavers { type ipv4_addr; }",
        "add chain ip alto_nat c_destination { type nat hook prerouting priority -100; policy accept; }",
        f'add rule ip alto_nat c_destination iifname "{UPLINK_DEVICE}" dnat to ip daddr map @alto_inward',
        "add chain ip alto_nat c_source { type nat hook postrouting priority 100; policy accept; }",
        f'add rule ip alto_nat c_source oifname "{UPLINK_DEVICE}" snat to ip saddr map @alto_outward',
        "add chain ip alto_nat c_forward { type filter hook forward priority 10; policy accept; }",
        # What came for no public address of anybody's has no business inside.
        f'add rule ip alto_nat c_forward iifname "{UPLINK_DEVICE}" ct state new ct status ! dnat counter drop',
        f'add rule ip alto_nat c_forward oifname != "{UPLINK_DEVICE}" accept',
        "add rule ip alto_nat c_forward ct state established,related accept",
        f'add rule ip alto_nat c_forward iifname "{UPLINK_DEVICE}" counter drop',
        f"add rule ip alto_nat c_forward ip daddr {_NOWHERE} counter drop",
        "add rule ip alto_nat c_forward ip saddr @alto_leavers accept",
        "add rule ip alto_nat c_forward counter reject with icmp type admin-prohibited",
    ]
    return "\n".join(lines) + "\n" + vpc_change(NOTHING, wanted)


def vpc_change(old: Translations, new: Translations) -> str:
    lines = _map_change("ip alto_nat alto_inward", old.inward, new.inward)
    lines += _map_change("ip alto_nat alto_outward", old.outward, new.outward)
    lines += _set_change("ip alto_nat alto_leavers", old.outward.keys(), new.outward.keys())
    return "\n".join(lines) + "\n" if lines else ""


def _map_change(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    gone = [key for key in old if new.get(key) != old[key]]
    came = [f"{key} : {value}" for key, value in new.items() if old.get(key) != value]
    lines = []
    if gone:
        lines.append(f"delete element {name} {{ {', '.join(gone)} }}")
    if came:
        lines.append(f"add element {name} {{ {', '.join(came)} }}")
    return lines


def _set_change(name: str, old: Collection[str], new: Collection[str]) -> list[str]:
    gone, came = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    lines = [f"delete element {name} {{ {', '.join(gone)} }}"] if gone else []
    return lines + ([f"add element {name} {{ {', '.join(came)} }}"] if came else [])
