"""Snapshots: CreateSnapshot, CreateSnapshots, CopySnapshot, DescribeSnapshots, DeleteSnapshot.

A snapshot is of the moment at which its host begins to copy, which is after the answer; several of one instance are of the same
moment. It needs its volume no more once it is completed, and a volume that was made from it does not need it.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.encryption import Encrypting, own_region
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import added_tags, check_id, find_snapshot, owned, sees_snapshot, tags_seen, user_ids
from alto.api.ec2.moments import moment_until
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.wire.xml import Cached, timestamp
from alto.model.encryption import Encryption
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.images import CONTAINER, KERNEL_BESIDE, TINY, Image, host_kind_of
from alto.model.instances import Instance
from alto.model.records import Tags
from alto.model.volumes import Snapshot, SnapshotPhase, StorageJob, Task, Volume, VolumePhase
from alto.plan.instances import state_name
from alto.plan.volumes import home_of
from alto.store.store import Reader, Tx
from alto.store.volumes import begin_snapshot_deletion, claim_disk, put_job, sealed_key_of

DESCRIPTION_MAX = 255
COPIED = "vol-ffffffff"  # what EC2 calls the volume of a copy
_NOT_IN_INFO = ("StateMessage", "CompletionTime", "StorageTier", "TransferType")  # what CreateSnapshots does not answer

_FILTERS: Filters[Snapshot] = {
    "description": lambda snapshot: snapshot.description,
    "encrypted": lambda snapshot: snapshot.encryption is not None,
    "owner-alias": lambda snapshot: None,
    "owner-id": lambda snapshot: snapshot.account,
    "progress": lambda snapshot: _progress(snapshot),
    "snapshot-id": lambda snapshot: snapshot.id,
    "start-time": lambda snapshot: timestamp(snapshot.started_at),
    "status": lambda snapshot: snapshot.phase,
    "storage-tier": lambda snapshot: "standard",
    "transfer-type": lambda snapshot: _transfer(snapshot),
    "volume-id": lambda snapshot: snapshot.volume_id,
    "volume-size": lambda snapshot: snapshot.size_gib,
}


class DescribeSnapshotsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    snapshot_ids: tuple[str, ...] = ()
    owner_ids: tuple[str, ...] = ()
    restorable_by_user_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_snapshots(call: Call, request: DescribeSnapshotsRequest) -> dict[str, object]:
    check_page(request.max_results, request.snapshot_ids, ids_parameter="snapshotSet")
    owners = user_ids(call, request.owner_ids, ("amazon", "aws-marketplace"))
    users = user_ids(call, request.restorable_by_user_ids, ("all",))

    def chosen(snapshot: Snapshot) -> bool:
        if owners and snapshot.account not in owners:
            return False
        restorable = (
            not users or (snapshot.public and "all" in users) or bool(users & {snapshot.account, *snapshot.shared_with})
        )
        return restorable and matches(snapshot)

    found, added = call.store.read(lambda reader: (_asked(reader, call, request.snapshot_ids), added_tags(reader, call)))
    matches = matcher(request.filters, _FILTERS, tags=lambda snapshot: tags_seen(call, snapshot, added))
    page = page_of_list(
        [snapshot for snapshot in found if chosen(snapshot)],
        lambda snapshot: snapshot.id,
        scope=Snapshot.KIND,
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("Snapshots", [_seen(call, snapshot, added) for snapshot in page.items], page.next_token)


def _seen(call: Call, snapshot: Snapshot, added: Mapping[str, Tags]) -> Cached:
    if snapshot.account == call.account:
        return Cached((snapshot.id, snapshot.version), partial(show_snapshot, snapshot))
    tags = tags_seen(call, snapshot, added)
    return Cached(
        (snapshot.id, snapshot.version, "shared", *tags.items()), partial(show_snapshot, replace(snapshot, tags=tags))
    )


def _asked(reader: Reader, call: Call, ids: Sequence[str]) -> list[Snapshot]:
    if ids:
        for id in ids:
            check_id(Snapshot.KIND, id)
        return [find_snapshot(reader, call, id) for id in dict.fromkeys(ids)]
    own = reader.where(Snapshot, account=call.account, region=call.region)
    others = (one for one in reader.where(Snapshot, shared=True) if one.account != call.account)
    return [*own, *(one for one in others if sees_snapshot(reader, call, one))]


def _transfer(snapshot: Snapshot) -> str | None:
    return "standard" if snapshot.volume_id == COPIED else None


def _progress(snapshot: Snapshot) -> str:
    return "100%" if snapshot.phase is SnapshotPhase.COMPLETED else "0%"


def show_snapshot(snapshot: Snapshot) -> dict[str, object]:
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume_id,
        "VolumeSize": snapshot.size_gib,
        "State": snapshot.phase,
        "StateMessage": snapshot.fault,
        "Progress": _progress(snapshot),
        "StartTime": snapshot.started_at,
        "CompletionTime": snapshot.completed_at if snapshot.phase is SnapshotPhase.COMPLETED else None,
        "OwnerId": snapshot.account,
        "Description": snapshot.description,
        "Encrypted": snapshot.encryption is not None,
        "KmsKeyId": snapshot.encryption.kms_key_id if snapshot.encryption is not None else None,
        "StorageTier": "standard",
        "TransferType": _transfer(snapshot),
        "Tags": shown(snapshot.tags),
    }


# -- Make --------------------------------------------------------------------------------------------------------------


class CreateSnapshotRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    description: str = ""
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_snapshot(call: Call, request: CreateSnapshotRequest) -> dict[str, object]:
    check_description(request.description)
    tags = tags_for(request.tag_specifications, "snapshot")["snapshot"]
    id, now = draw_id(call.world.chance, "snap"), call.world.clock.now()
    await moment_until(call, lambda reader: _can_be_copied(reader, owned(reader, call, Volume, request.volume_id)))

    def body(tx: Tx) -> Snapshot:
        volume = owned(tx, call, Volume, request.volume_id)
        return begin_snapshot(tx, volume, SnapshotWish(id, request.description, tags, now))

    made = await call.store.write(body)
    await moment_until(call, lambda reader: _done(reader, [made.id]))
    return show_snapshot(made)


class SnapshotWish(msgspec.Struct, frozen=True):
    """What a request says of a snapshot."""

    id: str
    description: str
    tags: Tags
    now: float


def begin_snapshot(tx: Tx, volume: Volume, wish: SnapshotWish, *, set_id: str | None = None, reboot: bool = False) -> Snapshot:
    """The row, the room, and the job. Raises: Refused, when the volume's bytes are not there yet."""
    instance = tx.find(Instance, volume.instance_id) if volume.instance_id is not None else None
    if instance is not None and host_kind_of(instance.image_source) == CONTAINER:
        raise Refused(
            "UnsupportedOperation",
            f"{instance.id} is a container, whose root '{volume.id}' its host keeps to itself: it cannot be copied here",
        )
    home = home_of(volume, instance)
    host = tx.find(Host, home) if home is not None else None
    if host is None or not _can_be_copied(tx, volume):
        raise Refused("IncorrectState", f"Volume '{volume.id}' cannot be copied yet: its bytes are not there")
    claim_disk(tx, host.id, volume.size_gib)
    boots_by = volume.boot_source
    if instance is not None and instance.root.volume_id == volume.id and instance.image_source in KERNEL_BESIDE:
        boots_by = TINY
    snapshot = tx.put(
        Snapshot(
            id=wish.id,
            account=volume.account,
            region=volume.region,
            volume_id=volume.id,
            size_gib=volume.size_gib,
            description=wish.description,
            started_at=wish.now,
            phase=SnapshotPhase.PENDING,
            host_id=host.id,
            storage=host.capabilities.storage,
            boot_source=boots_by,
            encryption=volume.encryption,
            tags=wish.tags,
        )
    )
    put_job(
        tx,
        StorageJob(
            id=snapshot.id,
            host_id=host.id,
            account=volume.account,
            task=Task.SNAPSHOT,
            size_gib=volume.size_gib,
            volume_id=volume.id,
            instance_id=instance.id if instance is not None else None,
            set_id=set_id,
            reboot=reboot,
            sealed_key=sealed_key_of(volume.encryption),
        ),
    )
    return snapshot


