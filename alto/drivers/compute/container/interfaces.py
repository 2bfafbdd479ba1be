"""A container's network interfaces: the guest's ends of veth pairs, which wait in the agent's namespace under their peer names.

LXC takes those that are there at the start, and gives them back when the guest ends. What comes later is moved by us, and is
LXC's from the guest's next boot on: the file `interfaces`, which LXC's configuration includes, always says what the guest has.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from alto.drivers.compute.container.config import ATTACHED, INTERFACES
from alto.drivers.compute.driver import Tap
from alto.kit.world import Files, Pid, World
from alto.model.errors import DriverFault

MOVE_S = 5.0  # they are moved within milliseconds


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # "eni-..."
    mac: str
    peer: str  # its name while it is not in the guest
    name: str  # "eth0": as the guest sees it first
    late: bool = False  # LXC does not know it in this life of the guest


def at_start(taps: Sequence[Tap]) -> tuple[Interface, ...]:
    real = [tap for tap in taps if tap.peer]
    return tuple(
        Interface(id=tap.interface_id, mac=tap.mac, peer=tap.peer, name=f"eth{number}") for number, tap in enumerate(real)
    )


def with_one(known: Sequence[Interface], tap: Tap, name: str) -> tuple[Interface, ...]:
    new = Interface(id=tap.interface_id, mac=tap.mac, peer=tap.peer, name=name, late=True)
    return (*(one for one in known if one.id != new.id), new)


def load(files: Files, home: Path) -> tuple[Interface, ...]:
    """What the guest was given, by the comments that LXC passes over."""
    try:
        lines = files.read(home / INTERFACES).decode().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(msgspec.json.decode(line[2:], type=Interface) for line in lines if line.startswith("# "))


def save(files: Files, home: Path, known: Sequence[Interface]) -> None:
    lines = []
    for number, one in enumerate(known):
        lines += [
            f"# {json.dumps(msgspec.to_builtins(one))}",
            f"lxc.net.{number}.type = phys",
            f"lxc.net.{number}.link = {one.peer}",
            f"lxc.net.{number}.name = {one.name}",
        ]
    if not known:
        lines.append("lxc.net.0.type = empty")
    files.write(home / INTERFACES, ("\n".join(lines) + "\n").encode(), durable=False)
    # For the hook that runs when a guest ends: LXC gives back only what it took.
    files.write(home / ATTACHED, "".join(f"{one.name} {one.peer}\n" for one in known if one.late).encode(), durable=False)


async def links(world: World, init: Pid) -> dict[str, str]:
    """MAC -> name of what the guest has now, whatever it has made of it."""
    listed = await _run(world, *_inside(init), "ip", "-o", "link")
    found = {}
    for line in listed.decode().splitlines():
        words = line.split()
        if "link/ether" in words:
            found[words[words.index("link/ether") + 1]] = words[1].rstrip(":").partition("@")[0]
    return found


def free_name(links: Mapping[str, str]) -> str:
    taken = set(links.values())
    return next(name for number in range(len(taken) + 1) if (name := f"eth{number}") not in taken)


async def give(world: World, init: Pid, peer: str, name: str) -> None:
    await _run(world, "ip", "link", "set", peer, "netns", str(init.pid), "name", name)


async def take_back(world: World, init: Pid, keeper: Pid, gone: Interface) -> None:
    """It waits again under its peer name, in the agent's namespace, which is the keeper's."""
    name = (await links(world, init)).get(gone.mac)
    # A guest that gave it another address keeps it until the port is unplugged, which takes both ends.
    if name is not None:
        await _run(world, *_inside(init), "ip", "link", "set", name, "down", "netns", str(keeper.pid), "name", gone.peer)


def _inside(init: Pid) -> list[str]:
    return ["nsenter", f"--net=/proc/{init.pid}/ns/net", "--"]


async def _run(world: World, *argv: str) -> bytes:
    done = await world.processes.run(argv, timeout_s=MOVE_S)
    if done.returncode != 0:
        raise DriverFault("The machine's network could not be changed") from RuntimeError(done.complaint())
    return done.stdout
