"""Network interfaces: CreateNetworkInterface, DeleteNetworkInterface, DescribeNetworkInterfaces.

An instance's first one is made and removed with it (`plan/launch.py`, `store/claims.py`). Not here: attachments
(interface_attachments.py), single attributes (interface_attributes.py), secondary addresses (private_addresses.py).
"""

from collections.abc import Callable, Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.new_interfaces import (
    SECONDARY_MAX,
    Ipv6Address,
    PrivateIp,
    draw_interface,
    find_interface_groups,
    make_interface,
    wanted_addresses,
    wanted_v6,
)
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import NO_OPERATOR, group_names, has_hostnames, public_dns, shown_v6
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.api.wire.xml import Cached, timestamp
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.instances import Attach, Instance
from alto.model.networks import NetworkInterface, PortAddress, Subnet
from alto.plan.addresses import hostname
from alto.store.claims import delete_interface, has_elastic
from alto.store.store import Reader, Tx

DESCRIPTION_MAX = 255

# To whom, and how, an interface is attached that the cloud made for a service.
SERVICE, SERVICE_INDEX, SERVICE_DELETES = "amazon-aws", 1, False


class CreateNetworkInterfaceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    subnet_id: str | None = None
    description: str | None = None
    private_ip_address: str | None = None
    private_ip_addresses: tuple[PrivateIp, ...] = ()
    secondary_private_ip_address_count: int | None = None
    ipv6_addresses: tuple[Ipv6Address, ...] = ()
    ipv6_address_count: int | None = None
    groups: tuple[str, ...] = ()
    interface_type: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()
    client_token: str | None = None


async def create_network_interface(call: Call, request: CreateNetworkInterfaceRequest) -> dict[str, object]:
    if request.subnet_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter subnetId")
    if request.interface_type not in (None, "interface"):
        raise Refused("UnsupportedOperation", f"Interfaces of type {request.interface_type[:40]} are not supported here.")
    check_description(request.description or "")
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "network-interface")["network-interface"]
    addresses = wanted_addresses(
        request.private_ip_address, request.private_ip_addresses, request.secondary_private_ip_address_count
    )
    if addresses.further > SECONDARY_MAX:
        raise Refused(
            "PrivateIpAddressLimitExceeded", f"An interface has at most {SECONDARY_MAX} secondary private IP addresses."
        )
    v6 = wanted_v6(request.ipv6_addresses, request.ipv6_address_count)
    drawn, now = draw_interface(call.world.chance), call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return show_interface(tx, owned(tx, call, NetworkInterface, known))
        subnet = owned(tx, call, Subnet, request.subnet_id or "")
        group_ids = find_interface_groups(tx, call, request.groups, subnet.vpc_id, _absent_group)
        description = request.description or ""
        made = make_interface(tx, drawn, subnet, addresses, group_ids, now, v6=v6, description=description, tags=tags)
        remember_result(tx, call, request.client_token, made.id, now)
        return show_interface(tx, made)

    interface = await call.store.write(body)
    return {"NetworkInterface": interface, "ClientToken": request.client_token}


def _absent_group(id: str) -> Refused:
    return Refused("InvalidSecurityGroupID.NotFound", f"The securityGroup ID '{id[:80]}' does not exist")


def check_description(text: str) -> None:
    if len(text) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"Description is limited to {DESCRIPTION_MAX} characters")


class DeleteNetworkInterfaceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None


async def delete_network_interface(call: Call, request: DeleteNetworkInterfaceRequest) -> dict[str, object]:
    id = request.network_interface_id
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter networkInterfaceId")

    def body(tx: Tx) -> None:
        interface = owned(tx, call, NetworkInterface, id)
        if interface.requester is not None:
            raise Refused("InvalidParameterValue", f"Network interface '{id}' is currently in use by {interface.requester}.")
        if interface.instance_id is not None:
            raise Refused("InvalidParameterValue", f"Network interface '{id}' is currently in use.")
        delete_interface(tx, interface)

    await call.store.write(body)
    return {}


def _attached(to_instance: Callable[[NetworkInterface], Values], to_service: Values) -> Callable[[NetworkInterface], Values]:
    """What `show_attachment` shows: of an interface that an instance has, or one that the cloud made for a service."""
    return lambda one: to_service if one.requester is not None else to_instance(one) if one.instance_id is not None else None


