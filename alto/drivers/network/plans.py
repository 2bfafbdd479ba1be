"""A plan at the driver's door: what it must be before anything is touched, and what of it is kept on the disk."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

import msgspec

from alto.drivers.network import dnsmasq
from alto.model.errors import DriverFault
from alto.model.network_plans import Neighbour, NetworkPlan


def check(plan: NetworkPlan) -> None:
    """Raises: DriverFault when a plan has what must not get into a file, a name or a command. Before the first effect."""
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", plan.vpc_id):
        raise DriverFault(f"{plan.vpc_id!r} is no id of a VPC")
    try:
        networks = [IPv4Network(cidr) for cidr in (plan.cidr, *(subnet.cidr for subnet in plan.subnets))]
        for cidr in (*plan.ranges_v6, *(subnet.cidr_v6 for subnet in plan.subnets if subnet.cidr_v6)):
            IPv6Network(cidr)
    except ValueError as error:
        raise DriverFault(f"The VPC {plan.vpc_id} has a range that is none: {error}") from error
    if any(network.prefixlen > 29 for network in networks):
        raise DriverFault(f"The VPC {plan.vpc_id} has a range that is too small")
    check_neighbours(plan.neighbours)
    for name, addresses in plan.names.items():
        dnsmasq.check_name(name)
        for address in addresses:
            dnsmasq.check_address(address)
    subnets = {subnet.id for subnet in plan.subnets}
    for one in plan.endpoints:
        if one.subnet_id not in subnets:
            raise DriverFault(f"{one.interface_id} is in {one.subnet_id}, which is no subnet of {plan.vpc_id}")
    for port in plan.endpoint_ports:
        dnsmasq.check(port)


def check_neighbours(neighbours: Iterable[Neighbour]) -> None:
    """Raises: DriverFault."""
    for one in neighbours:
        dnsmasq.check_names(one)
        for address in one.addresses:
            dnsmasq.check_address(address)


def recorded(plan: NetworkPlan) -> NetworkPlan:
    """What the metadata service shows of a plan. Rules would make the file long, and be written with each change of one."""
    groups = tuple(msgspec.structs.replace(group, permissions=(), tags={}, version=0) for group in plan.groups)
    near = tuple(one for one in plan.neighbours if one.public)
    return msgspec.structs.replace(plan, groups=groups, members={}, prefix_lists={}, acls=(), neighbours=near)
