"""Forwarding on the device of this machine's way out: on while any host of Alto's is here, and then again what it was.

How it was is kept in the kernel, in a table that all hosts on the machine share: it lives as long as the setting itself, and
the last host finds it, whichever came first.

Of IPv6 the kernel has one switch for all devices. Where it was off, only what comes from our devices or goes to them is
forwarded, so that this machine becomes nobody else's router; and devices that listen to a router go on with it.
"""

from pathlib import Path

import msgspec

from alto.drivers.network.nft import Nft
from alto.kit.world import World
from alto.model.errors import DriverFault

TABLE = "alto_forwarding"
_MAP = f"ip {TABLE} alto_before"
_LISTENED, _OURS = f"ip6 {TABLE} alto_listened", f"ip6 {TABLE} alto_ours"


class Forwarding:
    """`own`: names of tables that belong to the host that speaks."""

    def __init__(self, world: World, nft: Nft, own: frozenset[str]) -> None:
        self._world = world
        self._nft = nft
        self._own = own

    async def turn_on(self, device: str) -> None:
        before = await self._before()
        now = self._world.net.sysctl({_setting(device): "1"})[_setting(device)]
        if device not in before:
            lines = [
                f"add table ip {TABLE}",
                f"add map {_MAP} {{ type ifname : mark; }}",
                f'add element {_MAP} {{ "{device}" : {int(now)} }}',
            ]
            await self._nft.apply(None, "\n".join(lines) + "\n")

    async def turn_on_v6(self, ours: str, devices: set[str]) -> None:
        """`ours`: the pattern of our devices' names; `devices`: all that there are."""
        if TABLE not in await self._tables("ip6"):
            if self._now_v6("all", "forwarding") == "1":
                return  # somebody else's, and no affair of ours
            listen = {name for name in (*devices, "default") if self._now_v6(name, "accept_ra") == "1"}
            before = ", ".join(f'"{name}" : 1' for name in sorted(listen))
            lines = [
                f"add table ip6 {TABLE}",
                f"add map {_LISTENED} {{ type ifname : mark; }}",
                *([f"add element {_LISTENED} {{ {before} }}"] if before else []),
                f"add set {_OURS} {{ type ifname; flags interval; }}",
                f"add chain ip6 {TABLE} c_forward {{ type filter hook forward priority -6; policy accept; }}",
                f"add rule ip6 {TABLE} c_forward iifname @alto_ours accept",
                f"add rule ip6 {TABLE} c_forward oifname @alto_ours accept",
                f"add rule ip6 {TABLE} c_forward counter drop",
            ]
            await self._nft.apply(None, "\n".join(lines) + "\n")
        # A router's own devices listen to no other (1) unless they are told to (2); and would forget whom they heard. Done each
        # time, as a predecessor may have ended when it had written that down.
        for name in await self._listened():
            if self._now_v6(name, "accept_ra") == "1":
                self._world.net.sysctl({_setting_v6(name, "accept_ra"): "2"})
        self._world.net.sysctl({_setting_v6("all", "forwarding"): "1"})
        await self._nft.apply(None, f'add element {_OURS} {{ "{ours}" }}\n')

    async def give_back_v6(self) -> None:
        """Unless another host still needs it."""
        if TABLE not in await self._tables("ip6") or await self._others():
            return
        listened = await self._listened()
        self._world.net.sysctl({_setting_v6("all", "forwarding"): "0"})
        for name in listened:
            if self._world.files.exists(Path("/proc/sys") / _setting_v6(name, "accept_ra")):
                self._world.net.sysctl({_setting_v6(name, "accept_ra"): "1"})
        await self._nft.apply(None, f"delete table ip6 {TABLE}\n")

    async def _listened(self) -> list[str]:
        """Devices that took their routes from routers before."""
        found = await self._listed(["list", "map", *_LISTENED.split()])
        return [device for one in found if one.map for device, _ in one.map.elem]

    def _now_v6(self, device: str, setting: str) -> str:
        path = Path("/proc/sys") / _setting_v6(device, setting)
        return self._world.files.read(path).decode().strip() if self._world.files.exists(path) else ""

    async def give_back(self, devices: set[str]) -> None:
        """Unless another host still needs it. `devices`: those that there are."""
        if await self._others():
            return
        for device, before in (await self._before()).items():
            if device in devices:
                self._world.net.sysctl({_setting(device): before})
        await self._nft.apply(None, f"add table ip {TABLE}\ndelete table ip {TABLE}\n")

    async def _others(self) -> bool:
        """Each host has a table of IPv4 as long as it is there."""
        others = await self._tables("ip") - self._own - {TABLE}
        return any(name.startswith("alto_") for name in others)

    async def _before(self) -> dict[str, str]:
        if TABLE not in await self._tables("ip"):
            return {}
        found = await self._listed(["list", "map", *_MAP.split()])
        return {device: str(value) for one in found if one.map for device, value in one.map.elem}

    async def _tables(self, family: str) -> set[str]:
        return {one.table.name for one in await self._listed(["list", "tables", family]) if one.table}

    async def _listed(self, what: list[str]) -> list["_Item"]:
        finished = await self._world.processes.run(["nft", "-j", *what])
        if finished.returncode != 0:
            raise DriverFault("The host did not do what its network needs") from ValueError(finished.complaint())
        return msgspec.json.decode(finished.stdout, type=_Answer).nftables


class _Table(msgspec.Struct):
    name: str


class _Map(msgspec.Struct):
    elem: list[tuple[str, int]] = []


class _Item(msgspec.Struct):
    table: _Table | None = None
    map: _Map | None = None


class _Answer(msgspec.Struct):
    nftables: list[_Item]


def _setting(device: str) -> str:
    return f"net/ipv4/conf/{device}/forwarding"


def _setting_v6(device: str, setting: str) -> str:
    return f"net/ipv6/conf/{device}/{setting}"
