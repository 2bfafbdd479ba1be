"""One fixed story, and one death at each of its steps in turn: of the server, of the agent, or of the host's power.

Where seeds meet what is likely, this leaves nothing out: whatever the story does between two steps, somebody dies there once.
Everything else is calm, so that a failure has one cause.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.check import Violated
from tests.sim.cloud import Knobs, SimCloud, route_logs
from tests.sim.faults import DRIVER_METHODS
from tests.sim.loop import SimLoop, SimulationStuck
from tests.sim.scenario import STEPS_MAX, TIME_MAX_S, give_everything_back, settle
from tests.sim.workload import Client

VICTIMS = ("server", "agent", "power")


@dataclass
class Death:
    victim: str
    step: int
    failure: str | None


def count_steps() -> int:
    """How many steps the story has when nobody dies."""
    return _run(None, 0)[1]


def play_death(victim: str, step: int, *, trace: Callable[[str], None] | None = None) -> Death:
    return Death(victim, step, _run(victim, step, trace)[0])


def _run(victim: str | None, step: int, trace: Callable[[str], None] | None = None) -> tuple[str | None, int]:
    route_logs(trace)
    # In order, not shuffled: the steps before the death are the same in every run.
    loop = SimLoop("every step", shuffle=False, steps_max=STEPS_MAX, time_max_s=TIME_MAX_S)
    loop.trace = trace
    cloud = SimCloud(loop, "every step", Knobs(hosts=1, vcpus=4, memory_mib=4096))
    ended_at: list[int] = []
    try:
        loop.run(_story(cloud, victim, step, ended_at))
    except (Violated, SimulationStuck) as error:
        return f"at step {loop.steps}, {loop.time():.3f} s: {error}", loop.steps
    return (loop.complaints[0] if loop.complaints else None), ended_at[0]


async def _story(cloud: SimCloud, victim: str | None, step: int, ended_at: list[int]) -> None:
    await cloud.start()
    look = cloud.loop.after_step
    done: list[bool] = []

    def after_step() -> None:
        if look is not None:
            look()
        if cloud.loop.steps >= step and victim is not None and not done:
            done.append(True)
            kill(cloud, victim)

    cloud.loop.after_step = after_step
    for knobs in (cloud.hosts[0].compute_knobs, cloud.hosts[0].network_knobs, cloud.hosts[0].image_knobs):
        for method in DRIVER_METHODS:
            knobs.delay_s[method] = (0.02, 0.02)  # so that there are steps between an effect and its answer
    client = Client(cloud, 1, actions=0, pace_s=0.0)
    for act in (
        client.launch_one,
        client.launch_one,
        client.reboot,
        client.tag,
        client.stop,
        client.serve,
        client.start,
        client.terminate,
        client.stop,
        client.scale,
    ):
        await act()
        await asyncio.sleep(1.5)
    ended_at.append(cloud.loop.steps)
    await settle(cloud, "after a death at one step")
    cloud.store.read(client.check_promises)
    await give_everything_back(cloud, [client])


def kill(cloud: SimCloud, victim: str) -> None:
    host = cloud.hosts[0]
    server = cloud.server.process if cloud.server is not None else None
    process = server if victim == "server" else host.process
    if process is not None:
        cloud.loop.kill(process)
    if victim == "power":
        cloud.ended_by_fault.update(host.machines.machines)
        host.lose_power()
