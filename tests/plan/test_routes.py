"""Goal: the routes of a VPC that has IPv6 are compiled for both families, and of one that has not for one; what a machine may
reach follows from its subnet's table alone.

Method: plans by hand; the expected lines are the kernel's language, written here. What packets make of them:
tests/drivers/network. Of what changes by parts: random lives of ports and neighbours, and after each step the same is made from
nothing.
"""

import random
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.network_plans import (
    NatPlan,
    Neighbour,
    NetworkPlan,
    PeerPlan,
    Port,
    RouteCommands,
    RoutePlan,
    Routing,
    RoutingPatch,
    tunnel_mac,
)
from alto.model.routing import Target
from alto.plan import routes
from alto.plan.network_changes import changed, difference
from tests.drivers.network.samples import DEFAULT, address_v6, dual, dual_port, plan, port

A, B = address_v6(1), address_v6(2)
ONE, TWO = "192.0.2.1:4789", "192.0.2.2:4789"
OUT = RoutePlan(destination="::/0", target=Target.INTERNET, target_id="igw-1")
ONLY_OUT = RoutePlan(destination="::/0", target=Target.EGRESS_ONLY, target_id="eigw-1")
OVER = RoutePlan(destination="fd00:b::/56", target=Target.PEERING, target_id="pcx-0123456789ab")
PEER = PeerPlan(id="pcx-0123456789ab", vpc_id="vpc-2", cidrs=("10.78.0.0/16", "fd00:b::/56"))


def routed(*wanted: RoutePlan, of: NetworkPlan | None = None, **changes: Any) -> NetworkPlan:
    made = of or dual(DEFAULT)
    return replace(made, subnets=tuple(replace(one, routes=wanted) for one in made.subnets), **changes)


def whole(old: Routing, new: Routing) -> RoutingPatch:
    return RoutingPatch(was=old, will_be=new)


def lines(of: NetworkPlan, *, way_out_v6: bool = True) -> list[str]:
    """Of IPv6, as `ip` reads them, without the number of the subnet's table."""
    made = routes.compiled(of, [dual_port(1)], way_out=False, way_out_v6=way_out_v6)
    (number,) = set(made.subnets.values())
    commands = routes.puts(whole(Routing(), made))
    found = [line.replace(str(number), "N") for line in commands.ip if "::" in line]
    assert commands.ip_v6 == ([f"rule add pref 100 fwmark {number:#x} lookup {number}"] if of.ranges_v6 else [])
    return sorted(line.removeprefix("route replace ") for line in found)


def test_without_a_range_nothing_is_made_of_ipv6() -> None:
    made = routed(OUT, OVER, of=plan(DEFAULT), peers=(PEER,))
    assert lines(made) == []
    compiled = routes.compiled(made, [port(1)], way_out=False, way_out_v6=True)
    assert not [line for line in routes.change(whole(Routing(), compiled)).splitlines() if "_v6 " in line or "reached" in line]


ALWAYS = [
    "throw fd00:a::/56 table N",
    "unreachable ::/0 table 254",
    "unreachable ::/0 table N metric 4096",
    "unreachable fd00:a::/56 table 254",
]
MACHINE = "fd00:ec2::252/128 dev up0 table N"


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        ((), []),
        ((OUT,), [MACHINE, "::/0 via fd00:ec2::252 dev up0 onlink table N"]),
        ((ONLY_OUT,), ["::/0 via fd00:ec2::252 dev up0 onlink table N"]),
        (
            (replace(OUT, destination="2000::/3"), ONLY_OUT),
            [
                "2000::/3 via fd00:ec2::252 dev up0 onlink table N",
                "::/0 via fd00:ec2::252 dev up0 onlink table N",
                "unreachable 2000::/3 table N metric 4096",
            ],
        ),
        ((replace(OUT, target=None),), []),
        (
            (OVER,),
            ["fd00:b::/56 via fe80::fb dev pcx0123456789ab onlink table N", "unreachable fd00:b::/56 table N metric 4096"],
        ),
        (
            (replace(OVER, target=Target.NAT, target_id="nat-1"),),
            ["unreachable fd00:b::/56 table N metric 4096"],
        ),
    ],
)
def test_each_target_has_its_way(wanted: tuple[RoutePlan, ...], more: list[str]) -> None:
    assert lines(routed(*wanted, peers=(PEER,))) == sorted(ALWAYS + more)


