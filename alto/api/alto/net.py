"""`/alto/v1/net/trace`: what becomes of a flow between two places, and which rule decides (alto.plan.trace).

A place is an instance (its id or Name), an interface's id, an address, private or public, or "internet". An address of IPv6
makes the flow one of IPv6; else it is of IPv4. Rules of the caller's own VPCs are shown; a VPC of another account is where the
trace ends, unless an operator asks.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from alto.api.call import Call
from alto.api.ec2.ids import is_id, is_own, owned
from alto.api.hosts.networks import read_plan
from alto.model.errors import NotFound, Refused
from alto.model.hosts import Host
from alto.model.instances import Instance, Phase
from alto.model.network_plans import NetworkPlan, Port
from alto.model.networks import (
    MACHINE_ADDRESS,
    MACHINE_ADDRESS_V6,
    VPC_ENDPOINT,
    NetworkInterface,
    PortAddress,
    Subnet,
    Vpc,
)
from alto.model.routing import Target
from alto.plan.addresses import hostname
from alto.plan.instances import state_name
from alto.plan.matches import ICMP, ICMPV6, NAMES, TCP, UDP
from alto.plan.trace import ECHO, ECHO_V6, EPHEMERAL, End, Flow, Step, trace
from alto.store.store import Reader

INTERNET = "internet"
# Stand for all the internet as a destination (RFC 5737, RFC 3849).
SOMEWHERE, SOMEWHERE_V6 = "198.51.100.1", "2001:db8::1"
NAMED_MAX = 5
_PORT_MAX = 65535
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))  # RFC 1918, RFC 4193


class TraceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    destination: str
    protocol: str = "tcp"
    port: int | None = None  # of ICMP the type
    source_port: int = EPHEMERAL


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """What was named: an interface, by the address it was named by if any, or an address that is nobody's here."""

    name: str
    address: str = ""
    interface: NetworkInterface | None = None


def trace_flow(reader: Reader, call: Call, request: TraceRequest) -> dict[str, Any]:
    if not 0 <= request.source_port <= _PORT_MAX:
        raise Refused("InvalidParameterValue", f"{request.source_port} is no port")
    first, second = _places(reader, call, request.source, request.destination)
    v6 = _is_v6(first, second)
    protocol = _protocol(request.protocol, v6)
    port = _port(protocol, request.port)
    if first.interface is None and not first.address:
        seen = MACHINE_ADDRESS_V6 if v6 else SOMEWHERE if _is_routed(call) else MACHINE_ADDRESS
        first = _Place(name=first.name, address=seen)
    if second.interface is None and not second.address:
        second = _Place(name=second.name, address=SOMEWHERE_V6 if v6 else SOMEWHERE)
    if first.interface is not None and second.interface is not None and first.interface.id == second.interface.id:
        raise Refused("InvalidParameterValue", f"Both are {first.interface.id}: what it says to itself never leaves its guest")
    inside = first.interface is not None
    source, destination = _end(reader, first, v6), _end(reader, second, v6, as_named=inside)
    plans = _plans(reader, call, (first, second))
    routers = [_end(reader, one, False) for one in _routers(reader, plans.values())]
    told = trace(
        plans,
        Flow(source=source, destination=destination, protocol=protocol, port=port, source_port=request.source_port),
        routers,
        routed=_is_routed(call),
    )
    hosts = [_host(reader, one.interface) for one in (first, second) if one.interface is not None]
    return {
        "source": _show_end(first, source),
        "destination": _show_end(second, destination),
        "traffic": Flow(source=source, destination=destination, protocol=protocol, port=port).words,
        "arrives": told.arrives,
        "answered": told.answered,
        "verdict": told.verdict,
        "simulated": any(host.capabilities.simulated for host in hosts if host is not None),
        "there": [_show_step(step) for step in told.there],
        "back": [_show_step(step) for step in told.back],
    }


def _is_v6(first: _Place, second: _Place) -> bool:
    families = {":" in one.address for one in (first, second) if one.address}
    if len(families) > 1:
        raise Refused(
            "InvalidParameterValue", f"One of {first.name[:80]} and {second.name[:80]} is of IPv6, and the other is not"
        )
    return True in families


