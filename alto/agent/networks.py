"""The VPCs of a host and the ports of its machines in them: plugged, described and unplugged as the machines' records say.

A running machine's further interfaces come and go with its record (`follow`); its first one is there from start to end. What
an agent that died left half attached is known by asking the machine itself, once, before anything else is done to it.

Not here: when a machine starts or ends (agent.py), what a port is in the kernel (drivers/network), in QEMU (drivers/compute).
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from alto.drivers.compute.driver import ComputeDriver, Tap
from alto.drivers.network.driver import NetworkDriver
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.instances import Attach, Machine, Nic, Wish
from alto.model.limits import limits_of
from alto.model.network_plans import NetworkChange, NetworkPlan, Port
from alto.plan.addresses import hostname, names_of
from alto.plan.network_changes import changed, difference

NETWORK_CHECK_S = 30.0  # how often a VPC is ensured without any change; the real driver takes 12 ms when all is well
NETWORK_IDLE_S = 30.0  # a VPC without machines here, and that nothing passes through, is taken down after so long
CHANGES_MAX = 64  # of one VPC that wait; more are told apart again by comparing two plans


class Networks:
    """`changed` is set when the server said something new of a VPC. `machine_of`: what the server last said of a machine."""

    def __init__(
        self,
        world: World,
        network: NetworkDriver,
        compute: ComputeDriver,
        *,
        machine_of: Callable[[str], Machine | None],
    ) -> None:
        self._world = world
        self._network = network
        self._compute = compute
        self._machine_of = machine_of
        self.changed = asyncio.Event()
        self._plans: dict[str, NetworkPlan] = {}
        self._told = False  # the server has said all that is to be here, once
        self._plugged: dict[str, Port] = {}
        self._by_vpc: dict[str, set[str]] = {}  # and by machine: ids of these ports
        self._by_machine: dict[str, set[str]] = {}
        self._left: set[str] = set()  # ports that a predecessor left, and that nobody here has touched yet
        self._holders: dict[str, str] = {}  # public address -> the port that has it here
        self._described: dict[str, Machine] = {}
        self._unsure: set[str] = set()  # machines of which we do not know what interfaces they have
        self._ensured: dict[str, NetworkPlan] = {}
        self._pending: dict[str, list[tuple[NetworkPlan, NetworkPlan, NetworkChange]]] = {}  # VPC -> from, to, by
        self._ensured_at: dict[str, float] = {}
        self._vpcs: set[str] = set()  # VPCs of which something may be on this host
        self._idle_since: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def look(self) -> None:
        """Networks without a port are in no manifest: one that an agent left behind would stay for ever."""
        found = await self._network.observe()
        self._vpcs.update(found)
        self._left = {port_id for ports in found.values() for port_id in ports} - self._plugged.keys()

    def take(self, plans: Iterable[NetworkPlan], *, full: bool = False) -> None:
        """`full`: a VPC that is not among them is to be here for its ports' sake only."""
        self._told |= full
        listed = {plan.vpc_id: plan for plan in plans}
        # What is said again now and then is mostly what is known.
        news = {id: plan for id, plan in listed.items() if self._plans.get(id) != plan}
        if full:
            news.update(
                (id, replace(plan, standing=False)) for id, plan in self._plans.items() if plan.standing and id not in listed
            )
        self._plans.update(news)
        if news:
            self.changed.set()

    def take_changes(self, changes: Iterable[NetworkChange]) -> None:
        for change in changes:
            before = self._plans.get(change.vpc_id)
            if before is not None:
                plan = self._plans[change.vpc_id] = changed(before, change)
                waiting = self._pending.setdefault(change.vpc_id, [])
                if len(waiting) >= CHANGES_MAX or (waiting and waiting[-1][1] is not before):
                    waiting.clear()
                waiting.append((before, plan, change))
                self.changed.set()

    def adopt(self, running: Iterable[Machine]) -> None:
        """Machines found running hold their ports: remember those once their network's plan is known again."""
        for machine in running:
            for nic in _wanted(machine):
                if nic.interface_id not in self._plugged and nic.vpc_id in self._plans:
                    self._hold(self._port_of(machine, nic))
                    self._unsure.add(machine.id)

    def port_of(self, machine: Machine) -> Port | None:
        """Its primary one, when it is plugged."""
        return self._plugged.get(machine.nic.interface_id)

    def holds(self, machine: Machine) -> bool:
        """Also when it ended while no agent was there, and its ports are where the last one left them."""
        return machine.id in self._by_machine or any(nic.interface_id in self._left for nic in machine.nics)

    # Machines.

    async def plug(self, machine: Machine) -> list[Tap]:
        """All ports of a machine that is to start, the primary one first. The caller closes the taps."""
        taps: list[Tap] = []
        try:
            for nic in _wanted(machine):
                taps.append(await self._plug(machine, nic))
        except BaseException:
            close(taps)
            raise
        self._unsure.discard(machine.id)
        self._described[machine.id] = _as_described(machine)
        return taps

    async def follow(self, machine: Machine) -> None:
        """Interfaces, metadata, groups and public addresses of a running machine are as its record says."""
        described = _as_described(machine)
        if self._described.get(machine.id) == described and machine.id not in self._unsure:
            return
        wanted = _wanted(machine)
        ids = {nic.interface_id for nic in wanted}
        here = set(self._by_machine.get(machine.id, ()))
        gone = (here | {nic.interface_id for nic in machine.nics}) - ids
        if machine.id in self._unsure:
            has = await self._compute.interfaces(machine.id)
            gone |= has - ids
            # What the machine does not have is taken away whole, and begun anew.
            gone |= {nic.interface_id for nic in wanted[1:] if nic.interface_id not in has}
        if gone or not ids <= here:
            self._unsure.add(machine.id)
        for id in sorted(gone):
            await self._compute.detach_interface(machine.id, id)
            await self._unplug(id, machine.nic.vpc_id)
        for nic in wanted:
            port = self._port_of(machine, nic)
            if nic.interface_id in self._plugged:
                await self._make_way(port)
                await self._describe(port, machine)
            else:
                tap = await self._plug(machine, nic)
                try:
                    await self._compute.attach_interface(machine.id, tap)
                finally:
                    close([tap])
        self._unsure.discard(machine.id)
        self._described[machine.id] = described

    async def unplug(self, machine: Machine) -> None:
        """Nothing of it is left in any network."""
        plugged = self._by_machine.get(machine.id, set())
        for id in sorted(plugged | {nic.interface_id for nic in machine.nics}):
            await self._unplug(id, machine.nic.vpc_id)
        self._described.pop(machine.id, None)
        self._unsure.discard(machine.id)

    async def _plug(self, machine: Machine, nic: Nic) -> Tap:
        port = self._port_of(machine, nic)
        await self._make_way(port)
        async with self.vpc(port.vpc_id):
            await self._ensure(port.vpc_id)
            tap = await self._network.plug(port, machine)
            self._hold(port)
        return tap

    async def _describe(self, port: Port, machine: Machine) -> None:
        async with self.vpc(port.vpc_id):
            await self._ensure(port.vpc_id)
            await self._network.describe(port, machine)
            self._hold(port)

    async def _make_way(self, port: Port) -> None:
        """A public address that went over to `port` leaves the port that had it first, by that one's own record: the driver
        lets none be on two, and to find out by its refusal would cost the address half a second."""
        for address in port.public:
            holder = self._plugged.get(self._holders.get(address, port.id))
            machine = self._machine_of(holder.instance_id) if holder is not None and holder.id != port.id else None
            if machine is None or holder is None:
                continue
            for nic in _wanted(machine):
                if nic.interface_id == holder.id:
                    await self._describe(self._port_of(machine, nic), machine)

    def _hold(self, port: Port) -> None:
        self._let_go(port.id)
        self._left.discard(port.id)
        self._plugged[port.id] = port
        self._by_vpc.setdefault(port.vpc_id, set()).add(port.id)
        self._by_machine.setdefault(port.instance_id, set()).add(port.id)
        self._holders.update(dict.fromkeys(port.public, port.id))

    def _let_go(self, port_id: str) -> None:
        port = self._plugged.pop(port_id, None)
        if port is None:
            return
        for index, key in ((self._by_vpc, port.vpc_id), (self._by_machine, port.instance_id)):
            index[key].discard(port_id)
            if not index[key]:
                del index[key]
        for address in port.public:
            if self._holders.get(address) == port_id:
                del self._holders[address]

    async def _unplug(self, port_id: str, vpc_id: str) -> None:
        async with self.vpc(vpc_id):
            await self._network.unplug(port_id, vpc_id)
            self._left.discard(port_id)
            self._let_go(port_id)

    def _port_of(self, machine: Machine, nic: Nic) -> Port:
        plan = self._plans.get(nic.vpc_id)
        subnet = next((one for one in plan.subnets if one.id == nic.subnet_id), None) if plan else None
        if subnet is None:
            raise DriverFault(f"The network of {machine.id} is not known on this host yet")
        return Port(
            id=nic.interface_id,
            instance_id=machine.id,
            vpc_id=nic.vpc_id,
            subnet_id=nic.subnet_id,
            subnet_cidr=subnet.cidr,
            mac=nic.mac,
            private_ip=nic.private_ip,
            public_ip=nic.public_ip,
            secondary=nic.secondary,
            ipv6=nic.ipv6,
            subnet_cidr_v6=subnet.cidr_v6,
            hostname=machine.hostname if nic.device_index == 0 else hostname(nic.private_ip, machine.region),
            names=names_of(machine.id, nic.private_ip, machine.region, machine.naming) if nic.device_index == 0 else None,
            group_ids=nic.group_ids,
            source_dest_check=nic.source_dest_check,
            device_index=nic.device_index,
            rate_mbps=limits_of(machine.instance_type, machine.vcpus, machine.memory_mib).network_mbps,
        )

    # VPCs.

    def vpc(self, vpc_id: str) -> asyncio.Lock:
        """Changes to one VPC come one after another."""
        lock = self._locks.get(vpc_id)
        if lock is None:
            lock = self._locks[vpc_id] = asyncio.Lock()
        return lock

    async def refresh(self) -> None:
        """Rules of VPCs that changed, or that were found at the start; and VPCs that are to be here without any port."""
        standing = {vpc_id for vpc_id, plan in self._plans.items() if plan.standing}
        for vpc_id in sorted(standing | self._by_vpc.keys()):
            if vpc_id in self._plans and self._is_stale(vpc_id):
                async with self.vpc(vpc_id):
                    await self._ensure(vpc_id)

    async def remove_idle(self, used: Iterable[str]) -> None:
        """`used`: VPCs of machines found running, whose ports nobody may have told us of yet."""
        if not self._told:
            return  # what passes through this host is known to the server alone
        kept = set(used)
        now = self._world.clock.monotonic()
        for vpc_id in sorted(self._vpcs):
            if vpc_id in kept or self._is_needed(vpc_id) or self.vpc(vpc_id).locked():
                self._idle_since.pop(vpc_id, None)
            elif now - self._idle_since.setdefault(vpc_id, now) >= NETWORK_IDLE_S:
                async with self.vpc(vpc_id):
                    # Ports that nobody here knows may be those of a machine in quarantine.
                    if self._is_needed(vpc_id) or (await self._network.observe()).get(vpc_id):
                        continue
                    self._ensured.pop(vpc_id, None)
                    await self._network.remove_network(vpc_id)
                    self._vpcs.discard(vpc_id)
                    self._idle_since.pop(vpc_id, None)

    def _is_needed(self, vpc_id: str) -> bool:
        plan = self._plans.get(vpc_id)
        if plan is not None and plan.standing:
            return True
        return vpc_id in self._by_vpc

    async def _ensure(self, vpc_id: str) -> None:
        """When the plan changed, and now and then: what serves a VPC may have died. The caller holds its lock."""
        plan = self._plans[vpc_id]
        steps = self._steps(vpc_id, self._ensured.get(vpc_id), plan)
        if steps and not self._is_due(vpc_id):
            for to, change in steps:
                # Not remembered until it is done: what half happened is ensured whole.
                del self._ensured[vpc_id]
                await self._network.change_network(to, change)
                self._ensured[vpc_id] = to
        elif self._is_stale(vpc_id):
            ports = [self._plugged[id] for id in sorted(self._by_vpc.get(vpc_id, ()))]
            self._vpcs.add(vpc_id)
            self._ensured.pop(vpc_id, None)
            await self._network.ensure_network(plan, ports)
            self._ensured[vpc_id] = plan
            self._ensured_at[vpc_id] = self._world.clock.monotonic()

    def _steps(self, vpc_id: str, ensured: NetworkPlan | None, plan: NetworkPlan) -> list[tuple[NetworkPlan, NetworkChange]]:
        """What leads from what is there to `plan`, if changes can say it."""
        pending = self._pending.pop(vpc_id, [])
        if ensured is None or ensured is plan:
            return []
        if pending and pending[0][0] is ensured and pending[-1][1] is plan:
            return [(to, change) for _, to, change in pending]
        change = difference(ensured, plan)
        return [(plan, change)] if change is not None else []

    def _is_stale(self, vpc_id: str) -> bool:
        ensured, plan = self._ensured.get(vpc_id), self._plans[vpc_id]
        return ensured is None or (ensured is not plan and ensured != plan) or self._is_due(vpc_id)

    def _is_due(self, vpc_id: str) -> bool:
        return self._world.clock.monotonic() - self._ensured_at[vpc_id] >= NETWORK_CHECK_S


def close(taps: Sequence[Tap]) -> None:
    for tap in taps:
        if tap.fd >= 0:
            os.close(tap.fd)


def _wanted(machine: Machine) -> tuple[Nic, ...]:
    return tuple(nic for nic in machine.nics if nic.attach is not Attach.DETACHING)


def _as_described(machine: Machine) -> Machine:
    """The part of a machine that its metadata and rules show."""
    return replace(machine, wish=Wish.RUNNING, reboots=0)
