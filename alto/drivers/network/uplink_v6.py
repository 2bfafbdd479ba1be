"""IPv6 between a VPC's namespace and the one that Alto runs in: this machine's end, by the veth pair that IPv4 has (uplink.py).

Addresses are the guests' own on all of the way, but at two places here:

    client -> guest's address --(here: snat to MACHINE_ADDRESS_V6)--> veth --(VPC: only to those that are reached)--> guest
    guest -> world --(VPC: its gateway's route)--> veth --(here: masquerade, when this machine has a way out)--> world

A guest that is reached, or may leave and hears answers, has a route of its own here, through its VPC's device. Nothing is
announced: whoever is on another machine has no way in. Of this machine a guest gets nothing but answers, and no device here
takes an address, a router or a neighbour from it: who is at the other end is written down by hand. docs/adr/0014 has what
else was thought of.
Not here: who is reached, and who may leave (alto.plan.routes).
"""

from collections.abc import Collection
from pathlib import Path

import msgspec

from alto.drivers.network import conntrack
from alto.drivers.network.commands import Commands
from alto.drivers.network.forwarding import Forwarding
from alto.drivers.network.nft import Nft
from alto.drivers.network.uplink import HOST_MAC, VPC_MAC
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.networks import MACHINE_ADDRESS_V6, UPLINK_DEVICE

NEXT_HOP_V6 = "fe80::fd"


class UplinkV6:
    """`devices` is the pattern of our veths' names. Its caller lets one do something at a time."""

    def __init__(
        self,
        world: World,
        nft: Nft,
        forwarding: Forwarding,
        *,
        table: str,
        devices: str,
        nat: bool,
    ) -> None:
        self._world = world
        self._nft = nft
        self._commands = Commands(world)
        self._forwarding = forwarding
        self._table = table
        self._devices = devices
        self._nat = nat
        self._way_out: str | None = None  # the device of this machine's default route, while guests may use it
        self._ready = False
        self._routed: dict[str, set[str]] = {}  # device -> addresses that are known to have their route

    @property
    def has_way_out(self) -> bool:
        """As of the last `ensure`."""
        return self._way_out is not None

    async def ensure(self) -> None:
        """The table is there; guests may leave if this machine has a way out, which may have changed."""
        way_out = await self._default_device() if self._nat else None
        if self._ready and way_out == self._way_out:
            return
        if way_out is not None:
            await self._forwarding.turn_on_v6(self._devices, self._commands.links(None))
        await self._nft.apply(None, ruleset(self._table, self._devices, nat=way_out is not None))
        self._way_out = way_out
        self._ready = True

    def settle(self, device: str, *, on: bool) -> None:
        """Whether the device has IPv6 at all; before it is up, so that it takes no address by itself."""
        settings = {"disable_ipv6": "1"}
        if on:
            settings = {"addr_gen_mode": "1", "accept_ra": "0", "accept_redirects": "0", "disable_ipv6": "0"}
        else:
            self.forget(device)  # the kernel takes its routes away
        folder = Path("net/ipv6/conf") / device
        if self._world.files.exists(Path("/proc/sys") / folder):
            self._world.net.sysctl({f"{folder}/{key}": value for key, value in settings.items()})

    def forget(self, device: str) -> None:
        """The device was made anew: nothing leads through it yet."""
        self._routed.pop(device, None)

    async def connect(self, netns: str, device: str) -> None:
        """Both ends of a VPC's pair know each other."""
        here = [
            f"address replace {MACHINE_ADDRESS_V6}/128 dev {device} nodad",
            f"neigh replace {NEXT_HOP_V6} lladdr {VPC_MAC} dev {device} nud permanent",
        ]
        await self._commands.ip(None, here)
        there = [
            f"neigh replace {MACHINE_ADDRESS_V6} lladdr {HOST_MAC} dev {UPLINK_DEVICE} nud permanent",
            # For the kernel's own words; guests have their route tables.
            f"route replace {MACHINE_ADDRESS_V6}/128 dev {UPLINK_DEVICE}",
        ]
        await self._commands.ip(netns, there)

    async def publish(self, device: str, addresses: Collection[str]) -> None:
        """Exactly these lead through the device. Raises: DriverFault when one leads into another VPC."""
        for other, theirs in self._routed.items():
            if other != device and not theirs.isdisjoint(addresses):
                raise DriverFault(f"{min(theirs.intersection(addresses))} still leads into another VPC")
        known = self._routed.get(device)
        if known is None:
            if not addresses and not self._ready:
                return
            known = await self._found(device)
        wanted = set(addresses)
        lines = [
            f"route replace {one}/128 via {NEXT_HOP_V6} dev {device} src {MACHINE_ADDRESS_V6} onlink"
            for one in sorted(wanted - known)
        ]
        await self._commands.ip(None, lines)
        gone = sorted(known - wanted)
        await self._commands.ip(None, [f"route del {one}/128 dev {device}" for one in gone], tolerant=True)
        await conntrack.forget(self._world, None, gone)
        self._routed[device] = wanted

    async def withdraw(self, device: str) -> None:
        """The device's routes go with it; what its guests spoke of is forgotten."""
        await conntrack.forget(self._world, None, sorted(self._routed.pop(device, ())))

    async def remove(self) -> None:
        """Nothing of it is left, also of what a predecessor left."""
        if self._ready or self._is_supported():
            await self._nft.apply(None, f"add table ip6 {self._table}\ndelete table ip6 {self._table}\n")
            await self._forwarding.give_back_v6()
        self._routed.clear()
        self._ready = False

    def _is_supported(self) -> bool:
        return self._world.files.exists(Path("/proc/sys/net/ipv6"))

    async def _found(self, device: str) -> set[str]:
        """What a predecessor left."""
        if device not in self._commands.links(None):
            return set()
        routes = await self._commands.listed(None, ["-6", "route", "show", "dev", device], _Route)
        return {route.dst.partition("/")[0] for route in routes if route.gateway == NEXT_HOP_V6}

    async def _default_device(self) -> str | None:
        routes = await self._commands.listed(None, ["-6", "route", "show", "default"], _Route)
        return next((route.dev for route in routes if route.type == "unicast" and route.dev not in ("", "lo")), None)


