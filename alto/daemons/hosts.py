"""Agents with their drivers: for this machine, or for simulated hosts. Wiring only."""

import argparse
import os
from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import structlog

from alto.agent.agent import Agent, Drivers
from alto.agent.keys import HostKeys
from alto.agent.manifests import Manifests
from alto.agent.origin import begin, fingerprint
from alto.agent.pressure import Machine
from alto.daemons.process import is_endpoint
from alto.drivers.balancer.fake import FakeBalancer
from alto.drivers.balancer.haproxy.appliance import Appliances, Haproxies
from alto.drivers.balancer.haproxy.balancer import HaproxyBalancer
from alto.drivers.compute.container.compute import ContainerCompute
from alto.drivers.compute.driver import ComputeDriver, ImageDriver
from alto.drivers.compute.fake import FakeCompute
from alto.drivers.compute.groups import ControlGroups
from alto.drivers.compute.qemu.blockjobs import DiskTool
from alto.drivers.compute.qemu.compute import QemuCompute
from alto.drivers.image.fake import FakeImages
from alto.drivers.network.fake import FakeNetwork
from alto.drivers.network.lan import devices_around, interfaces, routers
from alto.drivers.network.vpc import VpcNetworks
from alto.drivers.volume.driver import VolumeDriver
from alto.drivers.volume.fake import FakeStorage, FakeVolumes
from alto.drivers.volume.files import FileVolumes
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import World
from alto.model.errors import AltoError
from alto.model.images import CONTAINER, QEMU, TINY
from alto.model.sessions import ServerLink
from alto.plan import firewall, routes
from alto.plan.pools import check_place

log = structlog.get_logger()

KINDS = (QEMU, CONTAINER)  # what one machine's hosts may run; each kind is a host of its own

# A simulated host is a large server, so that a few of them hold thousands of instances, and one of Amazon's largest.
SIMULATED_VCPUS = 512
SIMULATED_MEMORY_MIB = 8 * 1024 * 1024


class LocalPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """Where this machine's host keeps what."""

    state: Path
    cache: Path
    kind: str = QEMU

    @property
    def host(self) -> Path:
        return self.state / ("host" if self.kind == QEMU else f"host-{self.kind}")

    @property
    def identity(self) -> Path:
        """Of a host that joined a cloud elsewhere."""
        return self.state if self.kind == QEMU else self.host


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every daemon with hosts on this machine is told; see `check_arguments`."""
    parser.add_argument("--state", type=Path, required=True, help="folder of this cloud's, or host's, state")
    parser.add_argument("--cache", type=Path, help="folder of images that can be had again")
    parser.add_argument(
        "--hosts",
        metavar="KIND[,KIND]",
        help=f"what this machine's hosts run, each its own kind: {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--underlay", default="", metavar="IP:PORT", help="where other hosts of this cloud reach this one with VXLAN"
    )
    parser.add_argument(
        "--nat", action=argparse.BooleanOptionalAction, default=True, help="let guests out where this machine has a way"
    )
    parser.add_argument("--down", action="store_true", help="take everything of it away from this machine")
    parser.add_argument("--keep-data", action="store_true", help="with --down: keep records, identity and disks")


def check_arguments(parser: argparse.ArgumentParser, given: argparse.Namespace) -> tuple[str, ...]:
    """The kinds of hosts that were asked for; none when nothing was said."""
    if given.underlay and not is_endpoint(given.underlay):
        parser.error(f"--underlay {given.underlay}: it is IP:PORT, as 192.0.2.7:4789")
    kinds = tuple(dict.fromkeys(given.hosts.split(","))) if given.hosts else ()
    if not set(kinds) <= set(KINDS):
        parser.error(f"--hosts {given.hosts}: hosts are of the kinds {' and '.join(KINDS)}")
    return kinds


async def check_pool(world: World, pool: str, *, joined: bool = False) -> None:
    """Whether a real host may be on this machine with this pool. `joined`: the cloud is elsewhere. Raises: AltoError."""
    network = IPv4Network(pool)
    if network.is_loopback:
        return
    found = await interfaces(world)
    try:
        check_place(network, {one.ifname: one.networks for one in found}, await routers(world))
    except ValueError as error:
        raise AltoError(f"The pool of public addresses cannot be on this machine: {error}. Give another --pool") from error
    if joined and not devices_around(network, found):
        raise AltoError(
            f"The cloud's public addresses are of {pool}, and no interface of this machine is in such a network: its instances "
            "could not be reached at them. Give this machine an address of that network (outside the pool), and join then"
        )


def name_of(name: str, kind: str) -> str:
    """What a host of this kind is called on a machine that is called so."""
    return name if kind == QEMU else f"{name}-{kind}"


def local_drivers(
    world: World,
    places: LocalPlaces,
    images: ImageDriver,
    *,
    cloud_id: str,
    host_id: str,
    pool: str,
    nat: bool,
    share: float = 1.0,
    api: tuple[str, int] | None = None,
) -> Drivers:
    """QEMU or LXC, namespaces and HAProxy on this machine. Needs root. `share`: of its memory, what this host may give out.
    `api`: where the cloud's API listens on it, if it is the server's machine."""
    network = VpcNetworks(
        world,
        places.host / "network",
        cloud_id=cloud_id,
        host_id=host_id,
        rules=firewall,
        routes=routes,
        pool=pool,
        nat=nat,
        veth=places.kind == CONTAINER,
        api=api,
    )
    groups = machine_groups(world, cloud_id=cloud_id, host_id=host_id)
    compute: ComputeDriver
    volumes: VolumeDriver | None = None
    keys: HostKeys | None = None
    if places.kind == CONTAINER:
        compute = ContainerCompute(world, places.host / "machines", groups=groups, share=share)
    else:
        trial = partial(images.fetch, TINY)
        keys, storage = HostKeys(), places.host / "storage"
        compute = QemuCompute(world, places.host / "machines", trial=trial, groups=groups, share=share, keys=keys)
        volumes = FileVolumes(world, storage, DiskTool(world, storage / "work", keys), keys)
    return Drivers(
        compute=compute,
        images=images,
        network=network,
        volumes=volumes,
        keys=keys,
        balancer=Haproxies(
            HaproxyBalancer(world, folder=places.host / "balancer", netns_of=network.netns_of),
            Appliances(world, netns_of=network.netns_of),
        ),
    )


def machine_groups(world: World, *, cloud_id: str, host_id: str) -> ControlGroups:
    return ControlGroups(world, f"alto-{cloud_id}-{host_id[-6:]}")


async def prepare_networks(local: Iterable[Drivers]) -> None:
    """Beside the agents' start, ahead of the first instance."""
    for drivers in local:
        try:
            await drivers.network.prepare()
        except AltoError as error:
            # The first VPC tries again, and its instances say why it fails.
            log.warning("the network is not prepared", error=str(error), cause=str(error.__cause__ or ""))


