"""RegisterImage and DeregisterImage: names for bytes that are there already, or were.

An image is registered from a qcow2 file of the operator's machine (a path of a server's disk is nothing that a tenant may
name), for containers from an archive of a root file system, or from a snapshot of a system's disk. Not here: fetching and
judging the file whole (`drivers/image`), which an agent does before a first boot.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.block_devices import BlockDeviceMapping, instance_stores, is_instance_store, launch_devices, wished
from alto.api.ec2.images import DESCRIPTION_MAX, IMDS_V2, own_image
from alto.api.ec2.shapes import SRIOV
from alto.api.ec2.tags import TagSpecification, tags_for
from alto.model.encryption import Encryption
from alto.model.errors import Refused
from alto.model.images import (
    ARCHIVE_GIB,
    ARCHIVES,
    BOOTS_ITSELF,
    EITHER_BOOT_MODE,
    ROOT_DEVICE,
    FormerImage,
    Image,
    boot_mode_of,
)
from alto.model.records import Tags
from alto.model.volumes import Snapshot
from alto.store.store import Reader, Tx
from alto.store.tags import forget_added_tags
from alto.store.volumes import begin_snapshot_deletion

FILE_SCHEME = "file://"
GIB = 1 << 30
SIZE_GIB_MAX = 16_384  # EC2's largest volume

_NAME = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}")
_DEVICE = re.compile(r"/dev/(?:sd|xvd|vd)[a-z]{1,2}[0-9]{0,2}")
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER_BYTES = 72
_TAR_HEADER_BYTES, _USTAR_AT = 512, 257
_PACKED = {"gz": b"\x1f\x8b", "tgz": b"\x1f\x8b", "xz": b"\xfd7zXZ\0", "zst": b"\x28\xb5\x2f\xfd"}


class RegisterImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    name: str | None = None
    description: str = ""
    image_location: str | None = None
    architecture: str = "x86_64"
    root_device_name: str = ROOT_DEVICE
    block_device_mappings: tuple[BlockDeviceMapping, ...] = ()
    virtualization_type: str = "hvm"
    ena_support: bool = True
    sriov_net_support: str | None = None
    imds_support: str | None = None
    boot_mode: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def register_image(call: Call, request: RegisterImageRequest) -> dict[str, object]:
    name = checked_name(request.name)
    if len(request.description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"The description of an image is limited to {DESCRIPTION_MAX} characters")
    _only("architecture", request.architecture, "x86_64", "arm64")
    _only("virtualizationType", request.virtualization_type, "hvm")
    boot_mode = boot_mode_of(request.architecture)
    _only("bootMode", request.boot_mode or boot_mode, boot_mode, EITHER_BOOT_MODE)
    _only("sriovNetSupport", request.sriov_net_support or SRIOV, SRIOV)
    _only("imdsSupport", request.imds_support or IMDS_V2, IMDS_V2)
    if not _DEVICE.fullmatch(request.root_device_name):
        raise Refused(
            "InvalidParameterValue", f"Value ({request.root_device_name[:80]}) for parameter rootDeviceName is invalid."
        )
    tags = tags_for(request.tag_specifications, "image")["image"]
    if request.image_location is None and any(one.ebs and one.ebs.snapshot_id for one in request.block_device_mappings):
        return await _register_snapshot(call, request, name, tags)
    path = _checked_path(call, request.image_location)
    least_gib = _archive_gib(call, path) if path.name.endswith(ARCHIVES) else _virtual_gib(call, path)
    size_gib = max(least_gib, _wanted_gib(request))
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
        encryption=_root_encryption(call, request),
        instance_stores=instance_stores(request.block_device_mappings, (request.root_device_name,)),
        ena=request.ena_support,
        sriov=request.sriov_net_support is not None,
        boot_mode=request.boot_mode,
        imds_v2=request.imds_support is not None,
    )

    def body(tx: Tx) -> None:
        check_free(tx, call, name)
        tx.put(image)

    await call.store.write(body)
    return {"ImageId": image.id}


async def _register_snapshot(call: Call, request: RegisterImageRequest, name: str, tags: Tags) -> dict[str, object]:
    id, now = draw_id(call.world.chance, "ami"), call.world.clock.now()

    def body(tx: Tx) -> None:
        check_free(tx, call, name)
        bare = Image(
            id=id,
            account=call.account,
            region=call.region,
            name=name,
            description=request.description,
            source=BOOTS_ITSELF,
            architecture=request.architecture,
            root_device=request.root_device_name,
            size_gib=0,
            created_at=now,
            tags=tags,
            instance_stores=instance_stores(request.block_device_mappings, ()),
            ena=request.ena_support,
            sriov=request.sriov_net_support is not None,
            boot_mode=request.boot_mode,
            imds_v2=request.imds_support is not None,
        )
        # Read as a launch would read them, of an image that has nothing yet: so the root is one of the further devices.
        elsewhere = replace(bare, root_device="")
        given = launch_devices(tx, call, request.block_device_mappings, elsewhere)
        root = next((one for one in given.further if one.device == request.root_device_name), None)
        snapshot = tx.find(Snapshot, root.snapshot_id) if root is not None and root.snapshot_id is not None else None
        if root is None or snapshot is None:
            raise Refused("InvalidBlockDeviceMapping", f"The root device {request.root_device_name} needs a snapshot")
        others = tuple(one for one in given.further if one is not root)
        source = snapshot.boot_source or BOOTS_ITSELF
        tx.put(replace(bare, size_gib=root.size_gib, devices=(root, *others), storage=given.storage, source=source))

    await call.store.write(body)
    return {"ImageId": id}


def checked_name(name: str | None) -> str:
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter Name")
    if not _NAME.fullmatch(name):
        raise Refused(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '[', ']', ' ', "
            "'.', '/', '-', '\\'', '@' and '_'",
        )
    return name


def check_free(reader: Reader, call: Call, name: str) -> None:
    """Raises: Refused: the account has another image of this name."""
    for other in reader.where(Image, account=call.account):
        if other.name == name and other.region in (None, call.region):
            raise Refused("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {other.id}")


def _only(parameter: str, value: str, *supported: str) -> None:
    if value not in supported:
        raise Refused(
            "InvalidParameterValue",
            f"Value ({value[:80]}) for parameter {parameter} is invalid. Here it is {' or '.join(supported)}.",
        )


def _checked_path(call: Call, location: str | None) -> Path:
    if location is None:
        raise Refused(
            "MissingParameter",
            "The request must contain the parameter ImageLocation, or a BlockDeviceMapping with a snapshot of the root. "
            f"Operators may register a file: ImageLocation={FILE_SCHEME}/path/to/image.qcow2",
        )
    if not location.startswith(FILE_SCHEME + "/"):
        raise Refused(
            "UnsupportedOperation",
            f"An image in S3 cannot be registered yet: give ImageLocation={FILE_SCHEME}/path/to/image.qcow2",
        )
    if not call.operator:
        raise Refused("UnauthorizedOperation", "Only the operator may register files of this machine as images", status=403)
    path = Path(location.removeprefix(FILE_SCHEME))
    if ".." in path.parts or not path.name.endswith((".qcow2", *ARCHIVES)):
        raise Refused(
            "InvalidParameterValue",
            f"The file {path} must be a plain path that ends in .qcow2, or for containers in one of {', '.join(ARCHIVES)}",
        )
    return path


def _archive_gib(call: Call, path: Path) -> int:
    """Whether it is what its name says shows its first bytes; what is in it, its first use."""
    try:
        head = call.world.files.part(path, 0, _TAR_HEADER_BYTES)
    except OSError as error:
        raise Refused("InvalidParameterValue", f"The file {path} cannot be read on the server") from error
    packed = next((magic for ending, magic in _PACKED.items() if path.name.endswith(ending)), None)
    known = head.startswith(packed) if packed is not None else head[_USTAR_AT:].startswith(b"ustar")
    if not known:
        raise Refused("InvalidParameterValue", f"The file {path} is not the archive that its name says")
    return ARCHIVE_GIB


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
        if is_instance_store(mapping):
            continue
        if mapping.device_name != request.root_device_name or mapping.ebs is None:
            raise Refused("UnsupportedOperation", f"Only the root device {request.root_device_name} can be mapped")
        wanted = mapping.ebs.volume_size or 0
        if not 0 <= wanted <= SIZE_GIB_MAX:
            raise Refused("InvalidParameterValue", f"Volume of size {wanted}GiB is invalid: 1 to {SIZE_GIB_MAX}")
    return wanted


def _root_encryption(call: Call, request: RegisterImageRequest) -> Encryption | None:
    for mapping in request.block_device_mappings:
        if mapping.ebs is not None:
            return wished(call, mapping.ebs)
    return None


class DeregisterImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    delete_associated_snapshots: bool = False


async def deregister_image(call: Call, request: DeregisterImageRequest) -> dict[str, object]:
    """Instances that run from it keep running, and start again after a stop: they need nothing of it by then."""
    id = request.image_id
    if not id:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")
    now = call.world.clock.now()

    def body(tx: Tx) -> list[dict[str, str]]:
        image = own_image(tx, call, id)
        if image.protected or (image.protected_until or 0) > now:
            raise Refused(
                "OperationNotPermitted",
                f"The image '{id}' is protected from being deregistered. Disable its deregistration protection, and wait for a "
                "day if that has a cooldown.",
            )
        tx.delete(Image, id)
        forget_added_tags(tx, id)
        before = tx.find(FormerImage, id)  # Alto's own images have the same ids whenever they come again
        version = 0 if before is None else before.version
        tx.put(FormerImage(id=id, version=version, account=call.account, region=image.region, ended_at=now))
        deleted = []
        for one in image.devices if request.delete_associated_snapshots else ():
            snapshot = tx.find(Snapshot, one.snapshot_id) if one.snapshot_id is not None else None
            if snapshot is None or snapshot.account != call.account:
                continue
            others = (other for other in tx.where(Image, account=call.account) if other.id != id)
            used = any(device.snapshot_id == snapshot.id for other in others for device in other.devices)
            if not used:
                begin_snapshot_deletion(tx, snapshot)
            deleted.append({"SnapshotId": snapshot.id, "ReturnCode": "skipped" if used else "success"})
        return deleted

    results = await call.store.write(body)
    return {"Return": True, "DeleteSnapshotResults": results}


OPERATIONS: Mapping[str, Operation] = {
    "DeregisterImage": Operation(DeregisterImageRequest, deregister_image),
    "RegisterImage": Operation(RegisterImageRequest, register_image),
}