def _can_be_copied(reader: Reader, volume: Volume) -> bool:
    if volume.phase is not VolumePhase.MADE:
        return False
    instance = reader.find(Instance, volume.instance_id) if volume.instance_id is not None else None
    return instance is None or state_name(instance) != "pending"


def _done(reader: Reader, ids: Sequence[str]) -> bool:
    found = [reader.find(Snapshot, id) for id in ids]
    return all(one is None or one.phase is not SnapshotPhase.PENDING for one in found)


def check_description(description: str) -> None:
    if len(description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"Character sets beyond {DESCRIPTION_MAX} characters are not supported.")


class InstanceSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None
    exclude_boot_volume: bool = False
    exclude_data_volume_ids: tuple[str, ...] = ()


class CreateSnapshotsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_specification: InstanceSpecification
    description: str = ""
    copy_tags_from_source: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_snapshots(call: Call, request: CreateSnapshotsRequest) -> dict[str, object]:
    wanted = request.instance_specification
    if wanted.instance_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceSpecification.InstanceId")
    instance_id = wanted.instance_id
    if request.copy_tags_from_source not in (None, "volume"):
        raise Refused("InvalidParameterValue", "Value for parameter copyTagsFromSource is invalid. It is volume.")
    check_description(request.description)
    tags = tags_for(request.tag_specifications, "snapshot")["snapshot"]
    now, digits = call.world.clock.now(), [draw_id(call.world.chance, "snap") for _ in range(32)]
    await moment_until(call, lambda reader: state_name(owned(reader, call, Instance, instance_id)) != "pending")

    def body(tx: Tx) -> list[Snapshot]:
        instance = owned(tx, call, Instance, instance_id)
        if state_name(instance) in ("shutting-down", "terminated"):
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is {state_name(instance)}.")
        attached = {one.volume_id for one in instance.volumes}
        for id in wanted.exclude_data_volume_ids:
            check_id(Volume.KIND, id)
            if id not in attached:
                raise Refused("InvalidParameterValue", f"Volume {id} is no data volume of instance {instance.id}")
        chosen = [] if wanted.exclude_boot_volume or instance.root.away else [instance.root.volume_id]
        chosen += [one.volume_id for one in instance.volumes if one.volume_id not in wanted.exclude_data_volume_ids]
        made = []
        for id, new_id in zip(chosen, digits, strict=False):
            volume = tx.get(Volume, id)
            own = {**volume.tags, **tags} if request.copy_tags_from_source else tags
            made.append(begin_snapshot(tx, volume, SnapshotWish(new_id, request.description, own, now), set_id=digits[-1]))
        return made

    made = await call.store.write(body)
    await moment_until(call, lambda reader: _done(reader, [one.id for one in made]))
    return {"Snapshots": [_info(one) for one in made]}


