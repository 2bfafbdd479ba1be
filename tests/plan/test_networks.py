"""Goal: a host is told what the rows of a VPC say, with black holes where a target is gone. Method: rows by hand."""

import pytest
from msgspec.structs import replace

from alto.model.acls import PrefixList, PrefixListEntry
from alto.model.networks import CidrAssociation, NetworkInterface, Subnet, Vpc
from alto.model.routing import (
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    NatState,
    PeeringState,
    Route,
    RouteTable,
    RouteTableAssociation,
    Target,
    VpcPeering,
)
from alto.plan.networks import Rows, network_plan

OWN = {"account": "000000000000", "region": "us-east-1"}


def vpc(id: str = "vpc-1", cidr: str = "10.0.0.0/16") -> Vpc:
    return Vpc(id=id, cidr=cidr, **OWN)


def subnet(id: str, cidr: str) -> Subnet:
    return Subnet(id=id, vpc_id="vpc-1", cidr=cidr, zone="us-east-1a", **OWN)


def table(id: str, target: Target, target_id: str, *subnet_ids: str | None, destination: str = "0.0.0.0/0") -> RouteTable:
    local = Route(destination="10.0.0.0/16", target=Target.LOCAL, target_id="local")
    return RouteTable(
        id=id,
        vpc_id="vpc-1",
        routes=(local, Route(destination=destination, target=target, target_id=target_id)),
        associations=tuple(RouteTableAssociation(id=f"rtbassoc-{one}", subnet_id=one) for one in subnet_ids),
        **OWN,
    )


def targets_of(rows: Rows) -> dict[str, list[tuple[str, Target | None]]]:
    return {one.id: [(route.destination, route.target) for route in one.routes] for one in network_plan(rows).subnets}


def test_a_subnet_that_no_table_names_uses_the_main_one() -> None:
    rows = Rows(
        vpc=vpc(),
        subnets=(subnet("subnet-a", "10.0.0.0/24"), subnet("subnet-b", "10.0.1.0/24")),
        tables=(table("rtb-main", Target.INTERNET, "igw-1", None), table("rtb-2", Target.NAT, "nat-1", "subnet-b")),
        gateways=(InternetGateway(id="igw-1", vpc_id="vpc-1", **OWN),),
    )
    # There is no NAT gateway: a black hole, not the main table's way.
    assert targets_of(rows) == {"subnet-a": [("0.0.0.0/0", Target.INTERNET)], "subnet-b": [("0.0.0.0/0", None)]}
    assert [one.route_table_id for one in network_plan(rows).subnets] == ["rtb-main", "rtb-2"]


def test_a_gateway_that_is_detached_carries_nothing() -> None:
    rows = Rows(vpc=vpc(), subnets=(subnet("subnet-a", "10.0.0.0/24"),), tables=(table("rtb", Target.INTERNET, "igw-1", None),))
    assert targets_of(rows) == {"subnet-a": [("0.0.0.0/0", None)]}


@pytest.mark.parametrize(("state", "works"), [(one, one is NatState.AVAILABLE) for one in NatState])
def test_a_nat_gateway_carries_while_it_is_available(state: NatState, works: bool) -> None:
    nat = NatGateway(
        id="nat-1",
        vpc_id="vpc-1",
        subnet_id="subnet-a",
        interface_id="eni-1",
        private_ip="10.0.0.9",
        created_at=0.0,
        state=state,
        **OWN,
    )
    rows = Rows(
        vpc=vpc(),
        subnets=(subnet("subnet-a", "10.0.0.0/24"),),
        tables=(table("rtb", Target.NAT, "nat-1", None),),
        nats=(nat,),
    )
    assert targets_of(rows) == {"subnet-a": [("0.0.0.0/0", Target.NAT if works else None)]}
    assert [one.id for one in network_plan(rows).nats] == (["nat-1"] if works else [])


@pytest.mark.parametrize("instance_id", [None, "i-1"])
def test_an_interface_carries_while_it_is_attached(instance_id: str | None) -> None:
    interface = NetworkInterface(
        id="eni-1",
        vpc_id="vpc-1",
        subnet_id="subnet-a",
        zone="us-east-1a",
        mac="02:00:00:00:00:01",
        private_ip="10.0.0.9",
        instance_id=instance_id,
        **OWN,
    )
    rows = Rows(
        vpc=vpc(),
        subnets=(subnet("subnet-a", "10.0.0.0/24"),),
        tables=(table("rtb", Target.INTERFACE, "eni-1", None),),
        targets={"eni-1": interface},
    )
    assert targets_of(rows) == {"subnet-a": [("0.0.0.0/0", Target.INTERFACE if instance_id else None)]}


