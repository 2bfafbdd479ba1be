"""One instance's attributes: DescribeInstanceAttribute, ModifyInstanceAttribute, ModifyInstanceMetadataOptions.

Every attribute that AWS documents is answered, also those that can have only one value here: clients read them all.
"""

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.ids import owned
from alto.api.ec2.instances import in_wrong_state, not_stopped
from alto.api.ec2.interface_attachments import check_single
from alto.api.ec2.launches import (
    MetadataOptionsRequest,
    check_architecture,
    check_shutdown_behaviour,
    metadata_options,
)
from alto.api.ec2.new_interfaces import check_group_count
from alto.api.ec2.shapes import SRIOV, group_names, metadata_shape, show_instance
from alto.api.ec2.user_data import check_user_data
from alto.api.ec2.volume_attachments import with_attachment
from alto.api.security_groups import is_in_vpc
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.images import CONTAINER, host_kind_of
from alto.model.instance_types import CATALOGUE, close_names
from alto.model.instances import Instance, Phase
from alto.model.networks import NetworkInterface, SecurityGroup
from alto.model.volumes import Volume
from alto.plan.instances import state_name
from alto.store.store import Reader, Tx


class BooleanValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: bool | None = None


class TextValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None


class BlobValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: bytes | None = None  # decoded from the wire's base64


class DescribeInstanceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None
    attribute: str | None = None


_ATTRIBUTES: Mapping[str, Callable[[Reader, Instance], dict[str, Any]]] = {
    "instanceType": lambda r, i: {"InstanceType": {"Value": i.instance_type}},
    "kernel": lambda r, i: {"KernelId": {}},
    "ramdisk": lambda r, i: {"RamdiskId": {}},
    "userData": lambda r, i: {"UserData": {"Value": i.user_data} if i.user_data else {}},
    "disableApiTermination": lambda r, i: {"DisableApiTermination": {"Value": i.termination_protected}},
    "disableApiStop": lambda r, i: {"DisableApiStop": {"Value": i.stop_protected}},
    "instanceInitiatedShutdownBehavior": lambda r, i: {"InstanceInitiatedShutdownBehavior": {"Value": i.shutdown_behaviour}},
    "rootDeviceName": lambda r, i: {"RootDeviceName": {"Value": i.root.device}},
    "blockDeviceMapping": lambda r, i: {"BlockDeviceMappings": show_instance(r, i)["BlockDeviceMappings"]},
    "productCodes": lambda r, i: {"ProductCodes": []},
    "sourceDestCheck": lambda r, i: {"SourceDestCheck": {"Value": i.nic.source_dest_check}},
    "groupSet": lambda r, i: {"Groups": group_names(r, i.nic.group_ids)},
    "ebsOptimized": lambda r, i: {"EbsOptimized": {"Value": i.ebs_optimized}},
    "sriovNetSupport": lambda r, i: {"SriovNetSupport": {"Value": SRIOV} if i.sriov else {}},
    "enaSupport": lambda r, i: {"EnaSupport": {"Value": i.ena}},
    "enclaveOptions": lambda r, i: {"EnclaveOptions": {"Enabled": False}},
}


async def describe_instance_attribute(call: Call, request: DescribeInstanceAttributeRequest) -> dict[str, Any]:
    id, attribute = request.instance_id, request.attribute
    if id is None or attribute is None:
        missing = "InstanceId" if id is None else "Attribute"
        raise Refused("MissingParameter", f"The request must contain the parameter {missing}")
    show = _ATTRIBUTES.get(attribute)
    if show is None:
        raise _unknown(attribute)
    read = show

    def body(reader: Reader) -> dict[str, Any]:
        return {"InstanceId": id, **read(reader, owned(reader, call, Instance, id))}

    return call.store.read(body)


def _unknown(attribute: str) -> Refused:
    return Refused("InvalidParameterValue", f"Value ({attribute[:80]}) for parameter attribute is invalid. Unknown attribute.")


class EbsSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    volume_id: str | None = None
    delete_on_termination: bool = True  # as the API reference says of what is not said


class DeviceSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    device_name: str | None = None
    ebs: EbsSpecification = EbsSpecification()


class ModifyInstanceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str | None = None
    attribute: str | None = None
    value: str | None = None
    instance_type: TextValue | None = None
    user_data: BlobValue | None = None
    disable_api_termination: BooleanValue | None = None
    disable_api_stop: BooleanValue | None = None
    instance_initiated_shutdown_behavior: TextValue | None = None
    source_dest_check: BooleanValue | None = None
    ebs_optimized: BooleanValue | None = None
    ena_support: BooleanValue | None = None
    sriov_net_support: TextValue | None = None
    groups: tuple[str, ...] = ()
    block_device_mappings: tuple[DeviceSpecification, ...] = ()


Edit = Callable[[Tx, Call, Instance], Instance]


