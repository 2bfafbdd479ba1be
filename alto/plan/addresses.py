"""Which address comes next. Pure arithmetic; whether one is taken is asked of the caller.

Addresses are given in turn, not lowest first: one that was freed comes back only after all others had theirs, so that a
new owner is not mistaken for the old one in somebody's cache.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from msgspec.structs import replace

from alto.model.errors import NoCapacity
from alto.model.network_plans import Names
from alto.model.networks import AddressPool, Naming, internal_domain
from alto.model.records import number_of

# EC2 keeps back the first four addresses of a subnet and the last (VPC user guide, "Subnet CIDR blocks"): network,
# router, DNS, future use, broadcast. Tenants' tools count on it.
FIRST_OFFSET = 4


def assignable(network: IPv4Network) -> int:
    """How many addresses of a subnet can be given out."""
    return max(network.num_addresses - FIRST_OFFSET - 1, 0)


@lru_cache(maxsize=1024)
def _range(cidr: str) -> tuple[int, int]:
    """Its first address, as a number, and how many can be given out."""
    network = IPv4Network(cidr)
    return int(network.network_address), assignable(network)


def next_address(pool: AddressPool, cursor: int, taken: Callable[[str], bool]) -> tuple[int, str]:
    """The first free address behind `cursor`, with its offset, wrapping around once. `taken` is asked of those that may be; the
    cursor is `pool`'s, or what this function gave since.

    Raises: NoCapacity: every assignable address is taken.
    """
    base, count = _range(pool.cidr)
    last = cursor - FIRST_OFFSET if cursor >= FIRST_OFFSET else -1
    for step in range(1, count + 1):
        offset = FIRST_OFFSET + (last + step) % count
        address = _address(base + offset)
        if (pool.in_turn and offset > cursor >= pool.cursor) or not taken(address):
            return offset, address
    raise NoCapacity(f"Not enough free addresses in {pool.cidr}")


def given_out(pool: AddressPool, cursor: int, count: int) -> AddressPool:
    """`pool` when `count` of its addresses were given, the last one in turn at `cursor`."""
    in_turn = pool.in_turn and cursor > pool.cursor
    return replace(pool, used=pool.used + count, cursor=cursor, in_turn=in_turn)


def _address(number: int) -> str:
    return f"{number >> 24 & 255}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def is_assignable_v6(network: IPv6Network, address: IPv6Address) -> bool:
    """EC2 keeps back as many of a /64 as of a range of IPv4."""
    offset = int(address) - int(network.network_address)
    return FIRST_OFFSET <= offset < network.num_addresses - 1


def address_v6(network: IPv6Network, salt: str) -> str:
    """As much by chance as `salt` is: an interface's id, and which of its addresses. In a range this large none is given in
    turn; who would find a guest by trying addresses has to try 2^64."""
    number = int.from_bytes(hashlib.sha256(salt.encode()).digest())
    return str(network[FIRST_OFFSET + number % (network.num_addresses - FIRST_OFFSET - 1)])


def hostname(private_ip: str, region: str) -> str:
    """As EC2's ip-name."""
    return f"ip-{private_ip.replace('.', '-')}.{internal_domain(region)}"


def resource_name(instance_id: str, region: str) -> str:
    """As EC2's resource-name."""
    return f"{instance_id}.{internal_domain(region)}"


def own_hostname(instance_id: str, private_ip: str, region: str, naming: Naming | None) -> str:
    if naming is not None and naming.by_resource:
        return resource_name(instance_id, region)
    return hostname(private_ip, region)


def names_of(instance_id: str, private_ip: str, region: str, naming: Naming | None) -> Names | None:
    """What DNS says of an instance's first interface; None: its host name alone. The name of its address is always there, and
    that of its id where somebody wanted it: so an address never leads back to a name that DNS denies."""
    if naming is None:
        return None
    of_id, of_address = resource_name(instance_id, region), hostname(private_ip, region)
    known = (of_id, of_address) if naming.by_resource else (of_address, of_id)
    return Names(v4=known if naming.a_record else (of_address,), v6=(of_id,) if naming.aaaa_record else ())


_MAC_BITS = 46  # of 48: one says that it is nobody's brand, one that it is for one machine


def mac(interface_id: str) -> str:
    """A locally administered unicast address, from the number of an id that was drawn: two would share one only if they were
    drawn within the same 16 ms of a span of 18 hours, with the same 24 bits by chance. Raises: ValueError."""
    number = number_of(interface_id)
    if number is None:
        raise ValueError(f"'{interface_id}' was not drawn")
    number %= 1 << _MAC_BITS
    return (number >> 40 << 42 | 2 << 40 | number % (1 << 40)).to_bytes(6).hex(":")
