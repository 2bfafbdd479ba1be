"""The one table from Alto's errors to EC2's codes, messages and HTTP statuses.

Operations raise errors of `model/errors.py` (or `Refused` with AWS's own code) and never think of XML; the gateway asks
`to_wire` here. EC2's service model declares no errors at all, so this table is ours; the codes are those of "Error codes for
the Amazon EC2 API", and clients compare them letter by letter. Invariant: every AltoError has an answer here, and a
status of 500 or more is only given where a retry can help, because SDKs do retry it.
"""

from typing import NamedTuple

from alto.model.errors import (
    AlreadyExists,
    AltoError,
    CapacityExceeded,
    Conflict,
    DriverFault,
    Impossible,
    NoCapacity,
    NotFound,
    Refused,
    Unavailable,
)


class WireError(NamedTuple):
    code: str
    message: str
    status: int


class _Missing(NamedTuple):
    code: str
    message: str  # with {id}
    several: str | None = None  # with {ids}, for those kinds of which EC2 names all; else the first is named


# By KIND of the record.
_NOT_FOUND: dict[str, _Missing] = {
    "instance": _Missing(
        "InvalidInstanceID.NotFound", "The instance ID '{id}' does not exist", "The instance IDs '{ids}' do not exist"
    ),
    "image": _Missing("InvalidAMIID.NotFound", "The image id '[{id}]' does not exist", "The image ids '[{ids}]' do not exist"),
    "key_pair": _Missing("InvalidKeyPair.NotFound", "The key pair '{id}' does not exist"),
    "security_group": _Missing("InvalidGroup.NotFound", "The security group '{id}' does not exist"),
    "security_group_rule": _Missing("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '{id}' does not exist"),
    "vpc": _Missing("InvalidVpcID.NotFound", "The vpc ID '{id}' does not exist"),
    "subnet": _Missing("InvalidSubnetID.NotFound", "The subnet ID '{id}' does not exist"),
    "route_table": _Missing("InvalidRouteTableID.NotFound", "The routeTable ID '{id}' does not exist"),
    "route_table_association": _Missing("InvalidAssociationID.NotFound", "The association ID '{id}' does not exist"),
    "internet_gateway": _Missing("InvalidInternetGatewayID.NotFound", "The internetGateway ID '{id}' does not exist"),
    "egress_only_internet_gateway": _Missing("InvalidGatewayID.NotFound", "The eigw ID '{id}' does not exist"),
    "nat_gateway": _Missing("NatGatewayNotFound", "The Nat Gateway {id} was not found"),
    "vpc_cidr_association": _Missing(
        "InvalidVpcCidrBlockAssociationID.NotFound", "The vpc CIDR block association ID '{id}' does not exist"
    ),
    "subnet_cidr_association": _Missing(
        "InvalidSubnetCidrBlockAssociationID.NotFound", "The subnet CIDR block association ID '{id}' does not exist"
    ),
    "network_acl": _Missing("InvalidNetworkAclID.NotFound", "The networkAcl ID '{id}' does not exist"),
    "network_acl_association": _Missing("InvalidAssociationID.NotFound", "The association ID '{id}' does not exist"),
    "dhcp_options": _Missing("InvalidDhcpOptionID.NotFound", "The dhcpOption ID '{id}' does not exist"),
    "prefix_list": _Missing("InvalidPrefixListID.NotFound", "The prefix list ID '{id}' does not exist"),
    "vpc_endpoint": _Missing("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '{id}' does not exist"),
    "vpc_peering": _Missing("InvalidVpcPeeringConnectionID.NotFound", "The vpcPeeringConnection ID '{id}' does not exist"),
    "volume": _Missing("InvalidVolume.NotFound", "The volume '{id}' does not exist."),
    "snapshot": _Missing("InvalidSnapshot.NotFound", "The snapshot '{id}' does not exist."),
    "network_interface": _Missing("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '{id}' does not exist"),
    "address": _Missing("InvalidAllocationID.NotFound", "The allocation ID '{id}' does not exist"),
    "public_address": _Missing("InvalidAddress.NotFound", "Address '{id}' not found."),
    "profile_association": _Missing("InvalidAssociationID.NotFound", "An invalid association-id of '{id}' was given"),
    "placement_group": _Missing("InvalidPlacementGroup.Unknown", "The Placement Group '{id}' is unknown."),
    "launch_template": _Missing(
        "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID {id}, does not exist."
    ),
}

_DUPLICATE: dict[str, str] = {
    "image": "InvalidAMIName.Duplicate",
    "key_pair": "InvalidKeyPair.Duplicate",
    "security_group": "InvalidGroup.Duplicate",
    "network_interface": "InvalidIPAddress.InUse",
    "public_address": "InvalidIPAddress.InUse",
    "subnet": "InvalidSubnet.Conflict",
    "launch_template": "InvalidLaunchTemplateName.AlreadyExistsException",
}

# Beside Refused, NotFound and AlreadyExists: first match wins.
_BY_CLASS: tuple[tuple[type[AltoError], str, int], ...] = (
    # EC2 gives it 500. Clients go by the code, and by 5xx whether to try again; here a 500 is always a bug of ours.
    (NoCapacity, "InsufficientInstanceCapacity", 503),
    (CapacityExceeded, "ResourceLimitExceeded", 400),
    (Conflict, "Unavailable", 503),
    (DriverFault, "Unavailable", 503),
    (Unavailable, "Unavailable", 503),
    (Impossible, "OperationNotPermitted", 400),
)


def to_wire(error: AltoError) -> WireError:
    match error:
        case Refused():
            return WireError(error.aws_code, str(error), error.status)
        case NotFound():
            missing = _NOT_FOUND.get(error.kind)
            if missing is None:
                return WireError("InvalidParameterValue", str(error), 400)
            if missing.several is not None and len(error.ids) > 1:
                return WireError(missing.code, missing.several.format(ids=", ".join(error.ids)), 400)
            return WireError(missing.code, missing.message.format(id=error.id), 400)
        case AlreadyExists():
            return WireError(_DUPLICATE.get(error.kind, "InvalidParameterValue"), str(error), 400)
    for kind, code, status in _BY_CLASS:
        if isinstance(error, kind):
            return WireError(code, str(error), status)
    return WireError("InternalError", "An internal error has occurred", 500)
