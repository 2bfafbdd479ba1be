"""The scheduler. Goal: what waits is placed, with its room claimed in the same transaction; what was given to a host that fell
silent is never given to another, and says what it waits for. Method: the real store in memory; counters are added up here."""

import asyncio

from msgspec.structs import replace

from alto.control.scheduler import Scheduler
from alto.model.hosts import Capabilities, Host, HostState
from alto.model.instances import Instance, Phase, Report
from alto.plan.instances import accept
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.plan.test_instances import instance


def host(number: int, **more: object) -> Host:
    made = Host(
        id=f"h-{number}",
        name=f"host-{number}",
        capabilities=Capabilities(kind="fake", accelerator="none", vcpus=4, memory_mib=512),
        vcpus=4,
        memory_mib=512,
        joined_at=0.0,
    )
    return replace(made, **more)


def waiting(number: int) -> Instance:
    return instance(id=f"i-{number}", host_id=None, epoch=0, phase=Phase.PENDING)


async def store_with(*records: Host | Instance) -> SqliteStore:
    store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
    await store.write(lambda tx: [tx.put(record) for record in records])
    return store


def rows(store: SqliteStore) -> tuple[dict[str, Instance], dict[str, Host]]:
    return store.read(lambda r: ({i.id: i for i in r.where(Instance)}, {h.id: h for h in r.where(Host)}))


def test_room_is_claimed_with_the_placement_and_the_rest_says_why_it_waits() -> None:
    asyncio.run(_room_is_claimed_with_the_placement_and_the_rest_says_why_it_waits())


async def _room_is_claimed_with_the_placement_and_the_rest_says_why_it_waits() -> None:
    store = await store_with(host(1), host(2), *(waiting(n) for n in range(10)))
    await Scheduler(store).reconcile()
    instances, hosts = rows(store)
    placed = [one for one in instances.values() if one.phase is Phase.PLACED]
    assert len(placed) == 8
    assert all(one.epoch == 1 for one in placed)
    for one in hosts.values():
        mine = [i for i in placed if i.host_id == one.id]
        assert (one.vcpus_used, one.memory_mib_used, one.instances) == (4, 512, 4) == (len(mine), 128 * len(mine), len(mine))
    reasons = {one.waiting_because for one in instances.values() if one.phase is Phase.PENDING}
    assert reasons == {"no host fits m1.tiny (1 vCPUs, 128 MiB): 2 hosts short of memory"}
    await store.write(lambda tx: tx.put(host(3)))
    await Scheduler(store).reconcile()
    assert all(one.phase is Phase.PLACED for one in rows(store)[0].values())


def test_what_was_given_to_a_host_that_fell_silent_waits_and_says_so() -> None:
    asyncio.run(_what_was_given_to_a_host_that_fell_silent_waits_and_says_so())


async def _what_was_given_to_a_host_that_fell_silent_waits_and_says_so() -> None:
    store = await store_with(host(1), waiting(1))
    await Scheduler(store).reconcile()
    await store.write(lambda tx: tx.put(host(2)))

    async def turns(state: HostState) -> Instance:
        await store.write(lambda tx: tx.put(replace(tx.get(Host, "h-1"), state=state)))
        await Scheduler(store).reconcile()
        return rows(store)[0]["i-1"]

    silent = await turns(HostState.UNREACHABLE)
    assert silent.host_id == "h-1", "the silent host may run it: another one must not"
    assert silent.waiting_because == "its host is not heard of; it goes on when the host is back"
    back = await turns(HostState.READY)
    assert (back.host_id, back.waiting_because, back.epoch) == ("h-1", None, 1)
    heard = accept(back, Report(instance_id="i-1", epoch=1, incarnation=1, phase=Phase.RUNNING, at=9.0))
    assert heard is not None
    assert heard.phase is Phase.RUNNING
