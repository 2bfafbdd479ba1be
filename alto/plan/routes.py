"""Where packets of a VPC go on one host: its subnets' route tables as the kernel has them. Same input, same text: no I/O.

A packet from a guest is marked with the number of its subnet's route table, and a rule leads marked packets to the kernel's
table of that number. What is inside the VPC is "thrown" from there to the main table, which has one route per address; so
the longest prefix wins among all routes, as in EC2, and a route that is longer than the VPC's range wins over it. What no
route names is unreachable at once; so is a route whose target is gone (a black hole): it does not fall back to a shorter one.

* internet gateway: out by the uplink, where only private addresses with a public one pass (drivers/network/uplink.py).
  Connections that came to a public address are answered to MACHINE_ADDRESS, which goes where the internet goes: a subnet
  without such a route cannot be reached.
* NAT gateway, interface, peering: the device behind which it is; an interface only if its source/dest check is off.
* other hosts: each private address there has a route into the tunnel and that host's MAC as its neighbour, so nothing is
  flooded or learned. What comes out of the tunnel must have the MAC of a host and an address that lives there, or a peer's: a
  packet enters the peer's VPC on its sender's host, and goes through that VPC's tunnel.
* what a host itself opens inside a VPC (balancers), or brings in from its public addresses, has the same source on each host.
  So a connection remembers by which host it came (its mark and zone), and answers go back there.

`compiled` makes it all, `with_port` and `without_port` change one port. To go from one to another: `puts` (commands), then
`change` (nft), then `drops` (commands, some of whose objects the kernel may have taken away already).
IPv6 has routes within the VPC alone: one per address, as in the main table above, and no table of a subnet is asked. What comes
out of the tunnel is believed by the same rule.
Deliberately not here: who may speak with whom (firewall.py), and the devices (drivers/network).
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec

from alto.model.network_plans import (
    PEER_DEVICE,
    TUNNEL_DEVICE,
    VXLAN_DEVICE,
    NetworkPlan,
    Port,
    RoutePlan,
    Routing,
    SubnetPlan,
    tunnel_mac,
)
from alto.model.networks import MACHINE_ADDRESS, UPLINK_DEVICE
from alto.model.routing import Target

MAIN = 254
TABLES, HOST_TABLES = 0x10000000, 0x20000000  # where the numbers of route tables, and of ways back to hosts, begin
SPREAD = 0x10000000
FALLBACK = 4096  # metric of the black hole behind a route whose device goes with its machine
PEER_HOP = "169.254.169.251"  # whoever is at the other end of a peering's device
UNREACHABLE, THROW = "unreachable", "throw"
_OUT = f"via {MACHINE_ADDRESS} dev {UPLINK_DEVICE} onlink"
RETURN_PREFERENCE, LOCAL_PREFERENCE, TABLE_PREFERENCE = 10, 20, 100

_TABLE, _TABLE_V6 = "ip alto_route", "ip6 alto_route"
_COLLECTIONS: Mapping[str, str] = {
    "alto_marks": "map {} {{ type ifname : mark; }}",
    "alto_subnets": "map {} {{ type ipv4_addr : mark; flags interval; }}",
    "alto_ranges": "set {} {{ type ipv4_addr; flags interval; }}",
    "alto_peers": "set {} {{ type ifname . ipv4_addr; flags interval; }}",
    "alto_far": "set {} {{ type ether_addr . ipv4_addr; }}",
    "alto_far_peers": "set {} {{ type ether_addr . ipv4_addr; flags interval; }}",
    "alto_strangers": "set {} {{ type ether_addr; }}",
    "alto_machine": "set {} {{ type ipv4_addr; }}",
    "alto_returns": "map {} {{ type ether_addr : mark; }}",
    "alto_zones": "map {} {{ typeof ether saddr : ct zone; }}",
    "alto_far_v6": "set {} {{ type ether_addr . ipv6_addr; }}",
}
_PEERS = f'iifname "{PEER_DEVICE}*"'
_TUNNEL = f'iifname "{TUNNEL_DEVICE}"'
_CHAINS: Mapping[str, tuple[str, ...]] = {
    "c_arrived { type filter hook prerouting priority -300; policy accept; }": (
        # Two hosts may open connections with equal names: each has a zone of its own, and answers get ports apart.
        f"{_TUNNEL} ip saddr @alto_machine ct original zone set ether saddr map @alto_zones",
        f"{_TUNNEL} ether saddr . ip saddr @alto_far accept",
        f"{_TUNNEL} ether saddr . ip saddr @alto_far_peers accept",
        f"{_TUNNEL} ether saddr @alto_strangers ip saddr != @alto_ranges ip saddr != @alto_machine accept",
        f"{_TUNNEL} counter drop",
        # A peering is no way through: not to a third VPC, not to the internet.
        f"{_PEERS} iifname . ip saddr @alto_peers ip daddr @alto_ranges accept",
        f"{_PEERS} counter drop",
    ),
    "c_marked { type filter hook prerouting priority -150; policy accept; }": (
        "ct direction reply ct mark != 0 meta mark set ct mark",
        "ct direction reply ct mark != 0 accept",
        f"{_TUNNEL} ip saddr @alto_machine ct mark set ether saddr map @alto_returns",
        f"{_TUNNEL} ip daddr != @alto_ranges meta mark set ip saddr map @alto_subnets",
        "meta mark set iifname map @alto_marks",
    ),
    "c_small { type filter hook forward priority -150; policy accept; }": (
        # The tunnel takes 50 bytes of each packet. Guests that know only 1,500 are told when they begin to speak.
        f'oifname "{TUNNEL_DEVICE}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu',
        f"{_TUNNEL} tcp flags & (syn | rst) == syn tcp option maxseg size set 1410",
    ),
}

_CHAINS_V6: Mapping[str, tuple[str, ...]] = {
    "c_arrived { type filter hook prerouting priority -300; policy accept; }": (
        f"{_TUNNEL} ether saddr . ip6 saddr @alto_far_v6 accept",
        # From no uplink and no peer; what taps say is asked in firewall.py.
        'iifname != "tap*" iifname != "lo" counter drop',
    ),
}

EMPTY = Routing(
    routes={},
    tables=frozenset(),
    marks={},
    subnets={},
    ranges=frozenset(),
    peers=frozenset(),
    far={},
    strangers=frozenset(),
    hosts={},
    returns={},
    machine=frozenset(),
    source="",
)


def compiled(plan: NetworkPlan, ports: Iterable[Port], *, way_out: bool, direct: bool = False) -> Routing:
    """`way_out`: this host lets guests out at all. `direct`: who comes from outside is known by an address of its own, so the
    VPC's router must find out too, to tell that a guest is gone."""
    underlays = {*plan.hosts, *(one.underlay for one in plan.neighbours), *(one.underlay for one in plan.nats)} - {""}
    macs = {underlay: tunnel_mac(underlay) for underlay in underlays if underlay != plan.underlay}
    numbers = _numbers({_table_name(subnet) for subnet in plan.subnets}, TABLES)
    backs = _numbers(macs, HOST_TABLES)
    routes = {(MAIN, _prefix(cidr), 0): UNREACHABLE for cidr in plan.ranges}
    routes[MAIN, "default", 0] = _OUT if direct and plan.internet else UNREACHABLE
    marks: dict[str, int] = {}
    far = {address: macs[one.underlay] for one in plan.neighbours for address in one.addresses if one.underlay in macs}
    strangers = {macs[one.underlay] for one in plan.neighbours if not one.source_dest_check and one.underlay in macs}
    subnets = {subnet.id: subnet for subnet in plan.subnets}
    for nat in plan.nats:
        if nat.underlay in macs:
            far[nat.private_ip] = macs[nat.underlay]
            strangers.add(macs[nat.underlay])
        else:
            routes[MAIN, f"{nat.private_ip}/32", 0] = f"dev {nat.device} src {plan.host_address}"
            if nat.subnet_id in subnets:
                marks[nat.device] = numbers[_table_name(subnets[nat.subnet_id])]
    for subnet in {_table_name(one): one for one in plan.subnets}.values():
        number = numbers[_table_name(subnet)]
        routes.update({(number, *key): where for key, where in _table(plan, subnet, macs, way_out)})
    for number in backs.values():
        routes[number, "default", 0] = f"via {_hop(number)} dev {TUNNEL_DEVICE} onlink"
    routing = Routing(
        routes=routes,
        tables=frozenset((*numbers.values(), *backs.values())),
        marks=marks,
        subnets={_prefix(subnet.cidr): numbers[_table_name(subnet)] for subnet in plan.subnets},
        ranges=frozenset(_prefix(cidr) for cidr in plan.ranges),
        peers=frozenset((peer.device, _prefix(cidr)) for peer in plan.peers for cidr in peer.cidrs),
        far=far,
        strangers=frozenset(strangers),
        hosts={mac: underlay for underlay, mac in macs.items()},
        returns={macs[underlay]: number for underlay, number in backs.items()},
        machine=frozenset((MACHINE_ADDRESS, plan.host_address)),
        source=plan.host_address,
    )
    return _with_ports(routing, plan, ports)