async def modify_instance_attribute(call: Call, request: ModifyInstanceAttributeRequest) -> dict[str, Any]:
    id = request.instance_id
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceId")
    edits = _edits(request)
    if len(edits) != 1:
        text = "No attributes specified." if not edits else "One attribute at a time can be modified."
        raise Refused("InvalidParameterCombination", text)
    edit = edits[0]

    def body(tx: Tx) -> None:
        instance = owned(tx, call, Instance, id)
        if instance.phase is Phase.TERMINATED:
            raise in_wrong_state(instance, "modified")
        changed = edit(tx, call, instance)
        if changed != instance:
            tx.put(changed)

    await call.store.write(body)
    return {}


def _edits(request: ModifyInstanceAttributeRequest) -> list[Edit]:
    """What the request asks for, in its own parameters or in the older Attribute/Value form."""
    flat = _flat(request.attribute, request.value)
    edits: list[Edit] = []
    type = flat.get("instanceType") or _text(request.instance_type)
    if type is not None:
        edits.append(_set_type(type))
    user_data = flat.get("userData") if "userData" in flat else _base64(request.user_data)
    if user_data is not None:
        edits.append(_set_user_data(user_data))
    behaviour = flat.get("instanceInitiatedShutdownBehavior") or _text(request.instance_initiated_shutdown_behavior)
    if behaviour is not None:
        check_shutdown_behaviour(behaviour)
        edits.append(lambda tx, call, one: replace(one, shutdown_behaviour=behaviour))
    switches = (
        ("disableApiTermination", request.disable_api_termination, "termination_protected"),
        ("disableApiStop", request.disable_api_stop, "stop_protected"),
        ("ebsOptimized", request.ebs_optimized, "ebs_optimized"),
        ("enaSupport", request.ena_support, "ena"),
    )
    for name, given, field in switches:
        value = _boolean(name, flat.get(name)) if name in flat else (given.value if given else None)
        if value is not None:
            edits.append(_set_switch(field, value, stopped=name in ("ebsOptimized", "enaSupport")))
    sriov = flat.get("sriovNetSupport") or _text(request.sriov_net_support)
    if sriov is not None:
        if sriov != SRIOV:
            raise Refused("InvalidParameterValue", f"Value ({sriov[:80]}) for sriovNetSupport is invalid: {SRIOV}")
        edits.append(_set_switch("sriov", True, stopped=True))
    checked = request.source_dest_check.value if request.source_dest_check else None
    if "sourceDestCheck" in flat:
        checked = _boolean("sourceDestCheck", flat["sourceDestCheck"])
    if checked is not None:
        edits.append(_set_source_dest_check(checked))
    if request.groups:
        edits.append(_set_groups(request.groups))
    if request.block_device_mappings:
        edits.append(_set_ends(request.block_device_mappings))
    return edits


def _flat(attribute: str | None, value: str | None) -> dict[str, str]:
    if attribute is None:
        return {}
    if attribute not in _ATTRIBUTES:
        raise _unknown(attribute)
    if value is None:
        return {}
    settable = {
        "instanceType",
        "userData",
        "instanceInitiatedShutdownBehavior",
        "disableApiTermination",
        "disableApiStop",
        "sourceDestCheck",
        "ebsOptimized",
        "enaSupport",
        "sriovNetSupport",
    }
    if attribute not in settable:
        raise Refused("UnsupportedOperation", f"The attribute {attribute} cannot be modified here")
    return {attribute: value}


def _text(given: TextValue | None) -> str | None:
    return given.value if given is not None else None


def _base64(given: BlobValue | None) -> str | None:
    return base64.b64encode(given.value or b"").decode() if given is not None else None


def _boolean(name: str, text: str | None) -> bool:
    value = (text or "").lower()  # as the wire reads booleans
    if value not in ("true", "false"):
        raise Refused("InvalidParameterValue", f"Value ({value[:80]}) for {name} is invalid: true or false")
    return value == "true"


def _set_switch(field: str, value: bool, *, stopped: bool) -> Edit:
    """`stopped`: only of an instance that is."""

    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        if stopped and state_name(instance) != "stopped":
            raise not_stopped(instance)
        return replace(instance, **{field: value})

    return edit


def _set_source_dest_check(value: bool) -> Edit:
    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        check_single(instance)
        interface = tx.get(NetworkInterface, instance.nic.interface_id)
        tx.put(replace(interface, source_dest_check=value))
        return replace(instance, nics=(replace(instance.nic, source_dest_check=value), *instance.nics[1:]))

    return edit


