"""What every store promises, on every engine: small scenarios through `Store` alone, answers written by hand."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from alto.model.errors import AlreadyExists, CapacityExceeded, Conflict, NotFound, Unavailable
from alto.store.store import Reader, Store, Tx
from tests.store.conftest import Engine
from tests.store.kinds import Box, Colour, Piece, Shape, Size, Thing, Token


async def put(store: Store, *things: Thing | Box | Token | Piece) -> None:
    def body(tx: Tx) -> None:
        for thing in things:
            tx.put(thing)

    await store.write(body)


def ids(store: Store, **equals: object) -> list[str]:
    return [thing.id for thing in store.read(lambda reader: reader.where(Thing, **equals))]


def test_what_was_written_is_read_back_whole_even_after_opening_again(engine: Engine) -> None:
    thing = Thing(
        id="t-1",
        name="näme\x00'\"",
        colour=Colour.BLUE,
        shape=Shape(corners=3, size=Size.LARGE),
        tags={"a": "1", "": "ü"},
    )

    async def write(store: Store) -> Thing:
        return await store.write(lambda tx: tx.put(thing))

    async def read(store: Store) -> Thing:
        return store.read(lambda reader: reader.get(Thing, "t-1"))

    written = engine.run(write)
    assert written == replace(thing, version=written.version)
    assert engine.run(read) == written


def test_versions_grow_and_a_stale_one_is_a_conflict_that_changes_nothing(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        first = await store.write(lambda tx: tx.put(Thing(id="t-1")))
        second = await store.write(lambda tx: tx.put(replace(first, region="there")))
        assert second.version > first.version > 0
        with pytest.raises(Conflict):
            await store.write(lambda tx: tx.put(replace(first, region="nowhere")))
        assert store.read(lambda reader: reader.get(Thing, "t-1")) == second

    engine.run(scenario)


def test_a_version_of_a_row_that_went_is_a_conflict_even_when_the_id_came_back(engine: Engine) -> None:
    # Addresses are ids of claims: they go and come back, and a writer may still hold the old claim.
    async def scenario(store: Store) -> None:
        old = await store.write(lambda tx: tx.put(Thing(id="127.0.0.1", region="old")))
        await store.write(lambda tx: tx.delete(Thing, "127.0.0.1"))
        with pytest.raises(Conflict):
            await store.write(lambda tx: tx.put(replace(old, region="late")))
        await store.write(lambda tx: tx.put(Thing(id="127.0.0.1", region="new")))
        with pytest.raises(Conflict):
            await store.write(lambda tx: tx.put(replace(old, region="late")))
        assert store.read(lambda reader: reader.get(Thing, "127.0.0.1")).region == "new"

    engine.run(scenario)


def test_what_is_not_there(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        assert store.read(lambda reader: reader.find(Thing, "t-1")) is None
        with pytest.raises(NotFound) as caught:
            store.read(lambda reader: reader.get(Thing, "t-1"))
        assert (caught.value.kind, caught.value.id) == ("thing", "t-1")
        await store.write(lambda tx: tx.delete(Thing, "t-1"))  # no error: deleting is idempotent

    engine.run(scenario)


def test_an_id_is_inserted_once(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1", name="first"))
        with pytest.raises(AlreadyExists) as caught:
            await put(store, Thing(id="t-1", name="second"))
        assert (caught.value.kind, caught.value.key) == ("thing", "id")
        assert store.read(lambda reader: reader.get(Thing, "t-1")).name == "first"

    engine.run(scenario)


def test_unique_keys_hold_where_no_field_is_null(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1", name="a"), Thing(id="t-2", name="b"), Thing(id="t-3"), Thing(id="t-4"))
        await put(store, Thing(id="t-5", name="a", account="2"))
        with pytest.raises(AlreadyExists) as caught:
            await put(store, Thing(id="t-6", name="a"))
        assert (caught.value.kind, caught.value.key) == ("thing", "account, name")
        with pytest.raises(AlreadyExists):
            await store.write(lambda tx: tx.put(replace(tx.get(Thing, "t-3"), name="b")))
        assert store.read(lambda reader: reader.get(Thing, "t-3")).name is None
        # Freed, it may be had again, even in the same transaction.
        await store.write(lambda tx: (tx.delete(Thing, "t-1"), tx.put(Thing(id="t-6", name="a"))))

    engine.run(scenario)


def test_a_body_may_catch_a_taken_key_and_go_on(engine: Engine) -> None:
    def body(tx: Tx) -> str:
        for name in ("a", "b", "c"):
            try:
                return tx.put(Thing(id=f"t-{name}", name=name)).id
            except AlreadyExists:
                continue
        return "none"

    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1", name="a"))
        assert await store.write(body) == "t-b"
        assert ids(store) == ["t-1", "t-b"]

    engine.run(scenario)


def test_guards_refuse_the_whole_transaction(engine: Engine) -> None:
    def take(slots: int, thing_id: str) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            box = tx.get(Box, "b-1")
            tx.put(Thing(id=thing_id))
            tx.put(replace(box, used=box.used + slots))

        return body

    async def scenario(store: Store) -> None:
        await put(store, Box(id="b-1", room=Box.Room(slots=3)))
        await store.write(take(2, "t-1"))
        for too_many in (2, -3):
            with pytest.raises(CapacityExceeded):
                await store.write(take(too_many, "t-2"))
        assert store.read(lambda reader: reader.get(Box, "b-1")).used == 2
        assert ids(store) == ["t-1"]

    engine.run(scenario)


def test_lookups_by_index(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await put(
            store,
            Thing(id="t-1", colour=Colour.RED, hidden=True),
            Thing(id="t-2", colour=Colour.BLUE, account="2", name="x"),
            Thing(id="t-3", region="there", shape=Shape(size=Size.LARGE)),
        )
        assert ids(store) == ["t-1", "t-2", "t-3"]
        assert ids(store, account="1") == ["t-1", "t-3"]
        assert ids(store, region="here", account="1") == ["t-1"]
        assert ids(store, account="3", region="here") == []
        assert ids(store, colour=Colour.RED) == ids(store, colour="red") == ["t-1"]
        assert ids(store, colour=None) == ["t-3"]
        assert ids(store, hidden=True) == ["t-1"]
        assert ids(store, hidden=False) == ["t-2", "t-3"]
        assert ids(store, **{"shape.size": Size.LARGE}) == ["t-3"]
        assert ids(store, account="2", name="x") == ["t-2"]  # a unique key is an index too
        assert store.read(lambda reader: (reader.count(Thing), reader.count(Thing, account="1"))) == (3, 2)
        for missing in ({"region": "here"}, {"account": "1", "colour": None}, {"tags": {}}):
            with pytest.raises(ValueError, match="no index"):
                ids(store, **missing)
            with pytest.raises(ValueError, match="no index"):
                store.read(lambda reader, missing=missing: reader.count(Thing, **missing))

    engine.run(scenario)


def test_pages_go_on_after_the_last_id_whatever_happens_between(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await put(store, *(Thing(id=f"t-{n:02}", account=str(n % 2)) for n in range(20)))

        def page(after: str | None, **equals: object) -> list[str]:
            return [t.id for t in store.read(lambda reader: reader.where(Thing, after=after, limit=4, **equals))]

        assert page(None) == ["t-00", "t-01", "t-02", "t-03"]
        assert page(None, account="1", region="here") == ["t-01", "t-03", "t-05", "t-07"]
        await store.write(lambda tx: tx.delete(Thing, "t-07"))
        assert page("t-07", account="1", region="here") == ["t-09", "t-11", "t-13", "t-15"]
        assert page("t-18") == ["t-19"]
        assert page("t-19") == []

    engine.run(scenario)


def test_an_idempotency_row_makes_a_retry_answer_the_same_and_make_nothing(engine: Engine) -> None:
    def launch(token: str, digest: str, new_id: str) -> Callable[[Tx], str]:
        def body(tx: Tx) -> str:
            known = tx.find(Token, token)
            if known is not None:
                if known.digest != digest:
                    raise Conflict("same token, other parameters")
                return known.result_id
            tx.put(Thing(id=new_id))
            tx.put(Token(id=token, digest=digest, result_id=new_id))
            return new_id

        return body

    async def scenario(store: Store) -> None:
        answers = await asyncio.gather(*(store.write(launch("token", "d", f"t-{n}")) for n in range(20)))
        assert len(set(answers)) == 1
        assert ids(store) == [answers[0]]
        with pytest.raises(Conflict):
            await store.write(launch("token", "other", "t-99"))

    engine.run(scenario)


def test_a_transaction_reads_its_own_writes_and_others_only_committed_ones(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        def body(tx: Tx) -> None:
            tx.put(Thing(id="t-1", colour=Colour.RED))
            assert [t.id for t in tx.where(Thing, colour=Colour.RED)] == ["t-1"]
            tx.put(replace(tx.get(Thing, "t-1"), colour=Colour.BLUE))
            assert tx.where(Thing, colour=Colour.RED) == []
            assert tx.get(Thing, "t-1").colour is Colour.BLUE
            raise KeyError("no")

        with pytest.raises(KeyError):
            await store.write(body)
        assert ids(store) == []

    engine.run(scenario)


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.read(lambda reader: reader.get(Thing, "t-1")).region,
        lambda store: store.read(lambda reader: reader.where(Thing, account="1"))[0].region,
    ],
    ids=["get", "where"],
)
def test_what_was_rolled_back_is_never_seen(engine: Engine, look: Callable[[Store], str]) -> None:
    def failing(tx: Tx) -> None:
        tx.put(replace(tx.get(Thing, "t-1"), region="never"))
        raise KeyError("no")

    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1"))
        for bodies in ((failing,), (failing, lambda tx: tx.put(Thing(id="t-2")), failing)):
            await asyncio.gather(*(store.write(body) for body in bodies), return_exceptions=True)
            assert look(store) == "here"
            assert await store.write(lambda tx: tx.get(Thing, "t-1").region) == "here"

    engine.run(scenario)


def test_what_a_failed_body_deleted_is_there_again(engine: Engine) -> None:
    def failing(tx: Tx) -> None:
        assert [thing.id for thing in tx.where(Thing, account="1")] == ["t-1"]
        tx.delete(Thing, "t-1")
        assert tx.where(Thing, account="1") == []
        assert tx.find(Thing, "t-1") is None
        raise KeyError("no")

    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1"))
        for bodies in ((failing,), (failing, lambda tx: tx.count(Thing))):
            await asyncio.gather(*(store.write(body) for body in bodies), return_exceptions=True)
            assert ids(store, account="1") == ["t-1"]
            assert store.read(lambda reader: reader.find(Thing, "t-1")) is not None

    engine.run(scenario)


def test_a_list_that_was_answered_is_the_callers_own(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1"))
        store.read(lambda reader: reader.where(Thing, account="1")).clear()
        assert ids(store, account="1") == ["t-1"]

    engine.run(scenario)


def test_in_a_group_a_failing_body_rolls_back_alone(engine: Engine) -> None:
    def body(number: int) -> Callable[[Tx], str]:
        def run(tx: Tx) -> str:
            thing = tx.put(Thing(id=f"t-{number:03}"))
            if number % 3 == 0:
                raise ValueError(f"number {number}")
            return thing.id

        return run

    async def scenario(store: Store) -> None:
        writes = [store.write(body(n), patient=n % 2 == 0) for n in range(200)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        for number, result in enumerate(results):
            if number % 3 == 0:
                assert isinstance(result, ValueError)
                assert str(result) == f"number {number}"
            else:
                assert result == f"t-{number:03}"
        assert ids(store) == [f"t-{n:03}" for n in range(200) if n % 3]

    engine.run(scenario)


def test_a_patient_write_is_done_though_nobody_else_comes(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        assert (await store.write(lambda tx: tx.put(Thing(id="t-1")), patient=True)).version > 0
        last = asyncio.create_task(store.write(lambda tx: tx.put(Thing(id="t-2")), patient=True))
        await asyncio.sleep(0)
        await store.close()
        assert (await last).id == "t-2"

    engine.run(scenario)

    async def look(store: Store) -> list[str]:
        return ids(store)

    assert engine.run(look) == ["t-1", "t-2"]


def test_racers_for_the_last_slots_get_exactly_the_capacity(engine: Engine) -> None:
    # The naive body does not look at the room: the guard alone must hold.
    def take(number: int) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            box = tx.get(Box, "b-1")
            tx.put(replace(box, used=box.used + 1))
            tx.put(Thing(id=f"t-{number:03}"))

        return body

    async def racer(store: Store, start: int) -> int:
        got = 0
        for number in range(start, start + 10):
            try:
                await store.write(take(number))
                got += 1
            except CapacityExceeded:
                pass
        return got

    async def scenario(store: Store) -> None:
        await put(store, Box(id="b-1", room=Box.Room(slots=37)))
        got = await asyncio.gather(*(racer(store, start) for start in range(0, 80, 10)))
        assert sum(got) == 37
        assert store.read(lambda reader: reader.get(Box, "b-1")).used == 37
        assert len(ids(store)) == 37

    engine.run(scenario)


def test_a_read_sees_one_moment(engine: Engine) -> None:
    # Two rows always change together; no read may see them apart, whatever commits meanwhile.
    async def flip(store: Store) -> None:
        for n in range(50):

            def body(tx: Tx, n: int = n) -> None:
                for id in ("t-1", "t-2"):
                    tx.put(replace(tx.get(Thing, id), region=str(n)))

            await store.write(body)

    def both(reader: Reader) -> tuple[str, str]:
        return reader.get(Thing, "t-1").region, reader.get(Thing, "t-2").region

    async def scenario(store: Store) -> None:
        await put(store, Thing(id="t-1"), Thing(id="t-2"))
        flipping = asyncio.ensure_future(flip(store))
        while not flipping.done():
            left, right = store.read(both)
            assert left == right
            await asyncio.sleep(0)
        await flipping

    engine.run(scenario)


def test_views_end_with_their_transaction(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        kept = await store.write(lambda tx: tx)
        with pytest.raises(AttributeError):
            kept.put(Thing(id="t-1"))
        with pytest.raises(AttributeError):
            store.read(lambda reader: reader).find(Thing, "t-1")

    engine.run(scenario)


def test_bodies_are_plain_functions_and_do_not_nest(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        async def body(tx: Tx) -> None:
            tx.put(Thing(id="t-1"))

        with pytest.raises(TypeError):
            await store.write(body)
        with pytest.raises(RuntimeError):
            await store.write(lambda tx: store.read(lambda reader: reader.count(Thing)))
        with pytest.raises(RuntimeError):
            await store.write(lambda tx: next(iter(())))  # StopIteration cannot pass through a future
        assert ids(store) == []

    engine.run(scenario)


def test_a_cancelled_writer_harms_no_other(engine: Engine) -> None:
    async def scenario(store: Store) -> None:
        doomed = [asyncio.ensure_future(store.write(lambda tx, n=n: tx.put(Thing(id=f"a-{n}")))) for n in range(5)]
        others = [asyncio.ensure_future(store.write(lambda tx, n=n: tx.put(Thing(id=f"b-{n}")))) for n in range(5)]
        await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*others)
        await asyncio.gather(*doomed, return_exceptions=True)
        assert [id for id in ids(store) if id.startswith("b")] == [f"b-{n}" for n in range(5)]
        await put(store, Thing(id="c"))

    engine.run(scenario)


def test_closing_finishes_what_was_asked_and_takes_no_more(engine: Engine) -> None:
    async def scenario() -> None:
        store = await engine.open()
        asked = [asyncio.ensure_future(store.write(lambda tx, n=n: tx.put(Thing(id=f"t-{n}")))) for n in range(5)]
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        await asyncio.gather(*asked)
        with pytest.raises(Unavailable):
            await put(store, Thing(id="late"))
        again = await engine.open()
        assert ids(again) == [f"t-{n}" for n in range(5)]
        await again.close()

    engine.loop(scenario())


def test_rows_with_ids_that_were_drawn(engine: Engine) -> None:
    """They stand in the order of their numbers, which is that of their ids; what was not drawn is not there."""
    numbers = [0, 1, 15, 16, 0x0AB3456789ABCDEF, 0x0FFFFFFFFFFFFFFE]
    drawn = [f"p-{number:017x}" for number in numbers]
    strangers = (
        "",
        "p-",
        "p-1",
        "p-x",
        "p-0000000000000001",
        "q-00000000000000001",
        "p-0000000000000001 ",
        f"p-{'f' * 17}",
        "p-1" + "0" * 40,
    )

    async def scenario(store: Store) -> None:
        await put(store, *[Piece(id=id, account="12"[at % 2], name=id) for at, id in enumerate(reversed(drawn))])
        everything = [one.id for one in store.read(lambda reader: reader.where(Piece))]
        assert everything == drawn == sorted(drawn)
        pages, after = [], ""
        while page := store.read(lambda reader, after=after: reader.where(Piece, account="1", after=after, limit=2)):  # type: ignore[misc]
            pages.append([one.id for one in page])
            after = page[-1].id
        assert pages == [[drawn[1], drawn[3]], [drawn[5]]]
        assert store.read(lambda reader: reader.where(Piece, after="p-x")) == []
        for id in strangers:
            assert store.read(lambda reader, id=id: reader.find(Piece, id)) is None, id  # type: ignore[misc]
            await store.write(lambda tx, id=id: tx.delete(Piece, id))  # type: ignore[misc]
        for id in ("p-x", f"p-{'f' * 17}"):
            with pytest.raises(ValueError, match=f"The piece '{id}' has no id that was drawn"):
                await store.write(lambda tx, id=id: tx.put(Piece(id=id)))  # type: ignore[misc]
        with pytest.raises(AlreadyExists):
            await store.write(lambda tx: tx.put(Piece(id=drawn[2])))
        with pytest.raises(AlreadyExists):
            await store.write(lambda tx: tx.put(Piece(id="p-00000000000000007", name=drawn[2])))
        second = store.read(lambda reader: reader.get(Piece, drawn[1]))
        await store.write(lambda tx: tx.put(replace(second, account="3")))
        with pytest.raises(Conflict):
            await store.write(lambda tx: tx.put(replace(second, account="4")))
        await store.write(lambda tx: tx.delete(Piece, drawn[0]))
        assert [one.id for one in store.read(lambda reader: reader.where(Piece))] == drawn[1:]
        assert store.read(lambda reader: reader.count(Piece, account="3")) == 1

    async def again(store: Store) -> list[str]:
        return [one.id for one in store.read(lambda reader: reader.where(Piece))]

    engine.run(scenario)
    assert engine.run(again) == drawn[1:]
