"""What the driver writes beside a machine's disk, so that its successor knows the machine again.

Written durably before the step that it speaks of: a process is never used before it can be found again. Not here: the wish
(the agent's manifest has it).
"""

import enum
from pathlib import Path

import msgspec

from alto.kit.world import Files, Pid


class Stage(enum.StrEnum):
    STARTING = "starting"  # a process may exist; `pid` is not known yet
    ON = "on"
    REBOOTING = "rebooting"  # the guest was asked to power off, and is to come back in the same process
    STOPPING = "stopping"  # the guest was asked to power off, for good
    OFF = "off"


class Ended(enum.StrEnum):
    STOPPED = "stopped"  # as we asked
    BY_GUEST = "by-guest"
    CRASHED = "crashed"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    incarnation: int
    stage: Stage
    ended: Ended = Ended.STOPPED  # says something in stage OFF only
    boot_id: str  # of the host: no process of an earlier boot is alive, whatever its number
    pid: int = 0  # 0: not known
    started: int = 0  # the process's start time, see kit's Pid

    @property
    def process(self) -> Pid:
        return Pid(self.pid, self.started)


def load(files: Files, home: Path) -> Record | None:
    """None when there is no machine in `home`, or only what a crash left of a beginning."""
    try:
        return msgspec.json.decode(files.read(home / "record.json"), type=Record)
    except FileNotFoundError:
        return None


def save(files: Files, home: Path, record: Record) -> None:
    files.write(home / "record.json", msgspec.json.encode(record))
