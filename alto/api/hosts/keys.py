"""Which keys of disks a host may have opened: of what it was given to run, or to work on, and of no other.

What a disk is made from counts too: where it is encrypted with another key, the host has to read it once.
"""

from collections.abc import Iterator

from alto.model.instances import Instance, Machine, Phase
from alto.model.volumes import Snapshot, StorageJob, Volume
from alto.store.store import Reader


def keys_of(machine: Machine | Instance) -> tuple[str | None, ...]:
    """Of its own disks."""
    own = machine.root.sealed_key
    return (own, *[one.sealed_key for one in machine.volumes]) if machine.volumes else (own,)


def needs_key(reader: Reader, host_id: str, sealed: str) -> bool:
    return any(key == sealed for key in _keys(reader, host_id))


def _keys(reader: Reader, host_id: str) -> Iterator[str | None]:
    for instance in reader.where(Instance, host_id=host_id):
        if instance.phase is not Phase.TERMINATED:
            yield from keys_of(instance)
            yield _of_snapshot(reader, instance.root.snapshot_id)
            for one in instance.volumes:
                yield _of_snapshot(reader, one.snapshot_id)
    for job in reader.where(StorageJob, host_id=host_id):
        yield job.sealed_key
        yield _of_snapshot(reader, job.snapshot_id)
        for id in (job.id, job.volume_id):
            volume = reader.find(Volume, id) if id is not None else None
            yield volume.encryption.sealed_key if volume is not None and volume.encryption is not None else None


def _of_snapshot(reader: Reader, id: str | None) -> str | None:
    snapshot = reader.find(Snapshot, id) if id is not None else None
    return snapshot.encryption.sealed_key if snapshot is not None and snapshot.encryption is not None else None
