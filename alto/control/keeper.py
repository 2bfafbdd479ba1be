"""Forgets what has had its time: after an hour (as EC2 lists them) terminated instances, NAT gateways that failed or are
deleted, ranges that were disassociated and images that were deregistered, client tokens when they say so."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from alto.kit.world import Clock
from alto.model.accounts import ClientToken
from alto.model.images import FormerImage
from alto.model.instances import Instance, Phase
from alto.model.networks import Subnet, Vpc
from alto.model.records import Record
from alto.model.routing import NatGateway
from alto.store.store import Reader, Store, Tx

R = TypeVar("R", bound=Record)

TERMINATED_SHOWN_S = 3600.0
# One transaction looks at so many, and between two of them others have their turn.
BATCH = 500


class Keeper:
    watches: Sequence[type[Record]] = ()
    sweep_s = 60.0

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def reconcile(self) -> float | None:
        now = self._clock.now()
        before = now - TERMINATED_SHOWN_S

        def ended(one: Instance) -> bool:
            return one.ended_at is not None and one.ended_at < before

        def had_ranges(one: Vpc | Subnet) -> bool:
            return any(each.ended_at < before for each in one.former)

        def forget_ranges(tx: Tx, one: Vpc | Subnet) -> None:
            tx.put(replace(one, former=tuple(each for each in one.former if each.ended_at >= before)))

        await self._each(Instance, ended, _forget, phase=Phase.TERMINATED)
        await self._each(NatGateway, lambda one: not one.holds and (one.deleted_at or one.created_at) < before, _forget)
        await self._each(FormerImage, lambda one: one.ended_at < before, _forget)
        await self._each(ClientToken, lambda one: one.expires_at < now, _forget)
        await self._each(Vpc, had_ranges, forget_ranges)
        await self._each(Subnet, had_ranges, forget_ranges)
        return None

    async def _each(
        self, kind: type[R], is_over: Callable[[R], bool], change: Callable[[Tx, R], None], **equals: object
    ) -> None:
        """`change` each row with these field values that `is_over`."""
        after: str | None = None

        def page_of(reader: Reader) -> list[R]:
            return reader.where(kind, after=after, limit=BATCH, **equals)

        def change_page(tx: Tx) -> None:
            for one in filter(is_over, page_of(tx)):
                change(tx, one)

        while page := self._store.read(page_of):
            if any(map(is_over, page)):
                await self._store.write(change_page)
            if len(page) < BATCH:
                break
            after = page[-1].id
            await self._clock.sleep(0)


def _forget(tx: Tx, one: Record) -> None:
    tx.delete(type(one), one.id)
