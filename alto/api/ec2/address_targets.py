"""An elastic address goes over from one private address to another: what that writes, whoever asks for it.

One transaction moves it: the record, the interface that had it, the one that has it now, and their instances. An automatic
public address gives way to an elastic one and comes back, another one, when that leaves ("Public IPv4 addresses" in the EC2
user guide).

Invariant: an Address and its interface say the same, and an address is on one interface at most (unique keys of Address).
"""

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.api.ec2.address_pools import take_public
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.instances import Instance, Wish
from alto.model.networks import NetworkInterface, Vpc
from alto.store.claims import put_interface, release_public, unassociated, with_public
from alto.store.store import Tx


def lead_to(tx: Tx, call: Call, address: Address, interface_id: str, private_ip: str, association_id: str) -> str:
    """From wherever it was to this private address, which lets go of another that it has."""
    # Each row is written once: of a dance, the rows are what costs.
    _come_off(tx, call, address)
    interface = tx.get(NetworkInterface, interface_id)
    had = public_of(interface, private_ip)
    if had is not None and had.elastic:
        for other in tx.where(Address, interface_id=interface.id, private_ip=private_ip):
            tx.put(unassociated(other))
    elif had is not None and had.public_ip is not None and interface.instance_id is not None:
        release_public(tx, had.public_ip, interface.instance_id)
        interface = replace(interface, automatic=True)
    put_interface(tx, with_public(interface, private_ip, address.public_ip, elastic=True))
    tx.put(
        replace(
            address,
            association_id=association_id,
            interface_id=interface.id,
            private_ip=private_ip,
            instance_id=interface.instance_id,
        )
    )
    return association_id


def leave(tx: Tx, call: Call, address: Address) -> None:
    """The address leads nowhere. Idempotent."""
    _come_off(tx, call, address)
    if address.association_id is not None:
        tx.put(unassociated(address))


def _come_off(tx: Tx, call: Call, address: Address) -> None:
    """The interface that an address is on lets go of it, and gets an automatic one again, if it gave one up for it."""
    interface_id, private_ip = address.interface_id, address.private_ip
    interface = tx.find(NetworkInterface, interface_id) if interface_id is not None else None
    if interface is None or private_ip is None:
        return
    without = with_public(interface, private_ip, None)
    if interface.automatic and private_ip == interface.private_ip and interface.instance_id is not None:
        instance = tx.find(Instance, interface.instance_id)
        # Not with several interfaces, as at EC2: which one should be the way in is then the owner's to say.
        if instance is not None and instance.wish is not Wish.TERMINATED and len(instance.nics) == 1:
            without = replace(without, public_ip=take_public(tx, call, instance.id), automatic=False)
    put_interface(tx, without)


def let_go(tx: Tx, call: Call, address: Address) -> None:
    """For its release: only an instance in the default VPC lets go of it by itself. Raises: Refused."""
    interface = tx.get(NetworkInterface, address.interface_id or "")
    if interface.instance_id is None or tx.get(Vpc, interface.vpc_id).default_of is None:
        raise Refused("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
    leave(tx, call, address)


class _Public(msgspec.Struct, frozen=True):
    public_ip: str | None
    elastic: bool


def public_of(interface: NetworkInterface, private_ip: str) -> _Public | None:
    if private_ip == interface.private_ip:
        return _Public(interface.public_ip, interface.elastic)
    for one in interface.secondary:
        if one.private_ip == private_ip:
            return _Public(one.public_ip, one.elastic)
    return None
