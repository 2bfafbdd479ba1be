"""Agents' sessions. Goal: a host that fell silent finds no heap of old questions when it is back; a host's record carries
what its agent last said of itself, and what an operator said stays; one host's word is nothing about another's. Method:
sessions without an agent, spoken by hand."""

import asyncio

import pytest
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.model.errors import DriverFault
from alto.model.hosts import Capabilities, Host, HostState
from alto.model.images import Image
from alto.model.pressure import Gauges
from alto.model.sessions import Hello, Reports
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.api.cloud import NOW, Cloud
from tests.sim.loop import SimLoop
from tests.sim.world import SimDisk, sim_world

HELLO = Hello(
    cloud_id="cloud-test",
    host_id="h-1",
    name="host1",
    capabilities=Capabilities(kind="fake", accelerator="none", vcpus=1, memory_mib=128),
)


def test_questions_that_nobody_waits_for_any_more_are_forgotten(cloud: Cloud) -> None:
    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        session = await sessions.hello(HELLO)
        for _ in range(3):
            with pytest.raises(DriverFault, match="did not answer"):
                await sessions.console("h-1", "i-1", timeout_s=0.01)
        waits = asyncio.create_task(sessions.console("h-1", "i-2", timeout_s=5.0))
        await asyncio.sleep(0)
        news = await sessions.assignments(session, timeout_s=1.0)
        assert news is not None
        assert [ask.instance_id for ask in news.asks] == ["i-2"]
        await sessions.answer(session, news.asks[0].id, b"login:")
        assert await waits == b"login:"

    cloud.runner.run(body())


def test_the_record_of_a_host_has_the_underlay_that_its_agent_said_last(cloud: Cloud) -> None:
    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        for said in ("192.0.2.7:4789", "192.0.2.8:4790"):
            await sessions.hello(replace(HELLO, underlay=said))
            assert cloud.store.read(lambda reader: reader.get(Host, "h-1")).underlay == said

    cloud.runner.run(body())


def test_what_an_operator_wrote_outlives_the_next_hello(cloud: Cloud) -> None:
    """A rename and a drain are not undone by an agent that starts again and still knows the old name."""

    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        await sessions.hello(HELLO)
        await cloud.store.write(lambda tx: tx.put(replace(tx.get(Host, "h-1"), name="attic", draining=True)))
        await sessions.hello(HELLO)
        host = cloud.store.read(lambda reader: reader.get(Host, "h-1"))
        assert (host.name, host.draining) == ("attic", True)

    cloud.runner.run(body())


def test_two_machines_with_one_name_are_told_apart(cloud: Cloud) -> None:
    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        for host_id in ("h-1", "h-2", "h-3"):
            await sessions.hello(replace(HELLO, host_id=host_id, name="debian"))
        hosts = cloud.store.read(lambda reader: reader.where(Host))
        assert [host.name for host in hosts] == ["debian", "debian-2", "debian-3"]

    cloud.runner.run(body())


def test_an_answer_to_another_hosts_question_is_not_taken(cloud: Cloud) -> None:
    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        mine = await sessions.hello(HELLO)
        other = await sessions.hello(replace(HELLO, host_id="h-2", name="host2"))
        waits = asyncio.create_task(sessions.console("h-1", "i-1", timeout_s=5.0))
        await asyncio.sleep(0)
        news = await sessions.assignments(mine, timeout_s=1.0)
        assert news is not None
        await sessions.answer(other, news.asks[0].id, b"forged")
        await sessions.answer(mine, news.asks[0].id, b"true")
        assert await waits == b"true"

    cloud.runner.run(body())


def test_a_host_is_not_called_silent_because_the_server_just_started() -> None:
    """It has as long to come back as any host may be silent; then it is."""
    loop = SimLoop("silence")
    world, store = sim_world(loop, "silence", SimDisk()), SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))

    async def body() -> list[HostState]:
        await HostSessions(world, store, "cloud-test").hello(HELLO)
        # As after a restart: it knows no session.
        running = asyncio.create_task(HostSessions(world, store, "cloud-test").run())
        states = []
        for wait_s in (25.0, 35.0):
            await asyncio.sleep(wait_s)
            states.append(store.read(lambda reader: reader.get(Host, "h-1")).state)
        running.cancel()
        return states

    assert loop.run(body()) == [HostState.READY, HostState.UNREACHABLE]


EASY = Gauges(memory_mib=8192, memory_free_mib=6000, disk_mib=99_999, disk_free_mib=50_000, processes_max=9999, processes=99)


def test_a_full_host_takes_nothing_new_and_says_so_until_it_has_room(cloud: Cloud) -> None:
    tenant, sessions = cloud.account("tenant"), cloud.sessions

    async def say(session: str, number: int, gauges: Gauges | None) -> None:
        await sessions.report(session, Reports(number=number, gauges=gauges, at=cloud.clock.now()))

    cloud.put(
        Image(
            id="ami-0a170000000000001",
            account="0",
            region=None,
            name="tiny",
            public=True,
            source="tiny",
            size_gib=1,
            created_at=NOW,
        )
    )
    one = {"ImageId": "ami-0a170000000000001", "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}
    large = Capabilities(kind="fake", accelerator="none", vcpus=8, memory_mib=1024)
    session = cloud.runner.run(sessions.hello(replace(HELLO, capabilities=large)))
    cloud.runner.run(say(session, 1, EASY))
    assert sessions.gauges("h-1") == EASY
    tenant("RunInstances", **one)

    full = replace(EASY, memory_free_mib=50, disk_free_mib=10)
    cloud.runner.run(say(session, 2, full))
    said = tenant.refusal("RunInstances", **one)
    assert said.startswith("InsufficientInstanceCapacity: ")
    assert "1 host with disk and memory nearly used up" in said
    # A report about something else does not change it.
    cloud.runner.run(say(session, 3, None))
    assert cloud.store.read(lambda reader: reader.get(Host, "h-1")).pressure

    cloud.runner.run(say(session, 4, EASY))
    tenant("RunInstances", **one)
