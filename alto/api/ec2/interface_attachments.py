"""AttachNetworkInterface and DetachNetworkInterface, of running and of stopped instances.

The instance's record says which interfaces it is to have; its host makes that true while the machine runs, and says so
(`agent/networks.py`). An interface is free for others only when the host has let go of it. Of an instance that has no
machine, or whose machine is off, both take effect at once.

Invariant: the interface's row and the instance's say the same, and no device index has two.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.ids import owned
from alto.api.ec2.instance_moments import until_attached, until_detached
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Attach, Instance, Phase, Wish
from alto.model.networks import NetworkInterface
from alto.plan.instances import state_name
from alto.plan.launch import nic_of
from alto.store.claims import detach, lead_elastic
from alto.store.store import Reader, Tx


class AttachNetworkInterfaceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    instance_id: str | None = None
    device_index: int | None = None
    network_card_index: int | None = None


async def attach_network_interface(call: Call, request: AttachNetworkInterfaceRequest) -> dict[str, object]:
    interface_id, instance_id, index = request.network_interface_id, request.instance_id, request.device_index
    if interface_id is None or instance_id is None or index is None:
        raise Refused(
            "MissingParameter", "The request must contain the parameters networkInterfaceId, instanceId and deviceIndex"
        )
    if request.network_card_index not in (None, 0):
        raise Refused("InvalidParameterValue", "An instance has one network card here: networkCardIndex is 0")
    attachment_id, now = draw_id(call.world.chance, "eni-attach"), call.world.clock.now()

    def body(tx: Tx) -> None:
        interface = owned(tx, call, NetworkInterface, interface_id)
        instance = owned(tx, call, Instance, instance_id)
        if instance.wish is Wish.TERMINATED:
            raise Refused("IncorrectState", f"Instance '{instance.id}' is {state_name(instance)}.")
        if interface.zone != instance.zone:
            raise Refused(
                "InvalidParameterCombination",
                "You may not attach a network interface to an instance if they are not in the same availability zone",
            )
        check_free(interface)
        check_room(instance, index, interface)
        check_host_v6(tx, instance, interface.ipv6)
        tx.put(attached(tx, instance, interface, index, attachment_id, now))

    await call.store.write(body)
    await until_attached(call, request.instance_id or "", attachment_id)
    return {"AttachmentId": attachment_id, "NetworkCardIndex": 0}


def changeable(reader: Reader, call: Call, id: str) -> NetworkInterface:
    """The caller's own. Raises: NotFound; Refused, when a service of the cloud made it for itself."""
    interface = owned(reader, call, NetworkInterface, id)
    _check_unmanaged(interface)
    return interface


def _check_unmanaged(interface: NetworkInterface) -> None:
    if interface.requester is not None:
        raise Refused("OperationNotPermitted", f"The network interface {interface.id} is managed by {interface.requester}.")


def check_free(interface: NetworkInterface) -> None:
    _check_unmanaged(interface)
    if interface.instance_id is not None:
        raise Refused("InvalidNetworkInterface.InUse", f"Interface: [{interface.id}] in use.")


def check_single(instance: Instance) -> None:
    """For what names an instance and means its interface. Raises: Refused: it has several."""
    if len(instance.nics) > 1:
        raise Refused(
            "InvalidInstanceID",
            f"There are multiple interfaces attached to instance '{instance.id}'. Please specify an interface ID for the "
            "operation instead.",
        )


def check_host_v6(reader: Reader, instance: Instance, addresses: Sequence[str]) -> None:
    """What has IPv6 is on a host that has it. Raises: Refused."""
    host = reader.find(Host, instance.host_id) if addresses and instance.host_id is not None else None
    if host is not None and not host.capabilities.ipv6:
        raise Refused("UnsupportedOperation", f"The host of '{instance.id}' has no IPv6, so nothing there has such an address.")


