"""How an instance looks in EC2's answers: a function of its record, of whether its VPCs have hostnames, and of names that
never change.

So what is rendered once for a version of the record can be kept. Fields that the Go SDK does not tolerate as absent are
always there: booleans, states, attachments.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any

from alto.api.ec2.regions import zone_id
from alto.api.ec2.tags import shown
from alto.api.wire.xml import Cached, Constant
from alto.model.images import Image, boot_mode_of
from alto.model.instance_types import CATALOGUE, InstanceType
from alto.model.instances import Instance, MetadataOptions, Nic, Phase
from alto.model.networks import Naming, PortAddress, SecurityGroup, Vpc
from alto.model.volumes import Attachment
from alto.plan.addresses import hostname
from alto.plan.instances import STATE_CODES, state_name
from alto.store.store import Reader, Store

_STATES = {name: Constant(Code=code, Name=name) for name, code in STATE_CODES.items()}
_PENDING = Constant(Code="pending", Message="pending")
_MONITORED = {True: Constant(State="enabled"), False: Constant(State="disabled")}
_RESERVATIONS = {preference: Constant(CapacityReservationPreference=preference) for preference in ("open", "none")}
_NO_HIBERNATION = Constant(Configured=False)
_NO_ENCLAVE = Constant(Enabled=False)
_EVEN_BANDWIDTH = Constant(BandwidthWeighting="default")
SRIOV = "simple"  # the only value that EC2 has
NO_OPERATOR = Constant(Managed=False)  # of what belongs to its account: no service keeps it for somebody


def state(instance: Instance) -> dict[str, Any]:
    return _STATES[state_name(instance)]


def transition_reason(instance: Instance) -> str:
    """Who or what changed its state, and when; empty while nothing did."""
    reason = instance.reason
    if reason is None:
        return ""
    return reason.message if reason.transition is None else reason.transition


def state_reason(instance: Instance, state: str) -> dict[str, Any] | None:
    """Of an instance in this state. None while nothing changed its state, except that it has not begun."""
    if instance.reason is not None:
        return {"Code": instance.reason.code, "Message": instance.reason.message}
    return _PENDING if state == "pending" else None


def group_names(reader: Reader, ids: Sequence[str]) -> list[dict[str, str]]:
    groups = [reader.find(SecurityGroup, id) for id in ids]
    return [{"GroupId": group.id, "GroupName": group.name} for group in groups if group is not None]


def metadata_state(state: str) -> str:
    return "pending" if state == "pending" else "applied"


@lru_cache(maxsize=256)
def metadata_shape(options: MetadataOptions, state: str) -> Constant:
    """Of an instance in this state: what has not begun has nobody to ask, and afterwards a change counts at once."""
    return Constant(
        State=metadata_state(state),
        HttpTokens="required" if options.tokens_required else "optional",
        HttpPutResponseHopLimit=options.hop_limit,
        HttpEndpoint="enabled" if options.enabled else "disabled",
        HttpProtocolIpv6="enabled" if options.ipv6_enabled else "disabled",
        InstanceMetadataTags="enabled" if options.tags_enabled else "disabled",
    )


@lru_cache(maxsize=16)
def naming_shape(naming: Naming | None) -> Constant:
    chosen = naming or Naming()
    return Constant(
        HostnameType=hostname_type(naming),
        EnableResourceNameDnsARecord=chosen.a_record,
        EnableResourceNameDnsAAAARecord=chosen.aaaa_record,
    )


def hostname_type(naming: Naming | None) -> str:
    return "resource-name" if naming is not None and naming.by_resource else "ip-name"


def cached_instance(store: Store, instance: Instance, named: AbstractSet[str]) -> Cached:
    """The Instance shape for a long listing: rendered once for each version of the record, and of which VPCs name it. `named`:
    those of its VPCs that have hostnames, and any others."""
    key = (instance.id, instance.version, *(nic.vpc_id in named for nic in instance.nics))
    return Cached(key, lambda: store.read(lambda reader: show_instance(reader, instance)))


def has_hostnames(reader: Reader, vpc_id: str) -> bool:
    """Whether who has a public address in the VPC has a public name too."""
    vpc = reader.find(Vpc, vpc_id)
    return vpc is not None and vpc.dns_hostnames


def show_instance(reader: Reader, instance: Instance) -> dict[str, Any]:
    """The Instance shape. A terminated one keeps its identity and loses what it gave back, as in EC2."""
    now, nic, gone = state(instance), instance.nic, instance.phase is Phase.TERMINATED
    type = CATALOGUE[instance.instance_type]
    image = reader.find(Image, instance.image_id)
    public = {one.vpc_id for one in instance.nics if one.public_ip or any(each.public_ip for each in one.secondary)}
    named = {vpc_id for vpc_id in public if has_hostnames(reader, vpc_id)}
    public_name = public_dns(instance.region, nic.public_ip) if nic.vpc_id in named else ""
    shape: dict[str, Any] = {
        "InstanceId": instance.id,
        "ImageId": instance.image_id,
        "State": now,
        "PrivateDnsName": "" if gone else instance.hostname,
        "PublicDnsName": "" if gone else public_name,
        "StateTransitionReason": transition_reason(instance),
        "KeyName": instance.key_name,
        "AmiLaunchIndex": instance.launch_index,
        "ProductCodes": [],
        "InstanceType": instance.instance_type,
        "LaunchTime": instance.launched_at,
        "Placement": _placement(instance),
        "Monitoring": _MONITORED[instance.monitoring],
        "Architecture": image.architecture if image else type.architecture,
        "RootDeviceType": "ebs",
        "RootDeviceName": instance.root.device,
        "BlockDeviceMappings": [],
        "VirtualizationType": "hvm",
        "ClientToken": instance.client_token or "",
        "Tags": shown(instance.tags),
        "SecurityGroups": [] if gone else group_names(reader, nic.group_ids),
        "SourceDestCheck": nic.source_dest_check,
        "Hypervisor": "xen",
        "EbsOptimized": instance.ebs_optimized,
        "EnaSupport": instance.ena,
        "CpuOptions": cpu_shape(instance, type),
        "CapacityReservationSpecification": _RESERVATIONS[instance.capacity_preference],
        "HibernationOptions": _NO_HIBERNATION,
        "EnclaveOptions": _NO_ENCLAVE,
        "MetadataOptions": metadata_shape(instance.metadata, now["Name"]),
        "MaintenanceOptions": _maintenance(instance.auto_recovery),
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "UsageOperationUpdateTime": instance.created_at,
        "BootMode": instance.boot_mode,
        "CurrentInstanceBootMode": boot_mode_of(type.architecture),
        "NetworkPerformanceOptions": _EVEN_BANDWIDTH,
        "Operator": NO_OPERATOR,
    }
    reason = state_reason(instance, now["Name"])
    if reason is not None:
        shape["StateReason"] = reason
    if instance.sriov:
        shape["SriovNetSupport"] = SRIOV
    if gone:
        shape["NetworkInterfaces"] = []
        return shape
    if instance.profile is not None:
        shape["IamInstanceProfile"] = {"Arn": instance.profile.arn, "Id": instance.profile.id}
    shape.update(
        SubnetId=nic.subnet_id,
        VpcId=nic.vpc_id,
        PrivateIpAddress=nic.private_ip,
        PrivateDnsNameOptions=naming_shape(instance.naming),
    )
    if nic.public_ip is not None:
        shape["PublicIpAddress"] = nic.public_ip
    if nic.ipv6:
        shape["Ipv6Address"] = nic.ipv6[0]
    shape["BlockDeviceMappings"] = block_devices(instance)
    # After the addresses, as at EC2: boto 2.0 does not know this list, and reads nothing of an instance behind it.
    shape["NetworkInterfaces"] = [_interface(reader, instance, one, one.vpc_id in named) for one in instance.nics]
    return shape


def block_devices(instance: Instance) -> list[dict[str, Any]]:
    """The root first, unless it was detached."""
    root = [] if instance.root.away else [_root_device(instance)]
    return [*root, *(_block_device(instance, one) for one in instance.volumes)]


def _root_device(instance: Instance) -> dict[str, Any]:
    return {
        "DeviceName": instance.root.device,
        "Ebs": {
            "VolumeId": instance.root.volume_id,
            "Status": "attached",
            "AttachTime": instance.created_at if instance.root.attached_at is None else instance.root.attached_at,
            "DeleteOnTermination": instance.root.delete_on_termination,
        },
    }


def _block_device(instance: Instance, one: Attachment) -> dict[str, Any]:
    state = "detaching" if one.detaching else ("attaching" if one.since > instance.wired else "attached")
    return {
        "DeviceName": one.device,
        "Ebs": {
            "VolumeId": one.volume_id,
            "Status": state,
            "AttachTime": one.attached_at,
            "DeleteOnTermination": one.delete_on_termination,
        },
    }


def _interface(reader: Reader, instance: Instance, nic: Nic, named: bool) -> dict[str, Any]:
    primary = PortAddress(private_ip=nic.private_ip, public_ip=nic.public_ip, elastic=nic.elastic)
    addresses = [_address(instance, one, one is primary, named) for one in (primary, *nic.secondary)]
    shape: dict[str, Any] = {
        "NetworkInterfaceId": nic.interface_id,
        "SubnetId": nic.subnet_id,
        "VpcId": nic.vpc_id,
        "OwnerId": instance.account,
        "Status": "in-use",
        "MacAddress": nic.mac,
        "PrivateIpAddress": nic.private_ip,
        "PrivateDnsName": addresses[0]["PrivateDnsName"],
        "SourceDestCheck": nic.source_dest_check,
        "InterfaceType": "interface",
        "Description": nic.description,
        "Groups": group_names(reader, nic.group_ids),
        "Attachment": {
            "AttachmentId": nic.attachment_id,
            "DeviceIndex": nic.device_index,
            "NetworkCardIndex": 0,
            "Status": nic.attach.value,
            "AttachTime": instance.created_at if nic.attached_at is None else nic.attached_at,
            "DeleteOnTermination": nic.delete_on_termination,
        },
        "PrivateIpAddresses": addresses,
        "Ipv6Addresses": shown_v6(nic.ipv6),
        "Operator": NO_OPERATOR,
    }
    if "Association" in addresses[0]:
        shape["Association"] = addresses[0]["Association"]
    return shape


def shown_v6(addresses: Sequence[str]) -> list[dict[str, Any]]:
    return [{"Ipv6Address": address, "IsPrimaryIpv6": False} for address in addresses]


def _address(instance: Instance, one: PortAddress, primary: bool, named: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "PrivateIpAddress": one.private_ip,
        "PrivateDnsName": hostname(one.private_ip, instance.region),
        "Primary": primary,
    }
    if one.public_ip is not None:
        shape["Association"] = {
            "PublicIp": one.public_ip,
            "PublicDnsName": public_dns(instance.region, one.public_ip) if named else "",
            "IpOwnerId": instance.account if one.elastic else "amazon",
        }
    return shape


@lru_cache(maxsize=256)
def _in_zone(zone: str) -> Constant:
    return Constant(AvailabilityZone=zone, AvailabilityZoneId=zone_id(zone), GroupName="", Tenancy="default")


def _placement(instance: Instance) -> dict[str, Any]:
    wish = instance.placement
    if wish is None:
        return _in_zone(instance.zone)
    return {
        **_in_zone(instance.zone),
        "Tenancy": "dedicated" if wish.dedicated else "default",
        "GroupName": wish.group_name or "",
        "GroupId": wish.group_id,
        "PartitionNumber": wish.partition,
        "HostId": wish.host_id,
        "Affinity": "host" if wish.host_id else None,
    }


def public_dns(region: str, public_ip: str | None) -> str:
    """Addresses of the loopback pool resolve nowhere by a name of Amazon's: the address itself is the name that works."""
    return public_ip or ""


def show_reservation(reader: Reader, instances: Sequence[Instance]) -> dict[str, Any]:
    first = instances[0]
    return {
        "ReservationId": first.reservation_id,
        "OwnerId": first.account,
        "Groups": [],
        "Instances": [show_instance(reader, one) for one in instances],
    }


def cpu_shape(instance: Instance, type: InstanceType) -> Constant:
    threads = instance.threads_per_core
    if threads is None:
        return _cpus(type.cores, type.threads_per_core)
    return _cpus(instance.vcpus // threads, threads)


@lru_cache(maxsize=256)
def _cpus(cores: int, threads: int) -> Constant:
    return Constant(CoreCount=cores, ThreadsPerCore=threads)


@lru_cache(maxsize=16)
def _maintenance(recovery: str) -> Constant:
    return Constant(AutoRecovery=recovery, RebootMigration="disabled")
