"""`alto up` in one process: the server and one agent for this machine, or agents of simulated hosts.

Started by the command as `python -m alto.daemons.allinone`; `--down` takes everything of a cloud on this machine away.
Machines, networks and balancers are processes of their own: they outlive this one and are found again by the next.
"""

import argparse
import asyncio
import hashlib
import os
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import msgspec
import structlog

from alto.agent.agent import Agent, Drivers
from alto.agent.link import VXLAN_PORT
from alto.api.alto.hosts import Way
from alto.api.call import Settings
from alto.api.ec2.moments import MOMENT_S
from alto.api.hosts.authority import Authority
from alto.api.hosts.door import HostsDoor
from alto.api.master_key import MasterKey
from alto.api.wire.models import Models
from alto.daemons.hosts import (
    KINDS,
    LocalPlaces,
    add_arguments,
    check_arguments,
    check_pool,
    let_go,
    local_agent,
    local_drivers,
    machine_groups,
    name_of,
    prepare_networks,
    simulated_agents,
    take_away,
)
from alto.daemons.process import default_cache, is_endpoint, run, run_until, stop_process, told_to_stop, write_process
from alto.daemons.server import Operator, Server, first_start, serve_http
from alto.drivers.image.images import LocalImages
from alto.drivers.image.shipping import Shipping
from alto.kit.pages import keep_large_pages
from alto.kit.world import World, real_world
from alto.model.encryption import KEY_RING
from alto.model.errors import AltoError
from alto.model.images import CONTAINER, CONTAINER_SOURCE, QEMU, TINY
from alto.plan.pools import DEFAULT_POOL, pool_range
from alto.store.sqlite import SqliteStore
from alto.store.store import Store

log = structlog.get_logger()

