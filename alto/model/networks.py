"""Networks as EC2 has them: Vpc, Subnet, SecurityGroup, NetworkInterface, and the claim on every address given out."""

from ipaddress import IPv4Network
from typing import ClassVar

import msgspec

from alto.model.records import NumberOf, Record, Tags, number_of, number_of_address

NAT_GATEWAY, VPC_ENDPOINT = "nat_gateway", "vpc_endpoint"  # services that make interfaces for themselves
ENDPOINT_PORT = 80  # where an interface endpoint takes connections, of HTTP
METADATA_ADDRESS = "169.254.169.254"
METADATA_ADDRESS_V6 = "fd00:ec2::254"
MACHINE_ADDRESS = "169.254.169.252"  # who a guest sees when a connection came to its public address
MACHINE_ADDRESS_V6 = "fd00:ec2::252"  # and when one came to its address of IPv6; Amazon's own range, which no guest may use
UPLINK_DEVICE = "up0"  # a VPC's way out of its namespace


class CidrAssociation(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # "vpc-cidr-assoc-..." or "subnet-cidr-assoc-..."
    cidr: str


class FormerRange(CidrAssociation, frozen=True, kw_only=True):
    """A range that was disassociated: EC2 goes on listing it for a while, and clients wait until they see it so."""

    ended_at: float


class Vpc(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "vpc"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("default_of",), ("vni",))

    account: str
    region: str
    cidr: str
    vni: int | None = None  # of the VXLAN that joins its hosts, as soon as there are several
    secondary: tuple[CidrAssociation, ...] = ()  # further IPv4 ranges
    ipv6: tuple[CidrAssociation, ...] = ()
    former: tuple[FormerRange, ...] = ()  # of either kind, the newest first
    default_of: str | None = None  # "account/region" when it is the default VPC there
    tenancy: str = "default"
    dhcp_options_id: str | None = None  # None: Amazon's own set, "default"
    dns_support: bool = True
    dns_hostnames: bool = True  # the default VPC's; others begin without
    usage_metrics: bool = False
    tags: Tags = {}


class Naming(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance is called in its VPC ("Hostname types", EC2 user guide). Most have none of these, and are called after
    their address."""

    by_resource: bool = False  # its host name is of its id, and not of its address
    a_record: bool = False  # DNS knows the name of its id, and answers with its address
    aaaa_record: bool = False  # the same with its address of IPv6


class Subnet(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "subnet"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str
    cidr: str
    zone: str
    default_for_zone: bool = False
    map_public_ip: bool = True  # the default VPC's; others begin without
    ipv6: tuple[CidrAssociation, ...] = ()
    former: tuple[FormerRange, ...] = ()  # the newest first
    ipv6_on_creation: bool = False
    naming: Naming | None = None  # of instances launched here that say nothing else
    tags: Tags = {}


class AddressPool(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a subnet (same id) or the pool of public addresses ("public") has been given out.

    Apart from the subnet, so that a launch does not rewrite what people describe. Addresses are given in turn and come
    back late, so that a re-used one does not still belong to its old owner in somebody's cache.
    """

    KIND: ClassVar[str] = "address_pool"
    GUARDS: ClassVar[tuple[str, ...]] = ("used >= 0", "used <= size")

    cidr: str
    size: int  # how many can be given out
    used: int = 0
    secondary: int = 0  # so many of `used` are secondary addresses, which have claims of their own
    cursor: int = 0  # offset in `cidr` of the last one given
    in_turn: bool = False  # nobody chose one so far and no turn has ended: behind the cursor all are free


class SecondaryAddress(Record, frozen=True, kw_only=True):
    """A claim on a private address that is not an interface's primary one, or on one of IPv6: `id` is "VPC/ADDRESS". A claim of
    IPv4 also writes its subnet's AddressPool, so that of two at once one begins again."""

    KIND: ClassVar[str] = "secondary_address"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("interface_id",),)

    interface_id: str


def secondary_id(vpc_id: str, private_ip: str) -> str:
    return f"{vpc_id}/{private_ip}"


class PublicAddress(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A claim: `id` is the address itself, so that the primary key keeps it from being given twice."""

    KIND: ClassVar[str] = "public_address"
    NUMBER: ClassVar[NumberOf | None] = number_of_address

    account: str
    region: str
    owner_id: str  # an instance, or a load balancer
    elastic: bool = False


class PeerGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a rule's group is that is in another VPC, and the peering connection by which it may be named."""

    account: str
    vpc_id: str
    peering_id: str


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """One security group rule: one protocol, one port range, one peer (a range, a group or a prefix list).

    `protocol` is "tcp", "udp", "icmp", another protocol's number, or "-1" for all; ports are ICMP type and code for icmp,
    and -1 for all."""

    id: str  # "sgr-..."
    egress: bool
    protocol: str
    from_port: int
    to_port: int
    cidr: str | None = None
    group_id: str | None = None
    group_peer: PeerGroup | None = None  # None: the group and the rule's own have a VPC in common
    cidr_v6: str | None = None
    prefix_list_id: str | None = None
    description: str | None = None
    tags: Tags = {}


class SecurityGroup(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "security_group"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("vpc_id", "name"),)

    account: str
    region: str
    vpc_id: str
    name: str
    description: str
    permissions: tuple[Permission, ...] = ()
    tags: Tags = {}


class SecurityGroupVpc(Record, frozen=True, kw_only=True):
    """A group is in a second VPC of its account too: interfaces there may be in it. `id` is "GROUP/VPC"."""

    KIND: ClassVar[str] = "security_group_vpc"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("group_id",), ("vpc_id",))

    account: str
    region: str
    group_id: str
    vpc_id: str


def security_group_vpc_id(group_id: str, vpc_id: str) -> str:
    return f"{group_id}/{vpc_id}"


class PortAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A private address of an interface, and the public one that leads to it."""

    private_ip: str
    public_ip: str | None = None
    elastic: bool = False  # the public one is somebody's Address, and outlives this


class NetworkInterface(Record, frozen=True, kw_only=True, omit_defaults=True):
    KIND: ClassVar[str] = "network_interface"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("vpc_id", "private_ip"),)
    NUMBER: ClassVar[NumberOf | None] = number_of

    account: str
    region: str
    vpc_id: str
    subnet_id: str
    zone: str
    mac: str
    private_ip: str
    public_ip: str | None = None
    elastic: bool = False  # `public_ip` is somebody's Address
    automatic: bool = False  # gave its automatic public address up for an elastic one, and gets another when that leaves
    secondary: tuple[PortAddress, ...] = ()
    ipv6: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    source_dest_check: bool = True
    instance_id: str | None = None
    attachment_id: str | None = None
    attached_at: float | None = None
    device_index: int = 0
    delete_on_termination: bool = True
    description: str = ""
    requester: str | None = None  # the service that made it for itself, and which alone attaches or removes it
    created_at: float = 0.0
    tags: Tags = {}


def host_address(vpc_cidr: str) -> str:
    """Where connections come from that a host itself opens inside a VPC: balancers, health checks. EC2 reserves the first
    four addresses of a subnet, so that no guest ever has the VPC's base + 3."""
    return str(IPv4Network(vpc_cidr)[3])


def internal_domain(region: str) -> str:
    """Where an instance's private name ends ("Hostname types", EC2 user guide): the first region is an exception."""
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