def ruleset(table: str, devices: str, *, nat: bool) -> str:
    """This machine's side, replacing what there was in one transaction."""
    lines = [
        f"add table ip6 {table}",
        f"delete table ip6 {table}",
        f"add table ip6 {table}",
        f"add chain ip6 {table} c_source {{ type nat hook postrouting priority 100; policy accept; }}",
        f'add rule ip6 {table} c_source oifname "{devices}" snat to {MACHINE_ADDRESS_V6}',
        f"add chain ip6 {table} c_input {{ type filter hook input priority -5; policy accept; }}",
        f'add rule ip6 {table} c_input iifname "{devices}" ct state established,related accept',
        f'add rule ip6 {table} c_input iifname "{devices}" counter drop',
        f"add chain ip6 {table} c_forward {{ type filter hook forward priority -5; policy accept; }}",
        f'add rule ip6 {table} c_forward iifname "{devices}" oifname "{devices}" counter drop',
        f'add rule ip6 {table} c_forward oifname "{devices}" ct state established,related accept',
        f'add rule ip6 {table} c_forward oifname "{devices}" counter drop',
    ]
    if nat:
        lines.append(f'add rule ip6 {table} c_source iifname "{devices}" masquerade')
    else:
        lines.append(f'add rule ip6 {table} c_forward iifname "{devices}" counter drop')
    return "\n".join(lines) + "\n"


class _Route(msgspec.Struct):
    dst: str
    type: str = "unicast"
    dev: str = ""
    gateway: str = ""