async def let_go(local: Iterable[Drivers]) -> None:
    """Of everything that outlives this process."""
    for drivers in local:
        await drivers.balancer.close()
        await drivers.network.close()
        await drivers.compute.close()


async def take_away(drivers: Drivers, groups: ControlGroups, *, keep_data: bool) -> None:
    """Nothing of this host is left: no process, no namespace, no rule; disks only when they are kept."""
    await drivers.balancer.remove_all()
    for id in sorted(await drivers.compute.observe()):
        if keep_data:
            await drivers.compute.stop(id, grace_s=0.0)
        else:
            await drivers.compute.destroy(id)
    await drivers.network.remove_all()
    await drivers.compute.close()
    groups.remove_all()


def this_machine(world: World, kind: str = QEMU) -> str:
    """One word for this machine, this boot of it, and this kind of host; a network namespace of its own is a machine."""
    facts = [kind, str(os.stat("/proc/self/ns/net").st_ino)]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            facts.append(world.files.read(Path(path)).decode().strip())
        except FileNotFoundError:
            facts.append("")
    return fingerprint(*facts)


def local_agent(
    world: World,
    drivers: Drivers,
    places: LocalPlaces,
    server: ServerLink,
    *,
    cloud_id: str,
    host_id: str,
    name: str,
    underlay: str = "",
) -> Agent:
    """Counts as a start of this host. `underlay`: where other hosts reach it with VXLAN ("IP:PORT"); "" on a machine that is
    alone."""
    manifests = Manifests(world.files, places.host / "manifests")
    folder = os.stat(places.state)
    place = fingerprint(str(folder.st_dev), str(folder.st_ino))
    return Agent(
        world,
        drivers,
        manifests,
        server,
        cloud_id=cloud_id,
        host_id=host_id,
        name=name,
        underlay=underlay,
        origin=begin(world, places.host, machine=this_machine(world, places.kind), place=place),
        gauges=Machine(world.files, places.host).gauges,
    )


def simulated_agents(world: World, server: ServerLink, count: int, *, cloud_id: str) -> Iterator[Agent]:
    """`count` hosts that need no root and no QEMU. What runs on them goes with this process."""
    storage = FakeStorage()  # one for all, as if they shared an array of disks
    for number in range(1, count + 1):
        keys = HostKeys()
        drivers = Drivers(
            compute=FakeCompute(world, vcpus=SIMULATED_VCPUS, memory_mib=SIMULATED_MEMORY_MIB, copy=storage.copy, keys=keys),
            volumes=FakeVolumes(world, storage, keys=keys),
            keys=keys,
            images=FakeImages(world),
            network=FakeNetwork(world),
            balancer=FakeBalancer(world, answers=lambda instance_id: True),
        )
        manifests = Manifests(MemoryFiles(), Path("/simulated") / str(number))
        name = f"simulated-{number}"
        yield Agent(world, drivers, manifests, server, cloud_id=cloud_id, host_id=f"h-{name}", name=name)
