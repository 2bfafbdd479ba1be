"""Which public addresses lead into a VPC on this host, and under which of them who leaves: from its plan and its ports. What
the kernel makes of it: uplink.py.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network

from alto.drivers.network import uplink
from alto.drivers.network.records import NetworkRecords
from alto.drivers.network.uplink import Translations
from alto.model.network_plans import NatPlan, NetworkPlan, Port, PortAddress


def published(plan: NetworkPlan, ports: Iterable[Port], pool: IPv4Network) -> dict[str, str]:
    """Public address -> alias, of all that leads into this VPC here. A NAT gateway's leads to nobody inside."""
    addresses = [one.public_ip for port in ports for one in port.addresses]
    addresses += [one.public_ip for neighbour in plan.neighbours for one in neighbour.public]
    addresses += [nat.public_ip for nat in _nats(plan)]
    return {address: uplink.alias(address, pool) for address in addresses if address}


def published_before(records: NetworkRecords, pool: IPv4Network) -> dict[str, dict[str, str]]:
    """Those of all VPCs on the disk, by VPC: what a predecessor left there leads on until its VPC is ensured."""
    found: dict[str, dict[str, str]] = {}
    for vpc_id in records.vpc_ids():
        addresses = {one.public_ip for record in records.ports(vpc_id) for one in record.port.addresses}
        network = records.network(vpc_id)
        if network is not None:
            addresses |= {one.public_ip for near in network.plan.neighbours for one in near.public}
            addresses |= {nat.public_ip for nat in network.plan.nats}
        ours = {address for address in addresses if address and uplink.is_ours(address, pool)}
        found[vpc_id] = {address: uplink.alias(address, pool) for address in sorted(ours)}
    return found


def translations(plan: NetworkPlan, ports: Sequence[Port], pool: IPv4Network) -> Translations:
    def outside(ones: Iterable[PortAddress | NatPlan]) -> dict[str, str]:
        return {one.private_ip: uplink.alias(one.public_ip, pool) for one in ones if one.public_ip}

    if not plan.internet:
        return uplink.NOTHING
    here = outside(one for port in ports for one in port.addresses)
    far = outside(one for neighbour in plan.neighbours for one in neighbour.public)
    return Translations(
        inward={alias: private for private, alias in {**far, **here}.items()}, outward={**outside(_nats(plan)), **here}
    )


def _nats(plan: NetworkPlan) -> list[NatPlan]:
    """Those that work on this host."""
    return [one for one in plan.nats if one.underlay in ("", plan.underlay)]