def with_port(routing: Routing, plan: NetworkPlan, port: Port) -> Routing:
    """Also for one that is in it already. The routes to its own addresses belong to its tap (drivers/network)."""
    return _with_ports(without_port(routing, port.device), plan, [port])


def _with_ports(routing: Routing, plan: NetworkPlan, ports: Iterable[Port]) -> Routing:
    marks, routes = dict(routing.marks), dict(routing.routes)
    by_id = {subnet.id: subnet for subnet in plan.subnets}
    by_cidr = {subnet.cidr: subnet for subnet in plan.subnets}
    for port in ports:
        subnet = by_id.get(port.subnet_id) or by_cidr.get(port.subnet_cidr)
        if subnet is not None:
            marks[port.device] = routing.subnets[_prefix(subnet.cidr)]
        if port.source_dest_check:
            continue
        for other in plan.subnets:
            for route in other.routes:
                if route.target is Target.INTERFACE and route.target_id == port.id:
                    key = (routing.subnets[_prefix(other.cidr)], _prefix(route.destination), 0)
                    routes[key] = f"via {route.address or port.private_ip} dev {port.device} onlink"
    return msgspec.structs.replace(routing, marks=marks, routes=routes)


def without_port(routing: Routing, device: str) -> Routing:
    if device not in routing.marks:
        return routing
    marks = {name: mark for name, mark in routing.marks.items() if name != device}
    routes = {key: where for key, where in routing.routes.items() if _device(where) != device}
    return msgspec.structs.replace(routing, marks=marks, routes=routes)


