"""Goal: a changed rule costs the hosts and the server what it changes, however large the VPC is and whoever else there is.

Method: sessions of two hosts, spoken by hand; the first has an instance in a VPC with many groups, the second has none.
Rows that the server reads and bytes that it says are counted at three sizes.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.model.images import Image
from alto.model.instances import Instance, Phase
from alto.model.networks import SecurityGroup
from alto.model.sessions import Assignments
from alto.store.store import Reader
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.test_beside_instances import IMAGE
from tests.api.test_regions import host
from tests.api.test_sessions import HELLO
from tests.drivers.network.samples import allow, group

T = TypeVar("T")


def test_one_rule_is_one_row_and_one_group_to_the_hosts_that_have_its_vpc(cloud: Cloud, tenant: Tenant) -> None:
    cloud.put(host(1, vcpus=64, memory_mib=64_000))
    cloud.put(Image(id=IMAGE, account="0", region=None, name="tiny", public=True, source="tiny", size_gib=2, created_at=NOW))
    launched = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    vpc_id = cloud.store.read(lambda reader: reader.get(Instance, launched)).nic.vpc_id
    costs = {_cost(cloud, launched, vpc_id, count) for count in (10, 100, 400)}
    assert len(costs) == 1, costs
    assert costs.pop()[0] == 2  # the same row, to know whom it concerns and to say it


def _cost(cloud: Cloud, launched: str, vpc_id: str, count: int) -> tuple[int, int]:
    """Rows read and bytes said for one more rule, with `count` groups of 25 rules."""
    rules = [allow("tcp", port, cidr="10.0.0.0/8") for port in range(25)]
    have = cloud.store.read(lambda reader: {one.id for one in reader.where(SecurityGroup)})
    ids = [f"sg-{number:017x}" for number in range(count)]
    cloud.put(*(replace(group(id, *rules, vpc_id=vpc_id)) for id in ids if id not in have))
    instance = cloud.store.read(lambda reader: reader.get(Instance, launched))
    cloud.put(replace(instance, host_id="h-1", phase=Phase.PLACED))
    read: list[str] = []

    async def body() -> tuple[Assignments, Assignments | None]:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        running = asyncio.create_task(sessions.run())
        links = [await sessions.hello(replace(HELLO, host_id=name, name=name)) for name in ("h-1", "h-2")]
        for link in links:
            assert await sessions.assignments(link, timeout_s=1.0) is not None
        old = cloud.store.read(lambda reader: reader.get(SecurityGroup, ids[7]))
        more = replace(old, permissions=(*rules, allow("udp", 53, cidr="0.0.0.0/0")))
        _count_reads(cloud, read)
        await cloud.store.write(lambda tx: tx.put(more))
        news = await sessions.assignments(links[0], timeout_s=5.0)
        others = await sessions.assignments(links[1], timeout_s=0.05)
        running.cancel()
        assert news is not None
        return news, others

    try:
        news, others = cloud.runner.run(body())
    finally:
        vars(cloud.store).pop("read", None)
    assert others is None
    assert not news.networks
    assert [one.id for change in news.network_changes for one in change.groups] == [ids[7]]
    assert len(news.network_changes[0].groups[0].permissions) == 26
    # A version is as long as its number is great, whatever the VPC has.
    said = replace(news.network_changes[0], groups=(replace(news.network_changes[0].groups[0], version=0),))
    return len(read), len(msgspec.json.encode(said))


def _count_reads(cloud: Cloud, read: list[str]) -> None:
    """From now on each row that comes out of the store is noted."""
    true_read = cloud.store.read

    class Counting:
        def __init__(self, reader: Reader) -> None:
            self._reader = reader

        def find(self, kind: type, id: str) -> object:
            read.append(id)
            return self._reader.find(kind, id)

        def where(self, kind: type, **conditions: object) -> list[object]:
            rows = self._reader.where(kind, **conditions)  # type: ignore[arg-type]
            read.extend(row.id for row in rows)
            return rows

    def counted(body: Callable[[Reader], T]) -> T:
        return true_read(lambda reader: body(Counting(reader)))  # type: ignore[arg-type]

    cloud.store.read = counted  # type: ignore[method-assign]
