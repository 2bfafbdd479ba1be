"""An Instance: what somebody wishes, what was decided, and what is true.

Within one incarnation phases only grow; a start of a stopped instance begins the next incarnation. So reports compare as
`(incarnation, phase)`: the greater is the newer truth, whatever order they came in. Writers: the API writes the wish,
`control/scheduler.py` writes the placement, the host's agent (by report) writes the truth from PLACED on.
"""

import enum
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from alto.model.images import ROOT_DEVICE
from alto.model.networks import Naming, PortAddress
from alto.model.profiles import InstanceProfile
from alto.model.records import NumberOf, Record, Tags, number_of
from alto.model.volumes import Attachment


class Wish(enum.StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class Phase(enum.IntEnum):
    """Gaps between, so that a later version can put a phase in."""

    PENDING = 0  # waits for a host
    PLACED = 10  # has one; the agent may not know yet
    PREPARING = 20  # disk, port and process are being made
    RUNNING = 30
    STOPPED = 50  # no process; disk kept
    TERMINATED = 70  # nothing left on the host


class MetadataOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As EC2's HttpTokens and HttpPutResponseHopLimit."""

    tokens_required: bool = False
    hop_limit: int = 1
    enabled: bool = True
    tags_enabled: bool = False
    ipv6_enabled: bool = False  # at METADATA_ADDRESS_V6 too


class StateReason(msgspec.Struct, frozen=True, kw_only=True):
    """EC2's code ("Client.UserInitiatedShutdown", "Server.InternalError"...) and a sentence for people."""

    code: str
    message: str
    transition: str | None = None  # what EC2 tells as the transition's reason, when it is not the message


class Attach(enum.StrEnum):
    """An attachment's state. An id of an attachment is used once, so that a late word about it is never mistaken."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"  # the host lets go of it; then it is gone from the instance


class Nic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network interface, as the instance carries it; `NetworkInterface` is the record of its own. Both are written in one
    transaction, and say the same."""

    interface_id: str  # "eni-..."
    attachment_id: str
    subnet_id: str
    vpc_id: str
    mac: str
    private_ip: str
    public_ip: str | None
    group_ids: tuple[str, ...]
    elastic: bool = False  # `public_ip` is somebody's Address
    secondary: tuple[PortAddress, ...] = ()
    ipv6: tuple[str, ...] = ()
    device_index: int = 0
    source_dest_check: bool = True
    delete_on_termination: bool = True
    attach: Attach = Attach.ATTACHED
    attached_at: float | None = None  # None: since the instance is there
    description: str = ""


class RootVolume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`away`: a stopped instance has given it up, and cannot start without another; `volume_id` is then of what still leaves,
    and "" once its host has said so."""

    volume_id: str
    size_gib: int
    delete_on_termination: bool = True
    device: str = ROOT_DEVICE
    snapshot_id: str | None = None  # what it is made from; None: the image's own disk
    made_here: bool = True  # with the instance, and not attached to it later
    attached_at: float | None = None  # None: since the instance is there
    away: bool = False
    sealed_key: str | None = None  # of an encrypted one


class PlacementWish(msgspec.Struct, frozen=True, kw_only=True):
    """Where among hosts somebody wants an instance; most instances have none."""

    group_id: str | None = None  # a PlacementGroup
    group_name: str | None = None
    partition: int | None = None  # of the group; control.scheduler chooses when nobody asked
    host_id: str | None = None  # this host and no other
    dedicated: bool = False  # no other account's instances on its host: EC2's dedicated tenancy


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """Status checks of a running machine, as its host measured them; times of a report are the host's clock, those of a row the
    server's."""

    machine_failed_since: float | None = None
    guest_failed_since: float | None = None


class Instance(Record, frozen=True, kw_only=True, omit_defaults=True):
    KIND: ClassVar[str] = "instance"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("account", "region"),
        ("host_id",),
        ("phase",),
        ("group_name", "account", "region"),
    )
    NUMBER: ClassVar[NumberOf | None] = number_of

    account: str
    region: str
    reservation_id: str
    launch_index: int
    launched_at: float  # of this incarnation, as EC2's LaunchTime
    created_at: float

    # The wish (api writes).
    wish: Wish = Wish.RUNNING
    incarnation: int = 1
    image_id: str
    image_source: str
    instance_type: str
    vcpus: int
    threads_per_core: int | None = None  # of CPU options that somebody chose; None: the type's own
    memory_mib: int
    zone: str
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None  # base64, as it came
    client_token: str | None = None
    shutdown_behaviour: str = "stop"  # or "terminate": what EC2 does when the guest powers itself off
    termination_protected: bool = False
    stop_protected: bool = False
    metadata: MetadataOptions = MetadataOptions()
    nics: tuple[Nic, ...]  # by device index; the first is the primary one, and stays
    root: RootVolume
    volumes: tuple[Attachment, ...] = ()  # beside the root one
    wiring: int = 0  # grows with each change to the volumes
    storage: str | None = None  # what its volumes need; None: any
    hostname: str  # "ip-172-31-0-5.ec2.internal", or as `naming` says
    naming: Naming | None = None
    monitoring: bool = False
    ebs_optimized: bool = False
    credit_specification: str = "standard"
    auto_recovery: str = "default"  # or "disabled": a wish that is remembered; Alto moves no machine by itself
    capacity_preference: str = "open"  # or "none": remembered likewise; no capacity is reserved here
    # What its image said of its system, or somebody since; an image of it says the same.
    ena: bool = True
    sriov: bool = False
    boot_mode: str | None = None
    profile: InstanceProfile | None = None
    group_name: str | None = None  # the AutoScalingGroup it belongs to
    placement: PlacementWish | None = None
    reboots: int = 0  # how many were asked for; the agent does each once
    skip_os_shutdown: bool = False  # the stop that is wished for does not ask the guest
    tags: Tags = {}

    # The decision (control.scheduler writes).
    host_id: str | None = None
    epoch: int = 0  # raising it is the only way to move a machine; hosts refuse a lower one
    waiting_because: str | None = None  # the sentence to read while no host fits

    # The truth (the host's agent writes, by report).
    phase: Phase = Phase.PENDING
    reason: StateReason | None = None
    ended_at: float | None = None
    guest_reached_at: float | None = None  # first time in this incarnation that the guest answered on the network
    checks: Checks | None = None  # None: nothing failed yet in this incarnation
    wired: int = 0  # the wiring that is true

    @property
    def nic(self) -> Nic:
        """The primary interface."""
        return self.nics[0]

    @property
    def volume_ids(self) -> tuple[str, ...]:
        """Of all that it has now, the root one first."""
        return volume_ids(self.root, self.volumes)

    @property
    def is_dedicated(self) -> bool:
        return self.placement is not None and self.placement.dedicated


