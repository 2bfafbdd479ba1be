"""Hosts that are nearly full for a while, guests that fall silent and answer again, hosts that meet another cloud; in seeds
whose name begins with "health", so that the histories of all others stay what they are.

What is really so is known here, so what is said is compared with it. Never: a guest said to be impaired that never was silent,
or said to be well again while it is silent; a row that another cloud's host changed. In the end: each host is said to be short
of what it is short of, each silent guest is impaired, through deaths of agents, and well soon after it answers.
"""

import asyncio
import random

from alto.api.hosts.session import HostSessions
from alto.model.errors import Refused
from alto.model.hosts import Capabilities, Host
from alto.model.instances import Instance, Phase, Power
from alto.model.pressure import Gauges, Pressure
from alto.model.sessions import Hello, ServerLink
from alto.plan.violations import State
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.sim.check import Violated
from tests.sim.cloud import SimCloud
from tests.sim.hosts import SimHost
from tests.sim.world import SimDisk, sim_world

PREFIX = "health"
OTHER_CLOUD = "cloud-other"
SILENT_MAX = 3


def has_health(seed: str) -> bool:
    return seed.startswith(PREFIX)


def gauges(short: frozenset[Pressure], chance: random.Random) -> Gauges:
    """Of a machine that is short of just these; other programs move the numbers a little all the time."""
    moved = chance.randint(0, 900)
    return Gauges(
        memory_mib=8000,
        memory_free_mib=100 if Pressure.MEMORY in short else 4000 + moved,
        disk_mib=100_000,
        disk_free_mib=500 if Pressure.DISK in short else 50_000 + moved,
        processes_max=30_000,
        processes=29_900 if Pressure.PROCESSES in short else 500 + moved,
    )


