"""Goal: nothing that guests use needs the control plane to live, and the next one takes all of it over as it is.

Method: a process of its own drives the network and is killed with SIGKILL, at rest and in the middle of a call; what runs on
is seen from guests, what is taken over by process ids.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from alto.drivers.network.records import NetworkRecord
from alto.drivers.network.vpc import VpcNetworks
from tests.drivers.network.guests import SHUTTLE, hello, kill, open_socket, reaches, run, say, tcp_server, wait_for
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, allow, group, plan, port

pytestmark = pytest.mark.net

WEB = group("sg-web", allow("tcp", 80, cidr="0.0.0.0/0"))
PUBLIC = "127.64.0.5"

# A control plane: makes the network, plugs guest 1, hands the tap to a process that outlives it, and waits.
DRIVER = """
import asyncio, os, subprocess, sys, time
from pathlib import Path
from alto.drivers.network.vpc import VpcNetworks
from alto.kit.world import real_world
from alto.plan import firewall, routes
from tests.drivers.network.samples import *

async def main():
    names = {"cloud_id": sys.argv[2], "host_id": "h-1"}
    driver = VpcNetworks(real_world(), Path(sys.argv[1]), **names, rules=firewall, routes=routes, nat=False)
    web = group("sg-web", allow("tcp", 80, cidr="0.0.0.0/0"))
    await driver.ensure_network(plan(DEFAULT, web), [])
    one = port(1, "sg-web", public_ip="127.64.0.5")
    tap = await driver.plug(one, machine(1, of=one))
    eth0 = real_world().net.open_tap("eth0", netns=sys.argv[3])
    argv = [sys.executable, "-S", sys.argv[4], str(tap.fd), str(eth0)]
    subprocess.Popen(argv, pass_fds=(tap.fd, eth0), start_new_session=True)
    print("ready", flush=True)
    number = 1
    while True:
        if sys.argv[5] == "busy":
            number = number % 100 + 2
            other = port(number)
            tap = await driver.plug(other, machine(number))
            os.close(tap.fd)
            await driver.unplug(other.id, "vpc-1")
        else:
            await asyncio.sleep(1)

