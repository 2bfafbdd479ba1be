"""Goal: a trace says of any flow what EC2's documentation says, and names the rule that decides.

Method: random networks against an oracle that was written from EC2's documentation alone (tests/drivers/network/oracle.py; the
same flows are sent for real in test_packets.py there); then networks by hand, whose verdicts and deciding rules are too.
"""

import pytest
from msgspec.structs import replace

from alto.model.acls import AclEntry
from alto.model.network_plans import AclPlan, NatPlan, NetworkPlan, PeerPlan, Port, RoutePlan, SubnetPlan
from alto.model.networks import PortAddress
from alto.model.routing import Target
from alto.plan.trace import End, Flow, Step, Trace, trace
from tests.drivers.network.random_rules import flow_of, flows, network, plans_of, routers_of
from tests.drivers.network.samples import TO_INTERNET, allow, dual, dual_port, group, plan, port

TCP, ICMP = 6, 1


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_flows_fare_as_ec2_says(first: int) -> None:
    arrived = answered = 0
    for seed in range(first, first + 50):
        of = network(seed)
        plans = plans_of(of)
        for one in flows(of, seed, 50):
            told = trace(plans, flow_of(of, one), routers_of(of))
            arrives = of.arrives(one.source, one.destination, one.protocol, one.port)
            back = one.answered()
            answers = of.answers(back.source, back.destination, back.protocol, back.port) if arrives else None
            if arrives and {one.source, one.destination} & of.behind.keys():
                answers = None  # a router's affair
            assert (told.arrives, told.answered) == (arrives, answers), f"seed {seed}, {one}: {told}"
            arrived, answered = arrived + arrives, answered + bool(answers)
    assert 250 < arrived < 2250
    assert 0.3 * arrived < answered < arrived


# By hand: subnet-a 10.77.0.0/24 and subnet-b 10.77.1.0/24.

WEB = group("sg-web", allow("tcp", 443, group="sg-app", id="sgr-web"), allow("icmp", 8, -1, cidr="10.77.0.0/16", id="sgr-ping"))
APP = group("sg-app")


def entry(number: int, allows: bool, cidr: str, *, egress: bool, low: int | None = None, high: int | None = None) -> AclEntry:
    protocol = "6" if low is not None else "-1"
    return AclEntry(number=number, egress=egress, allow=allows, protocol=protocol, cidr=cidr, from_port=low, to_port=high)


OPEN = AclPlan(id="acl-open", entries=tuple(entry(100, True, "0.0.0.0/0", egress=egress) for egress in (False, True)))


def two_subnets(
    *routes: RoutePlan, acls: tuple[AclPlan, ...] = (OPEN,), acl_b: str = "acl-open", **changes: object
) -> NetworkPlan:
    subnets = (
        SubnetPlan(id="subnet-a", cidr="10.77.0.0/24", zone="a", route_table_id="rtb-a", routes=routes, acl_id="acl-open"),
        SubnetPlan(id="subnet-b", cidr="10.77.1.0/24", zone="a", route_table_id="rtb-b", routes=(TO_INTERNET,), acl_id=acl_b),
    )
    return plan(WEB, APP, subnets=subnets, acls=acls, **changes)


def app(**changes: object) -> End:
    made = port(1, "sg-app", subnet_id="subnet-a", **changes)
    return End(address=made.private_ip, port=made)


def web(**changes: object) -> End:
    made = port(2, "sg-web", **{"subnet_id": "subnet-b", "subnet_cidr": "10.77.1.0/24", "private_ip": "10.77.1.12", **changes})
    return End(address=made.private_ip, port=made)


def https(source: End, destination: End, to: int = 443) -> Flow:
    return Flow(source=source, destination=destination, protocol=TCP, port=to)


def said(steps: tuple[Step, ...]) -> list[tuple[str, str, str]]:
    return [(step.what, step.id, step.rule) for step in steps]


def refusals(told: Trace) -> list[tuple[str, str, str]]:
    return said(tuple(step for step in (*told.there, *told.back) if step.passes is False))


def test_each_hop_names_the_rule_that_lets_it_through() -> None:
    told = trace({"vpc-1": two_subnets()}, https(app(), web()))
    assert (told.arrives, told.answered) == (True, True)
    assert said(told.there) == [
        ("security-group", "sg-app", "sgr-1"),
        ("network-acl", "acl-open", "100"),
        ("route-table", "rtb-a", "10.77.0.0/16"),
        ("network-acl", "acl-open", "100"),
        ("security-group", "sg-web", "sgr-web"),
    ]
    assert said(told.back) == [
        ("network-acl", "acl-open", "100"),
        ("route-table", "rtb-b", "10.77.0.0/16"),
        ("network-acl", "acl-open", "100"),
    ]


