"""LoadBalancer and AutoScalingGroup: `alto service` is one of each under one name, until ELBv2's own operations come."""

import enum
import re
from typing import ClassVar

import msgspec

from alto.model.records import Record, Tags

# What may stand in a request line, and within quotes of a balancer's configuration.
URL_PATH = re.compile(r"/[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]{0,1023}")

APPLIANCE_PORT = 8404  # where a balancer that is an instance is told of its members


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    path: str = "/"
    interval_s: float = 1.0
    timeout_s: float = 2.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 2


class TargetState(enum.StrEnum):
    """ELBv2's words."""

    INITIAL = "initial"  # registered, has not answered yet
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class TargetHealth(msgspec.Struct, frozen=True, kw_only=True):
    instance_id: str
    state: TargetState
    reason: str = ""
    since: float = 0.0  # when it came into this state; the server writes it


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A member: where the balancer reaches it. `draining` ones finish what they have and take nothing new."""

    instance_id: str
    vpc_id: str
    private_ip: str
    port: int
    draining: bool = False


class Appliance(msgspec.Struct, frozen=True, kw_only=True):
    """The instance that is a balancer, and where its HAProxy is told of members."""

    instance_id: str
    interface_id: str
    vpc_id: str
    private_ip: str


class LoadBalancer(Record, frozen=True, kw_only=True):
    """`address` is the public address it listens on; `health` is what the balancer itself measured (agent writes).

    A host's own HAProxy serves it, or an instance that is nothing else: then `allocation_id` names its elastic address, and a
    group of one keeps the instance (`AutoScalingGroup.appliance_of`)."""

    KIND: ClassVar[str] = "load_balancer"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("host_id",))
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)

    account: str
    region: str
    name: str
    address: str
    port: int = 80
    target_port: int = 80
    check: HealthCheck = HealthCheck()
    drain_s: float = 10.0
    deleting: bool = False
    created_at: float
    tags: Tags = {}
    allocation_id: str | None = None

    host_id: str | None = None  # control writes: the host whose balancer serves it, or that runs the instance
    appliance: Appliance | None = None  # control writes
    targets: tuple[Target, ...] = ()  # control writes: who should be behind it
    health: tuple[TargetHealth, ...] = ()  # agent writes, by report
    ready: bool = False  # agent writes: the balancer listens
    unready_because: str = ""  # agent writes, while it is not ready
    measured: str | None = None  # agent writes: the instance of which it says these

    @property
    def serves(self) -> bool:
        """Whoever it is now listens."""
        return self.ready and self.measured == (self.appliance.instance_id if self.appliance is not None else None)


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    image_id: str
    instance_type: str
    key_name: str | None = None
    user_data: str | None = None  # base64
    group_ids: tuple[str, ...] = ()  # security groups; none: the default one
    tags: Tags = {}


class Launching(msgspec.Struct, frozen=True, kw_only=True):
    """An intent, written before the launch: after a crash the same token is sent again and makes nothing twice."""

    token: str
    count: int


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """A member that drains since `since` and is terminated afterwards."""

    instance_id: str
    since: float


class AutoScalingGroup(Record, frozen=True, kw_only=True):
    KIND: ClassVar[str] = "auto_scaling_group"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)

    account: str
    region: str
    name: str
    desired: int
    launch: LaunchSpec
    load_balancer_id: str | None = None
    appliance_of: str | None = None  # the load balancer that its instance is; that launch has user data of its own
    own_group_id: str | None = None  # the security group that was made for it and goes with it
    grace_s: float = 300.0  # how long a new member may take to become healthy before it is replaced
    deleting: bool = False
    created_at: float
    launches: int = 0  # control writes, like all below: how many launches were begun
    launching: Launching | None = None
    leaving: tuple[Leaving, ...] = ()
    waiting_because: str | None = None


class BalancerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's balancer driver must make true for one LoadBalancer."""

    id: str
    name: str
    address: str
    port: int
    check: HealthCheck
    drain_s: float
    targets: tuple[Target, ...]
    appliance: Appliance | None = None


class BalancerReport(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    ready: bool
    unready_because: str = ""
    health: tuple[TargetHealth, ...] = ()
    appliance_id: str | None = None  # the instance that it is
