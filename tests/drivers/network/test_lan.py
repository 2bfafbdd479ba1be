"""Goal: with a pool that is not loopback, public addresses are guests' on the LAN, on this machine and between VPCs, as in EC2:
each end sees the other's own address, groups decide by it, and nothing is left of it.

Method: the machine, its router and a second machine of the LAN are namespaces on one bridge; real servers and clients, and the
kernel's own ARP, say who is reached and whom they see.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from alto.daemons.hosts import check_pool
from alto.kit.world import inside_netns, real_world
from alto.model.errors import AltoError
from alto.model.network_plans import NatPlan, PeerPlan, RoutePlan, SubnetPlan
from alto.model.routing import Target
from tests.drivers.network.guests import (
    ask_udp,
    hello,
    open_socket,
    pings,
    reaches,
    run,
    say,
    site,
    tcp_server,
    udp_echo,
    wait_for,
)
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, TO_INTERNET, allow, group, machine, plan, port

pytestmark = pytest.mark.net

HERE, OTHER = "192.168.7.2", "192.168.7.20"
POOL, PUBLIC, SECOND, THIRD = "192.168.7.128/25", "192.168.7.132", "192.168.7.133", "192.168.7.134"
OPEN = group("sg-open", allow("-1", cidr="0.0.0.0/0"))
# A machine elsewhere, whose address is one of the VPC's range.
INSIDE = "10.77.0.200"


@pytest.fixture
def lan(namespaces: None) -> Iterator[str]:
    """This thread is on a machine with eth0 at HERE; the answer is the namespace of another one, at OTHER."""
    other = f"nwt-lan-{os.getpid()}"
    run("ip", "netns", "add", other)
    try:
        with site(f"nwt-site-{os.getpid()}"):
            run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other)
            run("ip", "addr", "add", f"{HERE}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
            for line in (
                "link set lo up",
                f"addr add {OTHER}/24 dev eth0",
                f"addr add {INSIDE}/32 dev eth0",
                "link set eth0 up",
            ):
                run("ip", "-n", other, *line.split())
            yield other
    finally:
        run("ip", "netns", "delete", other)


@pytest.fixture
def cloud(lan: str, tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path / "net", pool=POOL, nat=True)
    try:
        yield made
    finally:
        made.close()


def test_the_lan_and_this_machine_reach_a_guest_and_both_see_who_the_other_is(cloud: Cloud, lan: str) -> None:
    cloud.ensure(plan(DEFAULT, OPEN))
    guest = cloud.guest(1, "sg-open", public_ip=PUBLIC)
    with tcp_server(guest.netns, 80, hello), udp_echo(guest.netns, 53), tcp_server(lan, 80, hello), tcp_server(None, 22, hello):
        assert say(PUBLIC, 80, netns=lan) == OTHER
        assert say(PUBLIC, 80) == HERE
        assert say(PUBLIC, 80, source="127.0.0.1") == "169.254.169.252"
        assert ask_udp(PUBLIC, 53, b"x", netns=lan) == f"{OTHER} x".encode()
        assert pings(PUBLIC, netns=lan, timeout=2)
        assert say(OTHER, 80, netns=guest.netns) == PUBLIC
        # Of this machine it gets at nothing, and nobody gets at this machine by an address of the pool.
        for own in (HERE, "127.0.0.1", "169.254.169.252"):
            assert reaches(own, 22, netns=guest.netns, timeout=0.5) != "open", own
        assert reaches(PUBLIC, 22, netns=lan) == "refused"
        assert reaches(SECOND, 22, netns=lan, timeout=4) == "unreachable"
        guest.process.kill()
        guest.process.wait()
        wait_for(lambda: reaches(PUBLIC, 80, netns=lan, timeout=3) == "unreachable", "the tap is gone")


def test_groups_decide_by_the_other_ones_own_address(cloud: Cloud, lan: str) -> None:
    cloud.ensure(plan(DEFAULT, group("sg-1", allow("tcp", 80, cidr=f"{OTHER}/32"), allow("udp", 81, cidr="10.77.0.0/16"))))
    guest = cloud.guest(1, "sg-1", public_ip=PUBLIC)
    run("ip", "-n", lan, "addr", "add", "192.168.7.21/24", "dev", "eth0")
    run("ip", "route", "add", f"{INSIDE}/32", "dev", "eth0")
    with tcp_server(guest.netns, 80, hello), tcp_server(guest.netns, 81, hello):
        assert say(PUBLIC, 80, netns=lan) == OTHER
        assert reaches(PUBLIC, 80, netns=lan, source="192.168.7.21", timeout=2) == "silence"
        assert reaches(PUBLIC, 80) == "silence"
        # Nobody outside passes for somebody inside by having an address of the VPC's range: not one datagram arrives.
        with open_socket(guest.netns, socket.SOCK_DGRAM) as inbox, open_socket(lan, socket.SOCK_DGRAM) as forger:
            inbox.bind(("", 81))
            inbox.settimeout(1)
            forger.bind((INSIDE, 0))
            forger.sendto(b"x", (PUBLIC, 81))
            with pytest.raises(TimeoutError):
                inbox.recv(100)
        cloud.ensure(plan(DEFAULT, group("sg-1", allow("tcp", 81, cidr="0.0.0.0/0"))), port(1, "sg-1", public_ip=PUBLIC))
        # And whoever has one by chance is answered nevertheless.
        assert say(PUBLIC, 81, netns=lan, source=INSIDE) == "169.254.169.252"


def test_guests_reach_public_addresses_of_their_own_vpc_and_of_others_through_the_internet_gateway(
    cloud: Cloud, lan: str, tmp_path: Path
) -> None:
    near = group("sg-near", allow("tcp", 80, group="sg-open"), allow("tcp", 81, cidr=f"{PUBLIC}/32"))
    second = Cloud(tmp_path / "second", host_id="h-2", pool=POOL, nat=False)
    try:
        cloud.ensure(plan(DEFAULT, OPEN, near))
        cloud.ensure(plan(group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id="vpc-2"), vpc_id="vpc-2"))
        second.ensure(plan(group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id="vpc-3"), vpc_id="vpc-3"))
        one = cloud.guest(1, "sg-open", public_ip=PUBLIC)
        two = cloud.guest(2, "sg-near", public_ip=SECOND)
        # Equal private addresses as the first's, in another VPC, and in one on this machine's other host.
        three = cloud.guest(1, "sg-open", public_ip=THIRD, vpc_id="vpc-2")
        four = second.guest(1, "sg-open", public_ip="192.168.7.135", vpc_id="vpc-3")
        bare = cloud.guest(3, "sg-open")
        with (
            tcp_server(one.netns, 80, hello),
            tcp_server(two.netns, 80, hello),
            tcp_server(two.netns, 81, hello),
            tcp_server(three.netns, 80, hello),
            tcp_server(four.netns, 80, hello),
        ):
            assert say("10.77.0.12", 80, netns=one.netns) == "10.77.0.11"
            # A group as source means private addresses, in EC2 too.
            assert reaches(SECOND, 80, netns=one.netns) == "silence"
            assert say(SECOND, 81, netns=one.netns) == PUBLIC
            assert say(PUBLIC, 80, netns=one.netns) == PUBLIC
            assert say(THIRD, 80, netns=one.netns) == PUBLIC
            assert say(PUBLIC, 80, netns=three.netns) == THIRD
            assert say("192.168.7.135", 80, netns=one.netns) == PUBLIC
            assert say(PUBLIC, 80, netns=four.netns) == "192.168.7.135"
            assert reaches(THIRD, 80, netns=bare.netns) == "unreachable"
            # The second host's guests begin nothing that leaves the cloud.
            with tcp_server(lan, 80, hello):
                assert reaches(OTHER, 80, netns=four.netns) != "open"
            assert say("192.168.7.135", 80, netns=lan) == OTHER
    finally:
        second.close()


def test_an_address_moves_between_machines_and_the_lan_hears_of_it(lan: str, tmp_path: Path) -> None:
    """A third machine is a host too; the one at OTHER has spoken with the address where it was before."""
    third = f"nwt-third-{os.getpid()}"
    run("ip", "netns", "add", third)
    try:
        # This machine and the third are ports of one switch, which is a namespace of its own.
        switch = f"nwt-switch-{os.getpid()}"
        run("ip", "netns", "add", switch)
        try:
            run("ip", "link", "delete", "eth0")
            run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", switch, "link", "set", "br0", "up")
            for number, name in enumerate((None, third, lan), 1):
                where = ("-n", name) if name else ()
                run("ip", *where, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}", "netns", switch)
                run("ip", "-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
                run("ip", *where, "addr", "add", f"192.168.7.{(2, 3, 20)[number - 1]}/24", "dev", "eth0")
                run("ip", *where, "link", "set", "eth0", "up")
            run("ip", "-n", third, "link", "set", "lo", "up")
            first = Cloud(tmp_path / "first", pool=POOL)
            second = Cloud(tmp_path / "second", host_id="h-2", pool=POOL)
            try:
                first.ensure(plan(DEFAULT, OPEN))
                with tcp_server(first.guest(1, "sg-open", public_ip=PUBLIC).netns, 80, hello):
                    assert say(PUBLIC, 80, netns=lan) == OTHER
                    before = run("ip", "-n", lan, "neigh", "show", PUBLIC)
                bare = port(1, "sg-open")
                first.do(lambda driver: driver.describe(bare, machine(1, of=bare)))
                with inside_netns(third):
                    second.ensure(plan(DEFAULT, OPEN))
                    guest = second.guest(2, "sg-open", public_ip=PUBLIC)
                with tcp_server(guest.netns, 80, hello):
                    # At once, though what it remembers is not a second old.
                    assert say(PUBLIC, 80, netns=lan) == OTHER
                    assert run("ip", "-n", lan, "neigh", "show", PUBLIC).split()[4] != before.split()[4]
                    assert say(PUBLIC, 80) == HERE
            finally:
                first.close()
                with inside_netns(third):
                    second.close()
        finally:
            run("ip", "netns", "delete", switch)
    finally:
        run("ip", "netns", "delete", third)


def test_a_balancers_address_is_this_machines_while_it_is_held(cloud: Cloud, lan: str) -> None:
    cloud.ensure(plan(DEFAULT, OPEN))
    guest = cloud.guest(1, "sg-open", public_ip=PUBLIC)
    cloud.do(lambda driver: driver.hold({SECOND}))
    with tcp_server(None, 80, hello, address=SECOND), tcp_server(None, 22, hello):
        assert say(SECOND, 80, netns=lan) == OTHER
        assert say(SECOND, 80) in (HERE, SECOND)
        assert say(SECOND, 80, netns=guest.netns) == PUBLIC
        for netns in (lan, None, guest.netns):
            assert reaches(SECOND, 22, netns=netns) == "refused"
        assert say(HERE, 22, netns=lan) == OTHER
    again = cloud.new_driver()
    cloud.do(lambda driver: again.ensure_network(plan(DEFAULT, OPEN), [port(1, "sg-open", public_ip=PUBLIC)]))
    cloud.do(lambda driver: again.hold(()))
    assert reaches(SECOND, 80, netns=lan, timeout=4) == "unreachable"


def test_it_is_taken_over_and_nothing_is_left(cloud: Cloud, lan: str) -> None:
    def traces() -> object:
        proxies = run("ip", "neigh", "show", "proxy")
        return cloud.traces(), proxies, run("ip", "-4", "addr"), run("sysctl", "-n", "net.ipv4.conf.eth0.forwarding")

    before = traces()
    network = plan(DEFAULT, OPEN, peers=(PeerPlan(id="pcx-1", vpc_id="vpc-9", cidrs=("10.77.0.0/16", "10.8.0.0/16")),))
    cloud.ensure(network)
    guest = cloud.guest(1, "sg-open", public_ip=PUBLIC)
    gone = cloud.guest(2, "sg-open", public_ip=SECOND)
    cloud.do(lambda driver: driver.hold({THIRD}))
    with tcp_server(guest.netns, 80, hello):
        assert say(PUBLIC, 80, netns=lan) == OTHER
        gone.close()
        cloud.new_driver()
        cloud.ensure(network, port(1, "sg-open", public_ip=PUBLIC))
        assert say(PUBLIC, 80, netns=lan) == OTHER
        assert run("ip", "neigh", "show", "proxy").split()[0] == PUBLIC
        assert SECOND not in run("ip", "neigh", "show", "proxy")
        bare = port(1, "sg-open")
        cloud.do(lambda driver: driver.describe(bare, machine(1, of=bare)))
        assert run("ip", "neigh", "show", "proxy") == ""
    guest.close()
    cloud.guests.clear()
    cloud.new_driver()
    cloud.do(lambda driver: driver.remove_all())
    assert traces() == before


def test_a_pool_that_the_network_leads_here(namespaces: None, tmp_path: Path) -> None:
    """The LAN's router sends the pool here; what nobody has is refused here, and does not go back to it."""
    world = f"nwt-world-{os.getpid()}"
    run("ip", "netns", "add", world)
    try:
        with site(f"nwt-routed-{os.getpid()}"):
            cloud = Cloud(tmp_path / "net", pool="203.0.113.0/24", nat=True)
            try:
                # On a machine without any address of its own it works, too.
                cloud.ensure(plan(DEFAULT, OPEN))
                guest = cloud.guest(1, "sg-open", public_ip="203.0.113.5")
                other = cloud.guest(2, "sg-open", public_ip="203.0.113.6")
                with tcp_server(guest.netns, 80, hello), tcp_server(world, 80, hello):
                    assert say("203.0.113.5", 80) == "169.254.169.252"
                    assert say("203.0.113.5", 80, netns=other.netns) == "203.0.113.6"
                    assert reaches("203.0.113.9", 80) == "unreachable"
                    run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", world)
                    run("ip", "addr", "add", "198.51.100.1/24", "dev", "wan0")
                    run("ip", "link", "set", "wan0", "up")
                    run("ip", "route", "add", "default", "via", "198.51.100.2")
                    for line in (
                        "link set lo up",
                        "addr add 198.51.100.2/24 dev wan1",
                        "link set wan1 up",
                        "route add 203.0.113.0/24 via 198.51.100.1",
                    ):
                        run("ip", "-n", world, *line.split())
                    known = [port(number, "sg-open", public_ip=f"203.0.113.{4 + number}") for number in (1, 2)]
                    cloud.ensure(plan(DEFAULT, OPEN), *known)
                    assert say("203.0.113.5", 80, netns=world) == "198.51.100.2"
                    assert say("198.51.100.2", 80, netns=guest.netns) == "203.0.113.5"
                    assert reaches("203.0.113.9", 80, netns=world) == "unreachable"
                    assert reaches("203.0.113.9", 80, netns=guest.netns) == "unreachable"
            finally:
                cloud.close()
            assert "203.0.113" not in run("ip", "route")
    finally:
        run("ip", "netns", "delete", world)


