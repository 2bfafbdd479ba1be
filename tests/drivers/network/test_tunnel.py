"""Goal: one VPC on two hosts is one network, for guests and for what a host itself opens in it, and for nobody else.

Method: two drivers on one machine, with UDP ports of their own, guests behind each; real connections, and forged outer packets.
"""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alto.model.network_plans import Names, NatPlan, Neighbour, NetworkPlan, PeerPlan, Port, RoutePlan, SubnetPlan, tunnel_mac
from alto.model.routing import Target
from alto.plan.network_changes import difference
from tests.drivers.network.guests import (
    Guest,
    ask_udp,
    hello,
    open_socket,
    pings,
    reaches,
    run,
    say,
    tcp_server,
    udp_echo,
    wait_for,
)
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import TO_INTERNET, allow, group, plan, port

pytestmark = pytest.mark.net

ONE, TWO = "127.0.0.1:24789", "127.0.0.1:24790"
OPEN = group("sg-open", allow("-1", cidr="0.0.0.0/0"))
VNI = 0x80004D


def near(far: Port, underlay: str, **changes: Any) -> Neighbour:
    return Neighbour(
        interface_id=far.id,
        vpc_id=far.vpc_id,
        addresses=tuple(one.private_ip for one in far.addresses),
        hostname=far.hostname,
        group_ids=far.group_ids,
        underlay=underlay,
        **changes,
    )


def seen_from(own: str, *far: Port, of: NetworkPlan | None = None, vni: int = VNI, **changes: Any) -> NetworkPlan:
    """The VPC as the host at `own` is told of it, when `far` are on the other one."""
    other = TWO if own == ONE else ONE
    near_by = tuple(near(one, other, source_dest_check=one.source_dest_check) for one in far)
    made = of or plan(OPEN)
    return msgspec.structs.replace(made, **{"vni": vni, "underlay": own, "hosts": (other,), "neighbours": near_by, **changes})


@pytest.fixture
def second(cloud: Cloud, tmp_path: Path) -> Iterator[Cloud]:
    """Another host of the same cloud, on the same machine."""
    made = Cloud(tmp_path / "second", cloud_id=cloud.cloud_id, host_id="h-2")
    try:
        yield made
    finally:
        made.close()


def opened(guest: Guest, address: str, gateway: str) -> Guest:
    guest.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    guest.run("ip", "route", "add", "default", "via", gateway)
    return guest


def echoes(guest: Guest, address: str, size: int) -> bool:
    try:
        answer = ask_udp(address, 53, b"x" * size, netns=guest.netns, timeout=0.5)
    except OSError:
        return False
    return answer == b"10.77.0.11 " + b"x" * size


def test_guests_on_two_hosts_speak_and_big_packets_pass(cloud: Cloud, tmp_path: Path) -> None:
    before = cloud.traces()
    second = Cloud(tmp_path / "second", cloud_id=cloud.cloud_id, host_id="h-2")
    try:
        cloud.ensure(seen_from(ONE, port(2, "sg-open")))
        second.ensure(seen_from(TWO, port(1, "sg-open")))
        first, other = cloud.guest(1, "sg-open"), second.guest(2, "sg-open")
        big = tcp_server(other.netns, 81, lambda sock, _: sock.sendall(b"x" * 300_000))
        with tcp_server(other.netns, 80, hello), big, udp_echo(other.netns, 53):
            assert say("10.77.0.12", 80, netns=first.netns) == "10.77.0.11"
            assert len(first.run("busybox", "nc", "10.77.0.12", "81")) == 300_000
            # As large as the guest's device takes, and larger; the first ones of each side tell it what the way takes.
            for size in (1472, 8000):
                wait_for(lambda: echoes(first, "10.77.0.12", size), f"{size} bytes and back")  # noqa: B023
            assert "10.77.0.12" in first.run("busybox", "nslookup", "ip-10-77-0-12.ec2.internal", "10.77.0.2", check=False)
            assert "ip-10-77-0-11.ec2" in other.run("busybox", "nslookup", "10.77.0.11", "10.77.0.2", check=False)
            # What the first host opens itself, a balancer for one, comes back to it and not to the second's own address.
            assert say("10.77.0.12", 80, netns=cloud.netns()) == "10.77.0.3"
            # A driver that comes after a dead one changes nothing that is right.
            device = run("ip", "-n", cloud.netns(), "-o", "link", "show", "vx2")
            cloud.new_driver()
            cloud.ensure(seen_from(ONE, port(2, "sg-open")), port(1, "sg-open"))
            assert run("ip", "-n", cloud.netns(), "-o", "link", "show", "vx2") == device
            assert say("10.77.0.12", 80, netns=first.netns) == "10.77.0.11"
            # Nobody lives there any more: believed no longer.
            cloud.ensure(seen_from(ONE), port(1, "sg-open"))
            assert reaches("10.77.0.12", 80, netns=first.netns, timeout=0.5) == "unreachable"
            assert not pings("10.77.0.11", netns=other.netns)
    finally:
        second.close()
    for guest in cloud.guests.values():
        guest.close()
    cloud.guests.clear()
    cloud.do(lambda driver: driver.remove_all())
    left = cloud.traces()
    assert left["tables"] == before["tables"]
    assert left["devices"] == before["devices"]
    assert left["namespaces"] == before["namespaces"]


