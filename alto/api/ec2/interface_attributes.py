"""One interface's attributes: DescribeNetworkInterfaceAttribute, ModifyNetworkInterfaceAttribute and its reset."""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import take_public
from alto.api.ec2.ids import owned
from alto.api.ec2.interface_attachments import changeable
from alto.api.ec2.interfaces import check_description, show_attachment
from alto.api.ec2.new_interfaces import find_interface_groups
from alto.api.ec2.shapes import group_names
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface
from alto.store.claims import put_interface, without_automatic
from alto.store.store import Reader, Tx

_ATTRIBUTES: Mapping[str, tuple[str, Callable[[Reader, NetworkInterface], object]]] = {
    "associatePublicIpAddress": ("AssociatePublicIpAddress", lambda reader, one: one.public_ip is not None and not one.elastic),
    "attachment": ("Attachment", show_attachment),
    "description": ("Description", lambda reader, one: {"Value": one.description}),
    "groupSet": ("Groups", lambda reader, one: group_names(reader, one.group_ids)),
    "sourceDestCheck": ("SourceDestCheck", lambda reader, one: {"Value": one.source_dest_check}),
}


class DescribeNetworkInterfaceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    attribute: str | None = None


async def describe_network_interface_attribute(
    call: Call, request: DescribeNetworkInterfaceAttributeRequest
) -> dict[str, object]:
    id, attribute = request.network_interface_id, request.attribute
    if not id or not attribute:
        raise Refused("MissingParameter", "The request must contain the parameters networkInterfaceId and attribute")
    if attribute not in _ATTRIBUTES:
        raise Refused(
            "InvalidParameterValue", f"Value ({attribute[:80]}) for parameter attribute is invalid. Unknown attribute."
        )
    member, show = _ATTRIBUTES[attribute]

    def body(reader: Reader) -> dict[str, object]:
        return {"NetworkInterfaceId": id, member: show(reader, owned(reader, call, NetworkInterface, id))}

    return call.store.read(body)


class TextValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None


class BooleanValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: bool | None = None


class AttachmentChange(msgspec.Struct, frozen=True, rename="pascal"):
    attachment_id: str | None = None
    delete_on_termination: bool | None = None


class ModifyNetworkInterfaceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    description: TextValue | None = None
    source_dest_check: BooleanValue | None = None
    groups: tuple[str, ...] = ()
    attachment: AttachmentChange | None = None
    associate_public_ip_address: bool | None = None


Edit = Callable[[Tx, Call, NetworkInterface], NetworkInterface]


async def modify_network_interface_attribute(call: Call, request: ModifyNetworkInterfaceAttributeRequest) -> dict[str, object]:
    edits = _edits(request)
    if len(edits) != 1:
        text = "No attributes specified." if not edits else "One attribute at a time can be modified."
        raise Refused("InvalidParameterCombination", text)
    return await _change(call, request.network_interface_id, edits[0])


async def _change(call: Call, id: str | None, edit: Edit) -> dict[str, object]:
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter networkInterfaceId")

    def body(tx: Tx) -> None:
        interface = changeable(tx, call, id)
        changed = edit(tx, call, interface)
        if changed != interface:
            put_interface(tx, changed)

    await call.store.write(body)
    return {}


def _edits(request: ModifyNetworkInterfaceAttributeRequest) -> list[Edit]:
    edits: list[Edit] = []
    if request.description is not None:
        text = request.description.value or ""
        check_description(text)
        edits.append(lambda tx, call, one: replace(one, description=text))
    if request.source_dest_check is not None and request.source_dest_check.value is not None:
        checked = request.source_dest_check.value
        edits.append(lambda tx, call, one: replace(one, source_dest_check=checked))
    if request.groups:
        edits.append(
            lambda tx, call, one: replace(
                one, group_ids=find_interface_groups(tx, call, request.groups, one.vpc_id, _absent_group)
            )
        )
    if request.attachment is not None:
        edits.append(_set_attachment(request.attachment))
    if request.associate_public_ip_address is not None:
        edits.append(_set_public(request.associate_public_ip_address))
    return edits


def _absent_group(id: str) -> Refused:
    """Whatever it looks like; CreateNetworkInterface has another code for it."""
    return Refused("InvalidGroup.NotFound", f"The security group '{id[:80]}' does not exist")


def _set_attachment(change: AttachmentChange) -> Edit:
    id, deleted = change.attachment_id, change.delete_on_termination
    if id is None or deleted is None:
        raise Refused("MissingParameter", "The attachment must contain attachmentId and deleteOnTermination")

    def edit(tx: Tx, call: Call, one: NetworkInterface) -> NetworkInterface:
        if one.attachment_id != id or one.instance_id is None:
            raise Refused("InvalidAttachmentID.NotFound", f"The attachment '{id[:80]}' does not exist")
        return replace(one, delete_on_termination=deleted)

    return edit


def _set_public(wanted: bool) -> Edit:
    """An automatic public address for the primary private one, or none. An elastic one is left alone."""

    def edit(tx: Tx, call: Call, one: NetworkInterface) -> NetworkInterface:
        if one.instance_id is None or one.device_index != 0:
            raise Refused(
                "InvalidParameterValue",
                "Only an instance's primary interface can be given an automatic public address.",
            )
        if one.elastic or wanted is (one.public_ip is not None):
            return replace(one, automatic=wanted and one.elastic)
        if not wanted:
            return without_automatic(tx, one)
        return replace(one, public_ip=take_public(tx, call, one.instance_id))

    return edit


class ResetNetworkInterfaceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    source_dest_check: str | None = None


async def reset_network_interface_attribute(call: Call, request: ResetNetworkInterfaceAttributeRequest) -> dict[str, object]:
    """Its one attribute that has a default; the value that comes with it says nothing (API reference)."""
    return await _change(call, request.network_interface_id, lambda tx, call, one: replace(one, source_dest_check=True))


OPERATIONS: Mapping[str, Operation] = {
    "DescribeNetworkInterfaceAttribute": Operation(
        DescribeNetworkInterfaceAttributeRequest, describe_network_interface_attribute
    ),
    "ModifyNetworkInterfaceAttribute": Operation(ModifyNetworkInterfaceAttributeRequest, modify_network_interface_attribute),
    "ResetNetworkInterfaceAttribute": Operation(ResetNetworkInterfaceAttributeRequest, reset_network_interface_attribute),
}
