"""Which security groups the interfaces of a VPC may be in: its own, and those of other VPCs of the account that are associated
with it. For the operations on groups and for what hosts are told alike."""

from alto.model.networks import SecurityGroup, SecurityGroupVpc, security_group_vpc_id
from alto.store.store import Reader


def groups_in(reader: Reader, vpc_id: str) -> list[SecurityGroup]:
    """The VPC's own first."""
    guests = [reader.find(SecurityGroup, one.group_id) for one in reader.where(SecurityGroupVpc, vpc_id=vpc_id)]
    return [*reader.where(SecurityGroup, vpc_id=vpc_id), *(one for one in guests if one is not None)]


def is_in_vpc(reader: Reader, group: SecurityGroup, vpc_id: str) -> bool:
    return group.vpc_id == vpc_id or reader.find(SecurityGroupVpc, security_group_vpc_id(group.id, vpc_id)) is not None


def vpcs_of(reader: Reader, group: SecurityGroup) -> frozenset[str]:
    return frozenset((group.vpc_id, *(one.vpc_id for one in reader.where(SecurityGroupVpc, group_id=group.id))))
