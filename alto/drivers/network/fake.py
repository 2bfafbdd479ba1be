"""A network that only remembers: the same promises as the real one, without root, for the simulator and for tests.

`FakeNetworks` is the machine's side of it (what the kernel, dnsmasq and the files are for the real driver) and outlives any
number of `FakeNetwork` drivers, as a kernel outlives an agent. It fails and hangs by the same knobs as the fake compute driver.

Invariant: a call that raises before its effect changes nothing, and within one VPC no address and no MAC belongs to two ports.
"""

from collections.abc import Callable, Collection, Sequence

import msgspec

from alto.drivers.compute.driver import Tap
from alto.drivers.compute.fake import Knobs
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.instances import Machine
from alto.model.network_plans import NetworkChange, NetworkPlan, Port


class FakePort(msgspec.Struct, frozen=True, kw_only=True):
    port: Port
    machine: Machine | None  # None: known from `ensure_network` alone, so it has no metadata yet


class FakeVpc(msgspec.Struct, frozen=True, kw_only=True):
    """`owners`: which port has an address or a MAC. Kept, so that plugging costs the same in a full network."""

    plan: NetworkPlan
    ports: dict[str, FakePort] = {}
    owners: dict[str, str] = {}

    def put(self, new: FakePort) -> None:
        port = new.port
        keys = _keys(port)
        for key in keys:
            owner = self.owners.get(key, port.id)
            if owner != port.id:
                raise DriverFault(f"{port.private_ip} ({port.mac}) in {self.plan.vpc_id} still belongs to {owner}")
        self.take(port.id)
        self.ports[port.id] = new
        self.owners.update(dict.fromkeys(keys, port.id))

    def take(self, port_id: str) -> None:
        gone = self.ports.pop(port_id, None)
        if gone is not None:
            for key in _keys(gone.port):
                del self.owners[key]


def _keys(port: Port) -> list[str]:
    """What only one port of a VPC may have."""
    return [port.mac, *port.all_addresses, *port.public]


class FakeNetworks:
    """What is on one simulated host. A plugged guest answers, unless its port is in `silent`."""

    def __init__(self) -> None:
        self.vpcs: dict[str, FakeVpc] = {}
        self.silent: set[str] = set()


class FakeNetwork:
    """A NetworkDriver over `FakeNetworks`. Taps have fd -1, so there is nothing to close."""

    def __init__(self, world: World, *, networks: FakeNetworks | None = None, knobs: Knobs | None = None) -> None:
        self._world = world
        self._networks = networks or FakeNetworks()
        self.knobs = knobs or Knobs()

    def has_ipv6(self) -> bool:
        return True

    async def prepare(self) -> None: ...

    async def ensure_network(self, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        def effect() -> None:
            old = self._networks.vpcs.get(plan.vpc_id)
            machines = {id: known.machine for id, known in old.ports.items()} if old else {}
            new = FakeVpc(plan=plan)
            for port in ports:
                new.put(FakePort(port=port, machine=machines.get(port.id)))
            self._networks.vpcs[plan.vpc_id] = new

        await self._call("ensure_network", effect)

    async def change_network(self, plan: NetworkPlan, change: NetworkChange) -> None:
        def effect() -> None:
            old = self._vpc(plan.vpc_id)
            self._networks.vpcs[plan.vpc_id] = msgspec.structs.replace(old, plan=plan)

        await self._call("change_network", effect)

    async def plug(self, port: Port, machine: Machine) -> Tap:
        def effect() -> None:
            self._vpc(port.vpc_id).put(FakePort(port=port, machine=machine))

        await self._call("plug", effect)
        return Tap(interface_id=port.id, name=port.device, mac=port.mac)

    async def describe(self, port: Port, machine: Machine) -> None:
        def effect() -> None:
            vpc = self._vpc(port.vpc_id)
            if port.id not in vpc.ports:
                raise DriverFault(f"port {port.id} is not plugged into {port.vpc_id}")
            vpc.put(FakePort(port=port, machine=machine))

        await self._call("describe", effect)

    async def reach(self, port: Port) -> bool:
        await self._call("reach", lambda: None)
        vpc = self._networks.vpcs.get(port.vpc_id)
        return vpc is not None and port.id in vpc.ports and port.id not in self._networks.silent

    async def unplug(self, port_id: str, vpc_id: str) -> None:
        def effect() -> None:
            vpc = self._networks.vpcs.get(vpc_id)
            if vpc is not None:
                vpc.take(port_id)

        await self._call("unplug", effect)

    async def hold(self, addresses: Collection[str]) -> None:
        await self._call("hold", lambda: None)

    async def observe(self) -> dict[str, tuple[str, ...]]:
        await self._call("observe", lambda: None)
        return {id: tuple(sorted(vpc.ports)) for id, vpc in sorted(self._networks.vpcs.items())}

    async def remove_network(self, vpc_id: str) -> None:
        await self._call("remove_network", lambda: self._forget(vpc_id))

    async def remove_all(self) -> None:
        await self._call("remove_all", self._networks.vpcs.clear)

    async def close(self) -> None:
        pass

    def _vpc(self, vpc_id: str) -> FakeVpc:
        vpc = self._networks.vpcs.get(vpc_id)
        if vpc is None:
            raise DriverFault(f"there is no network {vpc_id} on this host; ensure it first")
        return vpc

    def _forget(self, vpc_id: str) -> None:
        self._networks.vpcs.pop(vpc_id, None)

    async def _call(self, method: str, effect: Callable[[], None]) -> None:
        fault = await self.knobs.before(self._world, method)
        effect()
        await self.knobs.after(self._world, method, fault)
