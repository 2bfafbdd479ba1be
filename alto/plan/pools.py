"""The pool of a cloud's public addresses: which there may be at all, and which fit the machine whose network they are on. Pure.

A pool of 127.0.0.0/8 is each machine's own. Any other is routed (ADR 0015): either it is part of a network that the machine is
on, and the machine answers there for the addresses that it has, or that network's router leads the pool to the machine.
Invariant: no address of an accepted pool is a machine's own already.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from alto.plan.addresses import assignable
from alto.plan.vpcs import DEFAULT_RANGE

DEFAULT_POOL = "127.64.0.0/16"
LARGEST_PREFIX = 8  # of loopback the last 24 bits tell addresses apart, and nobody has more of others
# This machine's own names live in the first, and in the others nobody's: "this" network, link-local, multicast and class E.
_UNUSABLE = tuple(IPv4Network(text) for text in ("127.0.0.0/16", "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


def pool_range(text: str) -> IPv4Network:
    """Raises: ValueError: a sentence that says why it cannot be."""
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is no range of IPv4 addresses, as 192.168.7.128/25 is") from None
    if "/" not in text or str(network) != text:
        raise ValueError(f"{text} is not how a range is written; {network} is")
    if not assignable(network):
        raise ValueError(f"{network} is too small: the first four addresses and the last are kept back. Take a /29 or more")
    if network.prefixlen < LARGEST_PREFIX:
        raise ValueError(f"{network} is too large: take a /{LARGEST_PREFIX} or less")
    for taken in _UNUSABLE:
        if network.overlaps(taken):
            raise ValueError(f"{network} has addresses of {taken}, which no instance can be reached at")
    if network.overlaps(DEFAULT_RANGE):
        raise ValueError(f"{network} has addresses of {DEFAULT_RANGE}, which every default VPC has inside")
    return network


def check_place(pool: IPv4Network, stands: Mapping[str, Iterable[IPv4Interface]], gateways: Iterable[str]) -> None:
    """`stands`: device -> its addresses. Raises: ValueError: on a machine that stands so, the pool cannot be."""
    if pool.is_loopback:
        return
    for device, addresses in sorted(stands.items()):
        for one in addresses:
            # What balancers listen on is on "lo", and is ours.
            if device != "lo" and one.ip in pool:
                raise ValueError(f"{pool} has this machine's own address {one.ip} ({device})")
    for gateway in gateways:
        if IPv4Address(gateway) in pool:
            raise ValueError(f"{pool} has {gateway}, which is this machine's router")
