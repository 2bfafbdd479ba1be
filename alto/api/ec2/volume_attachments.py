"""AttachVolume and DetachVolume: what an instance is wired to. A stopped one may give its root volume up, and take it again
or another.

Both only write a wish, into the instance (`volumes`, `wiring`); it is true once its host has said so (`store/volumes.py`,
settle_wiring). A stopped instance gets, or has lost, the volume when its host has heard of it. Not here: volumes that a launch
makes. The invariant: a volume's `instance_id` and the instance's `volumes` name each other.
"""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.ids import check_id, owned
from alto.api.ec2.moments import moment_until
from alto.api.ec2.volumes import show_attachment
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.images import KERNEL_BESIDE, ROOT_NAMES, TINY
from alto.model.instances import Instance, RootVolume
from alto.model.volumes import Attachment, AttachState, Volume, VolumePhase
from alto.plan.instances import state_name
from alto.plan.volumes import volume_state
from alto.store.store import Reader, Tx
from alto.store.volumes import sealed_key_of

# The bridge for what is plugged has 31 places, which network interfaces need too (docs/adr/0009-one-bridge-for-hot-plug.md).
ATTACHMENTS_MAX = 24
_DEVICE = re.compile(r"(/dev/)?(sd[a-z]{1,2}[0-9]{0,2}|xvd[a-z]{1,2}[0-9]{0,2}|vd[a-z]{1,2}|hd[a-z])")


class AttachVolumeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    instance_id: str
    device: str


