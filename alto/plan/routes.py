"""Where packets of a VPC go on one host: its subnets' route tables as the kernel has them. Same input, same text: no I/O.

A packet from a guest is marked with the number of its subnet's route table, and a rule leads marked packets to the kernel's
table of that number. What is inside the VPC is "thrown" from there to the main table, which has one route per address; so
the longest prefix wins among all routes, as in EC2, and a route that is longer than the VPC's range wins over it. What no
route names is unreachable at once; so is a route whose target is gone (a black hole): it does not fall back to a shorter one.

* internet gateway: out by the uplink, where only private addresses with a public one pass (drivers/network/uplink.py).
  Connections that came to a public address are answered to MACHINE_ADDRESS, which goes where the internet goes: a subnet
  without such a route cannot be reached. Of IPv6 every address of the VPC may leave, and those in `Routing.reached` are
  reached: an egress-only internet gateway is the same way out, and leads nobody in.
* NAT gateway, interface, peering: the device behind which it is; an interface only if its source/dest check is off.
* other hosts: each private address there has a route into the tunnel and that host's MAC as its neighbour, so nothing is
  flooded or learned. What comes out of the tunnel must have the MAC of a host and an address that lives there, or a peer's: a
  packet enters the peer's VPC on its sender's host, and goes through that VPC's tunnel.
* what a host itself opens inside a VPC (balancers), or brings in from its public addresses, has the same source on each host.
  So a connection remembers by which host it came (its mark and zone), and answers go back there.

`compiled` makes it all; `with_port`, `without_port` and `resettled` say what one port, or those who came, went or changed on
other hosts, make different, at the cost of these: a RoutingPatch. To bring one to the kernel: `puts` (commands), then `change`
(nft), then `drops` (commands, some of whose objects the kernel may have taken away already); then `take` remembers it.
All of it is so in both families, where the VPC has a range of IPv6; else nothing of that one is made (docs/adr/0014).
Deliberately not here: where one route leads (route_tables.py), who may speak with whom (firewall.py), the devices
(drivers/network).
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import TypeVar

from alto.model.network_plans import (
    PEER_DEVICE,
    TUNNEL_DEVICE,
    VXLAN_DEVICE,
    Neighbour,
    NetworkChange,
    NetworkPlan,
    Port,
    RouteCommands,
    Routing,
    RoutingPatch,
    SubnetPlan,
    tunnel_mac,
)
from alto.model.networks import MACHINE_ADDRESS, MACHINE_ADDRESS_V6, UPLINK_DEVICE
from alto.model.routing import Target
from alto.plan.route_tables import (
    BY_UPLINK,
    DEFAULT,
    DEFAULT_V6,
    THROW,
    UNREACHABLE,
    V4,
    V6,
    alone,
    defaults_of,
    is_spoken,
    leaves_v6,
    prefix,
    ranges_of,
    reached_v6,
    subnet_table,
    where_to,
)

MAIN = 254
TABLES, HOST_TABLES = 0x10000000, 0x20000000  # where the numbers of route tables, and of ways back to hosts, begin
SPREAD = 0x10000000
RETURN_PREFERENCE, LOCAL_PREFERENCE, TABLE_PREFERENCE = 10, 20, 100

T = TypeVar("T")

# What ports and neighbours have a part of; the rest is the VPC's and its hosts'.
_MAPS = ("routes", "marks", "claims", "far", "strangers", "reached", "led")
_TABLE = "inet alto_route"
# Where no way out leads, whatever the route table says: what each machine has for itself.
NOWHERE_V6 = "{ ::/16, fd00:ec2::/32, fe80::/10, ff00::/8 }"
# Name -> what it is and its type. Those of IPv6 have the same name with _v6 at its end.
_OF_IPV4: Mapping[str, tuple[str, str]] = {
    "alto_subnets": ("map", "{ type ipv4_addr : mark; flags interval; }"),
    "alto_ranges": ("set", "{ type ipv4_addr; flags interval; }"),
    "alto_peers": ("set", "{ type ifname . ipv4_addr; flags interval; }"),
    "alto_far": ("set", "{ type ether_addr . ipv4_addr; }"),
    "alto_far_peers": ("set", "{ type ether_addr . ipv4_addr; flags interval; }"),
    "alto_machine": ("set", "{ type ipv4_addr; }"),
}
_COLLECTIONS: Mapping[str, tuple[str, str]] = {
    "alto_marks": ("map", "{ type ifname : mark; }"),
    **_OF_IPV4,
    **{f"{name}_v6": (kind, type.replace("ipv4", "ipv6")) for name, (kind, type) in _OF_IPV4.items()},
    "alto_strangers": ("set", "{ type ether_addr; }"),
    "alto_returns": ("map", "{ type ether_addr : mark; }"),
    "alto_zones": ("map", "{ typeof ether saddr : ct zone; }"),
    "alto_reached": ("set", "{ type ipv6_addr; }"),
}
_PEERS = f'iifname "{PEER_DEVICE}*"'
_TUNNEL = f'iifname "{TUNNEL_DEVICE}"'
_OUTSIDE, _OUT = f'meta nfproto ipv6 iifname "{UPLINK_DEVICE}"', f'meta nfproto ipv6 oifname "{UPLINK_DEVICE}"'


def _in_both(rule: str) -> tuple[str, str]:
    """A rule of IPv4, and the same of IPv6."""
    other = re.sub(r"\bip (saddr|daddr)\b", r"ip6 \1", rule)
    return rule, re.sub(rf"@({'|'.join(_OF_IPV4)})\b", r"@\1_v6", other)


_CHAINS: Mapping[str, tuple[str, ...]] = {
    "c_arrived { type filter hook prerouting priority -300; policy accept; }": (
        # Two hosts may open connections with equal names: each has a zone of its own, and answers get ports apart.
        *_in_both(f"{_TUNNEL} ip saddr @alto_machine ct original zone set ether saddr map @alto_zones"),
        *_in_both(f"{_TUNNEL} ether saddr . ip saddr @alto_far accept"),
        *_in_both(f"{_TUNNEL} ether saddr . ip saddr @alto_far_peers accept"),
        *_in_both(f"{_TUNNEL} ether saddr @alto_strangers ip saddr != @alto_ranges ip saddr != @alto_machine accept"),
        f"{_TUNNEL} counter drop",
        # A peering is no way through: not to a third VPC, not to the internet.
        *_in_both(f"{_PEERS} iifname . ip saddr @alto_peers ip daddr @alto_ranges accept"),
        f"{_PEERS} counter drop",
        # Of what taps say, firewall.py is the judge.
        f"{_OUTSIDE} ip6 saddr != @alto_ranges_v6 accept",
        'meta nfproto ipv6 iifname != "tap*" iifname != "lo" counter drop',
    ),
    "c_marked { type filter hook prerouting priority -150; policy accept; }": (
        "ct direction reply ct mark != 0 meta mark set ct mark",
        "ct direction reply ct mark != 0 accept",
        *_in_both(f"{_TUNNEL} ip saddr @alto_machine ct mark set ether saddr map @alto_returns"),
        *_in_both(f"{_TUNNEL} ip daddr != @alto_ranges meta mark set ip saddr map @alto_subnets"),
        "meta mark set iifname map @alto_marks",
    ),
    "c_small { type filter hook forward priority -150; policy accept; }": (
        # The tunnel takes 50 bytes of each packet. Guests that know only 1,500 are told when they begin to speak.
        f'oifname "{TUNNEL_DEVICE}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu',
        f"{_TUNNEL} meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1410",
        f"{_TUNNEL} meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1390",
    ),
    # The border of IPv6; IPv4 has its own where addresses are translated (drivers/network/uplink.py).
    "c_border { type filter hook forward priority 10; policy accept; }": (
        f"{_OUTSIDE} ct state new ip6 daddr != @alto_reached counter reject with icmpv6 type no-route",
        f"{_OUTSIDE} accept",
        f"{_OUT} ct state established,related accept",
        f"{_OUT} ip6 daddr {NOWHERE_V6} counter drop",
        # What a guest says in the name of somebody outside is nobody's here to answer.
        f"{_OUT} ip6 saddr != @alto_ranges_v6 counter drop",
    ),
}


def compiled(
    plan: NetworkPlan, ports: Iterable[Port], *, way_out: bool, way_out_v6: bool = False, direct: bool = False
) -> Routing:
    """`way_out`, `way_out_v6`: this host lets guests out at all. `direct`: who comes from outside is known by an address of its
    own (of IPv4), so the VPC's router must find out too, to tell that a guest is gone."""
    underlays = {*plan.hosts, *(one.underlay for one in plan.neighbours), *(one.underlay for one in plan.nats)} - {""}
    macs = {underlay: tunnel_mac(underlay) for underlay in underlays if underlay != plan.underlay}
    numbers = _numbers({_table_name(subnet) for subnet in plan.subnets}, TABLES)
    backs = _numbers(macs, HOST_TABLES)
    ranges = frozenset(prefix(cidr) for cidr in (*plan.ranges, *plan.ranges_v6))
    routes = {(MAIN, cidr, 0): UNREACHABLE for cidr in ranges}
    routes.update({(MAIN, everything, 0): UNREACHABLE for everything in defaults_of(plan)})
    if direct and plan.internet:
        routes[MAIN, DEFAULT, 0] = BY_UPLINK[V4]
    marks: dict[str, int] = {}
    claims: dict[str, list[tuple[str, str]]] = {}
    strangers: dict[str, set[str]] = {}
    for one in plan.neighbours:
        mac = macs.get(one.underlay, "")
        for address in _claimed(plan, one):
            claims.setdefault(address, []).append((one.interface_id, mac))
        if mac and not one.source_dest_check:
            strangers.setdefault(mac, set()).add(one.interface_id)
    subnets = {subnet.id: subnet for subnet in plan.subnets}
    for nat in plan.nats:
        if nat.underlay in macs:
            for own in nat.addresses:
                claims.setdefault(own.private_ip, []).append((nat.id, macs[nat.underlay]))
            strangers.setdefault(macs[nat.underlay], set()).add(nat.id)
        else:
            way = f"dev {nat.device} src {plan.host_address}"
            routes.update({(MAIN, f"{own.private_ip}/32", 0): way for own in nat.addresses})
            if nat.subnet_id in subnets:
                marks[nat.device] = numbers[_table_name(subnets[nat.subnet_id])]
    out = {V4: way_out, V6: way_out_v6}
    for subnet in {_table_name(one): one for one in plan.subnets}.values():
        number = numbers[_table_name(subnet)]
        routes.update({(number, *key): where for key, where in subnet_table(plan, subnet, macs, out)})
    for number in backs.values():
        for everything in defaults_of(plan):
            routes[number, everything, 0] = f"via {_hop(number, v6=everything == DEFAULT_V6)} dev {TUNNEL_DEVICE} onlink"
    both = frozenset((*numbers.values(), *backs.values()))
    routing = Routing(
        routes=routes,
        tables=both,
        tables_v6=both if plan.ranges_v6 else frozenset(),
        marks=marks,
        subnets={prefix(cidr): numbers[_table_name(one)] for one in plan.subnets for cidr in ranges_of(plan, one)},
        ranges=ranges,
        peers=frozenset((peer.device, prefix(cidr)) for peer in plan.peers for cidr in peer.cidrs if is_spoken(plan, cidr)),
        claims={address: tuple(sorted(claimed)) for address, claimed in claims.items()},
        far=_believed(claims),
        strangers={mac: frozenset(whose) for mac, whose in strangers.items()},
        hosts={mac: underlay for underlay, mac in macs.items()},
        returns={macs[underlay]: number for underlay, number in backs.items()},
        machine=frozenset((MACHINE_ADDRESS, plan.host_address, *([MACHINE_ADDRESS_V6] if plan.ranges_v6 else []))),
        reached=reached_v6(plan, (address for one in plan.neighbours if one.entered_here for address in one.addresses), ""),
        source=plan.host_address,
    )
    routing.led.update(routing.reached)
    part_of = _parts(routing, plan)
    for port in (*ports, *plan.endpoint_ports):
        _merge(routing, part_of(port))
    return routing


