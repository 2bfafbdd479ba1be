"""Hosts that are to leave do leave: what runs there is terminated, and when nothing is left the host is forgotten.

A host that answers takes its machines away itself, as for any termination. One that falls silent meanwhile, or was silent
already, will not: whoever ordered it to leave by force said that it is gone, and what was on it is lost.
"""

from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from alto.kit.world import Clock
from alto.model.hosts import Host, HostState
from alto.model.instances import Instance, Phase, StateReason, Wish
from alto.model.records import Record
from alto.store.departures import forget_host
from alto.store.store import Store, Tx

log = structlog.get_logger()

REMOVED = StateReason(code="Server.InternalError", message="Server.InternalError: The host of this instance was removed")


class Hosts:
    watches: Sequence[type[Record]] = (Host, Instance)
    sweep_s = 30.0

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def reconcile(self) -> float | None:
        for host in self._store.read(lambda reader: reader.where(Host, leaving=True)):
            lost = await self._store.write(lambda tx, id=host.id: self._lead_out(tx, id))  # type: ignore[misc]
            if lost is not None:
                log.info("host removed", host=host.id, name=host.name, lost=lost)
        return None

    def _lead_out(self, tx: Tx, host_id: str) -> list[str] | None:
        """The instances that were lost with the host, once it is forgotten."""
        host = tx.find(Host, host_id)
        if host is None or not host.leaving:
            return None
        living = [one for one in tx.where(Instance, host_id=host.id) if one.phase is not Phase.TERMINATED]
        if not living or host.state is HostState.UNREACHABLE:
            return forget_host(tx, host, now=self._clock.now())
        for instance in living:
            if instance.wish is not Wish.TERMINATED:
                tx.put(replace(instance, wish=Wish.TERMINATED, reason=REMOVED))
        return None
