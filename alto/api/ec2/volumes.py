"""Volumes by themselves: CreateVolume, DescribeVolumes, DeleteVolume.

What is answered comes of rows; the bytes follow, by a job of the volume's host (`agent/volumes.py`). Not here: attaching
(volume_attachments.py), changing (volume_modifications.py), and volumes that a launch makes (`plan/launch.py`).
"""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.encryption import Encrypting, own_region
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import find_snapshot, owned, page_of_own
from alto.api.ec2.moments import moment_until
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_by_id, zone_id
from alto.api.ec2.shapes import NO_OPERATOR
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.api.wire.xml import Cached, timestamp
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.volumes import UNNAMED_VOLUME_TYPE, SnapshotPhase, Task, Volume, VolumePhase
from alto.plan.volumes import check_type, choose_home, iops_of, throughput_of, volume_state
from alto.store.store import Reader, Tx
from alto.store.volumes import begin_deletion, claim_disk, job_for, put_job

MULTI_ATTACHED = ("io1", "io2")  # at EC2; no volume is here


def _attached(value: Callable[[Volume], Values]) -> Callable[[Volume], Values]:
    return lambda volume: value(volume) if volume.instance_id is not None else None


_FILTERS: Filters[Volume] = {
    "attachment.attach-time": _attached(lambda volume: timestamp(volume.attached_at or volume.created_at)),
    "attachment.delete-on-termination": _attached(lambda volume: volume.delete_on_termination),
    "attachment.device": _attached(lambda volume: volume.device),
    "attachment.instance-id": lambda volume: volume.instance_id,
    "attachment.status": _attached(lambda volume: volume.attach_state),
    "availability-zone": lambda volume: volume.zone,
    "availability-zone-id": lambda volume: zone_id(volume.zone),
    "create-time": lambda volume: timestamp(volume.created_at),
    "encrypted": lambda volume: volume.encryption is not None,
    "fast-restored": lambda volume: False,
    "multi-attach-enabled": lambda volume: False,
    "operator.managed": lambda volume: False,
    "operator.principal": lambda volume: None,
    "size": lambda volume: volume.size_gib,
    "snapshot-id": lambda volume: volume.snapshot_id,
    "status": volume_state,
    "volume-id": lambda volume: volume.id,
    "volume-type": lambda volume: volume.type,
}


class DescribeVolumesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


async def describe_volumes(call: Call, request: DescribeVolumesRequest) -> dict[str, object]:
    check_page(request.max_results, request.volume_ids, ids_parameter="volumeSet")
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, Volume, request.volume_ids, matches, request.max_results, request.next_token)
    )
    items = [Cached((volume.id, volume.version), partial(show_volume, volume)) for volume in page.items]
    return listing("Volumes", items, page.next_token)


def show_volume(volume: Volume) -> dict[str, object]:
    return {
        "VolumeId": volume.id,
        "VolumeArn": f"arn:aws:ec2:{volume.region}:{volume.account}:volume/{volume.id}",
        "OwnerId": volume.account,
        "State": volume_state(volume),
        "Size": volume.size_gib,
        "VolumeType": volume.type,
        "Iops": iops_of(volume.type, volume.size_gib, volume.iops),
        "Throughput": throughput_of(volume.type, volume.throughput),
        "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": zone_id(volume.zone),
        "CreateTime": volume.created_at,
        "SnapshotId": volume.snapshot_id or "",
        "Encrypted": volume.encryption is not None,
        "KmsKeyId": volume.encryption.kms_key_id if volume.encryption is not None else None,
        "MultiAttachEnabled": False,
        "Operator": NO_OPERATOR,
        "Attachments": [show_attachment(volume)] if volume.instance_id is not None else [],
        "Tags": shown(volume.tags),
    }


def show_attachment(volume: Volume) -> dict[str, object]:
    return {
        "VolumeId": volume.id,
        "InstanceId": volume.instance_id,
        "Device": volume.device,
        "State": volume.attach_state,
        "AttachTime": volume.attached_at,
        "DeleteOnTermination": volume.delete_on_termination,
    }


class CreateVolumeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    availability_zone: str | None = None
    availability_zone_id: str | None = None
    size: int | None = None
    snapshot_id: str | None = None
    volume_type: str = UNNAMED_VOLUME_TYPE
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool | None = None
    kms_key_id: str | None = None
    multi_attach_enabled: bool = False
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_volume(call: Call, request: CreateVolumeRequest) -> dict[str, object]:
    zone = _zone(call, request)
    if request.multi_attach_enabled:
        if request.volume_type not in MULTI_ATTACHED:
            raise Refused(
                "InvalidParameterCombination",
                f"Multi-Attach is for volumes of the types {' and '.join(MULTI_ATTACHED)}, not {request.volume_type[:20]}.",
            )
        raise Refused("UnsupportedOperation", "A volume is attached to one instance here: MultiAttachEnabled is not supported")
    if request.size is None and request.snapshot_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter size or snapshotId")
    if request.size is not None:
        check_type(request.volume_type, request.size, request.iops, request.throughput)
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "volume")["volume"]
    id, now, encrypting = draw_id(call.world.chance, "vol"), call.world.clock.now(), Encrypting(call)
    snapshot_id = request.snapshot_id
    if snapshot_id is not None:
        await moment_until(call, lambda reader: find_snapshot(reader, call, snapshot_id).phase is not SnapshotPhase.PENDING)

    def body(tx: Tx) -> Volume:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return owned(tx, call, Volume, known)
        size, storage, boot_source, source, own = request.size or 0, None, None, None, True
        if snapshot_id is not None:
            snapshot = find_snapshot(tx, call, snapshot_id)
            if snapshot.phase is not SnapshotPhase.COMPLETED:
                raise Refused("IncorrectState", f"Snapshot {snapshot.id} is in invalid state - {snapshot.phase}")
            size = size or snapshot.size_gib
            check_type(request.volume_type, size, request.iops, request.throughput)
            if size < snapshot.size_gib:
                raise Refused(
                    "InvalidParameterValue",
                    f"Volume of size {size}GiB is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.size_gib}GiB",
                )
            storage, boot_source = snapshot.storage, snapshot.boot_source
            source, own = snapshot.encryption, snapshot.account == call.account
        encryption = encrypting.chosen(
            own_region(tx, call), request.encrypted, request.kms_key_id, source=source, keeps_key=own
        )
        home = choose_home(tx.where(Host), size, storage)
        claim_disk(tx, home.id, size)
        volume = tx.put(
            Volume(
                id=id,
                account=call.account,
                region=call.region,
                zone=zone,
                size_gib=size,
                type=request.volume_type,
                iops=request.iops,
                throughput=request.throughput,
                created_at=now,
                snapshot_id=snapshot_id,
                tags=tags,
                boot_source=boot_source,
                encryption=encryption,
                host_id=home.id,
                storage=home.capabilities.storage,
                phase=VolumePhase.CREATING,
                delete_on_termination=False,
            )
        )
        put_job(tx, job_for(volume, Task.CREATE))
        remember_result(tx, call, request.client_token, id, now)
        return volume

    made = await call.store.write(body)
    await moment_until(call, lambda reader: _made(reader, made.id))
    return show_volume(made)


def _made(reader: Reader, id: str) -> bool:
    volume = reader.find(Volume, id)
    return volume is None or volume.phase is not VolumePhase.CREATING


def _zone(call: Call, request: CreateVolumeRequest) -> str:
    zones = call.settings.zones(call.region)
    if request.availability_zone is not None and request.availability_zone_id is not None:
        raise Refused("InvalidParameterCombination", "AvailabilityZone and AvailabilityZoneId cannot be given together")
    if request.availability_zone is not None:
        if request.availability_zone not in zones:
            raise Refused("InvalidZone.NotFound", f"The zone '{request.availability_zone[:80]}' does not exist.")
        return request.availability_zone
    if request.availability_zone_id is not None:
        zone = zone_by_id(call, request.availability_zone_id)
        if zone is None:
            raise Refused("InvalidZone.NotFound", f"The zone '{request.availability_zone_id[:80]}' does not exist.")
        return zone
    raise Refused("MissingParameter", "The request must contain the parameter availabilityZone")


class DeleteVolumeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str


async def delete_volume(call: Call, request: DeleteVolumeRequest) -> dict[str, object]:
    await moment_until(call, lambda reader: _at_rest(owned(reader, call, Volume, request.volume_id)))

    def body(tx: Tx) -> None:
        volume = owned(tx, call, Volume, request.volume_id)
        if volume.instance_id is not None:
            raise Refused("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.instance_id}")
        if volume.phase is VolumePhase.CREATING:
            raise Refused("IncorrectState", f"Volume '{volume.id}' is in the 'creating' state.")
        begin_deletion(tx, volume)

    await call.store.write(body)
    return {}


def _at_rest(volume: Volume) -> bool:
    """Nothing is happening to it that ends soon."""
    return volume.phase is not VolumePhase.CREATING and volume.attach_state != "detaching"


OPERATIONS: Mapping[str, Operation] = {
    "CreateVolume": Operation(CreateVolumeRequest, create_volume),
    "DeleteVolume": Operation(DeleteVolumeRequest, delete_volume),
    "DescribeVolumes": Operation(DescribeVolumesRequest, describe_volumes),
}
