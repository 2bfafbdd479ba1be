"""NAT gateways: CreateNatGateway, DescribeNatGateways, DeleteNatGateway. Not here: addresses that come and go later
(nat_gateway_addresses.py).

A gateway has an interface of its own, which nobody else attaches, changes or removes; a public one has an elastic address,
which leads to that interface. Both take effect with the transaction, so that no gateway is ever seen pending or deleting; its
packets are the hosts' work (`plan/routes.py`). A public one in a VPC without internet gateway has failed from the start, as at
EC2, and so has one whose elastic address leads somewhere already, or whose subnet is full: it takes nothing, and what changes
later does not mend it. What failed or was deleted is listed for an hour (`control/keeper.py`).
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.address_targets import lead_to, leave
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, owned_or, page_of_own
from alto.api.ec2.nat_gateway_addresses import add_addresses, addresses_of, draw_addresses, find_elastic, shown_address, taken
from alto.api.ec2.new_interfaces import Addresses, draw_interface, make_interface
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.networks import NAT_GATEWAY, AddressPool, NetworkInterface, Subnet
from alto.model.records import Tags
from alto.model.routing import InternetGateway, NatGateway, NatState
from alto.store.claims import delete_interface
from alto.store.store import Reader, Tx

ZONAL = "zonal"


class CreateNatGatewayRequest(msgspec.Struct, frozen=True, rename="pascal"):
    subnet_id: str | None = None
    allocation_id: str | None = None
    connectivity_type: str | None = None
    availability_mode: str | None = None
    private_ip_address: str | None = None
    secondary_allocation_ids: tuple[str, ...] = ()
    secondary_private_ip_addresses: tuple[str, ...] = ()
    secondary_private_ip_address_count: int | None = None
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_nat_gateway(call: Call, request: CreateNatGatewayRequest) -> dict[str, object]:
    public = _is_public(request)
    count = request.secondary_private_ip_address_count
    if count is not None and (count < 1 or request.secondary_private_ip_addresses):
        raise Refused(
            "InvalidParameterCombination", "Give either secondaryPrivateIpAddresses or a secondaryPrivateIpAddressCount above 0"
        )
    further = draw_addresses(
        call, request.secondary_allocation_ids, request.secondary_private_ip_addresses, count, public=public
    )
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "natgateway")["natgateway"]
    id, association_id = draw_id(call.world.chance, "nat"), draw_id(call.world.chance, "eipassoc")
    drawn, now = draw_interface(call.world.chance), call.world.clock.now()

    def body(tx: Tx) -> NatGateway:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return owned(tx, call, NatGateway, known)
        subnet = _subnet(tx, call, request.subnet_id or "")
        ids = (request.allocation_id or "", *further.allocation_ids) if public else ()
        elastic = [find_elastic(tx, call, one) for one in ids]
        address = elastic[0] if elastic else None
        failure = _failure(tx, subnet, elastic, 1 + len(further.chosen) + further.more)
        if failure is not None:
            remember_result(tx, call, request.client_token, id, now)
            return tx.put(_failed(call, id, subnet, address, failure, now, tags))
        interface = make_interface(
            tx,
            drawn,
            subnet,
            Addresses(request.private_ip_address),
            (),
            now,
            description=f"Interface for NAT Gateway {id}",
            requester=NAT_GATEWAY,
        )
        # It forwards what is not its own.
        interface = tx.put(replace(interface, source_dest_check=False, attachment_id=drawn.attachment_id))
        if address is not None:
            lead_to(tx, call, address, interface.id, interface.private_ip, association_id)
        remember_result(tx, call, request.client_token, id, now)
        return add_addresses(
            tx,
            call,
            NatGateway(
                id=id,
                account=call.account,
                region=call.region,
                vpc_id=subnet.vpc_id,
                subnet_id=subnet.id,
                public=public,
                interface_id=interface.id,
                private_ip=interface.private_ip,
                allocation_id=address.id if address else None,
                association_id=association_id if address else None,
                public_ip=address.public_ip if address else None,
                created_at=now,
                tags=tags,
            ),
            further,
        )

    gateway = await call.store.write(body)
    return {"NatGateway": _shown(gateway), "ClientToken": request.client_token}


def _subnet(reader: Reader, call: Call, id: str) -> Subnet:
    return owned_or(
        reader,
        call,
        Subnet,
        id,
        malformed=Refused("InvalidSubnet", f"The subnet ID '{id[:80]}' is malformed"),
        absent=Refused("InvalidSubnetID.NotFound", f"The subnet ID '{id}' does not exist"),
    )


def _failure(reader: Reader, subnet: Subnet, elastic: Sequence[Address], private: int) -> tuple[str, str] | None:
    """Code and message (NatGateway in the API reference) of why a gateway with these elastic addresses, and so many `private`
    ones, cannot work. A private gateway has no elastic ones."""
    if elastic and not reader.where(InternetGateway, vpc_id=subnet.vpc_id, limit=1):
        return "Gateway.NotAttached", f"Network {subnet.vpc_id} has no Internet gateway attached"
    for address in elastic:
        if address.association_id is not None:
            return "Resource.AlreadyAssociated", taken(address)
    pool = reader.get(AddressPool, subnet.id)
    if pool.used + private > pool.size:
        return "InsufficientFreeAddressesInSubnet", "Subnet has insufficient free addresses to create this NAT gateway"
    return None


def _failed(
    call: Call, id: str, subnet: Subnet, address: Address | None, failure: tuple[str, str], now: float, tags: Tags
) -> NatGateway:
    return NatGateway(
        id=id,
        account=call.account,
        region=call.region,
        vpc_id=subnet.vpc_id,
        subnet_id=subnet.id,
        interface_id="",
        private_ip="",
        public=address is not None,
        allocation_id=address.id if address is not None else None,
        state=NatState.FAILED,
        failure=failure,
        created_at=now,
        tags=tags,
    )


def _is_public(request: CreateNatGatewayRequest) -> bool:
    if request.subnet_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter subnetId")
    if request.connectivity_type not in (None, "public", "private"):
        raise Refused("InvalidParameterValue", f"Invalid value '{request.connectivity_type[:40]}' for ConnectivityType.")
    if request.availability_mode == "regional":
        raise Refused("UnsupportedOperation", "A NAT gateway is in one availability zone here: AvailabilityMode is zonal.")
    if request.availability_mode not in (None, ZONAL):
        raise Refused("InvalidParameterValue", f"Invalid value '{request.availability_mode[:40]}' for AvailabilityMode.")
    public = request.connectivity_type != "private"
    if public and request.allocation_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter allocationId: the gateway is a public one")
    if not public and (request.allocation_id is not None or request.secondary_allocation_ids):
        raise Refused("InvalidParameterCombination", "A private NAT gateway has no elastic address")
    return public


_FILTERS: Filters[NatGateway] = {
    "nat-gateway-id": lambda one: one.id,
    "state": lambda one: one.state.value,
    "subnet-id": lambda one: one.subnet_id,
    "vpc-id": lambda one: one.vpc_id,
}


class DescribeNatGatewaysRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_ids: tuple[str, ...] = ()
    # Amazon's member is singular, and old clients' plural.
    filter: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_nat_gateways(call: Call, request: DescribeNatGatewaysRequest) -> dict[str, object]:
    ids = request.nat_gateway_ids
    check_page(request.max_results, ids, ids_parameter="natGatewayIds")
    matches = matcher(request.filter, _FILTERS)

    def body(reader: Reader) -> dict[str, object]:
        page = page_of_own(reader, call, NatGateway, ids, matches, request.max_results, request.next_token)
        return listing("NatGateways", [_shown(one) for one in page.items], page.next_token)

    return call.store.read(body)


def _shown(one: NatGateway) -> dict[str, object]:
    shape: dict[str, object] = {
        "NatGatewayId": one.id,
        "State": one.state.value,
        "ConnectivityType": "public" if one.public else "private",
        "AvailabilityMode": ZONAL,
        "SubnetId": one.subnet_id,
        "VpcId": one.vpc_id,
        "CreateTime": one.created_at,
        "NatGatewayAddresses": [shown_address(one, address) for address in addresses_of(one)],
        "Tags": shown(one.tags),
    }
    if one.deleted_at is not None:
        shape["DeleteTime"] = one.deleted_at
    if one.failure is not None:
        shape["FailureCode"], shape["FailureMessage"] = one.failure
    return shape


class DeleteNatGatewayRequest(msgspec.Struct, frozen=True, rename="pascal"):
    nat_gateway_id: str | None = None


async def delete_nat_gateway(call: Call, request: DeleteNatGatewayRequest) -> dict[str, object]:
    id, now = request.nat_gateway_id, call.world.clock.now()
    if id is None:
        raise Refused("MissingParameter", "The request must contain the parameter natGatewayId")

    def body(tx: Tx) -> None:
        gateway = owned(tx, call, NatGateway, id)
        if gateway.state is NatState.DELETED:
            return
        if gateway.holds:
            for address in tx.where(Address, interface_id=gateway.interface_id):
                leave(tx, call, address)
            interface = tx.find(NetworkInterface, gateway.interface_id)
            if interface is not None:
                delete_interface(tx, interface)
        tx.put(replace(gateway, state=NatState.DELETED, deleted_at=now))

    await call.store.write(body)
    return {"NatGatewayId": id}


OPERATIONS: Mapping[str, Operation] = {
    "CreateNatGateway": Operation(CreateNatGatewayRequest, create_nat_gateway),
    "DeleteNatGateway": Operation(DeleteNatGatewayRequest, delete_nat_gateway),
    "DescribeNatGateways": Operation(DescribeNatGatewaysRequest, describe_nat_gateways),
}
