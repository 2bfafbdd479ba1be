"""What becomes of a packet, hop by hop, and which rule decides: of a flow between two places in the clouds' networks.

Pure, over the same plans that hosts are told, and not over what nftables made of them: so that a trace and the packets can be
held against each other (tests/drivers/network/test_packets.py does). Only rules are asked here, no machine: whether a guest
listens on the port, or forwards what a route table sends it, is its own affair, and the trace says so (`passes` None).

The way there ends where no route goes on, but asks the groups and ACLs of all hops, so that one look shows all that must be
changed. The way back is asked for what arrives: groups remember a flow and ACLs do not, and the answer needs routes too.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

import msgspec

from alto.model.acls import AclEntry
from alto.model.network_plans import NetworkPlan, Port, RoutePlan, SubnetPlan
from alto.model.networks import (
    ENDPOINT_PORT,
    MACHINE_ADDRESS,
    MACHINE_ADDRESS_V6,
    METADATA_ADDRESS,
    METADATA_ADDRESS_V6,
    Permission,
)
from alto.model.routing import Target
from alto.plan.matches import ICMP, ICMPV6, NAMES, TCP, UDP, entry_traffic, traffic_of

ECHO, ECHO_REPLY = 8, 0
ECHO_V6 = 128
# Request -> answer.
_REQUESTS = {ICMP: {ECHO: ECHO_REPLY, 13: 14}, ICMPV6: {ECHO_V6: 129}}
EPHEMERAL = 49152  # an answer goes to the port that its flow came from: this one, unless another is named
HOPS_MAX = 8
# Where the way out leads nowhere (drivers/network/uplink.py, routes.py).
_NOWHERE = ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/16", "fd00:ec2::/32", "fe80::/10", "ff00::/8")
METADATA = (METADATA_ADDRESS, METADATA_ADDRESS_V6)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """An interface, by the private address that the flow has there; or somebody outside, with no port."""

    address: str
    port: Port | None = None
    host_id: str = ""
    underlay: str = ""  # where other hosts reach that one, if they do
    trouble: str | None = None  # why nothing comes from or to it, whatever the rules say
    endpoint: bool = False  # it is the cloud's own, so what it answers is known


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """`port`: the destination's, or an ICMP type."""

    source: End
    destination: End
    protocol: int
    port: int = -1
    source_port: int = EPHEMERAL

    @property
    def answer_port(self) -> int:
        requests = _REQUESTS.get(self.protocol)
        return requests.get(self.port, self.port) if requests is not None else self.source_port

    @property
    def words(self) -> str:
        name = NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self.protocol in (TCP, UDP):
            return f"{name} {self.port}"
        return f"{name} type {self.port}" if self.protocol in _REQUESTS else name


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`what` decides ("security-group", "network-acl", "route-table", "interface", ...), by its rule `rule` (a rule's id, an
    entry's number, a route's destination; "default" where none names it). `passes` None: it goes on where we cannot see."""

    what: str
    id: str
    rule: str
    passes: bool | None
    sentence: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """`answered`: the answer comes back; None when the flow does not arrive, or whoever has it then decides."""

    there: tuple[Step, ...]
    back: tuple[Step, ...]
    arrives: bool
    answered: bool | None

    @property
    def verdict(self) -> str:
        wrong = next((step.sentence for step in (*self.there, *self.back) if step.passes is False), "")
        if not self.arrives:
            return f"does not arrive: {wrong}"
        if self.answered is None:
            return "goes on where this cloud does not see"
        return "arrives and is answered" if self.answered else f"arrives and is not answered: {wrong}"


class _Leg(msgspec.Struct, frozen=True, kw_only=True):
    """From one place to the next, in one VPC or over a peering. Subnets are those of interfaces; None is outside."""

    plan: NetworkPlan
    begin: SubnetPlan | None
    source: str
    far: NetworkPlan
    end: SubnetPlan | None
    destination: str
    route: RoutePlan | None = None  # None: the local one


def trace(plans: Mapping[str, NetworkPlan], flow: Flow, routers: Iterable[End] = (), *, routed: bool = False) -> Trace:
    """`plans`: by id, of each VPC that either end is in. `routers`: interfaces that route tables name. `routed`: public
    addresses are not of loopback, so that those outside come under their own, and interfaces reach each other's (ADR 0015)."""
    walk = _Walk(plans, flow, {one.port.id: one for one in routers if one.port is not None}, routed)
    walk.there()
    arrives = all(step.passes is not False for step in walk.steps)
    there, beyond = tuple(walk.steps), any(step.passes is None for step in walk.steps)
    back: tuple[Step, ...] = ()
    answered = None
    if arrives and not beyond:
        walk.steps = []
        walk.back()
        back = tuple(walk.steps)
        answered = None if any(step.passes is None for step in back) else all(step.passes for step in back)
    return Trace(there=there, back=back, arrives=arrives, answered=answered)


