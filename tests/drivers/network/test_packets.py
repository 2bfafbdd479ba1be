"""Goal: what EC2 would let through arrives, what it would refuse does not, under any rules and while they are swapped.

Method: random rule sets, each with fifty flows, whose fate an oracle foretells that was written from EC2's documentation alone
(oracle.py). Each first packet is written to its sender's tap, and the answer of what arrived to the receiver's. Ports are
plugged once, rules swapped as changes of what was there, now and then by a driver that starts anew; on one host, and on two
with every other interface on the second (each a driver of its own with its VXLANs, on one machine). What `alto net trace` says
of each flow (plan/trace.py) must be what became of it. `ALTO_PACKET_SEED=N` replays one rule set after the one before it. A
machine's taps are held by this process, so nothing is lost to a guest's speed.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.drivers.network import conntrack, uplink
from alto.kit.world import NETNS_DIR, real_world
from alto.model.network_plans import VNI_FROM, NetworkPlan
from alto.plan.network_changes import difference
from alto.plan.overlays import Place, spread
from alto.plan.trace import trace
from tests.drivers.network.guests import run, site
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.oracle import ANY, Entry, Interface, Network, Rule
from tests.drivers.network.random_rules import (
    GROUPS,
    HIDDEN,
    NAT,
    PUBLIC,
    flow_of,
    flows,
    network,
    plans_of,
    port_of,
    resident_of,
    routers_of,
)
from tests.drivers.network.samples import machine
from tests.drivers.network.wires import ICMP, UDP, UNREACHABLE, Outside, Packet, Wire

pytestmark = pytest.mark.net

FLOWS = 50
ANEW = 10  # every so many rule sets a new driver takes over; between hosts after half as many
# Between hosts the kernel may put a packet off until it has time: many times what that takes, and what it may take at most.
UNDERWAY_S, UNDERWAY_MAX_S = 0.05, 5.0


class Rig:
    """Ten plugged interfaces in two VPCs, a NAT gateway and the world, under the rules of one random network after another; on
    one host, or in turn on two that VXLANs join."""

    def __init__(self, folder: Path, *, hosts: int = 1) -> None:
        run("ip", "link", "add", "world0", "type", "veth", "peer", "name", "world1")
        for device in ("world0", "world1"):
            run("ip", "link", "set", device, "up")
        run("ip", "addr", "add", "192.0.2.1/24", "dev", "world0")
        # Else this machine would tell guests, after a while, that the world does not answer.
        run("ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "world0", "nud", "permanent")
        run("ip", "route", "add", "default", "via", "192.0.2.2")
        run("ip", "addr", "add", "2001:db8:98::1/64", "dev", "world0", "nodad")
        run("ip", "neigh", "add", "2001:db8:98::2", "lladdr", "02:00:00:00:00:01", "dev", "world0", "nud", "permanent")
        run("ip", "route", "add", "::/0", "via", "2001:db8:98::2")
        self.clouds = [Cloud(folder / f"h-{number}", host_id=f"h-{number}", nat=True) for number in range(hosts)]
        self.now = network(0)
        self.plans = self._plans(self.now)
        self.outsides = []
        for host, cloud in enumerate(self.clouds):
            before = _veths()
            cloud.ensure(self._told(host, self.now)["vpc-1"])
            (device,) = (one for one in _veths() - before if one.startswith("a"))
            self.outsides.append(Outside(device, uplink.HOST_MAC, uplink.VPC_MAC))
            cloud.ensure(self._told(host, self.now)["vpc-2"])
        self.wires: dict[str, Wire] = {}
        for one in self.now.interfaces.values():
            port = port_of(one)
            cloud = self.clouds[self._host_of(one)]
            tap = cloud.do(lambda driver, port=port: driver.plug(port, machine(1, of=port)))  # type: ignore[misc]
            self.wires[one.id] = Wire(tap.fd, one.mac)

    def _host_of(self, one: Interface | None) -> int:
        """The NAT gateway is on the first."""
        return int(one.id[-2:]) % len(self.clouds) if one is not None else 0

    def _plans(self, of: Network) -> dict[str, NetworkPlan]:
        plans = plans_of(of)
        if len(self.clouds) > 1:
            plans = {id: replace(plan, vni=VNI_FROM + number) for number, (id, plan) in enumerate(plans.items())}
        return plans

    def _told(self, host: int, of: Network) -> dict[str, NetworkPlan]:
        plans = self._plans(of)
        if len(self.clouds) == 1:
            return plans
        around = [
            Place(host_id=f"h-{number}", underlay=f"127.0.0.1:{24789 + number}", ready=True, at_server=number == 0)
            for number in range(len(self.clouds))
        ]
        residents = [resident_of(one, f"h-{self._host_of(one)}") for one in of.interfaces.values()]
        return {id: spread(plan, around[host], around, residents, standing=False) for id, plan in plans.items()}

    def swap(self, of: Network, *, anew: bool) -> None:
        of.host_of = {id: f"h-{self._host_of(one)}" for id, one in of.interfaces.items()}
        for host, cloud in enumerate(self.clouds):
            self._swap(cloud, host, of, anew=anew)
        self.now, self.plans = of, self._plans(of)
        # What has no port of its own is known by its addresses alone: an earlier rule set's flows are none of this one's.
        everybody = [address for one in of.interfaces.values() for address in one.all]
        for cloud in self.clouds:
            for place in (*self.plans, NAT.id):
                if (NETNS_DIR / cloud.netns(place)).exists():
                    gone = [*everybody, *of.behind, NAT.private_ip]
                    asyncio.run(conntrack.forget(real_world(), cloud.netns(place), gone))

    def _swap(self, cloud: Cloud, host: int, of: Network, *, anew: bool) -> None:
        before, plans = self._told(host, self.now), self._told(host, of)
        ports = [port_of(one) for one in of.interfaces.values() if self._host_of(one) == host]
        if anew:
            cloud.new_driver()
        for id, plan in plans.items():
            if anew:
                cloud.ensure(plan, *(port for port in ports if port.vpc_id == id))
                continue
            change = difference(before[id], plan)
            assert change is not None
            cloud.do(lambda driver, plan=plan, change=change: driver.change_network(plan, change))  # type: ignore[misc]
        for port in ports:
            if not anew and port != port_of(self.now.interfaces[port.id]):
                cloud.do(lambda driver, port=port: driver.describe(port, machine(1, of=port)))  # type: ignore[misc]

    def deliver(self, packets: Sequence[Packet], foretold: set[Packet]) -> set[Packet]:
        """Send them all; those that arrived, by the addresses that their sender used. Waits for those `foretold`."""
        for packet in packets:
            sender = self.now.at(packet.source)
            if sender is None:
                known = packet.destination in PUBLIC or ":" in packet.destination
                into = self.now.owner(packet.destination) if known else None
                self.outsides[self._host_of(into)].send(packet._replace(destination=_alias(packet.destination)))
            else:
                self.wires[sender.id].send(packet)
        if len(self.clouds) > 1:
            time.sleep(UNDERWAY_S)
        end, arrived = time.monotonic() + UNDERWAY_MAX_S, self._arrived(packets)
        while not foretold <= arrived and time.monotonic() < end:
            arrived |= self._arrived(packets)
        return arrived

    def _arrived(self, sent: Sequence[Packet]) -> set[Packet]:
        arrived = set()
        for one in self.now.interfaces.values():
            gateway = one.addresses[0].rsplit(".", 1)[0] + ".1"
            for packet in self.wires[one.id].settle(one.addresses[0], gateway):
                if (packet.protocol, packet.port) == (ICMP, UNREACHABLE):
                    continue  # the router's own word: EC2's says nothing where no route leads
                assert self.now.at(packet.destination) is one, f"{one.id} got {packet}"
                arrived.add(packet)
        outside = [packet for each in self.outsides for packet in each.packets()]
        return arrived | {self._seen_outside(packet, sent) for packet in outside}

    def _seen_outside(self, packet: Packet, sent: Sequence[Packet]) -> Packet:
        """Each flow has a number of its own, so what comes from the NAT gateway is known by that."""
        if packet.source != ALIASES[NAT.private_ip]:
            private = {alias: address for address, alias in ALIASES.items()}
            return packet._replace(source=private.get(packet.source, packet.source))
        (known,) = (one for one in sent if one.source in HIDDEN and one._replace(source=packet.source) == packet)
        return known

    def close(self) -> None:
        for outside in self.outsides:
            outside.close()
        for wire in self.wires.values():
            wire.close()
        for cloud in self.clouds:
            cloud.close()


def _veths() -> set[str]:
    return {line.split()[1].split("@")[0] for line in run("ip", "-o", "link", "show", "type", "veth").splitlines()}


_PUBLIC = {**PUBLIC, NAT.private_ip: str(NAT.public_ip)}
ALIASES = {private: "240" + public.removeprefix("127") for private, public in _PUBLIC.items()}


def _alias(private: str) -> str:
    """The world sees aliases of public addresses; of what is behind the NAT gateway, the gateway's. IPv6 has none."""
    return private if ":" in private else ALIASES.get(private, ALIASES[NAT.private_ip])


