"""VPCs and subnets, to be read: DescribeVpcs, DescribeVpcAttribute, DescribeSubnets.

Not here: how the default ones are made (`api/accounts.py`), and what a host makes of them (`plan/firewall.py`).
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.tags import shown
from alto.model.errors import Refused
from alto.model.networks import AddressPool, Subnet, Vpc
from alto.store.store import Reader

_AVAILABLE = "available"
_ASSOCIATED = "associated"
# What EC2 shows of a VPC that has no set of DHCP options of its own.
_DHCP_OPTIONS = "default"


def _association(vpc: Vpc) -> str:
    return "vpc-cidr-assoc-" + vpc.id.partition("-")[2]


_VPC_FILTERS: Filters[Vpc] = {
    "cidr": lambda vpc: vpc.cidr,
    "cidr-block": lambda vpc: vpc.cidr,
    "cidrBlock": lambda vpc: vpc.cidr,
    "cidr-block-association.association-id": _association,
    "cidr-block-association.cidr-block": lambda vpc: vpc.cidr,
    "cidr-block-association.state": lambda vpc: _ASSOCIATED,
    "dhcp-options-id": lambda vpc: _DHCP_OPTIONS,
    "dhcpOptionsId": lambda vpc: _DHCP_OPTIONS,
    "instance-tenancy": lambda vpc: "default",
    "ipv6-cidr-block-association.association-id": lambda vpc: None,
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda vpc: None,
    "ipv6-cidr-block-association.ipv6-pool": lambda vpc: None,
    "ipv6-cidr-block-association.state": lambda vpc: None,
    "is-default": lambda vpc: vpc.default_of is not None,
    "isDefault": lambda vpc: vpc.default_of is not None,  # Terraform's data source spells it so
    "owner-id": lambda vpc: vpc.account,
    "state": lambda vpc: _AVAILABLE,
    "vpc-id": lambda vpc: vpc.id,
}


class DescribeVpcsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    vpc_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpcs(call: Call, request: DescribeVpcsRequest) -> dict[str, object]:
    check_page(request.max_results, request.vpc_ids, ids_parameter="vpcSet")
    matches = matcher(request.filters, _VPC_FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, Vpc, request.vpc_ids, matches, request.max_results, request.next_token)
    )
    return listing("Vpcs", [_vpc(vpc) for vpc in page.items], page.next_token)


def _vpc(vpc: Vpc) -> dict[str, object]:
    return {
        "VpcId": vpc.id,
        "OwnerId": vpc.account,
        "State": _AVAILABLE,
        "CidrBlock": vpc.cidr,
        "CidrBlockAssociationSet": [
            {
                "AssociationId": _association(vpc),
                "CidrBlock": vpc.cidr,
                "CidrBlockState": {"State": _ASSOCIATED},
            }
        ],
        "DhcpOptionsId": _DHCP_OPTIONS,
        "InstanceTenancy": "default",
        "IsDefault": vpc.default_of is not None,
        "Tags": shown(vpc.tags),
    }


class DescribeVpcAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    attribute: str | None = None
    vpc_id: str | None = None


# The answer's member and its value: DNS serves every VPC, and the usage metrics are not counted yet.
_ATTRIBUTES: Mapping[str, tuple[str, bool]] = {
    "enableDnsSupport": ("EnableDnsSupport", True),
    "enableDnsHostnames": ("EnableDnsHostnames", True),
    "enableNetworkAddressUsageMetrics": ("EnableNetworkAddressUsageMetrics", False),
}


async def describe_vpc_attribute(call: Call, request: DescribeVpcAttributeRequest) -> dict[str, object]:
    if request.vpc_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter vpcId")
    if request.attribute is None:
        raise Refused("MissingParameter", "The request must contain the parameter attribute")
    if request.attribute not in _ATTRIBUTES:
        raise Refused(
            "InvalidParameterValue", f"Value ({request.attribute}) for parameter attribute is invalid. Unknown attribute."
        )
    vpc_id = request.vpc_id
    vpc = call.store.read(lambda reader: owned(reader, call, Vpc, vpc_id))
    member, value = _ATTRIBUTES[request.attribute]
    return {"VpcId": vpc.id, member: {"Value": value}}


class _Seen(msgspec.Struct, frozen=True):
    """A subnet with what is counted apart from it."""

    subnet: Subnet
    addresses_free: int

    @property
    def tags(self) -> Mapping[str, str]:
        return self.subnet.tags


_SUBNET_FILTERS: Filters[_Seen] = {
    "availability-zone": lambda seen: seen.subnet.zone,
    "availabilityZone": lambda seen: seen.subnet.zone,
    "availability-zone-id": lambda seen: zone_id(seen.subnet.zone),
    "availabilityZoneId": lambda seen: zone_id(seen.subnet.zone),
    "available-ip-address-count": lambda seen: seen.addresses_free,
    "cidr": lambda seen: seen.subnet.cidr,
    "cidr-block": lambda seen: seen.subnet.cidr,
    "cidrBlock": lambda seen: seen.subnet.cidr,
    "customer-owned-ipv4-pool": lambda seen: None,
    "default-for-az": lambda seen: seen.subnet.default_for_zone,
    "defaultForAz": lambda seen: seen.subnet.default_for_zone,
    "enable-dns64": lambda seen: False,
    "enable-lni-at-device-index": lambda seen: None,
    "ipv6-cidr-block-association.association-id": lambda seen: None,
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda seen: None,
    "ipv6-cidr-block-association.state": lambda seen: None,
    "ipv6-native": lambda seen: False,
    "map-customer-owned-ip-on-launch": lambda seen: False,
    "map-public-ip-on-launch": lambda seen: seen.subnet.map_public_ip,
    "mapPublicIpOnLaunch": lambda seen: seen.subnet.map_public_ip,
    "outpost-arn": lambda seen: None,
    "owner-id": lambda seen: seen.subnet.account,
    "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": lambda seen: False,
    "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": lambda seen: False,
    "private-dns-name-options-on-launch.hostname-type": lambda seen: "ip-name",
    "state": lambda seen: _AVAILABLE,
    "subnet-arn": lambda seen: _arn(seen.subnet),
    "subnet-id": lambda seen: seen.subnet.id,
    "vpc-id": lambda seen: seen.subnet.vpc_id,
}


class DescribeSubnetsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_subnets(call: Call, request: DescribeSubnetsRequest) -> dict[str, object]:
    check_page(request.max_results, request.subnet_ids, ids_parameter="subnetSet")
    matches = matcher(request.filters, _SUBNET_FILTERS)

    def body(reader: Reader) -> dict[str, object]:
        page = page_of_own(
            reader,
            call,
            Subnet,
            request.subnet_ids,
            lambda subnet: matches(_seen(reader, subnet)),
            request.max_results,
            request.next_token,
        )
        return listing("Subnets", [_subnet(_seen(reader, subnet)) for subnet in page.items], page.next_token)

    return call.store.read(body)


def _seen(reader: Reader, subnet: Subnet) -> _Seen:
    pool = reader.find(AddressPool, subnet.id)
    return _Seen(subnet, pool.size - pool.used if pool is not None else 0)


def _arn(subnet: Subnet) -> str:
    return f"arn:aws:ec2:{subnet.region}:{subnet.account}:subnet/{subnet.id}"


def _subnet(seen: _Seen) -> dict[str, object]:
    subnet = seen.subnet
    return {
        "SubnetId": subnet.id,
        "SubnetArn": _arn(subnet),
        "OwnerId": subnet.account,
        "VpcId": subnet.vpc_id,
        "State": _AVAILABLE,
        "CidrBlock": subnet.cidr,
        "Ipv6CidrBlockAssociationSet": [],
        "AvailableIpAddressCount": seen.addresses_free,
        "AvailabilityZone": subnet.zone,
        "AvailabilityZoneId": zone_id(subnet.zone),
        "DefaultForAz": subnet.default_for_zone,
        "MapPublicIpOnLaunch": subnet.map_public_ip,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "EnableDns64": False,
        "Ipv6Native": False,
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "Tags": shown(subnet.tags),
    }


OPERATIONS: Mapping[str, Operation] = {
    "DescribeSubnets": Operation(DescribeSubnetsRequest, describe_subnets),
    "DescribeVpcAttribute": Operation(DescribeVpcAttributeRequest, describe_vpc_attribute),
    "DescribeVpcs": Operation(DescribeVpcsRequest, describe_vpcs),
}
