"""Block device mappings of a launch: what the image has, changed by what the request says.

A mapping of a device that the image has changes that one, or takes it away (NoDevice); any other is a further volume, empty or
from a snapshot. The names under which people know a root all mean the root.
"""

import re
from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.api.ec2.encryption import Encrypting, kms_arn
from alto.api.ec2.ids import find_snapshot
from alto.api.ec2.images import devices
from alto.api.ec2.volume_attachments import ATTACHMENTS_MAX, check_device
from alto.model.accounts import AccountRegion
from alto.model.encryption import Encryption
from alto.model.errors import Refused
from alto.model.images import CONTAINER, ROOT_NAMES, Image, ImageDevice, host_kind_of
from alto.model.volumes import UNNAMED_VOLUME_TYPE, VOLUME_TYPES, SnapshotPhase
from alto.plan.volumes import check_type
from alto.store.store import Reader


class Ebs(msgspec.Struct, frozen=True, rename="pascal"):
    volume_size: int | None = None
    volume_type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    snapshot_id: str | None = None
    delete_on_termination: bool | None = None
    encrypted: bool | None = None
    kms_key_id: str | None = None


class BlockDeviceMapping(msgspec.Struct, frozen=True, rename="pascal"):
    """Tools of EC2's first years map the instance store of whatever they launch, by `virtual_name` ("ephemeral0"). A type
    without one, as all are here, takes no notice of that, as at EC2 ("Add instance store volumes to an EC2 instance"); an
    image shows it. Any other name is one of nothing, and may stand beside a volume, as dask-cloudprovider sends it."""

    device_name: str | None = None
    ebs: Ebs | None = None
    no_device: str | None = None
    virtual_name: str | None = None


_EPHEMERAL = re.compile(r"ephemeral(?:1?[0-9]|2[0-3])")


def is_instance_store(mapping: BlockDeviceMapping) -> bool:
    """Raises: Refused: it is one that has no name of such, or a volume too."""
    if not mapping.virtual_name:
        return False
    if not _EPHEMERAL.fullmatch(mapping.virtual_name):
        if mapping.ebs is not None:
            return False
        raise Refused(
            "InvalidBlockDeviceMapping", f"The virtual device name '{mapping.virtual_name[:80]}' is no ephemeral[0-23]"
        )
    if mapping.ebs is not None:
        raise Refused("InvalidBlockDeviceMapping", f"The device '{(mapping.device_name or '')[:80]}' is mapped to two things")
    return True


def instance_stores(mappings: Sequence[BlockDeviceMapping], volumes: Collection[str]) -> dict[str, str]:
    """The virtual names that an image shows, by device. `volumes`: devices that it has beside those mapped. Raises: Refused."""
    named: dict[str, str] = {}
    taken = {*volumes, *(one.device_name for one in mappings if not is_instance_store(one))}
    for one in mappings:
        if is_instance_store(one):
            device = one.device_name or ""
            check_device(device)
            if device in taken or device in named:
                raise device_mapped_twice(device)
            named[device] = one.virtual_name or ""
    return named


def device_mapped_twice(name: str) -> Refused:
    return Refused("InvalidBlockDeviceMapping", f"The device '{name}' is used in more than one block-device mapping")


class Devices(msgspec.Struct, frozen=True):
    root: ImageDevice
    further: tuple[ImageDevice, ...] = ()
    storage: str | None = None  # what they need; "": any; None: nothing beside a root


class Ciphers:
    """What becomes of the devices' encryption. `region` is the account's, with its defaults."""

    def __init__(self, encrypting: Encrypting, region: AccountRegion) -> None:
        self._encrypting = encrypting
        self._region = region

    def is_free(self, device: ImageDevice) -> bool:
        """Nobody has asked for any."""
        return device.encryption is None and not self._region.volumes_encrypted

    def of(self, device: ImageDevice, ebs: Ebs, *, own: bool) -> ImageDevice:
        """`own`: the snapshot is the account's. Raises: Refused."""
        encrypted, key, source = ebs.encrypted, ebs.kms_key_id, device.encryption
        if source is not None and device.snapshot_id is None:
            # The image's wish, that the launch may change.
            encrypted = True if encrypted is None else encrypted
            key, source = (key or source.kms_key_id or None) if encrypted else key, None
        chosen = self._encrypting.chosen(self._region, encrypted, key, name=device.device, source=source, keeps_key=own)
        return replace(device, encryption=chosen)