def test_another_cloud_on_the_machine_may_use_the_same_port(cloud: Cloud, tmp_path: Path) -> None:
    """Its guard stands at the same port, and knows nothing of this VPC."""
    other = Cloud(tmp_path / "other", cloud_id=f"u{cloud.cloud_id[1:]}", pool="127.65.0.0/16")
    try:
        other.ensure(seen_from(ONE, port(2, "sg-open"), vni=VNI + 9))
        cloud.ensure(seen_from(ONE, port(2, "sg-open")))
        guest = cloud.guest(1, "sg-open")
        with open_socket(guest.netns, socket.SOCK_DGRAM) as heard:
            heard.bind(("", 53))
            heard.settimeout(1)
            send_forged(tunnel_mac(ONE), mac=tunnel_mac(TWO))
            assert heard.recv(100) == b"hello"
    finally:
        other.close()


def test_an_instance_moves_and_its_address_follows(cloud: Cloud, second: Cloud) -> None:
    cloud.ensure(seen_from(ONE, port(2, "sg-open")))
    second.ensure(seen_from(TWO, port(1, "sg-open")))
    first, other = cloud.guest(1, "sg-open"), second.guest(2, "sg-open")
    with tcp_server(other.netns, 80, hello):
        assert say("10.77.0.12", 80, netns=first.netns) == "10.77.0.11"
    other.close()
    del second.guests[other.netns]
    second.do(lambda driver: driver.unplug(port(2).id, "vpc-1"))
    second.ensure(seen_from(TWO, port(1, "sg-open"), port(2, "sg-open")))
    cloud.ensure(seen_from(ONE, port(3, "sg-open")), port(1, "sg-open"))
    third, moved = second.guest(3, "sg-open"), cloud.guest(2, "sg-open")
    with tcp_server(moved.netns, 80, hello):
        assert say("10.77.0.12", 80, netns=first.netns) == "10.77.0.11"
        assert say("10.77.0.12", 80, netns=third.netns) == "10.77.0.13"


def test_groups_hold_across_hosts(cloud: Cloud, second: Cloud) -> None:
    closed = group("sg-closed", allow("tcp", 80, group="sg-friends"))
    friends = group("sg-friends")
    of = plan(closed, friends)
    far = (port(1, "sg-friends"), port(3, "sg-closed"))
    cloud.ensure(seen_from(ONE, port(2, "sg-closed"), of=of))
    second.ensure(seen_from(TWO, *far, of=of, members={"sg-friends": ("10.77.0.11",), "sg-closed": ("10.77.0.13",)}))
    friend, stranger = cloud.guest(1, "sg-friends"), cloud.guest(3, "sg-closed")
    guest = second.guest(2, "sg-closed")
    with tcp_server(guest.netns, 80, hello):
        assert say("10.77.0.12", 80, netns=friend.netns) == "10.77.0.11"
        assert reaches("10.77.0.12", 80, netns=stranger.netns, timeout=0.5) == "silence"


