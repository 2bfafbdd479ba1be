"""Goal: packets go where the subnets' route tables say, and nowhere else.

Method: guests in two subnets and two VPCs of one host, real servers and clients; what a table should do is written by hand.
"""

import pytest
from msgspec.structs import replace

from alto.model.network_plans import NatPlan, NetworkPlan, PeerPlan, RoutePlan, SubnetPlan
from alto.model.networks import PortAddress
from alto.model.routing import Target
from tests.drivers.network.guests import Guest, hello, pings, reaches, run, say, tcp_server
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import TO_INTERNET, allow, group, plan, port

pytestmark = pytest.mark.net

PUBLIC, OTHER = "127.64.0.5", "127.64.0.6"


def open_group(vpc_id: str = "vpc-1"):  # type: ignore[no-untyped-def]
    return group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id=vpc_id)


def to(target: Target, id: str, destination: str = "0.0.0.0/0", address: str | None = None) -> RoutePlan:
    return RoutePlan(destination=destination, target=target, target_id=id, address=address)


def network(private: tuple[RoutePlan, ...], **changes: object) -> NetworkPlan:
    """A public subnet, 10.77.0.0/24, and another one, 10.77.1.0/24, with the routes given."""
    return plan(
        open_group(),
        subnets=(
            SubnetPlan(
                id="subnet-public", cidr="10.77.0.0/24", zone="us-east-1a", route_table_id="rtb-1", routes=(TO_INTERNET,)
            ),
            SubnetPlan(id="subnet-private", cidr="10.77.1.0/24", zone="us-east-1a", route_table_id="rtb-2", routes=private),
        ),
        **changes,
    )


def inner(cloud: Cloud, number: int, **changes: object) -> Guest:
    """A guest of the other subnet."""
    place = {"private_ip": f"10.77.1.{10 + number}", "subnet_cidr": "10.77.1.0/24", "subnet_id": "subnet-private"}
    guest = cloud.guest(number, "sg-open", configured=False, **{**place, **changes})
    guest.run("ip", "addr", "add", f"10.77.1.{10 + number}/24", "dev", "eth0")
    guest.run("ip", "route", "add", "default", "via", "10.77.1.1")
    return guest


def stand_for(guest: Guest, address: str) -> None:
    """As a router does that has it behind itself: its questions for its gateway come from its own address."""
    guest.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    guest.run("sysctl", "-q", "net.ipv4.conf.all.arp_announce=2")


def test_a_subnet_without_a_route_to_the_internet_is_not_reached_and_gets_one_live(cloud: Cloud) -> None:
    cloud.ensure(network(()))
    public = cloud.guest(1, "sg-open", public_ip=PUBLIC)
    guest = inner(cloud, 2, public_ip=OTHER)
    there = [port(1, "sg-open", public_ip=PUBLIC), port_of(guest, 2, public_ip=OTHER)]
    with tcp_server(public.netns, 80, hello), tcp_server(guest.netns, 80, hello):
        assert say(PUBLIC, 80) == "169.254.169.252"
        assert say("10.77.1.12", 80, netns=public.netns) == "10.77.0.11"
        assert reaches(OTHER, 80, timeout=0.5) != "open"
        cloud.ensure(network((TO_INTERNET,)), *there)
        assert say(OTHER, 80) == "169.254.169.252"
        # A longer route whose target is gone is a black hole, also for what a shorter one would carry.
        cloud.ensure(network((TO_INTERNET, RoutePlan(destination="169.254.169.0/24", target=None))), *there)
        assert reaches(OTHER, 80, timeout=0.5) != "open"


def test_without_an_internet_gateway_no_public_address_leads_in(cloud: Cloud) -> None:
    cloud.ensure(network(()))
    guest = cloud.guest(1, "sg-open", public_ip=PUBLIC)
    with tcp_server(guest.netns, 80, hello):
        assert say(PUBLIC, 80) == "169.254.169.252"
        cloud.ensure(network((), internet=False), port(1, "sg-open", public_ip=PUBLIC))
        assert reaches(PUBLIC, 80, timeout=0.5) != "open"


