"""ModifyVolume and DescribeVolumesModifications: a volume grows while it is used, and is remembered as another type.

The size is claimed at once and true once its host has said so; a volume never shrinks. Each volume remembers its last
modification, as EC2 shows only that one.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.moments import moment_until
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.shapes import NO_OPERATOR
from alto.api.ec2.volume_attachments import with_attachment
from alto.api.wire.xml import timestamp
from alto.model.errors import Refused
from alto.model.images import CONTAINER, host_kind_of
from alto.model.instances import Instance
from alto.model.volumes import VOLUME_TYPES, Modification, Task, Volume, VolumePhase
from alto.plan.volumes import IOPS_OF_ANOTHER_TYPE, check_type, home_of, iops_of, throughput_of
from alto.store.store import Reader, Tx
from alto.store.volumes import claim_disk, job_for, put_job

PAGE_MAX = 500  # of DescribeVolumesModifications


class ModifyVolumeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    size: int | None = None
    volume_type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    multi_attach_enabled: bool = False


async def modify_volume(call: Call, request: ModifyVolumeRequest) -> dict[str, object]:
    if request.multi_attach_enabled:
        raise Refused("UnsupportedOperation", "A volume is attached to one instance here: MultiAttachEnabled is not supported")
    if all(each is None for each in (request.size, request.volume_type, request.iops, request.throughput)):
        raise Refused(
            "InvalidParameterValue",
            "Invalid input: Must specify at least one of size, type, iops, throughput, multi_attach_enabled",
        )
    now = call.world.clock.now()
    await moment_until(call, lambda reader: owned(reader, call, Volume, request.volume_id).phase is not VolumePhase.CREATING)

    def body(tx: Tx) -> Volume:
        volume = owned(tx, call, Volume, request.volume_id)
        if volume.phase is not VolumePhase.MADE:
            raise Refused("IncorrectState", f"Volume '{volume.id}' is in the '{volume.phase}' state.")
        if volume.before is not None and volume.before.ended_at is None:
            raise Refused(
                "IncorrectModificationState", f"Volume {volume.id} is in the 'modifying' state: wait until that is done."
            )
        size, type = request.size or volume.size_gib, request.volume_type or volume.type
        same = type == volume.type
        iops = request.iops if request.iops is not None else (volume.iops if same else None)
        throughput = request.throughput if request.throughput is not None else (volume.throughput if same else None)
        if iops is None and type in VOLUME_TYPES and VOLUME_TYPES[type].iops_needed:
            iops = IOPS_OF_ANOTHER_TYPE
        asked = (request.volume_type, request.iops, request.throughput)
        check_type(type, size, iops, throughput, kept=all(one is None for one in asked))
        if size < volume.size_gib:
            raise Refused("InvalidParameterValue", "New size cannot be smaller than existing size")
        before = Modification(
            size_gib=volume.size_gib,
            type=volume.type,
            iops=volume.iops,
            throughput=volume.throughput,
            started_at=now,
            ended_at=now if size == volume.size_gib else None,
        )
        changed = tx.put(replace(volume, size_gib=size, type=type, iops=iops, throughput=throughput, before=before))
        if size > volume.size_gib:
            _grow(tx, changed, size - volume.size_gib)
        return changed

    changed = await call.store.write(body)
    await moment_until(call, lambda reader: not _modifying(reader, changed.id))
    return {"VolumeModification": _shown(replace(changed, before=_begun(changed)))}


def _grow(tx: Tx, volume: Volume, by_gib: int) -> None:
    instance = tx.get(Instance, volume.instance_id) if volume.instance_id is not None else None
    if instance is not None and host_kind_of(instance.image_source) == CONTAINER:
        raise Refused("UnsupportedOperation", f"{volume.id} is the root of a container, which keeps its size")
    claim_disk(tx, home_of(volume, instance), by_gib)
    if instance is None:
        put_job(tx, job_for(volume, Task.GROW))
        return
    since = instance.wiring + 1
    if instance.root.volume_id == volume.id:
        grown = replace(instance, root=replace(instance.root, size_gib=volume.size_gib))
    else:
        grown = with_attachment(
            instance, volume.id, lambda one: replace(one, size_gib=volume.size_gib, since=max(one.since, since))
        )
    tx.put(replace(grown, wiring=since))


def _modifying(reader: Reader, id: str) -> bool:
    volume = reader.find(Volume, id)
    return volume is not None and volume.before is not None and volume.before.ended_at is None


def _begun(volume: Volume) -> Modification | None:
    """As EC2 answers: it has only just begun."""
    return replace(volume.before, ended_at=None) if volume.before is not None else None


_FILTERS: Filters[Volume] = {
    "modification-state": lambda volume: _state(volume),
    "original-iops": lambda volume: _original_iops(volume),
    "original-size": lambda volume: volume.before.size_gib if volume.before else None,
    "original-volume-type": lambda volume: volume.before.type if volume.before else None,
    "originalMultiAttachEnabled": lambda volume: False,
    "start-time": lambda volume: timestamp(volume.before.started_at) if volume.before else None,
    "target-iops": lambda volume: iops_of(volume.type, volume.size_gib, volume.iops),
    "target-size": lambda volume: volume.size_gib,
    "target-volume-type": lambda volume: volume.type,
    "targetMultiAttachEnabled": lambda volume: False,
    "volume-id": lambda volume: volume.id,
}


def _original_iops(volume: Volume) -> int | None:
    before = volume.before
    return iops_of(before.type, before.size_gib, before.iops) if before is not None else None


class DescribeVolumesModificationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


async def describe_volumes_modifications(call: Call, request: DescribeVolumesModificationsRequest) -> dict[str, object]:
    check_page(request.max_results, request.volume_ids, high=PAGE_MAX, ids_parameter="volumeSet")
    wanted = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(
            reader,
            call,
            Volume,
            request.volume_ids,
            lambda volume: volume.before is not None and wanted(volume),
            request.max_results,
            request.next_token,
        )
    )
    unchanged = set(request.volume_ids) - {volume.id for volume in page.items}
    if unchanged and not request.filters:
        raise Refused("InvalidVolumeModification.NotFound", f"Modification for volume '{min(unchanged)}' does not exist.")
    return listing("VolumesModifications", [_shown(volume) for volume in page.items], page.next_token)


def _state(volume: Volume) -> str | None:
    if volume.before is None:
        return None
    return "modifying" if volume.before.ended_at is None else "completed"


def _shown(volume: Volume) -> dict[str, object]:
    before = volume.before
    assert before is not None
    return {
        "VolumeId": volume.id,
        "ModificationState": _state(volume),
        "TargetSize": volume.size_gib,
        "TargetVolumeType": volume.type,
        "TargetIops": iops_of(volume.type, volume.size_gib, volume.iops),
        "TargetThroughput": throughput_of(volume.type, volume.throughput),
        "TargetMultiAttachEnabled": False,
        "OriginalSize": before.size_gib,
        "OriginalVolumeType": before.type,
        "OriginalIops": iops_of(before.type, before.size_gib, before.iops),
        "OriginalThroughput": throughput_of(before.type, before.throughput),
        "OriginalMultiAttachEnabled": False,
        "Progress": 0 if before.ended_at is None else 100,
        "StartTime": before.started_at,
        "EndTime": before.ended_at,
        "Operator": NO_OPERATOR,
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeVolumesModifications": Operation(DescribeVolumesModificationsRequest, describe_volumes_modifications),
    "ModifyVolume": Operation(ModifyVolumeRequest, modify_volume),
}
