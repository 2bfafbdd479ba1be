"""Forwarding on the device of this machine's way out: on while any host of Alto's is here, and then again what it was.

How it was is kept in the kernel, in a table that all hosts on the machine share: it lives as long as the setting itself, and
the last host finds it, whichever came first.
"""

import msgspec

from alto.drivers.network.nft import Nft
from alto.kit.world import World
from alto.model.errors import DriverFault

TABLE = "alto_forwarding"
_MAP = f"ip {TABLE} alto_before"


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

    async def give_back(self, devices: set[str]) -> None:
        """Unless another host still needs it. `devices`: those that there are."""
        others = await self._tables() - self._own - {TABLE}
        if any(name.startswith("alto_") for name in others):
            return
        for device, before in (await self._before()).items():
            if device in devices:
                self._world.net.sysctl({_setting(device): before})
        await self._nft.apply(None, f"add table ip {TABLE}\ndelete table ip {TABLE}\n")

    async def _before(self) -> dict[str, str]:
        if TABLE not in await self._tables():
            return {}
        found = await self._listed(["list", "map", *_MAP.split()])
        return {device: str(value) for one in found if one.map for device, value in one.map.elem}

    async def _tables(self) -> set[str]:
        return {one.table.name for one in await self._listed(["list", "tables", "ip"]) if one.table}

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
