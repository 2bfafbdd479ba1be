"""Volumes, to be read: DescribeVolumes. So far each is the root volume of an instance.

Not here: making one (`plan/launch.py`) and what it is on a host's disk (`drivers/compute`).
"""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.tags import shown
from alto.api.wire.xml import Cached, timestamp
from alto.model.volumes import Volume


def _speed(volume: Volume) -> dict[str, object]:
    """What EC2 gives a volume of its type unless more is paid for. Alto promises no number, and tools read one."""
    match volume.type:
        case "gp3":
            return {"Iops": 3000, "Throughput": 125}
        case "gp2":
            return {"Iops": min(max(3 * volume.size_gib, 100), 16_000)}
    return {}


def _attached(value: Callable[[Volume], Values]) -> Callable[[Volume], Values]:
    return lambda volume: value(volume) if volume.instance_id is not None else None


_FILTERS: Filters[Volume] = {
    "attachment.attach-time": _attached(lambda volume: timestamp(volume.attached_at or volume.created_at)),
    "attachment.delete-on-termination": _attached(lambda volume: volume.delete_on_termination),
    "attachment.device": _attached(lambda volume: volume.device),
    "attachment.instance-id": lambda volume: volume.instance_id,
    "attachment.status": _attached(lambda volume: "attached"),
    "availability-zone": lambda volume: volume.zone,
    "availability-zone-id": lambda volume: zone_id(volume.zone),
    "create-time": lambda volume: timestamp(volume.created_at),
    "encrypted": lambda volume: False,
    "fast-restored": lambda volume: False,
    "multi-attach-enabled": lambda volume: False,
    "operator.managed": lambda volume: False,
    "operator.principal": lambda volume: None,
    "size": lambda volume: volume.size_gib,
    "snapshot-id": lambda volume: None,
    "status": lambda volume: _state(volume),
    "volume-id": lambda volume: volume.id,
    "volume-type": lambda volume: volume.type,
}


class DescribeVolumesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_volumes(call: Call, request: DescribeVolumesRequest) -> dict[str, object]:
    check_page(request.max_results, request.volume_ids, ids_parameter="volumeSet")
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, Volume, request.volume_ids, matches, request.max_results, request.next_token)
    )
    items = [Cached((volume.id, volume.version), partial(_shown, volume)) for volume in page.items]
    return listing("Volumes", items, page.next_token)


def _state(volume: Volume) -> str:
    return "in-use" if volume.instance_id is not None else "available"


def _shown(volume: Volume) -> dict[str, object]:
    attachments = []
    if volume.instance_id is not None:
        attachments.append(
            {
                "VolumeId": volume.id,
                "InstanceId": volume.instance_id,
                "Device": volume.device,
                "State": "attached",
                "AttachTime": volume.attached_at,
                "DeleteOnTermination": volume.delete_on_termination,
            }
        )
    return {
        "VolumeId": volume.id,
        "State": _state(volume),
        "Size": volume.size_gib,
        "VolumeType": volume.type,
        **_speed(volume),
        "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": zone_id(volume.zone),
        "CreateTime": volume.created_at,
        "SnapshotId": "",
        "Encrypted": False,
        "MultiAttachEnabled": False,
        "Attachments": attachments,
        "Tags": shown(volume.tags),
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeVolumes": Operation(DescribeVolumesRequest, describe_volumes),
}
