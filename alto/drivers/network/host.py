"""This machine's end of every VPC's uplink: one table, one veth and a route per public address, and their removal. Of a routed
pool also what others are told of it (lan.py)."""

import asyncio
from collections.abc import Callable, Collection
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import structlog

from alto.drivers.network import conntrack, uplink
from alto.drivers.network.commands import Commands
from alto.drivers.network.forwarding import Forwarding
from alto.drivers.network.lan import Lan, Standing
from alto.drivers.network.nft import Nft
from alto.drivers.network.uplink import Published
from alto.drivers.network.uplink_v6 import UplinkV6
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.networks import MACHINE_ADDRESS, UPLINK_DEVICE

log = structlog.get_logger()


class HostUplink:
    """`published_before()`: by VPC, as the records of ports have it; asked once."""

    def __init__(
        self,
        world: World,
        nft: Nft,
        *,
        short: str,
        devices: str,
        pool: IPv4Network,
        nat: bool,
        published_before: Callable[[], dict[str, Published]],
    ) -> None:
        self._world = world
        self._nft = nft
        self._commands = Commands(world)
        self._table = f"alto_{short}"
        self._forwarding = Forwarding(world, nft, own=frozenset((self._table,)))
        self._devices = f"{devices}*"
        self._v6 = UplinkV6(world, nft, self._forwarding, table=self._table, devices=self._devices, nat=nat)
        self._pool = pool
        self._lan = Lan(world, pool=pool, own=devices, short=short)
        self._nat = nat
        self._way_out: str | None = None  # the device of this machine's default route, while guests may use it
        self._around: tuple[str | None, Standing] | None = None
        self._ready = False
        self._lock = asyncio.Lock()
        self._published_before = published_before
        self._published: dict[str, Published] | None = None
        self._settled: set[str] = set()  # devices whose routes are known to be there

    @property
    def has_way_out(self) -> bool:
        """As of the last `ensure`."""
        return self._way_out is not None

    @property
    def is_routed(self) -> bool:
        """Others know public addresses by themselves, and come under their own."""
        return not self._pool.is_loopback

    @property
    def leads_on(self) -> bool:
        """Whether what leaves a VPC may go anywhere: to the world, or to another public address of a routed pool."""
        return self.is_routed or self.has_way_out

    @property
    def has_way_out_v6(self) -> bool:
        return self._v6.has_way_out

    async def ensure(self, *, v6: bool) -> None:
        """The table is there; guests may leave if this machine has a way out, which may have changed. `v6`: there is a VPC
        that asks for IPv6 too."""
        async with self._lock:
            if v6:
                await self._v6.ensure()
            default = await self._default_device() if self._nat or self.is_routed else None
            way_out = default if self._nat else None
            standing = await self._lan.look() if self.is_routed else Standing()
            if self._ready and (default, standing) == self._around:
                return
            # Packets for guests come in there; only those devices, so that this machine becomes nobody else's router.
            for device in sorted({*standing.devices, *([default] if default else [])}):
                await self._forwarding.turn_on(device)
            known = self._known().values()
            published = Published(
                public={address: other for one in known for address, other in one.public.items()},
                near=frozenset(near for one in known for near in one.near),
            )
            nat = self._nat if self.is_routed else way_out is not None
            await self._nft.apply(None, uplink.host_ruleset(self._table, self._devices, self._pool, published, nat=nat))
            if self.is_routed:
                await self._lan.settle(published.public)
                self._settled.clear()  # this machine may speak from another address now
            try:
                await self._nft.apply(None, uplink.pool_guard(self._table, self._pool))
            except DriverFault as fault:
                log.warning("unused public addresses are not guarded", cause=str(fault.__cause__))
            self._way_out, self._around = way_out, (default, standing)
            self._ready = True

    async def hold(self, addresses: Collection[str]) -> None:
        """Exactly these public addresses are this machine's own, for somebody to listen on. Of loopback all are, always."""
        async with self._lock:
            if self.is_routed:
                await self._lan.hold(addresses)

    async def connect(self, netns: str, device: str, *, v6: bool) -> bool:
        """The VPC's veth pair, for one family or both. Whether it was made now."""
        async with self._lock:
            is_new = UPLINK_DEVICE not in self._commands.links(netns)
            if is_new:
                # A device of ours whose other end is not there leads into a namespace that is no more.
                await self._commands.delete_links(None, [device])
                self._settled.discard(device)
                self._v6.forget(device)
                await self._commands.ip(None, [f"link add {device} type veth peer name {UPLINK_DEVICE} netns {netns}"])
            sysctl = {
                # Sources are 127.0.0.1 until the table above translates them, on the way back again.
                f"net/ipv4/conf/{device}/route_localnet": "1",
                f"net/ipv4/conf/{device}/forwarding": "1" if self.leads_on else "0",
                f"net/ipv4/conf/{device}/rp_filter": "1",
            }
            present = {key: value for key, value in sysctl.items() if self._world.files.exists(Path("/proc/sys") / key)}
            self._world.net.sysctl(present)
            self._v6.settle(device, on=v6)
            await self._commands.ip(
                None,
                [
                    f"link set {device} address {uplink.HOST_MAC}",
                    f"link set {device} up",
                    f"neigh replace {uplink.NEXT_HOP} lladdr {uplink.VPC_MAC} dev {device} nud permanent",
                ],
            )
            inside = [
                f"link set {UPLINK_DEVICE} address {uplink.VPC_MAC}",
                f"link set {UPLINK_DEVICE} up",
                f"neigh replace {MACHINE_ADDRESS} lladdr {uplink.HOST_MAC} dev {UPLINK_DEVICE} nud permanent",
                f"route replace {MACHINE_ADDRESS}/32 dev {UPLINK_DEVICE}",
            ]
            await self._commands.ip(netns, inside)
            if v6:
                await self._v6.connect(netns, device)
            return is_new

    async def publish(self, vpc_id: str, device: str, published: Published, led: Collection[str]) -> None:
        """Exactly this leads to the VPC. `led`: addresses of IPv6."""
        async with self._lock:
            await self._v6.publish(device, led)
            known = self._known()
            old, public = known.get(vpc_id, Published()), published.public
            for address in public:
                owner = next((id for id, of_vpc in known.items() if address in of_vpc.public and id != vpc_id), None)
                if owner is not None:
                    raise DriverFault(f"{address} still belongs to a port of {owner}")
            is_settled = device in self._settled
            if old == published and is_settled:
                return
            gone = {address for address, other in old.public.items() if public.get(address) != other}
            await self._change(old, published)
            # A machine without an address speaks from loopback, which is translated.
            source = " src 127.0.0.1" if self.is_routed and not self._lan.standing.has_address else ""
            new = [other for address, other in public.items() if not is_settled or old.public.get(address) != other]
            routes = [f"route replace {other}/32 via {uplink.NEXT_HOP} dev {device} onlink{source}" for other in new]
            # In one process: on a busy machine each takes as long as all the rest.
            await self._commands.ip(None, [*routes, *_flushed(gone, old)])
            if self.is_routed:
                await self._lan.change(gone, public)
            known[vpc_id] = published
            self._settled.add(device)
            await conntrack.forget(self._world, None, list(gone))

    async def withdraw(self, vpc_id: str, device: str) -> None:
        """The VPC's addresses and its device are gone."""
        async with self._lock:
            old = self._known().get(vpc_id, Published())
            if self._ready:
                await self._change(old, Published())
            if self.is_routed:
                await self._lan.change(old.public, ())
            await self._commands.ip(None, _flushed(old.public, old))
            await conntrack.forget(self._world, None, list(old.public))
            await self._v6.withdraw(device)
            await self._commands.delete_links(None, [device])
            self._known().pop(vpc_id, None)
            self._settled.discard(device)

    async def remove(self) -> None:
        async with self._lock:
            names = self._commands.links(None)
            own = self._devices.rstrip("*")
            await self._commands.delete_links(None, [name for name in names if name.startswith(own)])
            if self.is_routed:
                await self._lan.remove()
            await self._nft.apply(None, f"add table ip {self._table}\ndelete table ip {self._table}\n")
            await self._v6.remove()
            await self._forwarding.give_back(names)
            self._published = {}
            self._settled.clear()
            self._ready = False

    async def _change(self, old: Published, new: Published) -> None:
        lines = uplink.host_change(self._table, self._pool, old, new)
        await self._nft.apply(None, "".join(f"{line}\n" for line in lines))

    def _known(self) -> dict[str, Published]:
        if self._published is None:
            self._published = self._published_before()
        return self._published

    async def _default_device(self) -> str | None:
        finished = await self._world.processes.run(["ip", "-json", "-4", "route", "show", "default"])
        if finished.returncode != 0 or not finished.stdout.strip():
            return None
        routes = msgspec.json.decode(finished.stdout, type=list[_Route])
        return next((route.dev for route in routes if route.dev), None)


def _flushed(gone: Collection[str], published: Published) -> list[str]:
    return [f"route flush {published.public[address]}/32" for address in gone]


class _Route(msgspec.Struct):
    dev: str | None = None