def check_room(instance: Instance, index: int, interface: NetworkInterface) -> None:
    """The instance's type allows another interface, with all its addresses, at this index."""
    type = CATALOGUE[instance.instance_type]
    if any(nic.device_index == index for nic in instance.nics):
        raise Refused(
            "InvalidParameterValue", f"Instance '{instance.id}' already has an interface attached at device index '{index}'."
        )
    if index < 0 or index > INDEX_MAX:
        raise Refused("InvalidParameterValue", f"Value ({index}) for parameter deviceIndex is invalid: 0 to {INDEX_MAX}")
    if len(instance.nics) >= type.interfaces_max:
        raise Refused(
            "AttachmentLimitExceeded",
            f"Interface count {len(instance.nics) + 1} exceeds the limit for {type.name}, which is {type.interfaces_max}.",
        )
    if max(len(interface.secondary) + 1, len(interface.ipv6)) > type.addresses_per_interface:
        raise Refused(
            "PrivateIpAddressLimitExceeded",
            f"Number of private addresses will exceed limit: {type.name} has {type.addresses_per_interface} per interface.",
        )


INDEX_MAX = 30


def attached(
    tx: Tx,
    instance: Instance,
    interface: NetworkInterface,
    index: int,
    attachment_id: str,
    now: float,
    *,
    delete_on_termination: bool = False,
) -> Instance:
    """`instance` with the interface, whose row is written; the caller writes the instance."""
    lead_elastic(tx, interface, instance.id)
    interface = tx.put(
        replace(
            interface,
            instance_id=instance.id,
            attachment_id=attachment_id,
            attached_at=now,
            device_index=index,
            delete_on_termination=delete_on_termination,
        )
    )
    # Its host may be about to start it without this one.
    hot = instance.host_id is not None and instance.phase < Phase.STOPPED
    nic = replace(
        nic_of(interface, attachment_id),
        device_index=index,
        delete_on_termination=delete_on_termination,
        attach=Attach.ATTACHING if hot else Attach.ATTACHED,
        attached_at=now,
    )
    return replace(instance, nics=tuple(sorted((*instance.nics, nic), key=lambda one: one.device_index)))


class DetachNetworkInterfaceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    attachment_id: str | None = None
    force: bool | None = None


async def detach_network_interface(call: Call, request: DetachNetworkInterfaceRequest) -> dict[str, object]:
    """`Force` asks for no more: the host cuts the interface off from its network at once either way."""
    id = request.attachment_id
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter attachmentId")

    def body(tx: Tx) -> str:
        interface = _by_attachment(tx, call, id)
        instance = tx.get(Instance, interface.instance_id or "")
        if interface.device_index == 0:
            raise Refused(
                "OperationNotPermitted", "The network interface at device index 0 and networkCard index 0 cannot be detached."
            )
        # Between two runs, and before the first, no machine has it.
        off = instance.host_id is None or instance.phase in (Phase.PENDING, Phase.STOPPED)
        nics = []
        for nic in instance.nics:
            if nic.interface_id != interface.id:
                nics.append(nic)
            elif not off:
                nics.append(replace(nic, attach=Attach.DETACHING))
        tx.put(replace(instance, nics=tuple(nics)))
        if off:
            detach(tx, interface)
        return interface.id

    await until_detached(call, await call.store.write(body), id)
    return {}


def _by_attachment(reader: Reader, call: Call, id: str) -> NetworkInterface:
    # An index of attachments would be written at each launch, and is asked for by this operation alone.
    for interface in reader.where(NetworkInterface, account=call.account, region=call.region):
        if interface.attachment_id == id:
            if interface.requester is not None:
                raise Refused("OperationNotPermitted", f"The attachment {id} is managed by {interface.requester}.")
            return interface
    raise Refused("InvalidAttachmentID.NotFound", f"The attachment '{id[:80]}' does not exist")


OPERATIONS: Mapping[str, Operation] = {
    "AttachNetworkInterface": Operation(AttachNetworkInterfaceRequest, attach_network_interface),
    "DetachNetworkInterface": Operation(DetachNetworkInterfaceRequest, detach_network_interface),
}
