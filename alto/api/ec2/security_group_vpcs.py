"""A security group in further VPCs of its account: AssociateSecurityGroupVpc, DisassociateSecurityGroupVpc,
DescribeSecurityGroupVpcAssociations.

An associated group is one more of the VPC's: interfaces there may be in it, and rules name it. A rule of it that names a group
lets in whoever is in that one in the same VPC. Both take effect with the transaction, so that no association is ever seen on
its way; hosts hear of it as of any change of a VPC. Not here: groups named across a peering connection.
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.security_groups import DEFAULT_NAME
from alto.api.security_groups import is_in_vpc
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface, SecurityGroup, SecurityGroupVpc, Vpc, security_group_vpc_id
from alto.store.store import Tx


class AssociationRequest(msgspec.Struct, frozen=True, rename="pascal"):
    group_id: str
    vpc_id: str


async def associate_security_group_vpc(call: Call, request: AssociationRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        group = owned(tx, call, SecurityGroup, request.group_id)
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if group.name == DEFAULT_NAME:
            raise Refused(
                "InvalidParameterValue", f"The default security group {group.id} cannot be associated with another VPC."
            )
        if vpc.default_of is not None or tx.get(Vpc, group.vpc_id).default_of is not None:
            raise Refused("InvalidParameterValue", "Security groups cannot be associated with or from the default VPC.")
        if is_in_vpc(tx, group, vpc.id):
            raise Refused("Resource.AlreadyAssociated", f"resource {group.id} is already associated with {vpc.id}")
        tx.put(
            SecurityGroupVpc(
                id=security_group_vpc_id(group.id, vpc.id),
                account=call.account,
                region=call.region,
                group_id=group.id,
                vpc_id=vpc.id,
            )
        )

    await call.store.write(body)
    return {"State": "associating"}


async def disassociate_security_group_vpc(call: Call, request: AssociationRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        group = owned(tx, call, SecurityGroup, request.group_id)
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if group.vpc_id == vpc.id:
            raise Refused("InvalidParameterValue", f"The security group {group.id} was created in {vpc.id} and stays there.")
        known = tx.find(SecurityGroupVpc, security_group_vpc_id(group.id, vpc.id))
        if known is None:
            raise Refused("InvalidAssociationID.NotFound", f"The security group {group.id} is not associated with {vpc.id}.")
        if any(group.id in one.group_ids for one in tx.where(NetworkInterface, vpc_id=vpc.id)):
            raise Refused("DependencyViolation", f"resource {group.id} has a dependent object in {vpc.id}")
        tx.delete(SecurityGroupVpc, known.id)

    await call.store.write(body)
    return {"State": "disassociating"}


_FILTERS: Filters[SecurityGroupVpc] = {
    "group-id": lambda one: one.group_id,
    "group-owner-id": lambda one: one.account,
    "state": lambda one: "associated",
    "vpc-id": lambda one: one.vpc_id,
    "vpc-owner-id": lambda one: one.account,
}


class DescribeAssociationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_security_group_vpc_associations(call: Call, request: DescribeAssociationsRequest) -> dict[str, object]:
    check_page(request.max_results)
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, SecurityGroupVpc, (), matches, request.max_results, request.next_token)
    )
    return listing("SecurityGroupVpcAssociations", [_shown(one) for one in page.items], page.next_token)


def _shown(one: SecurityGroupVpc) -> dict[str, object]:
    return {
        "GroupId": one.group_id,
        "GroupOwnerId": one.account,
        "VpcId": one.vpc_id,
        "VpcOwnerId": one.account,
        "State": "associated",
    }


OPERATIONS: Mapping[str, Operation] = {
    "AssociateSecurityGroupVpc": Operation(AssociationRequest, associate_security_group_vpc),
    "DescribeSecurityGroupVpcAssociations": Operation(DescribeAssociationsRequest, describe_security_group_vpc_associations),
    "DisassociateSecurityGroupVpc": Operation(AssociationRequest, disassociate_security_group_vpc),
}
