"""To what elastic addresses lead: AssociateAddress, DisassociateAddress.

Who may ask for what is decided here; the rows are written in address_targets.py, and hosts follow by the instances' records.
"""

from collections.abc import Mapping

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.address_targets import lead_to, leave, public_of
from alto.api.ec2.addresses import find_address, refuse_managed, refuse_service, refuse_used
from alto.api.ec2.ids import is_own, owned
from alto.api.ec2.interface_attachments import check_single
from alto.model.addresses import Address
from alto.model.errors import Refused
from alto.model.instances import Instance, Phase, Wish
from alto.model.networks import NetworkInterface
from alto.model.routing import InternetGateway
from alto.plan.instances import state_name
from alto.store.store import Reader, Tx


class AssociateAddressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    allocation_id: str | None = None
    public_ip: str | None = None
    instance_id: str | None = None
    network_interface_id: str | None = None
    private_ip_address: str | None = None
    allow_reassociation: bool | None = None


async def associate_address(call: Call, request: AssociateAddressRequest) -> dict[str, object]:
    if request.allocation_id is None and request.public_ip is None:
        raise Refused("MissingParameter", "Invalid request, expect PublicIp/AllocationId parameter.")
    if request.instance_id is None and request.network_interface_id is None:
        raise Refused("MissingParameter", "Invalid request, expect InstanceId/NetworkId parameter.")
    if request.instance_id is not None and request.network_interface_id is not None:
        raise Refused(
            "InvalidParameterCombination", "You may specify instance id or network interface id, but not both in the same call"
        )
    association_id = draw_id(call.world.chance, "eipassoc")
    # Amazon's reference: re-association is automatic, and `false` makes it an error.
    may_move = request.allow_reassociation is not False

    def body(tx: Tx) -> str:
        address = find_address(tx, call, request.allocation_id, request.public_ip)
        refuse_used(tx, address)
        interface = _target(tx, call, request)
        _check_way_in(tx, interface)
        private_ip = request.private_ip_address or interface.private_ip
        had = public_of(interface, private_ip)
        if address.association_id is not None and (address.interface_id, address.private_ip) == (interface.id, private_ip):
            return address.association_id
        if address.association_id is not None and not may_move:
            raise Refused(
                "Resource.AlreadyAssociated",
                f"resource {address.id} is already associated with associate-id {address.association_id}",
            )
        if had is not None and had.elastic and not may_move:
            raise Refused(
                "Resource.AlreadyAssociated", f"resource {interface.id} is already associated with another elastic address"
            )
        if had is not None and had.elastic:
            for other in tx.where(Address, interface_id=interface.id, private_ip=private_ip):
                refuse_managed(other)
        return lead_to(tx, call, address, interface.id, private_ip, association_id)

    return {"AssociationId": await call.store.write(body)}


def _check_way_in(reader: Reader, interface: NetworkInterface) -> None:
    """Raises: Refused: nobody outside the VPC could reach the address."""
    if not reader.where(InternetGateway, vpc_id=interface.vpc_id, limit=1):
        raise Refused("Gateway.NotAttached", f"Network {interface.vpc_id} is not attached to any internet gateway")


def _target(reader: Reader, call: Call, request: AssociateAddressRequest) -> NetworkInterface:
    if request.network_interface_id is not None:
        interface = owned(reader, call, NetworkInterface, request.network_interface_id)
        refuse_service(interface)
    else:
        instance = owned(reader, call, Instance, request.instance_id or "")
        if instance.wish is Wish.TERMINATED or instance.phase is Phase.TERMINATED:
            what = f"The {state_name(instance)} instance '{instance.id}'"
            raise Refused("InvalidInstanceID", f"{what} is not in a valid state for this operation.")
        check_single(instance)
        interface = reader.get(NetworkInterface, instance.nic.interface_id)
    wanted = request.private_ip_address
    if wanted is not None and wanted != interface.private_ip and all(one.private_ip != wanted for one in interface.secondary):
        raise Refused(
            "InvalidParameterValue", f"The private IP address '{wanted[:80]}' is not assigned to the interface {interface.id}"
        )
    return interface


class DisassociateAddressRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str | None = None
    public_ip: str | None = None


async def disassociate_address(call: Call, request: DisassociateAddressRequest) -> dict[str, object]:
    id, public_ip = request.association_id, request.public_ip
    if id is None and public_ip is None:
        raise Refused("MissingParameter", "Invalid request, expect EipAssociation/PublicIp parameter.")

    def body(tx: Tx) -> None:
        if id is not None:
            found = [one for one in tx.where(Address, association_id=id) if is_own(call, one)]
            if not found:
                raise Refused("InvalidAssociationID.NotFound", f"The association ID '{id[:80]}' does not exist")
            address = found[0]
        else:
            # Named so, one that leads nowhere is no error: EC2 calls the operation idempotent.
            address = find_address(tx, call, None, public_ip)
        refuse_used(tx, address)
        leave(tx, call, address)

    await call.store.write(body)
    return {}


OPERATIONS: Mapping[str, Operation] = {
    "AssociateAddress": Operation(AssociateAddressRequest, associate_address),
    "DisassociateAddress": Operation(DisassociateAddressRequest, disassociate_address),
}
