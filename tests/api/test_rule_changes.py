"""Goal: a changed rule, ACL or prefix list costs the hosts and the server what it changes, however large the VPC is and whoever
else there is.

Method: sessions of two hosts, spoken by hand; the first has an instance in a VPC with many groups, the second has none.
Rows that the server reads and bytes that it says are counted at three sizes. Then both have one, in a group each.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.model.acls import AclAssociation, AclEntry, NetworkAcl, PrefixList, PrefixListEntry
from alto.model.instances import Instance, Phase
from alto.model.network_plans import AclPlan, NetworkChange
from alto.model.networks import SecurityGroup, Subnet
from alto.model.records import Record
from alto.model.sessions import Assignments
from alto.store.store import Reader, Tx
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_beside_instances import IMAGE
from tests.api.test_sessions import HELLO
from tests.drivers.network.samples import allow, group

T = TypeVar("T")
Change = Callable[[Reader, str, str], list[Record]]


ACL, OTHER_ACL, LIST = "acl-00000000000000001", "acl-00000000000000002", "pl-00000000000000001"
ENTRY = AclEntry(number=7, egress=False, allow=False, protocol="6", cidr="10.9.0.0/16", from_port=22, to_port=22)
HERE = {"account": "000000000000", "region": "us-east-1"}


def one_more_rule(reader: Reader, id: str, vpc_id: str) -> list[Record]:
    old = reader.get(SecurityGroup, id)
    return [replace(old, permissions=(*old.permissions, allow("udp", 53, cidr="0.0.0.0/0", id="sgr-new")))]


def one_more_entry(reader: Reader, id: str, vpc_id: str) -> list[Record]:
    return [replace(reader.get(NetworkAcl, ACL), entries=(ENTRY,))]


def another_acl_for_a_subnet(reader: Reader, id: str, vpc_id: str) -> list[Record]:
    (default,) = (one for one in reader.where(NetworkAcl, vpc_id=vpc_id) if one.default)
    first = min(reader.where(Subnet, vpc_id=vpc_id), key=lambda one: one.id)
    left = tuple(one for one in default.associations if one.subnet_id != first.id)
    taken = AclAssociation(id="aclassoc-00000000000000001", subnet_id=first.id)
    return [replace(default, associations=left), replace(reader.get(NetworkAcl, OTHER_ACL), associations=(taken,))]


def one_more_range(reader: Reader, id: str, vpc_id: str) -> list[Record]:
    old = reader.get(PrefixList, LIST)
    return [replace(old, entries=(*old.entries, PrefixListEntry(cidr="192.0.2.0/24")))]


def a_rule_that_names_a_new_list(reader: Reader, id: str, vpc_id: str) -> list[Record]:
    old = reader.get(SecurityGroup, id)
    return [replace(old, permissions=(*old.permissions, allow("udp", 53, list="pl-00000000000000002", id="sgr-new")))]


# The change, the rows it may read, and whether the change that is said has what it made.
CHANGES: list[tuple[Change, int, Callable[[NetworkChange], bool]]] = [
    (one_more_rule, 2, lambda change: len(change.groups[0].permissions) == 27),
    (one_more_entry, 2, lambda change: change.acls == (AclPlan(id=ACL, entries=(ENTRY,)),)),
    (another_acl_for_a_subnet, 4, lambda change: [one.acl_id for one in change.subnets] == [OTHER_ACL]),
    (one_more_range, 2, lambda change: change.prefix_lists == {LIST: ("198.51.100.0/24", "192.0.2.0/24")}),
    (a_rule_that_names_a_new_list, 3, lambda change: list(change.prefix_lists) == ["pl-00000000000000002"]),
]


@pytest.mark.parametrize(("change", "rows", "has"), CHANGES, ids=[change.__name__ for change, _, _ in CHANGES])
def test_a_change_is_its_own_rows_and_words_to_the_hosts_that_have_its_vpc(
    cloud: Cloud, tenant: Tenant, change: Change, rows: int, has: Callable[[NetworkChange], bool]
) -> None:
    cloud.put(host(1, vcpus=64, memory_mib=64_000))
    cloud.put(tiny(size_gib=2))
    launched = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    vpc_id = cloud.store.read(lambda reader: reader.get(Instance, launched)).nic.vpc_id
    costs = {_cost(cloud, launched, vpc_id, count, change, has) for count in (10, 100, 400)}
    assert len(costs) == 1, costs
    assert costs.pop()[0] == rows  # each twice: to know whom it concerns, and to say it


def _cost(
    cloud: Cloud, launched: str, vpc_id: str, count: int, change: Change, has: Callable[[NetworkChange], bool]
) -> tuple[int, int]:
    """Rows read and bytes said for the change, with `count` groups of 25 rules."""
    rules = [allow("tcp", port, cidr="10.0.0.0/8") for port in range(25)]
    ids = [f"sg-{number:017x}" for number in range(count)]
    groups = {id: group(id, *rules, vpc_id=vpc_id) for id in ids}
    groups[ids[0]] = group(ids[0], *rules, allow("tcp", 1, list=LIST), vpc_id=vpc_id)
    lists = {LIST: "198.51.100.0/24", "pl-00000000000000002": "203.0.113.0/24"}
    _anew(
        cloud,
        *groups.values(),
        *(NetworkAcl(id=id, vpc_id=vpc_id, **HERE) for id in (ACL, OTHER_ACL)),
        *(
            PrefixList(id=id, name=id, max_entries=9, entries=(PrefixListEntry(cidr=cidr),), **HERE)
            for id, cidr in lists.items()
        ),
    )
    instance = cloud.store.read(lambda reader: reader.get(Instance, launched))
    _put_into(cloud, instance, "h-1", ids[7])
    read: list[str] = []

    async def body() -> tuple[Assignments, Assignments | None]:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        running = asyncio.create_task(sessions.run())
        links = [await sessions.hello(replace(HELLO, host_id=name, name=name)) for name in ("h-1", "h-2")]
        for link in links:
            assert await sessions.assignments(link, timeout_s=1.0) is not None
        news = cloud.store.read(lambda reader: change(reader, ids[7], vpc_id))
        _count_reads(cloud, read)

        def write(tx: Tx) -> None:
            for one in news:
                tx.put(one)

        await cloud.store.write(write)
        said = await sessions.assignments(links[0], timeout_s=5.0)
        others = await sessions.assignments(links[1], timeout_s=0.05)
        running.cancel()
        assert said is not None
        return said, others

    try:
        said, others = cloud.runner.run(body())
    finally:
        vars(cloud.store).pop("read", None)
    assert others is None
    assert not said.networks
    assert any(has(one) for one in said.network_changes), said
    # A version is as long as its number is great, whatever the VPC has.
    bare = [replace(one, groups=tuple(replace(each, version=0) for each in one.groups)) for one in said.network_changes]
    return len(read), len(msgspec.json.encode(bare))


def test_a_group_is_news_to_hosts_on_which_somebody_is_in_it_and_to_others_when_somebody_is(
    cloud: Cloud, tenant: Tenant
) -> None:
    cloud.put(host(1, vcpus=64, memory_mib=64_000))
    cloud.put(tiny(size_gib=2))
    made = [tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0] for _ in range(2)]
    vpc_id = str(made[0]["VpcId"])
    ids = [f"sg-{number:017x}" for number in range(3)]
    _anew(cloud, *(group(id, allow("tcp", 80, cidr="10.0.0.0/8"), vpc_id=vpc_id) for id in ids))
    rows = cloud.store.read(lambda reader: [reader.get(Instance, one["InstanceId"]) for one in made])
    for row, host_id, id in zip(rows, ("h-1", "h-2"), ids, strict=False):
        _put_into(cloud, row, host_id, id)

    async def write(*records: Record) -> None:
        await cloud.store.write(lambda tx: [tx.put(one) for one in records])

    async def body() -> None:
        sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        running = asyncio.create_task(sessions.run())
        links = {name: await sessions.hello(replace(HELLO, host_id=name, name=name)) for name in ("h-1", "h-2")}

        async def hears(name: str, timeout_s: float) -> tuple[NetworkChange, ...] | None:
            said = await sessions.assignments(links[name], timeout_s=timeout_s)
            assert said is None or said.full or not said.networks
            return said.network_changes if said is not None else None

        for name in links:
            await hears(name, 1.0)
        # A rule of the group that the first host's instance is in.
        changed = cloud.store.read(lambda reader: one_more_rule(reader, ids[0], vpc_id))
        await write(*changed)
        said = await hears("h-1", 5.0)
        assert said is not None
        assert [len(one.permissions) for change in said for one in change.groups] == [3]  # one lets everything out
        assert await hears("h-2", 0.1) is None
        # The second host's instance joins it.
        mine = cloud.store.read(lambda reader: reader.get(Instance, rows[1].id))
        await write(replace(mine, nics=(replace(mine.nic, group_ids=(ids[1], ids[0])),)))
        said = await hears("h-2", 5.0)
        assert said is not None
        assert [(one.id, len(one.permissions)) for change in said for one in change.groups] == [(ids[0], 3)]
        # A group that is new to both, and which a rule of the first names.
        fresh = group("sg-fffffffffffffffff", vpc_id=vpc_id)
        await write(fresh)
        assert [await hears(name, 0.1) for name in links] == [None, None]
        first = cloud.store.read(lambda reader: reader.get(SecurityGroup, ids[0]))
        await write(replace(first, permissions=(allow("tcp", 80, group=fresh.id),)))
        for name in links:
            said = await hears(name, 5.0)
            assert said is not None
            assert {one.id for change in said for one in change.groups} == {ids[0], fresh.id}
        running.cancel()

    cloud.runner.run(body())


def _put_into(cloud: Cloud, instance: Instance, host_id: str, group_id: str) -> None:
    nic = replace(instance.nic, group_ids=(group_id,))
    cloud.put(replace(instance, host_id=host_id, phase=Phase.PLACED, nics=(nic,)))


def _anew(cloud: Cloud, *records: Record) -> None:
    """As they are here, whatever an earlier size left of them; subnets with the default ACL."""

    def body(tx: Tx) -> None:
        for record in records:
            old = tx.find(type(record), record.id)
            tx.put(record if old is None else replace(record, version=old.version))
        for default in [one for one in tx.where(NetworkAcl) if one.default]:
            subnets = sorted(tx.where(Subnet, vpc_id=default.vpc_id), key=lambda one: one.id)
            own = (AclAssociation(id=f"aclassoc-{number:017x}", subnet_id=one.id) for number, one in enumerate(subnets, 16))
            tx.put(replace(default, associations=tuple(own)))

    cloud.runner.run(cloud.store.write(body))


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
