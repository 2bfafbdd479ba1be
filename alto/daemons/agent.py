"""`alto agent`: this machine as a host of a cloud that runs elsewhere.

Started by the command as `python -m alto.daemons.agent`. It joins once, with an invitation, and is that host ever after; it
dials out only. Machines, networks and balancers are processes of their own: they outlive this one, and the server's absence.
`--down` takes away what is here; the cloud's operator removes the host from its records.
"""

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from alto.agent.agent import Agent, Drivers
from alto.agent.identity import HostIdentity, become, find_identity, link_of
from alto.daemons.hosts import LocalPlaces, local_agent, local_drivers, machine_groups, take_away, this_machine
from alto.daemons.process import default_cache, is_endpoint, set_up_log, stop_process, write_process
from alto.drivers.compute.driver import ImageDriver
from alto.drivers.image.images import LocalImages
from alto.drivers.image.remote import RemoteImages
from alto.kit.world import World, real_world
from alto.model.errors import AltoError
from alto.model.images import QEMU
from alto.model.joining import HOST_NAME, BadInvitation, Invitation, read_invitation
from alto.model.shipments import ImageSource

log = structlog.get_logger()

LOCK, READY = "agent.lock", "agent.json"
# A person waits for the first joining; a machine that boots before its server waits in its session, for ever.
JOIN_S = 30.0
JOIN_PAUSE_S = 1.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    state: Path
    cache: Path
    join: str | None
    invitation: Invitation | None
    name: str
    underlay: str
    nat: bool
    down: bool
    keep_data: bool


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    set_up_log()
    try:
        if options.down:
            asyncio.run(down(options))
            return 0
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(up(real_world(), options))
    except AltoError as error:
        log.error("cannot go on", error=str(error), cause=str(error.__cause__ or ""))
        return 1


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="alto-agent", description="This machine as a host of a cloud elsewhere.")
    parser.add_argument("--state", type=Path, required=True, help="folder of this host's state")
    parser.add_argument("--cache", type=Path, help="folder of images that can be had again")
    parser.add_argument("--join", metavar="URL", help="https://HOST:PORT of the cloud's door; needed once")
    parser.add_argument("--token", help="the invitation, by `alto host token create`; needed once")
    parser.add_argument("--name", default=os.uname().nodename, help="what the host is called at first")
    parser.add_argument("--underlay", default="", metavar="IP:PORT", help="where other hosts reach this one with VXLAN")
    parser.add_argument(
        "--nat", action=argparse.BooleanOptionalAction, default=True, help="let guests out where this machine has a way"
    )
    parser.add_argument("--down", action="store_true", help="take everything of the host away from this machine")
    parser.add_argument("--keep-data", action="store_true", help="with --down: keep disks and identity")
    given = parser.parse_args(argv)
    if given.underlay and not is_endpoint(given.underlay):
        parser.error(f"--underlay {given.underlay}: it is IP:PORT, as 192.0.2.7:4789")
    if not HOST_NAME.fullmatch(given.name):
        parser.error(f"--name {given.name}: letters, digits and inner . _ -, at most 64")
    if (given.join is None) != (given.token is None):
        parser.error("--join and --token come together; an agent that has joined needs neither")
    invitation = None
    if given.token is not None:
        try:
            invitation = read_invitation(given.token)
        except BadInvitation as error:
            parser.error(f"--token: {error}. Copy the whole line that `alto host token create` printed")
    return Options(
        state=given.state.resolve(),
        cache=(given.cache or default_cache()).resolve(),
        join=given.join,
        invitation=invitation,
        name=given.name,
        underlay=given.underlay,
        nat=given.nat,
        down=given.down,
        keep_data=given.keep_data,
    )


