"""Goal: a guest has its address of IPv6 and nobody else's, is reached by it as its groups say, and without it has no IPv6.

Method: real packets between guests in namespaces; a DHCPv6 client and neighbour messages written here by hand; curl for the
metadata. Every probe that must not arrive is sent beside one that does.
"""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from alto.drivers.network.vpc import TAP_MAC
from alto.kit.world import inside_netns
from alto.model.acls import AclEntry
from alto.model.instances import MetadataOptions
from alto.model.network_plans import AclPlan, Neighbour, NetworkPlan, Port
from tests.drivers.network.guests import Guest, hello, open_socket, run, say, tcp_server, wait_for
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, address_v6, allow, dual, dual_port, group, machine, plan, port

pytestmark = pytest.mark.net

ONE, TWO = "127.0.0.1:24789", "127.0.0.1:24790"
A, B = address_v6(1), address_v6(2)
ALL_OUT_V6 = allow("-1", cidr_v6="::/0", egress=True)


def guest(cloud: Cloud, number: int, *groups: str, options: MetadataOptions | None = None, configured: bool = True) -> Guest:
    its = dual_port(number, *groups)
    whose = machine(number, of=its, **({"metadata": options} if options else {}))
    return cloud.guest(
        number, *groups, machine_of=whose, configured=configured, ipv6=its.ipv6, subnet_cidr_v6=its.subnet_cidr_v6
    )


def test_a_guest_is_reached_as_its_groups_say(cloud: Cloud) -> None:
    receiving = group("sg-1")
    cloud.ensure(dual(group("sg-default", ALL_OUT_V6), receiving))
    sender, receiver = guest(cloud, 1), guest(cloud, 2, "sg-1")
    ports = [dual_port(1), dual_port(2, "sg-1")]
    cases = [
        ([], "silence"),
        ([allow("tcp", 80, cidr="0.0.0.0/0")], "silence"),
        ([allow("-1", cidr_v6="::/0")], "open"),
        ([allow("tcp", 80, cidr_v6=f"{A}/128")], "open"),
        ([allow("tcp", 81, cidr_v6="::/0")], "silence"),
        ([allow("tcp", 80, cidr_v6="fd00:a:0:2::/64")], "silence"),
        ([allow("tcp", 80, group="sg-default")], "open"),
        ([allow("tcp", 80, group="sg-1")], "silence"),
        ([allow("icmpv6", -1, cidr_v6="::/0")], "silence"),
    ]
    with tcp_server(receiver.netns, 80, hello, "::"):
        for rules, fate in cases:
            cloud.ensure(dual(group("sg-default", ALL_OUT_V6), group("sg-1", *rules)), *ports)
            assert sender.reaches(B, 80, timeout=0.4) == fate, rules
        cloud.ensure(dual(group("sg-default", ALL_OUT_V6), group("sg-1", allow("icmpv6", 128, -1, cidr_v6="::/0"))), *ports)
        assert "1 packets received" in sender.run("busybox", "ping6", "-c", "1", "-W", "2", B, check=False)
        # A group that lets out by IPv4 alone lets nothing out by IPv6.
        cloud.ensure(dual(group("sg-default"), group("sg-1", allow("-1", cidr_v6="::/0"))), *ports)
        assert sender.reaches(B, 80, timeout=0.4) == "silence"
        cloud.ensure(dual(group("sg-default", ALL_OUT_V6), group("sg-1", allow("-1", cidr_v6="::/0"))), *ports)
        assert say(B, 80, netns=sender.netns) == A


