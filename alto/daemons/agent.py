"""`alto agent`: this machine as a host of a cloud that runs elsewhere; as two, where it runs both kinds of instances.

Started by the command as `python -m alto.daemons.agent`. Each host joins once, with an invitation of its own, and is that host
ever after; it dials out only. Machines, networks and balancers are processes of their own: they outlive this one, and the
server's absence. `--down` takes away what is here; the cloud's operator removes the hosts from its records.
"""

import argparse
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from alto.agent.agent import Agent, Drivers
from alto.agent.identity import HostIdentity, become, find_identity, link_of
from alto.agent.link import HttpsLink
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
    take_away,
    this_machine,
)
from alto.daemons.process import default_cache, run, run_until, stop_process, told_to_stop, write_process
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
    invitations: tuple[Invitation, ...]
    hosts: tuple[str, ...]  # kinds; none: those that have joined
    name: str
    underlay: str
    nat: bool
    down: bool
    keep_data: bool


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    return run(lambda: down(options) if options.down else up(real_world(), options))


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="alto-agent", description="This machine as a host of a cloud elsewhere.")
    add_arguments(parser)
    parser.add_argument("--join", metavar="URL", help="https://HOST:PORT of the cloud's door; needed once")
    parser.add_argument(
        "--token",
        action="append",
        default=[],
        help="the invitation, by `alto host token create`; needed once, for each kind of --hosts one, in their order",
    )
    parser.add_argument("--name", default=os.uname().nodename, help="what the host is called at first")
    given = parser.parse_args(argv)
    hosts = check_arguments(parser, given)
    if not HOST_NAME.fullmatch(given.name):
        parser.error(f"--name {given.name}: letters, digits and inner . _ -, at most 64")
    if (given.join is None) == bool(given.token):
        parser.error("--join and --token come together; an agent that has joined needs neither")
    try:
        invitations = tuple(read_invitation(token) for token in given.token)
    except BadInvitation as error:
        parser.error(f"--token: {error}. Copy the whole line that `alto host token create` printed")
    return Options(
        state=given.state.resolve(),
        cache=(given.cache or default_cache()).resolve(),
        join=given.join,
        invitations=invitations,
        hosts=hosts,
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
    stop = told_to_stop()
    identities, links, local, agents = list[HostIdentity](), list[HttpsLink](), list[Drivers](), list[Agent]()
    hosts = _hosts(world, options)
    for kind, invitation in hosts:
        places = LocalPlaces(state=options.state, cache=options.cache, kind=kind)
        world.files.make_dirs(places.host, mode=0o711)
        before = find_identity(world, places.identity)
        identity = await _become(world, options, places, invitation)
        await check_pool(world, identity.public_pool, joined=True)
        if before is not None and before.host_id != identity.host_id:
            await _clear(_drivers(world, options, places, before), before)
        identities.append(identity)
        links.append(link_of(world, places.identity, identity))
        local.append(_drivers(world, options, places, identity, links[-1], share=1 / len(hosts)))
        agents.append(
            local_agent(
                world,
                local[-1],
                places,
                links[-1],
                cloud_id=identity.cloud_id,
                host_id=identity.host_id,
                name=identity.name,
                underlay=options.underlay,
            )
        )
    await run_until(
        stop,
        {
            **{f"agent {identity.name}": agent.run() for identity, agent in zip(identities, agents, strict=True)},
            "announce": _announce(world, options, identities, agents),
            "networks": prepare_networks(local),
        },
    )
    await let_go(local)
    for link in links:
        link.close()
    os.close(lock)
    log.info("stopped; machines run on")
    return 0


def _joined(world: World, options: Options) -> tuple[str, ...]:
    """The kinds of hosts that this folder is already."""
    return tuple(
        kind
        for kind in KINDS
        if find_identity(world, LocalPlaces(state=options.state, cache=options.cache, kind=kind).identity) is not None
    )


def _hosts(world: World, options: Options) -> list[tuple[str, Invitation | None]]:
    """What this machine's hosts run, each with its invitation; kinds that are hosts already need none."""
    joined = _joined(world, options)
    kinds = options.hosts or joined or (QEMU,)
    given = list(options.invitations)
    new = [kind for kind in kinds if kind not in joined]
    invited = kinds if len(given) == len(kinds) else new
    if given and len(given) != len(invited):
        raise AltoError(
            f"Each token lets in one host, and here are {len(given)} tokens for {' and '.join(invited) or 'no new host'}. "
            "Give one --token for each"
        )
    return [(kind, given[invited.index(kind)] if given and kind in invited else None) for kind in kinds]


async def _become(world: World, options: Options, places: LocalPlaces, invitation: Invitation | None) -> HostIdentity:
    deadline = world.clock.monotonic() + JOIN_S
    while True:
        try:
            return await become(
                world,
                places.identity,
                url=options.join,
                invitation=invitation,
                name=name_of(options.name, places.kind),
                kind=places.kind,
                machine=this_machine(world, places.kind),
            )
        except (OSError, TimeoutError) as error:
            if world.clock.monotonic() > deadline:
                raise AltoError(
                    f"Nobody answers at {options.join}: {error or 'no answer in time'}. Is the cloud up with --listen-hosts, "
                    "and does a firewall let this machine through?"
                ) from error
            log.warning("the cloud does not answer yet", url=options.join, error=str(error))
            await world.clock.sleep(JOIN_PAUSE_S)


async def _announce(world: World, options: Options, identities: Sequence[HostIdentity], agents: Sequence[Agent]) -> None:
    for agent in agents:
        await agent.joined.wait()
    ready = {
        "cloud_id": identities[0].cloud_id,
        "url": identities[0].url,
        "hosts": [{"host_id": one.host_id, "name": one.name} for one in identities],
        "pid": os.getpid(),
    }
    world.files.write(options.state / READY, msgspec.json.encode(ready))
    for identity in identities:
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


def _drivers(
    world: World,
    options: Options,
    places: LocalPlaces,
    identity: HostIdentity,
    server: ImageSource | None = None,
    *,
    share: float = 1.0,
) -> Drivers:
    """`server`: for images that are not made here."""
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
        share=share,
    )


async def down(options: Options) -> int:
    """Nothing of these hosts is left on this machine: no process, no namespace, no rule; no file, unless data is kept."""
    world = real_world()
    if not world.files.exists(options.state):
        log.info("there is no host here", state=str(options.state))
        return 0
    await stop_process(world, options.state, READY)
    for kind in _joined(world, options):
        places = LocalPlaces(state=options.state, cache=options.cache, kind=kind)
        identity = find_identity(world, places.identity)
        assert identity is not None
        groups = machine_groups(world, cloud_id=identity.cloud_id, host_id=identity.host_id)
        await take_away(_drivers(world, options, places, identity), groups, keep_data=options.keep_data)
        log.info("the cloud still has this host in its records", remove=f"alto host remove {identity.name} --force")
    if not options.keep_data:
        for name in world.files.names(options.state):
            world.files.remove_tree(options.state / name)
    log.info("down", state=str(options.state))
    return 0


if __name__ == "__main__":
    sys.exit(main())
