"""What the API answers, as far as the commands read it: parsed once, here; unknown fields are ignored.

EC2's shapes keep Amazon's names on the wire (`rename="pascal"`).
"""

import time
from typing import Any

import msgspec


class Dedicated(msgspec.Struct, frozen=True):
    account: str
    instances: int


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    kind: str  # "qemu", or "simulated"
    accelerator: str = ""
    state: str = ""
    instances: int = 0
    dedicated: Dedicated | None = None
    vcpus: int = 0
    vcpus_used: int = 0
    memory_mib: int = 0
    memory_mib_used: int = 0
    pressure: list[str] = []


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    memory_mib: int
    memory_free_mib: int
    disk_mib: int
    disk_free_mib: int
    processes_max: int
    processes: int
    stalled: float | None = None


class Hosts(msgspec.Struct, frozen=True):
    hosts: list[HostView]
    advice: str | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    instance_id: str
    state: str


class HostDetails(HostView, frozen=True, kw_only=True):
    underlay: str = ""
    key: str | None = None
    heard_s_ago: float | None = None
    gauges: Gauges | None = None
    runs: list[Placed] = []


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    host_id: str
    name: str
    takes_away: list[str] = []


class Token(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    token: str
    url: str
    expires_at: float
    command: str
    lost: list[str] = []


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: str
    name: str | None = None
    replaces: str | None = None
    expires_at: float
    used_by: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    tokens: list[TokenView]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    instance_id: str
    state: str
    health: str
    reason: str = ""
    private_ip: str | None = None
    public_ip: str | None = None
    host_id: str | None = None


class Balancer(msgspec.Struct, frozen=True, kw_only=True):
    kind: str = "host"
    host_id: str | None = None
    instance_id: str | None = None
    state: str | None = None
    unready_because: str | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    port: int
    url: str
    desired: int
    running: int = 0
    healthy: int = 0
    ready: bool = False
    balancer_ready: bool = False
    balancer: Balancer = Balancer()
    deleting: bool = False
    waiting_because: str | None = None
    image_id: str | None = None
    instance_type: str | None = None
    members: list[Member] = []


class Services(msgspec.Struct, frozen=True):
    services: list[Service]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    instance_id: str
    because: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    cloud_id: str
    account: str
    region: str
    simulated: bool = False
    hosts: list[HostView] = []
    advice: str | None = None
    instances: dict[str, int] = {}
    waiting: list[Waiting] = []
    services: list[Service] = []


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    access_key_id: str
    secret_access_key: str
    name: str = ""


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    master_key: str


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str = ""
    operator: bool = False
    created_at: float = 0.0


class Accounts(msgspec.Struct, frozen=True):
    accounts: list[AccountView]


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    rule: str
    subject: str
    sentence: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """`unsettled` ones are allowed for a moment, while something is under way."""

    violations: list[Violation] = []
    unsettled: list[Violation] = []
    silent_hosts: list[str] = []
    checked: dict[str, int] = {}


class ChecksView(msgspec.Struct, frozen=True, kw_only=True):
    """Statuses in EC2's words; times in seconds since 1970."""

    system: str
    instance: str
    system_failed_since: float | None = None
    instance_failed_since: float | None = None
    measured_age_s: float | None = None


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What EC2 has no word for."""

    instance_id: str
    state: str
    phase: str
    waiting_because: str | None = None
    reason: str | None = None
    host: HostView | None = None
    incarnation: int = 0
    group: str | None = None
    guest_reached_at: float | None = None
    checks: ChecksView | None = None


class Pascal(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    pass


class Tag(Pascal, frozen=True, kw_only=True):
    key: str
    value: str = ""


class State(Pascal, frozen=True, kw_only=True):
    name: str


class GroupName(Pascal, frozen=True, kw_only=True):
    group_id: str
    group_name: str = ""


class Range(Pascal, frozen=True, kw_only=True):
    cidr_ip: str


class Permission(Pascal, frozen=True, kw_only=True):
    ip_protocol: str
    from_port: int = -1
    to_port: int = -1
    ip_ranges: list[Range] = []

    def lets_in(self, port: int, source: str) -> bool:
        """Whether it lets TCP to `port` in from an address that only it or everybody's range names."""
        if self.ip_protocol != "-1" and not (self.ip_protocol == "tcp" and self.from_port <= port <= self.to_port):
            return False
        return any(one.cidr_ip in ("0.0.0.0/0", f"{source}/32") for one in self.ip_ranges)


class SecurityGroup(Pascal, frozen=True, kw_only=True):
    ip_permissions: list[Permission] = []


class SecurityGroups(Pascal, frozen=True, kw_only=True):
    security_groups: list[SecurityGroup] = []


class Profile(Pascal, frozen=True, kw_only=True):
    arn: str = ""


class Placement(Pascal, frozen=True, kw_only=True):
    group_name: str = ""
    partition_number: int | None = None
    host_id: str | None = None


class Text(Pascal, frozen=True, kw_only=True):
    value: str = ""


class UserData(Pascal, frozen=True, kw_only=True):
    """DescribeInstanceAttribute's answer."""

    user_data: Text = Text()


class Instance(Pascal, frozen=True, kw_only=True):
    instance_id: str
    state: State
    instance_type: str = ""
    image_id: str = ""
    key_name: str | None = None
    private_ip_address: str | None = None
    public_ip_address: str | None = None
    ipv6_address: str | None = None
    launch_time: float | str = 0.0  # seconds since 1970
    state_transition_reason: str = ""
    security_groups: list[GroupName] = []
    iam_instance_profile: Profile | None = None
    placement: Placement = Placement()
    tags: list[Tag] = []

    @property
    def profile_name(self) -> str | None:
        return self.iam_instance_profile.arn.rpartition("/")[2] if self.iam_instance_profile else None

    @property
    def placed(self) -> str | None:
        """What it asks of hosts."""
        wish = self.placement
        parts = [f"group {wish.group_name}"] if wish.group_name else []
        parts += [f"partition {wish.partition_number}"] if wish.partition_number else []
        parts += [f"host {wish.host_id}"] if wish.host_id else []
        return ", ".join(parts) or None

    @property
    def name(self) -> str:
        return next((tag.value for tag in self.tags if tag.key == "Name"), "")

    @property
    def launched(self) -> str:
        """RFC 3339, UTC."""
        if isinstance(self.launch_time, str):
            return self.launch_time
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.launch_time))


