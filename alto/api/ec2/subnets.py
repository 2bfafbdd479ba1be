"""Subnets: create, describe, modify, delete, and the default ones.

Not here: their IPv6 ranges (`vpc_ranges.py`), and which address comes next (`plan/addresses.py`). Invariant: ranges of one
VPC's subnets never meet, and each subnet has a pool of addresses under its own id and a place in one network ACL.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import default_vpc, draw_id, draw_ids
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned, page_of_own
from alto.api.ec2.launch_options import PrivateDnsNameOptions, chosen_naming
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.regions import zone_id
from alto.api.ec2.shapes import hostname_type, naming_shape
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.vpcs import ASSOCIATING, AVAILABLE, PUBLIC_ACCESS, BooleanValue, state_of
from alto.model.acls import NetworkAcl
from alto.model.errors import Refused
from alto.model.networks import AddressPool, CidrAssociation, Naming, Subnet, Vpc
from alto.model.routing import NatGateway, RouteTable
from alto.plan.ranges import free_range, subnet_range, subnet_range_v6
from alto.plan.vpcs import DEFAULT_SUBNET_PREFIX, SUBNET_IDS, Ids, default_subnet, ranges, ranges_v6, subnet_parts
from alto.store.store import Reader, Tx

SUBNETS_MAX = 200  # "Amazon VPC quotas": in a VPC


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
    "ipv6-cidr-block-association.association-id": lambda seen: [each.id for each in _associations(seen)],
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda seen: [each.cidr for each in _associations(seen)],
    "ipv6-cidr-block-association.state": lambda seen: [state_of(each) for each in _associations(seen)],
    "ipv6-native": lambda seen: False,
    "map-customer-owned-ip-on-launch": lambda seen: False,
    "map-public-ip-on-launch": lambda seen: seen.subnet.map_public_ip,
    "mapPublicIpOnLaunch": lambda seen: seen.subnet.map_public_ip,
    "outpost-arn": lambda seen: None,
    "owner-id": lambda seen: seen.subnet.account,
    "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": lambda seen: _naming(seen).a_record,
    "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": lambda seen: _naming(seen).aaaa_record,
    "private-dns-name-options-on-launch.hostname-type": lambda seen: hostname_type(seen.subnet.naming),
    "state": lambda seen: AVAILABLE,
    "subnet-arn": lambda seen: _arn(seen.subnet),
    "subnet-id": lambda seen: seen.subnet.id,
    "vpc-id": lambda seen: seen.subnet.vpc_id,
    "vpcId": lambda seen: seen.subnet.vpc_id,
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
        return listing("Subnets", [_shown(_seen(reader, subnet)) for subnet in page.items], page.next_token)

    return call.store.read(body)


def _seen(reader: Reader, subnet: Subnet) -> _Seen:
    pool = reader.find(AddressPool, subnet.id)
    return _Seen(subnet, pool.size - pool.used if pool is not None else 0)


def _associations(seen: _Seen) -> tuple[CidrAssociation, ...]:
    """Former ones last."""
    return (*seen.subnet.ipv6, *seen.subnet.former)


def _naming(seen: _Seen) -> Naming:
    return seen.subnet.naming or Naming()


def _arn(subnet: Subnet) -> str:
    return f"arn:aws:ec2:{subnet.region}:{subnet.account}:subnet/{subnet.id}"


def _shown(seen: _Seen, ipv6_state: str | None = None) -> dict[str, object]:
    subnet = seen.subnet
    return {
        "SubnetId": subnet.id,
        "SubnetArn": _arn(subnet),
        "OwnerId": subnet.account,
        "VpcId": subnet.vpc_id,
        "State": AVAILABLE,
        "CidrBlock": subnet.cidr,
        "Ipv6CidrBlockAssociationSet": [
            shown_association_v6(each, ipv6_state or state_of(each)) for each in _associations(seen)
        ],
        "AvailableIpAddressCount": seen.addresses_free,
        "AvailabilityZone": subnet.zone,
        "AvailabilityZoneId": zone_id(subnet.zone),
        "DefaultForAz": subnet.default_for_zone,
        "MapPublicIpOnLaunch": subnet.map_public_ip,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": subnet.ipv6_on_creation,
        "EnableDns64": False,
        "Ipv6Native": False,
        "PrivateDnsNameOptionsOnLaunch": naming_shape(subnet.naming),
        "BlockPublicAccessStates": PUBLIC_ACCESS,
        "Tags": shown(subnet.tags),
    }


def shown_association_v6(each: CidrAssociation, state: str) -> dict[str, object]:
    return {
        "AssociationId": each.id,
        "Ipv6CidrBlock": each.cidr,
        "Ipv6CidrBlockState": {"State": state},
        "Ipv6AddressAttribute": "public",
        "IpSource": "amazon",
    }


class CreateSubnetRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    cidr_block: str | None = None
    ipv6_cidr_block: str | None = None
    availability_zone: str | None = None
    availability_zone_id: str | None = None
    ipv6_native: bool = False
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_subnet(call: Call, request: CreateSubnetRequest) -> dict[str, object]:
    if request.ipv6_native:
        raise Refused("UnsupportedOperation", "Subnets have IPv4 addresses here: Ipv6Native is not supported")
    if request.cidr_block is None:
        raise Refused("MissingParameter", "The request must contain the parameter cidrBlock")
    text, text_v6 = request.cidr_block, request.ipv6_cidr_block
    zone = _zone(call, request.availability_zone, request.availability_zone_id)
    tags = tags_for(request.tag_specifications, "subnet")["subnet"]
    digits, association_id = draw_ids(call.world.chance, SUBNET_IDS), draw_id(call.world.chance, "subnet-cidr-assoc")

    def body(tx: Tx) -> _Seen:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        others = tx.where(Subnet, vpc_id=vpc.id)
        network = subnet_range(text, ranges(vpc), [one.cidr for one in others])
        provided: tuple[CidrAssociation, ...] = ()
        if text_v6 is not None:
            network_v6 = subnet_range_v6(text_v6, ranges_v6(vpc), [each.cidr for one in others for each in one.ipv6])
            provided = (CidrAssociation(id=association_id, cidr=str(network_v6)),)
        ids = Ids(digits)
        subnet = Subnet(
            id=ids("subnet"),
            account=call.account,
            region=call.region,
            vpc_id=vpc.id,
            cidr=str(network),
            zone=zone,
            map_public_ip=False,
            ipv6=provided,
            tags=tags,
        )
        return _put(tx, subnet, ids("aclassoc"), others)

    return {"Subnet": _shown(await call.store.write(body), ASSOCIATING)}


def _zone(call: Call, name: str | None, id: str | None) -> str:
    zones = call.settings.zones(call.region)
    if name is None and id is None:
        return zones[0]
    if name is not None and id is not None:
        raise Refused(
            "InvalidParameterCombination", "The parameters availabilityZone and availabilityZoneId exclude each other"
        )
    for zone in zones:
        if zone == name or zone_id(zone) == id:
            return zone
    known = ", ".join(zones if name is not None else [zone_id(zone) for zone in zones])
    parameter = "availabilityZone" if name is not None else "availabilityZoneId"
    raise Refused(
        "InvalidParameterValue",
        f"Value ({(name or id or '')[:80]}) for parameter {parameter} is invalid. "
        f"Subnets can currently only be created in the following availability zones: {known}.",
    )


def _put(tx: Tx, subnet: Subnet, association_id: str, others: list[Subnet]) -> _Seen:
    """Write a new subnet with its pool and its place in the VPC's default ACL."""
    if len(others) >= SUBNETS_MAX:
        raise Refused("SubnetLimitExceeded", f"The maximum number of subnets of a VPC is {SUBNETS_MAX}.")
    parts = subnet_parts(subnet, association_id)
    made = tx.put(parts.subnet)
    tx.put(parts.pool)
    acl = next(one for one in tx.where(NetworkAcl, vpc_id=subnet.vpc_id) if one.default)
    tx.put(replace(acl, associations=(*acl.associations, parts.association)))
    return _Seen(made, parts.pool.size)


class SubnetIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    subnet_id: str


async def delete_subnet(call: Call, request: SubnetIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        subnet = owned(tx, call, Subnet, request.subnet_id)
        if tx.get(AddressPool, subnet.id).used or any(one.holds for one in tx.where(NatGateway, subnet_id=subnet.id)):
            raise Refused("DependencyViolation", f"The subnet '{subnet.id}' has dependencies and cannot be deleted.")
        for table in tx.where(RouteTable, vpc_id=subnet.vpc_id):
            kept = tuple(each for each in table.associations if each.subnet_id != subnet.id)
            if kept != table.associations:
                tx.put(replace(table, associations=kept))
        for acl in tx.where(NetworkAcl, vpc_id=subnet.vpc_id):
            in_acl = tuple(each for each in acl.associations if each.subnet_id != subnet.id)
            if in_acl != acl.associations:
                tx.put(replace(acl, associations=in_acl))
        tx.delete(AddressPool, subnet.id)
        tx.delete(Subnet, subnet.id)

    await call.store.write(body)
    return {}


class ModifySubnetAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    subnet_id: str
    map_public_ip_on_launch: BooleanValue = BooleanValue()
    assign_ipv6_address_on_creation: BooleanValue = BooleanValue()
    enable_dns64: BooleanValue = BooleanValue()
    enable_resource_name_dns_a_record_on_launch: BooleanValue = BooleanValue()
    enable_resource_name_dns_aaaa_record_on_launch: BooleanValue = msgspec.field(
        default=BooleanValue(), name="EnableResourceNameDnsAAAARecordOnLaunch"
    )
    private_dns_hostname_type_on_launch: str | None = None


async def modify_subnet_attribute(call: Call, request: ModifySubnetAttributeRequest) -> dict[str, object]:
    changes = {
        name: each.value
        for name, each in (
            ("map_public_ip", request.map_public_ip_on_launch),
            ("ipv6_on_creation", request.assign_ipv6_address_on_creation),
        )
        if each.value is not None
    }
    names = PrivateDnsNameOptions(
        hostname_type=request.private_dns_hostname_type_on_launch,
        enable_resource_name_dns_a_record=request.enable_resource_name_dns_a_record_on_launch.value,
        enable_resource_name_dns_aaaa_record=request.enable_resource_name_dns_aaaa_record_on_launch.value,
    )
    dns64 = request.enable_dns64.value
    asked = len(changes) + sum(each is not None for each in (*msgspec.structs.astuple(names), dns64))
    if asked != 1:
        raise Refused(
            "InvalidParameterCombination" if asked else "MissingParameter",
            "The request must contain exactly one attribute of the subnet to change",
        )
    if dns64:
        raise Refused("UnsupportedOperation", "The attribute enableDns64 of subnets is false here and does not change.")

    def body(tx: Tx) -> None:
        subnet = owned(tx, call, Subnet, request.subnet_id)
        if changes.get("ipv6_on_creation") and not subnet.ipv6:
            raise Refused(
                "InvalidParameterValue",
                "Invalid value 'true' for assign-ipv6-address-on-creation. Cannot set assign-ipv6-address-on-creation to true "
                f"unless the subnet ({subnet.id}) has an IPv6 CIDR block associated with it.",
            )
        tx.put(replace(subnet, naming=chosen_naming(names, subnet.naming), **changes))

    await call.store.write(body)
    return {}


class CreateDefaultSubnetRequest(msgspec.Struct, frozen=True, rename="pascal"):
    availability_zone: str | None = None
    availability_zone_id: str | None = None
    ipv6_native: bool = False


async def create_default_subnet(call: Call, request: CreateDefaultSubnetRequest) -> dict[str, object]:
    """The lowest range that is free: the one that a deleted default subnet had, when only that is missing."""
    if request.ipv6_native:
        raise Refused("UnsupportedOperation", "Subnets have IPv4 addresses here: Ipv6Native is not supported")
    if request.availability_zone is None and request.availability_zone_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter availabilityZone")
    zone = _zone(call, request.availability_zone, request.availability_zone_id)
    digits = draw_ids(call.world.chance, SUBNET_IDS)

    def body(tx: Tx) -> _Seen:
        vpc = default_vpc(tx, call.account, call.region)
        if vpc is None:
            raise Refused("DefaultVpcDoesNotExist", "No default VPC exists for this account in this region.")
        others = tx.where(Subnet, vpc_id=vpc.id)
        for one in others:
            if one.default_for_zone and one.zone == zone:
                raise Refused(
                    "DefaultSubnetAlreadyExistsInAvailabilityZone", f"'{one.id}' is already the default subnet in {zone}."
                )
        network = free_range([vpc.cidr], [one.cidr for one in others], DEFAULT_SUBNET_PREFIX)
        if network is None:
            raise Refused("InvalidSubnet.Conflict", f"No range of /{DEFAULT_SUBNET_PREFIX} is free in {vpc.cidr}")
        ids = Ids(digits)
        return _put(tx, default_subnet(vpc, zone, network, ids("subnet")), ids("aclassoc"), others)

    return {"Subnet": _shown(await call.store.write(body))}


OPERATIONS: Mapping[str, Operation] = {
    "CreateDefaultSubnet": Operation(CreateDefaultSubnetRequest, create_default_subnet),
    "CreateSubnet": Operation(CreateSubnetRequest, create_subnet),
    "DeleteSubnet": Operation(SubnetIdRequest, delete_subnet),
    "DescribeSubnets": Operation(DescribeSubnetsRequest, describe_subnets),
    "ModifySubnetAttribute": Operation(ModifySubnetAttributeRequest, modify_subnet_attribute),
}
