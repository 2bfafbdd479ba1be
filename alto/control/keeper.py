"""Forgets what has had its time: after an hour (as EC2 lists them) terminated instances, NAT gateways that failed or are
deleted, ranges that were disassociated and images that were deregistered, client tokens when they say so."""

from collections.abc import Sequence

from msgspec.structs import replace

from alto.kit.world import Clock
from alto.model.accounts import ClientToken
from alto.model.images import FormerImage
from alto.model.instances import Instance, Phase
from alto.model.networks import Subnet, Vpc
from alto.model.records import Record
from alto.model.routing import NatGateway
from alto.store.store import Reader, Store, Tx

TERMINATED_SHOWN_S = 3600.0
# One transaction forgets so many, so that it stays short.
BATCH = 500


class Keeper:
    watches: Sequence[type[Record]] = ()
    sweep_s = 60.0

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def reconcile(self) -> float | None:
        now = self._clock.now()
        instances = self._store.read(
            lambda reader: [
                one.id
                for one in reader.where(Instance, phase=Phase.TERMINATED)
                if one.ended_at is not None and now - one.ended_at > TERMINATED_SHOWN_S
            ]
        )
        tokens = self._store.read(lambda reader: [one.id for one in reader.where(ClientToken) if one.expires_at < now])
        gateways = self._store.read(
            lambda reader: [
                one.id
                for one in reader.where(NatGateway)
                if not one.holds and now - (one.deleted_at or one.created_at) > TERMINATED_SHOWN_S
            ]
        )
        images = self._store.read(
            lambda reader: [one.id for one in reader.where(FormerImage) if now - one.ended_at > TERMINATED_SHOWN_S]
        )
        for kind in (Vpc, Subnet):
            await self._forget_ranges(kind, now - TERMINATED_SHOWN_S)
        await self._forget(Instance, instances)
        await self._forget(NatGateway, gateways)
        await self._forget(FormerImage, images)
        await self._forget(ClientToken, tokens)
        return None

    async def _forget_ranges(self, kind: type[Vpc] | type[Subnet], before: float) -> None:
        def outdated(reader: Reader) -> Sequence[Vpc | Subnet]:
            return [one for one in reader.where(kind) if any(each.ended_at < before for each in one.former)]

        def body(tx: Tx) -> None:
            for one in outdated(tx)[:BATCH]:
                tx.put(replace(one, former=tuple(each for each in one.former if each.ended_at >= before)))

        if self._store.read(outdated):
            await self._store.write(body)

    async def _forget(self, kind: type[Record], ids: Sequence[str]) -> None:
        for start in range(0, len(ids), BATCH):

            def body(tx: Tx, chunk: Sequence[str] = ids[start : start + BATCH]) -> None:
                for id in chunk:
                    tx.delete(kind, id)

            await self._store.write(body)
