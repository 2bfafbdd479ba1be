"""Choose a host. Same input, same answer: no clock, no chance, no I/O, no store.

The emptiest host first (by free share of memory, then of processors), so that load spreads; ties go to the lowest id. Of a
partition group's partitions the one with the fewest members that a host can take. An instance of dedicated tenancy goes to a
host that has only its account's instances already, before it takes one that has none; never to the last that all accounts
share, or one account could keep all others out of the cloud.
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import msgspec

from alto.model.hosts import Host, HostState
from alto.model.images import host_kind_of
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance
from alto.model.placement_groups import PlacementGroup, PlacementMember, Strategy
from alto.plan.instances import holds_capacity

LEFT_FOR_ALL = "left to the tenancy 'default', as the last that all accounts share"  # of `last_shared`


class Neighbours:
    """Where a placement group's members are. Not frozen: `join` adds while a batch is placed."""

    def __init__(self, group: PlacementGroup, members: Iterable[PlacementMember]) -> None:
        self._group = group
        self._partitions: dict[str, set[int]] = {}  # host id -> partitions of its members; 0 where there are none
        self._sizes = dict.fromkeys(range(1, group.partitions + 1), 0)
        for member in members:
            if member.host_id is not None:
                self.join(member.host_id, member.partition)

    def join(self, host_id: str, partition: int | None) -> None:
        self._partitions.setdefault(host_id, set()).add(partition or 0)
        if partition is not None:
            self._sizes[partition] += 1

    def partitions(self) -> list[int | None]:
        """Those to try for a member that asks for none, best first."""
        if self._group.strategy is not Strategy.PARTITION:
            return [None]
        return [*sorted(self._sizes, key=lambda number: (self._sizes[number], number))]

    def refuses(self, host_id: str, partition: int | None) -> str | None:
        """Why a member does not go to this host."""
        here = self._partitions.get(host_id)
        match self._group.strategy:
            case Strategy.SPREAD if here is not None:
                return f"with another member of the spread placement group {self._group.name}"
            case Strategy.CLUSTER if self._partitions and here is None:
                return f"away from the other members of the cluster placement group {self._group.name}"
            case Strategy.PARTITION if here is not None and here != {partition}:
                return f"with another partition of the placement group {self._group.name}"
        return None


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    instance_type: str
    vcpus: int
    memory_mib: int
    host_kind: str = "qemu"  # what the image is made for
    host_id: str | None = None  # this one and no other
    group: Neighbours | None = None
    partition: int | None = None  # of the group
    disk_gib: int = 0
    storage: str | None = None  # where its volumes must be; "": in any storage; None: it has none but its root
    ipv6: bool = False
    needs: str | None = None  # what only a host has that simulates: see InstanceType.needs
    account: str = ""
    dedicated: bool = False  # with no other account's instances


