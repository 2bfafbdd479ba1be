"""Goal: what every network driver promises the agent, kept by the fake always and by the real one where this machine allows.

Method: the same calls on both; only `observe` and the errors are looked at, since a fake has nothing else to show.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from alto.drivers.network.driver import NetworkDriver
from alto.drivers.network.fake import FakeNetwork, FakeNetworks
from alto.drivers.network.vpc import VpcNetworks
from alto.kit.world import real_world
from alto.model.errors import DriverFault
from alto.plan import firewall, routes
from tests.drivers.network.guests import site
from tests.drivers.network.samples import DEFAULT, group, machine, plan, port

Makes = Callable[[], NetworkDriver]


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.net)])
def new_driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Makes]:
    """Each call is a driver of a new process over the same machine."""
    if request.param == "fake":
        networks = FakeNetworks()
        yield lambda: FakeNetwork(real_world(), networks=networks)
        return
    request.getfixturevalue("namespaces")
    short = f"c{os.getpid() % 100000}"
    with site(f"nwt-host-{os.getpid()}"):

        def make() -> NetworkDriver:
            return VpcNetworks(
                real_world(), tmp_path / "net", cloud_id=short, host_id="h-1", rules=firewall, routes=routes, nat=False
            )

        try:
            yield make
        finally:
            asyncio.run(make().remove_all())


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def plugged(driver: NetworkDriver, number: int, **changes: object) -> None:
    wanted = port(number, **changes)
    tap = await driver.plug(wanted, machine(number, of=wanted))
    assert tap.mac == wanted.mac
    if tap.fd >= 0:
        os.close(tap.fd)


def test_asking_for_what_is_changes_nothing(new_driver: Makes) -> None:
    async def scenario() -> None:
        driver = new_driver()
        for _ in range(2):
            await driver.ensure_network(plan(), [])
        for _ in range(2):
            # A tap that no process holds vanishes, so that plugging again is how a machine starts again.
            await plugged(driver, 1)
        for _ in range(2):
            await driver.describe(port(1), machine(1))
        assert await driver.observe() == {"vpc-1": (port(1).id,)}
        for _ in range(2):
            await driver.unplug(port(1).id, "vpc-1")
        assert await driver.observe() == {"vpc-1": ()}
        for _ in range(2):
            await driver.remove_network("vpc-1")
        assert await driver.observe() == {}
        for _ in range(2):
            await driver.remove_all()

    run(scenario)


def test_a_new_driver_sees_what_the_old_one_made(new_driver: Makes) -> None:
    async def scenario() -> None:
        first = new_driver()
        await first.ensure_network(plan(), [])
        await first.ensure_network(plan(vpc_id="vpc-2"), [])
        await plugged(first, 1)
        await plugged(first, 2)
        await first.close()
        second = new_driver()
        assert await second.observe() == {"vpc-1": (port(1).id, port(2).id), "vpc-2": ()}
        await second.ensure_network(plan(DEFAULT, group("sg-1")), [port(1), port(2, "sg-1")])
        assert await second.observe() == {"vpc-1": (port(1).id, port(2).id), "vpc-2": ()}
        await second.remove_network("vpc-2")
        await second.remove_all()
        assert await new_driver().observe() == {}

    run(scenario)


def test_exactly_the_ports_named_are_left(new_driver: Makes) -> None:
    async def scenario() -> None:
        driver = new_driver()
        await driver.ensure_network(plan(), [])
        for number in (1, 2, 3):
            await plugged(driver, number)
        await driver.ensure_network(plan(), [port(2), port(3)])
        assert await driver.observe() == {"vpc-1": (port(2).id, port(3).id)}
        later = new_driver()
        await later.ensure_network(plan(), [port(3)])
        assert await later.observe() == {"vpc-1": (port(3).id,)}

    run(scenario)


def test_an_address_has_one_owner_until_it_is_given_back(new_driver: Makes) -> None:
    async def scenario() -> None:
        driver = new_driver()
        await driver.ensure_network(plan(), [])
        await plugged(driver, 1)
        for changes in ({"private_ip": port(1).private_ip}, {"mac": port(1).mac}):
            with pytest.raises(DriverFault, match="still belongs to"):
                await plugged(driver, 2, **changes)
        assert await driver.observe() == {"vpc-1": (port(1).id,)}
        await driver.unplug(port(1).id, "vpc-1")
        await plugged(driver, 2, private_ip=port(1).private_ip, mac=port(1).mac)
        assert await driver.observe() == {"vpc-1": (port(2).id,)}

    run(scenario)


def test_what_was_never_made_is_said_or_already_gone(new_driver: Makes) -> None:
    async def scenario() -> None:
        driver = new_driver()
        with pytest.raises(DriverFault):
            await plugged(driver, 1)
        await driver.ensure_network(plan(), [])
        with pytest.raises(DriverFault, match="not plugged"):
            await driver.describe(port(1), machine(1))
        assert not await driver.reach(port(1))
        await driver.unplug(port(1).id, "vpc-1")
        await driver.unplug(port(1).id, "vpc-9")
        await driver.remove_network("vpc-9")
        assert await driver.observe() == {"vpc-1": ()}

    run(scenario)


def test_many_calls_at_once_are_one_after_another(new_driver: Makes) -> None:
    async def scenario() -> None:
        driver = new_driver()
        await asyncio.gather(*(driver.ensure_network(plan(vpc_id=vpc_id), []) for vpc_id in ("vpc-1", "vpc-2")))
        numbers = range(1, 9)
        await asyncio.gather(*(plugged(driver, number, vpc_id=f"vpc-{1 + number % 2}") for number in numbers))
        await asyncio.gather(*(driver.unplug(port(number).id, f"vpc-{1 + number % 2}") for number in range(1, 5)))
        assert await driver.observe() == {
            "vpc-1": (port(6).id, port(8).id),
            "vpc-2": (port(5).id, port(7).id),
        }

    run(scenario)