@pytest.mark.parametrize(("state", "works"), [(one, one is PeeringState.ACTIVE) for one in PeeringState])
def test_a_peering_carries_while_it_is_active_for_either_side(state: PeeringState, works: bool) -> None:
    peering = VpcPeering(
        id="pcx-1",
        vpc_id="vpc-2",
        accepter_account="000000000000",
        accepter_region="us-east-1",
        accepter_vpc_id="vpc-1",
        expires_at=0.0,
        state=state,
        **OWN,
    )
    rows = Rows(
        vpc=vpc(),
        subnets=(subnet("subnet-a", "10.0.0.0/24"),),
        tables=(table("rtb", Target.PEERING, "pcx-1", None, destination="10.1.0.0/16"),),
        peerings=(peering,),
        peers={"vpc-2": vpc("vpc-2", "10.1.0.0/16")},
    )
    assert targets_of(rows) == {"subnet-a": [("10.1.0.0/16", Target.PEERING if works else None)]}
    assert [(one.vpc_id, one.cidrs) for one in network_plan(rows).peers] == ([("vpc-2", ("10.1.0.0/16",))] if works else [])


def v6_rows(route: Route, **more: object) -> Rows:
    main = table("rtb", Target.LOCAL, "local", None)
    given = {"vpc": vpc(), "subnets": (subnet("subnet-a", "10.0.0.0/24"),), "tables": (replace(main, routes=(route,)),)}
    return Rows(**{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("there", [True, False])
def test_an_egress_only_gateway_carries_while_it_is_there(there: bool) -> None:
    route = Route(destination="::/0", target=Target.EGRESS_ONLY, target_id="eigw-1")
    gateway = EgressOnlyInternetGateway(id="eigw-1", vpc_id="vpc-1", **OWN)
    made = v6_rows(route, egress_only=(gateway,) if there else ())
    assert targets_of(made) == {"subnet-a": [("::/0", Target.EGRESS_ONLY if there else None)]}


def test_routes_of_ipv6_are_told_with_what_they_need() -> None:
    """A gateway, a list's ranges, a router by its own address of IPv6 or not at all."""
    gateways = (InternetGateway(id="igw-1", vpc_id="vpc-1", **OWN),)
    made = v6_rows(Route(destination="fd00:0::/8", target=Target.INTERNET, target_id="igw-1"), gateways=gateways)
    assert targets_of(made) == {"subnet-a": [("fd00::/8", Target.INTERNET)]}
    listed = PrefixList(
        id="pl-1",
        name="l",
        family="IPv6",
        max_entries=2,
        entries=tuple(PrefixListEntry(cidr=cidr) for cidr in ("2001:db8::/32", "fd00:9::/48")),
        **OWN,
    )
    made = v6_rows(
        Route(destination="pl-1", target=Target.INTERNET, target_id="igw-1"), gateways=gateways, prefix_lists=(listed,)
    )
    assert targets_of(made) == {"subnet-a": [("2001:db8::/32", Target.INTERNET), ("fd00:9::/48", Target.INTERNET)]}
    for addresses, target in ((("fd00:a::9", "fd00:a::a"), Target.INTERFACE), ((), None)):
        interface = NetworkInterface(
            id="eni-1",
            vpc_id="vpc-1",
            subnet_id="subnet-a",
            zone="us-east-1a",
            mac="02:00:00:00:00:01",
            private_ip="10.0.0.9",
            ipv6=addresses,
            instance_id="i-1",
            **OWN,
        )
        made = v6_rows(
            Route(destination="fd00:99::/64", target=Target.INTERFACE, target_id="eni-1"), targets={"eni-1": interface}
        )
        (route,) = network_plan(made).subnets[0].routes
        assert (route.target, route.address) == (target, addresses[0] if addresses else None)


def test_a_peer_s_ranges_are_of_both_families() -> None:
    peering = VpcPeering(
        id="pcx-1",
        vpc_id="vpc-1",
        accepter_account="000000000000",
        accepter_region="us-east-1",
        accepter_vpc_id="vpc-2",
        expires_at=0.0,
        state=PeeringState.ACTIVE,
        **OWN,
    )
    other = replace(vpc("vpc-2", "10.1.0.0/16"), ipv6=(CidrAssociation(id="vpc-cidr-assoc-1", cidr="fd00:b::/56"),))
    made = v6_rows(
        Route(destination="fd00:b::/56", target=Target.PEERING, target_id="pcx-1"), peerings=(peering,), peers={"vpc-2": other}
    )
    assert targets_of(made) == {"subnet-a": [("fd00:b::/56", Target.PEERING)]}
    assert [one.cidrs for one in network_plan(made).peers] == [("10.1.0.0/16", "fd00:b::/56")]
