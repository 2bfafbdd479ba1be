"""Goal: IPv6 leads beyond a VPC as its route tables say: to peers, from this machine and into the world, and not otherwise.

Method: real connections between guests, this machine and a namespace that stands for the world, in both directions; each that
must not arrive beside one that does. Two hosts are two drivers on one machine.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alto.model.acls import AclEntry
from alto.model.errors import DriverFault
from alto.model.network_plans import AclPlan, Neighbour, NetworkPlan, PeerPlan, Port, RoutePlan, SubnetPlan
from alto.model.routing import Target
from tests.drivers.network.guests import Guest, hello, open_socket, reaches, run, say, site, tcp_server, wait_for
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import TO_INTERNET, address_v6, allow, dual, dual_port, group, machine

pytestmark = pytest.mark.net

ONE, TWO = "127.0.0.1:24789", "127.0.0.1:24790"
VNI = 0x80005E
MACHINE = "fd00:ec2::252"
WORLD, HERE = "2001:db8:77::2", "2001:db8:77::1"
A, B = address_v6(1), address_v6(2)
BOTH = (allow("-1", cidr="0.0.0.0/0"), allow("-1", cidr_v6="::/0"), allow("-1", cidr_v6="::/0", egress=True))
OPEN = group("sg-open", *BOTH)
OUT = RoutePlan(destination="::/0", target=Target.INTERNET, target_id="igw-1")
ONLY_OUT = RoutePlan(destination="::/0", target=Target.EGRESS_ONLY, target_id="eigw-1")


def routed(*routes: RoutePlan, of: NetworkPlan | None = None, **changes: Any) -> NetworkPlan:
    """A VPC whose only subnet has these routes beside that of IPv4."""
    made = of or dual(OPEN)
    subnets = tuple(msgspec.structs.replace(one, routes=(TO_INTERNET, *routes)) for one in made.subnets)
    return msgspec.structs.replace(made, subnets=subnets, **changes)


def guest(cloud: Cloud, its: Port) -> Guest:
    number = int(its.id[-4:], 16)
    changes = {name: getattr(its, name) for name in its.__struct_fields__}
    made = cloud.guest(number, machine_of=machine(number, of=its), configured=False, **changes)
    made.run("ip", "addr", "add", f"{its.ipv6[0]}/128", "dev", "eth0", "nodad")
    made.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0", "metric", "1")
    return made


# Peers.

FAR = "fd00:b:0:1::12"


def side(number: int, *groups: Any, routes: bool = True, **changes: Any) -> NetworkPlan:
    """One of two peered VPCs: 10.77.0.0/16 with fd00:a::/56, and 10.78.0.0/16 with fd00:b::/56."""
    own, other = (("10.77", "fd00:a"), ("10.78", "fd00:b"))[:: 1 if number == 1 else -1]
    vpc_id, peer = f"vpc-{number}", f"vpc-{3 - number}"
    over = RoutePlan(destination=f"{other[1]}::/56", target=Target.PEERING, target_id="pcx-1")
    subnet = SubnetPlan(
        id=f"subnet-{vpc_id}",
        cidr=f"{own[0]}.0.0/24",
        cidr_v6=f"{own[1]}:0:1::/64",
        zone="us-east-1a",
        routes=(over,) if routes else (),
    )
    made = NetworkPlan(
        vpc_id=vpc_id,
        region="us-east-1",
        cidr=f"{own[0]}.0.0/16",
        ranges_v6=(f"{own[1]}::/56",),
        subnets=(subnet,),
        groups=groups or (group("sg-open", *BOTH, vpc_id=vpc_id),),
        peers=(PeerPlan(id="pcx-1", vpc_id=peer, cidrs=(f"{other[0]}.0.0/16", f"{other[1]}::/56")),),
    )
    return msgspec.structs.replace(made, **changes)


def far_port() -> Port:
    place: dict[str, Any] = {"vpc_id": "vpc-2", "private_ip": "10.78.0.12", "subnet_cidr": "10.78.0.0/24"}
    return msgspec.structs.replace(
        dual_port(2, "sg-open"), **place, ipv6=(FAR,), subnet_cidr_v6="fd00:b:0:1::/64", subnet_id="subnet-vpc-2"
    )


def near_port(*groups: str) -> Port:
    return msgspec.structs.replace(dual_port(1, *(groups or ("sg-open",))), subnet_id="subnet-vpc-1")


def test_peers_speak_as_routes_groups_and_acls_say(cloud: Cloud) -> None:
    here, there = near_port(), far_port()
    cloud.ensure(side(1))
    cloud.ensure(side(2))
    one, two = guest(cloud, here), guest(cloud, there)

    def become(first: NetworkPlan, second: NetworkPlan) -> str:
        cloud.ensure(first, here)
        cloud.ensure(second, there)
        return one.reaches(FAR, 80, timeout=0.4)

    with tcp_server(two.netns, 80, hello, "::"), tcp_server(one.netns, 80, hello, "::"):
        assert say(FAR, 80, netns=one.netns) == A
        assert say(A, 80, netns=two.netns) == FAR
        # A route on one side only carries nothing back.
        assert become(side(1, routes=False), side(2)) == "unreachable"
        assert become(side(1), side(2, routes=False)) == "silence"
        # Groups: a range, and the peer's group by its members.
        by_range = group("sg-open", allow("tcp", 80, cidr_v6="fd00:a::/56"), vpc_id="vpc-2")
        narrow = group("sg-open", allow("tcp", 80, cidr_v6="fd00:a:0:2::/64"), vpc_id="vpc-2")
        by_group = group("sg-open", allow("tcp", 80, group="sg-peer"), vpc_id="vpc-2")
        v4_only = group("sg-open", allow("tcp", 80, cidr="0.0.0.0/0"), vpc_id="vpc-2")
        for its, members, fate in (
            (by_range, {}, "open"),
            (narrow, {}, "silence"),
            (by_group, {"sg-peer": (A,)}, "open"),
            (by_group, {"sg-peer": ("10.77.0.11",)}, "silence"),
            (v4_only, {}, "silence"),
        ):
            assert become(side(1), side(2, its, members=members)) == fate, (its, members)
        acl = AclPlan(id="acl-1", entries=(entry(cidr_v6="::/0"), entry(cidr_v6="::/0", egress=True)))
        closed = AclPlan(id="acl-1", entries=(entry(cidr="0.0.0.0/0"), entry(cidr_v6="::/0", egress=True)))
        for guard, fate in ((acl, "open"), (closed, "silence")):
            guarded = side(2, acls=(guard,))
            subnets = tuple(msgspec.structs.replace(each, acl_id="acl-1") for each in guarded.subnets)
            assert become(side(1), msgspec.structs.replace(guarded, subnets=subnets)) == fate
        # A driver that begins anew finds it all as it is; and with the connection goes the way.
        cloud.new_driver()
        assert become(side(1), side(2)) == "open"
        assert become(side(1, peers=()), side(2, peers=())) == "unreachable"


def entry(*, egress: bool = False, **where: Any) -> AclEntry:
    return AclEntry(number=100, egress=egress, allow=True, protocol="-1", **where)


def test_a_peering_is_no_way_through_and_nobody_else_s_name_is_believed(cloud: Cloud) -> None:
    """Who reaches a peer's namespace with another's address is not heard, and a peer's internet gateway is the peer's."""
    here, there = msgspec.structs.replace(near_port(), source_dest_check=False), far_port()
    through = side(1)
    everything = RoutePlan(destination="::/0", target=Target.PEERING, target_id="pcx-1")
    subnets = tuple(msgspec.structs.replace(one, routes=(everything,)) for one in through.subnets)
    cloud.ensure(msgspec.structs.replace(through, subnets=subnets))
    cloud.ensure(routed(OUT, of=side(2)))
    one, two = guest(cloud, here), guest(cloud, there)
    stranger = "fd00:c::9"
    one.run("ip", "addr", "add", f"{stranger}/128", "dev", "lo", "nodad")
    with open_socket(two.netns, socket.SOCK_DGRAM, "::") as heard:
        heard.bind(("::", 9))
        heard.settimeout(2)
        for source in (stranger, A):
            with open_socket(one.netns, socket.SOCK_DGRAM, "::") as sock:
                sock.bind((source, 0))
                sock.sendto(source.encode(), (FAR, 9))
        assert heard.recv(100) == A.encode()
    drops = run("nft", "list", "chain", "inet", "alto_route", "c_arrived", netns=cloud.netns("vpc-2"))
    assert re.search(r'iifname "pcx\*" counter packets [1-9]', drops)


def test_peers_speak_across_hosts(cloud: Cloud, tmp_path: Path) -> None:
    """One VPC's guest is on the first host, the other's on the second; each host has both VPCs."""
    here, there = near_port(), far_port()
    second = Cloud(tmp_path / "second", cloud_id=cloud.cloud_id, host_id="h-2")
    try:
        cloud.ensure(spread(side(1), ONE))
        cloud.ensure(spread(side(2), ONE, there, standing=True))
        second.ensure(spread(side(1), TWO, here, standing=True))
        second.ensure(spread(side(2), TWO))
        one, two = guest(cloud, here), guest(second, there)
        big = tcp_server(two.netns, 81, lambda sock, _: sock.sendall(b"x" * 300_000), "::")
        with tcp_server(two.netns, 80, hello, "::"), big:
            assert say(FAR, 80, netns=one.netns) == A
            assert len(one.run("busybox", "nc", FAR, "81")) == 300_000
            second.ensure(spread(side(2, peers=()), TWO), there)
            assert one.reaches(FAR, 80, timeout=0.5) != "open"
    finally:
        second.close()


def spread(of: NetworkPlan, own: str, *far: Port, **changes: Any) -> NetworkPlan:
    """As the host at `own` is told of it, when `far` are on the other one."""
    other = TWO if own == ONE else ONE
    near = tuple(
        Neighbour(
            interface_id=one.id,
            vpc_id=one.vpc_id,
            addresses=one.all_addresses,
            hostname=one.hostname,
            group_ids=one.group_ids,
            underlay=other,
            entered_here=changes.pop("entered_here", False),
        )
        for one in far
    )
    vni = VNI + int(of.vpc_id[-1])
    news = {"vni": vni, "underlay": own, "hosts": (other,), "neighbours": near, **changes}
    return msgspec.structs.replace(of, **news)


# From this machine.


def test_this_machine_reaches_a_guest_where_a_route_leads_to_the_internet(cloud: Cloud) -> None:
    cloud.ensure(routed(OUT))
    its = dual_port(1, "sg-open")
    one = guest(cloud, its)
    with tcp_server(one.netns, 22, hello, "::"), tcp_server(None, 22, hello, "::"):
        assert say(A, 22) == MACHINE
        assert reaches(A, 81) == "refused"
        cases: list[tuple[str, NetworkPlan, str]] = [
            ("no route", routed(), "unreachable"),
            ("a range with this machine in it", routed(msgspec.structs.replace(OUT, destination="fd00::/8")), "open"),
            ("another range", routed(msgspec.structs.replace(OUT, destination="2000::/3")), "unreachable"),
            ("a black hole", routed(msgspec.structs.replace(OUT, target=None)), "unreachable"),
            ("egress only", routed(ONLY_OUT), "unreachable"),
            ("no gateway", routed(OUT, internet=False), "unreachable"),
            ("again", routed(OUT), "open"),
            ("group closed", routed(OUT, groups=(group("sg-open", allow("tcp", 22, cidr="0.0.0.0/0")),)), "silence"),
            ("the machine's", routed(OUT, groups=(group("sg-open", allow("tcp", 22, cidr_v6=f"{MACHINE}/128")),)), "open"),
            ("not its range", routed(OUT, groups=(group("sg-open", allow("tcp", 22, cidr_v6="2000::/3")),)), "silence"),
        ]
        for what, plan, fate in cases:
            cloud.ensure(plan, its)
            # The kernel tells whoever asks from here at the second try, after a second.
            assert reaches(A, 22, timeout=4 if fate == "unreachable" else 0.4) == fate, what
        # Whatever address of its own this machine speaks from, the guest sees one.
        cloud.ensure(routed(OUT), its)
        run("ip", "addr", "add", "2001:db8:5::1/128", "dev", "lo", "nodad")
        assert say(A, 22, source="2001:db8:5::1") == MACHINE
        # Of this machine the guest gets nothing.
        cloud.ensure(routed(OUT), its)
        assert one.reaches(MACHINE, 22, timeout=0.4) == "silence"
        # A driver that begins anew, and a guest whose address goes and comes back.
        cloud.new_driver()
        cloud.ensure(routed(OUT), its)
        assert say(A, 22) == MACHINE
        bare = msgspec.structs.replace(its, ipv6=())
        cloud.do(lambda driver: driver.describe(bare, machine(1, of=bare)))
        assert reaches(A, 22, timeout=0.4) == "unreachable"
        cloud.do(lambda driver: driver.describe(its, machine(1, of=its)))
        assert say(A, 22) == MACHINE
        # The VPC loses its range.
        cloud.ensure(msgspec.structs.replace(routed(), ranges_v6=()), bare)
        assert A not in run("ip", "-6", "route", "show", "table", "all")


def test_a_route_that_was_not_taken_away_is_found_by_a_new_driver(cloud: Cloud) -> None:
    """A predecessor died between: its VPC leads nobody in any more, and so it is."""
    cloud.ensure(routed(OUT))
    its = dual_port(1, "sg-open")
    guest(cloud, its)
    assert f"{A} via" in run("ip", "-6", "route")
    cloud.new_driver()
    cloud.ensure(routed(), its)
    assert A not in run("ip", "-6", "route")


def test_this_machine_reaches_a_guest_on_another_host(cloud: Cloud, tmp_path: Path) -> None:
    """The guest's host is elsewhere: packets go in by the first one, and answers come back through it."""
    there = dual_port(2, "sg-open")
    second = Cloud(tmp_path / "second", cloud_id=cloud.cloud_id, host_id="h-2")
    try:
        second.ensure(spread(routed(OUT), TWO))
        two = guest(second, there)
        # As if on another machine: its own host's uplink leads nowhere here.
        run("ip", "link", "set", device_of(second), "down")
        cloud.ensure(spread(routed(OUT), ONE, there, entered_here=True, standing=True))
        assert f"dev {device_of(cloud)}" in run("ip", "-6", "route", "get", B)
        with tcp_server(two.netns, 80, hello, "::"):
            assert say(B, 80) == MACHINE
            cloud.ensure(spread(routed(ONLY_OUT), ONE, there, entered_here=True, standing=True))
            assert reaches(B, 80, timeout=0.4) == "unreachable"
    finally:
        second.close()


