"""Which public addresses lead into a VPC on this host, and under which of them who leaves: from its plan and its ports. What
the kernel makes of it: uplink.py.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, collapse_addresses

from alto.drivers.network import uplink
from alto.drivers.network.records import NetworkRecords
from alto.drivers.network.uplink import Published, Translations
from alto.model.network_plans import NetworkPlan, Port, PortAddress


def published(plan: NetworkPlan, device: str, ports: Iterable[Port], pool: IPv4Network) -> Published:
    """All that leads into this VPC here, by `device`. A NAT gateway's address leads to nobody inside."""
    addresses = [one.public_ip for port in ports for one in port.addresses]
    addresses += [one.public_ip for one in _far(plan, pool)]
    addresses += [one.public_ip for one in _nats(plan)]
    public = {address: uplink.alias(address, pool) for address in addresses if address}
    return Published(public=public, near=_near(plan, device, pool))


def published_before(records: NetworkRecords, pool: IPv4Network) -> dict[str, Published]:
    """That of all VPCs on the disk, by VPC: what a predecessor left there leads on until its VPC is ensured."""
    found: dict[str, Published] = {}
    for vpc_id in records.vpc_ids():
        addresses = {one.public_ip for record in records.ports(vpc_id) for one in record.port.addresses}
        near: frozenset[tuple[str, str]] = frozenset()
        network = records.network(vpc_id)
        if network is not None:
            addresses |= {one.public_ip for one in _far(network.plan, pool)}
            addresses |= {one.public_ip for nat in network.plan.nats for one in nat.addresses}
            near = _near(network.plan, network.device, pool)
        ours = {address for address in addresses if address and uplink.is_ours(address, pool)}
        found[vpc_id] = Published(public={address: uplink.alias(address, pool) for address in sorted(ours)}, near=near)
    return found


def translations(plan: NetworkPlan, ports: Sequence[Port], pool: IPv4Network) -> Translations:
    def outside(ones: Iterable[PortAddress]) -> dict[str, str]:
        return {one.private_ip: uplink.alias(one.public_ip, pool) for one in ones if one.public_ip}

    if not plan.internet:
        return uplink.NOTHING
    here = outside(one for port in ports for one in port.addresses)
    far = outside(_far(plan, pool))
    return Translations(
        inward={alias: private for private, alias in {**far, **here}.items()},
        outward={**outside(_nats(plan)), **here},
    )


def _far(plan: NetworkPlan, pool: IPv4Network) -> list[PortAddress]:
    """Of interfaces on other hosts, those that lead in here too. Of a routed pool none: its addresses are in one place each."""
    return [one for neighbour in plan.neighbours for one in neighbour.public] if pool.is_loopback else []


def _near(plan: NetworkPlan, device: str, pool: IPv4Network) -> frozenset[tuple[str, str]]:
    if pool.is_loopback:
        return frozenset()
    inside = (*plan.ranges, *(cidr for peer in plan.peers for cidr in peer.cidrs if ":" not in cidr))
    # Ranges that do not meet, as a set of intervals must have them.
    apart = collapse_addresses(IPv4Network(cidr, strict=False) for cidr in inside)
    return frozenset((device, str(cidr)) for cidr in apart)


def _nats(plan: NetworkPlan) -> list[PortAddress]:
    """Addresses of those that work on this host."""
    return [one for nat in plan.nats if nat.underlay in ("", plan.underlay) for one in nat.addresses]
