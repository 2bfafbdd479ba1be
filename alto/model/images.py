"""Images as EC2 knows them, and where their bytes come from."""

import enum
from typing import ClassVar

import msgspec

from alto.model.encryption import Encryption
from alto.model.records import Record, Tags

# What an image's root is called in requests and answers, as most public AMIs have it. Inside, a guest finds its first disk
# by the name that its own kernel gives it (/dev/vda), as on Amazon's Nitro machines.
ROOT_DEVICE = "/dev/sda1"
# Names that people map to say the root, because the images they know call it so.
ROOT_NAMES = (ROOT_DEVICE, "/dev/sda", "/dev/xvda", "/dev/vda")

TINY = "tiny"  # the source of the image that Alto builds: its kernel is beside its disk
BALANCER = "balancer"  # the same, with HAProxy in it
KERNEL_BESIDE = (TINY, BALANCER)
BOOTS_ITSELF = "disk"
CONTAINER_SOURCE = "tiny-container"
# A registered file of such a name is an archive of a root file system, which becomes a disk of this size; a host does not
# unpack more.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
ARCHIVE_GIB = 8
QEMU, CONTAINER = "qemu", "container"  # kinds of hosts, as they say in their capabilities
EITHER_BOOT_MODE = "uefi-preferred"  # of an image whose system boots either way: its instances boot as their type does


def boot_mode_of(architecture: str) -> str:
    """How systems for such processors boot, in EC2's words."""
    return "uefi" if architecture == "arm64" else "legacy-bios"


def host_kind_of(source: str) -> str:
    """The kind of host that runs an image of this source; a simulated one takes any. An image is made for one: who launches a
    virtual machine never gets a container, which shares its host's kernel."""
    return CONTAINER if source == CONTAINER_SOURCE or source.endswith(ARCHIVES) else QEMU


class ImageState(enum.StrEnum):
    PENDING = "pending"  # its snapshots are being taken
    AVAILABLE = "available"
    FAILED = "failed"
    DISABLED = "disabled"  # by its owner, who alone sees it


class ImageDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A block device that instances of the image have from the start."""

    device: str
    snapshot_id: str | None = None  # None: empty, or (the root) the source's own disk
    size_gib: int
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    delete_on_termination: bool = True
    encryption: Encryption | None = None  # its snapshot's; of an empty one, what it is to have


class FormerImage(Record, frozen=True, kw_only=True):
    """What is left for a while of an image that was deregistered, under its id: its owner hears that it is gone, and not that
    there never was one."""

    KIND: ClassVar[str] = "former_image"

    account: str
    region: str | None  # as the image's
    ended_at: float


class Image(Record, frozen=True, kw_only=True, omit_defaults=True):
    """`account` owns it; every account sees `public` ones, and those of `shared_with` see it too. `source` names what the
    image driver builds or finds: "tiny" and "balancer" for those that Alto builds from Debian packages, "file:///path.qcow2"
    (or one of ARCHIVES) for one that was registered, "disk" for one whose root snapshot boots by itself. `devices` has the root
    device only when that is made from a snapshot; `storage` is where the snapshots are."""

    KIND: ClassVar[str] = "image"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account",), ("public",))
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)

    account: str
    region: str | None  # None: seen in every region (Alto's own images)
    name: str
    description: str = ""
    public: bool = False
    shared_with: tuple[str, ...] = ()  # accounts
    source: str
    architecture: str = "x86_64"
    root_device: str = ROOT_DEVICE
    size_gib: int
    created_at: float
    tags: Tags = {}
    state: ImageState = ImageState.AVAILABLE
    fault: str | None = None
    devices: tuple[ImageDevice, ...] = ()
    instance_stores: dict[str, str] = {}  # device to "ephemeral0"...: shown, and nothing here has any
    storage: str | None = None
    encryption: Encryption | None = None  # that a root which is the source's own disk is to have
    source_instance_id: str | None = None
    source_image_id: str | None = None
    source_image_region: str | None = None
    deprecated_at: float | None = None  # from then on others do not see it in listings
    protected: bool = False  # from being deregistered
    cooldown: bool = False  # and for a day longer once that is taken back,
    protected_until: float | None = None  # which was
    # What whoever registered it says of its system, and tools compare.
    ena: bool = True
    sriov: bool = False  # "simple", in EC2's words
    boot_mode: str | None = None  # None: nobody said one
    imds_v2: bool = False  # its instances demand tokens of who asks for metadata, unless their launch says otherwise

    @property
    def root_snapshot_id(self) -> str | None:
        return next((one.snapshot_id for one in self.devices if one.device == self.root_device), None)


def stand_in(id: str, region: str) -> Image:
    """What a cloud whose hosts only simulate launches from, when its operator wants that, for an image that nobody registered:
    code that names images of Amazon's is tested against it. Nothing is known of it but its id, and it is never listed."""
    return Image(
        id=id,
        account="000000000000",
        region=region,
        name=f"simulated/{id}",
        source=TINY,
        size_gib=8,
        created_at=0.0,
    )


class KeyPair(Record, frozen=True, kw_only=True):
    """`id` is "key-..."; only the public half is ever kept."""

    KIND: ClassVar[str] = "key_pair"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)

    account: str
    region: str
    name: str
    type: str  # "rsa" | "ed25519"
    fingerprint: str  # as EC2 computes it for created or imported keys
    public_key: str  # one OpenSSH line
    created_at: float
    tags: Tags = {}
