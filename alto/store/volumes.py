"""Volumes in one transaction: the room that they take on hosts, and what becomes of them with their instance.

A volume's size is claimed on its home: `Volume.host_id`, or the host of the instance that it was made with. The claim ends when
the host has said that the bytes are gone. Only additions and subtractions here; which host it should be was decided in `plan`.
"""

from msgspec.structs import replace

from alto.model.encryption import Encryption
from alto.model.hosts import Host
from alto.model.images import KERNEL_BESIDE, TINY
from alto.model.instances import Instance
from alto.model.volumes import NOBODY, AttachState, Snapshot, SnapshotPhase, StorageJob, Task, Volume, VolumePhase
from alto.store.store import Tx
from alto.store.tags import forget_added_tags

LOST = "The host that had its bytes is gone"


def claim_disk(tx: Tx, host_id: str | None, gib: int) -> None:
    """Negative to give back. Raises: CapacityExceeded."""
    host = tx.find(Host, host_id) if host_id is not None else None
    if host is not None and gib:
        tx.put(replace(host, disk_gib_used=host.disk_gib_used + gib))


def put_job(tx: Tx, job: StorageJob) -> None:
    """In the place of whatever was wished before for the same volume or snapshot."""
    known = tx.find(StorageJob, job.id)
    tx.put(replace(job, version=known.version) if known is not None else job)


def begin_deletion(tx: Tx, volume: Volume) -> None:
    """Of a detached one: it is nobody's any more, its host is told, and says when its bytes are gone."""
    if volume.host_id is None:
        tx.delete(Volume, volume.id)  # it was lost with its host
        return
    tx.put(replace(detached(volume), phase=VolumePhase.DELETING, account=NOBODY, region=NOBODY, tags={}))
    put_job(tx, job_for(volume, Task.DELETE))


def begin_snapshot_deletion(tx: Tx, snapshot: Snapshot) -> None:
    forget_added_tags(tx, snapshot.id)
    if tx.find(Host, snapshot.host_id) is None:
        tx.delete(Snapshot, snapshot.id)  # it was lost with its host
        return
    gone = replace(
        snapshot,
        phase=SnapshotPhase.DELETING,
        account=NOBODY,
        region=NOBODY,
        public=False,
        shared_with=(),
        shared=None,
        tags={},
    )
    tx.put(gone)
    put_job(
        tx,
        StorageJob(
            id=snapshot.id,
            host_id=snapshot.host_id,
            account=snapshot.account,
            task=Task.DELETE_SNAPSHOT,
            size_gib=snapshot.size_gib,
        ),
    )


def job_for(volume: Volume, task: Task) -> StorageJob:
    """Of a volume that is on a host of its own."""
    assert volume.host_id is not None
    return StorageJob(
        id=volume.id,
        host_id=volume.host_id,
        account=volume.account,
        task=task,
        size_gib=volume.size_gib,
        snapshot_id=volume.snapshot_id if task is Task.CREATE else None,
        sealed_key=sealed_key_of(volume.encryption) if task is Task.CREATE else None,
    )


def sealed_key_of(encryption: Encryption | None) -> str | None:
    return encryption.sealed_key if encryption is not None else None


def detached(volume: Volume) -> Volume:
    return replace(volume, instance_id=None, device=None, attached_at=None, attach_state=AttachState.ATTACHED)


def given_up(volume: Volume, instance: Instance) -> Volume:
    """Detached from `instance`, and on a host of its own from now on. Who was the root remembers by what it boots."""
    boots_by = TINY if volume.id == instance.root.volume_id and instance.image_source in KERNEL_BESIDE else volume.boot_source
    return replace(detached(volume), host_id=volume.host_id or instance.host_id, boot_source=boots_by)


def release_volumes(tx: Tx, instance: Instance) -> None:
    """Of a terminated instance: each goes or stays, as was wished for it. The bytes of what was made with it went with it."""
    given_back = 0
    root = instance.root
    for id in (root.volume_id, *(one.volume_id for one in instance.volumes)):
        volume = tx.find(Volume, id)
        if volume is None or volume.instance_id != instance.id:
            continue
        made_with_it = volume.host_id is None
        if root.away and id == root.volume_id:
            tx.put(given_up(volume, instance))  # its host need not say so any more
        elif made_with_it and (volume.delete_on_termination or instance.host_id is None):
            tx.delete(Volume, volume.id)
            given_back += volume.size_gib if instance.host_id is not None else 0
        elif made_with_it:
            tx.put(given_up(volume, instance))
        elif volume.delete_on_termination:
            begin_deletion(tx, volume)
        else:
            tx.put(detached(volume))
    claim_disk(tx, instance.host_id, -given_back)


def lose_storage(tx: Tx, host: Host) -> None:
    """Of a host that is gone, after its instances: what was on its disk alone is lost, and says so; what other hosts reach
    too is another's from now on."""
    storage = host.capabilities.storage
    heir = next((one for one in tx.where(Host) if one.id != host.id and storage and one.capabilities.storage == storage), None)
    moved = 0
    for volume in tx.where(Volume):
        if volume.host_id != host.id:
            continue
        if heir is not None:
            tx.put(replace(volume, host_id=heir.id))
            moved += volume.size_gib
        elif volume.phase is VolumePhase.DELETING:
            tx.delete(Volume, volume.id)
        else:
            tx.put(replace(volume, host_id=None, phase=VolumePhase.FAILED, fault=LOST))
    for snapshot in tx.where(Snapshot):
        if snapshot.host_id != host.id:
            continue
        if heir is not None:
            tx.put(replace(snapshot, host_id=heir.id))
            moved += snapshot.size_gib
        elif snapshot.phase is SnapshotPhase.DELETING:
            tx.delete(Snapshot, snapshot.id)
        else:
            tx.put(replace(snapshot, phase=SnapshotPhase.ERROR, fault=LOST))
    for job in tx.where(StorageJob, host_id=host.id):
        if heir is not None:
            tx.put(replace(job, host_id=heir.id))
        else:
            tx.delete(StorageJob, job.id)
    if heir is not None:
        claim_disk(tx, heir.id, moved)


def settle_wiring(tx: Tx, instance: Instance, at: float) -> Instance:
    """The instance after its host said what is wired; the volumes that this attached, detached or grew know it too."""
    kept = []
    for one in instance.volumes:
        volume = tx.find(Volume, one.volume_id)
        if one.since > instance.wired or volume is None or volume.instance_id != instance.id:
            kept.append(one)
        elif one.detaching:
            tx.put(grown(given_up(volume, instance), at))
        else:
            kept.append(one)
            changed = replace(grown(volume, at), attach_state=AttachState.ATTACHED)
            if changed != volume:
                tx.put(changed)
    root = tx.find(Volume, instance.root.volume_id)
    if root is not None and root.instance_id == instance.id and instance.wired == instance.wiring:
        changed = grown(root, at)
        if instance.root.away:
            changed = given_up(changed, instance)
            instance = replace(instance, root=replace(instance.root, volume_id=""))
        else:
            changed = replace(changed, attach_state=AttachState.ATTACHED)
        if changed != root:
            tx.put(changed)
    return replace(instance, volumes=tuple(kept)) if len(kept) != len(instance.volumes) else instance


def grown(volume: Volume, at: float) -> Volume:
    if volume.before is None or volume.before.ended_at is not None:
        return volume
    return replace(volume, before=replace(volume.before, ended_at=at))