@pytest.fixture
def hosts() -> int:
    return 1


@pytest.fixture
def rig(namespaces: None, tmp_path: Path, hosts: int) -> Iterator[Rig]:
    with site(f"fw-host-{os.getpid()}"):
        made = Rig(tmp_path / "net", hosts=hosts)
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
    arrived = rig.deliver(tried, foretold)
    assert arrived - foretold == set(), f"refused by EC2, let through here; {replay}"
    assert foretold - arrived == set(), f"let through by EC2, refused here; {replay}"
    answers = [one.answered() for one in tried if one in arrived]
    foretold = {one for one in answers if of.answers(one.source, one.destination, one.protocol, one.port)}
    answered = rig.deliver(answers, foretold)
    assert answered - foretold == set(), f"an answer that EC2 would stop came through; {replay}"
    assert foretold - answered == set(), f"an answer that EC2 would let through was stopped; {replay}"
    for one in tried:
        told = trace(rig.plans, flow_of(of, one), routers_of(of))
        assert told.arrives is (one in arrived), f"{one} {told}; {replay}"
        # What a router does with a flow is not for a trace to say.
        if told.answered is not None:
            assert told.answered is (one.answered() in answered), f"{one} {told}; {replay}"
    return len(arrived), len(answered)


def _seeds(count: int) -> list[int]:
    chosen = os.environ.get("ALTO_PACKET_SEED")
    return [int(chosen) - 1, int(chosen)] if chosen else list(range(1, count + 1))