class OtherCloud:
    """A cloud on the same network, whose host has the same id as one of ours."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud
        self._world = sim_world(cloud.loop, f"{cloud.seed} other cloud", SimDisk())
        self._disk = MemoryDisk()
        self.store = SqliteStore.inline(self._disk, pause=_no_pause)
        self.sessions = HostSessions(self._world, self.store, OTHER_CLOUD)
        self._hosts: list[Host] = []
        self._changes = -1

    async def begin(self) -> None:
        await self.sessions.hello(self._hello())
        self._hosts = self.store.read(lambda reader: reader.where(Host))

    def _hello(self) -> Hello:
        capabilities = Capabilities(kind="fake", accelerator="none", vcpus=64, memory_mib=65536)
        return Hello(cloud_id=OTHER_CLOUD, host_id=self._cloud.hosts[0].id, name="theirs", capabilities=capabilities, found=())

    def check(self) -> list[str]:
        changes = self._disk.connection.total_changes()
        if changes == self._changes:
            return []
        self._changes = changes
        hosts = self.store.read(lambda reader: reader.where(Host))
        return [] if hosts == self._hosts else [f"another cloud's hosts are {hosts}, and were {self._hosts}"]

    async def visit(self) -> None:
        """Its host comes to our server by mistake."""
        server = self._cloud.server
        if server is None or server.process.dead:
            return
        try:
            await server.sessions.hello(self._hello())
        except Refused as refused:
            if refused.aws_code != "WrongCloud":
                self._cloud.checker.fault = Violated(f"a host of another cloud was refused for another reason: {refused}")
        else:
            self._cloud.checker.fault = Violated("a host of another cloud was taken for ours")


class Health:
    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud
        self._chance = random.Random(f"health {cloud.seed}")
        self._short: dict[str, frozenset[Pressure]] = {host.id: frozenset() for host in cloud.hosts}
        self._other = OtherCloud(cloud)
        self._since: dict[str, float] = {}  # silent guests: instance -> since when
        self._ever: set[str] = set()  # instances that were silent at some time

    async def begin(self) -> None:
        await self._other.begin()
        for host in self._cloud.hosts:
            host.gauges = gauges(frozenset(), self._chance)
        self._cloud.checker.more += [self._never, lambda before, after: self._other.check()]

    # While other faults rage, too.

    async def storm(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(0, 20))
            host = self._chance.choice(self._cloud.hosts)
            match self._chance.choice(("pressure", "silence", "astray", "visit")):
                case "pressure":
                    self._press(host, frozenset(one for one in Pressure if self._chance.random() < 0.4))
                case "silence":
                    self._silence(host)
                case "astray":
                    host.stranger = self._their_sessions
                    self._cloud.loop.call_later(self._chance.uniform(1, 60), lambda host=host: _back(host))  # type: ignore[misc]
                case "visit":
                    await self._other.visit()

    def _their_sessions(self) -> ServerLink:
        return self._other.sessions

    def _press(self, host: SimHost, short: frozenset[Pressure]) -> None:
        self._cloud.loop.note(f"fault: {host.id} is short of {sorted(short)}")
        self._short[host.id] = short
        host.gauges = gauges(short, self._chance)

    def _silence(self, host: SimHost) -> list[str]:
        """Some guests that run there, or all silent ones answer again."""
        silent = host.networks.silent
        if silent:
            self._answer(host)
            return []
        chosen = []
        for instance in self._running(host)[:SILENT_MAX]:
            self._cloud.loop.note(f"fault: {instance.id} falls silent")
            silent.add(instance.nic.interface_id)
            self._since[instance.id] = self._cloud.loop.time()
            self._ever.add(instance.id)
            chosen.append(instance.id)
        return chosen

    def _answer(self, host: SimHost) -> None:
        for instance in self._cloud.checker.state().instances:
            if instance.nic.interface_id in host.networks.silent:
                self._since.pop(instance.id, None)
        host.networks.silent.clear()

    def _running(self, host: SimHost) -> list[Instance]:
        on = {id for id, machine in host.machines.machines.items() if machine.seen.power is Power.ON}
        return [one for one in self._cloud.checker.state().instances if one.id in on and one.phase is Phase.RUNNING]

    def calm(self) -> None:
        for host in self._cloud.hosts:
            _back(host)
            self._press(host, frozenset())
            self._answer(host)

    # What must be so.

    def _never(self, before: State, after: State) -> list[str]:
        wrong = []
        old = {one.id: one for one in before.instances}
        for one in after.instances:
            was = old.get(one.id)
            failed = _failed(one)
            if failed and one.id not in self._ever:
                wrong.append(f"{one.id} is said to be impaired, and answers all the time")
            same_run = was is not None and (was.incarnation, one.phase) == (one.incarnation, Phase.RUNNING)
            if was is not None and same_run and _failed(was) and not failed and one.id in self._since:
                wrong.append(f"{one.id} is said to be well, and is silent since {self._since[one.id]:.0f} s")
        return wrong

    def unsaid(self) -> list[str]:
        """What is not said as it is."""
        state = self._cloud.checker.state()
        wrong = [
            f"Host {host.id} is said to be short of {list(host.pressure)}, and is of {sorted(self._short[host.id])}"
            for host in state.hosts
            if host.pressure != tuple(sorted(self._short[host.id]))
        ]
        for one in state.instances:
            failed = _failed(one)
            if one.phase is Phase.RUNNING and failed != (one.id in self._since):
                wrong.append(
                    f"{one.id} is {'impaired' if failed else 'well'}, and {'silent' if one.id in self._since else 'answers'}"
                )
        return wrong

    def trouble(self) -> None:
        """For a calm cloud: it is as bad as it can be, and stays so."""
        for host in self._cloud.hosts:
            self._press(host, frozenset(one for one in Pressure if self._chance.random() < 0.4))
            self._silence(host)

    def deaths(self) -> None:
        """Of every agent, which begins anew beside guests that are silent still."""
        for host in self._cloud.hosts:
            if host.process is not None:
                self._cloud.loop.kill(host.process)


def _failed(instance: Instance) -> bool:
    """It is said that its guest does not answer."""
    return instance.checks is not None and instance.checks.guest_failed_since is not None


def _back(host: SimHost) -> None:
    host.stranger = None


async def _no_pause() -> None:
    return
