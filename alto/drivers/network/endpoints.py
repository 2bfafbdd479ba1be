"""Interface endpoints of a VPC on the host where they work: each of their interfaces is a namespace behind a device of the
VPC's, as an instance is, so that groups, ACLs and routes mean it alike.

In there the edge (daemons/edge.py) takes connections and relays them to the cloud's API: this process makes the place alone.
Nothing is forwarded through it, and it opens no connection.
"""

from collections.abc import Callable, Iterable

from alto.drivers.network.commands import Commands
from alto.kit.world import NETNS_DIR, World
from alto.model.network_plans import ENDPOINT_DEVICE, Port

NEXT_HOP = "169.254.169.253"
_SETTINGS = {
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv4/ip_forward": "0",
}


class Endpoints:
    """`name_of(device)`: an endpoint's namespace. `mac`: of the VPC's ends."""

    def __init__(self, world: World, *, name_of: Callable[[str], str], mac: str) -> None:
        self._world = world
        self._commands = Commands(world)
        self._name_of = name_of
        self._mac = mac

    async def ensure(self, netns: str, ports: Iterable[Port]) -> list[str]:
        """Exactly these are there; rules for their devices are not needed before their links are up. Returns the devices that
        were made now."""
        wanted = {port.device: port for port in ports}
        await self.remove(netns, but=wanted)
        made = []
        for device, port in wanted.items():
            own = self._name_of(device)
            if not self._world.files.exists(NETNS_DIR / own):
                await self._commands.run(["ip", "netns", "add", own])
            if device not in self._commands.links(netns):
                await self._commands.ip(own, [f"link add eth0 type veth peer name {device} netns {netns}"])
                made.append(device)
            self._world.net.sysctl(_SETTINGS, netns=own)
            await self._commands.ip(
                own,
                [
                    "link set lo up",
                    f"link set eth0 address {port.mac}",
                    "link set eth0 up",
                    f"address replace {port.private_ip}/32 dev eth0",
                    f"neigh replace {NEXT_HOP} lladdr {self._mac} dev eth0 nud permanent",
                    f"route replace default via {NEXT_HOP} dev eth0 onlink",
                ],
            )
        return made

    async def remove(self, netns: str, *, but: Iterable[str] = ()) -> None:
        """Those of this VPC's namespace that are not among `but`."""
        gone = {name for name in self._commands.links(netns) if name.startswith(ENDPOINT_DEVICE)} - set(but)
        for device in sorted(gone):
            own = self._name_of(device)
            if self._world.files.exists(NETNS_DIR / own):
                await self._commands.run(["ip", "netns", "delete", own])
            # Now, and not when the kernel comes to it: whoever still listens in there keeps it. Last, as it says what there is.
            await self._commands.delete_links(netns, [device])