def wished(call: Call, ebs: Ebs) -> Encryption | None:
    """Of an image's device that has no snapshot: each launch draws its key. Raises: Refused."""
    if ebs.kms_key_id is not None and not ebs.encrypted:
        raise Refused("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
    if not ebs.encrypted:
        return None
    return Encryption(kms_key_id=kms_arn(call, ebs.kms_key_id) if ebs.kms_key_id is not None else "")


def launch_devices(
    reader: Reader, call: Call, mappings: Sequence[BlockDeviceMapping], image: Image, ciphers: Ciphers | None = None
) -> Devices:
    """Without `ciphers`, it is no launch but an image that is registered: no name but the image's own word for it means its
    root, and encryption stays a wish. Raises: Refused, NotFound."""
    root, *further = devices(image)
    if not mappings and not further and image.storage is None and (ciphers is None or ciphers.is_free(root)):
        return Devices(root)
    any_name = ciphers is None
    foreign = {one.device for one in (root, *further) if image.account != call.account}
    said: dict[str, Ebs] = {}
    chosen = {one.device: one for one in further}
    storages = {image.storage} if image.storage is not None else set()
    mapped: set[str] = set()
    for mapping in mappings:
        name, ebs = mapping.device_name, mapping.ebs or Ebs()
        if not name:
            raise Refused("MissingParameter", "The request must contain the parameter deviceName")
        is_store = is_instance_store(mapping)
        if mapping.no_device:
            raise Refused("InvalidRequest", "The request received was invalid")
        if mapping.ebs is None and mapping.no_device is None and not is_store:
            raise Refused("MissingParameter", "The request must contain the parameter ebs")
        is_root = name == image.root_device or (name in ROOT_NAMES and not any_name)
        device = root.device if is_root else name
        if device in mapped:
            raise device_mapped_twice(name)
        mapped.add(device)
        if is_store:
            continue
        if is_root:
            if mapping.no_device is not None:
                raise Refused("InvalidBlockDeviceMapping", "The root device cannot be left out of a launch")
            if ebs.snapshot_id not in (None, root.snapshot_id):
                raise Refused("InvalidBlockDeviceMapping", "snapshotId cannot be modified on root device")
            root = _changed(root, ebs, f"snapshot '{root.snapshot_id}'" if root.snapshot_id else f"the image '{image.id}'")
            said[root.device] = ebs
            continue
        if mapping.no_device is not None:
            chosen.pop(name, None)
            continue
        check_device(name)
        before = chosen.get(name, ImageDevice(device=name, size_gib=0, type=UNNAMED_VOLUME_TYPE))
        if ebs.snapshot_id is not None:
            snapshot = find_snapshot(reader, call, ebs.snapshot_id)
            if snapshot.phase is not SnapshotPhase.COMPLETED:
                raise Refused("IncorrectState", f"Snapshot {snapshot.id} is in invalid state - {snapshot.phase}")
            storages.add(snapshot.storage)
            before = replace(before, snapshot_id=snapshot.id, size_gib=snapshot.size_gib, encryption=snapshot.encryption)
            foreign = (foreign | {name}) if snapshot.account != call.account else foreign - {name}
        if not before.size_gib and ebs.volume_size is None:
            raise Refused("MissingParameter", "The request must contain the parameter size or snapshotId")
        said[name] = ebs
        chosen[name] = _changed(before, ebs, f"snapshot '{before.snapshot_id}'" if before.snapshot_id else "")
    if len(chosen) > ATTACHMENTS_MAX:
        raise Refused("AttachmentLimitExceeded", f"At most {ATTACHMENTS_MAX} volumes can be attached to an instance")
    if ciphers is not None:
        root = ciphers.of(root, said.get(root.device, Ebs()), own=root.device not in foreign)
        chosen = {name: ciphers.of(one, said.get(name, Ebs()), own=name not in foreign) for name, one in chosen.items()}
    else:
        chosen = {name: _registered(call, one, said[name]) for name, one in chosen.items()}
    if host_kind_of(image.source) == CONTAINER and root.encryption is not None:
        raise Refused(
            "UnsupportedOperation",
            "A container's root is a folder of its host, which is not encrypted: launch an image for virtual machines",
        )
    if host_kind_of(image.source) == CONTAINER and (chosen or not root.delete_on_termination):
        raise Refused("UnsupportedOperation", "A container has no volume but its root, which goes with it")
    if len(storages) > 1:
        raise Refused("InvalidBlockDeviceMapping", "The image and the snapshots are on disks that no host has all of")
    return Devices(root, tuple(chosen.values()), next(iter(storages), "" if chosen else None))


def _registered(call: Call, device: ImageDevice, ebs: Ebs) -> ImageDevice:
    if device.snapshot_id is None:
        return replace(device, encryption=wished(call, ebs))
    if ebs.kms_key_id is not None or ebs.encrypted is not None:
        # "The request will fail, regardless of the value" ("EbsBlockDevice").
        raise Refused(
            "InvalidBlockDeviceMapping",
            f"the encrypted flag cannot be specified since device {device.device} has a snapshot specified.",
        )
    return device


def says_size_only(ebs: Ebs) -> bool:
    """Type, IOPS and throughput stay what they are."""
    return ebs.volume_type is None and ebs.iops is None and ebs.throughput is None


def _changed(device: ImageDevice, ebs: Ebs, source: str) -> ImageDevice:
    size, type = ebs.volume_size if ebs.volume_size is not None else device.size_gib, ebs.volume_type or device.type
    if type not in VOLUME_TYPES:
        known = ", ".join(sorted(VOLUME_TYPES))
        raise Refused("InvalidParameterValue", f"Invalid value '{type[:80]}' for VolumeType. Here it is one of {known}")
    same = type == device.type
    iops = ebs.iops if ebs.iops is not None else (device.iops if same else None)
    throughput = ebs.throughput if ebs.throughput is not None else (device.throughput if same else None)
    check_type(type, size, iops, throughput, kept=says_size_only(ebs))
    if source and size < device.size_gib:
        raise Refused(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than {source}, expect size >= {device.size_gib}GB",
        )
    kept = ebs.delete_on_termination
    return replace(
        device,
        size_gib=size,
        type=type,
        iops=iops,
        throughput=throughput,
        delete_on_termination=device.delete_on_termination if kept is None else kept,
    )
