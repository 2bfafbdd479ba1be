"""NAT gateways of a VPC on the host where they work: each is a namespace behind one device of the VPC's, as an instance is.

Packets that a route table sends there come back from one of the gateway's own private addresses, and go on as the route table
of its own subnet says: out under its public address (uplink.py), to a peer, or nowhere. Connections begin on the inside only:
what nobody asked for ends there. The kernel does all of it; no process runs.
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address

from alto.drivers.network import conntrack
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
    """`name_of(NAT gateway's id)`: its namespace."""

    def __init__(self, world: World, nft: Nft, *, name_of: Callable[[str], str]) -> None:
        self._world = world
        self._nft = nft
        self._commands = Commands(world)
        self._name_of = name_of
        self._told: dict[str, tuple[IPv4Address, ...]] = {}  # NAT gateway -> addresses that its namespace was told of

    async def ensure(self, netns: str, nats: Iterable[NatPlan]) -> list[str]:
        """All of `nats` are there. Returns the devices that were made now."""
        made = []
        for nat in nats:
            own = self._name_of(nat.id)
            if not self._world.files.exists(NETNS_DIR / own):
                await self._commands.run(["ip", "netns", "add", own])
            if nat.device not in self._commands.links(netns):
                await self._commands.ip(own, [f"link add eth0 type veth peer name {nat.device} netns {netns}"])
                made.append(nat.device)
            addresses = tuple(IPv4Address(one.private_ip) for one in nat.addresses)
            self._world.net.sysctl(_SETTINGS, netns=own)
            await self._commands.ip(
                own,
                [
                    "link set lo up",
                    f"link set eth0 address {OWN_MAC}",
                    "link set eth0 up",
                    *(f"address replace {address}/32 dev eth0" for address in addresses),
                    f"neigh replace {NEXT_HOP} lladdr {VPC_MAC} dev eth0 nud permanent",
                    f"route replace default via {NEXT_HOP} dev eth0 onlink",
                ],
            )
            told = self._told.get(nat.id)
            if nat.device in made or told != addresses:
                await self._nft.apply(own, _ruleset(addresses))
                # What a predecessor of this process had told beyond that stays, and no route leads there any more.
                left = [address for address in told or () if address not in addresses]
                await self._commands.ip(own, [f"address del {address}/32 dev eth0" for address in left], tolerant=True)
                await conntrack.forget(self._world, own, [str(address) for address in left])
                self._told[nat.id] = addresses
            await self._commands.ip(
                netns,
                [
                    f"link set {nat.device} address {VPC_MAC}",
                    f"link set {nat.device} up",
                    *(f"neigh replace {address} lladdr {OWN_MAC} dev {nat.device} nud permanent" for address in addresses),
                ],
            )
        return made

    async def remove(self, nat_id: str) -> None:
        """Its device in the VPC goes with it."""
        own = self._name_of(nat_id)
        self._told.pop(nat_id, None)
        if self._world.files.exists(NETNS_DIR / own):
            # Now, and not when the kernel comes to it: the name is free for the next.
            await self._commands.delete_links(own, ["eth0"])
            await self._commands.run(["ip", "netns", "delete", own])


def _ruleset(addresses: Sequence[IPv4Address]) -> str:
    ours = ", ".join(map(str, addresses))
    whichever = ", ".join(f"{number} : {address}" for number, address in enumerate(addresses))
    under = f"numgen random mod {len(addresses)} map {{ {whichever} }}" if len(addresses) > 1 else ours
    return "\n".join(
        (
            "add table ip alto_nat",
            "delete table ip alto_nat",
            "add table ip alto_nat",
            "add chain ip alto_nat c_source { type nat hook postrouting priority 100; policy accept; }",
            f"add rule ip alto_nat c_source ip saddr != {{ {ours} }} snat to {under}",
            "add chain ip alto_nat c_input { type filter hook input priority 0; policy drop; }",
            "add chain ip alto_nat c_forward { type filter hook forward priority 0; policy drop; }",
            # What comes for the gateway itself and belongs to no connection of the inside is not forwarded: it ends in c_input.
            "add rule ip alto_nat c_forward ct state established,related,new accept",
            "",
        )
    )