async def up(world: World, options: Options) -> int:
    """Until SIGTERM or SIGINT; machines run on. Returns the exit code."""
    if world.files.exists(options.state / "alto.db"):
        raise AltoError(f"{options.state} is a cloud's own folder. Give this host another one: --state FOLDER")
    # QEMU and HAProxy drop root and must still pass; what is secret is 0600 itself.
    world.files.make_dirs(options.state, mode=0o711)
    # Held until this process ends, however it ends.
    lock = world.files.open(options.state / LOCK, append=True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AltoError(f"An agent runs on {options.state} already. See {READY} there for its number") from None
    world.files.remove(options.state / READY)
    write_process(world, options.state)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    before = find_identity(world, options.state)
    identity = await _become(world, options)
    places = LocalPlaces(state=options.state, cache=options.cache)
    world.files.make_dirs(places.host, mode=0o711)
    if before is not None and before.host_id != identity.host_id:
        await _clear(_drivers(world, options, before), before)
    link = link_of(world, options.state, identity)
    drivers = _drivers(world, options, identity, link)
    agent = local_agent(
        world,
        drivers,
        places,
        link,
        cloud_id=identity.cloud_id,
        host_id=identity.host_id,
        name=identity.name,
        underlay=options.underlay,
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(agent.run(), name="agent"),
            tasks.create_task(_announce(world, options, identity, agent), name="announce"),
        ]
        await stop.wait()
        for task in running:
            task.cancel()
    await drivers.balancer.close()
    await drivers.network.close()
    await drivers.compute.close()
    link.close()
    os.close(lock)
    log.info("stopped; machines run on")
    return 0


async def _become(world: World, options: Options) -> HostIdentity:
    deadline = world.clock.monotonic() + JOIN_S
    while True:
        try:
            return await become(
                world,
                options.state,
                url=options.join,
                invitation=options.invitation,
                name=options.name,
                kind=QEMU,
                machine=this_machine(world),
            )
        except (OSError, TimeoutError) as error:
            if world.clock.monotonic() > deadline:
                raise AltoError(
                    f"Nobody answers at {options.join}: {error or 'no answer in time'}. Is the cloud up with --listen-hosts, "
                    "and does a firewall let this machine through?"
                ) from error
            log.warning("the cloud does not answer yet", url=options.join, error=str(error))
            await world.clock.sleep(JOIN_PAUSE_S)


async def _announce(world: World, options: Options, identity: HostIdentity, agent: Agent) -> None:
    await agent.joined.wait()
    ready = {
        "cloud_id": identity.cloud_id,
        "host_id": identity.host_id,
        "name": identity.name,
        "url": identity.url,
        "pid": os.getpid(),
    }
    world.files.write(options.state / READY, msgspec.json.encode(ready))
    log.info("ready", cloud=identity.cloud_id, host=identity.host_id, name=identity.name)


async def _clear(drivers: Drivers, before: HostIdentity) -> None:
    """A new identity on a used machine. What the former host left is in its name, and goes; its machines must be gone."""
    machines = await drivers.compute.observe()
    if machines:
        raise AltoError(
            f"{len(machines)} machines of the former host {before.name} are still here. Take them away first: alto agent --down"
        )
    await drivers.balancer.remove_all()
    await drivers.network.remove_all()


def _drivers(world: World, options: Options, identity: HostIdentity, server: ImageSource | None = None) -> Drivers:
    """`server`: for images that are not made here."""
    places = LocalPlaces(state=options.state, cache=options.cache)
    images: ImageDriver = LocalImages(world, options.cache)
    if server is not None:
        images = RemoteImages(world, options.cache, images, server)
    return local_drivers(
        world,
        places,
        images,
        cloud_id=identity.cloud_id,
        host_id=identity.host_id,
        pool=identity.public_pool,
        nat=options.nat,
    )


async def down(options: Options) -> None:
    """Nothing of this host is left on this machine: no process, no namespace, no rule; no file, unless data is kept."""
    world = real_world()
    identity = find_identity(world, options.state)
    await stop_process(world, options.state, READY)
    if identity is not None:
        groups = machine_groups(world, cloud_id=identity.cloud_id, host_id=identity.host_id)
        await take_away(_drivers(world, options, identity), groups, keep_data=options.keep_data)
        log.info("the cloud still has this host in its records", remove=f"alto host remove {identity.name} --force")
    elif not world.files.exists(options.state):
        log.info("there is no host here", state=str(options.state))
        return
    if not options.keep_data:
        for name in world.files.names(options.state):
            world.files.remove_tree(options.state / name)
    log.info("down", state=str(options.state))


if __name__ == "__main__":
    sys.exit(main())
