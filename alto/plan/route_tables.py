"""A subnet's route table as the kernel of one host has it: where each of its routes leads from there. Same input, same text.

Its numbers, who is marked with them, and what one port or neighbour makes different: routes.py, whose head says how it all
works. The invariant: what no route names, and a route whose target is gone, is unreachable; it does not fall back.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network

from alto.model.network_plans import TUNNEL_DEVICE, NetworkPlan, RoutePlan, SubnetPlan
from alto.model.networks import MACHINE_ADDRESS, MACHINE_ADDRESS_V6, UPLINK_DEVICE
from alto.model.routing import Target

FALLBACK = 4096  # metric of the black hole behind a route whose device goes with its machine
PEER_HOP, PEER_HOP_V6 = "169.254.169.251", "fe80::fb"  # whoever is at the other end of a peering's device
UNREACHABLE, THROW = "unreachable", "throw"
DEFAULT, DEFAULT_V6 = "default", "::/0"
V4, V6 = 4, 6
BY_UPLINK = {
    V4: f"via {MACHINE_ADDRESS} dev {UPLINK_DEVICE} onlink",
    V6: f"via {MACHINE_ADDRESS_V6} dev {UPLINK_DEVICE} onlink",
}


def subnet_table(
    plan: NetworkPlan, subnet: SubnetPlan, macs: Collection[str], out: Mapping[int, bool]
) -> Iterator[tuple[tuple[str, int], str]]:
    """(destination, metric) -> where, of the subnet's table."""
    for everything in defaults_of(plan):
        yield (everything, FALLBACK), UNREACHABLE
    for cidr in (*plan.ranges, *plan.ranges_v6):
        yield (prefix(cidr), 0), THROW
    for route in subnet.routes:
        if not is_spoken(plan, route.destination):
            continue
        where = where_to(plan, route, macs, out)
        if where is not None:
            yield (prefix(route.destination), 0), where
        # Behind what goes with a machine, and alone for what is not there.
        yield (prefix(route.destination), FALLBACK), UNREACHABLE
    for machine in (MACHINE_ADDRESS, MACHINE_ADDRESS_V6):
        if is_spoken(plan, machine) and leads_to_machine(subnet, machine):
            yield (alone(machine), 0), f"dev {UPLINK_DEVICE}"


def leads_to_machine(subnet: SubnetPlan, machine: str) -> bool:
    """Whether it goes where the internet goes."""
    address = ip_address(machine)
    ways = [one for one in subnet.routes if address in ip_network(one.destination, strict=False)]
    best = max(ways, key=lambda one: ip_network(one.destination, strict=False).prefixlen, default=None)
    return best is not None and best.target is Target.INTERNET


def reached_v6(plan: NetworkPlan, addresses: Iterable[str], device: str) -> dict[str, str]:
    """Those of IPv6 among `addresses` that this machine reaches: the route table of their subnet leads to it."""
    found = {}
    for address in addresses:
        if ":" in address and plan.ranges_v6 and plan.internet:
            subnet = next((one for one in plan.subnets if one.cidr_v6 and ip_address(address) in ip_network(one.cidr_v6)), None)
            if subnet is not None and leads_to_machine(subnet, MACHINE_ADDRESS_V6):
                found[address] = device
    return found


def leaves_v6(plan: NetworkPlan) -> bool:
    """Whether a route of IPv6 leads into the world, of any subnet: a router in one may carry for others."""
    out = (Target.INTERNET, Target.EGRESS_ONLY)
    routes = (route for subnet in plan.subnets for route in subnet.routes)
    return bool(plan.ranges_v6) and any(route.target in out and ":" in route.destination for route in routes)


def where_to(plan: NetworkPlan, route: RoutePlan, macs: Collection[str], out: Mapping[int, bool]) -> str | None:
    """None: nowhere, or through a port of this host, which `with_port` adds."""
    v6 = ":" in route.destination
    match route.target:
        case Target.INTERNET | Target.EGRESS_ONLY:
            family = V6 if v6 else V4
            return BY_UPLINK[family] if out[family] else None
        case Target.NAT:
            nat = next((one for one in plan.nats if one.id == route.target_id), None)
            if nat is None or v6:
                return None
            device = TUNNEL_DEVICE if nat.underlay in macs else nat.device
            return f"via {nat.private_ip} dev {device} onlink"
        case Target.PEERING:
            peer = next((one for one in plan.peers if one.id == route.target_id), None)
            return f"via {PEER_HOP_V6 if v6 else PEER_HOP} dev {peer.device} onlink" if peer is not None else None
        case Target.INTERFACE:
            far = next((one for one in plan.neighbours if one.interface_id == route.target_id), None)
            if far is None or far.source_dest_check or far.underlay not in macs:
                return None
            hop = route.address if v6 else far.addresses[0]
            return f"via {hop} dev {TUNNEL_DEVICE} onlink" if hop in far.addresses else None
    return None


def defaults_of(plan: NetworkPlan) -> tuple[str, ...]:
    return (DEFAULT, DEFAULT_V6) if plan.ranges_v6 else (DEFAULT,)


def is_spoken(plan: NetworkPlan, cidr: str) -> bool:
    """Whether the VPC has the family of this address or range."""
    return ":" not in cidr or bool(plan.ranges_v6)


def ranges_of(plan: NetworkPlan, subnet: SubnetPlan) -> list[str]:
    return [cidr for cidr in (subnet.cidr, subnet.cidr_v6) if cidr is not None and is_spoken(plan, cidr)]


def alone(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def prefix(cidr: str) -> str:
    """As the kernel's tools write it; but everything of IPv6 by its number, from which they know the family."""
    network = ip_network(cidr, strict=False)
    return DEFAULT if str(network) == "0.0.0.0/0" else str(network)
