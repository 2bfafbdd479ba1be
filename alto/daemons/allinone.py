"""`alto up` in one process: the server and one agent for this machine, or agents of simulated hosts.

Started by the command as `python -m alto.daemons.allinone`; `--down` takes everything of a cloud on this machine away.
Machines, networks and balancers are processes of their own: they outlive this one and are found again by the next.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import msgspec
import structlog

from alto.api.call import Settings
from alto.api.wire.models import Models
from alto.daemons.hosts import LocalPlaces, local_agent, local_drivers, simulated_agents
from alto.daemons.server import TINY_SOURCE, Operator, Server, first_start, serve_http
from alto.drivers.image.images import LocalImages
from alto.kit.world import Pid, World, real_world
from alto.model.errors import AltoError
from alto.store.sqlite import SqliteStore

log = structlog.get_logger()

# The names that clients know and validate; all are served by this one endpoint, each with rows of its own.
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
    """Who this cloud and this host are, for ever; written once."""

    cloud_id: str
    host_id: str


class Options(msgspec.Struct, frozen=True, kw_only=True):
    state: Path
    cache: Path
    listen: str
    port: int
    region: str
    pool: str
    underlay: str
    simulate: int
    nat: bool
    old_signatures: bool
    prepare: bool
    down: bool
    keep_data: bool


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    _set_up_log()
    try:
        if options.down:
            asyncio.run(down(options))
            return 0
        if options.prepare:
            asyncio.run(prepare(options))
            return 0
        return _run(options)
    except AltoError as error:
        log.error("cannot go on", error=str(error), cause=str(error.__cause__ or ""))
        return 1


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="alto-allinone", description="Alto's server and agent in one process.")
    parser.add_argument("--state", type=Path, required=True, help="folder of this cloud's state")
    parser.add_argument("--cache", type=Path, help="folder of images that can be built again")
    parser.add_argument("--listen", default="127.0.0.1:8773", help="address:port of the API")
    parser.add_argument("--region", default=REGIONS[0], choices=REGIONS, help="the default region")
    parser.add_argument("--pool", default="127.64.0.0/16", help="public addresses")
    parser.add_argument(
        "--underlay", default="", metavar="IP:PORT", help="where other hosts of this cloud reach this one with VXLAN"
    )
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="N simulated hosts instead of this machine")
    parser.add_argument(
        "--nat", action=argparse.BooleanOptionalAction, default=True, help="let guests out where this machine has a way"
    )
    parser.add_argument(
        "--old-signatures",
        action=argparse.BooleanOptionalAction,
        help="take signature version 2 (HMAC-SHA256), as libcloud signs by default; as a rule only when listening on loopback",
    )
    parser.add_argument("--prepare", action="store_true", help="only build the images that a cloud begins with")
    parser.add_argument("--down", action="store_true", help="take this cloud away")
    parser.add_argument("--keep-data", action="store_true", help="with --down: keep records and disks")
    given = parser.parse_args(argv)
    host, _, port = given.listen.rpartition(":")
    if not port.isdigit():
        parser.error(f"--listen {given.listen}: it is ADDRESS:PORT")
    if given.underlay and not _is_endpoint(given.underlay):
        parser.error(f"--underlay {given.underlay}: it is IP:PORT, as 192.0.2.7:4789")
    state = given.state.resolve()
    return Options(
        state=state,
        cache=(given.cache or _default_cache()).resolve(),
        listen=host.strip("[]"),
        port=int(port),
        region=given.region,
        pool=given.pool,
        underlay=given.underlay,
        simulate=given.simulate,
        nat=given.nat,
        old_signatures=_is_loopback(host) if given.old_signatures is None else given.old_signatures,
        prepare=given.prepare,
        down=given.down,
        keep_data=given.keep_data,
    )


def _is_endpoint(text: str) -> bool:
    host, _, port = text.rpartition(":")
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return port.isdigit() and 0 < int(port) < 65536


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _default_cache() -> Path:
    """What can be built again outlives clouds: ALTO_CACHE, else the place that the system has for such things."""
    given = os.environ.get("ALTO_CACHE")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/alto")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alto"


def _set_up_log() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _run(options: Options) -> int:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(up(real_world(), options))


async def up(world: World, options: Options) -> int:
    """Until SIGTERM or SIGINT; machines run on. Returns the exit code."""
    # HAProxy and QEMU drop root and must still pass; what is secret is 0600 itself.
    world.files.make_dirs(options.state, mode=0o711)
    database = options.state / "alto.db"
    if not world.files.exists(database):
        # SQLite would make it readable for everybody; it holds secrets.
        world.files.write(database, b"", mode=0o600)
    identity = _identity(world, options.state)
    stop = asyncio.Event()
    failed: list[BaseException] = []

    def store_failed(error: BaseException) -> None:
        # After a failed fsync nobody knows what is on the disk: only a fresh start finds out.
        failed.append(error)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = await SqliteStore.open(database, monotonic=world.clock.monotonic, failed=store_failed)
    try:
        # Only now: who opened the store is the one server of this state, whatever else was started on it.
        _write_process(world, options.state)
        settings = Settings(
            cloud_id=identity.cloud_id,
            regions=(options.region, *(one for one in REGIONS if one != options.region)),
            public_pool=options.pool,
            simulated=options.simulate > 0,
            old_signatures=options.old_signatures,
        )
        operator = await first_start(world, store, settings)
        server = Server(world, store, settings, Models(world.files, options.state / "wire"))
        if options.simulate:
            agents = list(simulated_agents(world, server.sessions, options.simulate, cloud_id=identity.cloud_id))
            drivers = None
        else:
            places = LocalPlaces(state=options.state, cache=options.cache)
            world.files.make_dirs(places.host, mode=0o711)
            drivers = local_drivers(
                world, places, cloud_id=identity.cloud_id, host_id=identity.host_id, pool=options.pool, nat=options.nat
            )
            agents = [
                local_agent(
                    world,
                    drivers,
                    places,
                    server.sessions,
                    cloud_id=identity.cloud_id,
                    host_id=identity.host_id,
                    underlay=options.underlay,
                )
            ]
        sock = _listen(options)

        answering = asyncio.Event()

        async def announce() -> None:
            """Ready is: the API answers and its hosts take instances. The first time, images are built before that."""
            await answering.wait()
            if drivers is not None:
                try:
                    await drivers.images.fetch(TINY_SOURCE)
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
            _write_cloud(world, options, identity, operator, sock.getsockname()[1])
            log.info("ready", endpoint=f"http://{options.listen}:{sock.getsockname()[1]}", hosts=len(agents))

        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(server.run(), name="server"),
                tasks.create_task(serve_http(world, server.gateway, sock, answering.set), name="http"),
                tasks.create_task(announce(), name="announce"),
                *(tasks.create_task(agent.run(), name="agent") for agent in agents),
            ]
            await stop.wait()
            for task in running:
                task.cancel()
        if drivers is not None:
            await drivers.balancer.close()
            await drivers.network.close()
            await drivers.compute.close()
    finally:
        await store.close()
    if failed:
        log.error("the store's disk failed", error=str(failed[0]))
        return 1
    log.info("stopped; machines run on")
    return 0


def _identity(world: World, state: Path) -> Identity:
    path = state / "identity.json"
    if world.files.exists(path):
        return msgspec.json.decode(world.files.read(path), type=Identity)
    identity = Identity(cloud_id="c-" + world.chance.hex(8), host_id="h-" + world.chance.hex(17))
    world.files.write(path, msgspec.json.encode(identity))
    return identity


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.listen else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((options.listen, options.port))
    except OSError as error:
        raise AltoError(
            f"The API cannot listen on {options.listen}:{options.port}: {error.strerror}. "
            "Another cloud may be up; give another --listen."
        ) from error
    sock.setblocking(False)
    return sock


def _write_cloud(world: World, options: Options, identity: Identity, operator: Operator, port: int) -> None:
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
    }
    world.files.write(options.state / "cloud.json", msgspec.json.encode(body))


async def prepare(options: Options) -> None:
    """The images that a cloud begins with are in the cache; needs the package mirror only when they are not."""
    world = real_world()
    await LocalImages(world, options.cache).fetch(TINY_SOURCE)
    log.info("images are ready", cache=str(options.cache))


async def down(options: Options) -> None:
    """Nothing of this cloud is left on this machine: no process, no namespace, no rule; no file, unless data is kept."""
    world = real_world()
    if not world.files.exists(options.state / "identity.json"):
        log.info("there is no cloud here", state=str(options.state))
        return
    identity = _identity(world, options.state)
    await _stop_server(world, options.state)
    places = LocalPlaces(state=options.state, cache=options.cache)
    if world.files.exists(places.host):
        drivers = local_drivers(
            world, places, cloud_id=identity.cloud_id, host_id=identity.host_id, pool=options.pool, nat=options.nat
        )
        await drivers.balancer.remove_all()
        for id in sorted(await drivers.compute.observe()):
            if options.keep_data:
                await drivers.compute.stop(id, grace_s=0.0)
            else:
                await drivers.compute.destroy(id)
        await drivers.network.remove_all()
        await drivers.compute.close()
    if not options.keep_data:
        for name in world.files.names(options.state):
            world.files.remove_tree(options.state / name)
    log.info("down", state=str(options.state))


PROCESS = "server.json"
STOP_TIMEOUT_S = 10.0
JOIN_TIMEOUT_S = 180.0


def _write_process(world: World, state: Path) -> None:
    """Who serves this state, for `--down`: from the first moment on, which may be long before the cloud is ready."""
    process = world.processes.find(os.getpid())
    if process is not None:
        world.files.write(state / PROCESS, msgspec.json.encode(process))


async def _stop_server(world: World, state: Path) -> None:
    try:
        process = msgspec.json.decode(world.files.read(state / PROCESS), type=Pid)
    except FileNotFoundError:
        return
    if world.processes.alive(process):
        world.processes.signal(process, signal.SIGTERM)
        if not await world.processes.wait_gone(process, timeout_s=STOP_TIMEOUT_S):
            world.processes.signal(process, signal.SIGKILL)
            await world.processes.wait_gone(process, timeout_s=STOP_TIMEOUT_S)
    for name in (PROCESS, "cloud.json"):
        world.files.remove(state / name)


if __name__ == "__main__":
    sys.exit(main())