def port_of(guest: Guest, number: int, **changes: object):  # type: ignore[no-untyped-def]
    place = {"private_ip": f"10.77.1.{10 + number}", "subnet_cidr": "10.77.1.0/24", "subnet_id": "subnet-private"}
    return port(number, "sg-open", **{**place, **changes})


def test_an_interface_carries_what_a_route_sends_it_only_unchecked(cloud: Cloud) -> None:
    route = to(Target.INTERFACE, port(1).id, "10.99.0.0/16", "10.77.0.11")
    cloud.ensure(network((route,)))
    router = cloud.guest(1, "sg-open", source_dest_check=False)
    guest = inner(cloud, 2)
    stand_for(router, "10.99.0.1")
    with tcp_server(router.netns, 80, hello):
        assert say("10.99.0.1", 80, netns=guest.netns) == "10.77.1.12"
        cloud.ensure(network((route,)), port(1, "sg-open"), port_of(guest, 2))
        assert reaches("10.99.0.1", 80, netns=guest.netns, timeout=0.5) == "unreachable"


def test_two_vpcs_speak_over_a_peering_only_with_routes_on_both_sides(cloud: Cloud) -> None:
    def one(*routes: RoutePlan) -> NetworkPlan:
        peer = PeerPlan(id="pcx-1", vpc_id="vpc-2", cidrs=("10.78.0.0/16",))
        return network((), peers=(peer,)) if not routes else _with(network((), peers=(peer,)), routes)

    def two(*routes: RoutePlan) -> NetworkPlan:
        peer = PeerPlan(id="pcx-1", vpc_id="vpc-1", cidrs=("10.77.0.0/16",))
        subnet = SubnetPlan(id="subnet-two", cidr="10.78.0.0/24", zone="us-east-1a", routes=routes)
        return plan(open_group("vpc-2"), vpc_id="vpc-2", cidr="10.78.0.0/16", subnets=(subnet,), peers=(peer,))

    there = to(Target.PEERING, "pcx-1", "10.78.0.0/16")
    back = to(Target.PEERING, "pcx-1", "10.77.0.0/16")
    place = {"vpc_id": "vpc-2", "private_ip": "10.78.0.12", "subnet_cidr": "10.78.0.0/24", "subnet_id": "subnet-two"}
    cloud.ensure(one(there))
    cloud.ensure(two())
    first = cloud.guest(1, "sg-open", subnet_id="subnet-public")
    second = cloud.guest(2, "sg-open", configured=False, **place)
    second.run("ip", "addr", "add", "10.78.0.12/24", "dev", "eth0")
    second.run("ip", "route", "add", "default", "via", "10.78.0.1")
    with tcp_server(second.netns, 80, hello):
        assert reaches("10.78.0.12", 80, netns=first.netns, timeout=0.5) != "open"
        cloud.ensure(two(back), port(2, "sg-open", **place))
        assert say("10.78.0.12", 80, netns=first.netns) == "10.77.0.11"
        cloud.ensure(one(), port(1, "sg-open", subnet_id="subnet-public"))
        assert reaches("10.78.0.12", 80, netns=first.netns, timeout=0.5) == "unreachable"


def test_a_peer_that_never_came_leaves_nothing(cloud: Cloud) -> None:
    before = cloud.traces()["namespaces"]
    peer = PeerPlan(id="pcx-1", vpc_id="vpc-2", cidrs=("10.78.0.0/16",))
    cloud.ensure(network((), peers=(peer,)))
    cloud.ensure(network(()))
    assert cloud.traces()["namespaces"] == [cloud.netns()]
    cloud.ensure(network((), peers=(peer,)))
    cloud.ensure(plan(open_group("vpc-2"), vpc_id="vpc-2", cidr="10.78.0.0/16"))
    cloud.do(lambda driver: driver.remove_network("vpc-2"))
    cloud.do(lambda driver: driver.remove_network("vpc-1"))
    assert cloud.traces()["namespaces"] == before


