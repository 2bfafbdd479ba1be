"""What is left on a host's machine, whoever took it: other programs fill it too, and guests are given more than there is."""

import enum

import msgspec


class Pressure(enum.StrEnum):
    """What is nearly used up. A host under pressure keeps what it has and takes nothing new."""

    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """Read from the machine itself, by its agent."""

    memory_mib: int
    memory_free_mib: int  # what may be taken without swapping
    disk_mib: int  # of the file system that holds machines' disks
    disk_free_mib: int
    processes_max: int  # with their threads
    processes: int
    stalled: float | None = None  # share of the last minute in which everything waited for memory; None: not measured