def with_port(routing: Routing, plan: NetworkPlan, port: Port) -> RoutingPatch:
    """Also for one that is in it already. The routes to its own addresses belong to its tap (drivers/network)."""
    fresh = _parts(routing, plan)(port)
    patch = without_port(routing, plan, port.device)
    # What it takes over from somebody else is no news of its own.
    routes = {key: routing.routes[key] for key in fresh.routes if key in routing.routes}
    taken_over = Routing(routes=routes, reached=_part(routing.reached, port.ipv6), led=_part(routing.led, port.ipv6))
    _merge(patch.was, taken_over)
    _merge(patch.will_be, fresh)
    return patch


def without_port(routing: Routing, plan: NetworkPlan, device: str) -> RoutingPatch:
    reached, led = ({one: its for one, its in these.items() if its == device} for these in (routing.reached, routing.led))
    was = Routing(
        marks={device: routing.marks[device]} if device in routing.marks else {},
        routes={key: where for key, where in routing.routes.items() if device in where and _device(where) == device},
        reached=reached,
        led=led,
        source=routing.source,
    )
    # Where a machine is on its way from here to another host, the other has it from now on.
    entered = _entered(plan, reached.keys() | led.keys(), routing.claims)
    routes = {}
    for subnet in plan.subnets if was.routes else ():
        for route in subnet.routes:
            key = (routing.subnets[prefix(subnet.cidr)], prefix(route.destination), 0)
            where = where_to(plan, route, plan.hosts, {}) if key in was.routes and route.target is Target.INTERFACE else None
            if where is not None:
                routes[key] = where
    return RoutingPatch(was=was, will_be=Routing(routes=routes, reached=entered, led=dict(entered), source=routing.source))


