"""Secondary private addresses: AssignPrivateIpAddresses, UnassignPrivateIpAddresses.

Each is claimed by a row of its own (`SecondaryAddress`). One that is unassigned lets go of its elastic address, and one that
moves to another interface takes it along, as at EC2.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import check_private, claim_secondary, is_private_taken, take_private
from alto.api.ec2.address_targets import lead_to
from alto.api.ec2.interface_attachments import changeable
from alto.api.ec2.new_interfaces import SECONDARY_MAX, asked_for
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance
from alto.model.networks import AddressPool, NetworkInterface, PortAddress, SecondaryAddress, Subnet, secondary_id
from alto.store.claims import put_interface, unassociated
from alto.store.store import Reader, Tx


class AssignPrivateIpAddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    private_ip_addresses: tuple[str, ...] = ()
    secondary_private_ip_address_count: int | None = None
    allow_reassignment: bool | None = None


async def assign_private_ip_addresses(call: Call, request: AssignPrivateIpAddressesRequest) -> dict[str, object]:
    listed, count = request.private_ip_addresses, request.secondary_private_ip_address_count
    id = asked_for(
        request.network_interface_id,
        listed,
        count,
        listed_name="privateIpAddresses",
        count_name="secondaryPrivateIpAddressCount",
    )

    def body(tx: Tx) -> list[str]:
        interface = changeable(tx, call, id)
        subnet = tx.get(Subnet, interface.subnet_id)
        has = {interface.private_ip, *(one.private_ip for one in interface.secondary)}
        asked = list(dict.fromkeys(check_private(text, subnet) for text in listed))
        new = [address for address in asked if address not in has]
        _check_room(tx, interface, len(interface.secondary) + len(new) + (count or 0))
        if not request.allow_reassignment:
            _refuse_others(tx, subnet, new)
        moved = _take_from_others(tx, call, interface, new) if request.allow_reassignment else []
        given = take_private(tx, subnet, count or 0, new) if new or count else []
        claim_secondary(tx, subnet, interface.id, given)
        secondary = (*interface.secondary, *(PortAddress(private_ip=address) for address in given))
        put_interface(tx, replace(interface, secondary=secondary))
        for one in moved:
            lead_to(tx, call, tx.get(Address, one.id), interface.id, one.private_ip or "", one.association_id or "")
        return asked or given

    assigned = await call.store.write(body)
    return {
        "NetworkInterfaceId": id,
        "AssignedPrivateIpAddresses": [{"PrivateIpAddress": address} for address in assigned],
    }


def _check_room(reader: Reader, interface: NetworkInterface, secondary: int) -> None:
    most = SECONDARY_MAX
    if interface.instance_id is not None:
        most = CATALOGUE[reader.get(Instance, interface.instance_id).instance_type].addresses_per_interface - 1
    if secondary > most:
        raise Refused(
            "PrivateIpAddressLimitExceeded",
            f"Number of private addresses will exceed limit: {interface.id} may have {most} secondary ones.",
        )


def _refuse_others(reader: Reader, subnet: Subnet, addresses: Sequence[str]) -> None:
    """Clients that share out addresses read from this sentence which to leave alone. Raises: Refused."""
    pool = reader.get(AddressPool, subnet.id)
    held = [address for address in addresses if is_private_taken(reader, pool, subnet.vpc_id, address)]
    if held:
        raise Refused("InvalidParameterValue", f"[{', '.join(held)}] assigned, but move is not allowed.")


def _take_from_others(tx: Tx, call: Call, interface: NetworkInterface, addresses: Sequence[str]) -> list[Address]:
    """Secondary addresses of the caller's other interfaces become free; answered are the elastic ones that led to them, as they
    were. A primary one stays where it is."""
    elastic: list[Address] = []
    for address in addresses:
        claim = tx.find(SecondaryAddress, secondary_id(interface.vpc_id, address))
        if claim is not None:
            holder = changeable(tx, call, claim.interface_id)
            elastic += tx.where(Address, interface_id=holder.id, private_ip=address)
            give_back_private(tx, holder, [address])
    return elastic


class UnassignPrivateIpAddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_interface_id: str | None = None
    private_ip_addresses: tuple[str, ...] = ()


async def unassign_private_ip_addresses(call: Call, request: UnassignPrivateIpAddressesRequest) -> dict[str, object]:
    id, listed = request.network_interface_id, list(dict.fromkeys(request.private_ip_addresses))
    if id is None or not listed:
        raise Refused("MissingParameter", "The request must contain the parameters networkInterfaceId and privateIpAddresses")

    def body(tx: Tx) -> None:
        interface = changeable(tx, call, id)
        if interface.private_ip in listed:
            raise Refused("InvalidParameterValue", f"The primary private IP address of {id} cannot be unassigned.")
        absent = set(listed) - {one.private_ip for one in interface.secondary}
        if absent:
            raise Refused("InvalidParameterValue", f"Some of the specified addresses are not assigned to interface {id}")
        give_back_private(tx, interface, listed)

    await call.store.write(body)
    return {}


def give_back_private(tx: Tx, interface: NetworkInterface, addresses: Sequence[str]) -> None:
    for one in interface.secondary:
        if one.private_ip in addresses:
            tx.delete(SecondaryAddress, secondary_id(interface.vpc_id, one.private_ip))
            for address in tx.where(Address, interface_id=interface.id, private_ip=one.private_ip) if one.elastic else ():
                tx.put(unassociated(address))
    kept = tuple(one for one in interface.secondary if one.private_ip not in addresses)
    put_interface(tx, replace(interface, secondary=kept))
    pool = tx.get(AddressPool, interface.subnet_id)
    count = len(interface.secondary) - len(kept)
    tx.put(replace(pool, used=pool.used - count, secondary=pool.secondary - count))


OPERATIONS: Mapping[str, Operation] = {
    "AssignPrivateIpAddresses": Operation(AssignPrivateIpAddressesRequest, assign_private_ip_addresses),
    "UnassignPrivateIpAddresses": Operation(UnassignPrivateIpAddressesRequest, unassign_private_ip_addresses),
}
