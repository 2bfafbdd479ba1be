"""Peerings between two VPCs on one host: one pair of devices, an end in each VPC's namespace.

Where there is only one of the two VPCs yet, the other's namespace is made empty, to be filled when that VPC comes; so a VPC
needs nothing of its peer to be right.
"""

import asyncio
from collections.abc import Callable, Iterable

from alto.drivers.network.commands import Commands
from alto.kit.world import NETNS_DIR, World
from alto.model.network_plans import PEER_DEVICE, PeerPlan

MAC = "02:a1:70:ff:00:06"  # of both ends: each pair is a wire of its own, and what arrives is meant for who is there
HOP, HOP_V6 = "169.254.169.251", "fe80::fb"


class Peerings:
    def __init__(self, world: World, *, name_of: Callable[[str], str]) -> None:
        self._world = world
        self._commands = Commands(world)
        self._name_of = name_of
        self._lock = asyncio.Lock()  # two VPCs may want the same pair at once

    async def ensure(self, netns: str, peers: Iterable[PeerPlan], *, v6: bool) -> list[str]:
        """Exactly `peers` have a device in `netns`, which has IPv6 or not. Returns those that were made now."""
        async with self._lock:
            wanted = {peer.device: peer for peer in peers}
            links = self._commands.links(netns)
            gone = [name for name in links if name.startswith(PEER_DEVICE) and name not in wanted]
            await self._commands.delete_links(netns, gone)
            made, hops = [], (HOP, HOP_V6) if v6 else (HOP,)
            for device, peer in wanted.items():
                if device not in links:
                    other = self._name_of(peer.vpc_id)
                    if not self._world.files.exists(NETNS_DIR / other):
                        await self._commands.run(["ip", "netns", "add", other])
                    # One that is there has its other end in a namespace of ours that is no more.
                    await self._commands.delete_links(other, [device])
                    await self._commands.ip(netns, [f"link add {device} type veth peer name {device} netns {other}"])
                    made.append(device)
                await self._commands.ip(
                    netns,
                    [
                        f"link set {device} address {MAC}",
                        f"link set {device} up",
                        *(f"neigh replace {hop} lladdr {MAC} dev {device} nud permanent" for hop in hops),
                    ],
                )
            return made