def test_a_port_that_no_rule_names_is_refused_by_the_groups_default() -> None:
    told = trace({"vpc-1": two_subnets()}, https(app(), web(), 80))
    assert refusals(told) == [("security-group", "sg-web", "default")]
    assert (told.arrives, told.answered, told.back) == (False, None, ())
    assert "no ingress rule of sg-web allows tcp 80 from 10.77.0.11" in told.there[-1].sentence


def test_an_acl_that_forgets_the_answers_ports_lets_nothing_back() -> None:
    deaf = AclPlan(
        id="acl-deaf",
        entries=(entry(100, True, "0.0.0.0/0", egress=False), entry(90, True, "0.0.0.0/0", egress=True, low=443, high=443)),
    )
    told = trace({"vpc-1": two_subnets(acls=(OPEN, deaf), acl_b="acl-deaf")}, https(app(), web()))
    assert (told.arrives, told.answered) == (True, False)
    assert refusals(told) == [("network-acl", "acl-deaf", "*")]


def test_entries_are_asked_in_the_order_of_their_numbers() -> None:
    first = entry(20, False, "10.77.0.11/32", egress=False)
    acl = AclPlan(id="acl-x", entries=(*OPEN.entries, first))
    told = trace({"vpc-1": two_subnets(acls=(OPEN, acl), acl_b="acl-x")}, https(app(), web()))
    assert refusals(told) == [("network-acl", "acl-x", "20")]


def test_the_internet_comes_to_a_public_address_and_back_by_an_internet_gateway() -> None:
    open_web = replace(two_subnets(), groups=(group("sg-web", allow("tcp", 443, cidr="0.0.0.0/0", id="sgr-all")), APP))
    world = End(address="169.254.169.252")
    told = trace({"vpc-1": open_web}, https(world, web(public_ip="127.64.0.5")))
    assert (told.arrives, told.answered) == (True, True)
    assert trace({"vpc-1": open_web}, https(world, web())).arrives is False
    # An interface of subnet-a, whose table has no way out, hears and cannot answer.
    inner = web(subnet_id="subnet-a", subnet_cidr="10.77.0.0/24", private_ip="10.77.0.12", public_ip="127.64.0.5")
    deaf = trace({"vpc-1": open_web}, https(world, inner))
    assert (deaf.arrives, deaf.answered) == (True, False)
    assert refusals(deaf) == [("route-table", "rtb-a", "default")]


def test_the_way_out_needs_a_public_address() -> None:
    world = End(address="198.51.100.1")
    told = trace({"vpc-1": two_subnets(TO_INTERNET)}, https(app(), world))
    assert refusals(told) == [("internet-gateway", "igw-1", "default")]
    told = trace({"vpc-1": two_subnets(TO_INTERNET)}, https(app(public_ip="127.64.0.5"), world))
    assert (told.arrives, told.answered) == (True, True)


NAT = NatPlan(id="nat-1", subnet_id="subnet-b", private_ip="10.77.1.200", public_ip="127.64.0.9")
BY_NAT = RoutePlan(destination="0.0.0.0/0", target=Target.NAT, target_id="nat-1")


def test_a_nat_gateway_meets_the_acl_of_its_own_subnet_four_times() -> None:
    told = trace({"vpc-1": two_subnets(BY_NAT, nats=(NAT,))}, https(app(), End(address="198.51.100.1")))
    assert (told.arrives, told.answered) == (True, True)
    kinds = [step.what for step in told.there]
    assert kinds == [
        "security-group", "network-acl", "route-table", "nat-gateway", "network-acl", "network-acl", "route-table",
        "internet-gateway",
    ]  # fmt: skip
    # Its ACL takes what comes from the guest, but sends no answer to it.
    no_answers = AclPlan(id="acl-n", entries=(*OPEN.entries, entry(10, False, "10.77.0.0/24", egress=True)))
    plans = {"vpc-1": two_subnets(BY_NAT, nats=(NAT,), acls=(OPEN, no_answers), acl_b="acl-n")}
    told = trace(plans, https(app(), End(address="198.51.100.1")))
    assert (told.arrives, told.answered) == (True, False)
    assert refusals(told) == [("network-acl", "acl-n", "10")]
    assert not trace(plans, https(app(), End(address="10.77.1.200"))).arrives


