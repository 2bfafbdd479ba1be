"""What hosts say of storage jobs, believed only of the wish that is the present one: a report names its version."""

from collections.abc import Sequence

from msgspec.structs import replace

from alto.model.images import Image, ImageState
from alto.model.volumes import JobReport, Snapshot, SnapshotPhase, StorageJob, Task, Volume, VolumePhase
from alto.store.store import Tx
from alto.store.volumes import claim_disk, grown


def take_job_reports(tx: Tx, host_id: str, reports: Sequence[JobReport], at: float) -> None:
    for report in reports:
        job = tx.find(StorageJob, report.id)
        if job is None or job.version != report.version or job.host_id != host_id:
            continue
        tx.delete(StorageJob, job.id)
        if job.task in (Task.SNAPSHOT, Task.COPY, Task.DELETE_SNAPSHOT):
            _snapshot(tx, job, report, at)
        else:
            _volume(tx, job, report, at)


def _volume(tx: Tx, job: StorageJob, report: JobReport, at: float) -> None:
    volume = tx.find(Volume, job.id)
    if volume is None:
        return
    if job.task is Task.DELETE:
        # One that cannot be deleted keeps its room, and stays to be looked at.
        if report.fault is None:
            tx.delete(Volume, volume.id)
            claim_disk(tx, volume.host_id, -volume.size_gib)
        else:
            tx.put(replace(volume, fault=report.fault))
    elif report.fault is not None:
        tx.put(replace(volume, phase=VolumePhase.FAILED if job.task is Task.CREATE else volume.phase, fault=report.fault))
    else:
        tx.put(replace(grown(volume, at), phase=VolumePhase.MADE))


def _snapshot(tx: Tx, job: StorageJob, report: JobReport, at: float) -> None:
    snapshot = tx.find(Snapshot, job.id)
    if snapshot is None:
        return
    if job.task is Task.DELETE_SNAPSHOT:
        if report.fault is None:
            tx.delete(Snapshot, snapshot.id)
            claim_disk(tx, snapshot.host_id, -snapshot.size_gib)
        return
    phase = SnapshotPhase.COMPLETED if report.fault is None else SnapshotPhase.ERROR
    done = tx.put(replace(snapshot, phase=phase, fault=report.fault, completed_at=at))
    for image in tx.where(Image, account=snapshot.account):
        if image.state is ImageState.PENDING and snapshot.id in (one.snapshot_id for one in image.devices):
            _image(tx, image, done)


def _image(tx: Tx, image: Image, snapshot: Snapshot) -> None:
    """An image is there once all its snapshots are."""
    parts = [tx.find(Snapshot, one.snapshot_id) for one in image.devices if one.snapshot_id is not None]
    if snapshot.phase is SnapshotPhase.ERROR:
        tx.put(replace(image, state=ImageState.FAILED, fault=snapshot.fault))
    elif all(part is not None and part.phase is SnapshotPhase.COMPLETED for part in parts):
        tx.put(replace(image, state=ImageState.AVAILABLE))