def through(routing: Routing, device: str) -> list[str]:
    """The commands for the routes through a device: they went with it when it was made anew."""
    return [_put(key, where) for key, where in routing.routes.items() if _device(where) == device]


def puts(old: Routing, new: Routing) -> tuple[list[str], list[str]]:
    """(commands for `ip -batch`, for `bridge -batch`): what `new` has and `old` has not, nothing used before it is there."""
    bridge = [
        f"fdb replace {mac} dev {VXLAN_DEVICE} {_end(underlay)} self permanent"
        for mac, underlay in new.hosts.items()
        if old.hosts.get(mac) != underlay
    ]
    lines = [
        f"neigh replace {_hop(number)} lladdr {mac} dev {TUNNEL_DEVICE} nud permanent"
        for mac, number in new.returns.items()
        if old.returns.get(mac) != number
    ]
    for address, mac in new.far.items():
        if old.far.get(address) != mac:
            lines.append(f"neigh replace {address} lladdr {mac} dev {TUNNEL_DEVICE} nud permanent")
            source = "" if ":" in address else f" src {new.source}"
            lines.append(f"route replace {_alone(address)} dev {TUNNEL_DEVICE}{source}")
    lines += [_put(key, where) for key, where in new.routes.items() if old.routes.get(key) != where]
    lines += [f"rule add {_rule(number)}" for number in sorted(new.tables - old.tables)]
    return lines, bridge