def test_a_nat_gateway_with_further_addresses_says_so_and_takes_no_connection_at_any() -> None:
    nat = replace(NAT, further=(PortAddress(private_ip="10.77.1.201", public_ip="127.64.0.10"),))
    plans = {"vpc-1": two_subnets(BY_NAT, nats=(nat,))}
    told = trace(plans, https(app(), End(address="198.51.100.1")))
    assert [step.sentence for step in told.there if step.what == "nat-gateway"] == [
        "sends it on as 10.77.1.200, outside 127.64.0.9, or as one of 1 more"
    ]
    assert refusals(trace(plans, https(app(), End(address="10.77.1.201")))) == [("nat-gateway", "nat-1", "default")]


def test_a_black_hole_is_named() -> None:
    gone = RoutePlan(destination="198.51.100.0/24", target=None, target_id="nat-gone")
    told = trace({"vpc-1": two_subnets(TO_INTERNET, gone)}, https(app(public_ip="127.64.0.5"), End(address="198.51.100.1")))
    assert refusals(told) == [("route-table", "rtb-a", "198.51.100.0/24")]


def test_a_route_to_an_interface_needs_its_check_off_and_ends_the_trace() -> None:
    to_router = RoutePlan(destination="10.99.0.0/16", target=Target.INTERFACE, target_id=port(3).id, address="10.77.0.13")
    plans = {"vpc-1": two_subnets(to_router)}
    router = port(3, "sg-web", subnet_id="subnet-a")
    there = End(address="10.99.0.1")
    told = trace(plans, https(app(), there), [End(address=router.private_ip, port=router)])
    assert refusals(told) == [("interface", router.id, "source-dest-check")]
    unchecked = replace(router, source_dest_check=False)
    told = trace(plans, https(app(), there), [End(address=router.private_ip, port=unchecked)])
    assert (told.arrives, told.answered) == (True, None)
    assert told.there[-1].passes is None


@pytest.mark.parametrize(("back", "answered"), [(True, True), (False, False)])
def test_a_peering_needs_routes_on_both_sides(back: bool, answered: bool) -> None:
    to_two = RoutePlan(destination="10.78.0.0/16", target=Target.PEERING, target_id="pcx-1")
    to_one = RoutePlan(destination="10.77.0.0/16", target=Target.PEERING, target_id="pcx-1")
    one = two_subnets(to_two, peers=(PeerPlan(id="pcx-1", vpc_id="vpc-2", cidrs=("10.78.0.0/16",)),))
    far = group("sg-far", allow("tcp", 443, group="sg-app", id="sgr-far"), vpc_id="vpc-2")
    subnet = SubnetPlan(id="subnet-2", cidr="10.78.0.0/24", zone="a", route_table_id="rtb-2", routes=(to_one,) if back else ())
    peer = PeerPlan(id="pcx-1", vpc_id="vpc-1", cidrs=("10.77.0.0/16",))
    two = plan(far, vpc_id="vpc-2", cidr="10.78.0.0/16", subnets=(subnet,), peers=(peer,))
    there: Port = port(5, "sg-far", vpc_id="vpc-2", subnet_id="subnet-2", private_ip="10.78.0.15")
    flow = https(app(), End(address="10.78.0.15", port=there))
    told = trace({"vpc-1": one, "vpc-2": two}, flow)
    assert (told.arrives, told.answered) == (True, answered)
    assert said(told.there)[-1] == ("security-group", "sg-far", "sgr-far")
    # Another account's VPC is not ours to look into.
    assert trace({"vpc-1": one}, flow).there[-1].passes is None
    # Without the connection the route is a black hole.
    assert not trace({"vpc-1": replace(one, peers=()), "vpc-2": two}, flow).arrives


def test_what_keeps_an_end_from_speaking_is_said_first() -> None:
    stopped = replace(web(), trouble="i-2 is stopped")
    told = trace({"vpc-1": two_subnets()}, https(app(), stopped))
    assert refusals(told) == [("interface", web().port.id, "default")]  # type: ignore[union-attr]


def test_the_host_answers_names_and_metadata_itself() -> None:
    plans = {"vpc-1": two_subnets()}
    asks = [("10.77.0.2", 17, 53, True), ("169.254.169.254", TCP, 80, True), ("10.77.0.1", TCP, 80, False)]
    for address, protocol, to, arrives in asks:
        flow = Flow(source=app(), destination=End(address=address), protocol=protocol, port=to)
        assert trace(plans, flow).arrives is arrives, address


