"""The keeper. Goal: what has had its time is forgotten, all of it and nothing else, however much there is, and nobody waits
for all of it. Method: the real store in memory with more rows of a kind than one transaction looks at."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from alto.control.keeper import BATCH, TERMINATED_SHOWN_S, Keeper
from alto.model.accounts import ClientToken
from alto.model.networks import FormerRange, Subnet
from alto.model.records import Record
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Reader, Tx
from tests.clocks import CountedClock

T = TypeVar("T")

NOW = 1_000_000.0
MANY = 3 * BATCH + 7
LONG_AGO = FormerRange(id="subnet-cidr-assoc-1", cidr="fd00::/64", ended_at=NOW - TERMINATED_SHOWN_S - 1)
LATELY = FormerRange(id="subnet-cidr-assoc-2", cidr="fd01::/64", ended_at=NOW - TERMINATED_SHOWN_S + 1)


def a_token(number: int, expires_at: float) -> ClientToken:
    return ClientToken(id=f"1/r/RunInstances/{number:05}", digest="d", result_id="i-1", expires_at=expires_at)


def a_subnet(number: int, *former: FormerRange) -> Subnet:
    return Subnet(
        id=f"subnet-{number:017x}", account="1", region="r", vpc_id="vpc-1", cidr="10.0.0.0/24", zone="a", former=former
    )


class CountingStore(SqliteStore):
    """Knows how many rows the longest answer had."""

    longest = 0

    def read(self, body: Callable[[Reader], T]) -> T:
        answer = super().read(body)
        self.longest = max(self.longest, len(answer)) if isinstance(answer, list) else self.longest
        return answer


def kept(*rows: Record) -> list[Record]:
    """What a sweep leaves of these rows, which are of one kind."""
    store = CountingStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))

    def body(tx: Tx) -> None:
        for row in rows:
            tx.put(row)

    async def sweep() -> None:
        await store.write(body)
        await Keeper(store, CountedClock(NOW)).reconcile()

    asyncio.run(sweep())
    assert store.longest <= BATCH
    return store.read(lambda reader: reader.where(type(rows[0])))


def test_outlived_tokens_are_forgotten_page_by_page() -> None:
    left = kept(*(a_token(number, NOW + (1 if number % 3 else -1)) for number in range(MANY)))

    assert [one.id for one in left] == [a_token(number, 0.0).id for number in range(MANY) if number % 3]


def test_ranges_are_forgotten_an_hour_after_they_ended() -> None:
    left = kept(*(a_subnet(number, LATELY, LONG_AGO) for number in range(MANY)))

    assert len(left) == MANY
    assert {one.former for one in left if isinstance(one, Subnet)} == {(LATELY,)}