def _info(snapshot: Snapshot) -> dict[str, object]:
    shape = show_snapshot(snapshot)
    return {name: value for name, value in shape.items() if name not in _NOT_IN_INFO}


class CopySnapshotRequest(msgspec.Struct, frozen=True, rename="pascal"):
    source_region: str
    source_snapshot_id: str
    description: str = ""
    # boto3 and its kin sign these into each CopySnapshot. The URL is for a source in another cloud's hands, as regions are.
    destination_region: str | None = None
    presigned_url: str | None = None
    encrypted: bool | None = None
    kms_key_id: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def copy_snapshot(call: Call, request: CopySnapshotRequest) -> dict[str, object]:
    """Into the region that is asked; the bytes stay in their storage, which regions share. A copy of what is encrypted has a
    key of its own."""
    check_description(request.description)
    if request.source_region not in call.settings.regions:
        raise Refused("InvalidParameterValue", f"Invalid source region: {request.source_region[:80]}")
    tags = tags_for(request.tag_specifications, "snapshot")["snapshot"]
    id, now = draw_id(call.world.chance, "snap"), call.world.clock.now()
    there = replace(call, region=request.source_region)
    source_id, encrypting = request.source_snapshot_id, Encrypting(call)
    await moment_until(call, lambda reader: find_snapshot(reader, there, source_id).phase is not SnapshotPhase.PENDING)

    def body(tx: Tx) -> Snapshot:
        source = find_snapshot(tx, there, source_id)
        if source.phase is not SnapshotPhase.COMPLETED:
            raise Refused("IncorrectState", f"Snapshot {source.id} is in invalid state - {source.phase}")
        encryption = encrypting.chosen(
            own_region(tx, call), request.encrypted, request.kms_key_id, source=source.encryption, keeps_key=False
        )
        return begin_copy(tx, call, source, SnapshotWish(id, request.description, tags, now), encryption)

    made = await call.store.write(body)
    await moment_until(call, lambda reader: _done(reader, [made.id]))
    return {"SnapshotId": made.id, "Tags": shown(made.tags)}


