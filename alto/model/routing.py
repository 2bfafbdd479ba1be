"""Ways through and out of a VPC as EC2 has them: RouteTable, InternetGateway, EgressOnlyInternetGateway, NatGateway,
VpcEndpoint, VpcPeering, and DhcpOptions.

What a host is told of them is in `network_plans.py`.
"""

import enum
from typing import ClassVar

import msgspec

from alto.model.records import Record, Tags


class Target(enum.StrEnum):
    LOCAL = "local"
    INTERNET = "internet-gateway"
    EGRESS_ONLY = "egress-only-internet-gateway"
    NAT = "nat-gateway"
    INTERFACE = "network-interface"
    PEERING = "vpc-peering-connection"
    ENDPOINT = "vpc-endpoint"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`destination` is an IPv4 or IPv6 range, or a prefix list's id. A route whose target is gone stays, as a black hole."""

    destination: str
    target: Target
    target_id: str  # "local", or the gateway's, interface's or connection's id
    instance_id: str | None = None  # when it was made by naming an instance
    origin: str = "CreateRoute"


class RouteTableAssociation(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # "rtbassoc-..."
    subnet_id: str | None = None  # None: this table is the VPC's main one
    gateway_id: str | None = None


class RouteTable(Record, frozen=True, kw_only=True):
    """The local route of each of the VPC's ranges is among `routes`. A subnet that no table names uses the main one."""

    KIND: ClassVar[str] = "route_table"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str
    routes: tuple[Route, ...] = ()
    associations: tuple[RouteTableAssociation, ...] = ()
    tags: Tags = {}

    @property
    def main(self) -> bool:
        return any(one.subnet_id is None and one.gateway_id is None for one in self.associations)


class InternetGateway(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "internet_gateway"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str | None = None  # None: not attached
    tags: Tags = {}


class EgressOnlyInternetGateway(Record, frozen=True, kw_only=True):
    """IPv6, outwards. Belongs to its VPC for life."""

    KIND: ClassVar[str] = "egress_only_internet_gateway"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str
    tags: Tags = {}


class EndpointType(enum.StrEnum):
    """As EC2 writes it."""

    GATEWAY = "Gateway"
    INTERFACE = "Interface"


class EndpointInterface(msgspec.Struct, frozen=True, kw_only=True):
    """Where an interface endpoint is in a subnet: by a NetworkInterface of its own, requester-managed."""

    interface_id: str
    subnet_id: str
    zone: str
    private_ip: str


class VpcEndpoint(Record, frozen=True, kw_only=True):
    """The tables that a gateway endpoint is in say so themselves, by a route to the service's prefix list; an interface
    endpoint is where its `interfaces` are, each in all of `group_ids`."""

    KIND: ClassVar[str] = "vpc_endpoint"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",))

    account: str
    region: str
    vpc_id: str
    service_name: str
    type: EndpointType = EndpointType.GATEWAY
    policy: str  # JSON, as it was given
    interfaces: tuple[EndpointInterface, ...] = ()  # in the order of their subnets' coming
    group_ids: tuple[str, ...] = ()
    private_dns: bool = False  # the service's own name leads to it, in this VPC
    created_at: float
    tags: Tags = {}


class NatState(enum.StrEnum):
    PENDING = "pending"
    AVAILABLE = "available"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class NatAddress(msgspec.Struct, frozen=True, kw_only=True):
    private_ip: str
    allocation_id: str | None = None
    association_id: str | None = None
    public_ip: str | None = None


class NatGateway(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "nat_gateway"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("vpc_id",), ("subnet_id",))

    account: str
    region: str
    vpc_id: str
    subnet_id: str
    public: bool = True  # else it translates to its private address only
    interface_id: str  # its own NetworkInterface: requester-managed, in `subnet_id`; "" when it failed
    private_ip: str  # "" when it failed
    allocation_id: str | None = None
    association_id: str | None = None
    public_ip: str | None = None
    further: tuple[NatAddress, ...] = ()  # beside the primary address, which is the four fields above
    state: NatState = NatState.AVAILABLE
    failure: tuple[str, str] | None = None  # code and message
    created_at: float
    deleted_at: float | None = None
    tags: Tags = {}

    @property
    def holds(self) -> bool:
        """Whether it has an interface and addresses. Of one that failed or is deleted only the record is left."""
        return self.state not in (NatState.FAILED, NatState.DELETED)


class PeeringState(enum.StrEnum):
    PENDING = "pending-acceptance"
    ACTIVE = "active"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    DELETED = "deleted"


class VpcPeering(Record, frozen=True, kw_only=True):
    """Belongs to the requester; the accepter, another account perhaps, finds it by its own index."""

    KIND: ClassVar[str] = "vpc_peering"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("account", "region"),
        ("accepter_account", "accepter_region"),
        ("vpc_id",),
        ("accepter_vpc_id",),
    )

    account: str
    region: str
    vpc_id: str
    accepter_account: str
    accepter_region: str
    accepter_vpc_id: str
    state: PeeringState = PeeringState.PENDING
    message: str = ""
    expires_at: float
    ended_at: float | None = None
    dns_from_requester: bool = False
    dns_from_accepter: bool = False
    tags: Tags = {}
    accepter_tags: Tags = {}  # each of two accounts has its own


class DhcpOptions(Record, frozen=True, kw_only=True):
    """`settings`: EC2's key ("domain-name-servers", ...) -> values, as they were given."""

    KIND: ClassVar[str] = "dhcp_options"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)

    account: str
    region: str
    settings: dict[str, tuple[str, ...]]
    tags: Tags = {}
