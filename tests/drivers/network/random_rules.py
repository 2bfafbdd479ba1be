"""Random networks for the packet oracle, the flows to try in them, and the same networks in the words of the product.

A seed makes a network on the same ten interfaces, two of them in a peered VPC, so that ports are plugged once and only rules
are swapped. Most have an address of IPv6 too. Subnet 1 leaves through a NAT gateway in subnet 2. Of IPv6, subnet 0 has an
internet gateway, subnet 1 an egress-only one, and subnet 2 no way out. Two interfaces are routers now and then: their source is
not checked, and routes lead to an address of each family behind each.
"""

import random
from ipaddress import IPv6Address

from alto.model.acls import AclEntry
from alto.model.instances import Nic
from alto.model.network_plans import AclPlan, NatPlan, NetworkPlan, PeerPlan, Port, PortAddress, RoutePlan, SubnetPlan
from alto.model.networks import Permission, SecurityGroup
from alto.model.routing import Target
from alto.plan.overlays import Resident
from alto.plan.trace import End, Flow
from tests.drivers.network.oracle import ANY, Entry, Interface, Network, Rule
from tests.drivers.network.wires import ECHO, ECHO_V6, ICMP, ICMPV6, TCP, TIMESTAMP, UDP, Packet

MACHINE = "169.254.169.252"  # who a guest sees when a connection came to its public address (ADR 4)
MACHINE_V6 = "fd00:ec2::252"  # the same of IPv6 (ADR 14)
WORLD, WORLD_V6 = "203.0.113.7", "2001:db8:99::7"
SUBNETS = {"subnet-0": "10.77.0.0/24", "subnet-1": "10.77.1.0/24", "subnet-2": "10.77.2.0/24"}
SUBNETS_V6 = {"subnet-0": "fd00:a:0:0::/64", "subnet-1": "fd00:a:0:1::/64", "subnet-2": "fd00:a:0:2::/64"}
FAR = {"subnet-far": "10.78.0.0/24"}  # of the other VPC
FAR_V6 = {"subnet-far": "fd00:b:0:0::/64"}
RANGES_OF = {"vpc-1": "10.77.0.0/16", "vpc-2": "10.78.0.0/16"}
RANGES_V6_OF = {"vpc-1": "fd00:a::/56", "vpc-2": "fd00:b::/56"}
WAYS_V6 = {"subnet-0": "both", "subnet-1": "out"}
PUBLIC = {"10.77.0.11": "127.64.0.5", "10.77.2.16": "127.64.0.6"}  # private -> public
NAT = NatPlan(id="nat-00000000000000001", subnet_id="subnet-2", private_ip="10.77.2.200", public_ip="127.64.0.9")
BEHIND = {"10.99.0.3": f"eni-{3:017x}", "10.99.0.5": f"eni-{5:017x}"}
BEHIND_V6 = {"fd00:99::3": f"eni-{3:017x}", "fd00:99::5": f"eni-{5:017x}"}
PEERING = "pcx-00000000000000001"
GROUPS = [f"sg-{letter}" for letter in "abcdef"]
FAR_GROUPS = ["sg-x", "sg-y"]
LISTS = ["pl-a", "pl-b", "pl-c"]  # the last one is of IPv6
ESP = 50
SERVICES = [22, 80, 443, 8080]
RANGES = [(80, 80), (22, 22), (22, 80), (80, 443), (0, 65535), (ANY, ANY), (443, 8080)]
EPHEMERAL = 20000  # and above: a flow's own port
CIDRS = [
    "0.0.0.0/0",
    "0.0.0.0/0",
    "10.77.0.0/16",
    "10.77.0.0/24",
    "10.77.1.0/24",
    "10.77.0.8/29",
    "10.77.1.12/30",
    "10.77.0.11/32",
    "10.77.2.16/32",
    "10.78.0.0/16",
    "10.99.0.0/16",
    "10.77.2.200/32",
    "203.0.113.0/24",
    "169.254.169.252/32",
]


