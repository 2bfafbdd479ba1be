"""Goal: from this machine a public address is the guest: every port of TCP and UDP, with TCP's own manners, and nobody else's.

Method: real servers in guests, plain clients outside, no port named anywhere but in the group's rules.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from alto.model.errors import DriverFault
from alto.model.networks import PortAddress
from tests.drivers.network.guests import (
    Guest,
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
from tests.drivers.network.samples import DEFAULT, allow, group, machine, plan, port

pytestmark = pytest.mark.net

PUBLIC = "127.64.0.5"
OPEN = group("sg-open", allow("-1", cidr="0.0.0.0/0"))


@pytest.fixture
def guest(cloud: Cloud) -> Guest:
    cloud.ensure(plan(DEFAULT, OPEN))
    return cloud.guest(1, "sg-open", public_ip=PUBLIC)


def test_any_port_of_tcp_and_udp_and_ping(guest: Guest) -> None:
    for number in (1, 22, 443, 31337, 65535):
        with tcp_server(guest.netns, number, hello):
            assert say(PUBLIC, number) == "169.254.169.252"
        with udp_echo(guest.netns, number):
            assert ask_udp(PUBLIC, number, b"hello") == b"169.254.169.252 hello"
    assert pings(PUBLIC)


def test_a_closed_port_is_refused_and_a_guest_that_is_off_is_no_long_wait(cloud: Cloud, guest: Guest) -> None:
    assert reaches(PUBLIC, 81) == "refused"
    assert ask_udp(PUBLIC, 81, b"x") == "refused"
    guest.process.kill()
    guest.process.wait()
    wait_for(lambda: reaches(PUBLIC, 81, timeout=3) == "unreachable", "the tap is gone")


def test_one_side_may_finish_and_go_on_listening(guest: Guest) -> None:
    def sum_up(connection: socket.socket, peer: str) -> None:
        received = 0
        while data := connection.recv(65536):
            received += len(data)
        connection.sendall(f"{received} bytes".encode())

    with tcp_server(guest.netns, 80, sum_up), socket.create_connection((PUBLIC, 80), 5) as sock:
        sock.sendall(b"x" * 3_000_000)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"3000000 bytes"


def test_a_reader_that_waits_holds_back_the_sender(guest: Guest) -> None:
    go = threading.Event()

    def slow(connection: socket.socket, peer: str) -> None:
        go.wait(20)
        received = 0
        while data := connection.recv(65536):
            received += len(data)
        connection.sendall(str(received).encode())

    with tcp_server(guest.netns, 80, slow), socket.create_connection((PUBLIC, 80), 5) as sock:
        sock.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 1_000_000_000:
                sent += sock.send(b"x" * 65536)
        # The buffers of two kernels, and no third that grows.
        assert sent < 20_000_000
        go.set()
        sock.settimeout(20)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == str(sent).encode()


def test_two_thousand_connections_at_once(guest: Guest) -> None:
    with open_socket(guest.netns, socket.SOCK_STREAM) as listener, ExitStack() as stack:
        listener.bind(("", 80))
        listener.listen(4096)
        clients = [stack.enter_context(socket.create_connection((PUBLIC, 80), 5)) for _ in range(2000)]
        servers = [stack.enter_context(listener.accept()[0]) for _ in clients]
        by_name = {server.getpeername(): server for server in servers}
        assert len(by_name) == 2000
        for number, client in enumerate(clients):
            client.sendall(f"{number:04}".encode())
        assert sorted(server.recv(4) for server in servers) == [f"{number:04}".encode() for number in range(2000)]


def test_only_addresses_given_out_lead_anywhere(cloud: Cloud, guest: Guest) -> None:
    # This machine has a service on every address, as sshd is; it must not answer for guests that are gone.
    with tcp_server(None, 22, hello), udp_echo(None, 53), tcp_server(None, 8080, hello, address="127.64.0.9"):
        assert say("127.0.0.1", 22) == "127.0.0.1"
        assert reaches("127.64.0.6", 22) == "refused"
        assert ask_udp("127.64.0.6", 53, b"x") == "refused"
        assert reaches(PUBLIC, 22) == "refused"
        # Somebody who bound an address by name has it: balancers do.
        assert say("127.64.0.9", 8080) == "127.0.0.1"
        cloud.do(lambda driver: driver.unplug(port(1).id, "vpc-1"))
        assert reaches(PUBLIC, 22) == "refused"


def test_an_address_moves_with_all_that_it_carried_cut(cloud: Cloud, guest: Guest) -> None:
    other = cloud.guest(2, "sg-open")

    def stay(connection: socket.socket, peer: str) -> None:
        while data := connection.recv(100):
            connection.sendall(data)

    with (
        tcp_server(guest.netns, 80, stay),
        tcp_server(other.netns, 80, hello),
        udp_echo(guest.netns, 53),
        open_socket(None, socket.SOCK_STREAM) as old,
        open_socket(None, socket.SOCK_DGRAM) as flow,
    ):
        old.settimeout(1)
        old.connect((PUBLIC, 80))
        old.sendall(b"x")
        assert old.recv(10) == b"x"
        flow.settimeout(1)
        flow.connect((PUBLIC, 53))
        flow.send(b"x")
        assert flow.recv(100)
        bare, holder = port(1, "sg-open"), port(2, "sg-open", public_ip=PUBLIC)
        with pytest.raises(DriverFault):
            cloud.do(lambda driver: driver.describe(holder, machine(2, of=holder)))
        cloud.do(lambda driver: driver.describe(bare, machine(1, of=bare)))
        assert reaches(PUBLIC, 80) == "refused"
        cloud.do(lambda driver: driver.describe(holder, machine(2, of=holder)))
        assert say(PUBLIC, 80) == "169.254.169.252"
        flow.send(b"x")
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            flow.recv(100)


def test_a_lost_uplink_is_made_again_with_the_ways_of_all_its_addresses(cloud: Cloud, guest: Guest) -> None:
    second = port(2, "sg-open", public_ip="127.64.0.6")
    other = cloud.guest(2, "sg-open", public_ip="127.64.0.6")
    with tcp_server(guest.netns, 80, hello), tcp_server(other.netns, 80, hello):
        assert {say(address, 80) for address in (PUBLIC, "127.64.0.6")} == {"169.254.169.252"}
        run("ip", "-n", cloud.netns(), "link", "delete", "up0")
        assert reaches(PUBLIC, 80) != "open"
        cloud.ensure(plan(DEFAULT, OPEN), port(1, "sg-open", public_ip=PUBLIC), second)
        assert {say(address, 80) for address in (PUBLIC, "127.64.0.6")} == {"169.254.169.252"}


def test_each_private_address_of_a_port_has_its_own_public_one(cloud: Cloud, guest: Guest) -> None:
    """Goal: second addresses come and go on a plugged port, tap untouched; each public one leads to its own private one.
    Method: a server on each private address that says which it is, while an old connection to the first goes on."""
    second = PortAddress(private_ip="10.77.0.50", public_ip="127.64.0.50")
    run("ip", "-n", guest.netns, "address", "add", f"{second.private_ip}/32", "dev", "eth0")
    more = port(1, "sg-open", public_ip=PUBLIC, secondary=(second,))
    moved = port(1, "sg-open", secondary=(PortAddress(private_ip=second.private_ip, public_ip=PUBLIC),))
    with (
        tcp_server(guest.netns, 80, _named("first"), address="10.77.0.11"),
        tcp_server(guest.netns, 80, _named("second"), address=second.private_ip),
    ):
        assert reaches("127.64.0.50", 80) == "refused"
        cloud.do(lambda driver: driver.describe(more, machine(1, of=more)))
        assert [say(PUBLIC, 80), say("127.64.0.50", 80)] == ["first", "second"]
        cloud.do(lambda driver: driver.describe(moved, machine(1, of=moved)))
        assert say(PUBLIC, 80) == "second"
        assert reaches("127.64.0.50", 80) == "refused"
        taken = port(2, "sg-open", private_ip=second.private_ip)
        with pytest.raises(DriverFault, match="still belongs to"):
            cloud.do(lambda driver: driver.plug(taken, machine(2, of=taken)))
        bare = port(1, "sg-open")
        cloud.do(lambda driver: driver.describe(bare, machine(1, of=bare)))
        assert reaches(PUBLIC, 80) == "refused"
        assert second.private_ip not in run("ip", "-n", cloud.netns(), "route")


def test_rules_take_the_fixed_addresses_literally(cloud: Cloud) -> None:
    machine_only = group("sg-1", allow("tcp", 80, cidr="169.254.169.252/32"))
    vpc_only = group("sg-1", allow("tcp", 80, cidr="10.77.0.0/16"))
    cloud.ensure(plan(DEFAULT, machine_only))
    web = cloud.guest(1, "sg-1", public_ip=PUBLIC)
    inside = cloud.netns()
    with tcp_server(web.netns, 80, hello):
        assert reaches(PUBLIC, 80) == "open"
        assert reaches("10.77.0.11", 80, netns=inside) == "silence"
        cloud.ensure(plan(DEFAULT, vpc_only), port(1, "sg-1", public_ip=PUBLIC))
        assert reaches(PUBLIC, 80) == "silence"
        assert say("10.77.0.11", 80, netns=inside) == "10.77.0.3"


def test_equal_ranges_in_two_vpcs_and_two_clouds_are_apart(cloud: Cloud, tmp_path: Path) -> None:
    second = Cloud(tmp_path / "second", cloud_id=f"u{cloud.cloud_id[1:]}", pool="127.65.0.0/16")
    try:
        for owner, vpc_id in ((cloud, "vpc-1"), (cloud, "vpc-2"), (second, "vpc-3")):
            owner.ensure(plan(group("sg-open", allow("-1", cidr="0.0.0.0/0"), vpc_id=vpc_id), vpc_id=vpc_id))
        one = cloud.guest(1, "sg-open", public_ip="127.64.0.5", vpc_id="vpc-1")
        two = cloud.guest(1, "sg-open", public_ip="127.64.0.6", vpc_id="vpc-2")
        three = second.guest(1, "sg-open", public_ip="127.65.0.5", vpc_id="vpc-3")
        with ExitStack() as stack:
            for guest, name in ((one, "one"), (two, "two"), (three, "three")):
                stack.enter_context(tcp_server(guest.netns, 80, _named(name)))
            assert [say(address, 80) for address in ("127.64.0.5", "127.64.0.6", "127.65.0.5")] == ["one", "two", "three"]
            assert pings("10.77.0.1", netns=one.netns)
            # The other VPC's guest is not there from here, by any of its addresses.
            assert reaches("240.64.0.6", 80, netns=one.netns, timeout=0.5) != "open"
            taken = port(9, "sg-open", public_ip="127.64.0.6")
            with pytest.raises(DriverFault, match="still belongs to"):
                cloud.do(lambda driver: driver.plug(taken, machine(9, of=taken)))
            foreign = port(9, "sg-open", public_ip="127.65.0.6")
            with pytest.raises(DriverFault, match="not in this host's pool"):
                cloud.do(lambda driver: driver.plug(foreign, machine(9, of=foreign)))
            second.do(lambda driver: driver.remove_network("vpc-3"))
            assert [say(address, 80) for address in ("127.64.0.5", "127.64.0.6")] == ["one", "two"]
    finally:
        second.close()


def _named(name: str) -> Callable[[socket.socket, str], None]:
    return lambda connection, peer: connection.sendall(name.encode())


def test_the_way_out_is_for_guests_with_a_public_address_and_leads_past_this_machine(namespaces: None, tmp_path: Path) -> None:
    world = f"nwt-world-{os.getpid()}"
    run("ip", "netns", "add", world)
    try:
        with site(f"nwt-router-{os.getpid()}"):
            run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", world)
            run("ip", "addr", "add", "198.51.100.1/24", "dev", "wan0")
            run("ip", "link", "set", "wan0", "up")
            run("ip", "-n", world, "link", "set", "lo", "up")
            run("ip", "-n", world, "addr", "add", "198.51.100.2/24", "dev", "wan1")
            run("ip", "-n", world, "link", "set", "wan1", "up")
            run("ip", "route", "add", "default", "via", "198.51.100.2")
            before = run("sysctl", "net.ipv4.conf.wan0.forwarding", "net.ipv4.ip_forward")
            cloud = Cloud(tmp_path / "net", nat=True)
            other = Cloud(tmp_path / "other", nat=True, host_id="h-2")
            try:
                cloud.ensure(plan(OPEN))
                other.ensure(plan(OPEN))
                out = cloud.guest(1, "sg-open", public_ip=PUBLIC)
                kept = cloud.guest(2, "sg-open")
                with tcp_server(world, 80, hello), tcp_server(None, 22, hello), tcp_server(None, 80, hello):
                    # The world sees this machine; the guest keeps its own name for itself.
                    assert say("198.51.100.2", 80, netns=out.netns) == "198.51.100.1"
                    assert reaches("198.51.100.2", 80, netns=kept.netns, timeout=0.5) == "unreachable"
                    for own in ("198.51.100.1", "169.254.169.252", "127.0.0.1"):
                        assert reaches(own, 22, netns=out.netns, timeout=0.5) != "open", own
                    # From outside nobody comes in, although this machine forwards now.
                    run("ip", "-n", world, "route", "add", "240.0.0.0/4", "via", "198.51.100.1")
                    assert reaches("240.64.0.5", 80, netns=world, timeout=0.5) == "silence"
                    with tcp_server(out.netns, 80, hello):
                        assert reaches("240.64.0.5", 80, netns=world, timeout=0.5) == "silence"
                        assert say(PUBLIC, 80) == "169.254.169.252"
                    out.close()
                    wait_for(lambda: reaches(PUBLIC, 80, timeout=3) == "unreachable", "the tap is gone")
            finally:
                # The first goes first: the other still needs the way, and gives back what the first found.
                cloud.close()
                forwarding = run("sysctl", "-n", "net.ipv4.conf.wan0.forwarding")
                other.close()
            assert forwarding == "1\n"
            assert run("sysctl", "net.ipv4.conf.wan0.forwarding", "net.ipv4.ip_forward") == before
            assert run("nft", "list", "tables") == ""
    finally:
        run("ip", "netns", "delete", world)
