"""Elastic addresses: AllocateAddress, ReleaseAddress, DescribeAddresses, and their reverse names.

To what they lead is address_associations.py's. An instance's own public address is no elastic one, here as at EC2.
"""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.address_pools import take_public
from alto.api.ec2.address_targets import let_go
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import is_own, owned
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.model.addresses import ADDRESSES_MAX, Address
from alto.model.errors import NotFound, Refused
from alto.model.networks import NetworkInterface, PublicAddress
from alto.store.claims import release_public
from alto.store.store import Reader, Tx

DOMAIN, POOL = "vpc", "amazon"


class AllocateAddressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    domain: str | None = None
    address: str | None = None
    public_ipv4_pool: str | None = msgspec.field(name="PublicIpv4Pool", default=None)
    network_border_group: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def allocate_address(call: Call, request: AllocateAddressRequest) -> dict[str, object]:
    # "standard" was EC2-Classic's; old tools still say it, or nothing at all, and take what they get.
    if request.domain not in (None, "", DOMAIN, "standard"):
        raise Refused("InvalidParameterValue", f"Invalid value '{request.domain[:80]}' for domain.")
    if request.public_ipv4_pool not in (None, POOL):
        raise Refused("InvalidPublicIpv4PoolID.NotFound", f"The pool ID '{request.public_ipv4_pool[:80]}' does not exist")
    _check_border(call, request.network_border_group)
    tags = tags_for(request.tag_specifications, "elastic-ip")["elastic-ip"]
    id = draw_id(call.world.chance, "eipalloc")

    def body(tx: Tx) -> Address:
        check_address_limit(tx, call)
        public_ip = take_public(tx, call, id, elastic=True, chosen=request.address)
        return tx.put(Address(id=id, account=call.account, region=call.region, public_ip=public_ip, tags=tags))

    address = await call.store.write(body)
    return {
        "PublicIp": address.public_ip,
        "AllocationId": address.id,
        "PublicIpv4Pool": POOL,
        "NetworkBorderGroup": call.region,
        "Domain": DOMAIN,
    }


def check_address_limit(reader: Reader, call: Call) -> None:
    """Raises: Refused: the caller has as many as an account may have."""
    if reader.count(Address, account=call.account, region=call.region) >= ADDRESSES_MAX:
        raise Refused("AddressLimitExceeded", "The maximum number of addresses has been reached.")


def _check_border(call: Call, border: str | None) -> None:
    if border not in (None, call.region):
        raise Refused("InvalidParameterValue", f"Value ({border[:80]}) for parameter networkBorderGroup is invalid.")


class ReleaseAddressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_id: str | None = None
    public_ip: str | None = None
    network_border_group: str | None = None


async def release_address(call: Call, request: ReleaseAddressRequest) -> dict[str, object]:
    """One that leads to an instance in the default VPC is taken from it; from elsewhere it is to be disassociated first (API
    reference)."""
    if request.allocation_id is None and request.public_ip is None:
        raise Refused("MissingParameter", "Invalid request, expect PublicIp/AllocationId parameter.")
    border = request.network_border_group

    def body(tx: Tx) -> None:
        address = find_address(tx, call, request.allocation_id, request.public_ip)
        if border not in (None, call.region):
            raise Refused("InvalidAddress.NotFound", f"Address '{address.public_ip}' not found in '{border[:80]}'.")
        refuse_used(tx, address)
        if address.association_id is not None:
            let_go(tx, call, address)
        tx.delete(Address, address.id)
        release_public(tx, address.public_ip, address.id)

    await call.store.write(body)
    return {}


def refuse_managed(address: Address) -> None:
    """Raises: Refused: it goes with what it is for."""
    if address.requester is not None:
        kind, _, name = address.requester.partition(" ")
        raise Refused(
            "OperationNotPermitted",
            f"The address {address.public_ip} is that of {kind} {name} and goes with it: alto {kind} delete {name}",
        )


def refuse_used(reader: Reader, address: Address) -> None:
    """Raises: Refused: it goes with what it is for, or is that of a NAT gateway."""
    refuse_managed(address)
    interface = reader.find(NetworkInterface, address.interface_id) if address.interface_id is not None else None
    if interface is not None:
        refuse_service(interface)


def refuse_service(interface: NetworkInterface) -> None:
    """Raises: Refused: it is a service's, to which nobody else leads an address, and from which nobody takes one."""
    if interface.requester is not None:
        raise Refused(
            "AuthFailure",
            f"You do not have permission to access the specified resource. It is used by {interface.requester}.",
        )


def find_address(reader: Reader, call: Call, allocation_id: str | None, public_ip: str | None) -> Address:
    """The caller's, named by one of the two, to change something. Raises: Refused, NotFound.

    One that is not the caller's answers AuthFailure ("Error codes for the Amazon EC2 API"), whether anybody has it or not.
    """
    if allocation_id is not None and public_ip is not None:
        raise Refused(
            "InvalidParameterCombination", "You may specify public IP or allocation id, but not both in the same call"
        )
    if allocation_id is not None:
        return owned(reader, call, Address, allocation_id)
    text = public_ip or ""
    found = _with_public_ip(reader, call, text)
    if found is None:
        raise Refused("AuthFailure", f"The address '{text}' does not belong to you.")
    return found


def _with_public_ip(reader: Reader, call: Call, text: str) -> Address | None:
    """The caller's. Raises: Refused, when it is no address."""
    try:
        IPv4Address(text)
    except AddressValueError:
        raise Refused("InvalidAddress.Malformed", f"Invalid address: '{text[:80]}'") from None
    return next((one for one in reader.where(Address, public_ip=text, limit=1) if is_own(call, one)), None)


