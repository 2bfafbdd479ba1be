"""EC2's operations, all in one table. A module's own table is where an operation is added."""

from alto.api.call import Operations
from alto.api.ec2 import (
    addresses,
    images,
    instance_attributes,
    instance_options,
    instance_types,
    instances,
    interfaces,
    keypairs,
    launch_template_data,
    launch_template_versions,
    launch_templates,
    launches,
    regions,
    security_group_rules,
    security_groups,
    tags,
    volumes,
    vpcs,
)

OPERATIONS: Operations = {
    **addresses.OPERATIONS,
    **images.OPERATIONS,
    **instance_types.OPERATIONS,
    **instance_attributes.OPERATIONS,
    **instance_options.OPERATIONS,
    **instances.OPERATIONS,
    **interfaces.OPERATIONS,
    **keypairs.OPERATIONS,
    **launch_template_data.OPERATIONS,
    **launch_template_versions.OPERATIONS,
    **launch_templates.OPERATIONS,
    **launches.OPERATIONS,
    **regions.OPERATIONS,
    **security_group_rules.OPERATIONS,
    **security_groups.OPERATIONS,
    **tags.OPERATIONS,
    **volumes.OPERATIONS,
    **vpcs.OPERATIONS,
}