def test_hosts_that_no_tunnel_joins_do_not_reach_each_other() -> None:
    far = https(replace(app(), host_id="h-1"), replace(web(), host_id="h-2"))
    assert refusals(trace({"vpc-1": two_subnets(vni=7)}, far)) == [("host", "h-2", "default")]
    one, other = replace(far.source, underlay="192.0.2.1:4789"), replace(far.destination, underlay="192.0.2.2:4789")
    assert trace({"vpc-1": two_subnets(vni=7)}, https(one, other)).arrives
    assert not trace({"vpc-1": two_subnets()}, https(one, other)).arrives


def test_of_a_routed_pool_public_addresses_lead_out_and_in_again_and_everybody_has_an_address_of_his_own() -> None:
    """Goal: as EC2's internet gateway does it, and as tests/drivers/network/test_lan.py sees it with real packets."""
    mine, other = "192.168.7.132", "192.168.7.133"
    narrow = group("sg-web", allow("tcp", 443, group="sg-app"), allow("tcp", 80, cidr=f"{mine}/32", id="sgr-80"))
    of = replace(two_subnets(TO_INTERNET), groups=(narrow, APP))
    source, public_web = app(public_ip=mine), web(public_ip=other)
    shown = replace(public_web, address=other)
    flow = https(source, shown, 80)
    told = trace({"vpc-1": of}, flow, routed=True)
    assert (told.arrives, told.answered) == (True, True)
    assert said(told.there)[-3:] == [
        ("internet-gateway", "vpc-1", other),
        ("network-acl", "acl-open", "100"),
        ("security-group", "sg-web", "sgr-80"),
    ]
    # A group as source means private addresses.
    assert refusals(trace({"vpc-1": of}, https(source, shown, 443), routed=True)) == [("security-group", "sg-web", "default")]
    # Who has no public address does not leave; with a pool of loopback nobody comes back in.
    assert refusals(trace({"vpc-1": of}, https(app(), shown, 80), routed=True)) == [("internet-gateway", "igw-1", "default")]
    assert refusals(trace({"vpc-1": of}, flow)) == [("internet-gateway", "igw-1", "default")]
    # From the LAN, by the LAN's own addresses; one of the VPC's range does not pass for a member of a group.
    lan = replace(two_subnets(TO_INTERNET), groups=(group("sg-web", allow("tcp", 80, cidr="192.168.7.0/24")), APP))
    for address, arrives in (("192.168.7.20", True), ("10.77.0.11", False), ("198.51.100.1", False)):
        assert trace({"vpc-1": lan}, https(End(address=address), public_web, 80), routed=True).arrives is arrives, address
    # Another VPC's private address is nobody's out there.
    stranger = replace(web(vpc_id="vpc-2", private_ip="10.99.0.9", public_ip=other), address="10.99.0.9")
    assert trace({"vpc-1": of}, https(source, stranger, 80), routed=True).arrives is False


def test_of_ipv6_a_route_is_all_that_an_address_needs() -> None:
    """From this machine, into the world, and to a peer."""
    out = RoutePlan(destination="::/0", target=Target.INTERNET, target_id="igw-1")
    only_out = RoutePlan(destination="::/0", target=Target.EGRESS_ONLY, target_id="eigw-1")
    anybody = group("sg-any", allow("-1", cidr_v6="::/0"), allow("-1", cidr_v6="::/0", egress=True))

    def network(*routes: RoutePlan, **changes: object) -> NetworkPlan:
        made = dual(anybody)
        subnet = replace(made.subnets[0], route_table_id="rtb-a", routes=routes)
        return replace(made, subnets=(subnet,), **changes)

    its = dual_port(1, "sg-any", subnet_id="subnet-vpc-1")
    guest, machine, world = End(address=its.ipv6[0], port=its), End(address="fd00:ec2::252"), End(address="2001:db8::1")
    cases = [
        ((out,), {}, True, True),
        ((only_out,), {}, False, True),
        ((), {}, False, False),
        ((replace(out, destination="2000::/3"),), {}, False, True),
        ((replace(out, target=None),), {}, False, False),
        ((out,), {"internet": False}, False, True),
    ]
    for routes, changes, comes_in, goes_out in cases:
        plans = {"vpc-1": network(*routes, **changes)}
        told = trace(plans, https(machine, guest))
        assert (told.arrives, told.answered) == (comes_in, True if comes_in else None), routes
        told = trace(plans, https(guest, world))
        assert (told.arrives, told.answered) == (goes_out, True if goes_out else None), routes
    nowhere = trace({"vpc-1": network(out)}, https(guest, End(address="fe80::1")))
    assert refusals(nowhere) == [("internet-gateway", "igw-1", "default")]