def test_without_a_way_out_the_machine_itself_is_still_answered() -> None:
    assert lines(routed(OUT), way_out_v6=False) == sorted([*ALWAYS, MACHINE])


@pytest.mark.parametrize(
    ("wanted", "changes", "reached", "led"),
    [
        ((OUT,), {}, [A, B], [A, B]),
        ((), {}, [], []),
        ((ONLY_OUT,), {}, [], [A]),
        ((replace(OUT, destination="2000::/3"),), {}, [], [A]),
        ((replace(OUT, destination="fd00::/8"),), {}, [A, B], [A, B]),
        ((OUT, replace(ONLY_OUT, destination="fd00::/8")), {}, [], [A]),
        ((OUT,), {"internet": False}, [], [A]),
    ],
)
def test_who_is_reached_and_whose_answers_come_back(
    wanted: tuple[RoutePlan, ...], changes: dict[str, Any], reached: list[str], led: list[str]
) -> None:
    """The second is on another host, and what the machine sends it goes in here."""
    far = dual_port(2)
    near = Neighbour(
        interface_id=far.id,
        vpc_id="vpc-1",
        addresses=far.all_addresses,
        hostname="far",
        group_ids=(),
        underlay=TWO,
        entered_here=True,
    )
    made = routed(*wanted, vni=7, underlay=ONE, hosts=(TWO,), neighbours=(near,), **changes)
    compiled = routes.compiled(made, [dual_port(1)], way_out=False)
    assert (sorted(compiled.reached), sorted(compiled.led)) == (reached, led)
    without = routes.take(deepcopy(compiled), routes.without_port(compiled, made, dual_port(1).device))
    assert A not in without.led
    assert A not in without.reached
    assert routes.take(without, routes.with_port(without, made, dual_port(1))) == compiled
    # An address that a port has no more goes with it; a neighbour's that is not entered here is never there.
    assert A not in routes.with_port(compiled, made, dual_port(1, ipv6=("fd00:a:0:1::9",))).will_be.led
    elsewhere = replace(made, neighbours=(replace(near, entered_here=False),))
    assert B not in routes.compiled(elsewhere, [], way_out=False).led


def test_a_host_is_the_way_back_in_both_families() -> None:
    made = routed(OUT, vni=7, underlay=ONE, hosts=(TWO,))
    compiled = routes.compiled(made, [], way_out=False)
    number, mac = compiled.returns[tunnel_mac(TWO)], tunnel_mac(TWO)
    hop = f"fe80::{number >> 16:x}:{number & 0xFFFF:x}"
    commands = routes.puts(whole(Routing(), compiled))
    assert f"neigh replace {hop} lladdr {mac} dev vx0 nud permanent" in commands.ip
    assert f"route replace ::/0 via {hop} dev vx0 onlink table {number}" in commands.ip
    assert f"rule add pref 10 fwmark {number:#x} lookup {number}" in commands.ip_v6
    gone = routes.drops(whole(compiled, routes.compiled(replace(made, ranges_v6=()), [], way_out=False)))
    assert f"neigh del {hop} dev vx0" in gone.ip
    assert f"rule del pref 10 fwmark {number:#x} lookup {number}" in gone.ip_v6
    assert not any(line.startswith("rule") for line in gone.ip)


def test_a_router_is_met_by_its_own_address() -> None:
    router = dual_port(2, source_dest_check=False)
    way = RoutePlan(destination="fd00:99::/64", target=Target.INTERFACE, target_id=router.id, address=B)
    made = routed(way)
    compiled = routes.compiled(made, [router], way_out=False)
    assert f"via {B} dev {router.device} onlink" in compiled.routes.values()
    bare = routes.compiled(routed(replace(way, address=None)), [router], way_out=False)
    assert not any(router.device in where for where in bare.routes.values())


