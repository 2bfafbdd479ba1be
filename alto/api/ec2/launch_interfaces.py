"""Interfaces of a launch: RunInstances' NetworkInterfaces, new ones and such that exist already.

The primary one is part of the launch's plan (`plan/launch.py`); the others, and secondary addresses, are added to the planned
instance in the same transaction. Most launches name no interface: then nothing here reads or writes anything.

Invariant: what is refused is refused before the launch has claimed anything.
"""

from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.api.ec2.address_pools import claim_secondary, take_private, take_v6
from alto.api.ec2.ids import owned
from alto.api.ec2.interface_attachments import attached, check_free, check_room
from alto.api.ec2.new_interfaces import (
    Addresses,
    AddressesV6,
    Drawn,
    Ipv6Address,
    PrivateIp,
    draw_interface,
    find_groups,
    make_interface,
    wanted_addresses,
    wanted_v6,
)
from alto.model.errors import Refused
from alto.model.instance_types import InstanceType
from alto.model.instances import Instance
from alto.model.networks import NetworkInterface, PortAddress, Subnet
from alto.model.records import Tags
from alto.store.claims import put_interface
from alto.store.store import Reader, Tx


class InterfaceSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    device_index: int | None = None
    network_interface_id: str | None = None
    subnet_id: str | None = None
    groups: tuple[str, ...] = ()
    associate_public_ip_address: bool | None = None
    private_ip_address: str | None = None
    private_ip_addresses: tuple[PrivateIp, ...] = ()
    secondary_private_ip_address_count: int | None = None
    ipv6_addresses: tuple[Ipv6Address, ...] = ()
    ipv6_address_count: int | None = None
    delete_on_termination: bool | None = None
    description: str | None = None
    interface_type: str | None = None
    network_card_index: int | None = None

    @property
    def addresses(self) -> Addresses:
        return wanted_addresses(self.private_ip_address, self.private_ip_addresses, self.secondary_private_ip_address_count)

    @property
    def v6(self) -> AddressesV6:
        """An interface that there is already has its own."""
        if self.network_interface_id is not None:
            return AddressesV6()
        return wanted_v6(self.ipv6_addresses, self.ipv6_address_count)


def check_interfaces(listed: Sequence[InterfaceSpecification], most: int) -> tuple[InterfaceSpecification, ...]:
    """By device index, the primary one first. Raises: Refused: the request contradicts itself."""
    indexes = [one.device_index for one in listed]
    if None in indexes:
        raise Refused("InvalidParameterValue", "Each network interface requires a device index.")
    if len(set(indexes)) < len(indexes):
        raise Refused("InvalidParameterValue", "Each network interface requires a unique device index.")
    if 0 not in indexes:
        raise Refused("InvalidParameterCombination", "The primary network interface, with device index 0, must be specified.")
    for one in listed:
        _check(one, most)
    if len(listed) > 1 and any(one.associate_public_ip_address for one in listed):
        raise Refused(
            "InvalidParameterCombination",
            "The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.",
        )
    return tuple(sorted(listed, key=lambda one: one.device_index or 0))


def _check(one: InterfaceSpecification, most: int) -> None:
    if one.network_card_index not in (None, 0):
        raise Refused("InvalidParameterValue", "An instance has one network card here: networkCardIndex is 0")
    if one.interface_type not in (None, "interface"):
        raise Refused("UnsupportedOperation", f"Interfaces of type {one.interface_type[:40]} are not supported here.")
    fixed = one.addresses.primary is not None or bool(one.addresses.secondary) or bool(one.v6.chosen)
    if one.network_interface_id is not None:
        of_ipv6 = one.ipv6_addresses or one.ipv6_address_count
        if one.subnet_id or one.groups or fixed or one.addresses.more or of_ipv6 or one.description is not None:
            raise Refused(
                "InvalidParameterCombination",
                "A network interface may not specify a network interface ID and its subnet, groups, private addresses or "
                "description: these are the interface's own.",
            )
        if one.associate_public_ip_address is not None:
            raise Refused(
                "InvalidParameterCombination",
                "The associatePublicIPAddress parameter cannot be specified for a network interface with an ID.",
            )
        if one.delete_on_termination:
            raise Refused(
                "InvalidParameterCombination",
                "A network interface may not specify both a network interface ID and delete on termination",
            )
    if most > 1 and (fixed or one.network_interface_id is not None):
        raise Refused(
            "InvalidParameterCombination",
            "A network interface ID or private IP address can be given to one instance only: MaxCount must be 1",
        )


