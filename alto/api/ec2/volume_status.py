"""What EC2 says of a volume's health and input.

EC2 holds back input to a volume whose data it doubts; here nothing ever does, so the switches are remembered and have nothing
to switch.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import NO_OPERATOR
from alto.model.errors import Refused
from alto.model.volumes import Volume, VolumePhase
from alto.store.store import Tx

NOT_APPLICABLE = "not-applicable"  # the answer for volumes without promised operations a second
_DETAILS = (("io-enabled", "passed"), ("io-performance", NOT_APPLICABLE))
_FILTERS: Filters[Volume] = {
    "attachment-status.instance-id": lambda volume: volume.instance_id,
    "attachment-status.io-performance": lambda volume: NOT_APPLICABLE if volume.instance_id is not None else None,
    "availability-zone": lambda volume: volume.zone,
    "availability-zone-id": lambda volume: zone_id(volume.zone),
    "volume-status.details-name": lambda volume: [name for name, _ in _DETAILS],
    "volume-status.details-status": lambda volume: [status for _, status in _details(volume)],
    "volume-status.status": lambda volume: _status(volume),
    # Documented, and nothing here has any.
    **dict.fromkeys(
        (
            "action.code",
            "action.description",
            "action.event-id",
            "event.description",
            "event.event-id",
            "event.event-type",
            "event.not-after",
            "event.not-before",
        ),
        lambda volume: None,
    ),
}


class DescribeVolumeStatusRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


async def describe_volume_status(call: Call, request: DescribeVolumeStatusRequest) -> dict[str, object]:
    check_page(request.max_results, request.volume_ids, ids_parameter="volumeSet")
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, Volume, request.volume_ids, matches, request.max_results, request.next_token)
    )
    return listing("VolumeStatuses", [_shown(volume) for volume in page.items], page.next_token)


def _status(volume: Volume) -> str:
    match volume.phase:
        case VolumePhase.CREATING:
            return "insufficient-data"
        case VolumePhase.FAILED:
            return "impaired"
    return "ok"


def _details(volume: Volume) -> tuple[tuple[str, str], ...]:
    if _status(volume) == "ok":
        return _DETAILS
    return tuple((name, "insufficient-data" if _status(volume) == "insufficient-data" else "failed") for name, _ in _DETAILS)


def _attachments(volume: Volume) -> list[dict[str, str]]:
    return [{"InstanceId": volume.instance_id, "IoPerformance": NOT_APPLICABLE}] if volume.instance_id is not None else []


def _shown(volume: Volume) -> dict[str, object]:
    return {
        "VolumeId": volume.id,
        "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": zone_id(volume.zone),
        "VolumeStatus": {
            "Status": _status(volume),
            "Details": [{"Name": name, "Status": status} for name, status in _details(volume)],
        },
        "AttachmentStatuses": _attachments(volume),
        "Operator": NO_OPERATOR,
        "Actions": [],
        "Events": [],
    }


class DescribeVolumeAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    attribute: str


async def describe_volume_attribute(call: Call, request: DescribeVolumeAttributeRequest) -> dict[str, object]:
    volume = call.store.read(lambda reader: owned(reader, call, Volume, request.volume_id))
    match request.attribute:
        case "autoEnableIO":
            return {"VolumeId": volume.id, "AutoEnableIO": {"Value": volume.auto_enable_io}}
        case "productCodes":
            return {"VolumeId": volume.id, "ProductCodes": []}
    raise Refused("InvalidParameterValue", f"Value ({request.attribute[:80]}) for parameter attribute is invalid.")


class BooleanValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: bool | None = None


class ModifyVolumeAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    auto_enable_io: BooleanValue | None = msgspec.field(name="AutoEnableIO", default=None)


async def modify_volume_attribute(call: Call, request: ModifyVolumeAttributeRequest) -> dict[str, object]:
    switch = request.auto_enable_io
    if switch is None or switch.value is None:
        raise Refused("InvalidParameterCombination", "No attributes specified.")
    value = switch.value

    def body(tx: Tx) -> None:
        tx.put(replace(owned(tx, call, Volume, request.volume_id), auto_enable_io=value))

    await call.store.write(body)
    return {}


class EnableVolumeIORequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str


async def enable_volume_io(call: Call, request: EnableVolumeIORequest) -> dict[str, object]:
    call.store.read(lambda reader: owned(reader, call, Volume, request.volume_id))
    return {}


OPERATIONS: Mapping[str, Operation] = {
    "DescribeVolumeAttribute": Operation(DescribeVolumeAttributeRequest, describe_volume_attribute),
    "DescribeVolumeStatus": Operation(DescribeVolumeStatusRequest, describe_volume_status),
    "EnableVolumeIO": Operation(EnableVolumeIORequest, enable_volume_io),
    "ModifyVolumeAttribute": Operation(ModifyVolumeAttributeRequest, modify_volume_attribute),
}
