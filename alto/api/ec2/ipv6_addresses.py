"""Addresses of IPv6: AssignIpv6Addresses, UnassignIpv6Addresses.

Each is claimed by a row of its own (`SecondaryAddress`). A running guest is not told of a change: it asks DHCPv6 or its
metadata again, as at EC2. Not here: what an interface has from its beginning (new_interfaces.py, launch_interfaces.py).
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import read_v6, take_v6
from alto.api.ec2.interface_attachments import changeable, check_host_v6
from alto.api.ec2.new_interfaces import SECONDARY_MAX, asked_for
from alto.model.errors import Refused
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance
from alto.model.networks import NetworkInterface, SecondaryAddress, Subnet, secondary_id
from alto.store.claims import put_interface
from alto.store.store import Reader, Tx


class AssignIpv6AddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    ipv6_addresses: tuple[str, ...] = ()
    ipv6_address_count: int | None = None


async def assign_ipv6_addresses(call: Call, request: AssignIpv6AddressesRequest) -> dict[str, object]:
    listed, count = request.ipv6_addresses, request.ipv6_address_count
    id = asked_for(request.network_interface_id, listed, count, listed_name="ipv6Addresses", count_name="ipv6AddressCount")

    def body(tx: Tx) -> list[str]:
        interface = changeable(tx, call, id)
        asked = list(dict.fromkeys(read_v6(text) for text in listed))
        new = [address for address in asked if address not in interface.ipv6]
        _check_room(tx, interface, len(interface.ipv6) + len(new) + (count or 0))
        given = take_v6(tx, tx.get(Subnet, interface.subnet_id), interface.id, count or 0, new)
        if given:
            put_interface(tx, replace(interface, ipv6=(*interface.ipv6, *given)))
        return asked or [*given]

    assigned = await call.store.write(body)
    return {"NetworkInterfaceId": id, "AssignedIpv6Addresses": assigned}


def _check_room(reader: Reader, interface: NetworkInterface, wanted: int) -> None:
    most = SECONDARY_MAX + 1
    if interface.instance_id is not None:
        instance = reader.get(Instance, interface.instance_id)
        most = CATALOGUE[instance.instance_type].addresses_per_interface
        check_host_v6(reader, instance, ["any"])
    if wanted > most:
        raise Refused(
            "PrivateIpAddressLimitExceeded",
            f"Number of IPv6 addresses will exceed limit: {interface.id} may have {most}.",
        )


class UnassignIpv6AddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    ipv6_addresses: tuple[str, ...] = ()


async def unassign_ipv6_addresses(call: Call, request: UnassignIpv6AddressesRequest) -> dict[str, object]:
    id = request.network_interface_id
    if id is None or not request.ipv6_addresses:
        raise Refused("MissingParameter", "The request must contain the parameters networkInterfaceId and ipv6Addresses")

    def body(tx: Tx) -> list[str]:
        interface = changeable(tx, call, id)
        listed = list(dict.fromkeys(read_v6(text) for text in request.ipv6_addresses))
        if not set(listed) <= set(interface.ipv6):
            raise Refused("InvalidParameterValue", f"Some of the specified addresses are not assigned to interface {id}")
        for address in listed:
            tx.delete(SecondaryAddress, secondary_id(interface.vpc_id, address))
        put_interface(tx, replace(interface, ipv6=tuple(one for one in interface.ipv6 if one not in listed)))
        return listed

    return {"NetworkInterfaceId": id, "UnassignedIpv6Addresses": await call.store.write(body)}


OPERATIONS: Mapping[str, Operation] = {
    "AssignIpv6Addresses": Operation(AssignIpv6AddressesRequest, assign_ipv6_addresses),
    "UnassignIpv6Addresses": Operation(UnassignIpv6AddressesRequest, unassign_ipv6_addresses),
}
