"""What an agent says of its balancers. Goal: a fault in making them true hides nobody's health. Method: a real agent over fake
drivers, of which the balancer fails whenever it is told of plans; the server's side of the link is spoken by hand."""

import asyncio
from pathlib import Path

from alto.agent.agent import Agent, Drivers
from alto.agent.manifests import Manifests
from alto.drivers.balancer.fake import BalancerKnobs, FakeBalancer, Fault
from alto.drivers.compute.fake import FakeCompute
from alto.drivers.image.fake import FakeImages
from alto.drivers.network.fake import FakeNetwork
from alto.kit.memory_files import MemoryFiles
from alto.kit.world import real_world
from alto.model.balancers import BalancerPlan, BalancerReport, HealthCheck, Target, TargetState
from alto.model.sessions import Assignments, Reports
from tests.agent.test_questions import WAIT_S, Spoken

PLAN = BalancerPlan(
    id="lb-1",
    name="web",
    address="127.64.0.9",
    port=80,
    check=HealthCheck(),
    drain_s=1.0,
    targets=(Target(instance_id="i-1", vpc_id="vpc-1", private_ip="172.31.0.5", port=80),),
)


class Listening(Spoken):
    def __init__(self) -> None:
        super().__init__()
        self.said: asyncio.Queue[BalancerReport] = asyncio.Queue()

    async def report(self, session: str, reports: Reports) -> None:
        for one in reports.balancers:
            self.said.put_nowait(one)


async def _story() -> None:
    world, server, answering = real_world(), Listening(), {"i-1"}
    knobs = BalancerKnobs(fault=lambda call: Fault.AFTER if call == "ensure" else None)
    balancer = FakeBalancer(world, answers=answering.__contains__, knobs=knobs)
    drivers = Drivers(compute=FakeCompute(world), images=FakeImages(world), network=FakeNetwork(world), balancer=balancer)
    manifests = Manifests(MemoryFiles(), Path("/manifests"))
    agent = Agent(world, drivers, manifests, server, cloud_id="c-1", host_id="h-1", name="host")
    running = asyncio.create_task(agent.run())
    async with asyncio.timeout(WAIT_S):
        server.news.put_nowait(Assignments(full=True, balancers=(PLAN,)))
        assert [one.state for one in (await server.said.get()).health] == [TargetState.HEALTHY]
        answering.clear()
        assert [one.state for one in (await server.said.get()).health] == [TargetState.UNHEALTHY]
    running.cancel()


def test_a_balancer_that_can_not_be_made_hides_nobody_s_health() -> None:
    asyncio.run(_story())
