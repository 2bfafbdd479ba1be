"""Simulated hosts: what a machine keeps whatever happens to its agent, and the agent on it as a process that can die."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from alto.agent.agent import Agent, Drivers
from alto.agent.keys import HostKeys
from alto.agent.manifests import Manifests
from alto.drivers.balancer.fake import BalancerKnobs, FakeBalancer, FakeBalancers
from alto.drivers.balancer.fake import Fault as BalancerFault
from alto.drivers.compute.fake import FakeCompute, FakeMachine, FakeMachines, Knobs
from alto.drivers.image.fake import FakeImages
from alto.drivers.network.fake import FakeNetwork, FakeNetworks
from alto.drivers.volume.fake import FakeStorage, FakeVolumes
from alto.model.instances import Power, Seen
from alto.model.network_plans import NetworkChange, NetworkPlan
from alto.model.pressure import Gauges
from alto.model.sessions import ServerLink
from alto.plan.network_changes import changed
from tests.sim.links import AgentLink, Link, Weather
from tests.sim.loop import Process, SimLoop
from tests.sim.world import SimDisk, sim_world

MANIFESTS = Path("/var/lib/alto/machines")
MISSING_IMAGE = "file:///missing.qcow2"


class Noticing(dict[str, Any]):
    """A dictionary that tells when it was changed, so that the checker need not look after every step."""

    changed = True

    def __setitem__(self, key: str, value: Any) -> None:
        self.changed = True
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.changed = True
        super().__delitem__(key)

    def pop(self, *args: Any) -> Any:
        self.changed = True
        return super().pop(*args)

    def clear(self) -> None:
        self.changed = True
        super().clear()


class HeedfulNetwork(FakeNetwork):
    """A change says exactly what leads from what the host has to what it is to have."""

    async def change_network(self, plan: NetworkPlan, change: NetworkChange) -> None:
        if changed(self._vpc(plan.vpc_id).plan, change) != plan:
            raise AssertionError(f"{change} does not lead to {plan}")
        await super().change_network(plan, change)


class SimHost:
    """One machine with an agent. `vcpus` and `memory_mib` are what it offers."""

    def __init__(
        self,
        loop: SimLoop,
        seed: str,
        number: int,
        *,
        cloud_id: str,
        vcpus: int,
        memory_mib: int,
        weather: Weather,
        server: Callable[[], Process | None],
        sessions: Callable[[], ServerLink],
        answers: Callable[[str], bool],
        underlay: str = "",
    ) -> None:
        self.id = f"h-{number}"
        self._loop = loop
        self._seed = f"{seed} {self.id}"
        self._cloud_id = cloud_id
        self._underlay = underlay
        self._size = (vcpus, memory_mib)
        self._sessions = sessions
        self._answers = answers
        self.chance = random.Random(f"host {self._seed}")
        self.disk = SimDisk()
        self.machines = FakeMachines()
        self.machines.machines = Noticing()
        self.storage = FakeStorage(f"st-{number}")
        self.networks = FakeNetworks()
        self.balancers = FakeBalancers()
        self.compute_knobs = Knobs()
        self.network_knobs = Knobs()
        self.volume_knobs = Knobs()
        self.image_knobs = Knobs()
        self.balancer_faults = 0.0
        self.gauges: Gauges | None = None  # how full the machine is; None: it does not say
        self.stranger: Callable[[], ServerLink] | None = None  # who answers instead of the server: another cloud
        self.skew_s = 0.0
        self.link = Link(loop, random.Random(f"link {self._seed}"), weather, server)
        self.touched = True
        self.process: Process | None = None
        self.main: asyncio.Task[None] | None = None
        self.agent: Agent | None = None

    def start_agent(self) -> Process:
        process = self._loop.process(self.id)
        world = sim_world(
            self._loop,
            f"{self._seed} {process.generation}",
            self.disk,
            skew_s=self.skew_s,
            booted_at=self.chance.uniform(0, 1e6),
        )
        vcpus, memory_mib = self._size
        keys = HostKeys()
        drivers = Drivers(
            keys=keys,
            compute=FakeCompute(
                world,
                self.machines,
                vcpus=vcpus,
                memory_mib=memory_mib,
                knobs=self.compute_knobs,
                copy=self.storage.copy,
                keys=keys,
            ),
            volumes=FakeVolumes(world, self.storage, knobs=self.volume_knobs, keys=keys),
            images=FakeImages(world, knobs=self.image_knobs, missing=frozenset((MISSING_IMAGE,))),
            network=HeedfulNetwork(world, networks=self.networks, knobs=self.network_knobs),
            balancer=FakeBalancer(
                world,
                answers=self._answers,
                balancers=self.balancers,
                knobs=BalancerKnobs(fault=self._balancer_fault, delay_s=lambda _: self.chance.uniform(0, 0.05)),
            ),
        )
        self.agent = Agent(
            world,
            drivers,
            Manifests(world.files, MANIFESTS),
            AgentLink(self.link, self.id, lambda: (self.stranger or self._sessions)()),
            cloud_id=self._cloud_id,
            host_id=self.id,
            name=f"host{self.id[2:]}",
            underlay=self._underlay,
            gauges=lambda: self.gauges,
        )
        self.process = process
        self.main = process.start(self.agent.run(), name=f"agent {self.id}")
        return process

    def _balancer_fault(self, call: str) -> BalancerFault | None:
        if self.chance.random() >= self.balancer_faults:
            return None
        return BalancerFault.BEFORE if self.chance.random() < 0.5 else BalancerFault.AFTER

    def lose_power(self) -> None:
        """What a machine loses when the power goes: processes, kernel state, and what no fsync asked for. Kill its agent."""
        for id, machine in sorted(self.machines.machines.items()):
            assert isinstance(machine, FakeMachine)
            if machine.seen.power is Power.ON:
                seen = Seen(power=Power.OFF, incarnation=machine.seen.incarnation, crashed=True)
                self.machines.machines[id] = replace(machine, seen=seen)
        self.networks.vpcs.clear()
        self.balancers.plans = {}
        self.balancers.answered = set()
        self.balancers.asked = set()
        self.disk.cut_power(self.chance)
        self.touched = True

    def calm(self) -> None:
        for knobs in (self.compute_knobs, self.network_knobs, self.image_knobs, self.volume_knobs):
            knobs.fault_chance.clear()
            knobs.script.clear()
        self.balancer_faults = 0.0
        self.link.cut = False