CIDRS_V6 = [
    "::/0",
    "::/0",
    "::/0",
    "fd00:a::/56",
    "fd00:a::/64",
    "fd00:a:0:1::/64",
    "fd00:a:0:2::10/127",
    "fd00:a:0:1::10/125",
    "fd00:a::b/128",
    "fd00:b::/56",
    "fd00:99::/64",
    "2001:db8:99::/48",
    "fd00:ec2::252/128",
]


def interfaces() -> dict[str, Interface]:
    """Two have a second address, one a third; no groups yet."""
    made = {}
    for number in range(8):
        subnet = f"subnet-{number % 3}"
        addresses = [f"10.77.{number % 3}.{11 + number}"]
        addresses += [f"10.77.{number % 3}.{100 + number * 2 + extra}" for extra in range({2: 1, 5: 2}.get(number, 0))]
        id = f"eni-{number:017x}"
        made[id] = Interface(id, subnet, f"02:00:0a:4d:00:{11 + number:02x}", addresses, [])
        # One has none, and one has two.
        v6 = [] if number == 7 else [f"fd00:a:0:{number % 3}::{11 + number:x}"]
        made[id].ipv6 = [str(IPv6Address(text)) for text in v6 + (["fd00:a:0:1::99"] if number == 4 else [])]
    for number in (8, 9):
        id = f"eni-{number:017x}"
        made[id] = Interface(id, "subnet-far", f"02:00:0a:4e:00:{11 + number:02x}", [f"10.78.0.{11 + number}"], [])
        made[id].ipv6 = [f"fd00:b::{11 + number:x}"]
    return made


def vpc_of(one: Interface) -> str:
    return "vpc-2" if one.subnet in FAR else "vpc-1"


def network(seed: int) -> Network:
    chance = random.Random(seed)
    acl_of = {subnet: f"acl-{chance.randrange(3)}" for subnet in SUBNETS} | dict.fromkeys(FAR, "acl-far")
    made = Network(subnets=SUBNETS | FAR, acl_of=acl_of, behind=BEHIND | BEHIND_V6, nat_of={"subnet-1": NAT.subnet_id})
    made.subnets_v6, made.way_of = SUBNETS_V6 | FAR_V6, WAYS_V6
    of_lists = {"pl-a": CIDRS[2:], "pl-b": CIDRS[2:], "pl-c": CIDRS_V6[3:]}
    made.lists = {id: [chance.choice(of_lists[id]) for _ in range(chance.randrange(4))] for id in LISTS}
    made.acls = {id: _entries(chance) for id in ("acl-0", "acl-1", "acl-2", "acl-far")}
    made.groups = {id: _rules(chance) for id in (*GROUPS, *FAR_GROUPS)}
    made.interfaces = interfaces()
    for one in made.interfaces.values():
        here = FAR_GROUPS if one.subnet in FAR else GROUPS
        one.groups = chance.sample(here, chance.choice([1, 1, 2]))
        one.checked = one.id not in BEHIND.values() or chance.random() < 0.3
    return made


def _rules(chance: random.Random) -> list[Rule]:
    everything_out = Rule(True, ANY, ANY, ANY, ("cidr", "0.0.0.0/0"))
    out_v6 = Rule(True, ANY, ANY, ANY, ("cidr", "::/0"))
    rules = [everything_out, out_v6] if chance.random() < 0.7 else [_rule(chance, True) for _ in range(chance.randrange(1, 5))]
    return rules + [_rule(chance, False) for _ in range(chance.randrange(2, 10))]


def _rule(chance: random.Random, egress: bool) -> Rule:
    kind = chance.choice(["cidr", "cidr", "group", "list"])
    peer = chance.choice(
        {"cidr": CIDRS if chance.random() < 0.5 else CIDRS_V6, "group": GROUPS + FAR_GROUPS, "list": LISTS}[kind]
    )
    return Rule(egress, *_traffic(chance), (kind, peer))


