"""Whether a security group may go. Pure: rows in, an answer out.

Not here: what its rules let through (`firewall.py`), and who may delete it (`api/ec2/security_groups.py`).
The invariant: a group that an interface has, or that another group's rule names other than by a peering connection, never goes.
"""

from collections.abc import Iterable

from alto.model.networks import NetworkInterface, SecurityGroup


def is_used(group_id: str, interfaces: Iterable[NetworkInterface], groups: Iterable[SecurityGroup]) -> bool:
    """`interfaces` and `groups` are those of its account and region, itself included."""
    if any(group_id in interface.group_ids for interface in interfaces):
        return True
    return any(
        rule.group_id == group_id and rule.group_peer is None
        for other in groups
        if other.id != group_id
        for rule in other.permissions
    )
