"""The edge: the process that answers guests at 169.254.169.254 and fd00:ec2::254, in every VPC of one cloud on this machine,
relays their questions for names outside, and connections to interface endpoints to the cloud's API.

It is apart from the control plane and outlives it: all it knows are the network driver's records on the disk, read at each
request. The driver starts it, and sends SIGHUP when a VPC came or goes; it also looks for itself now and then.

Invariant: it holds a socket in a namespace only while that VPC's record is there and not leaving.
"""

# ruff: noqa: E402
import sys

# It speaks plain HTTP to guests alone; asyncio does without TLS when it is not there, which spares 4 of 25 MiB.
sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]

import asyncio
import functools
import hashlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from alto.boot.imds import Asker, MetadataService
from alto.boot.names import RESOLV_CONF, NameRelay, resolvers
from alto.boot.relay import ApiRelay
from alto.drivers.network import families
from alto.drivers.network.records import NAME_RELAY, NetworkRecord, NetworkRecords, PortRecord
from alto.kit.event import Event
from alto.kit.world import NETNS_DIR, World, real_world
from alto.model.networks import ENDPOINT_PORT, METADATA_ADDRESS, METADATA_ADDRESS_V6

SWEEP_S = 5.0
BACKLOG = 256
KEY_BYTES = 32
IPV6_FREEBIND = 78  # linux/in6.h; Python has no name for it


class _Served(msgspec.Struct, frozen=True, kw_only=True):
    inode: int  # of the namespace: one of the same name may take its place
    servers: tuple[asyncio.Server, ...]
    service: MetadataService
    names_outside: bool
    dual: bool
    relay: asyncio.Task[None] | None


class _Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint's namespace in which connections are taken."""

    inode: int
    address: str
    server: asyncio.Server
    relay: ApiRelay


