"""Secondary addresses of NAT gateways: AssociateNatGatewayAddress and DisassociateNatGatewayAddress of public ones,
AssignPrivateNatGatewayAddress and UnassignPrivateNatGatewayAddress of private ones.

A connection goes on under one of the gateway's addresses, whichever (`drivers/network/gateways.py`). Each takes effect with the
transaction. Unlike at EC2 an address that leaves is not drained: connections under it end.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import claim_secondary, take_private
from alto.api.ec2.address_targets import lead_to, leave
from alto.api.ec2.addresses import refuse_managed
from alto.api.ec2.ids import find_elastic_ip, owned
from alto.api.ec2.private_addresses import give_back_private
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface, PortAddress, Subnet
from alto.model.routing import NatAddress, NatGateway, NatState
from alto.store.store import Reader, Tx

FURTHER_MAX = 7  # "Amazon VPC quotas": eight private addresses for each NAT gateway


class Wanted(msgspec.Struct, frozen=True):
    """Addresses that a gateway is to get: `chosen`, and so many `more`. Of a public one there is an allocation for each."""

    chosen: tuple[str, ...] = ()
    more: int = 0
    allocation_ids: tuple[str, ...] = ()
    association_ids: tuple[str, ...] = ()


def draw_addresses(
    call: Call, allocation_ids: Sequence[str], chosen: Sequence[str], count: int | None, *, public: bool
) -> Wanted:
    """Raises: Refused: not as many private addresses as elastic ones."""
    if not public:
        return Wanted(tuple(chosen), count or 0)
    if len(chosen) > len(allocation_ids) or count not in (None, len(allocation_ids)):
        raise Refused("InvalidParameterCombination", "A public NAT gateway has an elastic address for each private one")
    if len(set(allocation_ids)) < len(allocation_ids):
        raise Refused("InvalidParameterValue", "The same allocation ID must not appear multiple times")
    association_ids = tuple(draw_id(call.world.chance, "eipassoc") for _ in allocation_ids)
    return Wanted(tuple(chosen), len(allocation_ids) - len(chosen), tuple(allocation_ids), association_ids)


def add_addresses(tx: Tx, call: Call, gateway: NatGateway, wanted: Wanted) -> NatGateway:
    """The gateway's row is written, with them. Raises: Refused, NotFound."""
    if not wanted.chosen and not wanted.more:
        return tx.put(gateway)
    if len(gateway.further) + len(wanted.chosen) + wanted.more > FURTHER_MAX:
        raise Refused(
            "PrivateIpAddressLimitExceeded", f"A NAT gateway has at most {FURTHER_MAX} addresses beside its primary one."
        )
    elastic = [_free_address(tx, call, id) for id in wanted.allocation_ids]
    subnet, interface = tx.get(Subnet, gateway.subnet_id), tx.get(NetworkInterface, gateway.interface_id)
    given = take_private(tx, subnet, wanted.more, wanted.chosen)
    claim_secondary(tx, subnet, interface.id, given)
    secondary = (*interface.secondary, *(PortAddress(private_ip=address) for address in given))
    tx.put(replace(interface, secondary=secondary))
    new = [NatAddress(private_ip=private_ip) for private_ip in given]
    for place, address in enumerate(elastic):
        association_id = lead_to(tx, call, address, interface.id, given[place], wanted.association_ids[place])
        new[place] = NatAddress(
            private_ip=given[place],
            allocation_id=address.id,
            association_id=association_id,
            public_ip=address.public_ip,
        )
    return tx.put(replace(gateway, further=(*gateway.further, *new)))


def addresses_of(gateway: NatGateway) -> tuple[NatAddress, ...]:
    """The primary one first."""
    primary = NatAddress(
        private_ip=gateway.private_ip,
        allocation_id=gateway.allocation_id,
        association_id=gateway.association_id,
        public_ip=gateway.public_ip,
    )
    return (primary, *gateway.further)


def find_elastic(reader: Reader, call: Call, id: str) -> Address:
    """The caller's. Raises: Refused."""
    address = find_elastic_ip(reader, call, id)
    refuse_managed(address)
    return address


def _free_address(reader: Reader, call: Call, id: str) -> Address:
    """The caller's, that leads nowhere yet. Raises: Refused."""
    address = find_elastic(reader, call, id)
    if address.association_id is not None:
        raise Refused("Resource.AlreadyAssociated", taken(address))
    return address


def taken(address: Address) -> str:
    """Of one that leads somewhere already."""
    return f"Elastic IP address [{address.id}] is already associated"


def shown_address(gateway: NatGateway, one: NatAddress, status: str = "succeeded") -> dict[str, object]:
    if not gateway.interface_id:
        return {"AllocationId": one.allocation_id, "IsPrimary": True, "Status": "failed"}
    shape: dict[str, object] = {
        "NetworkInterfaceId": gateway.interface_id,
        "PrivateIp": one.private_ip,
        "IsPrimary": one.private_ip == gateway.private_ip,
        "Status": status,
    }
    if one.allocation_id is not None:
        shape.update(AllocationId=one.allocation_id, PublicIp=one.public_ip, AssociationId=one.association_id)
    return shape


class AssociateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_id: str
    allocation_ids: tuple[str, ...] = ()
    private_ip_addresses: tuple[str, ...] = ()


async def associate_nat_gateway_address(call: Call, request: AssociateRequest) -> dict[str, object]:
    if not request.allocation_ids:
        raise Refused("MissingParameter", "The request must contain the parameter allocationIds")
    wanted = draw_addresses(call, request.allocation_ids, request.private_ip_addresses, None, public=True)
    return await _add(call, request.nat_gateway_id, wanted, public=True)


class AssignRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_id: str
    private_ip_addresses: tuple[str, ...] = ()
    private_ip_address_count: int | None = None


async def assign_private_nat_gateway_address(call: Call, request: AssignRequest) -> dict[str, object]:
    chosen, count = request.private_ip_addresses, request.private_ip_address_count
    if bool(chosen) == (count is not None):
        raise Refused(
            "InvalidParameterCombination" if chosen else "MissingParameter",
            "Exactly one of privateIpAddresses and privateIpAddressCount must be specified",
        )
    if count is not None and count < 1:
        raise Refused("InvalidParameterValue", f"Value ({count}) for privateIpAddressCount is invalid.")
    return await _add(call, request.nat_gateway_id, draw_addresses(call, (), chosen, count, public=False), public=False)


async def _add(call: Call, id: str, wanted: Wanted, *, public: bool) -> dict[str, object]:
    def body(tx: Tx) -> tuple[NatGateway, int]:
        gateway = _working(tx, call, id, public=public)
        return add_addresses(tx, call, gateway, wanted), len(gateway.further)

    gateway, before = await call.store.write(body)
    return _answer(gateway, gateway.further[before:], "succeeded")


def _working(reader: Reader, call: Call, id: str, *, public: bool) -> NatGateway:
    gateway = owned(reader, call, NatGateway, id)
    if gateway.state is not NatState.AVAILABLE:
        raise Refused("IncorrectState", f"The NAT gateway {id} is {gateway.state}")
    if gateway.public is not public:
        raise Refused("InvalidParameterValue", f"The NAT gateway {id} is a {'public' if gateway.public else 'private'} one")
    return gateway


class DisassociateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_id: str
    association_ids: tuple[str, ...] = ()


async def disassociate_nat_gateway_address(call: Call, request: DisassociateRequest) -> dict[str, object]:
    asked = frozenset(request.association_ids)
    if not asked:
        raise Refused("MissingParameter", "The request must contain the parameter associationIds")

    def body(tx: Tx) -> tuple[NatGateway, list[NatAddress]]:
        gateway = _working(tx, call, request.nat_gateway_id, public=True)
        if gateway.association_id in asked:
            raise Refused("InvalidParameterValue", "The primary address of a NAT gateway cannot be disassociated")
        gone = [one for one in gateway.further if one.association_id in asked]
        if len(gone) < len(asked):
            unknown = min(asked - {one.association_id for one in gone})
            raise Refused("InvalidAssociationID.NotFound", f"The association ID '{unknown[:80]}' does not exist")
        for one in gone:
            leave(tx, call, tx.get(Address, one.allocation_id or ""))
        return _without(tx, gateway, gone), gone

    return _answer(*await call.store.write(body), "disassociating")


class UnassignRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_id: str
    private_ip_addresses: tuple[str, ...] = ()


async def unassign_private_nat_gateway_address(call: Call, request: UnassignRequest) -> dict[str, object]:
    asked = frozenset(request.private_ip_addresses)
    if not asked:
        raise Refused("MissingParameter", "The request must contain the parameter privateIpAddresses")

    def body(tx: Tx) -> tuple[NatGateway, list[NatAddress]]:
        gateway = _working(tx, call, request.nat_gateway_id, public=False)
        gone = [one for one in gateway.further if one.private_ip in asked]
        if len(gone) < len(asked):
            raise Refused(
                "InvalidParameterValue",
                f"Some of the specified addresses are not secondary ones of {gateway.id}: the primary stays",
            )
        return _without(tx, gateway, gone), gone

    return _answer(*await call.store.write(body), "unassigning")


def _without(tx: Tx, gateway: NatGateway, gone: Sequence[NatAddress]) -> NatGateway:
    give_back_private(tx, tx.get(NetworkInterface, gateway.interface_id), [one.private_ip for one in gone])
    return tx.put(replace(gateway, further=tuple(one for one in gateway.further if one not in gone)))


def _answer(gateway: NatGateway, addresses: Sequence[NatAddress], status: str) -> dict[str, object]:
    return {
        "NatGatewayId": gateway.id,
        "NatGatewayAddresses": [shown_address(gateway, one, status) for one in addresses],
    }


OPERATIONS: Mapping[str, Operation] = {
    "AssignPrivateNatGatewayAddress": Operation(AssignRequest, assign_private_nat_gateway_address),
    "AssociateNatGatewayAddress": Operation(AssociateRequest, associate_nat_gateway_address),
    "DisassociateNatGatewayAddress": Operation(DisassociateRequest, disassociate_nat_gateway_address),
    "UnassignPrivateNatGatewayAddress": Operation(UnassignRequest, unassign_private_nat_gateway_address),
}
