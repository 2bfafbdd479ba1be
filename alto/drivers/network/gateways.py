"""NAT gateways of a VPC on the host where they work: each is a namespace behind one device of the VPC's, as an instance is.

Packets that a route table sends there come back from the gateway's own private address, and go on as the route table of its
own subnet says: out under its public address (uplink.py), to a peer, or nowhere. Connections begin on the inside only: what
nobody asked for ends there. The kernel does all of it; no process runs.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from alto.drivers.network.commands import Commands
from alto.drivers.network.nft import Nft
from alto.kit.world import NETNS_DIR, World
from alto.model.network_plans import NatPlan

VPC_MAC, OWN_MAC = "02:a1:70:ff:00:04", "02:a1:70:ff:00:05"
NEXT_HOP = "169.254.169.253"
_SETTINGS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/eth0/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/eth0/send_redirects": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv4/ip_forward": "1",
}


class NatGateways:
    """`links(netns)`: the names of its devices. `name_of(NAT gateway's id)`: its namespace."""

    def __init__(
        self, world: World, nft: Nft, *, links: Callable[[str | None], set[str]], name_of: Callable[[str], str]
    ) -> None:
        self._world = world
        self._nft = nft
        self._commands = Commands(world)
        self._links = links
        self._name_of = name_of

    async def ensure(self, netns: str, nats: Iterable[NatPlan]) -> list[str]:
        """All of `nats` are there. Returns the devices that were made now."""
        made = []
        for nat in nats:
            own = self._name_of(nat.id)
            if not self._world.files.exists(NETNS_DIR / own):
                await self._commands.run(["ip", "netns", "add", own])
            if nat.device not in self._links(netns):
                await self._commands.ip(own, [f"link add eth0 type veth peer name {nat.device} netns {netns}"])
                made.append(nat.device)
            address = IPv4Address(nat.private_ip)
            self._world.net.sysctl(_SETTINGS, netns=own)
            await self._commands.ip(
                own,
                [
                    "link set lo up",
                    f"link set eth0 address {OWN_MAC}",
                    "link set eth0 up",
                    f"address replace {address}/32 dev eth0",
                    f"neigh replace {NEXT_HOP} lladdr {VPC_MAC} dev eth0 nud permanent",
                    f"route replace default via {NEXT_HOP} dev eth0 onlink",
                ],
            )
            if nat.device in made:
                await self._nft.apply(own, _ruleset(address))
            await self._commands.ip(
                netns,
                [
                    f"link set {nat.device} address {VPC_MAC}",
                    f"link set {nat.device} up",
                    f"neigh replace {address} lladdr {OWN_MAC} dev {nat.device} nud permanent",
                ],
            )
        return made

    async def remove(self, nat_id: str) -> None:
        """Its device in the VPC goes with it."""
        own = self._name_of(nat_id)
        if self._world.files.exists(NETNS_DIR / own):
            if "eth0" in self._links(own):
                # Now, and not when the kernel comes to it: the name is free for the next.
                await self._commands.ip(own, ["link delete eth0"])
            await self._commands.run(["ip", "netns", "delete", own])


def _ruleset(address: IPv4Address) -> str:
    return "\n".join(
        (
            "add table ip alto_nat",
            "delete table ip alto_nat",
            "add table ip alto_nat",
            "add chain ip alto_nat c_source { type nat hook postrouting priority 100; policy accept; }",
            f"add rule ip alto_nat c_source ip saddr != {address} snat to {address}",
            "add chain ip alto_nat c_input { type filter hook input priority 0; policy drop; }",
            "add chain ip alto_nat c_forward { type filter hook forward priority 0; policy drop; }",
            # What comes for the gateway itself and belongs to no connection of the inside is not forwarded: it ends in c_input.
            "add rule ip alto_nat c_forward ct state established,related,new accept",
            "",
        )
    )
