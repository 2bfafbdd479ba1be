"""Claims on addresses in the transaction that needs them: public ones of the cloud's pool, private ones of a subnet.

Which comes next is `plan/addresses.py`'s. Invariant: every claim writes its pool, so that of two at once one begins again.
Not here: launches, which claim many at a time (`plan/launch.py`), and giving back (`store/claims.py`).
"""

from collections.abc import Collection, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec.structs import replace

from alto.api.call import Call
from alto.model.errors import Refused
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, SecondaryAddress, Subnet, secondary_id
from alto.plan.addresses import FIRST_OFFSET, address_v6, given_out, is_assignable_v6, next_address
from alto.store.claims import PUBLIC_POOL
from alto.store.store import Reader, Tx


def take_public(tx: Tx, call: Call, owner_id: str, *, elastic: bool = False, chosen: str | None = None) -> str:
    """A public address for `owner_id`, the one `chosen` or the next. Raises: Refused, NoCapacity."""
    pool = tx.get(AddressPool, PUBLIC_POOL)
    if chosen is not None:
        pool = replace(pool, in_turn=False)
        address, cursor = _chosen_public(tx, IPv4Network(pool.cidr), chosen), pool.cursor
    else:
        if pool.used >= pool.size:
            raise Refused("InsufficientAddressCapacity", "No public address is left in this cloud. Release one, or try later.")
        cursor, address = next_address(pool, pool.cursor, lambda one: tx.find(PublicAddress, one) is not None)
    tx.put(PublicAddress(id=address, account=call.account, region=call.region, owner_id=owner_id, elastic=elastic))
    tx.put(given_out(pool, cursor, 1))
    return address


def _chosen_public(reader: Reader, network: IPv4Network, text: str) -> str:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise Refused("InvalidParameterValue", f"Value ({text[:80]}) for parameter Address is invalid.") from None
    offset = int(address) - int(network.network_address)
    if address not in network or not FIRST_OFFSET <= offset < network.num_addresses - 1:
        raise Refused("InvalidAddress.NotFound", f"Address '{address}' not found. This cloud's are in {network}.")
    if reader.find(PublicAddress, str(address)) is not None:
        raise Refused("InvalidAddress.NotFound", f"Address '{address}' not found: it is in use.")
    return str(address)


def take_private(tx: Tx, subnet: Subnet, count: int, chosen: Sequence[str] = (), *, kept: Collection[str] = ()) -> list[str]:
    """`chosen` and then `count` more private addresses of `subnet`, none of them from `kept`. The first may become an
    interface's primary one; each of the others needs `claim_secondary`. Raises: Refused."""
    pool = tx.get(AddressPool, subnet.id)
    if pool.used + count + len(chosen) > pool.size:
        raise Refused(
            "InsufficientFreeAddressesInSubnet",
            f"The specified subnet does not have enough free addresses to satisfy the request: {subnet.id} has "
            f"{pool.size - pool.used} left.",
        )
    taken = [check_private(text, subnet) for text in chosen]
    if len(set(taken)) < len(taken):
        raise Refused("InvalidParameterValue", "Duplicate private IP address specified.")
    for address in taken:
        refuse_taken(tx, pool, subnet.vpc_id, address)
    if chosen or kept:
        pool = replace(pool, in_turn=False)
    cursor = pool.cursor
    for _ in range(count):
        cursor, address = next_address(
            pool, cursor, lambda one: one in taken or one in kept or is_private_taken(tx, pool, subnet.vpc_id, one)
        )
        taken.append(address)
    tx.put(given_out(pool, cursor, len(taken)))
    return taken


def refuse_taken(reader: Reader, pool: AddressPool, vpc_id: str, address: str) -> None:
    if is_private_taken(reader, pool, vpc_id, address):
        raise Refused("InvalidIPAddress.InUse", f"Address {address} is in use.")


def is_private_taken(reader: Reader, pool: AddressPool, vpc_id: str, address: str) -> bool:
    if reader.where(NetworkInterface, vpc_id=vpc_id, private_ip=address, limit=1):
        return True
    # Most subnets have no secondary address: then nothing need be looked up.
    return pool.secondary > 0 and reader.find(SecondaryAddress, secondary_id(vpc_id, address)) is not None


def claim_secondary(tx: Tx, subnet: Subnet, interface_id: str, addresses: Sequence[str]) -> None:
    """What `take_private` gave, beyond an interface's primary address."""
    if addresses:
        for address in addresses:
            tx.put(SecondaryAddress(id=secondary_id(subnet.vpc_id, address), interface_id=interface_id))
        pool = tx.get(AddressPool, subnet.id)
        tx.put(replace(pool, secondary=pool.secondary + len(addresses)))


def check_private(text: str, subnet: Subnet) -> str:
    """Raises: Refused: no address that `subnet` may give."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise Refused("InvalidParameterValue", f"Invalid IPv4 address: {text[:80]}") from None
    network = IPv4Network(subnet.cidr)
    if address not in network:
        raise Refused("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
    offset = int(address) - int(network.network_address)
    if offset < FIRST_OFFSET or offset == network.num_addresses - 1:
        raise Refused("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
    return str(address)


def take_v6(tx: Tx, subnet: Subnet, interface_id: str, count: int, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """`chosen` and then `count` more addresses of IPv6, claimed for this interface. Raises: Refused."""
    if not chosen and not count:
        return ()
    if not subnet.ipv6:
        raise Refused("InvalidParameterValue", f"The subnet '{subnet.id}' has no IPv6 CIDR block.")
    network = IPv6Network(subnet.ipv6[0].cidr)
    taken = [_check_v6(text, network) for text in chosen]
    if len(set(taken)) < len(taken):
        raise Refused("InvalidParameterValue", "Duplicate IPv6 address specified.")
    for address in taken:
        if tx.find(SecondaryAddress, secondary_id(subnet.vpc_id, address)) is not None:
            raise Refused("InvalidIPAddress.InUse", f"Address {address} is in use.")
    number = 0
    while len(taken) < len(chosen) + count:
        address, number = address_v6(network, f"{interface_id}/{number}"), number + 1
        # Those that the interface has already, mostly.
        if address not in taken and tx.find(SecondaryAddress, secondary_id(subnet.vpc_id, address)) is None:
            taken.append(address)
    for address in taken:
        tx.put(SecondaryAddress(id=secondary_id(subnet.vpc_id, address), interface_id=interface_id))
    return tuple(taken)


def read_v6(text: str) -> str:
    """As it is written everywhere. Raises: Refused."""
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise Refused("InvalidParameterValue", f"Invalid IPv6 address: {text[:80]}") from None
    if address.scope_id is not None:
        raise Refused("InvalidParameterValue", f"Invalid IPv6 address: {text[:80]}")
    return str(address)


def _check_v6(text: str, network: IPv6Network) -> str:
    address = IPv6Address(read_v6(text))
    if address not in network:
        raise Refused("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
    if not is_assignable_v6(network, address):
        raise Refused("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
    return str(address)