def resettled(routing: Routing, before: NetworkPlan, plan: NetworkPlan, change: NetworkChange) -> RoutingPatch | None:
    """What is different when the neighbours of `before` become those of `plan`, by `change`. None when that may be more than
    their own addresses: a host that is new or no more, or a route that leads through one of them."""
    fresh = {one.interface_id: one for one in change.neighbours}
    touched = {*change.gone_neighbours, *fresh}
    both = (*before.find_neighbours(touched), *change.neighbours)
    if any(one.underlay not in plan.hosts for one in both) or _lead_through(plan, touched, both):
        return None
    macs = {one.underlay: tunnel_mac(one.underlay) for one in both}
    claims: dict[str, list[tuple[str, str]]] = {address: [] for one in both for address in _claimed(plan, one)}
    for address, claimed in claims.items():
        claimed += [each for each in routing.claims.get(address, ()) if each[0] not in touched]
    for one in change.neighbours:
        for address in _claimed(plan, one):
            claims[address].append((one.interface_id, macs[one.underlay]))
    strangers = {mac: routing.strangers.get(mac, frozenset()) - touched for mac in macs.values()}
    for one in change.neighbours:
        if not one.source_dest_check:
            strangers[macs[one.underlay]] |= {one.interface_id}
    # What a port here has by now stays its own.
    ours = {address for address in claims if routing.reached.get(address) or routing.led.get(address)}
    entered = _entered(plan, claims.keys() - ours, claims)
    was = Routing(
        claims=_part(routing.claims, claims),
        far=_part(routing.far, claims),
        strangers=_part(routing.strangers, strangers),
        reached=_part(routing.reached, claims.keys() - ours),
        led=_part(routing.led, claims.keys() - ours),
        source=routing.source,
    )
    will_be = Routing(
        claims={address: tuple(sorted(claimed)) for address, claimed in claims.items() if claimed},
        far=_believed(claims),
        strangers={mac: whose for mac, whose in strangers.items() if whose},
        reached=entered,
        led=dict(entered),
        source=routing.source,
    )
    return RoutingPatch(was=was, will_be=will_be)


