"""The places of ids in the operations on networks, for `test_isolation.py`, and one of each thing that they name."""

from collections.abc import Callable
from typing import Any

from tests.api.cloud import Tenant

Parameters = dict[str, Any]
Row = tuple[str, Callable[[str, str], Parameters]]

ID = "<id>"  # stands where the asked-for id goes
OWN = "<own>"  # "<own>vpc": the asking account's own

ABSENT = {
    "table": "rtb-00000000000000000",
    "gateway": "igw-00000000000000000",
    "egress-only gateway": "eigw-00000000000000000",
    "acl": "acl-00000000000000000",
    "dhcp options": "dopt-00000000000000000",
    "peering": "pcx-00000000000000000",
    "prefix list": "pl-00000000000000000",
    "endpoint": "vpce-00000000000000000",
}
# What has an id and takes no tags.
ABSENT_WITHOUT_TAGS = {
    "table association": "rtbassoc-00000000000000000",
    "acl association": "aclassoc-00000000000000000",
    "range": "vpc-cidr-assoc-00000000000000000",
    "range of a subnet": "subnet-cidr-assoc-00000000000000000",
}


def row(kind: str, **parameters: Any) -> Row:
    return kind, lambda id, own: dict(substituted(parameters, {ID: id}))


def substituted(value: Any, known: dict[str, str]) -> Any:
    """`value` with texts exchanged, however deep."""
    match value:
        case dict():
            return {name: substituted(each, known) for name, each in value.items()}
        case list():
            return [substituted(each, known) for each in value]
        case str():
            return known.get(value, value)
    return value


ROWS: dict[tuple[str, str], Row] = {
    ("AssociateRouteTable", "GatewayId"): row("gateway", RouteTableId=OWN + "table", GatewayId=ID),
    ("AssociateRouteTable", "RouteTableId"): row("table", RouteTableId=ID, SubnetId=OWN + "subnet"),
    ("AssociateRouteTable", "SubnetId"): row("subnet", RouteTableId=OWN + "table", SubnetId=ID),
    ("AttachInternetGateway", "InternetGatewayId"): row("gateway", InternetGatewayId=ID, VpcId=OWN + "vpc"),
    ("AttachInternetGateway", "VpcId"): row("vpc", InternetGatewayId=OWN + "gateway", VpcId=ID),
    ("CreateEgressOnlyInternetGateway", "VpcId"): row("vpc", VpcId=ID),
    ("CreateRouteTable", "VpcId"): row("vpc", VpcId=ID),
    ("CreateSubnet", "VpcId"): row("vpc", VpcId=ID, CidrBlock="172.31.240.0/24"),
    ("DeleteEgressOnlyInternetGateway", "EgressOnlyInternetGatewayId"): row(
        "egress-only gateway", EgressOnlyInternetGatewayId=ID
    ),
    ("DeleteInternetGateway", "InternetGatewayId"): row("gateway", InternetGatewayId=ID),
    ("DeleteRouteTable", "RouteTableId"): row("table", RouteTableId=ID),
    ("DeleteSubnet", "SubnetId"): row("subnet", SubnetId=ID),
    ("DeleteVpc", "VpcId"): row("vpc", VpcId=ID),
    ("DescribeEgressOnlyInternetGateways", "EgressOnlyInternetGatewayIds"): row(
        "egress-only gateway", EgressOnlyInternetGatewayIds=[ID]
    ),
    ("DescribeInternetGateways", "InternetGatewayIds"): row("gateway", InternetGatewayIds=[ID]),
    ("DescribeRouteTables", "RouteTableIds"): row("table", RouteTableIds=[ID]),
    ("DescribeVpcClassicLink", "VpcIds"): row("vpc", VpcIds=[ID]),
    ("DescribeVpcClassicLinkDnsSupport", "VpcIds"): row("vpc", VpcIds=[ID]),
    ("DetachInternetGateway", "InternetGatewayId"): row("gateway", InternetGatewayId=ID, VpcId=OWN + "vpc"),
    ("DetachInternetGateway", "VpcId"): row("vpc", InternetGatewayId=OWN + "gateway", VpcId=ID),
    ("DisassociateRouteTable", "AssociationId"): row("table association", AssociationId=ID),
    ("ModifySubnetAttribute", "SubnetId"): row("subnet", SubnetId=ID, MapPublicIpOnLaunch={"Value": False}),
    ("ModifyVpcAttribute", "VpcId"): row("vpc", VpcId=ID, EnableDnsSupport={"Value": False}),
    ("ModifyVpcTenancy", "VpcId"): row("vpc", VpcId=ID, InstanceTenancy="default"),
    ("ReplaceRouteTableAssociation", "AssociationId"): row("table association", AssociationId=ID, RouteTableId=OWN + "table"),
    ("ReplaceRouteTableAssociation", "RouteTableId"): row("table", AssociationId=OWN + "table association", RouteTableId=ID),
}