def _protocol(text: str, v6: bool) -> int:
    numbers = {name: number for number, name in NAMES.items()}
    if text.lower() in numbers:
        number = numbers[text.lower()]
        return ICMPV6 if v6 and number == ICMP else number
    if text.isascii() and text.isdigit() and int(text) <= 255:
        return int(text)
    raise Refused("InvalidParameterValue", f"'{text[:20]}' is no protocol: tcp, udp, icmp, icmpv6 or a number up to 255")


def _port(protocol: int, port: int | None) -> int:
    if protocol in (TCP, UDP):
        if port is None:
            raise Refused("MissingParameter", f"{NAMES[protocol].upper()} needs a port: DESTINATION:PORT")
        if not 0 <= port <= _PORT_MAX:
            raise Refused("InvalidParameterValue", f"{port} is no port")
        return port
    if protocol in (ICMP, ICMPV6):
        if port is not None and not 0 <= port <= 255:
            raise Refused("InvalidParameterValue", f"{port} is no type of ICMP")
        return (ECHO if protocol == ICMP else ECHO_V6) if port is None else port
    if port is not None:
        raise Refused("InvalidParameterValue", f"Protocol {protocol} has no ports")
    return -1


def _places(reader: Reader, call: Call, source: str, destination: str) -> tuple[_Place, _Place]:
    """An address that interfaces of several VPCs have is the one in the other end's VPC."""
    found = [_named(reader, call, source), _named(reader, call, destination)]
    vpcs = {places[0].interface.vpc_id for places in found if len(places) == 1 and places[0].interface is not None}
    chosen = []
    for name, places in zip((source, destination), found, strict=True):
        near = [one for one in places if one.interface is not None and one.interface.vpc_id in vpcs]
        if len(places) > 1 and len(near) != 1:
            ids = ", ".join(sorted(one.interface.id for one in places if one.interface is not None)[:NAMED_MAX])
            raise Refused("InvalidParameterValue", f"Several interfaces are meant by '{name[:80]}': {ids}. Name one by its id")
        chosen.append(near[0] if len(places) > 1 else places[0])
    first, second = chosen
    if not _is_routed(call) and first.interface is None and first.address and _is_private(first.address):
        raise Refused("InvalidParameterValue", f"No interface of this account in {call.region} has {first.address}", status=404)
    return first, second


def _is_routed(call: Call) -> bool:
    """Public addresses are of somebody's network (ADR 0015), and those who come from there have addresses of their own."""
    return not ip_network(call.settings.public_pool).is_loopback


def _is_private(address: str) -> bool:
    return any(ip_address(address) in one for one in _PRIVATE)


def _named(reader: Reader, call: Call, name: str) -> list[_Place]:
    if name == INTERNET:
        return [_Place(name=name)]
    try:
        address = str(ip_address(name))
    except ValueError:
        return [_Place(name=name, interface=_by_name(reader, call, name))]
    own = reader.where(NetworkInterface, account=call.account, region=call.region)
    holders = [
        one
        for one in own
        if address in one.ipv6 or any(address in (each.private_ip, each.public_ip) for each in _addresses(one))
    ]
    return [_Place(name=name, address=address, interface=one) for one in holders] or [_Place(name=name, address=address)]


def _by_name(reader: Reader, call: Call, name: str) -> NetworkInterface:
    if name.startswith("eni-"):
        return owned(reader, call, NetworkInterface, name)
    if name.startswith("i-") and is_id(name):
        return _primary(reader, owned(reader, call, Instance, name))
    instances = reader.where(Instance, account=call.account, region=call.region)
    found = [one for one in instances if one.tags.get("Name") == name and one.phase is not Phase.TERMINATED]
    if not found:
        raise NotFound(Instance.KIND, name[:80])
    if len(found) > 1:
        ids = ", ".join(sorted(one.id for one in found)[:NAMED_MAX])
        raise Refused("InvalidParameterValue", f"Several instances are called '{name[:80]}': {ids}. Name one by its id")
    return _primary(reader, found[0])


def _primary(reader: Reader, instance: Instance) -> NetworkInterface:
    interface = reader.find(NetworkInterface, instance.nic.interface_id)
    if interface is None:
        raise Refused("IncorrectInstanceState", f"{instance.id} is {state_name(instance)} and has no interface any more")
    return interface