def test_an_acl_stands_at_the_border(cloud: Cloud) -> None:
    def under(*entries: AclEntry) -> NetworkPlan:
        made = dual(group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0")))
        news = {"id": "subnet-far", "cidr": "10.77.1.0/24", "cidr_v6": "fd00:a:0:2::/64", "acl_id": "acl-1"}
        subnets = (*made.subnets, msgspec.structs.replace(made.subnets[0], **news))
        return msgspec.structs.replace(made, subnets=subnets, acls=(AclPlan(id="acl-1", entries=entries),))

    def entry(egress: bool, *, v6: bool) -> AclEntry:
        where = {"cidr_v6": "::/0"} if v6 else {"cidr": "0.0.0.0/0"}
        return AclEntry(number=100 + v6, egress=egress, allow=True, protocol="-1", **where)  # type: ignore[arg-type]

    both = [entry(egress, v6=v6) for egress in (False, True) for v6 in (False, True)]
    far = {"private_ip": "10.77.1.12", "subnet_cidr": "10.77.1.0/24", "subnet_id": "subnet-far"}
    far |= {"ipv6": ("fd00:a:0:2::12",), "subnet_cidr_v6": "fd00:a:0:2::/64"}  # type: ignore[dict-item]
    cloud.ensure(under(*both))
    sender, receiver = guest(cloud, 1), cloud.guest(2, configured=False, **far)
    receiver.run("ip", "addr", "add", "fd00:a:0:2::12/128", "dev", "eth0", "nodad")
    receiver.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0", "metric", "1")
    ports = [dual_port(1), port(2, **far)]
    with tcp_server(receiver.netns, 80, hello, "::"):
        assert sender.reaches("fd00:a:0:2::12", 80) == "open"
        cloud.ensure(under(*(one for one in both if one.cidr)), *ports)
        assert sender.reaches("fd00:a:0:2::12", 80, timeout=0.4) == "silence"
        cloud.ensure(under(*both), *ports)
        assert sender.reaches("fd00:a:0:2::12", 80) == "open"


def test_nobody_else_s_address_is_believed(cloud: Cloud) -> None:
    open_to_all = group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0"))
    cloud.ensure(dual(open_to_all))
    attacker, victim, without = guest(cloud, 1), guest(cloud, 2), cloud.guest(3)
    forged, none_at_all = "fd00:a:0:1::bad", "fd00:a:0:1::bee"
    attacker.run("ip", "addr", "add", f"{forged}/128", "dev", "eth0", "nodad")
    without.run("ip", "addr", "add", f"{none_at_all}/128", "dev", "eth0", "nodad")
    without.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0")
    without.run("ip", "neigh", "replace", "fe80::1", "lladdr", TAP_MAC, "dev", "eth0")
    with inbox(victim) as heard:
        tell(attacker, B, forged)
        tell(without, B, none_at_all)
        tell(attacker, B, A)
        wait_for(lambda: A in heard, "the victim heard the one that was true")
        attacker.run("ip", "link", "set", "eth0", "address", dual_port(9).mac)
        tell(attacker, B, A)
        attacker.run("ip", "link", "set", "eth0", "address", dual_port(1).mac)
        attacker.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0")
        tell(attacker, B, A)
        wait_for(lambda: heard.count(A) == 2, "and again")
    assert heard == [A, A]
    drops = run("nft", "list", "chain", "inet", "alto", f"c_from_{dual_port(1).device}", netns=cloud.netns())
    assert re.search(r"ether saddr != \S+ counter packets [1-9]", drops)
    assert re.search(r"ip6 saddr != \S+ counter packets [1-9]", drops)


def test_a_neighbour_speaks_for_its_own_mac_alone(cloud: Cloud) -> None:
    """Whoever gives addresses knows a guest by the MAC that its messages name (RFC 4861, 4.4): another's is never heard."""
    cloud.ensure(dual())
    attacker = guest(cloud, 1)
    own, other = (bytes.fromhex(dual_port(number).mac.replace(":", "")) for number in (1, 2))
    chain = f"c_from_{dual_port(1).device}"

    def dropped() -> int:
        listed = run("nft", "list", "chain", "inet", "alto", chain, netns=cloud.netns())
        counts = re.findall(r"nd-neighbor-advert @th,192,64 != \S+ counter packets (\d+)", listed)
        assert len(counts) == 1, listed
        return int(counts[0])

    def advertise(mac: bytes) -> None:
        said = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + socket.inet_pton(socket.AF_INET6, A) + b"\x02\x01" + mac
        with inside_netns(attacker.netns):
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        with sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.bind((A, 0))
            sock.sendto(said, ("fe80::1", 0, 0, int(attacker.run("cat", "/sys/class/net/eth0/ifindex"))))

    advertise(own)
    advertise(own)
    assert dropped() == 0
    advertise(other)
    wait_for(lambda: dropped() == 1, "the one that names another is dropped")


@contextmanager
def inbox(guest: Guest) -> Iterator[list[str]]:
    """Whom it hears from, by datagrams to port 9."""
    with open_socket(guest.netns, socket.SOCK_DGRAM, "::") as sock:
        sock.bind(("::", 9))
        sock.settimeout(0.1)
        heard: list[str] = []
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    heard.append(sock.recvfrom(100)[1][0])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join(5)


def tell(guest: Guest, address: str, source: str) -> None:
    with open_socket(guest.netns, socket.SOCK_DGRAM, "::") as sock:
        sock.bind((source, 0))
        sock.sendto(b"x", (address, 9))


def test_a_guest_is_told_its_router_and_its_address(cloud: Cloud) -> None:
    cloud.ensure(dual())
    asking, other = guest(cloud, 1, configured=False), guest(cloud, 2, configured=False)
    for one in (asking, other):
        wait_for(lambda one=one: "via fe80::1" in one.run("ip", "-6", "route"), "a router says that it is there", 20)  # type: ignore[misc]
        wait_for(lambda one=one: "tentative" not in one.run("ip", "-6", "addr"), "its own address is its own", 20)  # type: ignore[misc]
    # Who answers for names is the router, by the subnet's first address.
    assert solicited(asking, dual_port(1).mac) == (A, ["fd00:a:0:1::1"])
    assert solicited(other, dual_port(2).mac) == (B, ["fd00:a:0:1::1"])
    # Another's name in a request, as far as the client can choose it, changes nothing.
    assert solicited(asking, dual_port(2).mac)[0] == A
    for servers, told in (
        (("AmazonProvidedDNS", "192.0.2.53"), ["fd00:a:0:1::1"]),
        (("192.0.2.53", "2001:db8::53"), ["2001:db8::53"]),
    ):
        cloud.ensure(dual(dhcp={"domain-name-servers": servers}), dual_port(1), dual_port(2))
        assert solicited(asking, dual_port(1).mac) == (A, told)


def solicited(guest: Guest, mac: str) -> tuple[str, list[str]]:
    """The address that DHCPv6 (RFC 8415) offers to a client with this DUID, "" for none; and who answers for names."""
    duid = struct.pack("!HH", 3, 1) + bytes.fromhex(mac.replace(":", ""))
    identity = struct.pack("!HH", 1, len(duid)) + duid
    asked = struct.pack("!HHH", 6, 2, 23)
    association = struct.pack("!HHIII", 3, 12, 1, 0, 0)
    with inside_netns(guest.netns):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sock:
        scope = int(guest.run("cat", "/sys/class/net/eth0/ifindex"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("::", 546))
        sock.settimeout(3)
        for number in range(1, 6):
            head = struct.pack("!I", 1 << 24 | number)
            sock.sendto(head + identity + asked + association, ("ff02::1:2", 547, 0, scope))
            try:
                answer, _ = sock.recvfrom(2000)
            except TimeoutError:
                continue
            options = dict(_options(answer[4:]))
            inner = dict(_options(options[3][12:])) if 3 in options else {}
            servers = options.get(23, b"")
            return (
                socket.inet_ntop(socket.AF_INET6, inner[5][:16]) if 5 in inner else "",
                [socket.inet_ntop(socket.AF_INET6, servers[at : at + 16]) for at in range(0, len(servers), 16)],
            )
    return "", []


def _options(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 4:
        code, length = struct.unpack("!HH", data[:4])
        found.append((code, data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def test_metadata_is_there_for_whom_it_is_switched_on(cloud: Cloud) -> None:
    cloud.ensure(dual())
    on = guest(cloud, 1, options=MetadataOptions(ipv6_enabled=True))
    off = guest(cloud, 2)
    at = "http://[fd00:ec2::254]/latest/meta-data"
    assert on.curl(f"{at}/ipv6") == f"{A}\n200"
    mac = dual_port(1).mac
    assert on.curl(f"{at}/network/interfaces/macs/{mac}/ipv6s") == f"{A}\n200"
    assert off.curl(f"{at}/ipv6").endswith("404")
    assert off.curl(f"http://169.254.169.254/latest/meta-data/network/interfaces/macs/{dual_port(2).mac}/ipv6s") == f"{B}\n200"


def test_an_address_comes_and_goes_while_the_guest_runs(cloud: Cloud) -> None:
    open_to_all = group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0"))
    cloud.ensure(plan(DEFAULT))
    one, two = cloud.guest(1), cloud.guest(2)
    ports = [port(1), port(2)]
    # The VPC gets its range, then each guest its address.
    cloud.ensure(dual(open_to_all), *ports)
    for number, each in ((1, one), (2, two)):
        its = dual_port(number)
        cloud.do(lambda driver, its=its, number=number: driver.describe(its, machine(number, of=its)))  # type: ignore[misc]
        each.run("ip", "addr", "add", f"{its.ipv6[0]}/128", "dev", "eth0", "nodad")
        each.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0", "metric", "1")
    with tcp_server(two.netns, 80, hello, "::"):
        assert one.reaches(B, 80) == "open"
        bare = port(2)
        cloud.do(lambda driver: driver.describe(bare, machine(2, of=bare)))
        assert one.reaches(B, 80, timeout=0.4) in ("silence", "unreachable")
        its = dual_port(2)
        cloud.do(lambda driver: driver.describe(its, machine(2, of=its)))
        # A driver that begins anew finds it all as it is.
        cloud.new_driver()
        cloud.ensure(dual(open_to_all), dual_port(1), dual_port(2))
        assert one.reaches(B, 80) == "open"
        cloud.ensure(plan(DEFAULT), port(1), port(2))
        assert one.reaches(B, 80, timeout=0.4) in ("silence", "unreachable")


def test_guests_on_two_hosts_speak_and_only_who_lives_there_is_believed(cloud: Cloud, tmp_path: Path) -> None:
    """Big packets too: the tunnel takes less than a guest's device, and the router says so."""
    open_to_all = dual(group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0")))

    def seen(own: str, far: Port) -> NetworkPlan:
        other = TWO if own == ONE else ONE
        near = Neighbour(
            interface_id=far.id,
            vpc_id=far.vpc_id,
            addresses=far.all_addresses,
            hostname=far.hostname,
            group_ids=far.group_ids,
            underlay=other,
        )
        members = {"sg-default": far.all_addresses}
        news = {"vni": 0x80004E, "underlay": own, "hosts": (other,), "neighbours": (near,), "members": members}
        return msgspec.structs.replace(open_to_all, **news)

    second = Cloud(tmp_path / "second", cloud_id=cloud.cloud_id, host_id="h-2")
    try:
        cloud.ensure(seen(ONE, dual_port(2)))
        second.ensure(seen(TWO, dual_port(1)))
        one, two = guest(cloud, 1), guest(second, 2)
        big = tcp_server(two.netns, 81, lambda sock, _: sock.sendall(b"x" * 300_000), "::")
        with tcp_server(two.netns, 80, hello, "::"), big:
            assert say(B, 80, netns=one.netns) == A
            assert len(one.run("busybox", "nc", B, "81")) == 300_000
            # A driver that begins anew goes on, and knows what to take away.
            cloud.new_driver()
            cloud.ensure(seen(ONE, dual_port(2)), dual_port(1))
            assert say(B, 80, netns=one.netns) == A
            moved = dual_port(2, ipv6=(address_v6(7),))
            cloud.new_driver()
            cloud.ensure(seen(ONE, moved), dual_port(1))
            assert one.reaches(B, 80, timeout=0.4) == "unreachable"
            cloud.ensure(seen(ONE, dual_port(2)), dual_port(1))
            assert one.reaches(B, 80) == "open"
        with inbox(two) as heard:
            # The second host is told that another address lives on the first one: then this one does not.
            second.ensure(seen(TWO, dual_port(1, ipv6=(address_v6(8),))), dual_port(2))
            tell(one, B, A)
            second.ensure(seen(TWO, dual_port(1)), dual_port(2))
            tell(one, B, A)
            wait_for(lambda: len(heard) > 0, "it is believed again")
        assert heard == [A]
    finally:
        second.close()
