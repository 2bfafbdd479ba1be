"""Agents' sessions. Goal: a host that fell silent finds no heap of old questions when it is back; a host's record carries
what its agent last said of itself. Method: sessions without an agent, spoken by hand."""

import asyncio

import pytest
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.model.errors import DriverFault
from alto.model.hosts import Capabilities, Host
from alto.model.sessions import Hello
from tests.api.cloud import Cloud

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
