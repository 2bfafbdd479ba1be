"""The places of ids in the operations on interfaces, elastic addresses and NAT gateways, for `test_isolation.py`."""

from typing import Any

from tests.api.cloud import Tenant
from tests.api.isolation_networks import ID, OWN, Row, row

ABSENT = {"address": "eipalloc-00000000000000000", "nat": "nat-00000000000000000"}
ABSENT_WITHOUT_TAGS = {
    "address association": "eipassoc-00000000000000000",
    "attachment": "eni-attach-00000000000000000",
}

_ADDRESS, _INTERFACE = OWN + "address", OWN + "free interface"

ROWS: dict[tuple[str, str], Row] = {
    ("AssignIpv6Addresses", "NetworkInterfaceId"): row("interface", NetworkInterfaceId=ID, Ipv6AddressCount=1),
    ("AssignPrivateIpAddresses", "NetworkInterfaceId"): row(
        "interface", NetworkInterfaceId=ID, SecondaryPrivateIpAddressCount=1
    ),
    ("AssociateAddress", "AllocationId"): row("address", AllocationId=ID, InstanceId=OWN + "instance"),
    ("AssociateAddress", "InstanceId"): row("instance", AllocationId=_ADDRESS, InstanceId=ID),
    ("AssociateAddress", "NetworkInterfaceId"): row("interface", AllocationId=_ADDRESS, NetworkInterfaceId=ID),
    ("AttachNetworkInterface", "InstanceId"): row("instance", InstanceId=ID, NetworkInterfaceId=_INTERFACE, DeviceIndex=1),
    ("AttachNetworkInterface", "NetworkInterfaceId"): row(
        "interface", InstanceId=OWN + "instance", NetworkInterfaceId=ID, DeviceIndex=1
    ),
    ("CreateNatGateway", "AllocationId"): row("address", AllocationId=ID, SubnetId=OWN + "subnet"),
    ("AssignPrivateNatGatewayAddress", "NatGatewayId"): row("nat", NatGatewayId=ID, PrivateIpAddressCount=1),
    ("AssociateNatGatewayAddress", "AllocationIds"): row("address", NatGatewayId=OWN + "nat", AllocationIds=[ID]),
    ("AssociateNatGatewayAddress", "NatGatewayId"): row("nat", NatGatewayId=ID, AllocationIds=[_ADDRESS]),
    ("CreateNatGateway", "SecondaryAllocationIds"): row(
        "address", SubnetId=OWN + "subnet", AllocationId=OWN + "address", SecondaryAllocationIds=[ID]
    ),
    ("DisassociateNatGatewayAddress", "AssociationIds"): row(
        "address association", NatGatewayId=OWN + "nat", AssociationIds=[ID]
    ),
    ("DisassociateNatGatewayAddress", "NatGatewayId"): row(
        "nat", NatGatewayId=ID, AssociationIds=["eipassoc-00000000000000000"]
    ),
    ("UnassignPrivateNatGatewayAddress", "NatGatewayId"): row("nat", NatGatewayId=ID, PrivateIpAddresses=["172.31.0.9"]),
    ("CreateNatGateway", "SubnetId"): row("subnet", AllocationId=_ADDRESS, SubnetId=ID),
    ("CreateNetworkInterface", "Groups"): row("group", Groups=[ID], SubnetId=OWN + "subnet"),
    ("CreateNetworkInterface", "SubnetId"): row("subnet", SubnetId=ID),
    ("DeleteNatGateway", "NatGatewayId"): row("nat", NatGatewayId=ID),
    ("DeleteNetworkInterface", "NetworkInterfaceId"): row("interface", NetworkInterfaceId=ID),
    ("DescribeNatGateways", "NatGatewayIds"): row("nat", NatGatewayIds=[ID]),
    ("DetachNetworkInterface", "AttachmentId"): row("attachment", AttachmentId=ID),
    ("DisassociateAddress", "AssociationId"): row("address association", AssociationId=ID),
    ("ModifyAddressAttribute", "AllocationId"): row("address", AllocationId=ID, DomainName="a.example"),
    ("ModifyNetworkInterfaceAttribute", "Attachment.AttachmentId"): row(
        "attachment", NetworkInterfaceId=_INTERFACE, Attachment={"AttachmentId": ID, "DeleteOnTermination": True}
    ),
    ("ModifyNetworkInterfaceAttribute", "Groups"): row("group", NetworkInterfaceId=_INTERFACE, Groups=[ID]),
    ("ModifyNetworkInterfaceAttribute", "NetworkInterfaceId"): row(
        "interface", NetworkInterfaceId=ID, Description={"Value": "mine now"}
    ),
    ("ReleaseAddress", "AllocationId"): row("address", AllocationId=ID),
    ("ResetAddressAttribute", "AllocationId"): row("address", AllocationId=ID, Attribute="domain-name"),
    ("ResetNetworkInterfaceAttribute", "NetworkInterfaceId"): row("interface", NetworkInterfaceId=ID, SourceDestCheck="true"),
    ("UnassignIpv6Addresses", "NetworkInterfaceId"): row("interface", NetworkInterfaceId=ID, Ipv6Addresses=["fd00::9"]),
    ("UnassignPrivateIpAddresses", "NetworkInterfaceId"): row(
        "interface", NetworkInterfaceId=ID, PrivateIpAddresses=["172.31.0.9"]
    ),
}


def made_by(tenant: Tenant) -> dict[str, str]:
    """What takes tags: an address in use, a NAT gateway."""
    subnet = _instance(tenant)["SubnetId"]
    allocated = [tenant("AllocateAddress")["AllocationId"] for _ in range(2)]
    free = tenant("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    tenant("AssociateAddress", AllocationId=allocated[0], NetworkInterfaceId=free)
    gateway = tenant("CreateNatGateway", SubnetId=subnet, AllocationId=allocated[1])["NatGateway"]
    return {"address": allocated[0], "nat": gateway["NatGatewayId"]}


def untagged_by(tenant: Tenant) -> dict[str, str]:
    (interface,) = _instance(tenant)["NetworkInterfaces"]
    associations = [one["AssociationId"] for one in tenant("DescribeAddresses")["Addresses"]]
    return {"address association": associations[0], "attachment": interface["Attachment"]["AttachmentId"]}


def prepare(tenant: Tenant) -> None:
    """The asking account has what it needs to ask with."""
    subnet = _instance(tenant)["SubnetId"]
    tenant("CreateNatGateway", SubnetId=subnet, AllocationId=tenant("AllocateAddress")["AllocationId"])
    tenant("AllocateAddress")
    tenant("CreateNetworkInterface", SubnetId=subnet)


def owned_by(tenant: Tenant) -> dict[str, str]:
    available = [{"Name": "status", "Values": ["available"]}]
    (interface,) = tenant("DescribeNetworkInterfaces", Filters=available)["NetworkInterfaces"]
    return {
        "address": next(one["AllocationId"] for one in tenant("DescribeAddresses")["Addresses"] if "AssociationId" not in one),
        "free interface": interface["NetworkInterfaceId"],
        "instance": _instance(tenant)["InstanceId"],
        "nat": tenant("DescribeNatGateways")["NatGateways"][0]["NatGatewayId"],
    }


def _instance(tenant: Tenant) -> dict[str, Any]:
    instance: dict[str, Any] = tenant("DescribeInstances")["Reservations"][0]["Instances"][0]
    return instance
