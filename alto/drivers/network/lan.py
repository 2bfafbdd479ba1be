"""How others come to know where the addresses of a routed pool are: this machine's side of a network that it did not make.

On every device in whose network the pool is, this machine answers ARP for the addresses that are given out here, and for no
others of the pool: each host of a cloud answers for its own. A pool that is in no such network is led here by the network's own
router; what comes for an address that nobody has is refused then, since it would go back to that router and in circles.
Addresses that balancers listen on are this machine's own, as long as they do.

Deliberately not here: where packets go from here on (host.py), and which pools there may be (alto/plan/pools.py).
Invariant: nothing of a device that is not ours is changed, but forwarding, which host.py gives back.
"""

import hashlib
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address

import msgspec

from alto.drivers.network import arp
from alto.drivers.network.commands import Commands
from alto.kit.world import World


class Standing(msgspec.Struct, frozen=True):
    """Where this machine stands. `devices`: those in whose network the pool is; `has_address`: any that others could see."""

    devices: frozenset[str] = frozenset()
    has_address: bool = False


class Lan:
    """`own`: how names of this host's own devices begin; `short`: this host, in ten letters."""

    def __init__(self, world: World, *, pool: IPv4Network, own: str, short: str) -> None:
        self._world = world
        self._commands = Commands(world)
        self._pool = pool
        self._own = own
        self._label = f"lo:{short}"
        # Two hosts on one machine each have a route of their own, so that either may go first.
        self._metric = 2**31 + int.from_bytes(hashlib.blake2s(short.encode(), digest_size=4).digest()) % 2**31
        self._standing = Standing()
        self._answered: set[str] = set()
        self._held: frozenset[str] | None = None

    @property
    def standing(self) -> Standing:
        """As of the last `look`."""
        return self._standing

    async def look(self) -> Standing:
        found = await interfaces(self._world)
        has_address = any(one.ifname != "lo" for one in found)
        self._standing = Standing(devices=devices_around(self._pool, found), has_address=has_address)
        return self._standing

    async def settle(self, addresses: Collection[str]) -> None:
        """After a `look` that saw something else: exactly `addresses` are answered for, where they are to be."""
        devices = self._standing.devices
        unreachable = f"unreachable {self._pool} metric {self._metric}"
        if devices:
            await self._commands.ip(None, [f"route del {unreachable}"], tolerant=True)
        else:
            await self._commands.ip(None, [f"route replace {unreachable}"])
        wanted = {(address, device) for address in addresses for device in devices}
        stale = [one for one in await self._answered_before() if one not in wanted]
        await self._commands.ip(None, [f"neigh del proxy {address} dev {device}" for address, device in stale], tolerant=True)
        self._answered = set()
        await self.change((), addresses)

    async def change(self, gone: Collection[str], came: Collection[str]) -> None:
        """Addresses that are given out here no more, and such as are from now on."""
        devices = sorted(self._standing.devices)
        left, new = sorted(self._answered.intersection(gone)), sorted(set(came) - self._answered)
        commands = [f"neigh del proxy {address} dev {device}" for address in left for device in devices]
        await self._commands.ip(None, commands, tolerant=True)
        await self._commands.ip(None, [f"neigh replace proxy {address} dev {device}" for address in new for device in devices])
        self._answered = (self._answered - set(left)) | set(new)
        for address in new:
            for device in devices:
                # Who spoke with it while it was on another machine would go on speaking to that one for a minute.
                await arp.announce(self._world, device, address)

    async def hold(self, addresses: Collection[str]) -> None:
        """Exactly those of these that are of the pool are this machine's own."""
        wanted = frozenset(address for address in addresses if ip_address(address) in self._pool)
        if self._held == wanted:
            return
        held = {
            address.local for one in await interfaces(self._world) for address in one.addr_info if address.label == self._label
        }
        lines = [f"address del {address}/32 dev lo" for address in sorted(held - wanted)]
        lines += [f"address replace {address}/32 dev lo label {self._label}" for address in sorted(wanted - held)]
        await self._commands.ip(None, lines)
        for address in sorted(wanted - held):
            for device in sorted(self._standing.devices):
                await arp.announce(self._world, device, address)
        self._held = wanted

    async def remove(self) -> None:
        await self.hold(())
        lines = [f"neigh del proxy {address} dev {device}" for address, device in await self._answered_before()]
        lines.append(f"route del unreachable {self._pool} metric {self._metric}")
        await self._commands.ip(None, lines, tolerant=True)
        self._answered = set()

    async def _answered_before(self) -> list[tuple[str, str]]:
        """Of the pool, and not another host's on this machine, whose routes say that they are."""
        routes = await self._commands.listed(None, ["-4", "route", "show"], _Route)
        others = {one.dst for one in routes if one.dev and not one.dev.startswith(self._own)}
        answers = await self._commands.listed(None, ["-4", "neigh", "show", "proxy"], _Proxy)
        return [(one.dst, one.dev) for one in answers if IPv4Address(one.dst) in self._pool and one.dst not in others]


class Address(msgspec.Struct):
    local: str
    prefixlen: int
    label: str = ""


class Interface(msgspec.Struct):
    ifname: str
    addr_info: Sequence[Address] = ()

    @property
    def networks(self) -> list[IPv4Interface]:
        return [IPv4Interface((one.local, one.prefixlen)) for one in self.addr_info]


class _Route(msgspec.Struct):
    dst: str = ""
    dev: str = ""
    gateway: str = ""


class _Proxy(msgspec.Struct):
    dst: str
    dev: str


def devices_around(pool: IPv4Network, found: Sequence[Interface]) -> frozenset[str]:
    """The devices in whose network the pool is."""
    return frozenset(
        one.ifname for one in found if one.ifname != "lo" and any(pool.subnet_of(address.network) for address in one.networks)
    )


async def interfaces(world: World) -> list[Interface]:
    """Of the machine itself, with its addresses of IPv4. Raises: DriverFault."""
    found = await Commands(world).listed(None, ["-4", "address", "show", "up"], Interface)
    return [one for one in found if one.addr_info]


async def routers(world: World) -> list[str]:
    """Of the machine's default routes. Raises: DriverFault."""
    found = await Commands(world).listed(None, ["-4", "route", "show", "default"], _Route)
    return [one.gateway for one in found if one.gateway]