def begin_copy(tx: Tx, call: Call, source: Snapshot, wish: SnapshotWish, encryption: Encryption | None) -> Snapshot:
    claim_disk(tx, source.host_id, source.size_gib)
    copy = tx.put(
        Snapshot(
            id=wish.id,
            account=call.account,
            region=call.region,
            volume_id=COPIED,
            size_gib=source.size_gib,
            description=wish.description,
            started_at=wish.now,
            phase=SnapshotPhase.PENDING,
            host_id=source.host_id,
            storage=source.storage,
            boot_source=source.boot_source,
            encryption=encryption,
            tags=wish.tags,
        )
    )
    put_job(
        tx,
        StorageJob(
            id=copy.id,
            host_id=copy.host_id,
            account=call.account,
            task=Task.COPY,
            size_gib=copy.size_gib,
            snapshot_id=source.id,
            sealed_key=sealed_key_of(encryption),
        ),
    )
    return copy


# -- Delete ------------------------------------------------------------------------------------------------------------


class DeleteSnapshotRequest(msgspec.Struct, frozen=True, rename="pascal"):
    snapshot_id: str


async def delete_snapshot(call: Call, request: DeleteSnapshotRequest) -> dict[str, object]:
    await moment_until(call, lambda reader: own_snapshot(reader, call, request.snapshot_id).phase is not SnapshotPhase.PENDING)

    def body(tx: Tx) -> None:
        snapshot = own_snapshot(tx, call, request.snapshot_id)
        for image in tx.where(Image, account=call.account):
            if any(one.snapshot_id == snapshot.id for one in image.devices):
                raise Refused("InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {image.id}")
        begin_snapshot_deletion(tx, snapshot)

    await call.store.write(body)
    return {}


def own_snapshot(reader: Reader, call: Call, id: str) -> Snapshot:
    """One that the caller may change. Raises: Refused, NotFound."""
    snapshot = find_snapshot(reader, call, id)
    if snapshot.account != call.account:
        raise Refused("UnauthorizedOperation", f"Only the owner of the snapshot '{id}' may do this", status=403)
    return snapshot


OPERATIONS: Mapping[str, Operation] = {
    "CopySnapshot": Operation(CopySnapshotRequest, copy_snapshot),
    "CreateSnapshot": Operation(CreateSnapshotRequest, create_snapshot),
    "CreateSnapshots": Operation(CreateSnapshotsRequest, create_snapshots),
    "DeleteSnapshot": Operation(DeleteSnapshotRequest, delete_snapshot),
    "DescribeSnapshots": Operation(DescribeSnapshotsRequest, describe_snapshots),
}
