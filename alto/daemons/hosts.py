"""Agents with their drivers: for this machine, or for simulated hosts. Wiring only."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from alto.agent.agent import Agent, Drivers
from alto.agent.manifests import Manifests
from alto.drivers.balancer.fake import FakeBalancer
from alto.drivers.balancer.haproxy.balancer import HaproxyBalancer
from alto.drivers.compute.fake import FakeCompute
from alto.drivers.compute.qemu.compute import QemuCompute
from alto.drivers.image.fake import FakeImages
from alto.drivers.image.images import LocalImages
from alto.drivers.network.fake import FakeNetwork
from alto.drivers.network.vpc import VpcNetworks
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import World
from alto.model.sessions import ServerLink
from alto.plan import firewall

# A simulated host is a large server, so that a few of them hold thousands of instances.
SIMULATED_VCPUS = 128
SIMULATED_MEMORY_MIB = 1024 * 1024


class LocalPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """Where this machine's host keeps what."""

    state: Path
    cache: Path

    @property
    def host(self) -> Path:
        return self.state / "host"


def local_drivers(world: World, places: LocalPlaces, *, cloud_id: str, host_id: str, pool: str, nat: bool) -> Drivers:
    """QEMU, namespaces and HAProxy on this machine. Needs root."""
    network = VpcNetworks(
        world, places.host / "network", cloud_id=cloud_id, host_id=host_id, rules=firewall, pool=pool, nat=nat
    )
    images = LocalImages(world, places.cache)
    return Drivers(
        compute=QemuCompute(world, places.host / "machines", trial=partial(images.fetch, "tiny")),
        images=images,
        network=network,
        balancer=HaproxyBalancer(world, folder=places.host / "balancer", netns_of=network.netns_of),
    )


def local_agent(
    world: World,
    drivers: Drivers,
    places: LocalPlaces,
    server: ServerLink,
    *,
    cloud_id: str,
    host_id: str,
    underlay: str = "",
) -> Agent:
    """`underlay`: where other hosts reach this one with VXLAN ("IP:PORT"); "" on a machine that is alone."""
    manifests = Manifests(world.files, places.host / "manifests")
    name = os.uname().nodename
    return Agent(world, drivers, manifests, server, cloud_id=cloud_id, host_id=host_id, name=name, underlay=underlay)


def simulated_agents(world: World, server: ServerLink, count: int, *, cloud_id: str) -> Iterator[Agent]:
    """`count` hosts that need no root and no QEMU. What runs on them goes with this process."""
    for number in range(1, count + 1):
        drivers = Drivers(
            compute=FakeCompute(world, vcpus=SIMULATED_VCPUS, memory_mib=SIMULATED_MEMORY_MIB),
            images=FakeImages(world),
            network=FakeNetwork(world),
            balancer=FakeBalancer(world, answers=lambda instance_id: True),
        )
        manifests = Manifests(MemoryFiles(), Path("/simulated") / str(number))
        name = f"simulated-{number}"
        yield Agent(world, drivers, manifests, server, cloud_id=cloud_id, host_id=f"h-{name}", name=name)
