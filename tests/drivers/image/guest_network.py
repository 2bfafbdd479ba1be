"""The least network that the tiny image asks for, in a namespace of its own: a tap, DHCP, and metadata that keeps a log.

Not Alto's network driver: the image has to work with DHCP and IMDSv2 as they are, whoever serves them.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alto.drivers.compute.driver import Tap
from alto.kit.world import real_world

GATEWAY, GUEST, METADATA = "10.77.0.1", "10.77.0.5", "169.254.169.254"
MAC = "02:00:0a:4d:00:05"
TOKEN = "TOKEN=="


class GuestNetwork:
    """`pages` maps a path below /latest/ to its text; `asked` is what the guest asked for, in order."""

    def __init__(self, netns: str, folder: Path) -> None:
        self.netns = netns
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        self._folder = folder

    def tap(self) -> Tap:
        """A tap that the caller closes; plugged anew for each start."""
        name = "tap0"
        fd = real_world().net.open_tap(name, netns=self.netns)
        batch = f"link set {name} up\naddr replace {GATEWAY}/24 dev {name}\n"
        subprocess.run(["ip", "-n", self.netns, "-b", "-"], input=batch, text=True, check=True)
        return Tap(interface_id="eni-1", name=name, mac=MAC, fd=fd)

    async def answers(self, port: int, *, timeout_s: float = 180.0) -> bytes:
        """The first bytes that the guest's `port` says (after a GET / on port 80)."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            while True:
                sock = real_world().net.open_socket(netns=self.netns)
                try:
                    await asyncio.wait_for(loop.sock_connect(sock, (GUEST, port)), 0.5)
                    if port == 80:
                        await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
                    said = b""
                    while more := await asyncio.wait_for(loop.sock_recv(sock, 4096), 10):
                        said += more
                        if port != 80:
                            return said
                    return said
                except (OSError, TimeoutError):
                    await asyncio.sleep(0.02)
                finally:
                    sock.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = request.split(" ", 2)
        self.asked.append(f"{method} {path}")
        page = self.pages.get(path.removeprefix("/latest/"))
        if method == "PUT" and "x-aws-ec2-metadata-token-ttl-seconds:" in request.lower():
            page = TOKEN
        elif f"x-aws-ec2-metadata-token: {TOKEN}".lower() not in request.lower():
            page = None
        status = "200 OK" if page is not None else "404 Not Found"
        body = (page or "").encode()
        writer.write(f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def guest_network(folder: Path) -> AsyncIterator[GuestNetwork]:
    netns = f"altoimg{os.getpid()}"
    network, processes = GuestNetwork(netns, folder), real_world().processes
    assert (await processes.run(["ip", "netns", "add", netns])).returncode == 0
    dhcp = None
    try:
        batch = f"link set lo up\naddr add {METADATA}/32 dev lo\n"
        assert (await processes.run(["ip", "-n", netns, "-b", "-"], stdin=batch.encode())).returncode == 0
        words = ["dnsmasq", "-k", "--conf-file=/dev/null", "--bind-dynamic", "--interface=tap0", "--port=0", "--user=root"]
        words += ["--no-ping", "--pid-file=", f"--dhcp-leasefile={folder}/leases", f"--dhcp-host={MAC},{GUEST}"]
        words += ["--dhcp-range=10.77.0.0,static,255.255.255.0,1h", "--dhcp-authoritative"]
        words += [f"--dhcp-option=option:router,{GATEWAY}"]
        dhcp = await processes.spawn(words, log=folder / "dnsmasq.log", netns=netns)
        sock = real_world().net.open_socket(netns=netns)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((METADATA, 80))
        sock.listen(16)
        server = await real_world().net.serve(sock, network.serve)
        yield network
        server.close()
    finally:
        if dhcp is not None:
            processes.signal(dhcp, signal.SIGKILL)
            await processes.wait_gone(dhcp, timeout_s=10)
        await processes.run(["ip", "netns", "del", netns])