LONG = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("hosts", "count"), [(1, 20), (2, 6), pytest.param(1, 200, marks=LONG), pytest.param(2, 60, marks=LONG)]
)
def test_packets_fare_as_ec2_says(rig: Rig, hosts: int, count: int) -> None:
    passed = answered = 0
    seeds = _seeds(count)
    for number, seed in enumerate(seeds):
        every = ANEW // hosts
        more = check(rig, seed, anew=number % every == every - 1)
        passed, answered = passed + more[0], answered + more[1]
    # Else the rules are too narrow or too wide to tell anything.
    total = len(seeds) * FLOWS
    print(f"{len(seeds)} rule sets, {total} flows: {passed} passed, {answered} answered, no disagreement")
    assert 0.1 * total < passed < 0.9 * total
    assert 0.3 * passed < answered < passed


SWAPS = 1000


def test_while_rules_are_swapped_a_packet_meets_the_old_or_the_new_ones(rig: Rig) -> None:
    """Two rule sets in turn. What neither lets through never arrives; what both do always does."""
    sender, receiver = (rig.now.interfaces[f"eni-{number:017x}"] for number in (0, 3))
    source, destination = sender.addresses[0], receiver.addresses[0]
    everything = [Rule(True, ANY, ANY, ANY, ("cidr", "0.0.0.0/0"))]
    anyway = Rule(False, UDP, 8080, 8080, ("group", "sg-a"))
    plans = []
    for port in (22, 443):
        of = network(0)
        mine = [*everything, anyway, Rule(False, UDP, port, port, ("cidr", source + "/32"))]
        of.groups = of.groups | dict.fromkeys(GROUPS, mine)
        of.acls = {id: [Entry(1, egress, True, ANY, ANY, ANY, "0.0.0.0/0") for egress in (False, True)] for id in of.acls}
        for one in (of.interfaces[sender.id], of.interfaces[receiver.id]):
            one.groups, one.checked = ["sg-a"], True
        plans.append((of, plans_of(of)["vpc-1"]))
    rig.swap(plans[0][0], anew=True)
    stop = threading.Event()
    sent: dict[int, int] = {80: 0, 8080: 0}
    arrived: dict[int, int] = {}

    def flood() -> None:
        # A port of its own for each, so that none is part of a connection that a rule let begin.
        while not stop.wait(0.001):
            for port in sent:
                sent[port] += 1
                rig.wires[sender.id].send(Packet(source, destination, UDP, 1024 + sum(sent.values()) % 60000, port))
            for packet in rig.wires[receiver.id].packets():
                arrived[packet.port] = arrived.get(packet.port, 0) + 1

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for number in range(SWAPS):
            (_, before), (_, after) = plans[number % 2], plans[1 - number % 2]
            change = difference(before, after)
            assert change is not None
            rig.clouds[0].do(lambda driver, after=after, change=change: driver.change_network(after, change))  # type: ignore[misc]
    finally:
        stop.set()
        flooding.join()
    for packet in rig.wires[receiver.id].packets():
        arrived[packet.port] = arrived.get(packet.port, 0) + 1
    assert sent[80] > SWAPS
    assert arrived == {8080: sent[8080]}