def _end(reader: Reader, place: _Place, v6: bool, *, as_named: bool = False) -> End:
    """`as_named`: by the very address that was named, though it be a public one; else by the private one that it leads to."""
    interface = place.interface
    if interface is None:
        return End(address=place.address)
    subnet = reader.get(Subnet, interface.subnet_id)
    instance = reader.find(Instance, interface.instance_id) if interface.instance_id else None
    host = _host(reader, interface)
    address = next((one.private_ip for one in _addresses(interface) if one.public_ip == place.address), place.address)
    if as_named:
        address = place.address
    if v6 and not address:
        if not interface.ipv6:
            raise Refused("InvalidParameterValue", f"{place.name[:80]} has no address of IPv6")
        address = interface.ipv6[0]
    trouble, endpoint = None, interface.requester == VPC_ENDPOINT
    if endpoint:
        pass  # it is there as long as its interface is
    elif instance is None:
        trouble = f"{interface.id} is on no instance"
    elif instance.phase is not Phase.RUNNING:
        trouble = f"{instance.id} is {state_name(instance)}"
    return End(
        address=address or interface.private_ip,
        port=_port_of(interface, subnet),
        # Simulated hosts have no network that could be in two parts.
        host_id=host.id if host is not None and not host.capabilities.simulated else "",
        underlay=host.underlay if host is not None else "",
        trouble=trouble,
        endpoint=endpoint,
    )


def _port_of(interface: NetworkInterface, subnet: Subnet) -> Port:
    return Port(
        id=interface.id,
        instance_id=interface.instance_id or "",
        vpc_id=interface.vpc_id,
        subnet_id=subnet.id,
        subnet_cidr=subnet.cidr,
        mac=interface.mac,
        private_ip=interface.private_ip,
        public_ip=interface.public_ip,
        secondary=interface.secondary,
        ipv6=interface.ipv6,
        subnet_cidr_v6=subnet.ipv6[0].cidr if subnet.ipv6 else None,
        hostname=hostname(interface.private_ip, interface.region),
        group_ids=interface.group_ids,
        source_dest_check=interface.source_dest_check,
        device_index=interface.device_index,
    )


def _addresses(interface: NetworkInterface) -> tuple[PortAddress, ...]:
    return (PortAddress(private_ip=interface.private_ip, public_ip=interface.public_ip), *interface.secondary)


def _plans(reader: Reader, call: Call, places: Iterable[_Place]) -> dict[str, NetworkPlan]:
    """Of the ends' VPCs, and of those that they have peerings with and that the caller may look into."""
    plans: dict[str, NetworkPlan] = {}
    for vpc_id in sorted({one.interface.vpc_id for one in places if one.interface is not None}):
        plan = read_plan(reader, vpc_id)
        if plan is not None:
            plans[vpc_id] = plan
    for peer in [peer for plan in plans.values() for peer in plan.peers]:
        vpc = reader.find(Vpc, peer.vpc_id)
        if vpc is not None and vpc.id not in plans and (call.operator or is_own(call, vpc)):
            plan = read_plan(reader, vpc.id)
            if plan is not None:
                plans[vpc.id] = plan
    return plans


def _routers(reader: Reader, plans: Iterable[NetworkPlan]) -> list[_Place]:
    routes = (route for plan in plans for subnet in plan.subnets for route in subnet.routes)
    ids = sorted({route.target_id for route in routes if route.target is Target.INTERFACE})
    found = (reader.find(NetworkInterface, id) for id in ids)
    return [_Place(name=one.id, interface=one) for one in found if one is not None]


def _host(reader: Reader, interface: NetworkInterface) -> Host | None:
    instance = reader.find(Instance, interface.instance_id) if interface.instance_id else None
    return reader.find(Host, instance.host_id) if instance is not None and instance.host_id else None


def _show_end(place: _Place, end: End) -> dict[str, Any]:
    interface = place.interface
    return {
        "name": place.name,
        "address": end.address,
        "interface_id": interface.id if interface is not None else None,
        "instance_id": interface.instance_id if interface is not None else None,
        "subnet_id": interface.subnet_id if interface is not None else None,
        "vpc_id": interface.vpc_id if interface is not None else None,
    }


def _show_step(step: Step) -> Mapping[str, Any]:
    return {"what": step.what, "id": step.id or None, "rule": step.rule, "passes": step.passes, "sentence": step.sentence}
