"""What comes with a new VPC and a new subnet, as records to be written. Pure: ids come out of digits drawn beforehand.

"Default VPC components", "Default security groups" and "Default network ACL" in the VPC user guide.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network

import msgspec
from msgspec.structs import replace

from alto.model.acls import AclAssociation, AclEntry, NetworkAcl
from alto.model.network_plans import VNI_FROM, VNI_TO
from alto.model.networks import (
    AddressPool,
    CidrAssociation,
    FormerRange,
    Permission,
    SecurityGroup,
    Subnet,
    Vpc,
    internal_domain,
)
from alto.model.records import ID_DIGITS
from alto.model.routing import DhcpOptions, InternetGateway, Route, RouteTable, RouteTableAssociation, Target
from alto.plan.addresses import assignable

DEFAULT_RANGE = IPv4Network("172.31.0.0/16")
DEFAULT_SUBNET_PREFIX = 20
EVERYWHERE, EVERYWHERE_V6 = "0.0.0.0/0", "::/0"

# How many ids each takes.
VPC_IDS = 8
DEFAULT_VPC_IDS = VPC_IDS + 1
SUBNET_IDS = 2
OUTWARD_IDS = 2
FORMER_MAX = 10  # so that a row stays small, whoever changes a range over and over


class Ids:
    """Ids out of digits from chance. A transaction's body makes its own each time it runs, so that it makes the same ones."""

    def __init__(self, digits: str) -> None:
        self._digits = digits

    def __call__(self, prefix: str) -> str:
        """ "vpc" -> "vpc-0123456789abcdef0" """
        assert len(self._digits) >= ID_DIGITS, "too few digits were drawn"
        id, self._digits = self._digits[:ID_DIGITS], self._digits[ID_DIGITS:]
        return f"{prefix}-{id}"


class VpcParts(msgspec.Struct, frozen=True, kw_only=True):
    """What every VPC has from its first moment and until its last."""

    main: RouteTable
    acl: NetworkAcl
    group: SecurityGroup


def vpc_parts(vpc: Vpc, ids: Ids) -> VpcParts:
    return VpcParts(
        main=RouteTable(
            id=ids("rtb"),
            account=vpc.account,
            region=vpc.region,
            vpc_id=vpc.id,
            routes=local_routes(vpc),
            associations=(RouteTableAssociation(id=ids("rtbassoc")),),
        ),
        acl=NetworkAcl(
            id=ids("acl"), account=vpc.account, region=vpc.region, vpc_id=vpc.id, default=True, entries=open_entries(vpc)
        ),
        group=_default_group(vpc, ids),
    )


def free_vni(vpc_id: str, is_taken: Callable[[int], bool]) -> int:
    """A number for the VPC's VXLAN: by its id, so that no more chance is needed for it."""
    count = VNI_TO - VNI_FROM + 1
    number = int.from_bytes(hashlib.blake2s(vpc_id.encode()).digest()) % count
    while is_taken(VNI_FROM + number):
        number = (number + 1) % count
    return VNI_FROM + number


def local_routes(vpc: Vpc) -> tuple[Route, ...]:
    """Those that every table of the VPC begins with."""
    return tuple(local_route(cidr) for cidr in (*ranges(vpc), *ranges_v6(vpc)))


def local_route(cidr: str) -> Route:
    return Route(destination=cidr, target=Target.LOCAL, target_id="local", origin="CreateRouteTable")


def ranges(vpc: Vpc) -> tuple[str, ...]:
    """Its IPv4 ranges, the primary one first."""
    return (vpc.cidr, *(each.cidr for each in vpc.secondary))


def ranges_v6(vpc: Vpc) -> tuple[str, ...]:
    return tuple(each.cidr for each in vpc.ipv6)


def with_former(former: Sequence[FormerRange], gone: CidrAssociation, now: float) -> tuple[FormerRange, ...]:
    """The newest first."""
    return (FormerRange(id=gone.id, cidr=gone.cidr, ended_at=now), *former[: FORMER_MAX - 1])


