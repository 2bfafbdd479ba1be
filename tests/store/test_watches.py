"""Watches say that rows changed, once per row, never before it is committed, and "everything" rather than growing."""

import asyncio

import pytest

from alto.store.store import Store, Tx
from alto.store.watches import CHANGES_MAX
from tests.store.conftest import Engine
from tests.store.kinds import Box, Thing


def test_a_watch_names_rows_of_its_kinds_once(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        things, everything = store.watch(Thing), store.watch()
        await store.write(
            lambda tx: (tx.put(Thing(id="t-1")), tx.put(Thing(id="t-2")), tx.put(Box(id="b", room=Box.Room(slots=1))))
        )
        await store.write(lambda tx: tx.delete(Thing, "t-1"))
        assert await things.changed(timeout_s=5) == {("thing", "t-1"), ("thing", "t-2")}
        assert await everything.changed(timeout_s=5) == {("thing", "t-1"), ("thing", "t-2"), ("box", "b")}
        assert await things.changed(timeout_s=0.01) == frozenset()

    engine.run(scenario)


def test_a_sleeping_watcher_is_woken(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        watch = store.watch(Thing)
        waiting = asyncio.ensure_future(watch.changed(timeout_s=30))
        await asyncio.sleep(0)
        await store.write(lambda tx: tx.put(Thing(id="t-1")))
        # What it was told about can be read by now.
        assert await waiting == {("thing", "t-1")}

    engine.run(scenario)


def test_what_was_rolled_back_or_did_not_happen_is_not_told(engine: Engine) -> None:
    def failing(tx: Tx) -> None:
        tx.put(Thing(id="t-1"))
        raise KeyError

    async def scenario(store: Store) -> None:
        watch = store.watch(Thing)
        bodies = (failing, lambda tx: tx.put(Thing(id="t-2")), failing, lambda tx: tx.delete(Thing, "none"))
        await asyncio.gather(*(store.write(body) for body in bodies), return_exceptions=True)
        assert await watch.changed(timeout_s=5) == {("thing", "t-2")}
        assert await watch.changed(timeout_s=0.01) == frozenset()

    engine.run(scenario)


def test_too_much_to_remember_is_everything(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        watch = store.watch(Thing)
        await store.write(lambda tx: [tx.put(Thing(id=f"t-{n}")) for n in range(CHANGES_MAX + 1)])
        assert ("*", "*") in await watch.changed(timeout_s=5)
        await store.write(lambda tx: tx.put(Thing(id="last")))
        assert await watch.changed(timeout_s=5) == {("thing", "last")}

    engine.run(scenario)


def test_a_cancelled_wait_loses_nothing_and_a_closed_watch_hears_nothing(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        watch, closed = store.watch(Thing), store.watch(Thing)
        closed.close()
        closed.close()
        waiting = asyncio.ensure_future(watch.changed(timeout_s=30))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await store.write(lambda tx: tx.put(Thing(id="t-1")))
        assert await watch.changed(timeout_s=5) == {("thing", "t-1")}
        assert await closed.changed(timeout_s=0.01) == frozenset()

    engine.run(scenario)