def _traffic(chance: random.Random) -> tuple[int, int, int]:
    protocol = chance.choice([TCP, TCP, TCP, UDP, UDP, ICMP, ICMPV6, ESP, ANY])
    if protocol in (TCP, UDP):
        return protocol, *chance.choice(RANGES)
    if protocol == ICMP:
        return protocol, *chance.choice([(ANY, ANY), (ECHO, ANY), (ECHO, 0), (TIMESTAMP, ANY), (ECHO, 1)])
    if protocol == ICMPV6:
        return protocol, *chance.choice([(ANY, ANY), (ECHO_V6, ANY), (ECHO_V6, 0), (ECHO, ANY), (ECHO_V6, 1)])
    return protocol, ANY, ANY


def _entries(chance: random.Random) -> list[Entry]:
    made = []
    for egress in (False, True):
        count = 0 if chance.random() < 0.6 else chance.randrange(1, 6)
        for number in chance.sample(range(1, 90), count):
            protocol, low, high = _traffic(chance)
            if protocol in (TCP, UDP) and chance.random() < 0.3:
                low, high = 1024, 65535
            cidrs = CIDRS if chance.random() < 0.7 else CIDRS_V6
            made.append(Entry(number, egress, chance.random() < 0.5, protocol, low, high, chance.choice(cidrs)))
        if count == 0 or chance.random() < 0.6:
            made.append(Entry(100, egress, True, ANY, ANY, ANY, "0.0.0.0/0"))
            made.append(Entry(101, egress, True, ANY, ANY, ANY, "::/0"))
    chance.shuffle(made)
    return made


def flows(of: Network, seed: int, count: int) -> list[Packet]:
    """Between interfaces, from the world to public addresses, out into the world under a public address or a NAT gateway's, and
    from and to what is behind routers. Each has a number of its own."""
    chance = random.Random(seed + 1_000_000)
    addresses = [address for one in of.interfaces.values() for address in one.addresses]
    addresses_v6 = [address for one in of.interfaces.values() for address in one.ipv6]
    made = []
    for number in range(count):
        source, destination = chance.sample(addresses, 2)
        while of.owner(source) is of.owner(destination):
            source, destination = chance.sample(addresses, 2)
        where = chance.random()
        if where < 0.1:
            source, destination = MACHINE, chance.choice(list(PUBLIC))
        elif where < 0.2:
            source, destination = chance.choice([*PUBLIC, *HIDDEN]), WORLD
        elif where < 0.3:
            source, destination = _routed(of, chance)
        elif where < 0.35:
            # Mostly where somebody may come in.
            public = [address for one in of.interfaces.values() if of.way_of.get(one.subnet) == "both" for address in one.ipv6]
            source, destination = MACHINE_V6, chance.choice(public if chance.random() < 0.8 else addresses_v6)
        elif where < 0.4:
            source, destination = chance.choice(addresses_v6), WORLD_V6
        elif where < 0.45:
            source, destination = _routed(of, chance, v6=True)
        elif where < 0.65:
            source, destination = chance.sample(addresses_v6, 2)
            while of.owner(source) is of.owner(destination):
                source, destination = chance.sample(addresses_v6, 2)
        protocol = chance.choice([TCP, TCP, UDP, UDP, ICMP, ESP])
        if protocol == ESP and (where < 0.45 or any({one.source, one.destination} == {source, destination} for one in made)):
            protocol = TCP  # it has no ports: two of its flows, or one and its like the other way, would be one
        if protocol in (TCP, UDP):
            made.append(Packet(source, destination, protocol, EPHEMERAL + number, chance.choice(SERVICES)))
        elif protocol == ICMP and ":" in source:
            made.append(Packet(source, destination, ICMPV6, EPHEMERAL + number, ECHO_V6))
        elif protocol == ICMP:
            made.append(Packet(source, destination, ICMP, EPHEMERAL + number, chance.choice([ECHO, TIMESTAMP])))
        else:
            made.append(Packet(source, destination, ESP))
    return made


