"""Deaths at each step of address association and interface attachment, and at each pair of steps.

A step is what somebody outside could tell: a commit, a manifest on the disk, a port or a machine changed by a driver. `steps`
lists them as the story takes them when nobody dies. A death falls right after one, which is before the next; a second one
falls so many steps after the first, in whatever then happens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.sim.check import Violated
from tests.sim.cloud import Knobs, SimCloud, route_logs
from tests.sim.every_step import kill
from tests.sim.faults import DRIVER_METHODS, INTERFACE_METHODS
from tests.sim.loop import SimLoop, SimulationStuck
from tests.sim.scenario import STEPS_MAX, TIME_MAX_S, give_everything_back, settle
from tests.sim.workload import Client

VICTIMS = ("server", "agent", "power")
# A second death is looked for among so many steps after the first: by then the story has gone on to its next act.
AFTER_MAX = 10


@dataclass(frozen=True)
class Kill:
    after: int  # how many steps, counted from the story's begin or from the kill before
    victim: str


@dataclass(frozen=True)
class Fate:
    kills: tuple[Kill, ...]
    failure: str | None

    def __str__(self) -> str:
        return f"{', then '.join(f'{one.victim} after step {one.after}' for one in self.kills)}: {self.failure}"


def steps() -> list[str]:
    """What the story does, in order: the act and what changed in it."""
    failure, found = _run(())
    assert failure is None, failure
    return found


def play_kills(*kills: Kill) -> Fate:
    return Fate(kills, _run(kills)[0])


def singles(count: int) -> Iterator[tuple[Kill, ...]]:
    yield from ((Kill(after, victim),) for after in range(1, count + 1) for victim in VICTIMS)


def pairs(count: int) -> Iterator[tuple[Kill, ...]]:
    """The power takes the agent with it: among pairs it is left out."""
    victims = ("server", "agent")
    for first in range(1, count + 1):
        for one in victims:
            for later in range(1, AFTER_MAX + 1):
                for other in victims:
                    yield Kill(first, one), Kill(later, other)


class _Steps:
    """Counts what changed outside, and kills when it is time."""

    def __init__(self, cloud: SimCloud, kills: Sequence[Kill]) -> None:
        self._cloud = cloud
        self._kills = list(kills)
        self._host = cloud.hosts[0]
        self._look = cloud.loop.after_step
        self._seen = self._outside()
        self._since = 0
        self.act = ""
        self.found: list[str] = []

    def _outside(self) -> dict[str, object]:
        return {
            "commit": self._cloud.database.connection.total_changes(),
            "manifest": self._host.disk.writes,
            "ports": {id: dict(vpc.ports) for id, vpc in self._host.networks.vpcs.items()},
            "machine": dict(self._host.machines.machines),
        }

    def __call__(self) -> None:
        if self._look is not None:
            self._look()
        now, before = self._outside(), self._seen
        if now == before:
            return
        self._seen = now
        self.found.append(f"{self.act}: {', '.join(name for name in now if now[name] != before[name])}")
        self._since += 1
        if self._kills and self._since >= self._kills[0].after:
            self._since = 0
            kill(self._cloud, self._kills.pop(0).victim)


def _run(kills: Sequence[Kill]) -> tuple[str | None, list[str]]:
    route_logs(None)
    loop = SimLoop("every pair", shuffle=False, steps_max=STEPS_MAX, time_max_s=TIME_MAX_S)
    cloud = SimCloud(loop, "every pair", Knobs(hosts=1, vcpus=4, memory_mib=4096))
    found: list[str] = []
    try:
        loop.run(_story(cloud, kills, found))
    except (Violated, SimulationStuck) as error:
        return f"at step {loop.steps}, {loop.time():.3f} s: {error}", found
    return (loop.complaints[0] if loop.complaints else None), found


async def _story(cloud: SimCloud, kills: Sequence[Kill], found: list[str]) -> None:
    await cloud.start()
    for knobs in (cloud.hosts[0].compute_knobs, cloud.hosts[0].network_knobs, cloud.hosts[0].image_knobs):
        for method in (*DRIVER_METHODS, *INTERFACE_METHODS):
            knobs.delay_s[method] = (0.02, 0.02)
    client = Client(cloud, 1, actions=0, pace_s=0.0)
    user = client.networks
    for act in (client.launch_one, client.launch_one, user.allocate, user.create):
        await act()
        await asyncio.sleep(3.0)
    one, two = sorted(client.launched)

    async def associate(instance: str) -> None:
        await user.associate(("InstanceId", instance))

    acts: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
        ("associate", lambda: associate(one)),
        ("associate again, elsewhere", lambda: associate(two)),
        ("attach", lambda: user.attach(one)),
        ("assign", user.assign),
        ("change groups", lambda: user.change(groups=True)),
        ("detach", user.detach),
        ("disassociate", user.disassociate),
        ("associate", lambda: associate(one)),
        ("terminate", lambda: client.terminate(one)),
    )
    count = cloud.loop.after_step = _Steps(cloud, kills)
    for name, act in acts:
        count.act = name
        await act()
        await asyncio.sleep(1.0)
    found.extend(count.found)
    await settle(cloud, "after the deaths")
    cloud.store.read(client.check_promises)
    await give_everything_back(cloud, [client])