def open_entries(vpc: Vpc) -> tuple[AclEntry, ...]:
    """Everything both ways, as the default ACL begins."""
    entries = [AclEntry(number=100, egress=egress, allow=True, protocol="-1", cidr=EVERYWHERE) for egress in (True, False)]
    return (*entries, *(open_entries_v6() if vpc.ipv6 else ()))


def open_entries_v6() -> tuple[AclEntry, ...]:
    return tuple(
        AclEntry(number=101, egress=egress, allow=True, protocol="-1", cidr_v6=EVERYWHERE_V6) for egress in (True, False)
    )


def _default_group(vpc: Vpc, ids: Ids) -> SecurityGroup:
    """In: everything from members of the group itself. Out: everything."""
    id = ids("sg")
    inside = Permission(id=ids("sgr"), egress=False, protocol="-1", from_port=-1, to_port=-1, group_id=id)
    return SecurityGroup(
        id=id,
        account=vpc.account,
        region=vpc.region,
        vpc_id=vpc.id,
        name="default",
        description="default VPC security group",
        permissions=(inside, *outward(vpc, ids)),
    )


def outward(vpc: Vpc, ids: Ids) -> tuple[Permission, ...]:
    """What every group begins with: everything out, by IPv6 too when the VPC has it. Takes OUTWARD_IDS."""
    everything = Permission(id=ids("sgr"), egress=True, protocol="-1", from_port=-1, to_port=-1, cidr=EVERYWHERE)
    if not vpc.ipv6:
        return (everything,)
    return everything, replace(everything, id=ids("sgr"), cidr=None, cidr_v6=EVERYWHERE_V6)


def with_outward_v6(group: SecurityGroup, salt: str) -> SecurityGroup:
    """What a group gets when its VPC gets IPv6: the same as new ones, unless somebody changed its rules for what goes out
    ("Security group rules", VPC user guide). The rule's id is as much by chance as `salt`."""
    out = [rule for rule in group.permissions if rule.egress]
    if len(out) != 1 or (out[0].protocol, out[0].cidr) != ("-1", EVERYWHERE):
        return group
    id = "sgr-" + hashlib.sha256(f"{salt} {group.id}".encode()).hexdigest()[:ID_DIGITS]
    added = replace(out[0], id=id, cidr=None, cidr_v6=EVERYWHERE_V6, tags={})
    return replace(group, permissions=(*group.permissions, added))


def with_internet(table: RouteTable, gateway: InternetGateway) -> RouteTable:
    """The main table of a default VPC."""
    way_out = Route(destination=EVERYWHERE, target=Target.INTERNET, target_id=gateway.id)
    return replace(table, routes=(*table.routes, way_out))


def amazon_dhcp(id: str, account: str, region: str) -> DhcpOptions:
    return DhcpOptions(
        id=id,
        account=account,
        region=region,
        settings={"domain-name": (internal_domain(region),), "domain-name-servers": ("AmazonProvidedDNS",)},
    )


class SubnetParts(msgspec.Struct, frozen=True, kw_only=True):
    subnet: Subnet
    pool: AddressPool
    association: AclAssociation  # of the VPC's default ACL


def subnet_parts(subnet: Subnet, association_id: str) -> SubnetParts:
    pool = AddressPool(id=subnet.id, cidr=subnet.cidr, size=assignable(IPv4Network(subnet.cidr)), in_turn=True)
    return SubnetParts(subnet=subnet, pool=pool, association=AclAssociation(id=association_id, subnet_id=subnet.id))


def default_subnets(vpc: Vpc, zones: Sequence[str], ids: Ids) -> Iterator[SubnetParts]:
    """One of /20 in each zone."""
    for zone, network in zip(zones, IPv4Network(vpc.cidr).subnets(new_prefix=DEFAULT_SUBNET_PREFIX), strict=False):
        yield subnet_parts(default_subnet(vpc, zone, network, ids("subnet")), ids("aclassoc"))


def default_subnet(vpc: Vpc, zone: str, network: IPv4Network, id: str) -> Subnet:
    """Where everything gets a public address."""
    return Subnet(
        id=id,
        account=vpc.account,
        region=vpc.region,
        vpc_id=vpc.id,
        cidr=str(network),
        zone=zone,
        default_for_zone=True,
        map_public_ip=True,
    )
