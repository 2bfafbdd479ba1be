"""What an audit looks at, and how it says what is wrong. The rules themselves are in `audit.py` and `audit_networks.py`."""

import enum
from collections.abc import Mapping, Sequence

import msgspec

from alto.model.addresses import Address
from alto.model.balancers import AutoScalingGroup, LoadBalancer
from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, SecondaryAddress, Subnet
from alto.model.placement_groups import PlacementGroup, PlacementMember
from alto.model.profiles import ProfileAssociation
from alto.model.routing import NatGateway, VpcEndpoint
from alto.model.volumes import Snapshot, StorageJob, Volume

# How long a healthy cloud may take to clean up on a host: generous, as all these.
HOST_CLEANING_S = 120.0


class Rule(enum.StrEnum):
    HOST_OVERFULL = "host-overfull"
    HOST_COUNTERS = "host-counters"
    HOST_UNKNOWN = "host-unknown"
    ADDRESS_TWICE = "address-twice"
    ADDRESS_UNCLAIMED = "address-unclaimed"
    ADDRESS_LEAKED = "address-leaked"
    ADDRESS_ASTRAY = "address-astray"
    INTERFACE_LEAKED = "interface-leaked"
    INTERFACE_MISSING = "interface-missing"
    VOLUME_LEAKED = "volume-leaked"
    VOLUME_MISSING = "volume-missing"
    VOLUME_UNSETTLED = "volume-unsettled"
    DISK_COUNTERS = "disk-counters"
    JOB_OPEN = "job-open"
    BYTES_LEAKED = "bytes-leaked"
    BYTES_LOST = "bytes-lost"
    POOL_COUNTERS = "pool-counters"
    TOKEN_TWICE = "token-twice"
    UNPLACED_PHASE = "unplaced-phase"
    RUNS_TWICE = "runs-twice"
    RUNS_UNKNOWN = "runs-unknown"
    RUNS_OUTDATED = "runs-outdated"
    RUNS_AHEAD = "runs-ahead"
    RUNS_ENDED = "runs-ended"
    RUNNING_UNSEEN = "running-unseen"
    PORT_LEAKED = "port-leaked"
    PORT_MISSING = "port-missing"
    PLACE_LEAKED = "place-leaked"
    PLACE_BROKEN = "place-broken"
    TENANCY_BROKEN = "tenancy-broken"
    PROFILE_LEAKED = "profile-leaked"
    WISH_OPEN = "wish-open"
    WISH_UNEXPLAINED = "wish-unexplained"
    GROUP_SIZE = "group-size"
    BALANCER_TARGET = "balancer-target"
    BALANCER_MISSING = "balancer-missing"
    BALANCER_SILENT = "balancer-silent"
    PHASE_SHRANK = "phase-shrank"
    EPOCH_SHRANK = "epoch-shrank"
    MOVED_WITHOUT_EPOCH = "moved-without-epoch"
    PLACED_UNWILLING = "placed-unwilling"
    REVIVED = "revived"
    VANISHED = "vanished"
    ADDRESS_CHANGED = "address-changed"


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    rule: Rule
    subject: str  # the id of what it is about
    sentence: str
    grace_s: float = 0.0  # a healthy cloud may show it for so long


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent view of what is written."""

    hosts: Sequence[Host] = ()
    instances: Sequence[Instance] = ()
    interfaces: Sequence[NetworkInterface] = ()
    volumes: Sequence[Volume] = ()
    snapshots: Sequence[Snapshot] = ()
    jobs: Sequence[StorageJob] = ()
    subnets: Sequence[Subnet] = ()
    pools: Sequence[AddressPool] = ()
    addresses: Sequence[PublicAddress] = ()
    elastic: Sequence[Address] = ()
    secondary: Sequence[SecondaryAddress] = ()
    nat_gateways: Sequence[NatGateway] = ()
    vpc_endpoints: Sequence[VpcEndpoint] = ()
    balancers: Sequence[LoadBalancer] = ()
    groups: Sequence[AutoScalingGroup] = ()
    placement_groups: Sequence[PlacementGroup] = ()
    places: Sequence[PlacementMember] = ()
    profiles: Sequence[ProfileAssociation] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One machine on a host, from the host itself."""

    instance_id: str
    incarnation: int
    on: bool


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What one host was seen to have; hosts that were not looked at have none of these."""

    host_id: str
    machines: Sequence[Found] = ()
    ports: Sequence[str] | None = None  # interface ids; None: not looked at
    balancers: Mapping[str, Sequence[str]] | None = None  # balancer id -> instances that may get traffic
    stored: Sequence[str] | None = None  # ids of volumes and snapshots in its storage; None: not looked at
