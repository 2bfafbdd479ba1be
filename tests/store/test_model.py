"""Any sequence of operations, against a dictionary: hypothesis looks for one after which the store and it disagree.

The dictionary knows the rules of `tests/store/kinds.py` in its own words: (account, name) is unique where both are there, an
old version is refused, a group's failing members leave nothing.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from alto.model.errors import AlreadyExists, AltoError, Conflict
from alto.store.store import Store, Tx
from tests.store.conftest import Engine, SqliteFile, SqliteInline
from tests.store.kinds import Thing

IDS = st.sampled_from([f"t-{n}" for n in range(6)])
NAMES = st.sampled_from([None, "a", "b"])
ACCOUNTS = st.sampled_from(["1", "2"])


class StoreAgainstDict(RuleBasedStateMachine):
    engine_class: type[Engine]

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.engine = self.engine_class(self.folder)
        self.store: Store = self.loop.run_until_complete(self.engine.open())
        self.model: dict[str, Thing] = {}
        self.old: list[Thing] = []
        self.last_version = 0

    def teardown(self) -> None:
        assert self.loop.run_until_complete(self.store.check()) == []  # what rows are looked up by is what they say
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def answer(self, *bodies: Callable[[Tx], object]) -> list[object]:
        async def all() -> list[object]:
            return await asyncio.gather(*(self.store.write(body) for body in bodies), return_exceptions=True)

        return self.loop.run_until_complete(all())

    def expected(self, thing: Thing) -> type[AltoError] | None:
        present = self.model.get(thing.id)
        if thing.version and (present is None or present.version != thing.version):
            return Conflict
        if not thing.version and present is not None:
            return AlreadyExists
        key = (thing.account, thing.name)
        others = [(other.account, other.name) for other in self.model.values() if other.id != thing.id]
        return AlreadyExists if thing.name is not None and key in others else None

    def check(self, thing: Thing, answer: object) -> None:
        wanted = self.expected(thing)
        if wanted is not None:
            assert isinstance(answer, wanted)
            return
        assert isinstance(answer, Thing)
        assert answer.version > self.last_version  # never given before
        assert answer == replace(thing, version=answer.version)
        self.last_version = answer.version
        self.model[thing.id] = answer
        self.old.append(answer)

    @rule(id=IDS, name=NAMES, account=ACCOUNTS)
    def insert(self, id: str, name: str | None, account: str) -> None:
        thing = Thing(id=id, name=name, account=account)
        self.check(thing, self.answer(lambda tx: tx.put(thing))[0])

    @rule(id=IDS, name=NAMES, account=ACCOUNTS)
    def change(self, id: str, name: str | None, account: str) -> None:
        if id in self.model:
            thing = replace(self.model[id], name=name, account=account)
            self.check(thing, self.answer(lambda tx: tx.put(thing))[0])

    @rule(data=st.data(), name=NAMES)
    def change_what_was_once_read(self, data: st.DataObject, name: str | None) -> None:
        if self.old:
            thing = replace(data.draw(st.sampled_from(self.old)), name=name)
            self.check(thing, self.answer(lambda tx: tx.put(thing))[0])

    @rule(ids=st.lists(st.tuples(IDS, NAMES, st.booleans()), min_size=2, max_size=6))
    def a_group(self, ids: list[tuple[str, str | None, bool]]) -> None:
        def body(thing: Thing, fails: bool) -> Callable[[Tx], object]:
            def run(tx: Tx) -> object:
                written = tx.put(thing)
                if fails:
                    raise KeyError
                return written

            return run

        things = [Thing(id=id, name=name) for id, name, _ in ids]
        answers = self.answer(*(body(thing, fails) for thing, (_, _, fails) in zip(things, ids, strict=True)))
        for thing, (_, _, fails), answer in zip(things, ids, answers, strict=True):
            if fails and self.expected(thing) is None:
                assert isinstance(answer, KeyError)
            else:
                self.check(thing, answer)

    @rule(id=IDS)
    def delete(self, id: str) -> None:
        assert self.answer(lambda tx: tx.delete(Thing, id)) == [None]
        self.model.pop(id, None)

    @rule()
    def open_again(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.store = self.loop.run_until_complete(self.engine.open())

    @rule(account=ACCOUNTS, after=IDS, limit=st.integers(0, 4))
    def page(self, account: str, after: str, limit: int) -> None:
        found = self.store.read(lambda reader: reader.where(Thing, account=account, after=after, limit=limit))
        wanted = [self.model[id] for id in sorted(self.model) if id > after and self.model[id].account == account]
        assert found == wanted[:limit]

    @invariant()
    def same(self) -> None:
        if hasattr(self, "store"):
            assert self.store.read(lambda reader: reader.where(Thing)) == [self.model[id] for id in sorted(self.model)]
            for id in ("t-0", "t-1"):
                assert self.store.read(lambda reader, id=id: reader.find(Thing, id)) == self.model.get(id)


class OnFile(StoreAgainstDict):
    engine_class = SqliteFile


class Inline(StoreAgainstDict):
    engine_class = SqliteInline


TestOnFile = OnFile.TestCase
TestOnFile.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestInline = Inline.TestCase
TestInline.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