HIDDEN = ["10.77.1.12", "10.77.1.15"]  # behind the NAT gateway


def _routed(of: Network, chance: random.Random, *, v6: bool = False) -> tuple[str, str]:
    """From or to behind a router, to or from another interface, of the router's own subnet too."""
    stranger, router = chance.choice(list((BEHIND_V6 if v6 else BEHIND).items()))
    others = [one for one in of.interfaces.values() if one.subnet not in FAR and one.id != router and (one.ipv6 or not v6)]
    one = chance.choice(others)
    pair = stranger, chance.choice(one.ipv6 if v6 else one.addresses)
    return pair if chance.random() < 0.6 else (pair[1], pair[0])


# The same in the product's words.


def plans_of(of: Network) -> dict[str, NetworkPlan]:
    return {vpc_id: _plan(of, vpc_id) for vpc_id in RANGES_OF}


def _plan(of: Network, vpc_id: str) -> NetworkPlan:
    near, other = vpc_id == "vpc-1", "vpc-2" if vpc_id == "vpc-1" else "vpc-1"
    out = RoutePlan(destination="0.0.0.0/0", target=Target.INTERNET, target_id="igw-1")
    by_nat = RoutePlan(destination="0.0.0.0/0", target=Target.NAT, target_id=NAT.id)
    over = tuple(
        RoutePlan(destination=ranges[other], target=Target.PEERING, target_id=PEERING) for ranges in (RANGES_OF, RANGES_V6_OF)
    )
    out_v6 = {
        "both": (RoutePlan(destination="::/0", target=Target.INTERNET, target_id="igw-1"),),
        "out": (RoutePlan(destination="::/0", target=Target.EGRESS_ONLY, target_id="eigw-1"),),
        "": (),
    }
    routers = tuple(
        RoutePlan(
            destination=address,
            target=Target.INTERFACE,
            target_id=id,
            address=of.interfaces[id].ipv6[0] if ":" in address else of.interfaces[id].addresses[0],
        )
        for address, id in of.behind.items()
    )
    routes = {
        id: (*over, by_nat if id in of.nat_of else out, *out_v6[of.way_of.get(id, "")], *routers) for id in SUBNETS
    } | dict.fromkeys(FAR, over)
    subnets = SUBNETS if near else FAR
    acls = {of.acl_of[id] for id in subnets} | ({"acl-0", "acl-1", "acl-2"} if near else set())
    return NetworkPlan(
        vpc_id=vpc_id,
        region="us-east-1",
        cidr=RANGES_OF[vpc_id],
        ranges_v6=(RANGES_V6_OF[vpc_id],),
        subnets=tuple(
            SubnetPlan(
                id=id,
                cidr=cidr,
                cidr_v6=of.subnets_v6.get(id),
                zone="us-east-1a",
                route_table_id=f"rtb-{id}",
                routes=routes[id],
                acl_id=of.acl_of[id],
            )
            for id, cidr in subnets.items()
        ),
        groups=tuple(_group(of, id, vpc_id) for id in (GROUPS if near else FAR_GROUPS)),
        members={
            id: tuple(sorted(address for one in of.interfaces.values() if id in one.groups for address in one.all))
            for id in (FAR_GROUPS if near else GROUPS)
        },
        prefix_lists={id: tuple(ranges) for id, ranges in of.lists.items()},
        acls=tuple(AclPlan(id=id, entries=tuple(map(_entry, of.acls[id]))) for id in sorted(acls)),
        nats=(NAT,) if near else (),
        peers=(PeerPlan(id=PEERING, vpc_id=other, cidrs=(RANGES_OF[other], RANGES_V6_OF[other])),),
        internet=near,
    )


