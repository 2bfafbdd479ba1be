"""How fast a port may be. Goal: no guest sends or takes more than its rate, whatever it tries; a port without a rate is not
slowed down by one that has; rates survive the driver, and go with the port. Method: bytes through real ports; what is asserted
is that they cannot have come sooner, which no busy machine can make untrue."""

import socket
import threading
import time

import pytest

from alto.drivers.network.rates import BURST_BYTES
from tests.drivers.network.guests import Guest, open_socket, run, tcp_server
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, plan, port

pytestmark = pytest.mark.net

MBPS = 20
BYTES = 8_000_000
# 20 Mbit/s are 2,500,000 bytes a second; those of the first second may come at once, and the burst.
LEAST_S = (BYTES - BURST_BYTES) / 2_500_000 - 1.0


def seconds(source: Guest, target: Guest, address: str, *, limit_s: float = 60.0) -> float:
    """How long BYTES take from one guest to the other."""
    done = threading.Event()

    def swallow(connection: socket.socket, peer: str) -> None:
        left = BYTES
        while left > 0 and (data := connection.recv(65536)):
            left -= len(data)
        done.set()

    with tcp_server(target.netns, 9000, swallow), open_socket(source.netns, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit_s)
        connection.connect((address, 9000))
        began = time.monotonic()
        connection.sendall(bytes(BYTES))
        assert done.wait(limit_s)
        return time.monotonic() - began


def test_a_port_has_its_rate_each_way_and_keeps_it_over_the_drivers_death(cloud: Cloud) -> None:
    cloud.ensure(plan(DEFAULT))
    slow, quick = cloud.guest(1, rate_mbps=MBPS), cloud.guest(2)
    assert seconds(slow, quick, "10.77.0.12") >= LEAST_S
    assert seconds(quick, slow, "10.77.0.11") >= LEAST_S

    cloud.new_driver()
    cloud.ensure(plan(DEFAULT), port(1, rate_mbps=MBPS), port(2))
    assert seconds(slow, quick, "10.77.0.12") >= LEAST_S

    # Between ports without one there is none. Once in some tries even a busy machine shows it.
    third = cloud.guest(3)
    assert any(seconds(quick, third, "10.77.0.13") < LEAST_S for _ in range(5))


def test_a_rate_goes_with_its_port_and_another_may_come(cloud: Cloud) -> None:
    cloud.ensure(plan(DEFAULT))
    table = ("nft", "list", "table", "inet", "alto_rate")
    guest = cloud.guest(1, rate_mbps=MBPS)
    assert port(1).device in run(*table, netns=cloud.netns())
    guest.close()
    cloud.do(lambda driver: driver.unplug(port(1).id, "vpc-1"))
    assert port(1).device not in run(*table, netns=cloud.netns())
    cloud.guest(1, rate_mbps=50)
    assert "6250000 bytes/second" in run(*table, netns=cloud.netns())
