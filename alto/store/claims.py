"""What is given out and taken back in one transaction: addresses, interfaces, volumes, and room on hosts.

Only additions and subtractions over rows; which address or host it should be was decided in `plan`. The guards and unique
keys of the records are the last line: a claim that would pass them fails the whole transaction.
"""

from msgspec.structs import replace

from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, Volume
from alto.store.store import Tx

PUBLIC_POOL = "public"


def give_room(tx: Tx, host_id: str, instance: Instance) -> None:
    """Raises: CapacityExceeded, NotFound."""
    host = tx.get(Host, host_id)
    tx.put(
        replace(
            host,
            vcpus_used=host.vcpus_used + instance.vcpus,
            memory_mib_used=host.memory_mib_used + instance.memory_mib,
            instances=host.instances + 1,
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
            )
        )


def release_all(tx: Tx, instance: Instance) -> None:
    """A terminated instance keeps nothing but its own row: interface, addresses and root volume go (the volume stays,
    detached, when it was not to be deleted). Room on the host is separate: it went when the machine stopped."""
    interface = tx.find(NetworkInterface, instance.nic.interface_id)
    if interface is not None and interface.instance_id == instance.id:
        tx.delete(NetworkInterface, interface.id)
        _count_back(tx, interface.subnet_id)
    if instance.nic.public_ip is not None:
        release_public(tx, instance.nic.public_ip, instance.id)
    volume = tx.find(Volume, instance.root.volume_id)
    if volume is not None and volume.instance_id == instance.id:
        if volume.delete_on_termination:
            tx.delete(Volume, volume.id)
        else:
            tx.put(replace(volume, instance_id=None, device=None, attached_at=None))


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