def device_of(cloud: Cloud) -> str:
    """This machine's end of the uplink of its only VPC."""
    found = re.findall(r"^\d+: up0@if(\d+)", run("ip", "-n", cloud.netns(), "-o", "link"), re.MULTILINE)
    names = dict(re.findall(r"^(\d+): ([^@:]+)", run("ip", "-o", "link"), re.MULTILINE))
    return names[found[0]]


def test_an_address_leads_into_one_vpc(cloud: Cloud) -> None:
    """Ranges are drawn by chance: should two VPCs ever have the same, the second does not take the first one's packets."""
    its = dual_port(1, "sg-open")
    cloud.ensure(routed(OUT))
    one = guest(cloud, its)
    with tcp_server(one.netns, 80, hello, "::"):
        other = routed(OUT, of=dual(group("sg-open", *BOTH, vpc_id="vpc-2"), vpc_id="vpc-2"))
        cloud.ensure(other)
        same = msgspec.structs.replace(its, id="eni-2222222222222222a", vpc_id="vpc-2")
        with pytest.raises(DriverFault, match="another VPC"):
            cloud.do(lambda driver: driver.plug(same, machine(1, of=same)))
        assert say(A, 80) == MACHINE


def test_nothing_is_left_on_this_machine(cloud: Cloud) -> None:
    before = traces(cloud)
    cloud.ensure(routed(OUT))
    guest(cloud, dual_port(1, "sg-open"))
    for one in cloud.guests.values():
        one.close()
    cloud.guests.clear()
    cloud.do(lambda driver: driver.remove_network("vpc-1"))
    assert A not in str(traces(cloud))
    cloud.do(lambda driver: driver.remove_all())
    assert traces(cloud) == before


