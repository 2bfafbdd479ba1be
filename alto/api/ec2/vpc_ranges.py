"""Further ranges of a VPC, and IPv6 ranges of subnets: associate and disassociate.

IPv6 leads within the VPC alone: this cloud has no way out for it, and takes unique local ranges. Invariant: each table of a VPC
has a local route for each of its ranges; none goes while a subnet lies in it, nor a subnet's while an address of it is used.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2 import subnets
from alto.api.ec2.ids import check_id, owned
from alto.api.ec2.vpcs import (
    ASSOCIATING,
    DISASSOCIATING,
    check_border_group,
    draw_amazon_v6,
    primary_association,
    shown_association,
    shown_association_v6,
)
from alto.model.acls import NetworkAcl
from alto.model.errors import NotFound, Refused
from alto.model.networks import CidrAssociation, NetworkInterface, SecurityGroup, Subnet, Vpc
from alto.model.routing import PeeringState, Route, RouteTable, Target, VpcPeering
from alto.plan.ranges import further_range, overlap, subnet_range_v6
from alto.plan.vpcs import local_route, open_entries_v6, ranges, ranges_v6, with_former, with_outward_v6
from alto.store.store import Tx

RANGES_MAX = 5  # "Amazon VPC quotas": IPv4 and IPv6 each
VPC_ASSOCIATION, SUBNET_ASSOCIATION = "vpc_cidr_association", "subnet_cidr_association"


class AssociateVpcCidrBlockRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    cidr_block: str | None = None
    amazon_provided_ipv6_cidr_block: bool = False
    ipv6_cidr_block_network_border_group: str | None = None


async def associate_vpc_cidr_block(call: Call, request: AssociateVpcCidrBlockRequest) -> dict[str, object]:
    check_border_group(call, request.ipv6_cidr_block_network_border_group)
    text = request.cidr_block
    if (text is None) == (not request.amazon_provided_ipv6_cidr_block):
        raise Refused(
            "MissingParameter" if text is None else "InvalidParameterCombination",
            "The request must contain exactly one of cidrBlock and amazonProvidedIpv6CidrBlock",
        )
    id, provided = draw_id(call.world.chance, "vpc-cidr-assoc"), draw_amazon_v6(call)

    def body(tx: Tx) -> dict[str, object]:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        tables = tx.where(RouteTable, vpc_id=vpc.id)
        present = ranges_v6(vpc) if text is None else ranges(vpc)
        if len(present) >= RANGES_MAX:
            raise Refused(
                "CidrLimitExceeded", f"This network '{vpc.id}' has met its maximum number of allowed CIDRs: {RANGES_MAX}"
            )
        if text is None:
            made = provided
            if not vpc.ipv6:
                acl = next(one for one in tx.where(NetworkAcl, vpc_id=vpc.id) if one.default)
                numbers = {entry.number for entry in acl.entries}
                if not any(entry.number in numbers for entry in open_entries_v6()):
                    tx.put(replace(acl, entries=(*acl.entries, *open_entries_v6())))
                for group in tx.where(SecurityGroup, vpc_id=vpc.id):
                    opened = with_outward_v6(group, provided.id)
                    if opened is not group:
                        tx.put(opened)
            tx.put(replace(vpc, ipv6=(*vpc.ipv6, made)))
            answer = {"Ipv6CidrBlockAssociation": shown_association_v6(vpc, made, ASSOCIATING)}
        else:
            destinations = [each.destination for table in tables for each in table.routes if each.target is not Target.LOCAL]
            made = CidrAssociation(id=id, cidr=str(further_range(text, present, destinations)))
            _check_peers(tx, vpc, made.cidr)
            tx.put(replace(vpc, secondary=(*vpc.secondary, made)))
            answer = {"CidrBlockAssociation": shown_association(made, ASSOCIATING)}
        for table in tables:
            tx.put(replace(table, routes=(*table.routes, local_route(made.cidr))))
        return {"VpcId": vpc.id, **answer}

    return await call.store.write(body)


def _check_peers(tx: Tx, vpc: Vpc, cidr: str) -> None:
    """VPCs that are peered stay apart ("IPv4 CIDR block association restrictions")."""
    for peering in (*tx.where(VpcPeering, vpc_id=vpc.id), *tx.where(VpcPeering, accepter_vpc_id=vpc.id)):
        other = tx.find(Vpc, peering.accepter_vpc_id if peering.vpc_id == vpc.id else peering.vpc_id)
        if peering.state is PeeringState.ACTIVE and other is not None and overlap([cidr], ranges(other)):
            raise Refused("InvalidVpc.Range", f"The CIDR '{cidr}' conflicts with a VPC that is peered through {peering.id}")


class AssociationIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str


async def disassociate_vpc_cidr_block(call: Call, request: AssociationIdRequest) -> dict[str, object]:
    check_id(VPC_ASSOCIATION, request.association_id)

    now = call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        for vpc in tx.where(Vpc, account=call.account, region=call.region):
            if request.association_id == primary_association(vpc).id:
                raise Refused(
                    "OperationNotPermitted",
                    f"The vpc CIDR block with association ID {request.association_id} may not be disassociated. "
                    "It is the primary IPv4 CIDR block of the VPC",
                )
            for gone in (*vpc.secondary, *vpc.ipv6):
                if gone.id == request.association_id:
                    return _without(tx, vpc, gone, now)
        raise NotFound(VPC_ASSOCIATION, request.association_id)

    return await call.store.write(body)


def _without(tx: Tx, vpc: Vpc, gone: CidrAssociation, now: float) -> dict[str, object]:
    inside = [cidr for one in tx.where(Subnet, vpc_id=vpc.id) for cidr in (one.cidr, *(each.cidr for each in one.ipv6))]
    if any(_lies_in(cidr, gone.cidr) for cidr in inside):
        raise Refused("InvalidCidrBlock.InUse", f"The vpc {vpc.id} currently has a subnet within CIDR block {gone.cidr}")
    for table in tx.where(RouteTable, vpc_id=vpc.id):
        tx.put(replace(table, routes=tuple(each for each in table.routes if not _is_local(each, gone.cidr))))
    tx.put(
        replace(
            vpc,
            secondary=tuple(each for each in vpc.secondary if each.id != gone.id),
            ipv6=tuple(each for each in vpc.ipv6 if each.id != gone.id),
            former=with_former(vpc.former, gone, now),
        )
    )
    if ":" in gone.cidr:
        return {"VpcId": vpc.id, "Ipv6CidrBlockAssociation": shown_association_v6(vpc, gone, DISASSOCIATING)}
    return {"VpcId": vpc.id, "CidrBlockAssociation": shown_association(gone, DISASSOCIATING)}


def _is_local(route: Route, cidr: str) -> bool:
    return route.target is Target.LOCAL and route.destination == cidr


def _lies_in(inner: str, outer: str) -> bool:
    if (":" in inner) != (":" in outer):
        return False
    if ":" in inner:
        return IPv6Network(inner).subnet_of(IPv6Network(outer))
    return IPv4Network(inner).subnet_of(IPv4Network(outer))


class AssociateSubnetCidrBlockRequest(msgspec.Struct, frozen=True, rename="pascal"):
    subnet_id: str
    ipv6_cidr_block: str | None = None


async def associate_subnet_cidr_block(call: Call, request: AssociateSubnetCidrBlockRequest) -> dict[str, object]:
    if request.ipv6_cidr_block is None:
        raise Refused("MissingParameter", "The request must contain the parameter ipv6CidrBlock")
    text, id = request.ipv6_cidr_block, draw_id(call.world.chance, "subnet-cidr-assoc")

    def body(tx: Tx) -> CidrAssociation:
        subnet = owned(tx, call, Subnet, request.subnet_id)
        if subnet.ipv6:
            raise Refused("InvalidParameterValue", f"The subnet '{subnet.id}' has an IPv6 range already")
        vpc = tx.get(Vpc, subnet.vpc_id)
        taken = [each.cidr for one in tx.where(Subnet, vpc_id=vpc.id) for each in one.ipv6]
        made = CidrAssociation(id=id, cidr=str(subnet_range_v6(text, ranges_v6(vpc), taken)))
        tx.put(replace(subnet, ipv6=(made,)))
        return made

    made = await call.store.write(body)
    return {
        "SubnetId": request.subnet_id,
        "Ipv6CidrBlockAssociation": subnets.shown_association_v6(made, ASSOCIATING),
    }


async def disassociate_subnet_cidr_block(call: Call, request: AssociationIdRequest) -> dict[str, object]:
    check_id(SUBNET_ASSOCIATION, request.association_id)

    now = call.world.clock.now()

    def body(tx: Tx) -> tuple[Subnet, CidrAssociation]:
        for subnet in tx.where(Subnet, account=call.account, region=call.region):
            for gone in subnet.ipv6:
                if gone.id == request.association_id:
                    _check_unused(tx, subnet, gone)
                    tx.put(replace(subnet, ipv6=(), former=with_former(subnet.former, gone, now)))
                    return subnet, gone
        raise NotFound(SUBNET_ASSOCIATION, request.association_id)

    subnet, gone = await call.store.write(body)
    return {"SubnetId": subnet.id, "Ipv6CidrBlockAssociation": subnets.shown_association_v6(gone, DISASSOCIATING)}


def _check_unused(tx: Tx, subnet: Subnet, gone: CidrAssociation) -> None:
    """Raises: Refused, when interfaces have addresses of the range, or new ones are to get them."""
    why = None
    if subnet.ipv6_on_creation:
        why = "its subnet has assign-ipv6-address-on-creation set to true"
    elif any(one.ipv6 for one in tx.where(NetworkInterface, vpc_id=subnet.vpc_id) if one.subnet_id == subnet.id):
        why = "its subnet has network interfaces with IPv6 addresses"
    if why is not None:
        raise Refused(
            "InvalidCidrBlock.InUse",
            f"The subnet IPv6 CIDR block with association ID {gone.id} may not be disassociated, because {why}.",
        )


OPERATIONS: Mapping[str, Operation] = {
    "AssociateSubnetCidrBlock": Operation(AssociateSubnetCidrBlockRequest, associate_subnet_cidr_block),
    "AssociateVpcCidrBlock": Operation(AssociateVpcCidrBlockRequest, associate_vpc_cidr_block),
    "DisassociateSubnetCidrBlock": Operation(AssociationIdRequest, disassociate_subnet_cidr_block),
    "DisassociateVpcCidrBlock": Operation(AssociationIdRequest, disassociate_vpc_cidr_block),
}
