"""What IPv6 needs in a VPC's namespace: it is switched on for VPCs that have a range of it, and off for all others.

A guest's router is fe80::1 on its own tap, to which it is sent for everything by what dnsmasq tells it: no other address is on
its link. So there is nobody to be discovered but the router, and each packet is routed, tracked and filtered by the name of its
tap. Where the kernel has no IPv6 (`is_supported`; hosts say so) no such instance is placed, and the VPC is as any other.
"""

from ipaddress import IPv6Network
from pathlib import Path

from alto.drivers.network.commands import Commands
from alto.kit.world import Files, World
from alto.model.network_plans import NetworkPlan, Port
from alto.model.networks import METADATA_ADDRESS_V6

ROUTER = "fe80::1"


def is_supported(files: Files) -> bool:
    """Whether this machine's kernel has IPv6; a machine where it is switched off for its own devices has."""
    return files.exists(Path("/proc/sys/net/ipv6/conf/all/disable_ipv6"))


async def settle(world: World, commands: Commands, plan: NetworkPlan, netns: str) -> None:
    """Devices that are there, and those that come, have the families of the plan."""
    dual = bool(plan.ranges_v6)
    if not is_supported(world.files):
        return  # nor has any port here an address of it
    settings = {"disable_ipv6": "1"}
    if dual:
        # No device takes an address by itself, or somebody else for a router.
        settings = {"addr_gen_mode": "1", "accept_ra": "0", "accept_redirects": "0", "disable_ipv6": "0", "forwarding": "1"}
    for conf in ("default", "all"):
        world.net.sysctl({f"net/ipv6/conf/{conf}/{key}": value for key, value in settings.items()}, netns=netns)
    if dual:
        await commands.ip(netns, [f"address replace {METADATA_ADDRESS_V6}/128 dev lo nodad"])


def link_up_v6(port: Port) -> list[str]:
    """What a tap has for its guest. The subnet's first address is there for dnsmasq, which serves a range on devices that have
    an address of it, and for the kernel's own words."""
    if not port.ipv6 or port.subnet_cidr_v6 is None:
        return []
    tap, subnet = port.device, IPv6Network(port.subnet_cidr_v6)
    return [
        f"address replace {ROUTER}/64 dev {tap} nodad",
        f"address replace {subnet[1]}/{subnet.prefixlen} dev {tap} noprefixroute nodad",
        *(f"neigh replace {address} lladdr {port.mac} dev {tap} nud permanent" for address in port.ipv6),
        *(f"route replace {address}/128 dev {tap}" for address in port.ipv6),
    ]