class Edge:
    def __init__(self, world: World, state_dir: Path) -> None:
        self._world = world
        self._state_dir = state_dir
        self._records = NetworkRecords(world, state_dir / "vpcs")
        self._served: dict[str, _Served] = {}
        self._relayed: dict[str, _Relayed] = {}  # by namespace
        self._changed = Event()
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._changed.set)
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        with self._world.net.open_socket(socket.AF_UNIX) as lock:
            try:
                # One edge per cloud. A name in the abstract space goes when its process does.
                lock.bind(f"\0alto-edge {hashlib.sha256(bytes(self._state_dir)).hexdigest()}")
            except OSError:
                return
            # Who removes it, or all of the folder, no longer knows of this process: then it ends by itself.
            pid_file = self._state_dir / "edge.pid"
            self._world.files.write(pid_file, str(os.getpid()).encode())
            key = self._key()
            async with asyncio.TaskGroup() as self._tasks:
                while not self._leaving.is_set() and self._world.files.exists(pid_file):
                    self._changed.clear()
                    await self._sweep(key)
                    await self._changed.wait(SWEEP_S)
                for vpc_id in list(self._served):
                    self._release(vpc_id)
                for netns in list(self._relayed):
                    self._end_relay(netns)

    def _leave(self) -> None:
        self._leaving.set()
        self._changed.set()

    def _key(self) -> bytes:
        """What tokens are signed with; kept, so that a guest's token outlives this process."""
        path = self._state_dir / "edge.key"
        try:
            key = self._world.files.read(path)
        except FileNotFoundError:
            key = b""
        if len(key) != KEY_BYTES:
            key = self._world.chance.bytes(KEY_BYTES)
            self._world.files.write(path, key)
        return key

    async def _sweep(self, key: bytes) -> None:
        networks = {}
        for vpc_id in self._records.vpc_ids():
            record = self._records.network(vpc_id)
            if record is not None and not record.leaving:
                networks[vpc_id] = record
        for vpc_id in list(self._served):
            served, network = self._served[vpc_id], networks.get(vpc_id)
            if network is None or (served.inode, served.names_outside, served.dual) != self._wanted(network):
                self._release(vpc_id)
        for vpc_id, record in networks.items():
            if vpc_id not in self._served:
                try:
                    await self._serve(vpc_id, record, key)
                except OSError as error:
                    # Its namespace is being made, or goes; the next sweep tries again.
                    print(f"metadata for {vpc_id}: {error}", file=sys.stderr)  # noqa: T201
        await self._sweep_relays(networks)

    async def _sweep_relays(self, networks: Mapping[str, NetworkRecord]) -> None:
        wanted = {netns: (vpc_id, address) for vpc_id, network in networks.items() for netns, address in network.relays.items()}
        for netns, relayed in list(self._relayed.items()):
            _, address = wanted.get(netns, ("", ""))
            if (relayed.inode, relayed.address) != (_inode(netns), address):
                self._end_relay(netns)
        for netns, (vpc_id, address) in wanted.items():
            if netns not in self._relayed:
                try:
                    await self._relay_api(vpc_id, netns, address)
                except OSError as error:
                    print(f"endpoint in {netns}: {error}", file=sys.stderr)  # noqa: T201

    async def _relay_api(self, vpc_id: str, netns: str, address: str) -> None:
        inode, relay = _inode(netns), ApiRelay(self._world, functools.partial(self._api, vpc_id))
        with ExitStack() as opened:
            sock = opened.enter_context(self._world.net.open_socket(netns=netns))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, ENDPOINT_PORT))
            sock.listen(BACKLOG)
            server = await self._world.net.serve(sock, relay.serve)
            opened.pop_all()
        self._relayed[netns] = _Relayed(inode=inode, address=address, server=server, relay=relay)

    def _api(self, vpc_id: str) -> tuple[str, int] | None:
        network = self._records.network(vpc_id)
        return network.api if network is not None else None

    def _end_relay(self, netns: str) -> None:
        relayed = self._relayed.pop(netns)
        relayed.server.close()
        relayed.relay.close()

    async def _serve(self, vpc_id: str, record: NetworkRecord, key: bytes) -> None:
        inode = _inode(record.netns)
        dual = self._is_dual(record)
        relay = None
        with ExitStack() as opened:
            # Last what a driver takes for the sign that all of it is there.
            sockets = [opened.enter_context(self._listener_v6(record.netns))] if dual else []
            sockets.append(opened.enter_context(self._world.net.open_socket(netns=record.netns)))
            if record.names_outside:
                relay = self._relay(record.netns)
                opened.callback(relay.cancel)
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sockets[-1].bind((METADATA_ADDRESS, 80))
            service = MetadataService(self._world, key=key, find_asker=functools.partial(self._asker, vpc_id))
            servers = []
            for sock in sockets:
                sock.listen(BACKLOG)
                servers.append(await self._world.net.serve(sock, service.serve))
            opened.pop_all()
        self._served[vpc_id] = _Served(
            inode=inode,
            servers=tuple(servers),
            service=service,
            names_outside=record.names_outside,
            dual=dual,
            relay=relay,
        )

    def _listener_v6(self, netns: str) -> socket.socket:
        sock = self._world.net.open_socket(socket.AF_INET6, netns=netns)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The record comes before the address.
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sock.bind((METADATA_ADDRESS_V6, 80))
        except OSError:
            sock.close()
            raise
        return sock

    def _relay(self, netns: str) -> asyncio.Task[None]:
        with ExitStack() as opened:
            sock = opened.enter_context(self._world.net.open_socket(type=socket.SOCK_DGRAM, netns=netns))
            sock.bind(NAME_RELAY)
            listener = opened.enter_context(self._world.net.open_socket(netns=netns))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(NAME_RELAY)
            listener.listen(BACKLOG)
            kept = opened.pop_all()

        async def serve() -> None:
            with kept:
                await NameRelay(self._world, sock, listener, self._resolvers).run()

        return self._tasks.create_task(serve(), name=f"names for {netns}")

    def _resolvers(self) -> list[tuple[str, int]]:
        # Read each time: a laptop changes networks.
        try:
            text = self._world.files.read(RESOLV_CONF).decode(errors="replace")
        except FileNotFoundError:
            return []
        return [(address, 53) for address in resolvers(text)]

    def _asker(self, vpc_id: str, address: str) -> Asker | None:
        port = self._port_of_v6(vpc_id, address) if ":" in address else self._records.port_at(vpc_id, address)
        network = self._records.network(vpc_id)
        if port is None or port.machine is None or network is None:
            return None
        return Asker(machine=port.machine, plan=network.plan)

    def _port_of_v6(self, vpc_id: str, address: str) -> PortRecord | None:
        """Who asks by IPv6, if its metadata is to be had so. Records are named by other addresses, so all are looked at."""
        for port in self._records.ports(vpc_id):
            if address in port.port.ipv6:
                return port if port.machine is not None and port.machine.metadata.ipv6_enabled else None
        return None

    def _wanted(self, record: NetworkRecord) -> tuple[int, bool, bool]:
        return _inode(record.netns), record.names_outside, self._is_dual(record)

    def _is_dual(self, record: NetworkRecord) -> bool:
        return bool(record.plan.ranges_v6) and families.is_supported(self._world.files)

    def _release(self, vpc_id: str) -> None:
        served = self._served.pop(vpc_id)
        for server in served.servers:
            server.close()
        served.service.close()
        if served.relay is not None:
            served.relay.cancel()


def _inode(netns: str) -> int:
    try:
        return os.stat(NETNS_DIR / netns).st_ino
    except FileNotFoundError:
        return 0


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2 or argv[0] != "--state":
        print("usage: python -m alto.daemons.edge --state DIR", file=sys.stderr)  # noqa: T201
        return 2
    asyncio.run(Edge(real_world(), Path(argv[1])).run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