def traces(cloud: Cloud) -> dict[str, object]:
    left = cloud.traces()
    left["routes of IPv6"] = run("ip", "-6", "route", "show", "table", "all").splitlines()
    left["files"] = []
    left["settings"] = run("sysctl", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.accept_ra")
    return left


# Into the world.


@contextmanager
def world(tmp_path: Path) -> Iterator[tuple[str, Cloud]]:
    """A machine whose uplink leads to a namespace that stands for the world, and a cloud on it."""
    name = f"nwt-world6-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        with site(f"nwt-router6-{os.getpid()}"):
            run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", name)
            run("ip", "addr", "add", f"{HERE}/64", "dev", "wan0", "nodad")
            run("ip", "link", "set", "wan0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "addr", "add", f"{WORLD}/64", "dev", "wan1", "nodad")
            run("ip", "-n", name, "link", "set", "wan1", "up")
            run("ip", "route", "add", "::/0", "via", WORLD)
            cloud = Cloud(tmp_path / "net", nat=True)
            try:
                yield name, cloud
            finally:
                cloud.close()
    finally:
        run("ip", "netns", "delete", name)


@contextmanager
def lan() -> Iterator[str]:
    """Another network of this machine, with somebody in it who would answer."""
    name = f"nwt-lan6-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1", "netns", name)
        for netns, device, address in ((None, "lan0", "fd00:d::1"), (name, "lan1", "fd00:d::2")):
            where = ["-n", netns] if netns else []
            run("ip", *where, "addr", "add", f"{address}/64", "dev", device, "nodad")
            run("ip", *where, "link", "set", device, "up")
        run("ip", "-n", name, "route", "add", "::/0", "via", "fd00:d::1")
        yield name
    finally:
        run("ip", "netns", "delete", name)


@pytest.mark.parametrize("way", [OUT, ONLY_OUT])
def test_the_world_is_reached_as_this_machine_and_nobody_comes_in_from_there(
    namespaces: None, tmp_path: Path, way: RoutePlan
) -> None:
    with world(tmp_path) as (outside, cloud):
        settings = ("net.ipv6.conf.all.forwarding", "net.ipv6.conf.wan0.accept_ra", "net.ipv6.conf.default.accept_ra")
        before = run("sysctl", *settings)
        its = dual_port(1, "sg-open")
        cloud.ensure(routed(way))
        one = guest(cloud, its)
        assert run("sysctl", "-n", *settings) == "1\n2\n2\n"  # a device that hears routers goes on to
        server = tcp_server(one.netns, 80, hello, "::")
        with tcp_server(outside, 80, hello, "::"), tcp_server(None, 22, hello, "::"), server:
            assert say(WORLD, 80, netns=one.netns) == HERE
            assert "1 packets received" in one.run("busybox", "ping6", "-c", "1", "-W", "2", WORLD, check=False)
            assert one.reaches(HERE, 22, timeout=0.4) == "silence"
            # From outside nobody comes in, although this machine forwards now; nor by it to anywhere else.
            run("ip", "-n", outside, "route", "add", "fd00::/8", "via", HERE)
            assert reaches(A, 80, netns=outside, timeout=0.4) == "silence"
            with lan() as beside, tcp_server(beside, 80, hello, "::"):
                assert say("fd00:d::2", 80) == "fd00:d::1"
                assert reaches("fd00:d::2", 80, netns=outside, timeout=0.4) == "silence"
            assert reaches(A, 80, timeout=4) == ("open" if way is OUT else "unreachable")
            # Without a route none leaves, nor by a narrower one that another range is meant by.
            cloud.ensure(routed(), its)
            assert one.reaches(WORLD, 80, timeout=0.4) == "unreachable"
            cloud.ensure(routed(msgspec.structs.replace(way, destination="2001:db8:78::/48")), its)
            assert one.reaches(WORLD, 80, timeout=0.4) == "unreachable"
            cloud.ensure(routed(msgspec.structs.replace(way, destination="2001:db8:77::/48")), its)
            assert say(WORLD, 80, netns=one.netns) == HERE
        for each in cloud.guests.values():
            each.close()
        cloud.guests.clear()
        cloud.do(lambda driver: driver.remove_all())
        assert run("sysctl", *settings) == before
        assert run("nft", "list", "tables") == ""


def test_who_comes_after_a_driver_that_died_between_finishes_its_work(namespaces: None, tmp_path: Path) -> None:
    """It had written down how the machine was, and not changed it yet."""
    with world(tmp_path) as (outside, cloud):
        settings = ("net.ipv6.conf.all.forwarding", "net.ipv6.conf.wan0.accept_ra")
        its = dual_port(1, "sg-open")
        cloud.ensure(routed(OUT))
        one = guest(cloud, its)
        run("sysctl", "-q", f"{settings[1]}=1", f"{settings[0]}=0")
        cloud.new_driver()
        cloud.ensure(routed(OUT), its)
        assert run("sysctl", "-n", *settings) == "1\n2\n"
        with tcp_server(outside, 80, hello, "::"):
            assert say(WORLD, 80, netns=one.netns) == HERE


def test_nobody_leaves_in_the_name_of_somebody_outside(namespaces: None, tmp_path: Path) -> None:
    """A router's source is not checked; what is no address of the VPC ends at its border."""
    with world(tmp_path) as (outside, cloud):
        its = dual_port(1, "sg-open", source_dest_check=False)
        cloud.ensure(routed(OUT))
        one = guest(cloud, its)
        stranger = "fd00:c::9"
        one.run("ip", "addr", "add", f"{stranger}/128", "dev", "lo", "nodad")
        with open_socket(outside, socket.SOCK_DGRAM, "::") as heard:
            heard.bind(("::", 9))
            heard.settimeout(2)
            for source in (stranger, A):
                with open_socket(one.netns, socket.SOCK_DGRAM, "::") as sock:
                    sock.bind((source, 0))
                    sock.sendto(source.encode(), (WORLD, 9))
            assert heard.recv(100) == A.encode()


def test_a_lost_uplink_comes_back(cloud: Cloud) -> None:
    its = dual_port(1, "sg-open")
    cloud.ensure(routed(OUT))
    one = guest(cloud, its)
    with tcp_server(one.netns, 80, hello, "::"):
        assert say(A, 80) == MACHINE
        run("ip", "link", "delete", device_of(cloud))
        assert reaches(A, 80) == "unreachable"
        cloud.ensure(routed(OUT), its)
        assert say(A, 80) == MACHINE


def test_where_no_way_leads_out_the_guest_is_told_at_once(cloud: Cloud) -> None:
    cloud.ensure(routed(OUT))
    one = guest(cloud, dual_port(1, "sg-open"))
    assert one.reaches("2001:db8::1", 80, timeout=2) == "unreachable"


def test_a_router_among_the_guests_carries_what_a_route_leads_to_it(cloud: Cloud) -> None:
    router = msgspec.structs.replace(dual_port(2, "sg-open"), source_dest_check=False)
    beyond = RoutePlan(destination="fd00:99::/64", target=Target.INTERFACE, target_id=router.id, address=B)
    cloud.ensure(routed(beyond))
    one, two = guest(cloud, dual_port(1, "sg-open")), guest(cloud, router)
    two.run("ip", "addr", "add", "fd00:99::1/128", "dev", "lo", "nodad")
    with tcp_server(two.netns, 80, hello, "::"):
        assert say("fd00:99::1", 80, netns=one.netns) == A
        cloud.ensure(routed(beyond), dual_port(1, "sg-open"), dual_port(2, "sg-open"))
        wait_for(lambda: one.reaches("fd00:99::1", 80, timeout=0.4) != "open", "its source is checked now")