def _group(of: Network, id: str, vpc_id: str) -> SecurityGroup:
    return SecurityGroup(
        id=id,
        account="000000000000",
        region="us-east-1",
        vpc_id=vpc_id,
        name=id,
        description="",
        permissions=tuple(_permission(id, number, rule) for number, rule in enumerate(of.groups[id])),
    )


def port_of(one: Interface) -> Port:
    last = one.id[-2:]
    address = one.addresses[0]
    return Port(
        id=one.id,
        instance_id=f"i-{last}",
        vpc_id=vpc_of(one),
        subnet_id=one.subnet,
        subnet_cidr=(SUBNETS | FAR)[one.subnet],
        mac=one.mac,
        private_ip=address,
        public_ip=PUBLIC.get(address),
        secondary=tuple(PortAddress(private_ip=other) for other in one.addresses[1:]),
        ipv6=tuple(one.ipv6),
        subnet_cidr_v6=(SUBNETS_V6 | FAR_V6).get(one.subnet),
        hostname=f"ip-{last}.ec2.internal",
        group_ids=tuple(one.groups),
        source_dest_check=one.checked,
    )


def resident_of(one: Interface, host_id: str) -> Resident:
    """Its instance, for whoever is told of it on another host."""
    port = port_of(one)
    nic = Nic(
        interface_id=port.id,
        attachment_id=f"eni-attach-{port.id[4:]}",
        subnet_id=port.subnet_id,
        vpc_id=port.vpc_id,
        mac=port.mac,
        private_ip=port.private_ip,
        public_ip=port.public_ip,
        secondary=port.secondary,
        ipv6=port.ipv6,
        group_ids=port.group_ids,
        source_dest_check=port.source_dest_check,
    )
    return Resident(instance_id=port.instance_id, host_id=host_id, region="us-east-1", hostname=port.hostname, nics=(nic,))


def flow_of(of: Network, packet: Packet) -> Flow:
    sender, receiver = of.at(packet.source), of.owner(packet.destination)
    return Flow(
        source=_end(of, packet.source, sender),
        destination=_end(of, packet.destination, receiver),
        protocol=packet.protocol,
        port=packet.port,
        source_port=packet.source_port,
    )


def routers_of(of: Network) -> list[End]:
    return [_end(of, of.interfaces[id].addresses[0], of.interfaces[id]) for id in BEHIND.values()]


def _end(of: Network, address: str, one: Interface | None) -> End:
    if one is None:
        return End(address=address)
    host = of.host_of.get(one.id, "")
    return End(address=address, port=port_of(one), host_id=host, underlay=f"{host}:1")


def _permission(group_id: str, number: int, rule: Rule) -> Permission:
    kind, peer = rule.peer
    names = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}
    return Permission(
        id=f"sgr-{group_id[3:]}{number}",
        egress=rule.egress,
        protocol=names.get(rule.protocol, str(rule.protocol)),
        from_port=rule.low,
        to_port=rule.high,
        cidr=peer if kind == "cidr" and ":" not in peer else None,
        cidr_v6=peer if kind == "cidr" and ":" in peer else None,
        group_id=peer if kind == "group" else None,
        prefix_list_id=peer if kind == "list" else None,
    )


def _entry(entry: Entry) -> AclEntry:
    ported, icmp = entry.protocol in (TCP, UDP) and entry.low != ANY, entry.protocol in (ICMP, ICMPV6)
    return AclEntry(
        number=entry.number,
        egress=entry.egress,
        allow=entry.allow,
        protocol=str(entry.protocol),
        cidr=entry.cidr if ":" not in entry.cidr else None,
        cidr_v6=entry.cidr if ":" in entry.cidr else None,
        from_port=entry.low if ported else None,
        to_port=entry.high if ported else None,
        icmp_type=entry.low if icmp else None,
        icmp_code=entry.high if icmp else None,
    )