async def attach_volume(call: Call, request: AttachVolumeRequest) -> dict[str, object]:
    check_id(Volume.KIND, request.volume_id)
    check_id(Instance.KIND, request.instance_id)
    now = call.world.clock.now()
    await moment_until(call, lambda reader: _ready(reader, call, request))

    def body(tx: Tx) -> Volume:
        volume = owned(tx, call, Volume, request.volume_id)
        instance = owned(tx, call, Instance, request.instance_id)
        check_device(request.device)
        if volume.instance_id is not None:
            raise Refused("VolumeInUse", f"{volume.id} is already attached to an instance")
        if volume_state(volume) != "available":
            raise Refused("IncorrectState", f"{volume.id} is not 'available'.")
        if volume.zone != instance.zone:
            raise Refused(
                "InvalidVolume.ZoneMismatch",
                f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
            )
        if state_name(instance) not in ("running", "stopped"):
            raise Refused("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        as_root = instance.root.away and request.device == instance.root.device
        if not as_root and _device_taken(instance, request.device):
            raise Refused(
                "InvalidParameterValue",
                f"Invalid value '{request.device}' for unixDevice. Attachment point {request.device} is already in use",
            )
        if len(instance.volumes) >= ATTACHMENTS_MAX:
            raise Refused("AttachmentLimitExceeded", f"At most {ATTACHMENTS_MAX} volumes can be attached to an instance")
        storage = _check_reach(tx, volume, instance)
        wired = replace(instance, wiring=instance.wiring + 1, storage=storage)
        if as_root:
            _check_boots(volume, instance)
            if _is_leaving(instance):
                raise Refused("IncorrectState", f"The root volume {instance.root.volume_id} is still being detached.")
            root = RootVolume(
                volume_id=volume.id,
                size_gib=volume.size_gib,
                delete_on_termination=False,
                device=request.device,
                made_here=False,
                attached_at=now,
                sealed_key=sealed_key_of(volume.encryption),
            )
            tx.put(replace(wired, root=root))
        else:
            attached = Attachment(
                volume_id=volume.id,
                device=request.device,
                size_gib=volume.size_gib,
                attached_at=now,
                since=wired.wiring,
                sealed_key=sealed_key_of(volume.encryption),
            )
            tx.put(replace(wired, volumes=(*instance.volumes, attached)))
        return tx.put(
            replace(
                volume,
                instance_id=instance.id,
                device=request.device,
                attached_at=now,
                delete_on_termination=False,
                attach_state=AttachState.ATTACHING,
            )
        )

    volume = await call.store.write(body)
    await moment_until(call, lambda reader: _settled(reader, volume.id, AttachState.ATTACHING))
    return show_attachment(volume)


def check_device(device: str) -> None:
    if not _DEVICE.fullmatch(device):
        raise Refused(
            "InvalidParameterValue",
            f"Value ({device[:80]}) for parameter device is invalid. {device[:80]} is not a valid EBS device name.",
        )


def _ready(reader: Reader, call: Call, request: AttachVolumeRequest) -> bool:
    """Nothing that ends soon stands in the way; what stands there for longer is refused in a moment."""
    volume = owned(reader, call, Volume, request.volume_id)
    instance = owned(reader, call, Instance, request.instance_id)
    coming = state_name(instance) in ("pending", "stopping")
    leaving = volume.attach_state is AttachState.DETACHING or _is_leaving(instance)
    return volume.phase is not VolumePhase.CREATING and not leaving and not coming


def _is_leaving(instance: Instance) -> bool:
    """Whether the root that it gave up is still on its way out."""
    return instance.root.away and bool(instance.root.volume_id)


def _device_taken(instance: Instance, device: str) -> bool:
    return device in (*ROOT_NAMES, instance.root.device, *(one.device for one in instance.volumes))


def _check_boots(volume: Volume, instance: Instance) -> None:
    """A machine keeps what it boots by: a kernel beside its disk, or what is on the disk. Raises: Refused."""
    if (instance.image_source in KERNEL_BESIDE) != (volume.boot_source == TINY):
        raise Refused(
            "UnsupportedOperation",
            f"{volume.id} has no system that boots as '{instance.id}' does: attach what was the root of an instance of the "
            "same kind of image, or was made from a snapshot of one.",
        )


def _check_reach(reader: Reader, volume: Volume, instance: Instance) -> str:
    """The storage that both are in. Raises: Refused."""
    host = _check_has_storage(reader, instance)
    home = reader.find(Host, volume.host_id) if volume.host_id is not None else None
    if home is None:
        raise Refused("IncorrectState", f"The host of {volume.id} has left this cloud.")
    if host.capabilities.storage != home.capabilities.storage:
        raise Refused(
            "IncorrectState",
            f"{volume.id} is on the disk of host {home.id}, and instance '{instance.id}' is on {host.id}, which does not reach "
            f"it: volumes stay where they are. Launch an instance there for it (Placement.HostId={home.id}).",
        )
    return host.capabilities.storage


def _check_has_storage(reader: Reader, instance: Instance) -> Host:
    """Its host, which keeps volumes apart from machines. Raises: Refused."""
    host = reader.find(Host, instance.host_id) if instance.host_id is not None else None
    if host is None:
        raise Refused("IncorrectState", f"The host of {instance.id} has left this cloud.")
    if not host.capabilities.storage:
        raise Refused(
            "UnsupportedOperation",
            f"Instance '{instance.id}' is on a host without storage for volumes: it keeps its root itself, and has no other.",
        )
    return host


class DetachVolumeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str
    instance_id: str | None = None
    device: str | None = None
    force: bool = False  # a guest that does not let go is asked again until it does, or stops: nothing is torn away


async def detach_volume(call: Call, request: DetachVolumeRequest) -> dict[str, object]:
    check_id(Volume.KIND, request.volume_id)
    if request.instance_id is not None:
        check_id(Instance.KIND, request.instance_id)
    await moment_until(call, lambda reader: _attached(reader, owned(reader, call, Volume, request.volume_id)))

    def body(tx: Tx) -> Volume:
        volume = owned(tx, call, Volume, request.volume_id)
        if request.instance_id is not None:
            owned(tx, call, Instance, request.instance_id)
        if volume.instance_id is None:
            raise Refused("IncorrectState", f"Volume '{volume.id}' is in the '{volume_state(volume)}' state.")
        instance = tx.get(Instance, volume.instance_id)
        if request.instance_id not in (None, instance.id):
            raise Refused(
                "InvalidAttachment.NotFound", f"Volume '{volume.id}' is not attached to instance '{request.instance_id}'"
            )
        if request.device not in (None, volume.device):
            raise Refused("InvalidAttachment.NotFound", f"Volume '{volume.id}' is not attached as device '{request.device}'")
        is_root = instance.root.volume_id == volume.id
        if is_root and state_name(instance) != "stopped":
            raise Refused("OperationNotPermitted", f"Unable to detach root volume '{volume.id}' from instance '{instance.id}'")
        if state_name(instance) == "pending":
            # Its bytes may be made with the instance, and then are not there yet.
            raise Refused("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        if volume.attach_state is AttachState.DETACHING:
            return volume
        since = instance.wiring + 1
        if is_root:
            _check_has_storage(tx, instance)
            tx.put(replace(instance, root=replace(instance.root, away=True), wiring=since))
        else:
            changed = with_attachment(instance, volume.id, lambda one: replace(one, detaching=True, since=since))
            tx.put(replace(changed, wiring=since))
        return tx.put(replace(volume, attach_state=AttachState.DETACHING))

    volume = await call.store.write(body)
    await moment_until(call, lambda reader: _settled(reader, volume.id, AttachState.DETACHING))
    return show_attachment(volume)


def _attached(reader: Reader, volume: Volume) -> bool:
    instance = reader.find(Instance, volume.instance_id) if volume.instance_id is not None else None
    coming = instance is not None and state_name(instance) == "pending"
    return volume.attach_state is not AttachState.ATTACHING and not coming


def with_attachment(instance: Instance, volume_id: str, change: Callable[[Attachment], Attachment]) -> Instance:
    return replace(instance, volumes=tuple(change(one) if one.volume_id == volume_id else one for one in instance.volumes))


def _settled(reader: Reader, volume_id: str, state: AttachState) -> bool:
    volume = reader.find(Volume, volume_id)
    return volume is None or volume.attach_state is not state


OPERATIONS: Mapping[str, Operation] = {
    "AttachVolume": Operation(AttachVolumeRequest, attach_volume),
    "DetachVolume": Operation(DetachVolumeRequest, detach_volume),
}