def drops(old: Routing, new: Routing) -> tuple[list[str], list[str]]:
    """What `old` had and `new` has not. Each may have gone already, with its device."""
    bridge = [
        f"fdb del {mac} dev {VXLAN_DEVICE} {_end(underlay)} self" for mac, underlay in old.hosts.items() if mac not in new.hosts
    ]
    lines = [f"rule del {_rule(number)}" for number in sorted(old.tables - new.tables)]
    for (table, destination, metric), where in old.routes.items():
        if (table, destination, metric) not in new.routes:
            lines.append("route del " + _route((table, destination, metric), where))
    for address in old.far:
        if address not in new.far:
            # By its device: the address may be a tap's by now.
            lines.append(f"route del {_alone(address)} dev {TUNNEL_DEVICE}")
            lines.append(f"neigh del {address} dev {TUNNEL_DEVICE}")
    lines += [f"neigh del {_hop(number)} dev {TUNNEL_DEVICE}" for mac, number in old.returns.items() if mac not in new.returns]
    return lines, bridge


def ruleset(routing: Routing) -> str:
    """What the kernel's packet filter has to mark and to believe: all of it, in the place of whatever was there."""
    lines = [f"{verb} table {table}" for table in (_TABLE, _TABLE_V6) for verb in ("add", "delete", "add")]
    lines += [f"add {text.format(f'{_table_of(name)} {name}')}" for name, text in _COLLECTIONS.items()]
    for table, chains in ((_TABLE, _CHAINS), (_TABLE_V6, _CHAINS_V6)):
        for head, rules in chains.items():
            lines.append(f"add chain {table} {head}")
            lines += [f"add rule {table} {head.split(' ', 1)[0]} {rule}" for rule in rules]
    return "\n".join((*lines, *_change(EMPTY, routing))) + "\n"


def change(old: Routing, new: Routing) -> str:
    lines = list(_change(old, new))
    return "\n".join(lines) + "\n" if lines else ""


def _change(old: Routing, new: Routing) -> Iterator[str]:
    before, after = _elements(old), _elements(new)
    for name in _COLLECTIONS:
        was, now = before[name], after[name]
        gone = sorted(key for key in was if now.get(key) != was[key])
        came = sorted(f"{key} : {value}" if value else key for key, value in now.items() if was.get(key) != value)
        if gone:
            yield f"delete element {_table_of(name)} {name} {{ {', '.join(gone)} }}"
        if came:
            yield f"add element {_table_of(name)} {name} {{ {', '.join(came)} }}"


def _elements(routing: Routing) -> dict[str, dict[str, str]]:
    """Collection -> key -> value, "" in a set."""
    far = {f"{mac} . {address}": "" for address, mac in routing.far.items() if ":" not in address}
    far.update({f"{mac} . {address}": "" for mac in routing.hosts for address in routing.machine})
    return {
        "alto_marks": {f'"{device}"': str(mark) for device, mark in routing.marks.items()},
        "alto_subnets": {cidr: str(mark) for cidr, mark in routing.subnets.items()},
        "alto_ranges": dict.fromkeys(routing.ranges, ""),
        "alto_peers": dict.fromkeys((f'"{device}" . {cidr}' for device, cidr in routing.peers), ""),
        "alto_far": far,
        "alto_far_peers": dict.fromkeys((f"{mac} . {cidr}" for mac in routing.hosts for _, cidr in routing.peers), ""),
        "alto_strangers": dict.fromkeys(routing.strangers, ""),
        "alto_machine": dict.fromkeys(routing.machine, ""),
        "alto_returns": {mac: str(number) for mac, number in routing.returns.items()},
        # A zone has 16 bits, and 0 is everybody's.
        "alto_zones": {mac: str(number % 0xFFFF + 1) for mac, number in routing.returns.items()},
        "alto_far_v6": {f"{mac} . {address}": "" for address, mac in routing.far.items() if ":" in address},
    }