asyncio.run(main())
"""


class Killed:
    """What a control plane that was killed left behind."""

    def __init__(self, cloud: Cloud, mode: str) -> None:
        self.guest = f"nwt-{os.getpid()}-orphan"
        run("ip", "netns", "add", self.guest)
        argv = [sys.executable, "-c", DRIVER, str(cloud.folder), cloud.cloud_id, self.guest, str(SHUTTLE), mode]
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        run("ip", "-n", self.guest, "link", "set", "eth0", "address", port(1).mac)
        run("ip", "-n", self.guest, "link", "set", "eth0", "up")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        run("ip", "-n", self.guest, "link", "delete", "eth0", check=False)
        run("ip", "netns", "delete", self.guest, check=False)


def test_guests_are_served_while_nobody_drives_and_all_is_taken_over(cloud: Cloud, tmp_path: Path) -> None:
    before = cloud.traces()
    killed = Killed(cloud, "idle")
    try:
        killed.kill()
        helpers = cloud.processes()
        assert len(helpers) == 2
        # Everything a guest needs to wake, with no control plane there.
        guest = _Waking(killed.guest)
        assert guest.dhcp(tmp_path).startswith("lease 10.77.0.11/24")
        assert guest.curl("http://169.254.169.254/latest/meta-data/public-ipv4") == f"{PUBLIC}\n200"

        def echo(connection: socket.socket, peer: str) -> None:
            while data := connection.recv(100):
                connection.sendall(data)

        with tcp_server(killed.guest, 80, echo), open_socket(None, socket.SOCK_STREAM) as held:
            held.settimeout(2)
            held.connect((PUBLIC, 80))
            wanted = plan(DEFAULT, WEB)
            for _ in range(3):
                cloud.new_driver()
                cloud.ensure(wanted, port(1, "sg-web", public_ip=PUBLIC))
                held.sendall(b"x")
                assert held.recv(10) == b"x"
                assert cloud.processes() == helpers
                assert cloud.do(lambda driver: driver.observe()) == {"vpc-1": (port(1).id,)}
            assert guest.curl("http://169.254.169.254/latest/meta-data/public-ipv4") == f"{PUBLIC}\n200"
            # Also what was killed itself comes back.
            for name in ("edge.pid", "vpcs/vpc-1/dnsmasq.pid"):
                kill(int((cloud.folder / name).read_text()))
            cloud.ensure(wanted, port(1, "sg-web", public_ip=PUBLIC))
            assert guest.curl("http://169.254.169.254/latest/meta-data/public-ipv4") == f"{PUBLIC}\n200"
            assert guest.dhcp(tmp_path).startswith("lease 10.77.0.11/24")
            held.sendall(b"x")
            assert held.recv(10) == b"x"
    finally:
        killed.close()
    cloud.new_driver()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


class _Waking:
    """A guest that somebody else plugged."""

    from tests.drivers.network.guests import Guest

    dhcp = Guest.dhcp
    curl = Guest.curl
    run = Guest.run

    def __init__(self, netns: str) -> None:
        self.netns = netns


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_moment_of_its_work(cloud: Cloud, moment: int) -> None:
    before = cloud.traces()
    killed = Killed(cloud, "busy")
    try:
        time.sleep(0.05 + moment * 0.037)  # the point in the cycle is what differs, not something waited for
        killed.kill()
        run("ip", "-n", killed.guest, "addr", "add", "10.77.0.11/24", "dev", "eth0")
        run("ip", "-n", killed.guest, "route", "add", "default", "via", "10.77.0.1")
        with tcp_server(killed.guest, 80, hello):
            assert say(PUBLIC, 80) == "169.254.169.252"
            cloud.new_driver()
            cloud.ensure(plan(DEFAULT, WEB), port(1, "sg-web", public_ip=PUBLIC))
            assert say(PUBLIC, 80) == "169.254.169.252"
            assert reaches(PUBLIC, 81, timeout=0.3) == "silence"
        assert cloud.do(lambda driver: driver.observe()) == {"vpc-1": (port(1).id,)}
        rules = run("nft", "list", "ruleset", netns=cloud.netns())
        assert port(1).device in rules
        assert rules.count("chain c_from_tap") == 1
    finally:
        killed.close()
    cloud.new_driver()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


def test_removal_that_was_cut_off_is_finished_by_the_next(cloud: Cloud) -> None:
    before = cloud.traces()
    cloud.ensure()
    run("ip", "netns", "delete", cloud.netns())
    cloud.new_driver()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


@pytest.mark.parametrize("lost", ["vpcs/vpc-1/network.json", "vpcs/vpc-1/dnsmasq.pid", "vpcs"])
def test_what_lost_its_record_goes_too(cloud: Cloud, lost: str) -> None:
    before = cloud.traces()
    cloud.ensure()
    path = cloud.folder / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    cloud.new_driver()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


def test_a_removal_that_was_cut_off_is_found_and_finished(cloud: Cloud) -> None:
    """The namespace went, and then the process was killed: what a new one finds is asked to go again, as an agent does."""
    before = cloud.traces()
    cloud.ensure()
    path = cloud.folder / "vpcs" / "vpc-1" / "network.json"
    record = msgspec.json.decode(path.read_bytes(), type=NetworkRecord)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, leaving=True)))
    run("ip", "netns", "delete", cloud.netns())
    cloud.new_driver()
    assert cloud.do(lambda driver: driver.observe()) == {"vpc-1": ()}
    cloud.do(lambda driver: driver.remove_network("vpc-1"))
    assert cloud.do(lambda driver: driver.observe()) == {}
    assert list((cloud.folder / "vpcs").iterdir()) == []
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


def test_a_folder_whose_removal_was_cut_off_is_not_kept_for_ever(cloud: Cloud) -> None:
    """Its first file went, which says that there is a network, and then the process was killed."""
    cloud.ensure()
    half, ports = cloud.folder / "vpcs" / "vpc-half", cloud.folder / "vpcs" / "vpc-ports" / "ports"
    (half / "ports").mkdir(parents=True)
    (half / "dnsmasq.pid").touch()
    ports.mkdir(parents=True)
    (ports / "10.77.0.11.json").touch()
    cloud.new_driver()
    assert list(cloud.do(lambda driver: driver.observe())) == ["vpc-1"]
    assert sorted(path.name for path in (cloud.folder / "vpcs").iterdir()) == ["vpc-1", "vpc-ports"]


def test_an_edge_that_was_begun_ahead_is_the_first_networks(cloud: Cloud) -> None:
    """Goal: the first VPC does not wait for a Python to start, and there is one edge however it came. Method: an edge begun
    ahead, and one that is being begun when the VPC comes; then all goes."""
    before = cloud.traces()

    def edges() -> list[str]:
        return [line for line in cloud.processes() if "alto.daemons.edge" in line]

    cloud.do(lambda driver: driver.prepare())
    (ahead,) = edges()
    cloud.ensure()
    assert edges() == [ahead]
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before

    async def both(driver: VpcNetworks) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(driver.prepare())
            tasks.create_task(driver.ensure_network(plan(), []))

    cloud.do(both)
    assert len(edges()) == 1
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


def test_an_edge_whose_folder_is_gone_ends_by_itself(cloud: Cloud) -> None:
    cloud.ensure()
    edge = int((cloud.folder / "edge.pid").read_text())
    (cloud.folder / "edge.pid").unlink()
    os.kill(edge, signal.SIGHUP)  # as its own timer would, in a while
    wait_for(lambda: not any("alto.daemons.edge" in line for line in cloud.processes()), "the edge has ended")
