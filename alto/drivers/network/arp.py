"""ARP by hand: whether a guest's own kernel answers (no security group forbids it and no closed port hides it), and that an
address is here from now on, said to all who may still have it elsewhere."""

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address

from alto.kit.world import World

TIMEOUT_S = 0.2
_ARP = 0x0806
_FORMAT = "!6s6sHHHBBH6s4s6s4s"


async def answers(world: World, netns: str, device: str, asker: str, address: str) -> bool:
    """Ask once. Raises: OSError when there is no such device."""
    loop = asyncio.get_running_loop()
    wanted = IPv4Address(address).packed
    with world.net.in_netns(netns, lambda: _open(device)) as sock:
        own = sock.getsockname()[4]
        sender = IPv4Address(asker).packed
        question = struct.pack(_FORMAT, b"\xff" * 6, own, _ARP, 1, 0x0800, 6, 4, 1, own, sender, bytes(6), wanted)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await loop.sock_sendall(sock, question)
                while True:
                    frame = await loop.sock_recv(sock, 2048)
                    if len(frame) >= struct.calcsize(_FORMAT):
                        fields = struct.unpack_from(_FORMAT, frame)
                        if fields[7] == 2 and fields[9] == wanted:
                            return True
        except TimeoutError:
            return False


async def announce(world: World, device: str, address: str) -> None:
    """Once, to everybody on this machine's device. It is a courtesy: a device that takes nothing just now is left alone."""
    own = IPv4Address(address).packed
    with suppress(OSError, TimeoutError), world.net.in_netns(None, lambda: _open(device)) as sock:
        mac = sock.getsockname()[4]
        said = struct.pack(_FORMAT, b"\xff" * 6, mac, _ARP, 1, 0x0800, 6, 4, 1, mac, own, bytes(6), own)
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.get_running_loop().sock_sendall(sock, said)


def _open(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP))
    try:
        sock.bind((device, _ARP))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
