"""Goal: what EC2 would let through arrives, what it would refuse does not, under any rules and while they are swapped.

Method: random rule sets, each with fifty flows, whose fate an oracle foretells that was written from EC2's documentation alone
(oracle.py). Each first packet is written to its sender's tap, and the answer of what arrived to the receiver's. Ports are
plugged once, rules swapped as changes of what was there, now and then by a driver that starts anew. `ALTO_PACKET_SEED=N`
replays one rule set after the one before it. A machine's taps are held by this process, so nothing is lost to a guest's speed.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from alto.drivers.network import conntrack, uplink
from alto.kit.world import real_world
from alto.plan.network_changes import difference
from tests.drivers.network.guests import run, site
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.oracle import Network
from tests.drivers.network.random_rules import MACHINE, PUBLIC, WORLD, flows, network, plan_of, port_of
from tests.drivers.network.samples import machine
from tests.drivers.network.wires import Outside, Packet, Wire

pytestmark = pytest.mark.net

FLOWS = 50
ANEW = 10  # every so many rule sets a new driver takes over


class Rig:
    """Eight plugged interfaces and the world, under the rules of one random network after another."""

    def __init__(self, folder: Path) -> None:
        run("ip", "link", "add", "world0", "type", "veth", "peer", "name", "world1")
        for device in ("world0", "world1"):
            run("ip", "link", "set", device, "up")
        run("ip", "addr", "add", "192.0.2.1/24", "dev", "world0")
        # Else this machine would tell guests, after a while, that the world does not answer.
        run("ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "world0", "nud", "permanent")
        run("ip", "route", "add", "default", "via", "192.0.2.2")
        self.cloud = Cloud(folder, nat=True)
        self.now = network(0)
        self.plan = plan_of(self.now)
        self.cloud.ensure(self.plan)
        self.wires: dict[str, Wire] = {}
        for one in self.now.interfaces.values():
            port = port_of(one)
            tap = self.cloud.do(lambda driver, port=port: driver.plug(port, machine(1, of=port)))  # type: ignore[misc]
            self.wires[one.id] = Wire(tap.fd, one.mac)
        lines = run("ip", "-o", "link", "show", "type", "veth").splitlines()
        devices = {line.split()[1].split("@")[0] for line in lines} - {"world0", "world1"}
        assert len(devices) == 1, devices
        self.outside = Outside(devices.pop(), uplink.HOST_MAC, uplink.VPC_MAC)

    def swap(self, of: Network, *, anew: bool) -> None:
        plan = plan_of(of)
        ports = [port_of(one) for one in of.interfaces.values()]
        if anew:
            self.cloud.new_driver()
            self.cloud.ensure(plan, *ports)
        else:
            change = difference(self.plan, plan)
            assert change is not None
            self.cloud.do(lambda driver: driver.change_network(plan, change))
            for port in ports:
                if list(port.group_ids) != self.now.interfaces[port.id].groups:
                    self.cloud.do(lambda driver, port=port: driver.describe(port, machine(1, of=port)))  # type: ignore[misc]
        self.now, self.plan = of, plan
        # What has no port of its own is known by its addresses alone: an earlier rule set's flows are none of this one's.
        everybody = [address for one in of.interfaces.values() for address in one.addresses]
        asyncio.run(conntrack.forget(real_world(), self.cloud.netns(), everybody))

    def deliver(self, packets: Sequence[Packet], *, mac: str | None = None) -> set[Packet]:
        """Send them all; those that arrived, by the addresses that their sender used."""
        for packet in packets:
            sender = self.now.owner(packet.source)
            if sender is None:
                self.outside.send(_translated(packet))
            else:
                self.wires[sender.id].send(_translated(packet), mac=mac)
        arrived = set()
        for one in self.now.interfaces.values():
            gateway = one.addresses[0].rsplit(".", 1)[0] + ".1"
            for packet in self.wires[one.id].settle(one.addresses[0], gateway):
                assert packet.destination in one.addresses, f"{one.id} got {packet}"
                arrived.add(packet)
        return arrived | {_seen_outside(packet) for packet in self.outside.packets()}

    def close(self) -> None:
        self.outside.close()
        for wire in self.wires.values():
            wire.close()
        self.cloud.close()


ALIASES = {private: "240" + public.removeprefix("127") for private, public in PUBLIC.items()}


def _translated(packet: Packet) -> Packet:
    """As it is on the wire where it begins: the world sees an alias of the public address."""
    if packet.source in (MACHINE, WORLD):
        return packet._replace(destination=ALIASES[packet.destination])
    return packet


def _seen_outside(packet: Packet) -> Packet:
    private = {alias: address for address, alias in ALIASES.items()}
    return packet._replace(source=private.get(packet.source, packet.source))


@pytest.fixture
def rig(namespaces: None, tmp_path: Path) -> Iterator[Rig]:
    with site(f"fw-host-{os.getpid()}"):
        made = Rig(tmp_path / "net")
        try:
            yield made
        finally:
            made.close()


def check(rig: Rig, seed: int, *, anew: bool = False) -> tuple[int, int]:
    """How many flows passed, and how many were answered."""
    rig.swap(network(seed), anew=anew)
    of = rig.now
    tried = flows(of, seed, FLOWS)
    foretold = {one for one in tried if of.arrives(one.source, one.destination, one.protocol, one.port)}
    replay = f"replay with ALTO_PACKET_SEED={seed}"
    arrived = rig.deliver(tried)
    assert arrived - foretold == set(), f"refused by EC2, let through here; {replay}"
    assert foretold - arrived == set(), f"let through by EC2, refused here; {replay}"
    answers = [one.answered() for one in tried if one in arrived]
    foretold = {one for one in answers if of.answers(one.source, one.destination, one.protocol, one.port)}
    answered = rig.deliver(answers)
    assert answered - foretold == set(), f"an answer that EC2 would stop came through; {replay}"
    assert foretold - answered == set(), f"an answer that EC2 would let through was stopped; {replay}"
    return len(arrived), len(answered)


def _seeds(count: int) -> list[int]:
    chosen = os.environ.get("ALTO_PACKET_SEED")
    return [int(chosen) - 1, int(chosen)] if chosen else list(range(1, count + 1))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_packets_fare_as_ec2_says(rig: Rig, count: int) -> None:
    passed = answered = 0
    seeds = _seeds(count)
    for number, seed in enumerate(seeds):
        more = check(rig, seed, anew=number % ANEW == ANEW - 1)
        passed, answered = passed + more[0], answered + more[1]
    # Else the rules are too narrow or too wide to tell anything.
    total = len(seeds) * FLOWS
    print(f"{len(seeds)} rule sets, {total} flows: {passed} passed, {answered} answered, no disagreement")
    assert 0.1 * total < passed < 0.9 * total
    assert 0.3 * passed < answered < passed