def _with(network: NetworkPlan, routes: tuple[RoutePlan, ...]) -> NetworkPlan:
    import msgspec

    public, private = network.subnets
    return msgspec.structs.replace(network, subnets=(msgspec.structs.replace(public, routes=(TO_INTERNET, *routes)), private))


def test_a_nat_gateway_uses_all_of_its_addresses_and_none_that_it_lost(cloud: Cloud) -> None:
    first = NatPlan(id="nat-0123456789abcdef0", subnet_id="subnet-public", private_ip="10.77.0.200", public_ip=None)
    further = (PortAddress(private_ip="10.77.0.201"), PortAddress(private_ip="10.77.0.202"))
    beyond = to(Target.INTERFACE, port(1).id, "10.99.0.0/16", "10.77.0.11")

    def having(nat: NatPlan) -> NetworkPlan:
        return _with(network((to(Target.NAT, nat.id),), nats=(nat,)), (beyond,))

    three, two = replace(first, further=further), replace(first, further=further[1:])
    cloud.ensure(having(first))
    world = cloud.guest(1, "sg-open", subnet_id="subnet-public", source_dest_check=False)
    guest = inner(cloud, 2)
    stand_for(world, "10.99.0.1")
    ports = [port(1, "sg-open", subnet_id="subnet-public", source_dest_check=False), port_of(guest, 2)]
    with tcp_server(world.netns, 80, hello):

        def seen() -> set[str]:
            """Under which addresses sixty connections come; that one of three is never drawn has a chance of 10^-10."""
            return {say("10.99.0.1", 80, netns=guest.netns) for _ in range(60)}

        assert seen() == {"10.77.0.200"}
        cloud.ensure(having(three), *ports)
        assert seen() == {"10.77.0.200", "10.77.0.201", "10.77.0.202"}
        cloud.ensure(having(two), *ports)
        assert seen() == {"10.77.0.200", "10.77.0.202"}
        # A successor of the process finds it so, and goes on.
        cloud.new_driver()
        cloud.ensure(having(two), *ports)
        assert seen() == {"10.77.0.200", "10.77.0.202"}
        cloud.ensure(having(first), *ports)
        assert seen() == {"10.77.0.200"}


def test_a_nat_gateway_hides_guests_behind_its_own_address_and_nothing_is_left(cloud: Cloud) -> None:
    before = cloud.traces()
    nat = NatPlan(id="nat-0123456789abcdef0", subnet_id="subnet-public", private_ip="10.77.0.200", public_ip=OTHER)
    # 10.99.0.0/16 is behind a guest of the public subnet, so that who comes through the gateway is seen.
    beyond = to(Target.INTERFACE, port(1).id, "10.99.0.0/16", "10.77.0.11")
    wanted = _with(network((to(Target.NAT, nat.id),), nats=(nat,)), (beyond,))
    cloud.ensure(wanted)
    world = cloud.guest(1, "sg-open", subnet_id="subnet-public", source_dest_check=False)
    guest = inner(cloud, 2)
    stand_for(world, "10.99.0.1")
    ports = [port(1, "sg-open", subnet_id="subnet-public", source_dest_check=False), port_of(guest, 2)]
    with tcp_server(world.netns, 80, hello), tcp_server(guest.netns, 80, hello):
        assert say("10.99.0.1", 80, netns=guest.netns) == "10.77.0.200"
        assert pings("10.99.0.1", netns=guest.netns)
        assert reaches("10.77.0.200", 80, netns=world.netns, timeout=0.5) != "open"
        assert reaches(OTHER, 80, timeout=0.5) != "open"
        for _ in range(2):
            cloud.new_driver()
            cloud.ensure(wanted, *ports)
            assert say("10.99.0.1", 80, netns=guest.netns) == "10.77.0.200"
        cloud.ensure(_with(network((to(Target.NAT, nat.id),)), (beyond,)), *ports)
        assert reaches("10.99.0.1", 80, netns=guest.netns, timeout=0.5) == "unreachable"
    cloud.ensure(wanted, *ports)
    for one in cloud.guests.values():
        one.close()
    cloud.guests.clear()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before
    assert cloud.netns(nat.id) not in run("ip", "netns", "list")