_ENTRY = {"RuleNumber": 7, "Egress": False}
_FULL_ENTRY = {**_ENTRY, "Protocol": "-1", "RuleAction": "deny", "CidrBlock": "0.0.0.0/0"}
ROWS |= {
    ("AssociateDhcpOptions", "DhcpOptionsId"): row("dhcp options", DhcpOptionsId=ID, VpcId=OWN + "vpc"),
    ("AssociateDhcpOptions", "VpcId"): row("vpc", DhcpOptionsId="default", VpcId=ID),
    ("AssociateSubnetCidrBlock", "SubnetId"): row("subnet", SubnetId=ID, Ipv6CidrBlock="fd00::/64"),
    ("AssociateVpcCidrBlock", "VpcId"): row("vpc", VpcId=ID, CidrBlock="172.30.0.0/16"),
    ("CreateNetworkAcl", "VpcId"): row("vpc", VpcId=ID),
    ("CreateNetworkAclEntry", "NetworkAclId"): row("acl", NetworkAclId=ID, **_FULL_ENTRY),
    ("DeleteDhcpOptions", "DhcpOptionsId"): row("dhcp options", DhcpOptionsId=ID),
    ("DeleteNetworkAcl", "NetworkAclId"): row("acl", NetworkAclId=ID),
    ("DeleteNetworkAclEntry", "NetworkAclId"): row("acl", NetworkAclId=ID, **_ENTRY),
    ("DescribeDhcpOptions", "DhcpOptionsIds"): row("dhcp options", DhcpOptionsIds=[ID]),
    ("DescribeNetworkAcls", "NetworkAclIds"): row("acl", NetworkAclIds=[ID]),
    ("DisassociateSubnetCidrBlock", "AssociationId"): row("range of a subnet", AssociationId=ID),
    ("DisassociateVpcCidrBlock", "AssociationId"): row("range", AssociationId=ID),
    ("ReplaceNetworkAclAssociation", "AssociationId"): row("acl association", AssociationId=ID, NetworkAclId=OWN + "acl"),
    ("ReplaceNetworkAclAssociation", "NetworkAclId"): row("acl", AssociationId=OWN + "acl association", NetworkAclId=ID),
    ("ReplaceNetworkAclEntry", "NetworkAclId"): row("acl", NetworkAclId=ID, **_FULL_ENTRY),
}

_PCX = {"VpcPeeringConnectionId": ID}
ROWS |= {
    ("AcceptVpcPeeringConnection", "VpcPeeringConnectionId"): row("peering", **_PCX),
    ("CreateVpcPeeringConnection", "PeerVpcId"): row("vpc", VpcId=OWN + "vpc", PeerVpcId=ID),
    ("CreateVpcPeeringConnection", "VpcId"): row("vpc", VpcId=ID, PeerVpcId=OWN + "vpc"),
    ("DeleteVpcPeeringConnection", "VpcPeeringConnectionId"): row("peering", **_PCX),
    ("DescribeVpcPeeringConnections", "VpcPeeringConnectionIds"): row("peering", VpcPeeringConnectionIds=[ID]),
    ("ModifyVpcPeeringConnectionOptions", "VpcPeeringConnectionId"): row("peering", **_PCX),
    ("RejectVpcPeeringConnection", "VpcPeeringConnectionId"): row("peering", **_PCX),
}