# The names that clients know and validate; all are served by this one endpoint, each with rows of its own.
LOOPBACK = "127.0.0.1"
IDENTITY = "identity.json"
SOMEWHERE = ("192.0.2.1", 9)  # of TEST-NET-1 (RFC 5737)
REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "me-south-1",
    "sa-east-1",
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this cloud and its hosts on this machine are, for ever, and whence its public addresses; written once."""

    cloud_id: str
    host_id: str
    pool: str = DEFAULT_POOL
    vault: str = ""  # in a cloud that is older than its ring of keys: the master key's fingerprint of that time

    def host(self, kind: str) -> str:
        """A host has one kind for ever, also where a cloud comes up with another one than before."""
        if kind == QEMU:
            return self.host_id
        return "h-" + hashlib.sha256(f"{self.host_id} {kind}".encode()).hexdigest()[:17]

    def port(self, kind: str) -> int:
        """Where one host of this machine speaks to the other. By the cloud's id: two clouds on one machine seldom meet."""
        return 20_000 + int(self.cloud_id.removeprefix("c-"), 16) % 10_000 * 2 + KINDS.index(kind)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    state: Path
    cache: Path
    listen: str
    port: int
    region: str
    pool: str | None
    master_key: Path
    underlay: str
    listen_hosts: str | None
    no_host: bool
    hosts: tuple[str, ...]
    simulate: int
    any_image: bool
    nat: bool
    old_signatures: bool
    prepare: bool
    down: bool
    keep_data: bool


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if options.down:
        return run(lambda: down(options))
    if options.prepare:
        return run(lambda: prepare(options))
    return run(lambda: up(real_world(), options))


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="alto-allinone", description="Alto's server and agent in one process.")
    add_arguments(parser)
    parser.add_argument("--listen", default="127.0.0.1:8773", help="address:port of the API")
    parser.add_argument("--region", default=REGIONS[0], choices=REGIONS, help="the default region")
    parser.add_argument("--pool", metavar="CIDR", help=f"public addresses, for the cloud's life (default: {DEFAULT_POOL})")
    parser.add_argument("--listen-hosts", metavar="ADDRESS:PORT", help="where other machines join as hosts, over TLS")
    parser.add_argument(
        "--master-key",
        type=Path,
        metavar="FILE",
        help="what opens encrypted volumes (default: master.key in the state's folder)",
    )
    parser.add_argument("--no-host", action="store_true", help="this machine runs no instances itself")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="N simulated hosts instead of this machine")
    parser.add_argument(
        "--any-image", action="store_true", help="simulated hosts launch images that nobody registered, and say so"
    )
    parser.add_argument(
        "--old-signatures",
        action=argparse.BooleanOptionalAction,
        help="take signature version 2 (HMAC-SHA256), as libcloud signs by default; as a rule only when listening on loopback",
    )
    parser.add_argument("--prepare", action="store_true", help="only build the images that a cloud begins with")
    given = parser.parse_args(argv)
    host, _, port = given.listen.rpartition(":")
    if not port.isdigit():
        parser.error(f"--listen {given.listen}: it is ADDRESS:PORT")
    if given.listen_hosts and not is_endpoint(given.listen_hosts):
        parser.error(f"--listen-hosts {given.listen_hosts}: it is ADDRESS:PORT, as 0.0.0.0:8774")
    if given.pool is not None:
        try:
            pool_range(given.pool)
        except ValueError as error:
            parser.error(f"--pool {given.pool}: {error}")
    if given.any_image and not given.simulate:
        parser.error("--any-image: only simulated hosts run an image whose bytes nobody has; give --simulate N too")
    hosts = check_arguments(parser, given) or (QEMU,)
    state = given.state.resolve()
    return Options(
        state=state,
        cache=(given.cache or default_cache()).resolve(),
        listen=host.strip("[]"),
        port=int(port),
        region=given.region,
        pool=given.pool,
        master_key=(given.master_key or state / "master.key").resolve(),
        underlay=given.underlay,
        listen_hosts=given.listen_hosts,
        no_host=given.no_host,
        hosts=hosts,
        simulate=given.simulate,
        any_image=given.any_image,
        nat=given.nat,
        old_signatures=_is_loopback(host) if given.old_signatures is None else given.old_signatures,
        prepare=given.prepare,
        down=given.down,
        keep_data=given.keep_data,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


async def up(world: World, options: Options) -> int:
    """Until SIGTERM or SIGINT; machines run on. Returns the exit code."""
    identity = _identity(world, options.state, options.pool)
    master_key = MasterKey(world, options.master_key, options.state / KEY_RING, older=identity.vault)
    master_key.check()
    if not options.simulate and not options.no_host:
        await check_pool(world, identity.pool)
    # HAProxy and QEMU drop root and must still pass; what is secret is 0600 itself.
    world.files.make_dirs(options.state, mode=0o711)
    database = options.state / "alto.db"
    if not world.files.exists(database):
        # SQLite would make it readable for everybody; it holds secrets.
        world.files.write(database, b"", mode=0o600)
    if not world.files.exists(options.state / IDENTITY):
        world.files.write(options.state / IDENTITY, msgspec.json.encode(identity))
    stop = told_to_stop()
    failed: list[BaseException] = []

    def store_failed(error: BaseException) -> None:
        # After a failed fsync nobody knows what is on the disk: only a fresh start finds out.
        failed.append(error)
        stop.set()

    store = await SqliteStore.open(database, monotonic=world.clock.monotonic, failed=store_failed)
    try:
        # Only now: who opened the store is the one server of this state, whatever else was started on it.
        write_process(world, options.state)
        vault = master_key.open()
        settings = Settings(
            cloud_id=identity.cloud_id,
            regions=(options.region, *(one for one in REGIONS if one != options.region)),
            public_pool=identity.pool,
            simulated=options.simulate > 0,
            any_image=options.any_image,
            old_signatures=options.old_signatures,
            vault=vault,
            # A cloud for other people's tests answers as their test doubles do; real machines take their time, and say so.
            patience_s=MOMENT_S if options.simulate else 0.0,
        )
        # Hosts of either kind may join by the door.
        containers = CONTAINER in options.hosts or options.listen_hosts is not None
        operator = await first_start(world, store, settings, containers=containers)
        door = _door(world, options, identity) if options.listen_hosts else None
        models = Models(world.files, options.state / "wire")
        way = Way(door.url, door.authority.fingerprint) if door else None
        server = Server(world, store, settings, models, way, master_key)
        sock = _listen(options.listen, options.port, "The API", "--listen")
        agents: list[Agent] = []
        local: list[Drivers] = []
        if options.simulate:
            agents = list(simulated_agents(world, server.sessions, options.simulate, cloud_id=identity.cloud_id))
        elif not options.no_host:
            for kind in options.hosts:
                places = LocalPlaces(state=options.state, cache=options.cache, kind=kind)
                world.files.make_dirs(places.host, mode=0o711)
                local.append(_drivers(world, options, identity, kind, api=_reached_here(sock)))
                agents.append(
                    local_agent(
                        world,
                        local[-1],
                        places,
                        server.sessions,
                        cloud_id=identity.cloud_id,
                        host_id=identity.host(kind),
                        name=name_of(os.uname().nodename, kind),
                        underlay=_underlay(world, options, identity, kind),
                    )
                )
        answering = asyncio.Event()

        async def announce() -> None:
            """Ready is: the API answers and its hosts take instances. The first time, images are built before that."""
            await answering.wait()
            for kind, drivers in zip(options.hosts, local, strict=False):
                try:
                    await drivers.images.fetch(CONTAINER_SOURCE if kind == CONTAINER else TINY)
                except AltoError as error:
                    # Other images may do; a launch of this one tries again.
                    log.error("the tiny image is not ready", error=str(error), cause=str(error.__cause__ or ""))
            try:
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    for agent in agents:
                        await agent.joined.wait()
            except TimeoutError:
                log.error(
                    "a host does not join", problems=[one.status.last_error for one in agents if not one.status.connected]
                )
            _write_cloud(world, options, identity, operator, sock.getsockname()[1], door.url if door else None)
            log.info("ready", endpoint=f"http://{options.listen}:{sock.getsockname()[1]}", hosts=len(agents))

        parts = {
            "server": server.run(),
            "http": serve_http(world, server.gateway, sock, answering.set),
            "announce": announce(),
            "networks": prepare_networks(local),
            "memory": keep_large_pages(world.clock),
            **{f"agent {number}": agent.run() for number, agent in enumerate(agents, 1)},
        }
        if door:
            parts["door"] = _open_door(world, store, server, settings, door, options.cache)
        await run_until(stop, parts)
        await let_go(local)
    finally:
        await store.close()
    if failed:
        log.error("the store's disk failed", error=str(failed[0]))
        return 1
    log.info("stopped; machines run on")
    return 0


def _reached_here(sock: socket.socket) -> tuple[str, int]:
    """Where this machine itself reaches what listens there."""
    address, port = sock.getsockname()[:2]
    if ip_address(address).is_unspecified:
        address = "::1" if ":" in address else LOOPBACK
    return address, port


def _drivers(world: World, options: Options, identity: Identity, kind: str, *, api: tuple[str, int] | None = None) -> Drivers:
    places = LocalPlaces(state=options.state, cache=options.cache, kind=kind)
    images = LocalImages(world, options.cache)
    return local_drivers(
        world,
        places,
        images,
        cloud_id=identity.cloud_id,
        host_id=identity.host(kind),
        pool=identity.pool,
        nat=options.nat,
        share=1 / len(options.hosts),
        api=api,
    )


def _identity(world: World, state: Path, pool: str | None) -> Identity:
    """The one that is written there, else a new one. Raises: AltoError: that has another pool."""
    path = state / IDENTITY
    if not world.files.exists(path):
        return Identity(cloud_id="c-" + world.chance.hex(8), host_id="h-" + world.chance.hex(17), pool=pool or DEFAULT_POOL)
    identity = msgspec.json.decode(world.files.read(path), type=Identity)
    if pool not in (None, identity.pool):
        raise AltoError(
            f"This cloud's public addresses are of {identity.pool}, for as long as it lives. Leave --pool out; "
            "or, for a new cloud with another, alto down first"
        )
    return identity


async def _open_door(world: World, store: Store, server: Server, settings: Settings, door: "_Door", cache: Path) -> None:
    app = HostsDoor(
        world,
        store,
        server.sessions,
        door.authority,
        server.gateway,
        Shipping(world, LocalImages(world, cache)),
        cloud_id=settings.cloud_id,
        public_pool=settings.public_pool,
    )
    context = door.authority.context(door.names)
    await serve_http(world, app, door.sock, lambda: log.info("hosts may join", url=door.url), tls=context)


class _Door(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts' door, before anybody stands in it."""

    sock: socket.socket
    url: str
    authority: Authority
    names: tuple[str, ...]


def _underlay(world: World, options: Options, identity: Identity, kind: str) -> str:
    """Where other hosts reach this machine: where they reach its door, or on loopback when there is none, since then they are
    on this machine too. Of two hosts that say the same, the server gives one the next port."""
    if options.underlay:
        return options.underlay
    if options.listen_hosts is None and len(options.hosts) > 1:
        return f"{LOOPBACK}:{identity.port(kind)}"
    address = options.listen_hosts.rpartition(":")[0] if options.listen_hosts else LOOPBACK
    if address == "0.0.0.0":
        with world.net.open_socket(type=socket.SOCK_DGRAM) as sock:
            try:
                # Sends nothing: it only asks the kernel how it would.
                sock.connect(SOMEWHERE)
                address = sock.getsockname()[0]
            except OSError:
                address = LOOPBACK
    return f"{address}:{VXLAN_PORT}"


def _door(world: World, options: Options, identity: Identity) -> _Door:
    address, _, port = (options.listen_hosts or "").rpartition(":")
    address = address.strip("[]")
    sock = _listen(address, int(port), "The hosts' door", "--listen-hosts")
    shown = _own_address() if ip_address(address).is_unspecified else address
    url = f"https://{f'[{shown}]' if ':' in shown else shown}:{sock.getsockname()[1]}"
    # Hosts go by the cloud's own name; these are for EC2's clients, which go by addresses.
    names = tuple(dict.fromkeys((shown, os.uname().nodename, "localhost", "127.0.0.1")))
    authority = Authority(world, options.state / "authority", identity.cloud_id)
    return _Door(sock=sock, url=url, authority=authority, names=names)


def _own_address() -> str:
    """This machine's, as others most likely reach it: from where it would send to the world. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return os.uname().nodename
        address: str = probe.getsockname()[0]
        return address


def _listen(address: str, port: int, what: str, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
    except OSError as error:
        raise AltoError(
            f"{what} cannot listen on {address}:{port}: {error.strerror}. Another cloud may be up; give another {option}."
        ) from error
    sock.setblocking(False)
    return sock


def _write_cloud(world: World, options: Options, identity: Identity, operator: Operator, port: int, door: str | None) -> None:
    """What the command needs to find and to sign for this cloud; readable by its owner only."""
    host = f"[{options.listen}]" if ":" in options.listen else options.listen
    body = {
        "endpoint": f"http://{host}:{port}",
        "region": options.region,
        "access_key_id": operator.access_key_id,
        "secret_access_key": operator.secret_access_key,
        "account": operator.account,
        "cloud_id": identity.cloud_id,
        "pid": os.getpid(),
        "simulated": options.simulate > 0,
        "hosts_door": door,
        "master_key": str(options.master_key),
    }
    world.files.write(options.state / "cloud.json", msgspec.json.encode(body))


async def prepare(options: Options) -> int:
    """The images that a cloud begins with are in the cache; needs the package mirror only when they are not."""
    world = real_world()
    await LocalImages(world, options.cache).fetch(TINY)
    log.info("images are ready", cache=str(options.cache))
    return 0


async def down(options: Options) -> int:
    """Nothing of this cloud is left on this machine: no process, no namespace, no rule; no file, unless data is kept."""
    world = real_world()
    if not world.files.exists(options.state / IDENTITY):
        log.info("there is no cloud here", state=str(options.state))
        return 0
    identity = _identity(world, options.state, None)
    await stop_process(world, options.state, "cloud.json")
    for kind in KINDS:
        places = LocalPlaces(state=options.state, cache=options.cache, kind=kind)
        if world.files.exists(places.host):
            groups = machine_groups(world, cloud_id=identity.cloud_id, host_id=identity.host(kind))
            await take_away(_drivers(world, options, identity, kind), groups, keep_data=options.keep_data)
    if not options.keep_data:
        for name in world.files.names(options.state):
            world.files.remove_tree(options.state / name)
    log.info("down", state=str(options.state))
    return 0


JOIN_TIMEOUT_S = 180.0


if __name__ == "__main__":
    sys.exit(main())