def _table_of(collection: str) -> str:
    return _TABLE_V6 if collection == "alto_far_v6" else _TABLE


def _table(
    plan: NetworkPlan, subnet: SubnetPlan, macs: Collection[str], way_out: bool
) -> Iterator[tuple[tuple[str, int], str]]:
    """(destination, metric) -> where, of the subnet's table."""
    yield ("default", FALLBACK), UNREACHABLE
    for cidr in plan.ranges:
        yield (_prefix(cidr), 0), THROW
    machine, best = IPv4Address(MACHINE_ADDRESS), None
    for route in subnet.routes:
        network = IPv4Network(route.destination, strict=False)
        if machine in network and (best is None or network.prefixlen > best[0]):
            best = (network.prefixlen, route.target)
        where = _where(plan, route, macs, way_out)
        if where is not None:
            yield (_prefix(route.destination), 0), where
        # Behind what goes with a machine, and alone for what is not there.
        yield (_prefix(route.destination), FALLBACK), UNREACHABLE
    if best is not None and best[1] is Target.INTERNET:
        yield (f"{MACHINE_ADDRESS}/32", 0), f"dev {UPLINK_DEVICE}"


def _where(plan: NetworkPlan, route: RoutePlan, macs: Collection[str], way_out: bool) -> str | None:
    """None: nowhere, or through a port of this host, which `with_port` adds."""
    match route.target:
        case Target.INTERNET:
            return _OUT if way_out else None
        case Target.NAT:
            nat = next((one for one in plan.nats if one.id == route.target_id), None)
            if nat is None:
                return None
            device = TUNNEL_DEVICE if nat.underlay in macs else nat.device
            return f"via {nat.private_ip} dev {device} onlink"
        case Target.PEERING:
            peer = next((one for one in plan.peers if one.id == route.target_id), None)
            return f"via {PEER_HOP} dev {peer.device} onlink" if peer is not None else None
        case Target.INTERFACE:
            far = next((one for one in plan.neighbours if one.interface_id == route.target_id), None)
            if far is None or far.source_dest_check or far.underlay not in macs:
                return None
            return f"via {far.addresses[0]} dev {TUNNEL_DEVICE} onlink"
    return None


def _put(key: tuple[int, str, int], where: str) -> str:
    return "route replace " + _route(key, where)


def _route(key: tuple[int, str, int], where: str) -> str:
    table, destination, metric = key
    what = f"{where} {destination}" if where in (UNREACHABLE, THROW) else f"{destination} {where}"
    return f"{what} table {table}{f' metric {metric}' if metric else ''}"


def _rule(number: int) -> str:
    preference = RETURN_PREFERENCE if number >= HOST_TABLES else TABLE_PREFERENCE
    return f"pref {preference} fwmark {number:#x} lookup {number}"


def _device(where: str) -> str:
    words = where.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def _hop(number: int) -> str:
    """What stands for a host as a next hop: of class E, which no packet has as its address."""
    return str(IPv4Address(241 * 2**24 + number % 2**24))


def _end(underlay: str) -> str:
    address, _, port = underlay.rpartition(":")
    return f"dst {address} port {port}"


def _table_name(subnet: SubnetPlan) -> str:
    return subnet.route_table_id or subnet.id


def _numbers(names: Iterable[str], base: int) -> dict[str, int]:
    """A number for each that stays the same whatever others there are, but for one in 2^28 that another had first."""
    taken: dict[str, int] = {}
    used: set[int] = set()
    for name in sorted(names):
        number = int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest()) % SPREAD
        while base + number in used:
            number = (number + 1) % SPREAD
        used.add(base + number)
        taken[name] = base + number
    return taken


def _alone(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _prefix(cidr: str) -> str:
    """As the kernel's tools write it."""
    network = IPv4Network(cidr, strict=False)
    return "default" if network.prefixlen == 0 else str(network)