_OWN_ENDPOINT = {"VpcEndpointId": OWN + "endpoint"}
_OWN_INTERFACES = {"VpcEndpointId": OWN + "interface endpoint"}
_SERVICE = "com.amazonaws.us-east-1.s3"
_ENDPOINT = {"VpcId": OWN + "vpc", "ServiceName": _SERVICE}
_INTERFACES = {"VpcId": OWN + "vpc", "ServiceName": "com.amazonaws.us-east-1.ec2", "VpcEndpointType": "Interface"}
_INTERFACES |= {"PrivateDnsEnabled": False}
ROWS |= {
    ("CreateVpcEndpoint", "RouteTableIds"): row("table", **_ENDPOINT, RouteTableIds=[ID]),
    ("CreateVpcEndpoint", "SecurityGroupIds"): row("group", **_INTERFACES, SecurityGroupIds=[ID]),
    ("CreateVpcEndpoint", "SubnetIds"): row("subnet", **_INTERFACES, SubnetIds=[ID]),
    ("CreateVpcEndpoint", "VpcId"): row("vpc", **(_ENDPOINT | {"VpcId": ID})),
    ("DeleteVpcEndpoints", "VpcEndpointIds"): row("endpoint", VpcEndpointIds=[ID]),
    ("DescribeVpcEndpoints", "VpcEndpointIds"): row("endpoint", VpcEndpointIds=[ID]),
    ("ModifyVpcEndpoint", "AddRouteTableIds"): row("table", **_OWN_ENDPOINT, AddRouteTableIds=[ID]),
    ("ModifyVpcEndpoint", "AddSecurityGroupIds"): row("group", **_OWN_INTERFACES, AddSecurityGroupIds=[ID]),
    ("ModifyVpcEndpoint", "AddSubnetIds"): row("subnet", **_OWN_INTERFACES, AddSubnetIds=[ID]),
    ("ModifyVpcEndpoint", "RemoveRouteTableIds"): row("table", **_OWN_ENDPOINT, RemoveRouteTableIds=[ID]),
    ("ModifyVpcEndpoint", "RemoveSecurityGroupIds"): row("group", **_OWN_INTERFACES, RemoveSecurityGroupIds=[ID]),
    ("ModifyVpcEndpoint", "RemoveSubnetIds"): row("subnet", **_OWN_INTERFACES, RemoveSubnetIds=[ID]),
    ("ModifyVpcEndpoint", "VpcEndpointId"): row("endpoint", VpcEndpointId=ID, ResetPolicy=True),
}

_PL = {"PrefixListId": ID}
ROWS |= {
    ("DeleteManagedPrefixList", "PrefixListId"): row("prefix list", **_PL),
    ("DescribeManagedPrefixLists", "PrefixListIds"): row("prefix list", PrefixListIds=[ID]),
    ("DescribePrefixLists", "PrefixListIds"): row("prefix list", PrefixListIds=[ID]),
    ("DescribeSecurityGroupReferences", "GroupId"): row("group", GroupId=[ID]),
    ("DescribeStaleSecurityGroups", "VpcId"): row("vpc", VpcId=ID),
    ("GetManagedPrefixListAssociations", "PrefixListId"): row("prefix list", **_PL),
    ("GetManagedPrefixListEntries", "PrefixListId"): row("prefix list", **_PL),
    ("GetSecurityGroupsForVpc", "VpcId"): row("vpc", VpcId=ID),
    ("ModifyManagedPrefixList", "PrefixListId"): row("prefix list", PrefixListName="mine", **_PL),
    ("RestoreManagedPrefixListVersion", "PrefixListId"): row("prefix list", PreviousVersion=1, CurrentVersion=1, **_PL),
}
for _direction in ("Egress", "Ingress"):
    for _verb in ("AuthorizeSecurityGroup", "RevokeSecurityGroup", "UpdateSecurityGroupRuleDescriptions"):
        ROWS[_verb + _direction, "IpPermissions.PrefixListIds.PrefixListId"] = row(
            "prefix list", GroupId=OWN + "group", IpPermissions=[{"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": ID}]}]
        )

for _operation in ("AssociateSecurityGroupVpc", "DisassociateSecurityGroupVpc"):
    ROWS[_operation, "GroupId"] = row("group", GroupId=ID, VpcId=OWN + "vpc")
    ROWS[_operation, "VpcId"] = row("vpc", GroupId=OWN + "group", VpcId=ID)

_TARGETS = {
    "EgressOnlyInternetGatewayId": "egress-only gateway",
    "GatewayId": "gateway",
    "InstanceId": "instance",
    "NatGatewayId": "nat",
    "NetworkInterfaceId": "interface",
    "VpcPeeringConnectionId": "peering",
}
for _operation, _destination in (("CreateRoute", "192.0.2.0/24"), ("ReplaceRoute", "0.0.0.0/0")):
    _to = {"DestinationCidrBlock": _destination}
    ROWS[_operation, "RouteTableId"] = row("table", RouteTableId=ID, GatewayId=OWN + "gateway", **_to)
    for _parameter, _kind in _TARGETS.items():
        ROWS[_operation, _parameter] = row(_kind, RouteTableId=OWN + "table", **_to, **{_parameter: ID})
    ROWS[_operation, "DestinationPrefixListId"] = row(
        "prefix list", RouteTableId=OWN + "table", GatewayId=OWN + "gateway", DestinationPrefixListId=ID
    )
