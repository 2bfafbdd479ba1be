"""DescribeInstances' filters, all that are documented.

What an instance's own record answers is in one table; names of groups and tags of interfaces are other records', and are
only looked up when a request asks for them. A filter finds what the answer shows: a terminated instance is not found by what
it gave back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from alto.api.ec2.filters import Filter, Filters, Value, Values
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import (
    block_devices,
    group_names,
    has_hostnames,
    hostname_type,
    metadata_state,
    public_dns,
    state_reason,
    transition_reason,
)
from alto.api.wire.xml import timestamp
from alto.model.addresses import Address
from alto.model.images import boot_mode_of
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance, Nic, Phase
from alto.model.networks import NetworkInterface, PortAddress
from alto.plan.addresses import hostname
from alto.plan.instances import STATE_CODES, state_name
from alto.store.store import Reader


def _until_terminated(value: Callable[[Instance], Values]) -> Callable[[Instance], Values]:
    return lambda i: None if i.phase is Phase.TERMINATED else value(i)


def _each(value: Callable[[Instance, Nic], Value]) -> Callable[[Instance], Values]:
    """Of every interface."""
    return lambda i: [value(i, nic) for nic in i.nics]


def _addresses(value: Callable[[Instance, PortAddress], Value]) -> Callable[[Instance], Values]:
    """Of every private address of every interface."""
    return lambda i: [value(i, one) for nic in i.nics for one in (_primary(nic), *nic.secondary)]


def _primary(nic: Nic) -> PortAddress:
    return PortAddress(private_ip=nic.private_ip, public_ip=nic.public_ip, elastic=nic.elastic)


def _owner(instance: Instance, one: PortAddress | Nic) -> str | None:
    if one.public_ip is None:
        return None
    return instance.account if one.elastic else "amazon"


_INTERFACES: Filters[Instance] = {
    "network-interface.addresses.association.ip-owner-id": _addresses(_owner),
    "network-interface.addresses.association.public-ip": _addresses(lambda i, one: one.public_ip),
    "network-interface.addresses.primary": lambda i: [True, False] if any(nic.secondary for nic in i.nics) else True,
    "network-interface.addresses.private-dns-name": _addresses(lambda i, one: hostname(one.private_ip, i.region)),
    "network-interface.addresses.private-ip-address": _addresses(lambda i, one: one.private_ip),
    "network-interface.association.ip-owner-id": _each(_owner),
    "network-interface.association.public-ip": _each(lambda i, nic: nic.public_ip),
    "network-interface.attachment.attach-time": _each(lambda i, nic: timestamp(nic.attached_at or i.created_at)),
    "network-interface.attachment.attachment-id": _each(lambda i, nic: nic.attachment_id),
    "network-interface.attachment.delete-on-termination": _each(lambda i, nic: nic.delete_on_termination),
    "network-interface.attachment.device-index": _each(lambda i, nic: nic.device_index),
    "network-interface.attachment.instance-id": lambda i: i.id,
    "network-interface.attachment.instance-owner-id": lambda i: i.account,
    "network-interface.attachment.network-card-index": lambda i: 0,
    "network-interface.attachment.status": _each(lambda i, nic: nic.attach.value),
    "network-interface.availability-zone": lambda i: i.zone,
    "network-interface.description": _each(lambda i, nic: nic.description),
    "network-interface.group-id": lambda i: [id for nic in i.nics for id in nic.group_ids],
    "network-interface.ipv6-addresses.ipv6-address": lambda i: [one for nic in i.nics for one in nic.ipv6],
    "network-interface.ipv6-address": lambda i: [one for nic in i.nics for one in nic.ipv6],
    "network-interface.ipv6-addresses.is-primary-ipv6": lambda i: False if any(nic.ipv6 for nic in i.nics) else None,
    "network-interface.mac-address": _each(lambda i, nic: nic.mac),
    "network-interface.network-interface-id": _each(lambda i, nic: nic.interface_id),
    "network-interface.owner-id": lambda i: i.account,
    "network-interface.private-dns-name": _each(lambda i, nic: hostname(nic.private_ip, i.region)),
    "network-interface.private-ip-address": _each(lambda i, nic: nic.private_ip),
    "network-interface.source-dest-check": _each(lambda i, nic: nic.source_dest_check),
    "network-interface.status": lambda i: "in-use",
    "network-interface.subnet-id": _each(lambda i, nic: nic.subnet_id),
    "network-interface.vpc-id": _each(lambda i, nic: nic.vpc_id),
}

# What a terminated instance has no more.
_GIVEN_BACK: Filters[Instance] = {
    **_INTERFACES,
    "block-device-mapping.attach-time": lambda i: [timestamp(one["Ebs"]["AttachTime"]) for one in block_devices(i)],
    "block-device-mapping.delete-on-termination": lambda i: (
        *(() if i.root.away else (i.root.delete_on_termination,)),
        *(one.delete_on_termination for one in i.volumes),
    ),
    "block-device-mapping.device-name": lambda i: [
        *(() if i.root.away else (i.root.device,)),
        *(one.device for one in i.volumes),
    ],
    "block-device-mapping.status": lambda i: [one["Ebs"]["Status"] for one in block_devices(i)],
    "block-device-mapping.volume-id": lambda i: i.volume_ids,
    "group-id": lambda i: i.nic.group_ids,
    "iam-instance-profile.arn": lambda i: i.profile.arn if i.profile else None,
    "iam-instance-profile.id": lambda i: i.profile.id if i.profile else None,
    "iam-instance-profile.name": lambda i: i.profile.name if i.profile else None,
    "instance.group-id": lambda i: i.nic.group_ids,
    "ip-address": lambda i: i.nic.public_ip,
    "ipv6-address": lambda i: i.nic.ipv6,
    "network-interface.ipv6-native": lambda i: False,
    "network-interface.operator.managed": lambda i: False,
    "network-interface.requester-managed": lambda i: False,
    "private-dns-name": lambda i: i.hostname,
    "private-dns-name-options.enable-resource-name-dns-a-record": lambda i: i.naming is not None and i.naming.a_record,
    "private-dns-name-options.enable-resource-name-dns-aaaa-record": lambda i: i.naming is not None and i.naming.aaaa_record,
    "private-dns-name-options.hostname-type": lambda i: hostname_type(i.naming),
    "private-ip-address": lambda i: i.nic.private_ip,
    "subnet-id": lambda i: i.nic.subnet_id,
    "vpc-id": lambda i: i.nic.vpc_id,
}

_OWN: Filters[Instance] = {
    **{name: _until_terminated(value) for name, value in _GIVEN_BACK.items()},
    "affinity": lambda i: "host" if i.placement and i.placement.host_id else "default",
    "architecture": lambda i: CATALOGUE[i.instance_type].architecture,
    "availability-zone": lambda i: i.zone,
    "availability-zone-id": lambda i: zone_id(i.zone),
    "boot-mode": lambda i: i.boot_mode,
    "capacity-reservation-specification.capacity-reservation-preference": lambda i: i.capacity_preference,
    "client-token": lambda i: i.client_token,
    "current-instance-boot-mode": lambda i: boot_mode_of(CATALOGUE[i.instance_type].architecture),
    "ebs-optimized": lambda i: i.ebs_optimized,
    "ena-support": lambda i: i.ena,
    "enclave-options.enabled": lambda i: False,
    "hibernation-options.configured": lambda i: False,
    "host-id": lambda i: i.placement.host_id if i.placement else None,
    "hypervisor": lambda i: "xen",
    "image-id": lambda i: i.image_id,
    "instance-id": lambda i: i.id,
    "instance-state-code": lambda i: STATE_CODES[state_name(i)],
    "instance-state-name": state_name,
    "instance-type": lambda i: i.instance_type,
    "key-name": lambda i: i.key_name,
    "launch-index": lambda i: i.launch_index,
    "launch-time": lambda i: timestamp(i.launched_at),
    "maintenance-options.auto-recovery": lambda i: i.auto_recovery,
    "metadata-options.http-endpoint": lambda i: "enabled" if i.metadata.enabled else "disabled",
    "metadata-options.http-protocol-ipv4": lambda i: "enabled",
    "metadata-options.http-protocol-ipv6": lambda i: "enabled" if i.metadata.ipv6_enabled else "disabled",
    "metadata-options.http-put-response-hop-limit": lambda i: i.metadata.hop_limit,
    "metadata-options.http-tokens": lambda i: "required" if i.metadata.tokens_required else "optional",
    "metadata-options.instance-metadata-tags": lambda i: "enabled" if i.metadata.tags_enabled else "disabled",
    "metadata-options.state": lambda i: metadata_state(state_name(i)),
    "monitoring-state": lambda i: "enabled" if i.monitoring else "disabled",
    "network-performance-options.bandwidth-weighting": lambda i: "default",
    "operator.managed": lambda i: False,
    "owner-id": lambda i: i.account,
    "placement-group-name": lambda i: i.placement.group_name if i.placement else None,
    "placement-partition-number": lambda i: i.placement.partition if i.placement else None,
    "platform-details": lambda i: "Linux/UNIX",
    "reason": transition_reason,
    "reservation-id": lambda i: i.reservation_id,
    "root-device-name": lambda i: i.root.device,
    "root-device-type": lambda i: "ebs",
    "source-dest-check": lambda i: i.nic.source_dest_check,
    "state-reason-code": lambda i: (state_reason(i, state_name(i)) or {}).get("Code", ""),
    "state-reason-message": lambda i: (state_reason(i, state_name(i)) or {}).get("Message", ""),
    "tenancy": lambda i: "dedicated" if i.is_dedicated else "default",
    "usage-operation": lambda i: "RunInstances",
    "usage-operation-update-time": lambda i: timestamp(i.created_at),
    "virtualization-type": lambda i: "hvm",
    # Documented, and no instance here has any.
    **dict.fromkeys(
        (
            "capacity-reservation-id",
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
            "instance-lifecycle",
            "kernel-id",
            "network-interface.addresses.association.carrier-ip",
            "network-interface.addresses.association.customer-owned-ip",
            "network-interface.association.carrier-ip",
            "network-interface.association.customer-owned-ip",
            "network-interface.deny-all-igw-traffic",
            "network-interface.ipv4-prefixes.ipv4-prefix",
            "network-interface.ipv6-prefixes.ipv6-prefix",
            "network-interface.operator.principal",
            "network-interface.outpost-arn",
            "network-interface.requester-id",
            "operator.principal",
            "outpost-arn",
            "platform",
            "product-code",
            "product-code.type",
            "ramdisk-id",
            "requester-id",
            "spot-instance-request-id",
            "tpm-support",
        ),
        lambda i: None,
    ),
}


def instance_filters(reader: Reader, filters: Sequence[Filter]) -> Filters[Instance]:
    """The table that these filters need."""
    asked = {filter.name or "" for filter in filters}
    joined: dict[str, Callable[[Instance], Values]] = {}
    for name in asked & _PUBLIC_NAMES.keys():
        joined[name] = _named(reader, _PUBLIC_NAMES[name])
    for name in asked & _ASSOCIATIONS.keys():
        joined[name] = _elastic(reader, _ASSOCIATIONS[name], primary="addresses" not in name)
    for name in asked & _GROUP_NAMES.keys():
        joined[name] = _group_named(reader, _GROUP_NAMES[name])
    for name in asked:
        if name.startswith(_INTERFACE_TAG) and len(name) > len(_INTERFACE_TAG):
            joined[name] = _tag_of_interface(reader, name.removeprefix(_INTERFACE_TAG))
    if "network-interface.tag-key" in asked:
        joined["network-interface.tag-key"] = lambda i: _interface_tags(reader, i).keys()
    if "network-interface.tag-value" in asked:
        joined["network-interface.tag-value"] = lambda i: _interface_tags(reader, i).values()
    if not joined:
        return _OWN
    return {**_OWN, **{name: _until_terminated(value) for name, value in joined.items()}}


# Whose names these are: interfaces, each with a public address.
_PUBLIC_NAMES: Mapping[str, Callable[[Instance], list[tuple[Nic, str | None]]]] = {
    "dns-name": lambda i: [(i.nic, i.nic.public_ip)],
    "network-interface.addresses.association.public-dns-name": lambda i: [
        (nic, one.public_ip) for nic in i.nics for one in (_primary(nic), *nic.secondary)
    ],
    "network-interface.association.public-dns-name": lambda i: [(nic, nic.public_ip) for nic in i.nics],
    "network-interface.public-dns-name": lambda i: [(nic, nic.public_ip) for nic in i.nics],
}
_ASSOCIATIONS: Mapping[str, Callable[[Address], Value]] = {
    "network-interface.addresses.association.allocation-id": lambda address: address.id,
    "network-interface.addresses.association.association-id": lambda address: address.association_id,
    "network-interface.association.allocation-id": lambda address: address.id,
    "network-interface.association.association-id": lambda address: address.association_id,
}


def _named(reader: Reader, of: Callable[[Instance], list[tuple[Nic, str | None]]]) -> Callable[[Instance], Values]:
    """The names that the answer shows: none in a VPC without hostnames."""
    return lambda i: [public_dns(i.region, ip) for nic, ip in of(i) if ip is not None and has_hostnames(reader, nic.vpc_id)]


def _group_named(reader: Reader, of: Callable[[Instance], Sequence[Nic]]) -> Callable[[Instance], Values]:
    return lambda i: [group["GroupName"] for nic in of(i) for group in group_names(reader, nic.group_ids)]


def _elastic(reader: Reader, value: Callable[[Address], Value], *, primary: bool) -> Callable[[Instance], Values]:
    """Of the elastic addresses of its interfaces, or only of those on their primary private ones."""

    def found(instance: Instance) -> Iterator[Value]:
        for nic in instance.nics:
            if nic.elastic or any(one.elastic for one in nic.secondary):
                for address in reader.where(Address, interface_id=nic.interface_id):
                    if not primary or address.private_ip == nic.private_ip:
                        yield value(address)

    return found


# Which interfaces' groups these are names of.
_GROUP_NAMES: Mapping[str, Callable[[Instance], Sequence[Nic]]] = {
    "group-name": lambda i: [i.nic],
    "instance.group-name": lambda i: [i.nic],
    "network-interface.group-name": lambda i: i.nics,
}
_INTERFACE_TAG = "network-interface.tag:"


def _tag_of_interface(reader: Reader, key: str) -> Callable[[Instance], Values]:
    return lambda i: _interface_tags(reader, i).get(key)


def _interface_tags(reader: Reader, instance: Instance) -> Mapping[str, str]:
    found = [reader.find(NetworkInterface, nic.interface_id) for nic in instance.nics]
    return {key: value for one in reversed(found) if one is not None for key, value in one.tags.items()}
