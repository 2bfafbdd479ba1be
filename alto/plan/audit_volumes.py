"""What must be true of volumes and snapshots: who has them, what they take of hosts' disks, and what those disks hold.

Part of `audit.py`, with its rules: nothing is repaired here, and no function that made the numbers is called.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from alto.model.hosts import HostState
from alto.model.instances import Instance, Phase
from alto.model.volumes import AttachState, SnapshotPhase, Volume, VolumePhase
from alto.plan.violations import HOST_CLEANING_S, HostSeen, Rule, State, Violation

# A copy of a large disk takes its time.
JOB_S = 1800.0
WIRING_S = 300.0


def volumes(state: State, instances: Mapping[str, Instance], seen: Sequence[HostSeen]) -> Iterable[Violation]:
    yield from _attachments(state, instances)
    yield from _disks(state, instances)
    yield from _jobs(state)
    yield from _stored(state, seen)


def _attachments(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    by_id = {one.id: one for one in state.volumes}
    for volume in state.volumes:
        owner = instances.get(volume.instance_id or "")
        if volume.instance_id is None:
            continue
        if owner is None or owner.phase is Phase.TERMINATED:
            yield Violation(
                rule=Rule.VOLUME_LEAKED,
                subject=volume.id,
                sentence=f"Volume {volume.id} is attached to {volume.instance_id}, "
                f"which is {'terminated' if owner else 'unknown'}",
            )
        elif volume.id not in (owner.root.volume_id, *(one.volume_id for one in owner.volumes)):
            yield Violation(
                rule=Rule.VOLUME_LEAKED,
                subject=volume.id,
                sentence=f"Volume {volume.id} is attached to {owner.id}, which does not know it",
            )
        elif volume.attach_state is not AttachState.ATTACHED:
            yield Violation(
                rule=Rule.VOLUME_UNSETTLED,
                subject=volume.id,
                sentence=f"Volume {volume.id} is {volume.attach_state} for long",
                grace_s=WIRING_S,
            )
    for instance in instances.values():
        if instance.phase is Phase.TERMINATED:
            continue
        for id in instance.volume_ids:
            found = by_id.get(id)
            if found is None or found.instance_id != instance.id:
                what = "no root volume" if id == instance.root.volume_id else "lost a volume"
                yield Violation(
                    rule=Rule.VOLUME_MISSING,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} has {what}: {id} is {'gone' if found is None else 'not attached to it'}",
                )


def _home(volume: Volume, instances: Mapping[str, Instance]) -> str | None:
    """Where it was made, or is to be made by what it was launched with."""
    owner = instances.get(volume.instance_id or "")
    return volume.host_id or (owner.host_id if owner is not None else None)


def _disks(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    taken: Counter[str] = Counter()
    for volume in state.volumes:
        home = _home(volume, instances)
        if home is not None:
            taken[home] += volume.size_gib
    for snapshot in state.snapshots:
        taken[snapshot.host_id] += snapshot.size_gib
    for host in state.hosts:
        if host.disk_gib_used != taken[host.id]:
            yield Violation(
                rule=Rule.DISK_COUNTERS,
                subject=host.id,
                sentence=f"Host {host.name} counts {host.disk_gib_used} GiB of disk as given; its volumes and snapshots take "
                f"{taken[host.id]}",
            )


def _jobs(state: State) -> Iterable[Violation]:
    hosts = {host.id: host for host in state.hosts}
    for job in state.jobs:
        host = hosts.get(job.host_id)
        if host is None or host.state is HostState.READY:
            yield Violation(
                rule=Rule.JOB_OPEN,
                subject=job.id,
                sentence=f"{job.host_id} was asked to {job.task} {job.id}, and has not done it",
                grace_s=JOB_S if host is not None else 0.0,
            )


def _stored(state: State, seen: Sequence[HostSeen]) -> Iterable[Violation]:
    known = {one.id for one in state.volumes} | {one.id for one in state.snapshots}
    made = [(one.id, one.host_id) for one in state.volumes if one.phase is VolumePhase.MADE and one.host_id is not None]
    made += [(one.id, one.host_id) for one in state.snapshots if one.phase is SnapshotPhase.COMPLETED]
    for host in seen:
        if host.stored is None:
            continue
        stored = set(host.stored)
        for id in sorted(stored - known):
            yield Violation(
                rule=Rule.BYTES_LEAKED,
                subject=id,
                sentence=f"Host {host.host_id} keeps the bytes of {id}, which nobody has",
                grace_s=HOST_CLEANING_S,
            )
        for id, home in made:
            if home == host.host_id and id not in stored:
                yield Violation(
                    rule=Rule.BYTES_LOST, subject=id, sentence=f"The bytes of {id} should be on {host.host_id}, and are not"
                )