class Room(msgspec.Struct, kw_only=True):
    """What one host has left. Not frozen: `take` counts down while a batch is placed."""

    host_id: str
    name: str
    vcpus: int
    memory_mib: int
    vcpus_free: int
    memory_mib_free: int
    disk_gib_free: int | None = None  # None: nobody counts it
    storage: str = ""
    kind: str = "qemu"
    ipv6: bool = True
    dedicated_to: str | None = None  # the account whose instances alone it takes
    accounts: set[str] | None = None  # whose instances hold room there; None: not looked, see `look_around`
    refuses: str | None = None  # "draining": why it takes nothing, whatever it has left
    free: tuple[float, float] = (0.0, 0.0)  # shares of memory and of processors: the greater, the emptier

    def __post_init__(self) -> None:
        self.weigh()

    def weigh(self) -> None:
        self.free = self.memory_mib_free / (self.memory_mib or 1), self.vcpus_free / (self.vcpus or 1)

    def lacks(self, demand: Demand) -> str | None:
        """Why `demand` does not go here, as the tenant will read it; None when it fits."""
        if self.refuses:
            return self.refuses
        if not runs(self.kind, demand.host_kind):
            return f"of kind {self.kind}, and the image is for {demand.host_kind}"
        if demand.needs is not None and self.kind != "fake":
            return f"without {demand.needs}"
        if demand.host_id is not None and demand.host_id != self.host_id:
            return "other than the one asked for"
        if self.dedicated_to is not None or demand.dedicated:
            others = self.keeps_out(demand.account, dedicated=demand.dedicated)
            if others is not None:
                return others
        if demand.group is not None:
            apart = demand.group.refuses(self.host_id, demand.partition)
            if apart is not None:
                return apart
        if demand.memory_mib > self.memory_mib_free:
            return "short of memory"
        if demand.vcpus > self.vcpus_free:
            return "short of processors"
        if demand.ipv6 and not self.ipv6:
            return "without IPv6"
        if demand.storage is not None and (not self.storage or demand.storage not in ("", self.storage)):
            return "without the storage that its volumes need"
        if self.disk_gib_free is not None and demand.disk_gib > self.disk_gib_free:
            return "short of disk"
        return None

    def keeps_out(self, account: str, *, dedicated: bool) -> str | None:
        """Why its instances and this account's do not stand beside each other."""
        if self.dedicated_to is not None and self.dedicated_to != account:
            return "kept for dedicated instances of another account"
        if dedicated:
            assert self.accounts is not None, "look_around comes first"
            if not self.accounts <= {account}:
                return "shared with other accounts, and a dedicated one is needed"
        return None


def runs(host_kind: str, image_kind: str) -> bool:
    """Whether a host of this kind can ever run an image that is made for that one: one that simulates runs all."""
    return host_kind in (image_kind, "fake")


def demand_of(instance: Instance) -> Demand:
    """What an instance needs that has not been on a host yet."""
    type = CATALOGUE.get(instance.instance_type)
    return Demand(
        instance_type=instance.instance_type,
        vcpus=instance.vcpus,
        memory_mib=instance.memory_mib,
        host_kind=host_kind_of(instance.image_source),
        disk_gib=disk_of(instance),
        storage=instance.storage,
        ipv6=any(nic.ipv6 for nic in instance.nics),
        needs=type.needs if type is not None else None,
        account=instance.account,
        dedicated=instance.is_dedicated,
    )


def disk_of(instance: Instance) -> int:
    """GiB of the volumes that are made with it."""
    gib = instance.root.size_gib
    return gib + sum(one.size_gib for one in instance.volumes if one.made_here) if instance.volumes else gib


def room_of(host: Host) -> Room:
    refuses = None
    if host.state is HostState.UNREACHABLE:
        refuses = "not heard of"
    elif host.draining:
        refuses = "draining"
    elif host.pressure:
        refuses = f"with {' and '.join(host.pressure)} nearly used up"
    return Room(
        host_id=host.id,
        name=host.name,
        kind=host.capabilities.kind,
        vcpus=host.vcpus,
        memory_mib=host.memory_mib,
        vcpus_free=host.vcpus - host.vcpus_used,
        memory_mib_free=host.memory_mib - host.memory_mib_used,
        disk_gib_free=host.disk_gib - host.disk_gib_used if host.disk_gib is not None else None,
        storage=host.capabilities.storage,
        ipv6=host.capabilities.ipv6,
        dedicated_to=host.dedicated.account if host.dedicated is not None else None,
        refuses=refuses,
    )


def look_around(rooms: Iterable[Room], instances_on: Callable[[str], Iterable[Instance]]) -> None:
    """Find out whose instances are on each host, which only a dedicated demand asks: an ordinary one does not pay for it."""
    for room in rooms:
        if room.accounts is None:
            room.accounts = {one.account for one in instances_on(room.host_id) if holds_capacity(one)}


class Placed(msgspec.Struct, frozen=True):
    host_id: str
    partition: int | None = None


class Unplaced(msgspec.Struct, frozen=True):
    why: str


