"""Goal: a port whose removal failed half-way is removed by the next call, and one whose machine took the tap along is no fault.

Method: the real driver, with a World whose `ip link delete` fails once: without effect, or because the tap went by itself.
Each was seen under load: the first left ports behind that nobody removed any more, and `alto audit` said so; a container's
device, which goes when the kernel comes to its namespace, once stood in the way of `alto agent --down`.
"""

import dataclasses
from collections.abc import Sequence

import pytest

from alto.drivers.network.vpc import VpcNetworks
from alto.kit.world import Finished, RealProcesses, real_world
from alto.model.errors import DriverFault
from alto.plan import firewall, routes
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, plan

pytestmark = pytest.mark.net


class OneDeleteFails(RealProcesses):
    def __init__(self, *, after_all: bool) -> None:
        super().__init__()
        self.after_all = after_all  # the tap is gone when the command comes
        self.armed = False

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0, netns: str | None = None
    ) -> Finished:
        if self.armed and b"link delete tap" in stdin:
            self.armed = False
            if not self.after_all:
                return Finished(1, b"", b"Command failed -:1")
            await super().run(argv, stdin=stdin, timeout_s=timeout_s, netns=netns)
        return await super().run(argv, stdin=stdin, timeout_s=timeout_s, netns=netns)


def failing(cloud: Cloud, *, after_all: bool) -> OneDeleteFails:
    """The cloud's driver has a guest, and its next `ip link delete` of a tap fails once it is armed."""
    processes = OneDeleteFails(after_all=after_all)
    cloud.driver = VpcNetworks(
        dataclasses.replace(real_world(), processes=processes),
        cloud.folder,
        cloud_id=cloud.cloud_id,
        host_id=cloud.host_id,
        rules=firewall,
        routes=routes,
        pool=cloud.pool,
        nat=False,
    )
    cloud.ensure(plan(DEFAULT))
    cloud.guest(1)
    return processes


@pytest.mark.parametrize("after_all", [False, True], ids=["without effect", "the tap went by itself"])
def test_a_removal_that_failed_is_finished_by_the_next(cloud: Cloud, after_all: bool) -> None:
    processes = failing(cloud, after_all=after_all)
    ((port_id,),) = cloud.do(lambda driver: driver.observe()).values()
    processes.armed = True
    if after_all:
        cloud.do(lambda driver: driver.unplug(port_id, "vpc-1"))
    else:
        with pytest.raises(DriverFault):
            cloud.do(lambda driver: driver.unplug(port_id, "vpc-1"))
        cloud.do(lambda driver: driver.unplug(port_id, "vpc-1"))
    assert not processes.armed
    assert cloud.do(lambda driver: driver.observe()) == {"vpc-1": ()}
    cloud.do(lambda driver: driver.unplug(port_id, "vpc-1"))


@pytest.mark.parametrize("after_all", [False, True], ids=["without effect", "the device went by itself"])
def test_a_vpc_goes_while_its_devices_do(cloud: Cloud, after_all: bool) -> None:
    processes = failing(cloud, after_all=after_all)
    processes.armed = True
    if not after_all:
        with pytest.raises(DriverFault):
            cloud.do(lambda driver: driver.remove_all())
        assert set(cloud.do(lambda driver: driver.observe())) == {"vpc-1"}
    cloud.do(lambda driver: driver.remove_all())
    assert not processes.armed
    assert cloud.do(lambda driver: driver.observe()) == {}