def test_who_lives_elsewhere_comes_and_goes_by_changes(cloud: Cloud, second: Cloud) -> None:
    """Ways, names and groups follow; a rule set that was made whole is the same."""
    closed = group("sg-closed", allow("tcp", 80, group="sg-friends"))
    of = plan(closed, group("sg-friends"))
    plans = [
        seen_from(TWO, *far, of=of, members=members)
        for far, members in (
            ((port(4, "sg-closed"),), {"sg-closed": ("10.77.0.14",)}),
            ((port(1, "sg-friends"), port(4, "sg-closed")), {"sg-closed": ("10.77.0.14",), "sg-friends": ("10.77.0.11",)}),
            ((port(1, "sg-closed"), port(4, "sg-closed")), {"sg-closed": ("10.77.0.11", "10.77.0.14")}),
            ((port(4, "sg-closed"),), {"sg-closed": ("10.77.0.14",)}),
        )
    ]
    cloud.ensure(seen_from(ONE, port(2, "sg-closed"), of=of))
    second.ensure(plans[0])
    guest, friend = second.guest(2, "sg-closed"), cloud.guest(1, "sg-friends")

    def become(number: int) -> None:
        change = difference(plans[number - 1], plans[number])
        assert change is not None
        second.do(lambda driver: driver.change_network(plans[number], change))

    def is_named() -> bool:
        return "ip-10-77-0-11" in guest.run("busybox", "nslookup", "10.77.0.11", "10.77.0.2", check=False)

    with tcp_server(guest.netns, 80, hello):
        assert reaches("10.77.0.12", 80, netns=friend.netns, timeout=0.5) == "silence"
        become(1)
        assert say("10.77.0.12", 80, netns=friend.netns) == "10.77.0.11"
        wait_for(is_named, "its name")
        become(2)
        assert reaches("10.77.0.12", 80, netns=friend.netns, timeout=0.5) == "silence"
        become(3)
        wait_for(lambda: not is_named(), "its name to go")
        assert reaches("10.77.0.11", 80, netns=guest.netns, timeout=0.5) == "unreachable"
    rules = run("ip", "netns", "exec", second.netns(), "nft", "-s", "list", "table", "inet", "alto_route")
    second.new_driver()
    second.ensure(plans[3], port(2, "sg-closed"))
    assert run("ip", "netns", "exec", second.netns(), "nft", "-s", "list", "table", "inet", "alto_route") == rules


def test_another_vpc_with_the_same_range_hears_nothing(cloud: Cloud, second: Cloud) -> None:
    other = plan(group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id="vpc-2"), vpc_id="vpc-2")
    cloud.ensure(seen_from(ONE, port(2, "sg-open")))
    second.ensure(seen_from(TWO, port(1, "sg-open")))
    here = port(1, "sg-open", vpc_id="vpc-2", id="eni-2222222222222222a")
    there = port(2, "sg-open", vpc_id="vpc-2", id="eni-2222222222222222b")
    cloud.ensure(seen_from(ONE, there, of=other, vni=VNI + 1))
    second.ensure(seen_from(TWO, here, of=other, vni=VNI + 1))
    first, guest = cloud.guest(1, "sg-open"), second.guest(2, "sg-open")
    alien = second.guest(2, "sg-open", vpc_id="vpc-2", id=there.id)
    with tcp_server(guest.netns, 80, lambda sock, _: sock.sendall(b"mine")), tcp_server(alien.netns, 80, hello):
        assert say("10.77.0.12", 80, netns=first.netns) == "mine"