def take(routing: Routing, patch: RoutingPatch) -> Routing:
    """What is so now. `routing` is changed in place, unless the patch has it whole."""
    if patch.was is routing:
        return patch.will_be
    for name in _MAPS:
        values, was, will_be = (getattr(one, name) for one in (routing, patch.was, patch.will_be))
        for key in was.keys() - will_be.keys():
            values.pop(key, None)
    _merge(routing, patch.will_be)
    return routing


def _merge(routing: Routing, part: Routing) -> None:
    for name in _MAPS:
        getattr(routing, name).update(getattr(part, name))


def _part(values: Mapping[str, T], keys: Iterable[str]) -> dict[str, T]:
    return {key: values[key] for key in keys if key in values}


def _parts(routing: Routing, plan: NetworkPlan) -> Callable[[Port], Routing]:
    """What a port has of it."""
    by_id = {subnet.id: subnet for subnet in plan.subnets}
    by_cidr = {subnet.cidr: subnet for subnet in plan.subnets}
    leaves = leaves_v6(plan)

    def of(port: Port) -> Routing:
        reached = reached_v6(plan, port.ipv6, port.device)
        part = Routing(reached=reached, led=dict.fromkeys(port.ipv6, port.device) if leaves else dict(reached))
        subnet = by_id.get(port.subnet_id) or by_cidr.get(port.subnet_cidr)
        if subnet is not None:
            part.marks[port.device] = routing.subnets[prefix(subnet.cidr)]
        for other in plan.subnets if not port.source_dest_check else ():
            for route in other.routes:
                if route.target is Target.INTERFACE and route.target_id == port.id and is_spoken(plan, route.destination):
                    hop = route.address or (port.private_ip if ":" not in route.destination else None)
                    key = (routing.subnets[prefix(other.cidr)], prefix(route.destination), 0)
                    if hop is not None:
                        part.routes[key] = f"via {hop} dev {port.device} onlink"
        return part

    return of


