"""Brings a VPC's Routing (alto.plan.routes) into its namespace: tables, rules and neighbours by `ip`, marks by nftables.

Invariant: what leads packets to a table comes after the table, and goes before it.
"""

import msgspec
from msgspec.structs import replace

from alto.drivers.network import families
from alto.drivers.network.commands import Commands
from alto.drivers.network.driver import Routes
from alto.drivers.network.nft import Nft
from alto.kit.world import World
from alto.model.network_plans import NAT_DEVICE, PEER_DEVICE, TUNNEL_DEVICE, VXLAN_DEVICE, Routing, RoutingPatch

MAIN = 254
OURS_FROM = 0x10000000  # tables of that number and above are route tables of a VPC
_NAMES = {"main": MAIN, "local": 255, "default": 253}
_TYPES = ("unreachable", "throw")
METRIC_V6 = 1024  # what the kernel makes of none in a route of IPv6


class KernelRouting:
    """`now` is what the kernel has."""

    def __init__(self, world: World, nft: Nft, routes: Routes, netns: str) -> None:
        self._commands = Commands(world)
        self._nft = nft
        self._routes = routes
        self._netns = netns
        self._v6 = families.is_supported(world.files)
        self.now = Routing()

    async def adopt(self, wanted: Routing) -> None:
        """Whatever is there becomes what is wanted; what is right already stays in its place all the time."""
        patch = RoutingPatch(was=await self._found(wanted), will_be=wanted)
        await self._put(patch)
        await self._nft.apply(self._netns, self._routes.ruleset(wanted))
        await self._drop(patch)
        self.now = wanted

    def to(self, wanted: Routing) -> RoutingPatch:
        return RoutingPatch(was=self.now, will_be=wanted)

    async def move(self, patch: RoutingPatch, *, rules: str = "") -> None:
        """From `now` to what is wanted, and `rules` in the same transaction of the packet filter."""
        await self._put(patch)
        await self._nft.apply(self._netns, rules + self._routes.change(patch))
        await self._drop(patch)
        self.take(patch)

    def take(self, patch: RoutingPatch) -> None:
        """The kernel has it."""
        self.now = self._routes.take(self.now, patch)

    def forget(self, device: str) -> None:
        """The device was made anew: nothing leads through it yet."""
        routes = {key: where for key, where in self.now.routes.items() if f" dev {device} " not in f" {where} "}
        self.now = replace(self.now, routes=routes)
        if device == TUNNEL_DEVICE:
            self.now = replace(self.now, far={}, returns={})
        elif device == VXLAN_DEVICE:
            self.now = replace(self.now, hosts={})

    async def _put(self, patch: RoutingPatch) -> None:
        wanted = self._routes.puts(patch)
        await self._commands.bridge(self._netns, wanted.bridge)
        await self._commands.ip(self._netns, wanted.ip)
        await self._commands.ip_v6(self._netns, wanted.ip_v6)

    async def _drop(self, patch: RoutingPatch) -> None:
        gone = self._routes.drops(patch)
        await self._commands.ip_v6(self._netns, gone.ip_v6, tolerant=True)
        await self._commands.ip(self._netns, gone.ip, tolerant=True)
        await self._commands.bridge(self._netns, gone.bridge, tolerant=True)

    async def _found(self, wanted: Routing) -> Routing:
        """What a predecessor left: enough of it to know what must go, and what is not to be added twice."""
        rules = await self._commands.listed(self._netns, ["rule", "show"], _Rule)
        local = [rule.priority for rule in rules if rule.table == "local"]
        if self._routes.LOCAL_PREFERENCE not in local:
            # After the ways back to other hosts, whose answers have an address that is local here too.
            await self._commands.ip(self._netns, [f"rule add pref {self._routes.LOCAL_PREFERENCE} lookup local"])
        if 0 in local:
            await self._commands.ip(self._netns, ["rule del pref 0"])
        tables = _tables(rules)
        tables_v6 = (
            _tables(await self._commands.listed(self._netns, ["-6", "rule", "show"], _Rule)) if self._v6 else frozenset()
        )
        routes = {}
        far = {}
        for route in await self._commands.listed(self._netns, ["route", "show", "table", "all"], _Route):
            if route.protocol == "kernel":
                continue
            number = _NAMES.get(route.table) or int(route.table)
            ours = route.type in _TYPES or route.dev.startswith((TUNNEL_DEVICE, NAT_DEVICE, PEER_DEVICE))
            destination = _destination(route)
            if number == MAIN and route.dev == TUNNEL_DEVICE:
                far[route.dst.partition("/")[0]] = ""
            elif number >= OURS_FROM or (number == MAIN and ours):
                where = route.type if route.type in _TYPES else f"dev {route.dev}"
                metric = 0 if route.is_v6 and route.metric == METRIC_V6 else route.metric
                routes[number, destination, metric] = where
        return replace(wanted, routes=routes, tables=tables, tables_v6=tables_v6, far=far, hosts={}, returns={})


class _Rule(msgspec.Struct):
    priority: int
    table: str = "main"


def _tables(rules: list[_Rule]) -> frozenset[int]:
    return frozenset(int(rule.table) for rule in rules if rule.table.isdigit())


class _Route(msgspec.Struct):
    dst: str
    type: str = "unicast"
    dev: str = ""
    table: str = "main"
    metric: int = 0
    protocol: str = ""
    pref: str | None = None  # RFC 4191

    @property
    def is_v6(self) -> bool:
        return self.pref is not None


def _destination(route: _Route) -> str:
    """As alto.plan.routes writes it."""
    if route.dst == "default":
        return "::/0" if route.is_v6 else "default"
    return route.dst if "/" in route.dst else f"{route.dst}/{128 if route.is_v6 else 32}"
