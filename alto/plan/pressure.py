"""When is a host full, whatever the books say? Pure: gauges and the answer before come in, the answer goes out.

The invariant: what begins at a mark ends only well beyond it, so that a host at the mark does not change its mind with each
reading.
"""

from collections.abc import Collection

from alto.model.pressure import Gauges, Pressure

# Less than this is what the machine needs for itself: page cache, logs, and what guests still grow into.
MEMORY_SHARE, MEMORY_MIB = 0.05, 256
DISK_SHARE, DISK_MIB, DISK_MIB_MOST = 0.05, 1024, 20 * 1024
PROCESSES_SHARE = 0.05
STALLED_SHARE = 0.2
# Over only with so many times what began it.
RELIEF = 1.5


def under_pressure(gauges: Gauges, before: Collection[Pressure]) -> tuple[Pressure, ...]:
    """What the host is short of now, given what it was short of."""
    left = {
        Pressure.MEMORY: (gauges.memory_free_mib, max(gauges.memory_mib * MEMORY_SHARE, MEMORY_MIB)),
        Pressure.DISK: (gauges.disk_free_mib, min(max(gauges.disk_mib * DISK_SHARE, DISK_MIB), DISK_MIB_MOST)),
        Pressure.PROCESSES: (gauges.processes_max - gauges.processes, gauges.processes_max * PROCESSES_SHARE),
    }
    found = {what for what, (free, mark) in left.items() if free < mark * (RELIEF if what in before else 1.0)}
    stalled_mark = STALLED_SHARE / (RELIEF if Pressure.MEMORY in before else 1.0)
    if gauges.stalled is not None and gauges.stalled > stalled_mark:
        found.add(Pressure.MEMORY)
    return tuple(sorted(found))


def differs(gauges: Gauges, said: Gauges | None) -> bool:
    """Whether people would care to hear `gauges` after `said`: some part moved by more than a fiftieth of the whole."""
    if said is None:
        return True
    moved = (
        (gauges.memory_free_mib - said.memory_free_mib, said.memory_mib),
        (gauges.disk_free_mib - said.disk_free_mib, said.disk_mib),
        (gauges.processes - said.processes, said.processes_max),
        ((gauges.stalled or 0.0) - (said.stalled or 0.0), 1.0),
    )
    return any(abs(by) > whole / 50 for by, whole in moved)