def _claimed(plan: NetworkPlan, neighbour: Neighbour) -> list[str]:
    return [address for address in neighbour.addresses if is_spoken(plan, address)]


def _believed(claims: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Address -> the MAC behind which it is. Of several that say to have it, a NAT gateway, and always the same."""
    found = {address: max((one for one in claimed if one[1]), default=("", "")) for address, claimed in claims.items()}
    return {address: mac for address, (_, mac) in found.items() if mac}


def _entered(plan: NetworkPlan, addresses: Iterable[str], claims: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Those of IPv6 whose neighbour is entered here."""
    entered = []
    for address in addresses:
        owners = plan.find_neighbours(id for id, _ in claims.get(address, ()))
        if any(one.entered_here for one in owners):
            entered.append(address)
    return reached_v6(plan, entered, "")


def _lead_through(plan: NetworkPlan, interface_ids: Collection[str], neighbours: Iterable[Neighbour]) -> bool:
    """Whether a route leads to one of these interfaces, and may."""
    if all(one.source_dest_check for one in neighbours):
        return False
    routes = (route for subnet in plan.subnets for route in subnet.routes)
    return any(route.target is Target.INTERFACE and route.target_id in interface_ids for route in routes)


def through(patch: RoutingPatch, device: str) -> list[str]:
    """The commands for the routes through a device: they went with it when it was made anew."""
    return [_put(key, where) for key, where in patch.will_be.routes.items() if _device(where) == device]


def puts(patch: RoutingPatch) -> RouteCommands:
    """What comes, nothing used before it is there."""
    old, new = patch.was, patch.will_be
    bridge = [
        f"fdb replace {mac} dev {VXLAN_DEVICE} {_end(underlay)} self permanent"
        for mac, underlay in new.hosts.items()
        if old.hosts.get(mac) != underlay
    ]
    lines = [
        f"neigh replace {_hop(number, v6=v6)} lladdr {mac} dev {TUNNEL_DEVICE} nud permanent"
        for v6, returns, before in _returns(new, old)
        for mac, number in returns.items()
        if before.get(mac) != number
    ]
    for address, mac in new.far.items():
        if old.far.get(address) != mac:
            lines.append(f"neigh replace {address} lladdr {mac} dev {TUNNEL_DEVICE} nud permanent")
            source = "" if ":" in address else f" src {new.source}"
            lines.append(f"route replace {alone(address)} dev {TUNNEL_DEVICE}{source}")
    lines += [_put(key, where) for key, where in new.routes.items() if old.routes.get(key) != where]
    lines += [f"rule add {_rule(number)}" for number in sorted(new.tables - old.tables)]
    v6 = [f"rule add {_rule(number)}" for number in sorted(new.tables_v6 - old.tables_v6)]
    return RouteCommands(ip=lines, ip_v6=v6, bridge=bridge)


def drops(patch: RoutingPatch) -> RouteCommands:
    """What goes. Each may have gone already, with its device."""
    old, new = patch.was, patch.will_be
    bridge = [
        f"fdb del {mac} dev {VXLAN_DEVICE} {_end(underlay)} self" for mac, underlay in old.hosts.items() if mac not in new.hosts
    ]
    v6 = [f"rule del {_rule(number)}" for number in sorted(old.tables_v6 - new.tables_v6)]
    lines = [f"rule del {_rule(number)}" for number in sorted(old.tables - new.tables)]
    for (table, destination, metric), where in old.routes.items():
        if (table, destination, metric) not in new.routes:
            lines.append("route del " + _route((table, destination, metric), where))
    for address in old.far:
        if address not in new.far:
            # By its device: the address may be a tap's by now.
            lines.append(f"route del {alone(address)} dev {TUNNEL_DEVICE}")
            lines.append(f"neigh del {address} dev {TUNNEL_DEVICE}")
    lines += [
        f"neigh del {_hop(number, v6=of_v6)} dev {TUNNEL_DEVICE}"
        for of_v6, returns, after in _returns(old, new)
        for mac, number in returns.items()
        if mac not in after
    ]
    return RouteCommands(ip=lines, ip_v6=v6, bridge=bridge)


def _returns(one: Routing, other: Routing) -> Iterator[tuple[bool, Mapping[str, int], Mapping[str, int]]]:
    """Whether of IPv6, and the `returns` of both in that family."""
    yield False, one.returns, other.returns
    yield True, one.returns if one.tables_v6 else {}, other.returns if other.tables_v6 else {}


def ruleset(routing: Routing) -> str:
    """What the kernel's packet filter has to mark and to believe: all of it, in the place of whatever was there."""
    lines = [f"{verb} table {_TABLE}" for verb in ("add", "delete", "add")]
    lines += [f"add {kind} {_TABLE} {name} {type}" for name, (kind, type) in _COLLECTIONS.items()]
    for head, rules in _CHAINS.items():
        lines.append(f"add chain {_TABLE} {head}")
        lines += [f"add rule {_TABLE} {head.split(' ', 1)[0]} {rule}" for rule in rules]
    return "\n".join((*lines, *_change(Routing(), routing))) + "\n"


def change(patch: RoutingPatch) -> str:
    lines = list(_change(patch.was, patch.will_be))
    return "\n".join(lines) + "\n" if lines else ""


def _change(old: Routing, new: Routing) -> Iterator[str]:
    before, after = _elements(old), _elements(new)
    for name in _COLLECTIONS:
        was, now = before[name], after[name]
        gone = sorted(key for key in was if now.get(key) != was[key])
        came = sorted(f"{key} : {value}" if value else key for key, value in now.items() if was.get(key) != value)
        if gone:
            yield f"delete element {_TABLE} {name} {{ {', '.join(gone)} }}"
        if came:
            yield f"add element {_TABLE} {name} {{ {', '.join(came)} }}"


def _elements(routing: Routing) -> dict[str, dict[str, str]]:
    """Collection -> key -> value, "" in a set."""
    far = [(mac, address) for address, mac in routing.far.items()]
    far += [(mac, address) for mac in routing.hosts for address in routing.machine]
    found: dict[str, dict[str, str]] = {
        "alto_marks": {f'"{device}"': str(mark) for device, mark in routing.marks.items()},
        "alto_strangers": dict.fromkeys(routing.strangers, ""),
        "alto_returns": {mac: str(number) for mac, number in routing.returns.items()},
        # A zone has 16 bits, and 0 is everybody's.
        "alto_zones": {mac: str(number % 0xFFFF + 1) for mac, number in routing.returns.items()},
        "alto_reached": dict.fromkeys(routing.reached, ""),
    }
    of_both: dict[str, dict[str, str]] = {
        "alto_subnets": {cidr: str(mark) for cidr, mark in routing.subnets.items()},
        "alto_ranges": dict.fromkeys(routing.ranges, ""),
        "alto_peers": dict.fromkeys((f'"{device}" . {cidr}' for device, cidr in routing.peers), ""),
        "alto_far": dict.fromkeys((f"{mac} . {address}" for mac, address in far), ""),
        "alto_far_peers": dict.fromkeys((f"{mac} . {cidr}" for mac in routing.hosts for _, cidr in routing.peers), ""),
        "alto_machine": dict.fromkeys(routing.machine, ""),
    }
    for name, elements in of_both.items():
        # A MAC has colons too.
        v6 = {key: value for key, value in elements.items() if ":" in key.split(" . ")[-1]}
        found[f"{name}_v6"] = v6
        found[name] = {key: value for key, value in elements.items() if key not in v6}
    return found


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


def _hop(number: int, *, v6: bool = False) -> str:
    """What stands for a host as a next hop: of class E, or of no link, which no packet has as its address."""
    return f"fe80::{number >> 16:x}:{number & 0xFFFF:x}" if v6 else str(IPv4Address(241 * 2**24 + number % 2**24))


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