def test_what_no_host_of_the_vpc_sent_is_not_believed(cloud: Cloud) -> None:
    cloud.ensure(seen_from(ONE, port(2, "sg-open")))
    guest = cloud.guest(1, "sg-open")
    mac = tunnel_mac(TWO)
    with open_socket(guest.netns, socket.SOCK_DGRAM) as heard:
        heard.bind(("", 53))
        heard.settimeout(0.3)

        def arrives(**forged: Any) -> bool:
            send_forged(tunnel_mac(ONE), **{"mac": mac, **forged})
            try:
                return heard.recv(100) == b"hello"
            except TimeoutError:
                return False

        assert arrives()
        assert not arrives(source="127.0.0.9")  # not where a host is reached
        assert not arrives(source_port=2000)  # where what guests send to the world comes from
        assert not arrives(mac="02:00:00:00:00:01")  # no host's
        assert not arrives(vni=VNI + 1)  # nothing of that VPC is here
        assert not arrives(inner="10.77.0.13")  # nobody's address there
        assert not arrives(inner="10.77.0.11")  # one that is here
        assert arrives()


def send_forged(
    to: str, *, mac: str, source: str = "127.0.0.1", source_port: int = 50000, vni: int = VNI, inner: str = "10.77.0.12"
) -> None:
    """A UDP datagram for 10.77.0.11:53 inside VXLAN, as RFC 7348 writes it, to the first host."""
    datagram = struct.pack("!HHHH", 1234, 53, 8 + 5, 0) + b"hello"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0)
    addresses = socket.inet_aton(inner) + socket.inet_aton("10.77.0.11")
    total = sum(struct.unpack("!10H", head + addresses))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet = head[:10] + struct.pack("!H", total ^ 0xFFFF) + addresses + datagram
    frame = bytes.fromhex(to.replace(":", "")) + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + packet
    with open_socket(None, socket.SOCK_DGRAM) as sock:
        sock.bind((source, source_port))
        sock.sendto(struct.pack("!II", 1 << 27, vni << 8) + frame, ("127.0.0.1", 24789))


def test_a_public_address_leads_to_a_guest_on_another_host(cloud: Cloud, second: Cloud) -> None:
    there = port(2, "sg-open", public_ip="127.64.0.5")
    cloud.ensure(seen_from(ONE, neighbours=(near(there, TWO, public=there.addresses),), standing=True))
    second.ensure(seen_from(TWO))
    guest = second.guest(2, "sg-open")
    with tcp_server(guest.netns, 80, hello), udp_echo(guest.netns, 53):
        assert say("127.64.0.5", 80) == "169.254.169.252"
        assert ask_udp("127.64.0.5", 53, b"question") == b"169.254.169.252 question"
        assert reaches("127.64.0.5", 81) == "refused"
        assert reaches("127.64.0.6", 80) != "open"


def test_a_nat_gateway_and_a_router_on_another_host(cloud: Cloud, second: Cloud) -> None:
    """The private guest is alone on the second host; the gateway, and who stands for the world, are on the first."""
    nat = NatPlan(id="nat-0123456789abcdef0", subnet_id="subnet-public", private_ip="10.77.0.200", public_ip=None)
    router = port(1, "sg-open", subnet_id="subnet-public", source_dest_check=False)
    beyond = RoutePlan(destination="10.99.0.0/16", target=Target.INTERFACE, target_id=router.id, address="10.77.0.11")

    def network(private: RoutePlan, **changes: Any) -> NetworkPlan:
        zone = "us-east-1a"
        public = SubnetPlan(
            id="subnet-public", cidr="10.77.0.0/24", zone=zone, route_table_id="rtb-1", routes=(TO_INTERNET, beyond)
        )
        inside = SubnetPlan(id="subnet-private", cidr="10.77.1.0/24", zone=zone, route_table_id="rtb-2", routes=(private,))
        return plan(OPEN, subnets=(public, inside), **changes)

    to_nat = RoutePlan(destination="0.0.0.0/0", target=Target.NAT, target_id=nat.id)
    place = {"private_ip": "10.77.1.12", "subnet_cidr": "10.77.1.0/24", "subnet_id": "subnet-private"}
    private = port(2, "sg-open", **place)
    cloud.ensure(seen_from(ONE, private, of=network(to_nat, nats=(nat,))))
    far_nat = msgspec.structs.replace(nat, underlay=ONE)
    second.ensure(seen_from(TWO, router, of=network(to_nat, nats=(far_nat,))))
    world = cloud.guest(1, "sg-open", subnet_id="subnet-public", source_dest_check=False)
    world.run("ip", "addr", "add", "10.99.0.1/32", "dev", "lo")
    world.run("sysctl", "-q", "net.ipv4.conf.all.arp_announce=2")
    guest = opened(second.guest(2, "sg-open", configured=False, **place), "10.77.1.12", "10.77.1.1")
    with tcp_server(world.netns, 80, hello):
        assert say("10.99.0.1", 80, netns=guest.netns) == "10.77.0.200"
        # And straight to the router, when the private subnet's table says so.
        second.ensure(seen_from(TWO, router, of=network(beyond, nats=(far_nat,))), private)
        cloud.ensure(seen_from(ONE, private, of=network(beyond, nats=(nat,))), router)
        assert say("10.99.0.1", 80, netns=guest.netns) == "10.77.1.12"