def addresses_of(one: NetworkInterface) -> tuple[PortAddress, ...]:
    """All private addresses, the primary one first."""
    return (PortAddress(private_ip=one.private_ip, public_ip=one.public_ip, elastic=one.elastic), *one.secondary)


def _owner(one: NetworkInterface, address: PortAddress) -> str | None:
    if address.public_ip is None:
        return None
    return one.account if address.elastic else "amazon"


def _public(one: NetworkInterface) -> list[PortAddress]:
    return [address for address in addresses_of(one) if address.public_ip is not None]


_FILTERS: Filters[NetworkInterface] = {
    "addresses.association.owner-id": lambda one: [_owner(one, address) for address in _public(one)],
    "addresses.association.public-ip": lambda one: [address.public_ip for address in _public(one)],
    "addresses.primary": lambda one: [True, False] if one.secondary else True,
    "addresses.private-ip-address": lambda one: [address.private_ip for address in addresses_of(one)],
    "association.ip-owner-id": lambda one: [_owner(one, address) for address in _public(one)],
    "association.public-ip": lambda one: [address.public_ip for address in _public(one)],
    "attachment.attach-time": lambda one: _attach_time(one),
    "attachment.attachment-id": lambda one: one.attachment_id,
    "attachment.delete-on-termination": _attached(lambda one: one.delete_on_termination, SERVICE_DELETES),
    "attachment.device-index": _attached(lambda one: one.device_index, SERVICE_INDEX),
    "attachment.instance-id": lambda one: one.instance_id,
    "attachment.instance-owner-id": _attached(lambda one: one.account, SERVICE),
    "availability-zone": lambda one: one.zone,
    "availability-zone-id": lambda one: zone_id(one.zone),
    "description": lambda one: one.description,
    "group-id": lambda one: one.group_ids,
    "interface-type": lambda one: one.requester or "interface",
    "ipv6-addresses.ipv6-address": lambda one: one.ipv6,
    "mac-address": lambda one: one.mac,
    "network-interface-id": lambda one: one.id,
    "operator.managed": lambda one: False,
    "operator.principal": lambda one: None,
    "owner-id": lambda one: one.account,
    "private-dns-name": lambda one: hostname(one.private_ip, one.region),
    "private-ip-address": lambda one: [address.private_ip for address in addresses_of(one)],
    "requester-id": lambda one: one.account if one.requester else None,
    "requester-managed": lambda one: one.requester is not None,
    "source-dest-check": lambda one: one.source_dest_check,
    "status": lambda one: _status(one),
    "subnet-id": lambda one: one.subnet_id,
    "vpc-id": lambda one: one.vpc_id,
}


def _filters(reader: Reader) -> Filters[NetworkInterface]:
    return {
        **_FILTERS,
        "association.allocation-id": lambda one: [address.id for address in _elastic(reader, one).values()],
        "association.association-id": lambda one: [address.association_id for address in _elastic(reader, one).values()],
        "association.public-dns-name": lambda one: [
            public_dns(one.region, address.public_ip) for address in (_public(one) if _named(reader, one) else ())
        ],
        "attachment.status": _attached(lambda one: _attach(reader, one), Attach.ATTACHED.value),
        "group-name": lambda one: [group["GroupName"] for group in group_names(reader, one.group_ids)],
    }


def _attach_time(one: NetworkInterface) -> str | None:
    if one.requester is not None:
        return timestamp(one.created_at)
    return timestamp(one.attached_at or 0.0) if one.instance_id is not None else None


def _elastic(reader: Reader, one: NetworkInterface) -> Mapping[str, Address]:
    """By private address; asked for only where there is one."""
    if not has_elastic(one):
        return {}
    return {address.private_ip or "": address for address in reader.where(Address, interface_id=one.id)}


def _attach(reader: Reader, one: NetworkInterface) -> str:
    instance = reader.find(Instance, one.instance_id) if one.instance_id is not None else None
    nics = instance.nics if instance is not None else ()
    return next((nic.attach.value for nic in nics if nic.interface_id == one.id), Attach.ATTACHED.value)


class DescribeNetworkInterfacesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


async def describe_network_interfaces(call: Call, request: DescribeNetworkInterfacesRequest) -> dict[str, object]:
    ids = request.network_interface_ids
    check_page(request.max_results, ids, ids_parameter="networkInterfaceIdSet")

    def body(reader: Reader) -> dict[str, object]:
        matches = matcher(request.filters, _filters(reader))
        page = page_of_own(reader, call, NetworkInterface, ids, matches, request.max_results, request.next_token)
        return listing("NetworkInterfaces", [_cached(call, reader, one) for one in page.items], page.next_token)

    return call.store.read(body)


