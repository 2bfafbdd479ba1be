"""Images: which ones a caller sees, and registering and deregistering them.

An image is seen by its owner, and by everybody when it is public; Alto's own are in every region. A registered image is a
qcow2 file of the operator's machine: a path of a server's disk is nothing that a tenant may name. Not here: fetching and
judging the file whole (`drivers/image`), which an agent does before a first boot.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import find_image, sees_image
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.wire.xml import timestamp
from alto.model.errors import Refused
from alto.model.images import ROOT_DEVICE, Image
from alto.store.store import Reader, Tx

FILE_SCHEME = "file://"
GIB = 1 << 30
SIZE_GIB_MAX = 16_384  # EC2's largest volume

_DEVICE = re.compile(r"/dev/(?:sd|xvd|vd)[a-z]{1,2}[0-9]{0,2}")
_NAME = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}")
DESCRIPTION_MAX = 255
_ACCOUNT = re.compile(r"[0-9]{12}")

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER_BYTES = 72


# -- Describe ----------------------------------------------------------------------------------------------------------


class DescribeImagesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_ids: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    executable_users: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    include_deprecated: bool = False  # there are none that are deprecated or disabled
    include_disabled: bool = False
    max_results: int | None = None
    next_token: str | None = None


_FILTERS: Filters[Image] = {
    "architecture": lambda image: image.architecture,
    "block-device-mapping.delete-on-termination": lambda image: True,
    "block-device-mapping.device-name": lambda image: image.root_device,
    "block-device-mapping.encrypted": lambda image: False,
    "block-device-mapping.snapshot-id": lambda image: None,
    "block-device-mapping.volume-size": lambda image: image.size_gib,
    "block-device-mapping.volume-type": lambda image: "gp3",
    "boot-mode": lambda image: "legacy-bios",
    "creation-date": lambda image: timestamp(image.created_at),
    "description": lambda image: image.description,
    "ena-support": lambda image: True,
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
    "state": lambda image: "available",
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
            "source-image-id",
            "source-image-region",
            "source-instance-id",
            "sriov-net-support",
            "state-reason-code",
            "state-reason-message",
        ),
        lambda image: None,
    ),
}


async def describe_images(call: Call, request: DescribeImagesRequest) -> dict[str, object]:
    check_page(request.max_results, request.image_ids, ids_parameter="imageIdSet")
    matches = matcher(request.filters, _FILTERS)
    owned_by = _owner_test(call, request.owners)
    runnable_by = _user_test(call, request.executable_users)
    images = call.store.read(lambda reader: _asked(reader, call, request.image_ids))
    page = page_of_list(
        [image for image in images if owned_by(image) and runnable_by(image) and matches(image)],
        lambda image: image.id,
        scope=Image.KIND,
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("Images", [_shown(image) for image in page.items], page.next_token)


def _asked(reader: Reader, call: Call, ids: Sequence[str]) -> list[Image]:
    return [find_image(reader, call, id) for id in dict.fromkeys(ids)] if ids else list(visible(reader, call))


def visible(reader: Reader, call: Call) -> Iterator[Image]:
    # All of them: an index cannot look into `shared_with`, and a cloud has few images.
    return (image for image in reader.where(Image) if sees_image(call, image))


def _owner_test(call: Call, owners: Sequence[str]) -> Callable[[Image], bool]:
    if not owners:
        return lambda image: True
    accounts = {call.account if owner == "self" else owner for owner in owners}
    return lambda image: image.account in accounts or alias(image) in accounts


def _user_test(call: Call, users: Sequence[str]) -> Callable[[Image], bool]:
    """Who was given an explicit permission to launch: everybody (`all`), the caller (`self`), or an account by number."""
    if not users:
        return lambda image: True
    accounts = {call.account if user == "self" else user for user in users}
    return lambda image: (image.public and "all" in accounts) or not accounts.isdisjoint(image.shared_with)


def alias(image: Image) -> str | None:
    """`--owners amazon` means whoever makes the cloud: here, Alto."""
    return "amazon" if image.region is None else None


def location(image: Image) -> str:
    return f"{alias(image) or image.account}/{image.name}"


def _shown(image: Image) -> dict[str, object]:
    return {
        "ImageId": image.id,
        "ImageLocation": location(image),
        "Name": image.name,
        "Description": image.description or None,
        "OwnerId": image.account,
        "ImageOwnerAlias": alias(image),
        "State": "available",
        "Public": image.public,
        "CreationDate": timestamp(image.created_at),
        "Architecture": image.architecture,
        "ImageType": "machine",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "RootDeviceType": "ebs",
        "RootDeviceName": image.root_device,
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeSize": image.size_gib,
                    "VolumeType": "gp3",
                    "DeleteOnTermination": True,
                    "Encrypted": False,
                },
            }
        ],
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "EnaSupport": True,
        "BootMode": "legacy-bios",
        "ProductCodes": [],
        "Tags": shown(image.tags),
    }


# -- Register and deregister -------------------------------------------------------------------------------------------


class Ebs(msgspec.Struct, frozen=True, rename="pascal"):
    volume_size: int | None = None
    volume_type: str | None = None
    delete_on_termination: bool = True


class BlockDeviceMapping(msgspec.Struct, frozen=True, rename="pascal"):
    device_name: str | None = None
    ebs: Ebs | None = None


class RegisterImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    name: str | None = None
    description: str = ""
    image_location: str | None = None
    architecture: str = "x86_64"
    root_device_name: str = ROOT_DEVICE
    block_device_mappings: tuple[BlockDeviceMapping, ...] = ()
    virtualization_type: str = "hvm"
    ena_support: bool = True
    boot_mode: str = "legacy-bios"
    tag_specifications: tuple[TagSpecification, ...] = ()


async def register_image(call: Call, request: RegisterImageRequest) -> dict[str, object]:
    name = _checked_name(request.name)
    if len(request.description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"The description of an image is limited to {DESCRIPTION_MAX} characters")
    _only("architecture", request.architecture, "x86_64")
    _only("virtualizationType", request.virtualization_type, "hvm")
    _only("bootMode", request.boot_mode, "legacy-bios")
    if not _DEVICE.fullmatch(request.root_device_name):
        raise Refused(
            "InvalidParameterValue", f"Value ({request.root_device_name[:80]}) for parameter rootDeviceName is invalid."
        )
    tags = tags_for(request.tag_specifications, "image")["image"]
    path = _checked_path(call, request.image_location)
    size_gib = max(_virtual_gib(call, path), _wanted_gib(request))
    image = Image(
        id=draw_id(call.world.chance, "ami"),
        account=call.account,
        region=call.region,
        name=name,
        description=request.description,
        source=f"{FILE_SCHEME}{path}",
        architecture=request.architecture,
        root_device=request.root_device_name,
        size_gib=size_gib,
        created_at=call.world.clock.now(),
        tags=tags,
    )

    def body(tx: Tx) -> None:
        for other in tx.where(Image, account=call.account):
            if other.name == name and other.region in (None, call.region):
                raise Refused("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {other.id}")
        tx.put(image)

    await call.store.write(body)
    return {"ImageId": image.id}


def _checked_name(name: str | None) -> str:
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter Name")
    if not _NAME.fullmatch(name):
        raise Refused(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '[', ']', ' ', "
            "'.', '/', '-', '\\'', '@' and '_'",
        )
    return name


def _only(parameter: str, value: str, supported: str) -> None:
    if value != supported:
        raise Refused(
            "InvalidParameterValue", f"Value ({value[:80]}) for parameter {parameter} is invalid. Here it is {supported}."
        )


def _checked_path(call: Call, location: str | None) -> Path:
    if location is None:
        raise Refused(
            "UnsupportedOperation", f"Images are registered from a file: give ImageLocation={FILE_SCHEME}/path/to/image.qcow2"
        )
    if not location.startswith(FILE_SCHEME + "/"):
        raise Refused(
            "UnsupportedOperation",
            f"An image in S3 cannot be registered yet: give ImageLocation={FILE_SCHEME}/path/to/image.qcow2",
        )
    if not call.operator:
        raise Refused("UnauthorizedOperation", "Only the operator may register files of this machine as images", status=403)
    path = Path(location.removeprefix(FILE_SCHEME))
    if ".." in path.parts or path.suffix != ".qcow2":
        raise Refused("InvalidParameterValue", f"The file {path} must be a plain path that ends in .qcow2")
    return path


def _virtual_gib(call: Call, path: Path) -> int:
    """The size of the disk that the image is, rounded up. The header's other fields are judged where it is fetched."""
    try:
        header = call.world.files.part(path, 0, _QCOW2_HEADER_BYTES)
    except OSError as error:
        raise Refused("InvalidParameterValue", f"The file {path} cannot be read on the server") from error
    if len(header) < _QCOW2_HEADER_BYTES or not header.startswith(_QCOW2_MAGIC):
        raise Refused("InvalidParameterValue", f"The file {path} is not in the qcow2 format")
    if int.from_bytes(header[8:16]):
        raise Refused("InvalidParameterValue", f"The image {path} names a backing file; register one that stands alone")
    size_gib = -(-int.from_bytes(header[24:32]) // GIB)
    if not 1 <= size_gib <= SIZE_GIB_MAX:
        raise Refused("InvalidParameterValue", f"The virtual size of {path} must be 1 to {SIZE_GIB_MAX} GiB")
    return size_gib


def _wanted_gib(request: RegisterImageRequest) -> int:
    wanted = 0
    for mapping in request.block_device_mappings:
        if mapping.device_name != request.root_device_name or mapping.ebs is None:
            raise Refused("UnsupportedOperation", f"Only the root device {request.root_device_name} can be mapped")
        wanted = mapping.ebs.volume_size or 0
        if not 0 <= wanted <= SIZE_GIB_MAX:
            raise Refused("InvalidParameterValue", f"Volume of size {wanted}GiB is invalid: 1 to {SIZE_GIB_MAX}")
    return wanted


class DeregisterImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    delete_associated_snapshots: bool = False  # there are none


async def deregister_image(call: Call, request: DeregisterImageRequest) -> dict[str, object]:
    """Instances that run from it keep running, and start again after a stop: they know their image's source themselves."""
    id = request.image_id
    if not id:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")

    def body(tx: Tx) -> None:
        own_image(tx, call, id)
        tx.delete(Image, id)

    await call.store.write(body)
    return {"Return": True}


def own_image(reader: Reader, call: Call, id: str) -> Image:
    """One that the caller may change. Raises: Refused, NotFound."""
    image = find_image(reader, call, id)
    if image.account != call.account:
        raise Refused("AuthFailure", f"Not authorized for images: [{id}]", status=403)
    return image


# -- Attributes --------------------------------------------------------------------------------------------------------


class Attribute(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None


class LaunchPermission(msgspec.Struct, frozen=True, rename="pascal"):
    group: str | None = None  # only "all"
    user_id: str | None = None


class LaunchPermissions(msgspec.Struct, frozen=True, rename="pascal"):
    add: tuple[LaunchPermission, ...] = ()
    remove: tuple[LaunchPermission, ...] = ()


class ModifyImageAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    attribute: str | None = None
    description: Attribute | None = None
    launch_permission: LaunchPermissions | None = None
    operation_type: str | None = None
    user_groups: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    value: str | None = None


async def modify_image_attribute(call: Call, request: ModifyImageAttributeRequest) -> dict[str, object]:
    """The description, and who may launch it."""
    id = request.image_id
    if not id:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")
    description = _new_description(request)
    permissions = _checked_permissions(request)
    if description is None and not permissions.add and not permissions.remove:
        raise Refused("InvalidParameterCombination", "No attributes specified.")

    def body(tx: Tx) -> None:
        image = own_image(tx, call, id)
        removed = {permission.user_id for permission in permissions.remove}
        added = tuple(permission.user_id for permission in permissions.add if permission.user_id)
        shared = (*(account for account in image.shared_with if account not in removed), *added)
        public = image.public and not any(permission.group for permission in permissions.remove)
        tx.put(
            msgspec.structs.replace(
                image,
                description=image.description if description is None else description,
                public=public or any(permission.group for permission in permissions.add),
                shared_with=tuple(dict.fromkeys(shared)),
            )
        )

    await call.store.write(body)
    return {}


def _new_description(request: ModifyImageAttributeRequest) -> str | None:
    description = request.description.value or "" if request.description is not None else None
    if request.attribute == "description" and request.value is not None:
        description = request.value
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"The description of an image is limited to {DESCRIPTION_MAX} characters")
    return description


def _checked_permissions(request: ModifyImageAttributeRequest) -> LaunchPermissions:
    """Also from the form of EC2's first years, which names the attribute and an operation. Raises: Refused."""
    permissions = request.launch_permission or LaunchPermissions()
    named = (
        *(LaunchPermission(group=group) for group in request.user_groups),
        *(LaunchPermission(user_id=account) for account in request.user_ids),
    )
    if named and request.operation_type == "add":
        permissions = LaunchPermissions(add=named)
    elif named and request.operation_type == "remove":
        permissions = LaunchPermissions(remove=named)
    elif named:
        raise Refused("InvalidParameterValue", "Value for parameter operationType is invalid. Give add or remove.")
    for each in (*permissions.add, *permissions.remove):
        if each.group not in (None, "all"):
            raise _bad_item(each.group, "userGroup")
        if each.group is None and not _ACCOUNT.fullmatch(each.user_id or ""):
            raise _bad_item(each.user_id or "", "userId")
    return permissions


def _bad_item(value: str, kind: str) -> Refused:
    return Refused("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{value[:80]}" for {kind} item type.')


class DescribeImageAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    attribute: str | None = None


async def describe_image_attribute(call: Call, request: DescribeImageAttributeRequest) -> dict[str, object]:
    id = request.image_id
    if not id or not request.attribute:
        raise Refused("MissingParameter", "The request must contain the parameters ImageId and Attribute")
    image = call.store.read(lambda reader: own_image(reader, call, id))
    shown_attributes: Mapping[str, tuple[str, object]] = {
        "description": ("Description", {"Value": image.description}),
        "launchPermission": (
            "LaunchPermissions",
            [
                *([{"Group": "all"}] if image.public else []),
                *({"UserId": account} for account in image.shared_with),
            ],
        ),
        "productCodes": ("ProductCodes", []),
        "bootMode": ("BootMode", {"Value": "legacy-bios"}),
        "blockDeviceMapping": ("BlockDeviceMappings", _shown(image)["BlockDeviceMappings"]),
        "kernel": ("KernelId", {}),
        "ramdisk": ("RamdiskId", {}),
        "sriovNetSupport": ("SriovNetSupport", {}),
        "tpmSupport": ("TpmSupport", {}),
        "uefiData": ("UefiData", {}),
        "imdsSupport": ("ImdsSupport", {}),
    }
    if request.attribute not in shown_attributes:
        raise Refused("InvalidParameterValue", f"Value ({request.attribute[:80]}) for parameter attribute is invalid.")
    member, value = shown_attributes[request.attribute]
    return {"ImageId": id, member: value}


OPERATIONS: Mapping[str, Operation] = {
    "DeregisterImage": Operation(DeregisterImageRequest, deregister_image),
    "DescribeImageAttribute": Operation(DescribeImageAttributeRequest, describe_image_attribute),
    "DescribeImages": Operation(DescribeImagesRequest, describe_images),
    "ModifyImageAttribute": Operation(ModifyImageAttributeRequest, modify_image_attribute),
    "RegisterImage": Operation(RegisterImageRequest, register_image),
}