def test_peers_speak_across_hosts(cloud: Cloud, second: Cloud) -> None:
    """One VPC's guest is on the first host, the other's on the second; each host has both VPCs."""

    def side(vpc_id: str, net: str, peer: str, peer_net: str) -> NetworkPlan:
        route = RoutePlan(destination=f"{peer_net}.0.0/16", target=Target.PEERING, target_id="pcx-1")
        subnet = SubnetPlan(id=f"subnet-{vpc_id}", cidr=f"{net}.0.0/24", zone="us-east-1a", routes=(route,))
        return plan(
            group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id=vpc_id),
            vpc_id=vpc_id,
            cidr=f"{net}.0.0/16",
            subnets=(subnet,),
            peers=(PeerPlan(id="pcx-1", vpc_id=peer, cidrs=(f"{peer_net}.0.0/16",)),),
        )

    one, two = side("vpc-1", "10.77", "vpc-2", "10.78"), side("vpc-2", "10.78", "vpc-1", "10.77")
    place = {"vpc_id": "vpc-2", "private_ip": "10.78.0.12", "subnet_cidr": "10.78.0.0/24"}
    here, there = port(1, "sg-open"), port(2, "sg-open", **place)
    cloud.ensure(seen_from(ONE, of=one))
    cloud.ensure(seen_from(ONE, there, of=two, vni=VNI + 1, standing=True))
    second.ensure(seen_from(TWO, here, of=one, standing=True))
    second.ensure(seen_from(TWO, of=two, vni=VNI + 1))
    first = cloud.guest(1, "sg-open")
    guest = opened(second.guest(2, "sg-open", configured=False, **place), "10.78.0.12", "10.78.0.1")
    big = tcp_server(guest.netns, 81, lambda sock, _: sock.sendall(b"x" * 300_000))
    with tcp_server(guest.netns, 80, hello), big:
        assert say("10.78.0.12", 80, netns=first.netns) == "10.77.0.11"
        assert len(first.run("busybox", "nc", "10.78.0.12", "81")) == 300_000
        second.ensure(seen_from(TWO, of=msgspec.structs.replace(two, peers=()), vni=VNI + 1), there)
        assert reaches("10.78.0.12", 80, netns=first.netns, timeout=0.5) != "open"


def test_the_id_of_one_on_another_host_leads_to_its_addresses_of_both_kinds(cloud: Cloud) -> None:
    id = f"i-{9:017x}.ec2.internal"
    names = Names(v4=("ip-10-77-0-19.ec2.internal", id), v6=(id,))
    far = msgspec.structs.replace(near(port(9), TWO, names=names), addresses=("10.77.0.19", "fd00:77::19"))
    cloud.ensure(seen_from(ONE, neighbours=(far,)))
    guest = cloud.guest(1)

    def told(*asked: str) -> str:
        return guest.run("busybox", "nslookup", *asked, "10.77.0.2", check=False)

    assert "10.77.0.19" in told(id)
    assert "fd00:77::19" in told("-type=aaaa", id)
    assert id in told("fd00:77::19")
    assert "ip-10-77-0-19.ec2.internal" in told("10.77.0.19")
