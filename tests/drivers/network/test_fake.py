"""Goal: the fake network keeps the contract of NetworkDriver, and fails where it is told to.

Method: drive it as the agent does, through two drivers over one `FakeNetworks`, and look at `observe` and `vpcs`.
"""

import asyncio

import pytest

from alto.drivers.compute.fake import Fault, Knobs
from alto.drivers.network.driver import NetworkDriver
from alto.drivers.network.fake import FakeNetwork, FakeNetworks
from alto.kit.world import real_world
from alto.model.errors import DriverFault
from tests.drivers.network.samples import machine, plan, port


def driver(networks: FakeNetworks, **script: list[Fault | None]) -> NetworkDriver:
    return FakeNetwork(real_world(), networks=networks, knobs=Knobs(script=script))


def test_ports_outlive_the_driver_and_go_when_unplugged() -> None:
    async def scenario() -> None:
        networks = FakeNetworks()
        first = driver(networks)
        await first.ensure_network(plan(), [])
        tap = await first.plug(port(1), machine(1))
        await first.plug(port(2), machine(2))
        assert (tap.mac, tap.fd) == ("02:00:0a:4d:00:0b", -1)
        await first.close()

        second = driver(networks)
        assert await second.observe() == {"vpc-1": (port(1).id, port(2).id)}
        await second.unplug(port(1).id, "vpc-1")
        await second.unplug(port(1).id, "vpc-1")
        assert await second.observe() == {"vpc-1": (port(2).id,)}
        await second.remove_network("vpc-1")
        assert await second.observe() == {}

    asyncio.run(scenario())


def test_ensure_leaves_exactly_the_ports_named_and_their_metadata() -> None:
    async def scenario() -> None:
        networks = FakeNetworks()
        network = driver(networks)
        await network.ensure_network(plan(), [])
        await network.plug(port(1), machine(1))
        await network.plug(port(2), machine(2))
        await network.ensure_network(plan(), [port(2), port(3)])
        assert await network.observe() == {"vpc-1": (port(2).id, port(3).id)}
        ports = networks.vpcs["vpc-1"].ports
        assert ports[port(2).id].machine == machine(2)
        assert ports[port(3).id].machine is None

    asyncio.run(scenario())


def test_an_address_is_never_given_to_two_ports() -> None:
    async def scenario() -> None:
        network = driver(FakeNetworks())
        await network.ensure_network(plan(), [])
        await network.plug(port(1), machine(1))
        with pytest.raises(DriverFault, match="still belongs to"):
            await network.plug(port(2, private_ip=port(1).private_ip), machine(2))
        with pytest.raises(DriverFault, match="still belongs to"):
            await network.plug(port(2, mac=port(1).mac), machine(2))
        assert await network.observe() == {"vpc-1": (port(1).id,)}

    asyncio.run(scenario())


def test_a_refused_call_does_nothing_and_a_lost_one_did_all() -> None:
    async def scenario() -> None:
        network = driver(FakeNetworks(), plug=[Fault.REFUSE, Fault.LOSE])
        await network.ensure_network(plan(), [])
        with pytest.raises(DriverFault):
            await network.plug(port(1), machine(1))
        assert await network.observe() == {"vpc-1": ()}
        with pytest.raises(DriverFault):
            await network.plug(port(1), machine(1))
        assert await network.observe() == {"vpc-1": (port(1).id,)}

    asyncio.run(scenario())


def test_what_was_never_ensured_or_plugged_is_said() -> None:
    async def scenario() -> None:
        network = driver(FakeNetworks())
        with pytest.raises(DriverFault, match="no network"):
            await network.plug(port(1), machine(1))
        await network.ensure_network(plan(), [])
        with pytest.raises(DriverFault, match="not plugged"):
            await network.describe(port(1), machine(1))
        await network.unplug(port(1).id, "vpc-9")
        await network.remove_network("vpc-9")

    asyncio.run(scenario())


def test_a_guest_answers_while_it_is_plugged_and_not_silent() -> None:
    async def scenario() -> None:
        networks = FakeNetworks()
        network = driver(networks)
        await network.ensure_network(plan(), [])
        assert not await network.reach(port(1))
        await network.plug(port(1), machine(1))
        assert await network.reach(port(1))
        networks.silent.add(port(1).id)
        assert not await network.reach(port(1))

    asyncio.run(scenario())
