"""CIDR arithmetic of VPCs and subnets: which ranges there may be, and which meet. Pure; refusals are AWS's own.

Not here: which address of a subnet comes next (`addresses.py`).
Invariant: what these functions return is canonical (no host bits), so that equal ranges are equal texts.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from alto.model.errors import Refused

# "VPC CIDR blocks" and "Subnet CIDR blocks" in the VPC user guide: both between /28 and /16.
LONGEST_PREFIX, SHORTEST_PREFIX = 28, 16
VPC_PREFIX_V6, SUBNET_PREFIX_V6 = 56, 64
# What no VPC can have, here or at Amazon: "this" network, loopback, link-local, and multicast with all above it.
_UNUSABLE = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
# "IPv4 CIDR block association restrictions": a VPC of one private range gets none of the others.
_PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_ALWAYS_RESTRICTED = IPv4Network("198.19.0.0/16")
# Amazon-provided ranges come from unique local addresses (RFC 4193): nobody else's traffic can ever be meant.
_LOCAL_V6 = 0xFD
AMAZON_DIGITS = 12  # hexadecimal digits of chance that make a /56

_V4 = re.compile(r"[0-9.]{7,15}/[0-9]{1,2}")
_V6 = re.compile(r"[0-9a-fA-F:.]{2,45}/[0-9]{1,3}")


def parse_v4(text: str | None) -> IPv4Network | None:
    """None when it is no range in EC2's eyes: "1.2.3.4" and "1.2.3.0/255.255.255.0" are ranges to Python only."""
    if text is None or not _V4.fullmatch(text):
        return None
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def parse_v6(text: str | None) -> IPv6Network | None:
    if text is None or not _V6.fullmatch(text):
        return None
    try:
        return IPv6Network(text, strict=False)
    except ValueError:
        return None


def checked_v4(text: str, parameter: str) -> IPv4Network:
    """Raises: Refused: `text` is no IPv4 range."""
    network = parse_v4(text)
    if network is None:
        raise _no_block(text, parameter)
    return network


def checked_v6(text: str, parameter: str) -> IPv6Network:
    network = parse_v6(text)
    if network is None:
        raise _no_block(text, parameter)
    return network


def _no_block(text: str, parameter: str) -> Refused:
    return Refused(
        "InvalidParameterValue", f"Value ({text[:80]}) for parameter {parameter} is invalid. This is not a valid CIDR block."
    )


def vpc_range(text: str) -> IPv4Network:
    """The range of a new VPC. Raises: Refused (InvalidParameterValue, InvalidVpc.Range)."""
    network = checked_v4(text, "cidrBlock")
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX or any(network.overlaps(bad) for bad in _UNUSABLE):
        raise Refused("InvalidVpc.Range", f"The CIDR '{text}' is invalid.")
    return network


def further_range(text: str, present: Sequence[str], destinations: Iterable[str]) -> IPv4Network:
    """One more range for a VPC that has `present`, the primary one first, and whose route tables name `destinations`.

    Raises: Refused (InvalidParameterValue, InvalidVpc.Range).
    """
    network = vpc_range(text)
    own = [IPv4Network(each) for each in present]
    if any(network.overlaps(each) for each in own):
        raise Refused("InvalidVpc.Range", f"The CIDR '{text}' conflicts with another CIDR block of the VPC")
    primary = own[0]
    home = next((each for each in _PRIVATE if primary.subnet_of(each)), None)
    if any(network.overlaps(each) for each in _PRIVATE if each is not home) or network.overlaps(_ALWAYS_RESTRICTED):
        raise Refused(
            "InvalidVpc.Range",
            f"The CIDR '{text}' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use "
            "a publicly-routable CIDR. For additional restrictions, see "
            "https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Subnets.html",
        )
    for text_of_route in destinations:
        destination = parse_v4(text_of_route)
        if destination is not None and destination.subnet_of(network):
            raise Refused("InvalidVpc.Range", f"The CIDR '{text}' covers a route of the VPC, to {destination}")
    return network


def subnet_range(text: str, of_vpc: Iterable[str], taken: Iterable[str]) -> IPv4Network:
    """The range of a new subnet in a VPC with these ranges and subnets.

    Raises: Refused (InvalidParameterValue, InvalidSubnet.Range, InvalidSubnet.Conflict).
    """
    network = checked_v4(text, "cidrBlock")
    inside = any(network.subnet_of(IPv4Network(each)) for each in of_vpc)
    if not inside or not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise Refused("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    if any(network.overlaps(IPv4Network(each)) for each in taken):
        raise Refused("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
    return network


def subnet_range_v6(text: str, of_vpc: Iterable[str], taken: Iterable[str]) -> IPv6Network:
    """An IPv6 range of a subnet: always a /64. Raises: Refused, with the same codes."""
    network = checked_v6(text, "ipv6CidrBlock")
    inside = any(network.subnet_of(IPv6Network(each)) for each in of_vpc)
    if not inside or network.prefixlen != SUBNET_PREFIX_V6:
        raise Refused("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    if any(network.overlaps(IPv6Network(each)) for each in taken):
        raise Refused("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
    return network


def amazon_v6(digits: str) -> IPv6Network:
    """A /56 for a VPC, out of AMAZON_DIGITS hexadecimal digits from chance."""
    return IPv6Network((_LOCAL_V6 << 120 | int(digits, 16) << 72, VPC_PREFIX_V6))


def overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether any IPv4 range of `one` meets one of `other`."""
    others = [IPv4Network(each) for each in other]
    return any(IPv4Network(each).overlaps(that) for each in one for that in others)


def free_range(ranges: Iterable[str], taken: Iterable[str], prefix: int) -> IPv4Network | None:
    """The lowest free range of this size in a VPC, or None."""
    used = [IPv4Network(each) for each in taken]
    for text in ranges:
        network = IPv4Network(text)
        if network.prefixlen <= prefix:
            for candidate in network.subnets(new_prefix=prefix):
                if not any(candidate.overlaps(each) for each in used):
                    return candidate
    return None