class Reservation(Pascal, frozen=True, kw_only=True):
    instances: list[Instance] = []


class Reservations(Pascal, frozen=True, kw_only=True):
    reservations: list[Reservation] = []
    next_token: str | None = None


class Image(Pascal, frozen=True, kw_only=True):
    image_id: str
    name: str = ""
    state: str = ""
    public: bool = False
    source_instance_id: str | None = None


class Images(Pascal, frozen=True, kw_only=True):
    images: list[Image] = []


class KeyPair(Pascal, frozen=True, kw_only=True):
    key_name: str
    key_material: str = ""


class ConsoleOutput(Pascal, frozen=True, kw_only=True):
    instance_id: str
    output: str = ""  # base64


class Console(msgspec.Struct, frozen=True, kw_only=True):
    console_id: str


class ConsoleSaid(msgspec.Struct, frozen=True, kw_only=True):
    said: bytes
    heard: int
    skipped: int = 0
    ended: bool = False


class SerialConsoleAccess(Pascal, frozen=True, kw_only=True):
    serial_console_access_enabled: bool


class Template(Pascal, frozen=True, kw_only=True):
    launch_template_id: str
    launch_template_name: str
    default_version_number: int = 1
    latest_version_number: int = 1


class Templates(Pascal, frozen=True, kw_only=True):
    launch_templates: list[Template] = []
    next_token: str | None = None


class MadeTemplate(Pascal, frozen=True, kw_only=True):
    launch_template: Template


class TemplateVersion(Pascal, frozen=True, kw_only=True):
    version_number: int = 0
    version_description: str = ""
    launch_template_data: dict[str, Any] = {}


class TemplateVersions(Pascal, frozen=True, kw_only=True):
    launch_template_versions: list[TemplateVersion] = []


class MadeVersion(Pascal, frozen=True, kw_only=True):
    """CreateLaunchTemplateVersion's answer, or GetLaunchTemplateData's."""

    launch_template_version: TemplateVersion = TemplateVersion()
    launch_template_data: dict[str, Any] = {}


class PlacementGroup(Pascal, frozen=True, kw_only=True):
    group_name: str
    group_id: str = ""
    strategy: str = ""
    partition_count: int | None = None


class PlacementGroups(Pascal, frozen=True, kw_only=True):
    placement_groups: list[PlacementGroup] = []


class MadePlacementGroup(Pascal, frozen=True, kw_only=True):
    placement_group: PlacementGroup


class VolumeAttachment(Pascal, frozen=True, kw_only=True):
    instance_id: str
    device: str = ""
    state: str = ""


class Volume(Pascal, frozen=True, kw_only=True):
    volume_id: str
    size: int
    state: str
    availability_zone: str = ""
    snapshot_id: str = ""
    attachments: list[VolumeAttachment] = []


class Volumes(Pascal, frozen=True, kw_only=True):
    volumes: list[Volume] = []


class Attached(Pascal, frozen=True, kw_only=True):
    state: str


class Zone(Pascal, frozen=True, kw_only=True):
    zone_name: str


class Zones(Pascal, frozen=True, kw_only=True):
    availability_zones: list[Zone]


class Snapshot(Pascal, frozen=True, kw_only=True):
    snapshot_id: str
    volume_id: str = ""
    volume_size: int
    state: str
    description: str = ""


class Snapshots(Pascal, frozen=True, kw_only=True):
    snapshots: list[Snapshot] = []


class MadeImage(Pascal, frozen=True, kw_only=True):
    image_id: str


class Nothing(msgspec.Struct, frozen=True):
    """An answer that nobody reads."""


class TraceEnd(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    interface_id: str | None = None
    instance_id: str | None = None

    @property
    def words(self) -> str:
        ids = ", ".join(one for one in (self.instance_id, self.interface_id, self.address) if one and one != self.name)
        return f"{self.name} ({ids})" if ids else self.name


class TraceStep(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    id: str | None = None
    rule: str
    passes: bool | None
    sentence: str


class TraceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    source: TraceEnd
    destination: TraceEnd
    traffic: str
    arrives: bool
    answered: bool | None
    verdict: str
    simulated: bool
    there: list[TraceStep]
    back: list[TraceStep]