def existing(reader: Reader, call: Call, wanted: InterfaceSpecification) -> NetworkInterface | None:
    """The interface that `wanted` names; None: a new one is to be made. Raises: Refused, NotFound."""
    if wanted.network_interface_id is None:
        return None
    interface = owned(reader, call, NetworkInterface, wanted.network_interface_id)
    check_free(interface)
    return interface


def named_addresses(listed: Sequence[InterfaceSpecification]) -> tuple[str, ...]:
    """Those that a launch asks for, and so chooses for nothing else."""
    return tuple(address for one in listed for address in one.addresses.named)


def draw_others(call: Call, listed: Sequence[InterfaceSpecification], most: int) -> list[list[Drawn]]:
    """For each of `most` instances, what chance gives those interfaces that are not the primary one."""
    return [[draw_interface(call.world.chance) for _ in listed[1:]] for _ in range(most)] if len(listed) > 1 else []


def with_interfaces(
    tx: Tx,
    call: Call,
    instance: Instance,
    listed: Sequence[InterfaceSpecification],
    drawn: Sequence[Drawn],
    type: InstanceType,
    tags: Tags,
    now: float,
) -> Instance:
    """A planned instance, written, with the primary interface's further addresses and with all other interfaces."""
    named = named_addresses(listed)
    instance = _with_addresses(tx, instance, listed[0], type, named)
    for wanted, its in zip(listed[1:], drawn, strict=True):
        interface = existing(tx, call, wanted) or _made(tx, call, instance, wanted, its, tags, now, named)
        if interface.zone != instance.zone:
            raise Refused(
                "InvalidParameterCombination", "All network interfaces of an instance must be in the same availability zone"
            )
        check_room(instance, wanted.device_index or 0, interface)
        goes = wanted.network_interface_id is None and wanted.delete_on_termination is not False
        instance = attached(
            tx, instance, interface, wanted.device_index or 0, its.attachment_id, now, delete_on_termination=goes
        )
    return tx.put(instance)


def _made(
    tx: Tx,
    call: Call,
    instance: Instance,
    wanted: InterfaceSpecification,
    drawn: Drawn,
    tags: Tags,
    now: float,
    named: Collection[str],
) -> NetworkInterface:
    subnet = owned(tx, call, Subnet, wanted.subnet_id or instance.nic.subnet_id)
    groups = find_groups(tx, call, wanted.groups, subnet.vpc_id)
    description = wanted.description or ""
    return make_interface(
        tx, drawn, subnet, wanted.addresses, groups, now, v6=wanted.v6, description=description, tags=tags, kept=named
    )


def _with_addresses(
    tx: Tx, instance: Instance, wanted: InterfaceSpecification, type: InstanceType, named: Collection[str]
) -> Instance:
    if wanted.network_interface_id is not None:
        return instance
    interface = tx.get(NetworkInterface, instance.nic.interface_id)
    subnet = tx.get(Subnet, interface.subnet_id)
    addresses, v6, count_v6 = wanted.addresses, wanted.v6, wanted.v6.count(subnet)
    if max(addresses.further + 1, len(v6.chosen) + count_v6) > type.addresses_per_interface:
        raise Refused(
            "PrivateIpAddressLimitExceeded",
            f"Number of private addresses will exceed limit: {type.name} has {type.addresses_per_interface} per interface.",
        )
    if addresses.further:
        secondary = take_private(tx, subnet, addresses.more, addresses.secondary, kept=named)
        claim_secondary(tx, subnet, interface.id, secondary)
        interface = replace(interface, secondary=tuple(PortAddress(private_ip=one) for one in secondary))
    put_interface(tx, replace(interface, ipv6=take_v6(tx, subnet, interface.id, count_v6, v6.chosen)))
    return tx.get(Instance, instance.id)
