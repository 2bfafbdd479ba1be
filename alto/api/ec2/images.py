"""Images: which ones a caller sees, and how they look.

An image is seen by its owner, by those that it is shared with, and by everybody when it is public; Alto's own are in every
region. Not here: where images come from (image_registration.py, image_creation.py), and who may change what of them
(image_attributes.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import added_tags, find_image, find_images, sees_image, tags_seen, user_ids
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.shapes import SRIOV
from alto.api.ec2.tags import shown
from alto.api.wire.xml import timestamp
from alto.model.errors import Refused
from alto.model.images import Image, ImageDevice, ImageState
from alto.model.records import Tags
from alto.model.volumes import DEFAULT_VOLUME_TYPE
from alto.store.store import Reader

DESCRIPTION_MAX = 255
IMDS_V2 = "v2.0"  # the only value that EC2 has
ALIASES = ("amazon", "aws-backup-vault", "aws-marketplace", "microsoft")
EVERYBODY = "all"  # as an owner, what the API reference named until 2014, and libcloud still does


class DescribeImagesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_ids: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    executable_users: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    include_deprecated: bool = False  # of others; one's own are always there, and those that are named
    include_disabled: bool = False
    max_results: int | None = None
    next_token: str | None = None


_FILTERS: Filters[Image] = {
    "architecture": lambda image: image.architecture,
    "block-device-mapping.delete-on-termination": lambda image: [one.delete_on_termination for one in devices(image)],
    "block-device-mapping.device-name": lambda image: [*(one.device for one in devices(image)), *image.instance_stores],
    "block-device-mapping.encrypted": lambda image: [one.encryption is not None for one in devices(image)],
    "block-device-mapping.snapshot-id": lambda image: [one.snapshot_id for one in devices(image)],
    "block-device-mapping.volume-size": lambda image: [one.size_gib for one in devices(image)],
    "block-device-mapping.volume-type": lambda image: [one.type for one in devices(image)],
    "boot-mode": lambda image: image.boot_mode,
    "creation-date": lambda image: timestamp(image.created_at),
    "description": lambda image: image.description,
    "ena-support": lambda image: image.ena,
    "free-tier-eligible": lambda image: False,
    "hypervisor": lambda image: "xen",
    "image-allowed": lambda image: True,
    "image-id": lambda image: image.id,
    "image-type": lambda image: "machine",
    "is-public": lambda image: image.public,
    "manifest-location": lambda image: location(image),
    "name": lambda image: image.name,
    "owner-alias": lambda image: alias(image),
    "owner-id": lambda image: image.account,
    "root-device-name": lambda image: image.root_device,
    "root-device-type": lambda image: "ebs",
    "source-image-id": lambda image: image.source_image_id,
    "source-image-region": lambda image: image.source_image_region,
    "source-instance-id": lambda image: image.source_instance_id,
    "sriov-net-support": lambda image: sriov(image),
    "state": lambda image: image.state,
    "state-reason-message": lambda image: image.fault,
    "virtualization-type": lambda image: "hvm",
    # Documented, and nothing here has any.
    **dict.fromkeys(
        (
            "image-watermark.source-image-creation-time",
            "image-watermark.source-image-id",
            "image-watermark.source-image-region",
            "image-watermark.watermark-creation-time",
            "image-watermark.watermark-key",
            "instance-type-specification.supported-instance-type",
            "instance-type-specification.unsupported-instance-type",
            "kernel-id",
            "platform",
            "product-code",
            "product-code.type",
            "public-ssm-parameter-name",
            "ramdisk-id",
            "scan-result.critical-fix-available-since",
            "scan-result.finding-scan-date",
            "scan-result.high-fix-available-since",
            "scan-result.highest-finding-severity-label",
            "scan-result.informational-fix-available-since",
            "scan-result.low-fix-available-since",
            "scan-result.medium-fix-available-since",
            "state-reason-code",
        ),
        lambda image: None,
    ),
}


async def describe_images(call: Call, request: DescribeImagesRequest) -> dict[str, object]:
    check_page(request.max_results, request.image_ids, ids_parameter="imageIdSet")
    owned_by = _owner_test(call, request.owners)
    runnable_by = _user_test(call, request.executable_users)
    now = call.world.clock.now()

    def offered(image: Image) -> bool:
        if image.state is ImageState.DISABLED and not request.include_disabled:
            return False
        named = request.include_deprecated or bool(request.image_ids) or image.account == call.account
        return named or image.deprecated_at is None or image.deprecated_at > now

    images, added = call.store.read(lambda reader: (_asked(reader, call, request.image_ids), added_tags(reader, call)))
    matches = matcher(request.filters, _FILTERS, tags=lambda image: tags_seen(call, image, added))
    page = page_of_list(
        [image for image in images if offered(image) and owned_by(image) and runnable_by(image) and matches(image)],
        lambda image: image.id,
        scope=Image.KIND,
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("Images", [show_image(_as_seen(call, image, added)) for image in page.items], page.next_token)


def _as_seen(call: Call, image: Image, added: Mapping[str, Tags]) -> Image:
    return image if image.account == call.account else replace(image, tags=tags_seen(call, image, added))


def _asked(reader: Reader, call: Call, ids: Sequence[str]) -> list[Image]:
    return find_images(reader, call, ids) if ids else list(visible(reader, call))


def visible(reader: Reader, call: Call) -> Iterator[Image]:
    # All of them: an index cannot look into `shared_with`, and a cloud has few images.
    return (image for image in reader.where(Image) if sees_image(call, image))


def _owner_test(call: Call, owners: Sequence[str]) -> Callable[[Image], bool]:
    if not owners:
        return lambda image: True
    accounts = user_ids(call, owners, (*ALIASES, EVERYBODY))
    return lambda image: EVERYBODY in accounts or image.account in accounts or alias(image) in accounts


def _user_test(call: Call, users: Sequence[str]) -> Callable[[Image], bool]:
    """Who was given an explicit permission to launch: everybody (`all`), the caller (`self`), or an account by number."""
    if not users:
        return lambda image: True
    accounts = user_ids(call, users, (EVERYBODY,))
    return lambda image: (image.public and EVERYBODY in accounts) or not accounts.isdisjoint(image.shared_with)


def alias(image: Image) -> str | None:
    """`--owners amazon` means whoever makes the cloud: here, Alto."""
    return "amazon" if image.region is None else None


def location(image: Image) -> str:
    return f"{alias(image) or image.account}/{image.name}"


def show_image(image: Image) -> dict[str, object]:
    return {
        "ImageId": image.id,
        "ImageLocation": location(image),
        "Name": image.name,
        "Description": image.description or None,
        "OwnerId": image.account,
        "ImageOwnerAlias": alias(image),
        "State": image.state,
        "StateReason": {"Code": "Server.InternalError", "Message": image.fault} if image.fault else None,
        "Public": image.public,
        "CreationDate": timestamp(image.created_at),
        "DeprecationTime": timestamp(image.deprecated_at) if image.deprecated_at is not None else None,
        "DeregistrationProtection": deregistration_protection(image),
        "Architecture": image.architecture,
        "ImageType": "machine",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "RootDeviceType": "ebs",
        "RootDeviceName": image.root_device,
        "BlockDeviceMappings": [
            *(_show_device(one) for one in devices(image)),
            *({"DeviceName": device, "VirtualName": name} for device, name in image.instance_stores.items()),
        ],
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "EnaSupport": image.ena,
        "SriovNetSupport": sriov(image),
        "ImdsSupport": imds(image),
        "BootMode": image.boot_mode,
        "SourceInstanceId": image.source_instance_id,
        "SourceImageId": image.source_image_id,
        "SourceImageRegion": image.source_image_region,
        "ProductCodes": [],
        "Tags": shown(image.tags),
    }


def sriov(image: Image) -> str | None:
    return SRIOV if image.sriov else None


def imds(image: Image) -> str | None:
    return IMDS_V2 if image.imds_v2 else None


def deregistration_protection(image: Image) -> str:
    if not image.protected:
        return "disabled"
    return "enabled-with-cooldown" if image.cooldown else "enabled-without-cooldown"


def devices(image: Image) -> tuple[ImageDevice, ...]:
    """All that its instances have from the start, the root one first."""
    if image.root_snapshot_id is not None:
        return image.devices
    root = ImageDevice(device=image.root_device, size_gib=image.size_gib, type=DEFAULT_VOLUME_TYPE, encryption=image.encryption)
    return (root, *image.devices)


def _show_device(one: ImageDevice) -> dict[str, object]:
    return {
        "DeviceName": one.device,
        "Ebs": {
            "SnapshotId": one.snapshot_id,
            "VolumeSize": one.size_gib,
            "VolumeType": one.type,
            "Iops": one.iops,
            "Throughput": one.throughput,
            "DeleteOnTermination": one.delete_on_termination,
            "Encrypted": one.encryption is not None,
            "KmsKeyId": (one.encryption.kms_key_id or None) if one.encryption is not None else None,
        },
    }


def own_image(reader: Reader, call: Call, id: str) -> Image:
    """One that the caller may change. Raises: Refused, NotFound."""
    image = find_image(reader, call, id)
    if image.account != call.account:
        raise Refused("AuthFailure", f"Not authorized for images: [{id}]", status=403)
    return image


OPERATIONS: Mapping[str, Operation] = {"DescribeImages": Operation(DescribeImagesRequest, describe_images)}