def _cached(call: Call, reader: Reader, one: NetworkInterface) -> Cached:
    """Rendered once for each version of the interface and of its instance, and of whether its VPC names it; names of groups
    never change."""
    instance = reader.find(Instance, one.instance_id) if one.instance_id is not None else None
    named = _named(reader, one)
    key = (one.id, one.version, instance.version if instance is not None else 0, named)
    return Cached(key, lambda: call.store.read(lambda later: show_interface(later, one)))


def _status(one: NetworkInterface) -> str:
    return "in-use" if one.instance_id is not None or one.requester is not None else "available"


def show_attachment(reader: Reader, one: NetworkInterface) -> dict[str, object] | None:
    if one.requester is not None:
        return {
            "AttachmentId": one.attachment_id,
            "InstanceOwnerId": SERVICE,
            "DeviceIndex": SERVICE_INDEX,
            "NetworkCardIndex": 0,
            "Status": Attach.ATTACHED.value,
            "AttachTime": one.created_at,
            "DeleteOnTermination": SERVICE_DELETES,
        }
    if one.instance_id is None:
        return None
    return {
        "AttachmentId": one.attachment_id,
        "InstanceId": one.instance_id,
        "InstanceOwnerId": one.account,
        "DeviceIndex": one.device_index,
        "NetworkCardIndex": 0,
        "Status": _attach(reader, one),
        "AttachTime": one.attached_at,
        "DeleteOnTermination": one.delete_on_termination,
    }


def _named(reader: Reader, one: NetworkInterface) -> bool:
    """Whether its public addresses have names."""
    return bool(_public(one)) and has_hostnames(reader, one.vpc_id)


def _association(
    one: NetworkInterface, address: PortAddress, elastic: Mapping[str, Address], *, named: bool
) -> dict[str, object] | None:
    if address.public_ip is None:
        return None
    shape: dict[str, object] = {
        "IpOwnerId": _owner(one, address),
        "PublicIp": address.public_ip,
        "PublicDnsName": public_dns(one.region, address.public_ip) if named else "",
    }
    known = elastic.get(address.private_ip)
    if known is not None:
        shape.update(AllocationId=known.id, AssociationId=known.association_id)
    return shape


def show_interface(reader: Reader, one: NetworkInterface) -> dict[str, object]:
    elastic = _elastic(reader, one)
    named = _named(reader, one)
    associations = {address.private_ip: _association(one, address, elastic, named=named) for address in addresses_of(one)}
    private_dns = hostname(one.private_ip, one.region)
    shape: dict[str, object] = {
        "NetworkInterfaceId": one.id,
        "OwnerId": one.account,
        "Status": _status(one),
        "InterfaceType": one.requester or "interface",
        "Description": one.description,
        "VpcId": one.vpc_id,
        "SubnetId": one.subnet_id,
        "AvailabilityZone": one.zone,
        "AvailabilityZoneId": zone_id(one.zone),
        "MacAddress": one.mac,
        "PrivateIpAddress": one.private_ip,
        "PrivateDnsName": private_dns,
        "PrivateIpAddresses": [
            {
                "PrivateIpAddress": address.private_ip,
                "PrivateDnsName": hostname(address.private_ip, one.region),
                "Primary": address.private_ip == one.private_ip,
                "Association": associations[address.private_ip],
            }
            for address in addresses_of(one)
        ],
        "Ipv6Addresses": shown_v6(one.ipv6),
        "Association": associations[one.private_ip],
        "Attachment": show_attachment(reader, one),
        "Groups": group_names(reader, one.group_ids),
        "SourceDestCheck": one.source_dest_check,
        "RequesterManaged": one.requester is not None,
        "Operator": NO_OPERATOR,
        "TagSet": shown(one.tags),
    }
    if one.ipv6:
        shape["Ipv6Address"] = one.ipv6[0]
    if one.requester is not None:
        shape["RequesterId"] = one.account
    return shape


OPERATIONS: Mapping[str, Operation] = {
    "CreateNetworkInterface": Operation(CreateNetworkInterfaceRequest, create_network_interface),
    "DeleteNetworkInterface": Operation(DeleteNetworkInterfaceRequest, delete_network_interface),
    "DescribeNetworkInterfaces": Operation(DescribeNetworkInterfacesRequest, describe_network_interfaces),
}
