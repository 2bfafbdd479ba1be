"""What a launch template says beside a request (RunInstances' `LaunchTemplate`), and what it would say of an instance
(GetLaunchTemplateData).

The request wins. Lists whose elements have a name of their own are merged by it (devices, interfaces, tags), so that a
request changes the one element that it names. Whatever the template asks for that a launch does not offer is refused here,
when it is launched: a template itself is only remembered.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.ids import owned
from alto.api.ec2.launch_template_versions import DEFAULT, the_version
from alto.api.ec2.launch_templates import check_named, the_template
from alto.api.ec2.shapes import cpu_shape, naming_shape
from alto.api.ec2.tags import RESERVED, shown
from alto.api.wire.requests import Honoured, honoured, unhonoured
from alto.model.errors import Refused
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance, Phase
from alto.model.launch_templates import LaunchParameters, LaunchTemplateVersion
from alto.model.records import Tags
from alto.model.volumes import Volume
from alto.store.store import Reader

R = TypeVar("R", bound=msgspec.Struct)


class LaunchTemplateSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    launch_template_id: str | None = None
    launch_template_name: str | None = None
    version: str | None = None


def with_template(call: Call, request: R, wanted: LaunchTemplateSpecification) -> tuple[R, Tags]:
    """The request with what its launch template adds, and the tags that tell where instances come from.

    Raises: Refused, NotFound.
    """
    id, name = wanted.launch_template_id, wanted.launch_template_name
    check_named(id, name, "launch from")

    def read(reader: Reader) -> LaunchTemplateVersion:
        return the_version(reader, the_template(reader, call, id, name), wanted.version or DEFAULT)

    version = call.store.read(read)
    given = _given(msgspec.to_builtins(request))
    assert isinstance(given, dict)
    merged = merge(version.parameters, given)
    refused = unhonoured(_honoured(type(request)), merged)
    if refused is not None:
        raise Refused(
            "UnsupportedOperation",
            f"RunInstances does not support the parameter {refused} here, which version {version.number} of the launch "
            f"template {version.template_id} has.",
        )
    try:
        full = msgspec.convert(merged, type(request))
    except msgspec.ValidationError as error:
        raise Refused("InvalidParameterValue", f"The launch template {version.template_id} is not valid: {error}") from None
    return full, {
        "aws:ec2launchtemplate:id": version.template_id,
        "aws:ec2launchtemplate:version": str(version.number),
    }


@lru_cache(maxsize=8)
def _honoured(kind: type[msgspec.Struct]) -> Honoured:
    return honoured(kind)


def _given(value: object) -> object:
    """Without what was not given: None, and what is empty then. A text or a number counts whatever it is."""
    if isinstance(value, dict):
        return {name: kept for name, inner in value.items() if (kept := _given(inner)) is not None} or None
    if isinstance(value, list | tuple):
        return [kept for inner in value if (kept := _given(inner)) is not None] or None
    return value


# A list of structures, and what names one of them within it.
_NAMED_BY: Mapping[str, tuple[str, object]] = {
    "BlockDeviceMappings": ("DeviceName", None),
    "NetworkInterfaces": ("DeviceIndex", 0),
    "TagSpecifications": ("ResourceType", None),
    "Tags": ("Key", None),
}
# Where a request changes members, not the whole.
_BY_MEMBER = frozenset({"MetadataOptions", "Placement"})
_SECURITY = frozenset({"SecurityGroupIds", "SecurityGroups"})
# What a template calls otherwise than a request.
_RENAMED = {"RamDiskId": "RamdiskId"}


def merge(template: LaunchParameters, request: LaunchParameters) -> LaunchParameters:
    """Both as parameters of RunInstances; neither is changed."""
    merged = {_RENAMED.get(name, name): value for name, value in template.items()}
    if _SECURITY & request.keys():
        # Ids and names are two ways to say one thing.
        merged = {name: value for name, value in merged.items() if name not in _SECURITY}
    for name, value in request.items():
        merged[name] = _merged(name, merged.get(name), value)
    return merged


def _merged(name: str, old: object, new: object) -> object:
    if isinstance(old, dict) and isinstance(new, dict) and name in _BY_MEMBER:
        return {**old, **new}
    if isinstance(old, list) and isinstance(new, list) and name in _NAMED_BY:
        return _merged_elements(name, old, new)
    return new


def _merged_elements(name: str, old: Sequence[object], new: Sequence[object]) -> list[object]:
    """The old ones in their order, changed where a new one has their name; then the other new ones."""
    key, default = _NAMED_BY[name]
    found: dict[object, object] = {}
    for element in (*old, *new):
        assert isinstance(element, dict)
        own = element.get(key, default)
        before = found.get(own)
        if name == "TagSpecifications" and isinstance(before, dict):
            tags = _merged_elements("Tags", before.get("Tags", []), element.get("Tags", []))
            found[own] = {**before, **element, "Tags": tags}
        elif name == "Tags" or not isinstance(before, dict):
            found[own] = element
        else:
            found[own] = {**before, **element}
    return list(found.values())


class GetLaunchTemplateDataRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str


async def get_launch_template_data(call: Call, request: GetLaunchTemplateDataRequest) -> dict[str, object]:
    """What launches another one like it: all but what no two can have (addresses, ids)."""

    def read(reader: Reader) -> dict[str, object]:
        instance = owned(reader, call, Instance, request.instance_id)
        if instance.phase is Phase.TERMINATED:
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is terminated")
        return _parameters_of(reader, instance)

    return {"LaunchTemplateData": call.store.read(read)}


def _parameters_of(reader: Reader, instance: Instance) -> dict[str, object]:
    type = CATALOGUE[instance.instance_type]
    tags = {key: value for key, value in instance.tags.items() if not key.startswith(RESERVED)}
    found: dict[str, object] = {
        "ImageId": instance.image_id,
        "InstanceType": instance.instance_type,
        "KeyName": instance.key_name,
        "EbsOptimized": instance.ebs_optimized,
        "Monitoring": {"Enabled": instance.monitoring},
        "Placement": _placement(instance),
        "DisableApiTermination": instance.termination_protected,
        "DisableApiStop": instance.stop_protected,
        "InstanceInitiatedShutdownBehavior": instance.shutdown_behaviour,
        "UserData": instance.user_data,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": shown(tags)}] if tags else [],
        "BlockDeviceMappings": _devices(reader, instance),
        "NetworkInterfaces": [
            {
                "DeviceIndex": nic.device_index,
                "NetworkCardIndex": 0,
                "InterfaceType": "interface",
                "Description": nic.description,
                "SubnetId": nic.subnet_id,
                "Groups": list(nic.group_ids),
                # An elastic address is somebody's own, and not of the launch.
                "AssociatePublicIpAddress": nic.public_ip is not None and not nic.elastic if nic is instance.nic else None,
                "SecondaryPrivateIpAddressCount": len(nic.secondary) or None,
                "Ipv6AddressCount": len(nic.ipv6) or None,
                "DeleteOnTermination": nic.delete_on_termination,
            }
            for nic in instance.nics
        ],
        "MetadataOptions": {
            "HttpTokens": "required" if instance.metadata.tokens_required else "optional",
            "HttpPutResponseHopLimit": instance.metadata.hop_limit,
            "HttpEndpoint": "enabled" if instance.metadata.enabled else "disabled",
            "HttpProtocolIpv6": "enabled" if instance.metadata.ipv6_enabled else "disabled",
            "InstanceMetadataTags": "enabled" if instance.metadata.tags_enabled else "disabled",
        },
        "CapacityReservationSpecification": {"CapacityReservationPreference": instance.capacity_preference},
        "HibernationOptions": {"Configured": False},
        "EnclaveOptions": {"Enabled": False},
        "MaintenanceOptions": {"AutoRecovery": instance.auto_recovery},
    }
    if instance.profile is not None:
        found["IamInstanceProfile"] = {"Arn": instance.profile.arn}
    if instance.naming is not None:
        found["PrivateDnsNameOptions"] = naming_shape(instance.naming)
    if instance.threads_per_core is not None:
        found["CpuOptions"] = cpu_shape(instance, type)
    if type.burstable:
        found["CreditSpecification"] = {"CpuCredits": instance.credit_specification}
    return {name: value for name, value in found.items() if value is not None}


def _placement(instance: Instance) -> dict[str, object]:
    wish = instance.placement
    named = {"GroupName": wish.group_name, "PartitionNumber": wish.partition, "HostId": wish.host_id} if wish else {}
    return {
        "AvailabilityZone": instance.zone,
        "Tenancy": "dedicated" if instance.is_dedicated else "default",
        **{name: value for name, value in named.items() if value is not None},
    }


def _devices(reader: Reader, instance: Instance) -> list[dict[str, object]]:
    """All that it has now, the root first. What a root is made from is the image's matter."""
    root = instance.root
    volume = None if root.away else reader.find(Volume, root.volume_id)
    mappings = [_device(root.device, root.size_gib, root.delete_on_termination, volume, None)]
    for one in instance.volumes:
        volume = reader.find(Volume, one.volume_id)
        if volume is not None and not one.detaching:
            mappings.append(_device(one.device, one.size_gib, one.delete_on_termination, volume, volume.snapshot_id))
    return mappings


def _device(name: str, size_gib: int, deleted: bool, volume: Volume | None, snapshot_id: str | None) -> dict[str, object]:
    ebs: dict[str, object] = {"VolumeSize": size_gib, "DeleteOnTermination": deleted}
    if snapshot_id is not None:
        ebs["SnapshotId"] = snapshot_id
    if volume is not None:
        said = {"VolumeType": volume.type, "Iops": volume.iops, "Throughput": volume.throughput}
        ebs |= {member: value for member, value in said.items() if value is not None}
        if volume.encryption is not None:
            ebs |= {"Encrypted": True, "KmsKeyId": volume.encryption.kms_key_id}
    return {"DeviceName": name, "Ebs": ebs}


OPERATIONS: Mapping[str, Operation] = {
    "GetLaunchTemplateData": Operation(GetLaunchTemplateDataRequest, get_launch_template_data),
}