def volume_ids(root: RootVolume, volumes: Sequence[Attachment]) -> tuple[str, ...]:
    further = [one.volume_id for one in volumes]
    return tuple(further) if root.away else (root.volume_id, *further)


class Machine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent needs to make an instance exist: self-contained, kept in the manifest beside the machine's disk.

    `epoch` and `incarnation` order two versions of it; everything in it can rebuild a lost store.
    """

    id: str
    account: str
    region: str
    zone: str
    epoch: int
    incarnation: int
    wish: Wish
    image_id: str
    image_source: str
    instance_type: str
    vcpus: int
    threads_per_core: int | None = None
    memory_mib: int
    root: RootVolume
    volumes: tuple[Attachment, ...] = ()
    wiring: int = 0
    nics: tuple[Nic, ...]
    hostname: str
    naming: Naming | None = None
    public_key: str | None
    key_name: str | None
    user_data: str | None
    metadata: MetadataOptions
    shutdown_behaviour: str
    reservation_id: str
    launch_index: int
    launched_at: float
    reboots: int
    skip_os_shutdown: bool = False
    profile: InstanceProfile | None = None
    group_name: str | None = None
    tags: Tags = {}

    @property
    def nic(self) -> Nic:
        """The primary interface."""
        return self.nics[0]

    @property
    def volume_ids(self) -> tuple[str, ...]:
        """Of all that it has now, the root one first."""
        return volume_ids(self.root, self.volumes)


class Power(enum.StrEnum):
    ON = "on"  # a process runs it
    OFF = "off"  # its disk is there, no process


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver finds of one machine, from the machine itself, not from memory."""

    power: Power
    incarnation: int
    guest_initiated: bool = False  # the last power-off was the guest's own wish
    crashed: bool = False  # the process ended without anybody asking


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a host saw of one instance. Accepted only with the right epoch and a greater (incarnation, phase)."""

    instance_id: str
    epoch: int
    incarnation: int
    phase: Phase
    reason: StateReason | None = None
    guest_initiated: bool = False  # the guest powered itself off
    guest_reached: bool = False  # the guest answered on its network
    checks: Checks | None = None
    # Attachments of interfaces: those that a running machine has now, and those that it had and will not have again.
    attached: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    wired: int = 0  # the wiring that is true
    at: float