class _Walk:
    def __init__(self, plans: Mapping[str, NetworkPlan], flow: Flow, routers: Mapping[str, End], routed: bool) -> None:
        self.steps: list[Step] = []
        self._plans = plans
        self._flow = flow
        self._routers = routers
        self._routed = routed
        self._legs: list[_Leg] = []
        self._reached: End | None = None

    def there(self) -> None:
        source, destination = self._flow.source, self._flow.destination
        for end in (source, destination):
            if end.trouble is not None and end.port is not None:
                self._step("interface", end.port.id, "default", False, end.trouble)
        if source.port is None and destination.port is None:
            self._step("internet", "", "default", False, "neither end is in this cloud")
        elif source.port is None:
            self._from_outside(destination)
        else:
            self._from_inside(source.port, source.address, destination.address)

    def back(self) -> None:
        for leg in reversed(self._legs):
            self._answer(leg)

    # There.

    def _from_outside(self, end: End) -> None:
        assert end.port is not None
        if ":" in end.address:
            self._from_this_machine(self._plans[end.port.vpc_id], end, end.port)
            return
        public = next((public for public, private in end.port.public.items() if private == end.address), None)
        if public is None:
            self._step("internet", "", "default", False, f"{end.address} has no public address, so nobody outside reaches it")
            return
        self._come_in(end, public, self._flow.source.address)

    def _come_in(self, end: End, public: str, source: str) -> None:
        """To a public address, from `source` outside of the VPC."""
        assert end.port is not None
        plan = self._plans[end.port.vpc_id]
        if not plan.internet:
            self._step("internet-gateway", "", "default", False, f"{plan.vpc_id} has no internet gateway attached")
            return
        inside = (*plan.ranges, *(cidr for peer in plan.peers for cidr in peer.cidrs))
        if not self._routed or _within(source, inside):
            source = MACHINE_ADDRESS
        said = f"{public} leads to {end.address}; whoever comes is seen as {source}"
        self._step("internet-gateway", plan.vpc_id, public, True, said)
        subnet = _subnet_of(plan, end.port)
        self._legs.append(_Leg(plan=plan, begin=None, source=source, far=plan, end=subnet, destination=end.address))
        self._enter(plan, end, subnet, source)

    def _from_this_machine(self, plan: NetworkPlan, end: End, port: Port) -> None:
        """By an address of IPv6, which nobody else is told of."""
        subnet, seen = _subnet_of(plan, port), MACHINE_ADDRESS_V6
        route = self._best(subnet, seen)
        if route is None or route.target is not Target.INTERNET or not plan.internet:
            named = subnet.id if subnet is not None else "its subnet"
            said = f"no route of {named} leads from {end.address} to an internet gateway, so nobody outside reaches it"
            self._step("route-table", subnet.route_table_id if subnet is not None else "", "default", False, said)
            return
        said = f"{end.address} is reached from the machine that has {plan.vpc_id}; whoever comes is seen as {seen}"
        self._step("internet-gateway", route.target_id, route.destination, True, said)
        self._legs.append(_Leg(plan=plan, begin=None, source=seen, far=plan, end=subnet, destination=end.address))
        self._enter(plan, end, subnet, seen)

    def _from_inside(self, port: Port, source: str, destination: str) -> None:
        plan = self._plans[port.vpc_id]
        subnet = _subnet_of(plan, port)
        if destination in METADATA or destination in _own_addresses(plan):
            self._to_the_host(plan, destination)
            return
        if port.source_dest_check and source not in port.all_addresses:
            self._step("interface", port.id, "source-dest-check", False, f"it has not {source}, and its source is checked")
        self._groups(plan, port, True, destination)
        if not self._goes_to_router_of(subnet, destination):
            self._acl(plan, subnet, True, destination, self._flow.port)
        for _ in range(HOPS_MAX):
            route = self._route(plan, subnet, destination)
            if route is _NONE:
                return
            if route is None:
                self._to_local(plan, subnet, source, destination)
                return
            match route.target:
                case Target.INTERNET | Target.EGRESS_ONLY:
                    self._leave(plan, subnet, source, destination, route)
                case Target.PEERING:
                    self._to_peer(plan, subnet, source, destination, route)
                case Target.INTERFACE:
                    self._to_router(plan, subnet, source, route)
                case Target.NAT:
                    nat = next(one for one in plan.nats if one.id == route.target_id)
                    behind = next((one for one in plan.subnets if one.id == nat.subnet_id), None)
                    said = f"sends it on as {nat.private_ip}" + (f", outside {nat.public_ip}" if nat.public_ip else "")
                    said += f", or as one of {len(nat.further)} more" if nat.further else ""
                    self._step("nat-gateway", nat.id, nat.private_ip, True, said)
                    self._acl(plan, behind, False, source, self._flow.port)
                    self._acl(plan, behind, True, destination, self._flow.port)
                    self._legs.append(
                        _Leg(
                            plan=plan,
                            begin=subnet,
                            source=source,
                            far=plan,
                            end=behind,
                            destination=nat.private_ip,
                            route=route,
                        )
                    )
                    subnet, source = behind, nat.private_ip
                    continue
            return
        self._step("route-table", "", "default", False, f"it goes in a circle: {HOPS_MAX} hops and no end")

    def _to_local(self, plan: NetworkPlan, subnet: SubnetPlan | None, source: str, destination: str) -> None:
        end = self._flow.destination
        if end.port is None or end.port.vpc_id != plan.vpc_id or end.address != destination:
            owner = next((nat for nat in plan.nats if any(one.private_ip == destination for one in nat.addresses)), None)
            if owner is not None:
                said = f"{destination} is a NAT gateway, and that takes no connection from anybody"
                self._step("nat-gateway", owner.id, "default", False, said)
            else:
                self._step("interface", "", "default", False, f"nobody in {plan.vpc_id} has {destination}")
            return
        if not self._are_joined(plan, self._flow.source, end):
            return
        behind = _subnet_of(plan, end.port)
        self._legs.append(_Leg(plan=plan, begin=subnet, source=source, far=plan, end=behind, destination=destination))
        # Where it comes from is not known to another host (firewall.py), but by its address.
        within = subnet is behind and self._flow.source.host_id == end.host_id
        self._enter(plan, end, behind, source, within=within)

    def _goes_to_router_of(self, subnet: SubnetPlan | None, destination: str) -> bool:
        """Whether a router in this subnet takes it: then it does not leave the subnet yet."""
        best = self._best(subnet, destination)
        router = self._routers.get(best.target_id) if best is not None and best.target is Target.INTERFACE else None
        return router is not None and router.port is not None and subnet is not None and router.port.subnet_id == subnet.id

    def _to_peer(self, plan: NetworkPlan, subnet: SubnetPlan | None, source: str, destination: str, route: RoutePlan) -> None:
        peer = next(one for one in plan.peers if one.id == route.target_id)
        far = self._plans.get(peer.vpc_id)
        if far is None:
            said = f"goes to {peer.vpc_id} of another account, whose own rules decide there"
            self._step("vpc-peering", peer.id, "default", None, said)
            return
        there = next((one for one in far.peers if one.id == peer.id), None)
        if there is None or not _within(source, there.cidrs) or not _within(destination, (*far.ranges, *far.ranges_v6)):
            said = f"carries only what {plan.vpc_id} and {far.vpc_id} say to each other, and this is neither from nor to them"
            self._step("vpc-peering", peer.id, "default", False, said)
            return
        self._step("vpc-peering", peer.id, route.destination, True, f"goes to {far.vpc_id}")
        end = self._flow.destination
        if end.port is None or end.port.vpc_id != far.vpc_id or end.address != destination:
            self._step("interface", "", "default", False, f"nobody in {far.vpc_id} has {destination}")
            return
        if not self._are_joined(far, self._flow.source, end):
            return
        behind = _subnet_of(far, end.port)
        self._legs.append(
            _Leg(plan=plan, begin=subnet, source=source, far=far, end=behind, destination=destination, route=route)
        )
        self._enter(far, end, behind, source)

    def _to_router(self, plan: NetworkPlan, subnet: SubnetPlan | None, source: str, route: RoutePlan) -> None:
        router = self._routers.get(route.target_id)
        if router is None or router.port is None:
            self._step("interface", route.target_id, "default", False, "it is on no machine that runs")
            return
        if router.port.source_dest_check:
            said = "it checks source and destination, so it takes only what is meant for itself"
            self._step("interface", router.port.id, "source-dest-check", False, said)
            return
        self._enter(plan, router, _subnet_of(plan, router.port), source)
        said = f"what {router.port.instance_id} does with it is its own affair: it is no end of this flow"
        self._step("interface", router.port.id, "source-dest-check", None, said)

    def _leave(self, plan: NetworkPlan, subnet: SubnetPlan | None, source: str, destination: str, route: RoutePlan) -> None:
        public = source if ":" in source else _public_of(plan, self._flow.source, source)
        what, end = str(route.target), self._flow.destination
        if public is None:
            said = f"{source} has no public address, so it does not leave"
            self._step(what, route.target_id, "default", False, said)
        elif ":" in source and not _within(source, plan.ranges_v6):
            said = f"{source} is no address of {plan.vpc_id}, so it does not leave"
            self._step(what, route.target_id, "default", False, said)
        elif end.port is not None and not (self._routed and destination in end.port.public):
            said = f"{destination} is another interface's, and only from outside of all VPCs a public address leads in"
            self._step(what, route.target_id, "default", False, said)
        elif _within(destination, _NOWHERE):
            said = f"{destination} is not on the internet, but of a range that each machine has for itself"
            self._step(what, route.target_id, "default", False, said)
        else:
            said = f"leaves as {'its host itself' if ':' in public else public}"
            said += "" if end.port is not None else ", where its host has a way out"
            self._step(what, route.target_id, route.destination, True, said)
            self._legs.append(
                _Leg(plan=plan, begin=subnet, source=source, far=plan, end=None, destination=destination, route=route)
            )
            if end.port is not None:
                # Out and in again, as anybody from outside.
                private = end.port.public[destination]
                self._come_in(msgspec.structs.replace(end, address=private), destination, public)

    def _to_the_host(self, plan: NetworkPlan, destination: str) -> None:
        """What each host itself answers inside a VPC; groups and ACLs are not asked (firewall.py, c_input)."""
        protocol, port = self._flow.protocol, self._flow.port
        served = (protocol, port) in ((UDP, 53), (UDP, 67), (UDP, 547), (TCP, 53), (ICMP, ECHO), (ICMPV6, ECHO_V6))
        served = served or (destination in METADATA and (protocol, port) == (TCP, 80))
        said = "the host itself answers here, without regard to groups and ACLs"
        said = said if served else f"the host itself has {destination}, and answers DNS, DHCP, metadata and pings there alone"
        self._step("host", plan.vpc_id, destination if served else "default", served, said)

    def _are_joined(self, plan: NetworkPlan, one: End, other: End) -> bool:
        if not one.host_id or not other.host_id or one.host_id == other.host_id:
            return True
        if plan.vni and one.underlay and other.underlay:
            return True
        said = f"{plan.vpc_id} has no way from {one.host_id} to {other.host_id}"
        self._step("host", other.host_id, "default", False, said)
        return False

    def _enter(self, plan: NetworkPlan, end: End, subnet: SubnetPlan | None, source: str, *, within: bool = False) -> None:
        """`within`: it comes from the same subnet, whatever address it has."""
        assert end.port is not None
        if not within:
            self._acl(plan, subnet, False, source, self._flow.port)
        self._groups(plan, end.port, False, source)
        if end.endpoint and (self._flow.protocol, self._flow.port) not in ((TCP, ENDPOINT_PORT), (ICMP, ECHO)):
            said = f"an endpoint answers TCP {ENDPOINT_PORT} and pings alone, and this is {self._flow.words}"
            self._step("vpc-endpoint", end.port.id, "default", False, said)

    # Back.

    def _answer(self, leg: _Leg) -> None:
        """What a leg needs for its answer. Groups remember the flow."""
        port = self._flow.answer_port
        if leg.end is not None:
            if not self._goes_to_router_of(leg.end, leg.source):
                self._acl(leg.far, leg.end, True, leg.source, port)
            route = self._route(leg.far, leg.end, leg.source)
            if route is _NONE:
                return
            self._leads_back(leg, route)
        if leg.begin is not None:
            self._acl(leg.plan, leg.begin, False, leg.destination if leg.end is None else self._seen(leg), port)

    def _seen(self, leg: _Leg) -> str:
        """Whom the answer comes from. A NAT gateway gives it back in the name of whom it was for."""
        nat = leg.route is not None and leg.route.target is Target.NAT
        return self._flow.destination.address if nat else leg.destination

    def _leads_back(self, leg: _Leg, route: RoutePlan | None) -> None:
        wanted = leg.route.target_id if leg.plan is not leg.far and leg.route is not None else None
        if route is None:
            if wanted is not None or leg.begin is None:
                self._step("route-table", "", "local", False, f"the answer to {leg.source} does not leave {leg.far.vpc_id}")
        elif route.target is Target.INTERFACE:
            self._step("interface", route.target_id, "default", None, "the answer goes there: what becomes of it is not ours")
        elif not (leg.begin is None and route.target is Target.INTERNET) and route.target_id != wanted:
            said = f"the answer goes to {route.target_id}, and not back to where the flow came from"
            self._step(str(route.target), route.target_id, route.destination, False, said)

    # Rules.

    def _groups(self, plan: NetworkPlan, port: Port, egress: bool, peer: str) -> None:
        verb, side = ("to", "egress") if egress else ("from", "ingress")
        groups = {group.id: group for group in plan.groups}
        for id in port.group_ids:
            group = groups.get(id)
            for rule in group.permissions if group is not None else ():
                if rule.egress is egress and self._permits(plan, rule, peer):
                    what = rule.cidr or rule.group_id or rule.prefix_list_id
                    said = f"{port.id}: {traffic_of(rule)} {verb} {what} is allowed ({side})"
                    self._step("security-group", id, rule.id, True, said)
                    return
        names = " or ".join(port.group_ids) or "any group"
        said = f"{port.id}: no {side} rule of {names} allows {self._flow.words} {verb} {peer}"
        self._step("security-group", ",".join(port.group_ids), "default", False, said)

    def _permits(self, plan: NetworkPlan, rule: Permission, peer: str) -> bool:
        try:
            if not traffic_of(rule).covers(self._flow.protocol, self._flow.port):
                return False
            if rule.group_id is not None:
                return self._is_member(plan, rule.group_id, peer)
            if rule.prefix_list_id is not None:
                return _within(peer, plan.prefix_lists.get(rule.prefix_list_id, ()))
            return _within(peer, [cidr for cidr in (rule.cidr, rule.cidr_v6) if cidr is not None])
        except ValueError:
            return False  # a rule that makes no sense lets nothing through

    def _is_member(self, plan: NetworkPlan, group_id: str, address: str) -> bool:
        """A group's members are interfaces of its VPC; those of a peer's groups count too."""
        near = {plan.vpc_id, *(peer.vpc_id for peer in plan.peers)}
        ends = (self._flow.source, self._flow.destination, *self._routers.values())
        return any(
            group_id in end.port.group_ids and address in end.port.all_addresses
            for end in ends
            if end.port is not None and end.port.vpc_id in near
        )

    def _acl(self, plan: NetworkPlan, subnet: SubnetPlan | None, egress: bool, peer: str, port: int) -> None:
        """At the border of `subnet`, when `peer` is beyond it."""
        if subnet is None or not subnet.acl_id or _within(peer, _ranges_of(subnet)):
            return
        where = f"{'leaving' if egress else 'entering'} {subnet.id}"
        acl = next((one for one in plan.acls if one.id == subnet.acl_id), None)
        entries = sorted(acl.entries, key=lambda one: one.number) if acl is not None else []
        for entry in entries:
            if entry.egress is egress:
                hit = self._hits(entry, peer, port)
                if hit is None or hit:
                    allows = bool(hit) and entry.allow
                    word = "makes no sense, so it stops" if hit is None else "allows" if allows else "denies"
                    said = f"{where}: entry {entry.number} {word} {self._at(port)} {'to' if egress else 'from'} {peer}"
                    self._step("network-acl", subnet.acl_id, str(entry.number), allows, said)
                    return
        said = f"{where}: no entry names {self._at(port)} {'to' if egress else 'from'} {peer}"
        self._step("network-acl", subnet.acl_id, "*", False, said)

    def _hits(self, entry: AclEntry, peer: str, port: int) -> bool | None:
        """None: it cannot be read, and denies, so that it stops all."""
        try:
            traffic = entry_traffic(entry)
            return _within(peer, (entry.cidr or entry.cidr_v6 or "",)) and traffic.covers(self._flow.protocol, port)
        except ValueError:
            return False if entry.allow else None

    def _at(self, port: int) -> str:
        return msgspec.structs.replace(self._flow, port=port).words

    def _route(self, plan: NetworkPlan, subnet: SubnetPlan | None, destination: str) -> RoutePlan | None:
        """The longest that names it; None for the local one, `_NONE` when there is no way."""
        address = ip_address(destination)
        table = subnet.route_table_id or subnet.id if subnet is not None else ""
        ways: list[tuple[int, bool, str, RoutePlan | None]] = [
            (ip_network(cidr, strict=False).prefixlen, True, cidr, None)
            for cidr in (*plan.ranges, *plan.ranges_v6)
            if _within(destination, (cidr,))
        ]
        for route in subnet.routes if subnet is not None else ():
            network = ip_network(route.destination, strict=False)
            if address in network:
                ways.append((network.prefixlen, False, route.destination, route))
        if not ways:
            self._step("route-table", table, "default", False, f"no route leads to {destination}")
            return _NONE
        _, _, cidr, best = max(ways, key=lambda way: way[:2])
        if best is None:
            self._step("route-table", table, cidr, True, f"{destination} is in {plan.vpc_id} itself (local)")
        elif best.target is None or not self._works(plan, best):
            said = f"the route for {cidr} is a black hole: {best.target_id or 'its target'} does not carry it"
            self._step("route-table", table, cidr, False, said)
            return _NONE
        else:
            self._step("route-table", table, cidr, True, f"{destination} goes to {best.target_id}")
        return best

    def _works(self, plan: NetworkPlan, route: RoutePlan) -> bool:
        match route.target:
            case Target.NAT:
                return any(one.id == route.target_id for one in plan.nats)
            case Target.PEERING:
                return any(one.id == route.target_id for one in plan.peers)
        return route.target in (Target.INTERNET, Target.EGRESS_ONLY, Target.INTERFACE)

    def _best(self, subnet: SubnetPlan | None, destination: str) -> RoutePlan | None:
        """The longest route of its table that names it; local ones not asked."""
        ways = [one for one in (subnet.routes if subnet else ()) if _within(destination, (one.destination,))]
        return max(ways, key=lambda one: ip_network(one.destination, strict=False).prefixlen, default=None)

    def _step(self, what: str, id: str, rule: str, passes: bool | None, sentence: str) -> None:
        self.steps.append(Step(what=what, id=id, rule=rule, passes=passes, sentence=sentence))


