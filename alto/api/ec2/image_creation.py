"""CreateImage and CopyImage: images whose disks are snapshots.

CreateImage takes snapshots of all volumes of an instance at one moment; unless NoReboot is asked, the guest powers off before
and comes up again after, so that it has written everything. The image is available once its snapshots are
(`api/hosts/storage.py`).
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.block_devices import (
    BlockDeviceMapping,
    Ebs,
    instance_stores,
    is_instance_store,
    says_size_only,
    wished,
)
from alto.api.ec2.encryption import Encrypting, own_region
from alto.api.ec2.ids import added_tags, find_image, owned, sees_snapshot, tags_seen
from alto.api.ec2.image_registration import check_free, checked_name
from alto.api.ec2.images import DESCRIPTION_MAX
from alto.api.ec2.moments import moment_until
from alto.api.ec2.snapshots import SnapshotWish, begin_copy, begin_snapshot
from alto.api.ec2.tags import RESERVED, TagSpecification, check_count, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.api.ec2.volume_attachments import check_device
from alto.model.errors import Refused
from alto.model.images import BOOTS_ITSELF, KERNEL_BESIDE, TINY, Image, ImageDevice, ImageState
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance
from alto.model.records import Tags
from alto.model.volumes import UNNAMED_VOLUME_TYPE, Snapshot, Volume
from alto.plan.instances import state_name
from alto.plan.volumes import check_type
from alto.store.store import Reader, Tx

SNAPSHOTS_MAX = 32


class CreateImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    name: str | None = None
    description: str = ""
    no_reboot: bool = False
    block_device_mappings: tuple[BlockDeviceMapping, ...] = ()
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_image(call: Call, request: CreateImageRequest) -> dict[str, object]:
    name = checked_name(request.name)
    _check_description(request.description)
    tags = tags_for(request.tag_specifications, "image", "snapshot")
    id, now = draw_id(call.world.chance, "ami"), call.world.clock.now()
    drawn = [draw_id(call.world.chance, "snap") for _ in range(SNAPSHOTS_MAX)]
    await moment_until(call, lambda reader: state_name(owned(reader, call, Instance, request.instance_id)) != "pending")

    def body(tx: Tx) -> None:
        instance = owned(tx, call, Instance, request.instance_id)
        if state_name(instance) not in ("running", "stopped", "stopping"):
            raise Refused(
                "IncorrectInstanceState",
                f"The instance '{instance.id}' is not in a state from which an image can be made ({state_name(instance)}).",
            )
        check_free(tx, call, name)
        mappings = {one.device_name or "": one for one in request.block_device_mappings if not is_instance_store(one)}
        reboot = not request.no_reboot and state_name(instance) == "running"
        devices, storage = [], None
        if instance.root.away:
            raise Refused("IncorrectState", f"The instance '{instance.id}' does not have a volume attached at root.")
        volumes = [(instance.root.volume_id, instance.root.device, instance.root.delete_on_termination)]
        volumes += [(one.volume_id, one.device, one.delete_on_termination) for one in instance.volumes if not one.detaching]
        virtual = instance_stores(request.block_device_mappings, {device for _, device, _ in volumes})
        for (volume_id, device, deleted), snapshot_id in zip(volumes, drawn, strict=False):
            mapping = mappings.pop(device, None)
            if mapping is not None and mapping.no_device is not None:
                if device == instance.root.device:
                    raise Refused("InvalidBlockDeviceMapping", "The root device cannot be left out of an image")
                continue
            volume = tx.get(Volume, volume_id)
            wish = SnapshotWish(snapshot_id, f"Created by CreateImage({instance.id}) for {id}", tags["snapshot"], now)
            snapshot = begin_snapshot(tx, volume, wish, set_id=id, reboot=reboot)
            storage = snapshot.storage
            made = ImageDevice(
                device=device,
                snapshot_id=snapshot.id,
                size_gib=volume.size_gib,
                type=volume.type,
                iops=volume.iops,
                throughput=volume.throughput,
                delete_on_termination=deleted,
                encryption=volume.encryption,
            )
            devices.append(_mapped(made, mapping.ebs) if mapping is not None and mapping.ebs is not None else made)
        devices += [_empty(call, one) for one in mappings.values() if one.no_device is None]
        tx.put(
            Image(
                id=id,
                account=call.account,
                region=call.region,
                name=name,
                description=request.description,
                source=TINY if instance.image_source in KERNEL_BESIDE else BOOTS_ITSELF,
                architecture=CATALOGUE[instance.instance_type].architecture,
                root_device=instance.root.device,
                size_gib=devices[0].size_gib,
                created_at=now,
                tags=tags["image"],
                state=ImageState.PENDING,
                devices=tuple(devices),
                instance_stores=virtual,
                storage=storage,
                ena=instance.ena,
                sriov=instance.sriov,
                boot_mode=instance.boot_mode,
                source_instance_id=instance.id,
                source_image_id=instance.image_id,
                source_image_region=call.region,
            )
        )

    await call.store.write(body)
    await moment_until(call, lambda reader: _made(reader, id))
    return {"ImageId": id}


def _check_description(description: str) -> None:
    if len(description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"The description of an image is limited to {DESCRIPTION_MAX} characters")


def _made(reader: Reader, id: str) -> bool:
    image = reader.find(Image, id)
    return image is None or image.state is not ImageState.PENDING


def _mapped(device: ImageDevice, ebs: Ebs) -> ImageDevice:
    """What the image says of a device that the instance has, its snapshot aside."""
    # "If you specify false, the parameter is ignored" for what is encrypted ("EbsBlockDevice").
    if ebs.kms_key_id is not None or (ebs.encrypted and device.encryption is None):
        raise Refused(
            "InvalidBlockDeviceMapping",
            f"The volume of '{device.device}' is not encrypted, or has a key, and so has its snapshot, whatever is said here",
        )
    size, type = ebs.volume_size or device.size_gib, ebs.volume_type or device.type
    iops, throughput = ebs.iops or device.iops, ebs.throughput or device.throughput
    check_type(type, size, iops, throughput, kept=says_size_only(ebs))
    if size < device.size_gib:
        raise Refused(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than the volume of '{device.device}', expect size >= {device.size_gib}GB",
        )
    kept = ebs.delete_on_termination
    deleted = device.delete_on_termination if kept is None else kept
    return replace(device, size_gib=size, type=type, iops=iops, throughput=throughput, delete_on_termination=deleted)


def _empty(call: Call, mapping: BlockDeviceMapping) -> ImageDevice:
    """A further volume, which the instance does not have."""
    ebs = mapping.ebs
    if not mapping.device_name or ebs is None or ebs.volume_size is None or ebs.snapshot_id is not None:
        raise Refused("InvalidBlockDeviceMapping", "A further device of an image needs a name and a size, and is empty")
    check_device(mapping.device_name)
    bare = ImageDevice(
        device=mapping.device_name, size_gib=ebs.volume_size, type=UNNAMED_VOLUME_TYPE, encryption=wished(call, ebs)
    )
    return _mapped(bare, replace(ebs, encrypted=None, kms_key_id=None))


class CopyImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    source_region: str
    source_image_id: str
    name: str | None = None
    description: str | None = None
    encrypted: bool | None = None
    kms_key_id: str | None = None
    copy_image_tags: bool = False
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def copy_image(call: Call, request: CopyImageRequest) -> dict[str, object]:
    """Its snapshots are copied too, so that neither image needs the other's."""
    if request.source_region not in call.settings.regions:
        raise Refused("InvalidParameterValue", f"Invalid source region: {request.source_region[:80]}")
    name = checked_name(request.name)
    _check_description(request.description or "")
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "image", "snapshot")
    id, now = draw_id(call.world.chance, "ami"), call.world.clock.now()
    drawn = [draw_id(call.world.chance, "snap") for _ in range(SNAPSHOTS_MAX)]
    there = replace(call, region=request.source_region)
    source_id, encrypting = request.source_image_id, Encrypting(call)
    await moment_until(call, lambda reader: find_image(reader, there, source_id).state is not ImageState.PENDING)

    def body(tx: Tx) -> str:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return known
        source = find_image(tx, there, source_id)
        if source.state is not ImageState.AVAILABLE:
            raise Refused("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available: it is {source.state}")
        check_free(tx, call, name)
        devices, region = [], own_region(tx, call)
        for one, snapshot_id in zip(source.devices, drawn, strict=False):
            if one.snapshot_id is None:
                devices.append(one)
                continue
            wish = SnapshotWish(snapshot_id, f"Copied for {id} from {source.id}", tags["snapshot"], now)
            old = tx.get(Snapshot, one.snapshot_id)
            if not sees_snapshot(tx, there, old):
                # Who may launch it need not be able to copy it ("Copy an Amazon EC2 AMI", "Cross-account copying").
                raise Refused("InvalidRequest", "You do not have permission to access the storage of this ami")
            encryption = encrypting.chosen(
                region, request.encrypted, request.kms_key_id, name=one.device, source=old.encryption, keeps_key=False
            )
            begin_copy(tx, call, old, wish, encryption)
            devices.append(replace(one, snapshot_id=snapshot_id, encryption=encryption))
        root = source.encryption
        if source.root_snapshot_id is None and (request.encrypted or request.kms_key_id is not None):
            # No bytes are copied: each launch encrypts what it writes over the image.
            root = wished(call, Ebs(encrypted=request.encrypted, kms_key_id=request.kms_key_id))
        seen: Tags = tags_seen(call, source, added_tags(tx, there)) if request.copy_image_tags else {}
        kept = {key: value for key, value in seen.items() if not key.startswith(RESERVED)}
        check_count({**kept, **tags["image"]})
        copy = replace(
            source,
            id=id,
            version=0,
            account=call.account,
            region=call.region,
            name=name,
            description=source.description if request.description is None else request.description,
            public=False,
            shared_with=(),
            created_at=now,
            tags={**kept, **tags["image"]},
            state=ImageState.PENDING if any(one.snapshot_id for one in devices) else ImageState.AVAILABLE,
            devices=tuple(devices),
            encryption=root,
            deprecated_at=None,
            protected=False,
            cooldown=False,
            protected_until=None,
            source_instance_id=None,
            source_image_id=source.id,
            source_image_region=request.source_region,
        )
        tx.put(copy)
        remember_result(tx, call, request.client_token, id, now)
        return id

    made = await call.store.write(body)
    await moment_until(call, lambda reader: _made(reader, made))
    return {"ImageId": made}


OPERATIONS: Mapping[str, Operation] = {
    "CopyImage": Operation(CopyImageRequest, copy_image),
    "CreateImage": Operation(CreateImageRequest, create_image),
}