ROUTER = 3
THREE = "192.0.2.3:4789"


def _neighbour(number: int, chance: random.Random) -> Neighbour:
    """Addresses and hosts come and go, and now and then two have one address: the news of who left it is late."""
    shared = [f"10.77.0.{200 + chance.randrange(3)}"] if chance.random() < 0.3 else []
    shared_v6 = [address_v6(chance.randrange(200, 203))] if chance.random() < 0.3 else []
    return Neighbour(
        interface_id=dual_port(number).id,
        vpc_id="vpc-1",
        addresses=(dual_port(number).private_ip, *shared, address_v6(number), *shared_v6),
        hostname="far",
        group_ids=(),
        underlay=chance.choice((TWO, THREE)),
        source_dest_check=chance.random() < 0.6,
        entered_here=chance.random() < 0.5,
    )


def _port(number: int, chance: random.Random, others: Iterable[Port]) -> Port:
    """No two ports here have one address: drivers refuse that. With a neighbour it may share one."""
    shared = address_v6(chance.randrange(200, 203))
    more = (shared,) if chance.random() < 0.5 and not any(shared in one.ipv6 for one in others) else ()
    return dual_port(number, source_dest_check=chance.random() < 0.5, ipv6=(address_v6(number), *more))


def _sorted(commands: RouteCommands) -> list[list[str]]:
    return [sorted(one) for one in (commands.ip, commands.ip_v6, commands.bridge)]


@pytest.mark.parametrize("seed", range(40))
def test_what_changes_by_parts_is_what_is_made_from_nothing(seed: int) -> None:
    """And the kernel is told no more than what differs, and no less."""
    chance = random.Random(seed)
    to_router = RoutePlan(destination="10.99.0.0/16", target=Target.INTERFACE, target_id=dual_port(ROUTER).id)
    # Every other life has no route to an interface, so that routers too come and go by parts.
    wanted = (OUT, *([to_router] if seed % 2 else []))
    nat = NatPlan(id="nat-1", subnet_id="subnet-1", private_ip="10.77.0.201", public_ip=None, underlay=TWO)
    now = routed(*wanted, vni=7, underlay=ONE, hosts=(TWO, THREE), nats=(nat,))
    ports: dict[str, Port] = {}
    routing, by_parts = routes.compiled(now, [], way_out=True), 0
    for _ in range(60):
        number = chance.randrange(1, 7)
        old, plan_before = deepcopy(routing), now
        match chance.choice(("neighbours", "neighbours", "plug", "unplug")):
            case "plug":
                made = _port(number, chance, (one for id, one in ports.items() if id != dual_port(number).id))
                ports[made.id] = made
                patch: RoutingPatch | None = routes.with_port(routing, now, made)
            case "unplug":
                ports.pop(dual_port(number).id, None)
                patch = routes.without_port(routing, now, dual_port(number).device)
            case _:
                touched = {dual_port(one).id: _neighbour(one, chance) for one in {number, chance.randrange(1, 7)}}
                stay = {one.interface_id: one for one in now.neighbours if one.interface_id not in touched}
                come = {id: one for id, one in touched.items() if chance.random() < 0.6}
                after = replace(now, neighbours=tuple(one for _, one in sorted({**stay, **come}.items())))
                change = difference(now, after)
                assert change is not None
                now = changed(now, change)
                assert now == after
                patch = routes.resettled(routing, plan_before, now, change)
                by_parts += patch is not None
        anew = routes.compiled(now, ports.values(), way_out=True)
        routing = routes.take(routing, patch) if patch is not None else anew
        assert routing == anew
        if patch is not None:
            all_of_it = whole(old, anew)
            for told in (routes.puts, routes.drops):
                assert _sorted(told(patch)) == _sorted(told(all_of_it))
            assert routes.change(patch) == routes.change(all_of_it)
    assert by_parts > (20 if seed % 2 == 0 else 5)