_NONE = RoutePlan(destination="", target=None)  # no way, which a step has said


def _subnet_of(plan: NetworkPlan, port: Port) -> SubnetPlan | None:
    return next((one for one in plan.subnets if one.id == port.subnet_id), None)


def _own_addresses(plan: NetworkPlan) -> set[str]:
    """The host's own in every subnet (its gateway), and the VPC's resolver."""
    gateways = {str(ip_network(cidr)[1]) for one in plan.subnets for cidr in _ranges_of(one)}
    return gateways | {plan.resolver_address, plan.host_address}


def _ranges_of(subnet: SubnetPlan) -> tuple[str, ...]:
    return (subnet.cidr,) if subnet.cidr_v6 is None else (subnet.cidr, subnet.cidr_v6)


def _public_of(plan: NetworkPlan, end: End, address: str) -> str | None:
    nats = {one.private_ip: one.public_ip for nat in plan.nats for one in nat.addresses}
    if address in nats:
        return nats[address]
    return next((one.public_ip for one in end.port.addresses if one.private_ip == address), None) if end.port else None


def _within(address: str, cidrs: Iterable[str]) -> bool:
    """Raises: ValueError for a range that is none."""
    return any(ip_address(address) in ip_network(cidr, strict=False) for cidr in cidrs)
