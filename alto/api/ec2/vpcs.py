"""VPCs: create, describe, modify, delete, and the default one.

Not here: further ranges (`vpc_ranges.py`), subnets (`subnets.py`), what a new VPC comes with (`plan/vpcs.py`), and what a
host makes of it. Invariant: a VPC has exactly one main route table, default ACL and default group, which go with it.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import default_vpc, draw_id, draw_ids, make_default_vpc, region_key, vni_for
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.model.accounts import AccountRegion
from alto.model.acls import NetworkAcl
from alto.model.errors import Refused
from alto.model.networks import CidrAssociation, FormerRange, NetworkInterface, SecurityGroup, SecurityGroupVpc, Subnet, Vpc
from alto.model.records import Record
from alto.model.routing import (
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    PeeringState,
    RouteTable,
    VpcEndpoint,
    VpcPeering,
)
from alto.plan.peerings import peering_state
from alto.plan.ranges import AMAZON_DIGITS, amazon_v6, vpc_range
from alto.plan.vpcs import DEFAULT_VPC_IDS, SUBNET_IDS, VPC_IDS, Ids, vpc_parts
from alto.store.store import Tx

AVAILABLE, PENDING = "available", "pending"
ASSOCIATED, ASSOCIATING, DISASSOCIATING, DISASSOCIATED = "associated", "associating", "disassociating", "disassociated"
# What EC2 shows of a VPC that has no set of DHCP options.
NO_DHCP_OPTIONS = "default"
AMAZONS_POOL = "Amazon"
# There is no VPC Block Public Access here, which is how EC2 shows a region that has not turned it on.
PUBLIC_ACCESS = {"InternetGatewayBlockMode": "off"}
TENANCIES = ("default", "dedicated", "host")


def primary_association(vpc: Vpc) -> CidrAssociation:
    return CidrAssociation(id="vpc-cidr-assoc-" + vpc.id.partition("-")[2], cidr=vpc.cidr)


def associations(vpc: Vpc) -> tuple[CidrAssociation, ...]:
    """Of its IPv4 ranges, the primary one first, former ones last."""
    return (primary_association(vpc), *vpc.secondary, *(each for each in vpc.former if ":" not in each.cidr))


def associations_v6(vpc: Vpc) -> tuple[CidrAssociation, ...]:
    """Former ones last."""
    return (*vpc.ipv6, *(each for each in vpc.former if ":" in each.cidr))


def state_of(each: CidrAssociation) -> str:
    return DISASSOCIATED if isinstance(each, FormerRange) else ASSOCIATED


def _dhcp_options(vpc: Vpc) -> str:
    return vpc.dhcp_options_id or NO_DHCP_OPTIONS


_VPC_FILTERS: Filters[Vpc] = {
    "cidr": lambda vpc: vpc.cidr,
    "cidr-block": lambda vpc: vpc.cidr,
    "cidrBlock": lambda vpc: vpc.cidr,
    "cidr-block-association.association-id": lambda vpc: [each.id for each in associations(vpc)],
    "cidr-block-association.cidr-block": lambda vpc: [each.cidr for each in associations(vpc)],
    "cidr-block-association.state": lambda vpc: [state_of(each) for each in associations(vpc)],
    "dhcp-options-id": _dhcp_options,
    "dhcpOptionsId": _dhcp_options,
    "instance-tenancy": lambda vpc: vpc.tenancy,
    "ipv6-cidr-block-association.association-id": lambda vpc: [each.id for each in associations_v6(vpc)],
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda vpc: [each.cidr for each in associations_v6(vpc)],
    "ipv6-cidr-block-association.ipv6-pool": lambda vpc: AMAZONS_POOL if associations_v6(vpc) else None,
    "ipv6-cidr-block-association.state": lambda vpc: [state_of(each) for each in associations_v6(vpc)],
    "is-default": lambda vpc: vpc.default_of is not None,
    "isDefault": lambda vpc: vpc.default_of is not None,  # Terraform's data source spells it so
    "owner-id": lambda vpc: vpc.account,
    "state": lambda vpc: AVAILABLE,
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
    return listing("Vpcs", [_shown(vpc) for vpc in page.items], page.next_token)


def _shown(vpc: Vpc, state: str = AVAILABLE) -> dict[str, object]:
    return {
        "VpcId": vpc.id,
        "OwnerId": vpc.account,
        "State": state,
        "CidrBlock": vpc.cidr,
        "CidrBlockAssociationSet": [shown_association(each, state_of(each)) for each in associations(vpc)],
        "Ipv6CidrBlockAssociationSet": [
            shown_association_v6(vpc, each, state_of(each) if state == AVAILABLE else ASSOCIATING)
            for each in associations_v6(vpc)
        ],
        "DhcpOptionsId": _dhcp_options(vpc),
        "InstanceTenancy": vpc.tenancy,
        "IsDefault": vpc.default_of is not None,
        "BlockPublicAccessStates": PUBLIC_ACCESS,
        "Tags": shown(vpc.tags),
    }


def shown_association(each: CidrAssociation, state: str) -> dict[str, object]:
    return {"AssociationId": each.id, "CidrBlock": each.cidr, "CidrBlockState": {"State": state}}


def shown_association_v6(vpc: Vpc, each: CidrAssociation, state: str) -> dict[str, object]:
    return {
        "AssociationId": each.id,
        "Ipv6CidrBlock": each.cidr,
        "Ipv6CidrBlockState": {"State": state},
        "NetworkBorderGroup": vpc.region,
        "Ipv6Pool": AMAZONS_POOL,
        "Ipv6AddressAttribute": "public",
        "IpSource": "amazon",
    }


class CreateVpcRequest(msgspec.Struct, frozen=True, rename="pascal"):
    cidr_block: str | None = None
    instance_tenancy: str = "default"
    amazon_provided_ipv6_cidr_block: bool = False
    ipv6_cidr_block_network_border_group: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_vpc(call: Call, request: CreateVpcRequest) -> dict[str, object]:
    if request.cidr_block is None:
        raise Refused("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided.")
    network = vpc_range(request.cidr_block)
    _check_tenancy(request.instance_tenancy)
    check_border_group(call, request.ipv6_cidr_block_network_border_group)
    tags = tags_for(request.tag_specifications, "vpc")["vpc"]
    digits = draw_ids(call.world.chance, VPC_IDS)
    provided: tuple[CidrAssociation, ...] = ()
    if request.amazon_provided_ipv6_cidr_block:
        provided = (draw_amazon_v6(call),)

    def body(tx: Tx) -> Vpc:
        ids = Ids(digits)
        id = ids("vpc")
        vpc = tx.put(
            Vpc(
                id=id,
                account=call.account,
                region=call.region,
                cidr=str(network),
                vni=vni_for(tx, id),
                ipv6=provided,
                tenancy=request.instance_tenancy,
                dhcp_options_id=tx.get(AccountRegion, region_key(call.account, call.region)).dhcp_options_id,
                dns_hostnames=False,
                tags=tags,
            )
        )
        parts = vpc_parts(vpc, ids)
        for part in (parts.main, parts.acl, parts.group):
            tx.put(part)
        return vpc

    return {"Vpc": _shown(await call.store.write(body), PENDING)}


def draw_amazon_v6(call: Call) -> CidrAssociation:
    chance = call.world.chance
    return CidrAssociation(id=draw_id(chance, "vpc-cidr-assoc"), cidr=str(amazon_v6(chance.hex(AMAZON_DIGITS))))


def check_border_group(call: Call, name: str | None) -> None:
    if name is not None and name != call.region:
        raise Refused("InvalidParameterValue", f"Invalid value '{name[:80]}' for NetworkBorderGroup: it is {call.region} here")


def _check_tenancy(tenancy: str) -> None:
    if tenancy not in TENANCIES:
        raise Refused(
            "InvalidParameterValue",
            f"Value ({tenancy[:80]}) for parameter instanceTenancy is invalid. Valid values: {', '.join(TENANCIES)}",
        )
    if tenancy == "host":
        raise Refused("InvalidParameterValue", "The tenancy of a VPC is 'default' or 'dedicated'; 'host' is an instance's")


class VpcIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str


async def delete_vpc(call: Call, request: VpcIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        tables = tx.where(RouteTable, vpc_id=vpc.id)
        acls = tx.where(NetworkAcl, vpc_id=vpc.id)
        groups = tx.where(SecurityGroup, vpc_id=vpc.id)
        peerings = [*tx.where(VpcPeering, vpc_id=vpc.id), *tx.where(VpcPeering, accepter_vpc_id=vpc.id)]
        waiting = [one for one in peerings if peering_state(one, now) is PeeringState.PENDING]
        if (
            # One of each is its own and goes with it.
            max(len(tables), len(acls), len(groups)) > 1
            or any(tx.where(kind, vpc_id=vpc.id, limit=1) for kind in _INSIDE)
            or any(one.holds for one in tx.where(NatGateway, vpc_id=vpc.id))
            or any(one.state is PeeringState.ACTIVE for one in peerings)
            # What another account asks of it is to be answered first ("Delete a VPC peering connection").
            or any(one.account != call.account for one in waiting)
        ):
            raise Refused("DependencyViolation", f"The vpc '{vpc.id}' has dependencies and cannot be deleted.")
        for peering in waiting:
            tx.put(replace(peering, state=PeeringState.DELETED, message=call.account, ended_at=now))
        for own in (*tables, *acls, *groups, *tx.where(SecurityGroupVpc, vpc_id=vpc.id), vpc):
            tx.delete(type(own), own.id)

    now = call.world.clock.now()
    await call.store.write(body)
    return {}


_INSIDE: tuple[type[Record], ...] = (
    Subnet,
    NetworkInterface,
    InternetGateway,
    EgressOnlyInternetGateway,
    VpcEndpoint,
)


class DescribeVpcAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    attribute: str | None = None
    vpc_id: str | None = None


# The answer's member and its value. Usage metrics are remembered for tools that compare; they come with CloudWatch.
_ATTRIBUTES: Mapping[str, tuple[str, Callable[[Vpc], bool]]] = {
    "enableDnsSupport": ("EnableDnsSupport", lambda vpc: vpc.dns_support),
    "enableDnsHostnames": ("EnableDnsHostnames", lambda vpc: vpc.dns_hostnames),
    "enableNetworkAddressUsageMetrics": ("EnableNetworkAddressUsageMetrics", lambda vpc: vpc.usage_metrics),
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
    return {"VpcId": vpc.id, member: {"Value": value(vpc)}}


class BooleanValue(msgspec.Struct, frozen=True, rename="pascal"):
    value: bool | None = None


class ModifyVpcAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    enable_dns_support: BooleanValue = BooleanValue()
    enable_dns_hostnames: BooleanValue = BooleanValue()
    enable_network_address_usage_metrics: BooleanValue = BooleanValue()


async def modify_vpc_attribute(call: Call, request: ModifyVpcAttributeRequest) -> dict[str, object]:
    changes = {
        name: each.value
        for name, each in (
            ("dns_support", request.enable_dns_support),
            ("dns_hostnames", request.enable_dns_hostnames),
            ("usage_metrics", request.enable_network_address_usage_metrics),
        )
        if each.value is not None
    }
    if len(changes) != 1:
        raise Refused(
            "InvalidParameterCombination" if changes else "MissingParameter",
            "The request must contain exactly one of enableDnsSupport, enableDnsHostnames and enableNetworkAddressUsageMetrics",
        )

    def body(tx: Tx) -> None:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if changes.get("dns_hostnames") and not vpc.dns_support:
            raise Refused("InvalidParameterCombination", "DNS hostnames need DNS support: enable enableDnsSupport first")
        tx.put(replace(vpc, **changes))

    await call.store.write(body)
    return {}


class ModifyVpcTenancyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    instance_tenancy: str


async def modify_vpc_tenancy(call: Call, request: ModifyVpcTenancyRequest) -> dict[str, object]:
    if request.instance_tenancy != "default":
        raise Refused("UnsupportedTenancy", f"The tenancy value {request.instance_tenancy[:80]} is not supported.")

    def body(tx: Tx) -> None:
        tx.put(replace(owned(tx, call, Vpc, request.vpc_id), tenancy="default"))

    await call.store.write(body)
    return {"ReturnValue": True}


class CreateDefaultVpcRequest(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def create_default_vpc(call: Call, request: CreateDefaultVpcRequest) -> dict[str, object]:
    zones = call.settings.zones(call.region)
    digits = draw_ids(call.world.chance, DEFAULT_VPC_IDS + SUBNET_IDS * len(zones))

    def body(tx: Tx) -> Vpc:
        if default_vpc(tx, call.account, call.region) is not None:
            raise Refused("DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region.")
        options = tx.get(AccountRegion, region_key(call.account, call.region)).dhcp_options_id
        return make_default_vpc(tx, Ids(digits), call.account, call.region, zones, options)

    return {"Vpc": _shown(await call.store.write(body), PENDING)}


# EC2-Classic is gone, and a VPC's link to it with it: nothing was ever linked here.
_CLASSIC_FILTERS: Filters[Vpc] = {"is-classic-link-enabled": lambda vpc: False}


class DescribeVpcClassicLinkRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


async def describe_vpc_classic_link(call: Call, request: DescribeVpcClassicLinkRequest) -> dict[str, object]:
    matches = matcher(request.filters, _CLASSIC_FILTERS)
    page = call.store.read(lambda reader: page_of_own(reader, call, Vpc, request.vpc_ids, matches, None, None))
    return {"Vpcs": [{"VpcId": vpc.id, "ClassicLinkEnabled": False, "Tags": shown(vpc.tags)} for vpc in page.items]}


class DescribeVpcClassicLinkDnsSupportRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_classic_link_dns_support(
    call: Call, request: DescribeVpcClassicLinkDnsSupportRequest
) -> dict[str, object]:
    check_page(request.max_results, request.vpc_ids, ids_parameter="vpcIds", high=255)
    page = call.store.read(
        lambda reader: page_of_own(
            reader, call, Vpc, request.vpc_ids, lambda vpc: True, request.max_results, request.next_token
        )
    )
    return listing("Vpcs", [{"VpcId": vpc.id, "ClassicLinkDnsSupported": False} for vpc in page.items], page.next_token)


OPERATIONS: Mapping[str, Operation] = {
    "CreateDefaultVpc": Operation(CreateDefaultVpcRequest, create_default_vpc),
    "CreateVpc": Operation(CreateVpcRequest, create_vpc),
    "DeleteVpc": Operation(VpcIdRequest, delete_vpc),
    "DescribeVpcAttribute": Operation(DescribeVpcAttributeRequest, describe_vpc_attribute),
    "DescribeVpcClassicLink": Operation(DescribeVpcClassicLinkRequest, describe_vpc_classic_link),
    "DescribeVpcClassicLinkDnsSupport": Operation(
        DescribeVpcClassicLinkDnsSupportRequest, describe_vpc_classic_link_dns_support
    ),
    "DescribeVpcs": Operation(DescribeVpcsRequest, describe_vpcs),
    "ModifyVpcAttribute": Operation(ModifyVpcAttributeRequest, modify_vpc_attribute),
    "ModifyVpcTenancy": Operation(ModifyVpcTenancyRequest, modify_vpc_tenancy),
}
