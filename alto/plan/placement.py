"""Choose a host. Same input, same answer: no clock, no chance, no I/O, no store.

The emptiest host first (by free share of memory, then of processors), so that load spreads; ties go to the lowest id.
"""

from collections.abc import Iterable, Sequence

import msgspec

from alto.model.hosts import Host, HostState


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    instance_type: str
    vcpus: int
    memory_mib: int


class Room(msgspec.Struct, kw_only=True):
    """What one host has left. Not frozen: `take` counts down while a batch is placed."""

    host_id: str
    name: str
    vcpus: int
    memory_mib: int
    vcpus_free: int
    memory_mib_free: int
    refuses: str | None = None  # "draining": why it takes nothing, whatever it has left

    def lacks(self, demand: Demand) -> str | None:
        """Why `demand` does not go here, as the tenant will read it; None when it fits."""
        if self.refuses:
            return self.refuses
        if demand.memory_mib > self.memory_mib_free:
            return "short of memory"
        if demand.vcpus > self.vcpus_free:
            return "short of processors"
        return None


def room_of(host: Host) -> Room:
    refuses = None
    if host.state is HostState.UNREACHABLE:
        refuses = "not heard of"
    elif host.draining:
        refuses = "draining"
    return Room(
        host_id=host.id,
        name=host.name,
        vcpus=host.vcpus,
        memory_mib=host.memory_mib,
        vcpus_free=host.vcpus - host.vcpus_used,
        memory_mib_free=host.memory_mib - host.memory_mib_used,
        refuses=refuses,
    )


class Placed(msgspec.Struct, frozen=True):
    host_id: str


class Unplaced(msgspec.Struct, frozen=True):
    why: str


def place(demand: Demand, rooms: Sequence[Room]) -> Placed | Unplaced:
    """The host for one instance, or the sentence that says why there is none. Does not count down: see `take`."""
    best: Room | None = None
    best_score = (-1.0, -1.0)
    for room in rooms:
        if room.lacks(demand) is not None:
            continue
        score = (room.memory_mib_free / room.memory_mib, room.vcpus_free / max(room.vcpus, 1))
        if best is None or score > best_score or (score == best_score and room.host_id < best.host_id):
            best, best_score = room, score
    if best is None:
        return Unplaced(why_nowhere(demand, rooms))
    return Placed(best.host_id)


def take(demand: Demand, room: Room) -> None:
    room.vcpus_free -= demand.vcpus
    room.memory_mib_free -= demand.memory_mib


def fits_at_least(demand: Demand, count: int, rooms: Iterable[Room]) -> bool:
    """Whether `count` such instances fit beside each other now; asks for no more rooms than it must."""
    left = count
    for room in rooms:
        if room.lacks(demand) is None:
            by_memory = room.memory_mib_free // max(demand.memory_mib, 1)
            left -= min(by_memory, room.vcpus_free // max(demand.vcpus, 1))
            if left <= 0:
                return True
    return left <= 0


def why_nowhere(demand: Demand, rooms: Sequence[Room]) -> str:
    """One sentence that counts what each host lacked, most frequent first."""
    wanted = f"{demand.instance_type} ({demand.vcpus} vCPUs, {demand.memory_mib} MiB)"
    if not rooms:
        return f"no host fits {wanted}: this cloud has no host yet"
    counts: dict[str, int] = {}
    for room in rooms:
        reason = room.lacks(demand) or "with room for fewer than were asked for"
        counts[reason] = counts.get(reason, 0) + 1
    parts = [
        f"{n} {'host' if n == 1 else 'hosts'} {reason}" for reason, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))
    ]
    return f"no host fits {wanted}: " + ", ".join(parts)
