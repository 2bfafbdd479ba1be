"""Leases: one holder at a time, and an epoch that rises at each change of holder, whatever happened between."""

import asyncio

import pytest

from alto.model.errors import Conflict
from alto.store.leases import Lease, acquire, release, renew
from alto.store.store import Store
from tests.store.conftest import Engine


async def take(store: Store, holder: str, now: float) -> Lease | None:
    return await store.write(lambda tx: acquire(tx, "scheduler", holder, now=now, duration_s=10.0))


def test_a_lease_has_one_holder_until_it_expires(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        first = await take(store, "a", 100.0)
        assert first is not None
        assert (first.holder, first.epoch, first.expires_at) == ("a", 1, 110.0)
        assert await take(store, "b", 109.9) is None
        second = await take(store, "b", 110.0)
        assert second is not None
        assert (second.holder, second.epoch, second.expires_at) == ("b", 2, 120.0)

    engine.run(scenario)


def test_renewing_keeps_the_epoch_and_a_lost_lease_cannot_be_renewed(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        mine = await take(store, "a", 100.0)
        assert mine is not None
        renewed = await store.write(lambda tx: renew(tx, mine, now=109.0, duration_s=10.0))
        assert (renewed.epoch, renewed.expires_at) == (1, 119.0)
        again = await take(store, "a", 110.0)
        assert again is not None
        assert again.epoch == 1
        with pytest.raises(Conflict):  # expired, though nobody else took it
            await store.write(lambda tx: renew(tx, mine, now=121.0, duration_s=10.0))
        assert await take(store, "b", 121.0) is not None
        with pytest.raises(Conflict):
            await store.write(lambda tx: renew(tx, mine, now=122.0, duration_s=10.0))

    engine.run(scenario)


def test_who_comes_back_after_its_end_has_a_new_epoch(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await take(store, "a", 100.0)
        back = await take(store, "a", 200.0)
        assert back is not None
        assert back.epoch == 2

    engine.run(scenario)


def test_a_released_lease_is_free_at_once_under_the_next_epoch(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        mine = await take(store, "a", 100.0)
        assert mine is not None
        await store.write(lambda tx: release(tx, mine))
        await store.write(lambda tx: release(tx, mine))
        theirs = await take(store, "b", 101.0)
        assert theirs is not None
        assert theirs.epoch == 2
        await store.write(lambda tx: release(tx, mine))  # too late: it is another's
        assert await take(store, "c", 102.0) is None

    engine.run(scenario)


def test_of_many_who_ask_at_once_one_gets_it(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        answers = await asyncio.gather(*(take(store, f"holder-{n}", 100.0) for n in range(20)))
        assert len([answer for answer in answers if answer is not None]) == 1

    engine.run(scenario)