def _described(reader: Reader, call: Call, public_ip: str) -> Address:
    found = _with_public_ip(reader, call, public_ip)
    if found is None:
        raise NotFound(PublicAddress.KIND, public_ip)
    return found


_FILTERS: Filters[Address] = {
    "allocation-id": lambda one: one.id,
    "association-id": lambda one: one.association_id,
    "domain": lambda one: DOMAIN,
    "instance-id": lambda one: one.instance_id,
    "network-border-group": lambda one: one.region,
    "network-interface-id": lambda one: one.interface_id,
    "network-interface-owner-id": lambda one: one.account if one.interface_id else None,
    "private-ip-address": lambda one: one.private_ip,
    "public-ip": lambda one: one.public_ip,
    "service-managed": lambda one: None,
}


class DescribeAddressesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    public_ips: tuple[str, ...] = ()
    allocation_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


async def describe_addresses(call: Call, request: DescribeAddressesRequest) -> dict[str, object]:
    def body(reader: Reader) -> dict[str, object]:
        subnet: Callable[[Address], str | None] = lambda one: _subnet_id(reader, one)  # noqa: E731
        matches = matcher(request.filters, {**_FILTERS, "subnet-id": subnet})
        if request.public_ips or request.allocation_ids:
            found = [_described(reader, call, ip) for ip in dict.fromkeys(request.public_ips)]
            found += [owned(reader, call, Address, id) for id in dict.fromkeys(request.allocation_ids)]
            found = list({one.id: one for one in found}.values())
        else:
            found = reader.where(Address, account=call.account, region=call.region)
        return {"Addresses": [_shown(reader, one) for one in found if matches(one)]}

    return call.store.read(body)


def _subnet_id(reader: Reader, address: Address) -> str | None:
    interface = reader.find(NetworkInterface, address.interface_id) if address.interface_id is not None else None
    return interface.subnet_id if interface is not None else None


def _shown(reader: Reader, one: Address) -> dict[str, object]:
    shape: dict[str, object] = {
        "PublicIp": one.public_ip,
        "AllocationId": one.id,
        "Domain": DOMAIN,
        "PublicIpv4Pool": POOL,
        "NetworkBorderGroup": one.region,
        "Tags": shown(one.tags),
        # Empty, not absent, when it leads nowhere: as Amazon answers, and as old tools read it.
        "InstanceId": one.instance_id or "",
        "NetworkInterfaceId": one.interface_id or "",
    }
    if one.association_id is not None:
        shape.update(
            AssociationId=one.association_id,
            NetworkInterfaceOwnerId=one.account,
            PrivateIpAddress=one.private_ip,
            SubnetId=_subnet_id(reader, one),
        )
    return shape


class DescribeAddressesAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_ids: tuple[str, ...] = ()
    attribute: str | None = None
    max_results: int | None = None
    next_token: str | None = None


async def describe_addresses_attribute(call: Call, request: DescribeAddressesAttributeRequest) -> dict[str, object]:
    check_page(request.max_results, low=1)
    _check_attribute(request.attribute)

    def body(reader: Reader) -> dict[str, object]:
        found: Sequence[Address]
        if request.allocation_ids:
            found = [owned(reader, call, Address, id) for id in dict.fromkeys(request.allocation_ids)]
        else:
            found = reader.where(Address, account=call.account, region=call.region)
        page = page_of_list(
            sorted(found, key=lambda one: one.id),
            lambda one: one.id,
            scope="addresses",
            max_results=request.max_results,
            next_token=request.next_token,
        )
        return listing("Addresses", [_attribute(one) for one in page.items], page.next_token)

    return call.store.read(body)


def _check_attribute(attribute: str | None) -> None:
    if attribute not in (None, "domain-name"):
        raise Refused("InvalidParameterValue", "Value for parameter Attribute is invalid. It can be domain-name.")


def _attribute(one: Address) -> dict[str, object]:
    shape: dict[str, object] = {"PublicIp": one.public_ip, "AllocationId": one.id}
    if one.reverse_name is not None:
        shape["PtrRecord"] = one.reverse_name
    return shape


class ModifyAddressAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_id: str | None = None
    domain_name: str | None = None


async def modify_address_attribute(call: Call, request: ModifyAddressAttributeRequest) -> dict[str, object]:
    """No resolver outside asks this cloud, so a reverse name could only be remembered: refused."""
    _find_named(call, request.allocation_id)
    raise Refused(
        "UnsupportedOperation", "Reverse DNS of public addresses is not served by this cloud, so no name is kept for it."
    )


class ResetAddressAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_id: str | None = None
    attribute: str | None = None


async def reset_address_attribute(call: Call, request: ResetAddressAttributeRequest) -> dict[str, object]:
    _check_attribute(request.attribute)
    return {"Address": _attribute(_find_named(call, request.allocation_id))}


def _find_named(call: Call, allocation_id: str | None) -> Address:
    if allocation_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter AllocationId")
    return call.store.read(lambda reader: owned(reader, call, Address, allocation_id))


OPERATIONS: Mapping[str, Operation] = {
    "AllocateAddress": Operation(AllocateAddressRequest, allocate_address),
    "DescribeAddresses": Operation(DescribeAddressesRequest, describe_addresses),
    "DescribeAddressesAttribute": Operation(DescribeAddressesAttributeRequest, describe_addresses_attribute),
    "ModifyAddressAttribute": Operation(ModifyAddressAttributeRequest, modify_address_attribute),
    "ReleaseAddress": Operation(ReleaseAddressRequest, release_address),
    "ResetAddressAttribute": Operation(ResetAddressAttributeRequest, reset_address_attribute),
}
