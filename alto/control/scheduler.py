"""Gives waiting instances a host. Reads the whole picture and places what is unplaced; takes no hint about what changed.

Room is claimed in the transaction that writes the placement, and the host's guard refuses what does not fit, so that no
race can overfill a host.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from alto.model.hosts import Host, HostState, dedication
from alto.model.instances import Instance, Phase, Wish
from alto.model.placement_groups import PlacementGroup, PlacementMember
from alto.model.records import Record
from alto.plan.placement import Neighbours, Placed, Unplaced, demand_of, disk_of, look_around, place, room_of, take
from alto.store.store import Reader, Store, Tx

# One transaction places so many, so that it stays short under a burst.
BATCH = 100


class Scheduler:
    watches: Sequence[type[Record]] = (Instance, Host)
    sweep_s = 30.0

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reconcile(self) -> float | None:
        if self._store.read(stranded):
            await self._store.write(explain_stranded)
        after: str | None = None
        while True:
            # Look first without the writer: most wake-ups are for changes that need no placement.
            waiting = self._store.read(lambda r, after=after: r.where(Instance, phase=Phase.PENDING, after=after, limit=BATCH))  # type: ignore[misc]
            if not waiting:
                return None
            after = await self._store.write(lambda tx, after=after: place_waiting(tx, after), patient=True)  # type: ignore[misc]
            if after is None:
                return None


def place_waiting(tx: Tx, after: str | None) -> str | None:
    """Place a batch of waiting instances with ids above `after`; returns the last id looked at, None at the end."""
    waiting = tx.where(Instance, phase=Phase.PENDING, after=after, limit=BATCH)
    if not waiting:
        return None
    hosts = {host.id: host for host in tx.where(Host)}
    rooms = {host.id: room_of(host) for host in hosts.values()}
    touched: dict[str, list[Instance]] = {}
    neighbours: dict[str, Neighbours] = {}
    for instance in waiting:
        if instance.wish is not Wish.RUNNING:
            continue
        demand = demand_of(instance)
        member: PlacementMember | None = None
        if instance.placement is not None:
            demand = replace(demand, host_id=instance.placement.host_id)
            if demand.dedicated:
                look_around(rooms.values(), lambda host_id: tx.where(Instance, host_id=host_id))
            member = tx.find(PlacementMember, instance.id)
            if member is not None:
                group = neighbours.get(member.group_id) or _neighbours(tx, member.group_id)
                neighbours[member.group_id] = group
                demand = replace(demand, group=group, partition=member.partition)
        match place(demand, list(rooms.values())):
            case Placed(host_id, partition):
                take(demand, rooms[host_id], partition)
                wish = instance.placement
                if member is not None and wish is not None:
                    tx.put(replace(member, host_id=host_id, partition=partition))
                    wish = replace(wish, partition=partition)
                touched.setdefault(host_id, []).append(instance)
                tx.put(
                    replace(
                        instance,
                        host_id=host_id,
                        epoch=instance.epoch + 1,
                        phase=Phase.PLACED,
                        placement=wish,
                        waiting_because=None,
                    )
                )
            case Unplaced(why):
                if instance.waiting_because != why:
                    tx.put(replace(instance, waiting_because=why))
    for host_id, placed in touched.items():
        host = hosts[host_id]
        dedicated = sum(one.is_dedicated for one in placed)
        tx.put(
            replace(
                host,
                vcpus_used=host.vcpus_used + sum(one.vcpus for one in placed),
                memory_mib_used=host.memory_mib_used + sum(one.memory_mib for one in placed),
                disk_gib_used=host.disk_gib_used + sum(disk_of(one) for one in placed),
                instances=host.instances + len(placed),
                dedicated=dedication(host.dedicated, placed[0].account, dedicated) if dedicated else host.dedicated,
            )
        )
    return waiting[-1].id if len(waiting) == BATCH else None


def _neighbours(reader: Reader, group_id: str) -> Neighbours:
    return Neighbours(reader.get(PlacementGroup, group_id), reader.where(PlacementMember, group_id=group_id))


def stranded(reader: Reader) -> list[Instance]:
    """Placed instances whose reason for waiting is not what it should be: their host fell silent, or is heard again.

    They are not moved: the silent host may run them by now, and an instance that runs twice is worse than one that waits
    (docs/adr/0007). They say so, and whoever cannot wait terminates them and launches others.
    """
    hosts = {host.id: host for host in reader.where(Host)}
    found = []
    for one in reader.where(Instance, phase=Phase.PLACED):
        host = hosts.get(one.host_id or "")
        silent = host is not None and host.state is HostState.UNREACHABLE
        why = "its host is not heard of; it goes on when the host is back" if silent else None
        if one.waiting_because != why:
            found.append(replace(one, waiting_because=why))
    return found


def explain_stranded(tx: Tx) -> None:
    for instance in stranded(tx):
        tx.put(instance)
