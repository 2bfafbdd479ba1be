"""A host leaves: what was on it is lost, is told so, and gives back what it held, all in one transaction.

For hosts that are gone, or fenced, or empty. What a host that is not gone after all must take away when it comes back is
written down by name (tombstones): absence is no order to destroy, this is. Not here: who may order it.
"""

from msgspec.structs import replace

from alto.model.balancers import LoadBalancer
from alto.model.hosts import Host, HostState
from alto.model.instances import Instance, Phase, StateReason, Wish
from alto.model.joining import FormerHost
from alto.store.claims import release_all
from alto.store.store import Tx
from alto.store.volumes import lose_storage

LOST = StateReason(code="Server.InternalError", message="Server.InternalError: The host of this instance is lost")


def forget_host(tx: Tx, host: Host, *, now: float) -> list[str]:
    """No row of the host is left but the memory of it. Returns the ids of the instances that were lost with it."""
    lost = _lose_all(tx, host, now=now, replaced=False)
    tx.delete(Host, host.id)
    return lost


def vacate_host(tx: Tx, host: Host, *, now: float) -> list[str]:
    """The host keeps its id and name for the machine that comes next; what was on the last one is lost."""
    lost = _lose_all(tx, host, now=now, replaced=True)
    vacant = replace(
        host,
        key=None,
        run="",
        starts=0,
        state=HostState.UNREACHABLE,
        vcpus_used=0,
        memory_mib_used=0,
        disk_gib_used=0,
        instances=0,
        dedicated=None,
    )
    tx.put(vacant)
    return lost


def _lose_all(tx: Tx, host: Host, *, now: float, replaced: bool) -> list[str]:
    tombstones, lost = [], []
    for instance in tx.where(Instance, host_id=host.id):
        tombstones.append((instance.id, instance.epoch))
        if instance.phase is Phase.TERMINATED:
            continue
        # Off the host in the next epoch: no report of the old one is news.
        gone = replace(
            instance,
            wish=Wish.TERMINATED,
            phase=Phase.TERMINATED,
            reason=instance.reason if instance.wish is Wish.TERMINATED and instance.reason else LOST,
            host_id=None,
            epoch=instance.epoch + 1,
            ended_at=now,
            waiting_because=None,
        )
        release_all(tx, gone)
        tx.put(gone)
        lost.append(instance.id)
    lose_storage(tx, host)
    for balancer in tx.where(LoadBalancer, host_id=host.id):
        tx.put(replace(balancer, host_id=None, ready=False, health=()))
    if host.key is None and not tombstones:
        return []  # nobody can come back in its name with anything
    former = FormerHost(
        id=host.key or host.id,
        host_id=host.id,
        name=host.name,
        replaced=replaced,
        removed_at=now,
        tombstones=tuple(tombstones),
    )
    known = tx.find(FormerHost, former.id)
    if known is not None:
        merged = {**dict(known.tombstones), **dict(former.tombstones)}
        former = replace(former, version=known.version, tombstones=tuple(sorted(merged.items())))
    tx.put(former)
    return lost