ROWS["DeleteRoute", "DestinationPrefixListId"] = row("prefix list", RouteTableId=OWN + "table", DestinationPrefixListId=ID)
ROWS["DeleteRoute", "RouteTableId"] = row("table", RouteTableId=ID, DestinationCidrBlock="0.0.0.0/0")


def prepare(tenant: Tenant) -> None:
    """The asking account has what it needs to ask with."""
    own = owned_by(tenant)
    for each in (_ENDPOINT, _INTERFACES | {"SubnetIds": [own["subnet"]]}):
        region = {"ServiceName": str(each["ServiceName"]).replace("us-east-1", tenant.region)}
        tenant("CreateVpcEndpoint", **(each | region | {"VpcId": own["vpc"]}))


def made_by(tenant: Tenant) -> dict[str, str]:
    """One of each of what only these operations make, and the ids of what its default VPC has of them."""
    own = owned_by(tenant)
    egress_only = tenant("CreateEgressOnlyInternetGateway", VpcId=own["vpc"])["EgressOnlyInternetGateway"]
    other = tenant("CreateVpc", CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    peering = tenant("CreateVpcPeeringConnection", VpcId=own["vpc"], PeerVpcId=other)["VpcPeeringConnection"]
    endpoint = tenant("CreateVpcEndpoint", VpcId=own["vpc"], ServiceName=_SERVICE)["VpcEndpoint"]
    listed = tenant("CreateManagedPrefixList", PrefixListName="list", MaxEntries=1, AddressFamily="IPv4")["PrefixList"]
    return {
        "table": own["table"],
        "gateway": own["gateway"],
        "egress-only gateway": egress_only["EgressOnlyInternetGatewayId"],
        "acl": own["acl"],
        "dhcp options": own["dhcp options"],
        "peering": peering["VpcPeeringConnectionId"],
        "prefix list": listed["PrefixListId"],
        "endpoint": endpoint["VpcEndpointId"],
    }


def untagged_by(tenant: Tenant) -> dict[str, str]:
    own = owned_by(tenant)
    made = tenant("AssociateVpcCidrBlock", VpcId=own["vpc"], AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    of_vpc = tenant("DescribeVpcs", VpcIds=[own["vpc"]])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    in_subnet = tenant("AssociateSubnetCidrBlock", SubnetId=own["subnet"], Ipv6CidrBlock=of_vpc.replace("/56", "/64"))
    return {
        "table association": own["table association"],
        "acl association": own["acl association"],
        "range": made["AssociationId"],
        "range of a subnet": in_subnet["Ipv6CidrBlockAssociation"]["AssociationId"],
    }


def owned_by(tenant: Tenant) -> dict[str, str]:
    """What the asking account has in its default VPC, by kind."""
    (instance,) = tenant("DescribeInstances")["Reservations"][0]["Instances"]
    of_vpc = [{"Name": "vpc-id", "Values": [instance["VpcId"]]}]
    (table,) = tenant("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    (gateway,) = tenant("DescribeInternetGateways")["InternetGateways"]
    (acl,) = tenant("DescribeNetworkAcls", Filters=of_vpc)["NetworkAcls"]
    (options,) = tenant("DescribeDhcpOptions")["DhcpOptions"]
    named = [*of_vpc, {"Name": "group-name", "Values": ["default"]}]
    (group,) = tenant("DescribeSecurityGroups", Filters=named)["SecurityGroups"]
    endpoints = {one["VpcEndpointType"]: one["VpcEndpointId"] for one in tenant("DescribeVpcEndpoints")["VpcEndpoints"]}
    return {
        "endpoint": endpoints.get("Gateway", ""),
        "interface endpoint": endpoints.get("Interface", ""),
        "vpc": table["VpcId"],
        "subnet": instance["SubnetId"],
        "table": table["RouteTableId"],
        "table association": table["Associations"][0]["RouteTableAssociationId"],
        "gateway": gateway["InternetGatewayId"],
        "acl": acl["NetworkAclId"],
        "acl association": acl["Associations"][0]["NetworkAclAssociationId"],
        "dhcp options": options["DhcpOptionsId"],
        "group": group["GroupId"],
    }
