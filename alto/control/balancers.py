"""Keeps the members of every load balancer equal to the truth: who runs, who leaves, who is gone.

The host's own balancer measures health; a member takes traffic only after it answered there.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from alto.model.balancers import AutoScalingGroup, LoadBalancer
from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.model.records import Record
from alto.plan.balancing import targets
from alto.store.claims import release_public
from alto.store.store import Reader, Store, Tx


class Balancers:
    watches: Sequence[type[Record]] = (LoadBalancer, AutoScalingGroup, Instance, Host)
    sweep_s = 30.0

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reconcile(self) -> float | None:
        for balancer in self._store.read(lambda reader: reader.where(LoadBalancer)):
            changed = self._store.read(lambda reader, b=balancer: decide(reader, b))  # type: ignore[misc]
            if changed is not None:
                await self._store.write(lambda tx, id=balancer.id: self._write(tx, id))  # type: ignore[misc]
        return None

    def _write(self, tx: Tx, balancer_id: str) -> None:
        balancer = tx.find(LoadBalancer, balancer_id)
        changed = decide(tx, balancer) if balancer is not None else None
        if balancer is None or changed is None:
            return
        if _is_over(tx, balancer):
            tx.delete(LoadBalancer, balancer.id)
            release_public(tx, balancer.address, balancer.id)
        else:
            tx.put(changed)


def decide(reader: Reader, balancer: LoadBalancer) -> LoadBalancer | None:
    """The balancer as it should be; None when it is so."""
    group = _group_of(reader, balancer)
    members = reader.where(Instance, group_name=balancer.name, account=balancer.account, region=balancer.region)
    host_id = balancer.host_id
    if host_id is None:
        ready = [host for host in reader.where(Host) if host.takes_instances]
        # On the server's machine if that is a host: there people call its address.
        host_id = min(ready, key=lambda host: (host.key is not None, host.id)).id if ready else None
    wanted = replace(balancer, host_id=host_id, targets=targets(balancer, group, members))
    return wanted if wanted != balancer or _is_over(reader, balancer) else None


def _group_of(reader: Reader, balancer: LoadBalancer) -> AutoScalingGroup | None:
    groups = reader.where(AutoScalingGroup, account=balancer.account, region=balancer.region)
    return next((group for group in groups if group.load_balancer_id == balancer.id), None)


def _is_over(reader: Reader, balancer: LoadBalancer) -> bool:
    """A balancer that is being deleted goes when its group has gone, so that members drain behind it."""
    return balancer.deleting and _group_of(reader, balancer) is None
