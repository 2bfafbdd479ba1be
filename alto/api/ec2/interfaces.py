"""Network interfaces, to be read: DescribeNetworkInterfaces and DescribeNetworkInterfaceAttribute.

So far each is the primary interface of an instance, made and removed with it (`plan/launch.py`, `store/claims.py`).
"""

from collections.abc import Callable, Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import group_names, public_dns
from alto.api.ec2.tags import shown
from alto.api.wire.xml import Cached, timestamp
from alto.model.errors import Refused
from alto.model.instances import Instance
from alto.model.networks import NetworkInterface
from alto.plan.addresses import hostname
from alto.store.store import Reader


def _attached(value: Callable[[NetworkInterface], Values]) -> Callable[[NetworkInterface], Values]:
    return lambda one: value(one) if one.instance_id is not None else None


_FILTERS: Filters[NetworkInterface] = {
    "addresses.association.owner-id": lambda one: "amazon" if one.public_ip else None,
    "addresses.association.public-ip": lambda one: one.public_ip,
    "addresses.primary": lambda one: True,
    "addresses.private-ip-address": lambda one: one.private_ip,
    "association.allocation-id": lambda one: None,
    "association.association-id": lambda one: None,
    "association.ip-owner-id": lambda one: "amazon" if one.public_ip else None,
    "association.public-dns-name": lambda one: public_dns(one.region, one.public_ip) or None,
    "association.public-ip": lambda one: one.public_ip,
    "attachment.attach-time": _attached(lambda one: timestamp(one.attached_at or 0.0)),
    "attachment.attachment-id": lambda one: one.attachment_id,
    "attachment.delete-on-termination": _attached(lambda one: one.delete_on_termination),
    "attachment.device-index": _attached(lambda one: 0),
    "attachment.instance-id": lambda one: one.instance_id,
    "attachment.instance-owner-id": _attached(lambda one: one.account),
    "attachment.status": _attached(lambda one: "attached"),
    "availability-zone": lambda one: one.zone,
    "availability-zone-id": lambda one: zone_id(one.zone),
    "description": lambda one: one.description,
    "group-id": lambda one: one.group_ids,
    "interface-type": lambda one: "interface",
    "ipv6-addresses.ipv6-address": lambda one: None,
    "mac-address": lambda one: one.mac,
    "network-interface-id": lambda one: one.id,
    "operator.managed": lambda one: False,
    "operator.principal": lambda one: None,
    "owner-id": lambda one: one.account,
    "private-dns-name": lambda one: hostname(one.private_ip, one.region),
    "private-ip-address": lambda one: one.private_ip,
    "requester-id": lambda one: None,
    "requester-managed": lambda one: False,
    "source-dest-check": lambda one: one.source_dest_check,
    "status": lambda one: _status(one),
    "subnet-id": lambda one: one.subnet_id,
    "vpc-id": lambda one: one.vpc_id,
}


def _filters(reader: Reader) -> Filters[NetworkInterface]:
    return {
        **_FILTERS,
        "group-name": lambda one: [group["GroupName"] for group in group_names(reader, one.group_ids)],
    }


class DescribeNetworkInterfacesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_network_interfaces(call: Call, request: DescribeNetworkInterfacesRequest) -> dict[str, object]:
    ids = request.network_interface_ids
    check_page(request.max_results, ids, ids_parameter="networkInterfaceIdSet")

    def body(reader: Reader) -> dict[str, object]:
        matches = matcher(request.filters, _filters(reader))
        page = page_of_own(reader, call, NetworkInterface, ids, matches, request.max_results, request.next_token)
        return listing("NetworkInterfaces", [_cached(call, reader, one) for one in page.items], page.next_token)

    return call.store.read(body)


def _cached(call: Call, reader: Reader, one: NetworkInterface) -> Cached:
    """Rendered once for each version of the interface and of its instance; names of groups never change."""
    instance = reader.find(Instance, one.instance_id) if one.instance_id is not None else None
    key = (one.id, one.version, instance.version if instance is not None else 0)
    return Cached(key, lambda: call.store.read(lambda later: _shown(later, one)))


def _status(one: NetworkInterface) -> str:
    return "in-use" if one.instance_id is not None else "available"


def _attachment(one: NetworkInterface) -> dict[str, object] | None:
    if one.instance_id is None:
        return None
    return {
        "AttachmentId": one.attachment_id,
        "InstanceId": one.instance_id,
        "InstanceOwnerId": one.account,
        "DeviceIndex": 0,
        "NetworkCardIndex": 0,
        "Status": "attached",
        "AttachTime": one.attached_at,
        "DeleteOnTermination": one.delete_on_termination,
    }


def _shown(reader: Reader, one: NetworkInterface) -> dict[str, object]:
    association = None
    if one.public_ip is not None:
        association = {
            "IpOwnerId": "amazon",
            "PublicIp": one.public_ip,
            "PublicDnsName": public_dns(one.region, one.public_ip),
        }
    private_dns = hostname(one.private_ip, one.region)
    return {
        "NetworkInterfaceId": one.id,
        "OwnerId": one.account,
        "Status": _status(one),
        "InterfaceType": "interface",
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
                "PrivateIpAddress": one.private_ip,
                "PrivateDnsName": private_dns,
                "Primary": True,
                "Association": association,
            }
        ],
        "Ipv6Addresses": [],
        "Association": association,
        "Attachment": _attachment(one),
        "Groups": group_names(reader, one.group_ids),
        "SourceDestCheck": one.source_dest_check,
        "RequesterManaged": False,
        "TagSet": shown(one.tags),
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

    def body(reader: Reader) -> dict[str, object]:
        one = owned(reader, call, NetworkInterface, id)
        attributes: Mapping[str, tuple[str, object]] = {
            "associatePublicIpAddress": ("AssociatePublicIpAddress", one.public_ip is not None),
            "attachment": ("Attachment", _attachment(one)),
            "description": ("Description", {"Value": one.description}),
            "groupSet": ("Groups", group_names(reader, one.group_ids)),
            "sourceDestCheck": ("SourceDestCheck", {"Value": one.source_dest_check}),
        }
        if attribute not in attributes:
            raise Refused("InvalidParameterValue", f"Value ({attribute[:80]}) for parameter attribute is invalid.")
        member, value = attributes[attribute]
        return {"NetworkInterfaceId": one.id, member: value}

    return call.store.read(body)


OPERATIONS: Mapping[str, Operation] = {
    "DescribeNetworkInterfaceAttribute": Operation(
        DescribeNetworkInterfaceAttributeRequest, describe_network_interface_attribute
    ),
    "DescribeNetworkInterfaces": Operation(DescribeNetworkInterfacesRequest, describe_network_interfaces),
}
