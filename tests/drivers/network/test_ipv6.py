"""Goal: a guest has its address of IPv6 and nobody else's, is reached by it as its groups say, and without it has no IPv6.

Method: real packets between guests in namespaces; a DHCPv6 client and neighbour messages written here by hand; curl for the
metadata. Every probe that must not arrive is sent beside one that does.
"""

import socket
import struct
from collections.abc import Callable

import pytest

from alto.kit.world import inside_netns
from alto.model.acls import AclEntry
from alto.model.instances import MetadataOptions
from alto.model.network_plans import AclPlan
from tests.drivers.network.guests import Guest, hello, reaches, say, tcp_server, wait_for
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, address_v6, allow, dual, dual_port, group, machine, plan, port

pytestmark = pytest.mark.net

A, B = address_v6(1), address_v6(2)
ALL_OUT_V6 = allow("-1", cidr_v6="::/0", egress=True)


def guest(cloud: Cloud, number: int, *groups: str, options: MetadataOptions | None = None, configured: bool = True) -> Guest:
    its = dual_port(number, *groups)
    whose = machine(number, of=its, **({"metadata": options} if options else {}))
    return cloud.guest(
        number, *groups, machine_of=whose, configured=configured, ipv6=its.ipv6, subnet_cidr_v6=its.subnet_cidr_v6
    )


def probe(cloud: Cloud, number: int = 1) -> Callable[[str], str]:
    return lambda address: reaches(address, 80, netns=_name(cloud, number), timeout=0.5)


def _name(cloud: Cloud, number: int) -> str:
    return next(name for name in cloud.guests if name.endswith(f"-{number}"))


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
    def under(*entries: AclEntry) -> object:
        made = dual(group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0")))
        near = made.subnets[0]
        far = near.__class__(id="subnet-far", cidr="10.77.1.0/24", zone="us-east-1a", cidr_v6="fd00:a:0:2::/64", acl_id="acl-1")
        return made.__class__(
            **{name: getattr(made, name) for name in made.__struct_fields__}
            | {"subnets": (near, far), "acls": (AclPlan(id="acl-1", entries=entries),)}
        )

    def entry(egress: bool, *, v6: bool) -> AclEntry:
        where = {"cidr_v6": "::/0"} if v6 else {"cidr": "0.0.0.0/0"}
        return AclEntry(number=100 + v6, egress=egress, allow=True, protocol="-1", **where)  # type: ignore[arg-type]

    both = [entry(egress, v6=v6) for egress in (False, True) for v6 in (False, True)]
    far = {"private_ip": "10.77.1.12", "subnet_cidr": "10.77.1.0/24", "subnet_id": "subnet-far"}
    far |= {"ipv6": ("fd00:a:0:2::12",), "subnet_cidr_v6": "fd00:a:0:2::/64"}  # type: ignore[dict-item]
    cloud.ensure(under(*both))  # type: ignore[arg-type]
    sender, receiver = guest(cloud, 1), cloud.guest(2, configured=False, **far)
    receiver.run("ip", "addr", "add", "fd00:a:0:2::12/128", "dev", "eth0", "nodad")
    receiver.run("ip", "route", "replace", "::/0", "via", "fe80::1", "dev", "eth0", "metric", "1")
    ports = [dual_port(1), port(2, **far)]
    with tcp_server(receiver.netns, 80, hello, "::"):
        assert sender.reaches("fd00:a:0:2::12", 80) == "open"
        cloud.ensure(under(*(one for one in both if one.cidr)), *ports)  # type: ignore[arg-type]
        assert sender.reaches("fd00:a:0:2::12", 80, timeout=0.4) == "silence"
        cloud.ensure(under(*both), *ports)  # type: ignore[arg-type]
        assert sender.reaches("fd00:a:0:2::12", 80) == "open"


def test_nobody_else_s_address_is_believed(cloud: Cloud) -> None:
    open_to_all = group("sg-default", ALL_OUT_V6, allow("-1", cidr_v6="::/0"))
    cloud.ensure(dual(open_to_all))
    attacker, victim = guest(cloud, 1), guest(cloud, 2)
    without = cloud.guest(3)
    heard: list[str] = []
    with tcp_server(victim.netns, 80, lambda connection, peer: heard.append(peer), "::"):
        forged = "fd00:a:0:1::bad"
        attacker.run("ip", "addr", "add", f"{forged}/128", "dev", "eth0", "nodad")
        assert reaches(B, 80, netns=attacker.netns, timeout=0.4, source=forged) == "silence"
        without.run("ip", "addr", "add", "fd00:a:0:1::bee/128", "dev", "eth0", "nodad")
        without.run("ip", "route", "add", "::/0", "via", "fe80::1", "dev", "eth0", check=False)
        assert reaches(B, 80, netns=without.netns, timeout=0.4) in ("silence", "unreachable")
        assert reaches(B, 80, netns=attacker.netns, source=A) == "open"
        wait_for(lambda: len(heard) > 0, "the victim heard the one that was true")
    assert set(heard) == {A}


def test_a_guest_is_told_its_router_and_its_address(cloud: Cloud) -> None:
    cloud.ensure(dual())
    asking, other = guest(cloud, 1, configured=False), guest(cloud, 2, configured=False)
    for one in (asking, other):
        wait_for(lambda one=one: "via fe80::1" in one.run("ip", "-6", "route"), "a router says that it is there", 20)  # type: ignore[misc]
        wait_for(lambda one=one: "tentative" not in one.run("ip", "-6", "addr"), "its own address is its own", 20)  # type: ignore[misc]
    assert solicited(asking, dual_port(1).mac) == A
    assert solicited(other, dual_port(2).mac) == B
    # Another's name in a request, as far as the client can choose it, changes nothing.
    assert solicited(asking, dual_port(2).mac) == A


def solicited(guest: Guest, mac: str) -> str:
    """The address that DHCPv6 (RFC 8415) offers to a client with this DUID; "" for none."""
    duid = struct.pack("!HH", 3, 1) + bytes.fromhex(mac.replace(":", ""))
    identity = struct.pack("!HH", 1, len(duid)) + duid
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
            sock.sendto(head + identity + association, ("ff02::1:2", 547, 0, scope))
            try:
                answer, _ = sock.recvfrom(2000)
            except TimeoutError:
                continue
            options = dict(_options(answer[4:]))
            inner = dict(_options(options[3][12:])) if 3 in options else {}
            return socket.inet_ntop(socket.AF_INET6, inner[5][:16]) if 5 in inner else ""
    return ""


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
