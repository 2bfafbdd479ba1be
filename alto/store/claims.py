"""What is given out and taken back in one transaction: addresses, interfaces, volumes, and room on hosts.

Only additions and subtractions over rows; which address or host it should be was decided in `plan`. The guards and unique
keys of the records are the last line: a claim that would pass them fails the whole transaction.
"""

from msgspec.structs import replace

from alto.model.addresses import Address
from alto.model.errors import CapacityExceeded
from alto.model.hosts import Host, dedication
from alto.model.instances import Attach, Instance, Nic
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, SecondaryAddress, secondary_id
from alto.model.placement_groups import PlacementMember
from alto.model.profiles import ProfileAssociation
from alto.store.store import Tx
from alto.store.volumes import release_volumes

PUBLIC_POOL = "public"


def give_room(tx: Tx, host_id: str, instance: Instance) -> None:
    """Raises: CapacityExceeded: it has no room, or is kept for another account; NotFound."""
    host = tx.get(Host, host_id)
    if host.dedicated is not None and host.dedicated.account != instance.account:
        raise CapacityExceeded(f"{host.name} is kept for dedicated instances of another account")
    tx.put(
        replace(
            host,
            vcpus_used=host.vcpus_used + instance.vcpus,
            memory_mib_used=host.memory_mib_used + instance.memory_mib,
            instances=host.instances + 1,
            dedicated=dedication(host.dedicated, instance.account, 1) if instance.is_dedicated else host.dedicated,
        )
    )


def take_room_back(tx: Tx, instance: Instance) -> None:
    if instance.host_id is None:
        return
    host = tx.find(Host, instance.host_id)
    if host is not None:
        tx.put(
            replace(
                host,
                vcpus_used=host.vcpus_used - instance.vcpus,
                memory_mib_used=host.memory_mib_used - instance.memory_mib,
                instances=host.instances - 1,
                dedicated=dedication(host.dedicated, instance.account, -1) if instance.is_dedicated else host.dedicated,
            )
        )


def release_all(tx: Tx, instance: Instance) -> None:
    """A terminated instance keeps nothing but its own row: interfaces, addresses and root volume go (interfaces and volume
    stay, detached, when they were not to be deleted). Room on the host is separate: it went when the machine stopped."""
    for nic in instance.nics:
        interface = tx.find(NetworkInterface, nic.interface_id)
        if interface is None or interface.instance_id != instance.id:
            continue
        if nic.delete_on_termination and nic.attach is not Attach.DETACHING:
            delete_interface(tx, without_automatic(tx, interface))
        else:
            detach(tx, interface)
    if instance.placement is not None and instance.placement.group_id is not None:
        tx.delete(PlacementMember, instance.id)
    if instance.profile is not None:
        tx.delete(ProfileAssociation, instance.profile.association_id)
    release_volumes(tx, instance)


def let_interfaces_go(tx: Tx, before: Instance, after: Instance) -> None:
    """Interfaces that a host let go of are free for others: what `before` had and `after` has not."""
    kept = {nic.interface_id for nic in after.nics}
    for nic in before.nics:
        if nic.interface_id not in kept:
            interface = tx.find(NetworkInterface, nic.interface_id)
            if interface is not None and interface.attachment_id == nic.attachment_id:
                detach(tx, interface)


def detach(tx: Tx, interface: NetworkInterface) -> None:
    """No instance has it any more. Elastic addresses that lead to it stay so."""
    interface = without_automatic(tx, interface)
    lead_elastic(tx, interface, None)
    tx.put(
        replace(interface, instance_id=None, attachment_id=None, attached_at=None, device_index=0, delete_on_termination=False)
    )


def put_interface(tx: Tx, interface: NetworkInterface) -> NetworkInterface:
    """Write an interface, and what the instance that has it says of it."""
    written = tx.put(interface)
    if written.instance_id is not None:
        instance = tx.find(Instance, written.instance_id)
        if instance is not None:
            nics = tuple(mirrored(nic, written) if nic.interface_id == written.id else nic for nic in instance.nics)
            if nics != instance.nics:
                tx.put(replace(instance, nics=nics))
    return written


def mirrored(nic: Nic, interface: NetworkInterface) -> Nic:
    """`nic` with what may change of an interface while it is attached."""
    return replace(
        nic,
        public_ip=interface.public_ip,
        elastic=interface.elastic,
        secondary=interface.secondary,
        ipv6=interface.ipv6,
        group_ids=interface.group_ids,
        source_dest_check=interface.source_dest_check,
        delete_on_termination=interface.delete_on_termination,
        description=interface.description,
    )


def with_public(
    interface: NetworkInterface, private_ip: str, public_ip: str | None, *, elastic: bool = False
) -> NetworkInterface:
    """`interface` with another public address, or none, for one of its private ones."""
    if private_ip == interface.private_ip:
        return replace(interface, public_ip=public_ip, elastic=elastic)
    secondary = tuple(
        replace(one, public_ip=public_ip, elastic=elastic) if one.private_ip == private_ip else one
        for one in interface.secondary
    )
    return replace(interface, secondary=secondary)


def lead_elastic(tx: Tx, interface: NetworkInterface, instance_id: str | None) -> None:
    """Its elastic addresses name the instance that has it now."""
    if has_elastic(interface):
        for address in tx.where(Address, interface_id=interface.id):
            tx.put(replace(address, instance_id=instance_id))


def has_elastic(interface: NetworkInterface) -> bool:
    return interface.elastic or any(one.elastic for one in interface.secondary)


def without_automatic(tx: Tx, interface: NetworkInterface) -> NetworkInterface:
    """An automatic public address goes with the instance; an elastic one stays its owner's. Not written yet."""
    if interface.public_ip is None or interface.elastic or interface.instance_id is None:
        return interface
    release_public(tx, interface.public_ip, interface.instance_id)
    return replace(interface, public_ip=None)


def delete_interface(tx: Tx, interface: NetworkInterface) -> None:
    """With its claims on private addresses; elastic addresses that led to it lead nowhere, and stay."""
    for one in interface.secondary:
        tx.delete(SecondaryAddress, secondary_id(interface.vpc_id, one.private_ip))
    for text in interface.ipv6:
        tx.delete(SecondaryAddress, secondary_id(interface.vpc_id, text))
    if has_elastic(interface):
        for address in tx.where(Address, interface_id=interface.id):
            tx.put(unassociated(address))
    tx.delete(NetworkInterface, interface.id)
    pool = tx.find(AddressPool, interface.subnet_id)
    if pool is not None:
        count = len(interface.secondary)
        tx.put(replace(pool, used=pool.used - 1 - count, secondary=pool.secondary - count))


def unassociated(address: Address) -> Address:
    return replace(address, association_id=None, interface_id=None, private_ip=None, instance_id=None)


def release_public(tx: Tx, address: str, owner_id: str) -> None:
    """Idempotent; another's address is left alone."""
    claim = tx.find(PublicAddress, address)
    if claim is not None and claim.owner_id == owner_id:
        tx.delete(PublicAddress, address)
        _count_back(tx, PUBLIC_POOL)


def _count_back(tx: Tx, pool_id: str) -> None:
    pool = tx.find(AddressPool, pool_id)
    if pool is not None:
        tx.put(replace(pool, used=pool.used - 1))
