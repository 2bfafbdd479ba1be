"""EC2's operations, all in one table. A module's own table is where an operation is added."""

from alto.api.call import Operations
from alto.api.ec2 import keypairs, regions, tags, vpcs

OPERATIONS: Operations = {
    **keypairs.OPERATIONS,
    **regions.OPERATIONS,
    **tags.OPERATIONS,
    **vpcs.OPERATIONS,
}