def _set_type(name: str) -> Edit:
    if name not in CATALOGUE:
        # A code of its own, which a launch does not have ("Error codes for the Amazon EC2 API").
        raise Refused("InvalidInstanceAttributeValue", f"Invalid value '{name[:80]}' for InstanceType. {close_names(name)}")
    type = CATALOGUE[name]

    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        if state_name(instance) != "stopped":
            raise not_stopped(instance)
        check_architecture(CATALOGUE[instance.instance_type].architecture, type)
        host = tx.find(Host, instance.host_id) if instance.host_id is not None else None
        if type.needs is not None and host is not None and not host.capabilities.simulated:
            raise Refused(
                "Unsupported", f"{type.name} is not supported on the host that keeps the disk: it has no {type.needs}."
            )
        # Room was given back when it stopped and is claimed anew, for the new type, when it starts.
        return replace(
            instance,
            instance_type=type.name,
            vcpus=type.vcpus,
            threads_per_core=None,  # options are of a type
            memory_mib=type.memory_mib,
        )

    return edit


def _set_user_data(text: str) -> Edit:
    check_user_data(text)

    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        if state_name(instance) != "stopped":
            raise not_stopped(instance)
        return replace(instance, user_data=text or None)

    return edit


def _set_ends(devices: tuple[DeviceSpecification, ...]) -> Edit:
    """Which volumes go with the instance."""

    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        for given in devices:
            ends = given.ebs.delete_on_termination
            root = {} if instance.root.away else {instance.root.device: instance.root.volume_id}
            here = {**root, **{one.device: one.volume_id for one in instance.volumes}}
            volume_id = here.get(given.device_name or "")
            if volume_id is None or given.ebs.volume_id not in (None, volume_id):
                raise Refused(
                    "InvalidInstanceAttributeValue", f"No device is currently mapped at {str(given.device_name)[:80]}"
                )
            if not ends and host_kind_of(instance.image_source) == CONTAINER:
                raise Refused("UnsupportedOperation", "The root of a container goes with it")
            tx.put(replace(tx.get(Volume, volume_id), delete_on_termination=ends))
            if volume_id == instance.root.volume_id:
                instance = replace(instance, root=replace(instance.root, delete_on_termination=ends))
            else:
                instance = with_attachment(instance, volume_id, partial(replace, delete_on_termination=ends))
        return instance

    return edit


def _set_groups(ids: tuple[str, ...]) -> Edit:
    def edit(tx: Tx, call: Call, instance: Instance) -> Instance:
        check_single(instance)
        groups = [owned(tx, call, SecurityGroup, id) for id in dict.fromkeys(ids)]
        for group in groups:
            if not is_in_vpc(tx, group, instance.nic.vpc_id):
                raise Refused("InvalidParameter", f"Security group {group.id} belongs to another VPC than the instance.")
        chosen = tuple(group.id for group in groups)
        check_group_count(chosen)
        interface = tx.get(NetworkInterface, instance.nic.interface_id)
        tx.put(replace(interface, group_ids=chosen))
        return replace(instance, nics=(replace(instance.nic, group_ids=chosen), *instance.nics[1:]))

    return edit


class ResetInstanceAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    attribute: str


async def reset_instance_attribute(call: Call, request: ResetInstanceAttributeRequest) -> dict[str, Any]:
    """The source and destination check is on again. A kernel and a RAM disk of its own no instance here has."""
    if request.attribute not in ("sourceDestCheck", "kernel", "ramdisk"):
        raise _unknown(request.attribute)

    def body(tx: Tx) -> None:
        instance = owned(tx, call, Instance, request.instance_id)
        if instance.phase is Phase.TERMINATED:
            raise in_wrong_state(instance, "modified")
        if request.attribute == "sourceDestCheck":
            tx.put(_set_source_dest_check(True)(tx, call, instance))

    await call.store.write(body)
    return {}


class ModifyInstanceMetadataOptionsRequest(MetadataOptionsRequest, frozen=True, rename="pascal"):
    instance_id: str | None = None


async def modify_instance_metadata_options(call: Call, request: ModifyInstanceMetadataOptionsRequest) -> dict[str, Any]:
    id = request.instance_id
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter InstanceId")

    def body(tx: Tx) -> Instance:
        instance = owned(tx, call, Instance, id)
        if instance.phase is Phase.TERMINATED:
            raise in_wrong_state(instance, "modified")
        return tx.put(replace(instance, metadata=metadata_options(request, instance.metadata)))

    changed = await call.store.write(body)
    return {"InstanceId": id, "InstanceMetadataOptions": metadata_shape(changed.metadata, state_name(changed))}


OPERATIONS: Mapping[str, Operation] = {
    "DescribeInstanceAttribute": Operation(DescribeInstanceAttributeRequest, describe_instance_attribute),
    "ModifyInstanceAttribute": Operation(ModifyInstanceAttributeRequest, modify_instance_attribute),
    "ModifyInstanceMetadataOptions": Operation(ModifyInstanceMetadataOptionsRequest, modify_instance_metadata_options),
    "ResetInstanceAttribute": Operation(ResetInstanceAttributeRequest, reset_instance_attribute),
}