def test_who_leaves_by_a_nat_gateway_is_seen_under_its_public_address(cloud: Cloud, lan: str) -> None:
    nat = NatPlan(id="nat-0a17000000000000a", subnet_id="subnet-out", private_ip="10.77.1.9", public_ip=SECOND)
    through = RoutePlan(destination="0.0.0.0/0", target=Target.NAT, target_id=nat.id)
    subnets = (
        SubnetPlan(id="subnet-in", cidr="10.77.0.0/24", zone="a", route_table_id="rtb-in", routes=(through,)),
        SubnetPlan(id="subnet-out", cidr="10.77.1.0/24", zone="a", route_table_id="rtb-out", routes=(TO_INTERNET,)),
    )
    cloud.ensure(plan(OPEN, subnets=subnets, nats=(nat,)))
    inner = cloud.guest(1, "sg-open", subnet_id="subnet-in")
    outer = cloud.guest(
        2,
        "sg-open",
        subnet_id="subnet-out",
        subnet_cidr="10.77.1.0/24",
        private_ip="10.77.1.12",
        public_ip=PUBLIC,
        configured=False,
    )
    for line in ("addr add 10.77.1.12/24 dev eth0", "route add default via 10.77.1.1"):
        run("ip", "-n", outer.netns, *line.split())
    with tcp_server(lan, 80, hello), tcp_server(outer.netns, 80, hello):
        assert say(OTHER, 80, netns=inner.netns) == SECOND
        assert say(PUBLIC, 80, netns=inner.netns) == SECOND
        assert say("10.77.1.12", 80, netns=inner.netns) == "10.77.0.11"
    # It takes no connection from anybody.
    assert reaches(SECOND, 80, netns=lan, timeout=2) != "open"


def test_a_pool_must_fit_where_the_machine_stands(lan: str) -> None:
    def refusal(pool: str, *, joined: bool) -> str:
        try:
            asyncio.run(check_pool(real_world(), pool, joined=joined))
        except AltoError as error:
            return str(error)
        return ""

    run("ip", "route", "add", "default", "via", "192.168.7.129")
    assert "192.168.7.129, which is this machine's router" in refusal(POOL, joined=False)
    assert f"own address {HERE} (eth0)" in refusal("192.168.7.0/26", joined=False)
    run("ip", "route", "replace", "default", "via", "192.168.7.1")
    # Wherever the pool is led, one machine can have it; those that join answer for their own instances.
    assert [refusal(pool, joined=False) for pool in (POOL, "203.0.113.0/24", "127.64.0.0/16")] == ["", "", ""]
    assert [refusal(pool, joined=True) for pool in (POOL, "127.64.0.0/16")] == ["", ""]
    assert "no interface of this machine is in such a network" in refusal("203.0.113.0/24", joined=True)
