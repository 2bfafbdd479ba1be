"""What the driver writes beside a machine's disk, so that its successor knows the machine again.

Written before the step that it speaks of: a process is never used before it can be found again. It outlives a power cut, too,
but for one that says of a new machine that its process may exist: none does then. Not here: the wish (the agent's manifest has
it).
"""

import enum
from pathlib import Path

import msgspec

from alto.drivers.compute.driver import BootFiles
from alto.kit.world import Files, Pid


class Stage(enum.StrEnum):
    STARTING = "starting"  # a process may exist; `pid` is not known yet
    READY = "ready"  # its process is there; its guest has not begun, as far as is known
    ON = "on"
    REBOOTING = "rebooting"  # the guest was asked to power off, and is to come back in the same process
    STOPPING = "stopping"  # the guest was asked to power off, for good
    OFF = "off"


class Ended(enum.StrEnum):
    STOPPED = "stopped"  # as we asked
    BY_GUEST = "by-guest"
    CRASHED = "crashed"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The image that a machine's disk was made from, as BootFiles. An overlay is good over exactly that file: an image of the
    same name may have been built anew since."""

    disk: str | None
    disk_format: str
    kernel: str | None
    initrd: str | None
    cmdline: str

    @property
    def boot(self) -> BootFiles:
        return BootFiles(
            disk=Path(self.disk) if self.disk else None,
            disk_format=self.disk_format,
            kernel=Path(self.kernel) if self.kernel else None,
            initrd=Path(self.initrd) if self.initrd else None,
            cmdline=self.cmdline,
        )


def origin_of(boot: BootFiles) -> Origin:
    return Origin(
        disk=str(boot.disk) if boot.disk else None,
        disk_format=boot.disk_format,
        kernel=str(boot.kernel) if boot.kernel else None,
        initrd=str(boot.initrd) if boot.initrd else None,
        cmdline=boot.cmdline,
    )


class Record(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    incarnation: int
    stage: Stage
    ended: Ended = Ended.STOPPED  # says something in stage OFF only
    boot_id: str  # of the host: no process of an earlier boot is alive, whatever its number
    pid: int = 0  # 0: not known
    started: int = 0  # the process's start time, see kit's Pid
    origin: Origin | None = None  # None: there is no disk yet
    uid_first: int = 0  # of a container's users on the host

    @property
    def process(self) -> Pid:
        return Pid(self.pid, self.started)


def load(files: Files, home: Path) -> Record | None:
    """None when there is no machine in `home`, or only what a crash left of a beginning."""
    try:
        data = files.read(home / "record.json")
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.DecodeError:
        # Somebody's hand, or a broken disk. A process may be there: as after a crash in the middle of a start.
        return Record(id=home.name, incarnation=0, stage=Stage.STARTING, boot_id="")


def save(files: Files, home: Path, record: Record, *, durable: bool = True) -> None:
    files.write(home / "record.json", msgspec.json.encode(record), durable=durable)
