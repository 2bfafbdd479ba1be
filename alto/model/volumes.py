"""Block storage as EC2 has it: Volume, Snapshot, and what a host is asked to do about them (StorageJob).

A volume's bytes live in one *storage*, which is a host's own disk unless hosts share one; a host says which it has. A volume is
made by a job of its own, or with the instance that is launched with it. While it is attached, what happens to it goes by
way of its machine (`Instance.volumes`, `Instance.wiring`); else by a StorageJob.
"""

import enum
from typing import ClassVar

import msgspec

from alto.model.encryption import Encryption
from alto.model.records import NumberOf, Record, Tags, number_of

DEFAULT_VOLUME_TYPE = "gp3"  # of an image's root
UNNAMED_VOLUME_TYPE = "gp2"  # of what a request makes without naming a type, as at EC2
NOBODY = ""  # the account and region of what is deleted, until its bytes are
GIB = 1 << 30


class VolumeType(msgspec.Struct, frozen=True):
    """Bounds of one of Amazon's volume types ("Amazon EBS volume types"). Amazon's promise speed by them; here they are
    remembered, because tools compare what they asked for with what they read."""

    size_gib: tuple[int, int]
    iops: tuple[int, int] | None = None  # None: it cannot be chosen
    iops_needed: bool = False
    iops_per_gib_max: int = 0
    throughput: tuple[int, int] | None = None  # MiB/s
    iops_default: int | None = None
    throughput_default: int | None = None


VOLUME_TYPES: dict[str, VolumeType] = {
    "gp2": VolumeType((1, 16384)),
    "gp3": VolumeType((1, 65536), (3000, 80000), False, 500, (125, 2000), 3000, 125),
    "io1": VolumeType((4, 16384), (100, 64000), True, 50),
    "io2": VolumeType((4, 65536), (100, 256000), True, 1000),
    "sc1": VolumeType((125, 16384)),
    "st1": VolumeType((125, 16384)),
    "standard": VolumeType((1, 1024)),
}


class AttachState(enum.StrEnum):
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class VolumePhase(enum.StrEnum):
    CREATING = "creating"
    MADE = "made"
    DELETING = "deleting"  # it is nobody's any more
    FAILED = "failed"


class Modification(msgspec.Struct, frozen=True, kw_only=True):
    """The last ModifyVolume. `ended_at` is None while the host has not grown the volume."""

    size_gib: int
    type: str
    iops: int | None
    throughput: int | None
    started_at: float
    ended_at: float | None = None


class Volume(Record, frozen=True, kw_only=True, omit_defaults=True):
    """`host_id` is the host on which its size is claimed; None of one made with an instance: the instance's."""

    KIND: ClassVar[str] = "volume"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    NUMBER: ClassVar[NumberOf | None] = number_of

    account: str
    region: str
    zone: str
    size_gib: int
    type: str = DEFAULT_VOLUME_TYPE
    iops: int | None = None
    throughput: int | None = None
    created_at: float
    snapshot_id: str | None = None
    tags: Tags = {}
    auto_enable_io: bool = False
    boot_source: str | None = None  # what its system boots by, see Snapshot
    encryption: Encryption | None = None

    host_id: str | None = None
    storage: str | None = None
    phase: VolumePhase = VolumePhase.MADE
    fault: str | None = None  # the sentence why it failed
    before: Modification | None = None  # what it was before the last modification

    instance_id: str | None = None
    device: str | None = None
    attached_at: float | None = None
    delete_on_termination: bool = True
    attach_state: AttachState = AttachState.ATTACHED


class SnapshotPhase(enum.StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"
    DELETING = "deleting"  # it is nobody's any more


class Snapshot(Record, frozen=True, kw_only=True, omit_defaults=True):
    """`boot_source` is what a machine boots by whose root volume it was taken of ("tiny": its kernel is outside of the disk);
    None when nobody knows: then the disk boots by itself, or not at all. `shared` is true of one that others see too (it is
    public, or shared with some), and None of all others, so that the index is small."""

    KIND: ClassVar[str] = "snapshot"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("volume_id",), ("shared",))

    account: str
    region: str
    volume_id: str  # "vol-ffffffff" of a copy, as in EC2
    size_gib: int
    description: str = ""
    started_at: float
    completed_at: float | None = None
    phase: SnapshotPhase
    fault: str | None = None
    host_id: str
    storage: str
    boot_source: str | None = None
    public: bool = False
    shared_with: tuple[str, ...] = ()  # accounts
    shared: bool | None = None
    encryption: Encryption | None = None
    tags: Tags = {}


class Task(enum.StrEnum):
    CREATE = "create"
    GROW = "grow"
    DELETE = "delete"
    SNAPSHOT = "snapshot"  # of a volume
    COPY = "copy"  # of a snapshot
    DELETE_SNAPSHOT = "delete-snapshot"


class StorageJob(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A wish for a volume or a snapshot (`id`) that is not true yet. The next wish for the same one takes its place.

    Jobs with the same `set_id` are snapshots that are taken at one moment.
    """

    KIND: ClassVar[str] = "storage_job"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("host_id",),)

    host_id: str
    account: str
    task: Task
    size_gib: int
    volume_id: str | None = None  # SNAPSHOT: of which
    snapshot_id: str | None = None  # CREATE and COPY: from which
    instance_id: str | None = None  # SNAPSHOT: the machine that has the volume
    set_id: str | None = None
    reboot: bool = False  # SNAPSHOT: power the guest off meanwhile, so that it wrote everything
    sealed_key: str | None = None  # CREATE and COPY: of what is made, which is encrypted then


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """A job (of exactly this version) is done, or can never be (`fault`, a sentence)."""

    id: str
    version: int
    fault: str | None = None
    at: float


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume beside the root one, as its instance carries it. `since` is the wiring at which its state was wished: it is
    attached, or detached, once the host has reported that number."""

    volume_id: str
    device: str
    size_gib: int
    delete_on_termination: bool = False
    attached_at: float
    since: int = 0
    detaching: bool = False
    # Of one that is made with its instance.
    made_here: bool = False
    snapshot_id: str | None = None
    sealed_key: str | None = None  # of an encrypted one