def place(demand: Demand, rooms: Sequence[Room]) -> Placed | Unplaced:
    """The host for one instance, or the sentence that says why there is none. Does not count down: see `take`."""
    if demand.group is not None and demand.partition is None:
        answer: Placed | Unplaced = Unplaced("")
        for partition in demand.group.partitions():
            answer = _best(msgspec.structs.replace(demand, partition=partition), rooms)
            if isinstance(answer, Placed):
                break
        return answer
    return _best(demand, rooms)


def last_shared(demand: Demand, rooms: Sequence[Room]) -> Room | None:
    """The only host left that no account has for itself, of those that could take such an instance: no dedicated one does."""
    if not demand.dedicated:
        return None
    shared = [r for r in rooms if r.dedicated_to is None and r.refuses is None and r.kind in (demand.host_kind, "fake")]
    return shared[0] if len(shared) == 1 else None


def _best(demand: Demand, rooms: Sequence[Room]) -> Placed | Unplaced:
    best: Room | None = None
    best_score: tuple[float, ...] = ()
    last = last_shared(demand, rooms)
    for room in rooms:
        # Dedicated instances keep whole hosts from others: as few hosts as can be.
        score = (bool(room.accounts), *room.free) if demand.dedicated else room.free
        if score < best_score or (score == best_score and best is not None and room.host_id > best.host_id):
            continue  # whatever it lacks
        if room is not last and room.lacks(demand) is None:
            best, best_score = room, score
    if best is None:
        return Unplaced(why_nowhere(demand, rooms))
    return Placed(best.host_id, demand.partition)


def take(demand: Demand, room: Room, partition: int | None = None) -> None:
    room.vcpus_free -= demand.vcpus
    room.memory_mib_free -= demand.memory_mib
    if room.disk_gib_free is not None:
        room.disk_gib_free -= demand.disk_gib
    room.weigh()
    if room.accounts is not None:
        room.accounts = {*room.accounts, demand.account}
    if demand.dedicated:
        room.dedicated_to = demand.account
    if demand.group is not None:
        demand.group.join(room.host_id, partition)


def fitting(demand: Demand, count: int, rooms: Iterable[Room]) -> int:
    """How many of `count` such instances fit beside each other now; asks for no more rooms than it must, and leaves them as
    they are."""
    if demand.group is not None or demand.dedicated:
        return _one_by_one(demand, count, rooms)
    left = count
    for room in rooms:
        if room.lacks(demand) is None:
            by_memory = room.memory_mib_free // max(demand.memory_mib, 1)
            here = min(by_memory, room.vcpus_free // max(demand.vcpus, 1))
            if room.disk_gib_free is not None:
                here = min(here, room.disk_gib_free // max(demand.disk_gib, 1))
            left -= here
            if left <= 0:
                return count
    return count - left


def _one_by_one(demand: Demand, count: int, rooms: Iterable[Room]) -> int:
    """Each changes what the next may have."""
    left = {room.host_id: copy.copy(room) for room in rooms}
    mine = msgspec.structs.replace(demand, group=copy.deepcopy(demand.group))
    for done in range(count):
        match place(mine, list(left.values())):
            case Placed(host_id, partition):
                take(mine, left[host_id], partition)
            case Unplaced():
                return done
    return count


def why_nowhere(demand: Demand, rooms: Sequence[Room]) -> str:
    """One sentence that counts what each host lacked, most frequent first."""
    wanted = f"{demand.instance_type} ({demand.vcpus} vCPUs, {demand.memory_mib} MiB)"
    if not rooms:
        return f"no host fits {wanted}: this cloud has no host yet; its operator adds one (alto host token create)"
    counts: dict[str, int] = {}
    last = last_shared(demand, rooms)
    for room in rooms:
        reason = room.lacks(demand) or (LEFT_FOR_ALL if room is last else None) or "with room for fewer than were asked for"
        counts[reason] = counts.get(reason, 0) + 1
    parts = [
        f"{n} {'host' if n == 1 else 'hosts'} {reason}" for reason, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))
    ]
    return f"no host fits {wanted}: " + ", ".join(parts)
