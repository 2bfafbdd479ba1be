"""A VPC's namespace on this host: made, and cleared of processes of ours before it goes. What is plugged into it: vpc.py."""

import socket
from contextlib import suppress
from pathlib import Path

from alto.drivers.network import families, uplink
from alto.drivers.network.commands import Commands
from alto.kit.world import NETNS_DIR, World
from alto.model.network_plans import NetworkPlan
from alto.model.networks import METADATA_ADDRESS

SIGKILL = 9
STRAY_S = 2.0


async def make(world: World, commands: Commands, plan: NetworkPlan, netns: str) -> None:
    """It is there, for the families of the plan, with what the host itself has in it; whatever was there before."""
    if world.files.exists(NETNS_DIR / netns):
        try:
            world.net.in_netns(netns, socket.if_nameindex)
        except OSError:
            # Its making was cut off: a name that no namespace is mounted on.
            await commands.run(["ip", "netns", "delete", netns])
    if not world.files.exists(NETNS_DIR / netns):
        await commands.run(["ip", "netns", "add", netns])
    sysctl = {
        "net/ipv4/conf/all/send_redirects": "0",
        "net/ipv4/conf/default/send_redirects": "0",
        # Whose address a packet may have is decided by rules (firewall, routing), which know more than routes do.
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/default/rp_filter": "0",
        "net/ipv4/conf/default/proxy_arp": "1",
        "net/ipv4/ip_forward": "1",
    }
    world.net.sysctl(sysctl, netns=netns)
    own = [METADATA_ADDRESS, uplink.NEXT_HOP, plan.resolver_address, plan.host_address]
    await commands.ip(netns, ["link set lo up", *(f"address replace {address}/32 dev lo" for address in own)])
    await families.settle(world, commands, plan, netns)


async def end_strays(world: World, netns: str) -> None:
    """A dnsmasq whose pid file was lost. Other processes in there are somebody's, who looks around in the namespace."""
    finished = await world.processes.run(["ip", "netns", "pids", netns])
    for number in finished.stdout.split():
        pid = world.processes.find(int(number))
        with suppress(FileNotFoundError, ProcessLookupError):
            name = world.files.read(Path(f"/proc/{int(number)}/comm")).strip()
            if pid is not None and name == b"dnsmasq":
                world.processes.signal(pid, SIGKILL)
                await world.processes.wait_gone(pid, timeout_s=STRAY_S)
