"""EC2's operations, all in one table. A module's own table is where an operation is added."""

from alto.api.call import Operations
from alto.api.ec2 import (
    instance_attributes,
    instances,
    keypairs,
    launches,
    regions,
    security_group_rules,
    security_groups,
    tags,
    vpcs,
)

OPERATIONS: Operations = {
    **instance_attributes.OPERATIONS,
    **instances.OPERATIONS,
    **keypairs.OPERATIONS,
    **launches.OPERATIONS,
    **regions.OPERATIONS,
    **security_group_rules.OPERATIONS,
    **security_groups.OPERATIONS,
    **tags.OPERATIONS,
    **vpcs.OPERATIONS,
}
