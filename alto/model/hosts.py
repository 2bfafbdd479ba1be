"""Hosts: where instances run. A host of kind "fake" simulates, and every listing says so."""

import enum
from typing import ClassVar

import msgspec

from alto.model.pressure import Pressure
from alto.model.records import Record


class HostState(enum.StrEnum):
    READY = "ready"
    UNREACHABLE = "unreachable"  # its agent has not been heard of; what it ran may well run on


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a compute driver offers, before overcommitment."""

    kind: str  # "qemu" | "fake"
    accelerator: str  # "kvm" | "tcg" | "none"
    vcpus: int
    memory_mib: int
    storage: str = ""  # which storage its volumes are in; "": it takes none, and keeps roots itself
    disk_gib: int | None = None  # how much that holds; None: nobody counts it
    ipv6: bool = True  # its network carries it

    @property
    def simulated(self) -> bool:
        return self.kind == "fake"


class Dedication(msgspec.Struct, frozen=True, kw_only=True):
    """As long as instances of dedicated tenancy hold room on a host, no other account's instances do."""

    account: str
    instances: int  # those of dedicated tenancy; the account's others may stand beside them


class Host(Record, frozen=True, kw_only=True):
    """`vcpus` and `memory_mib` are what may be given out, overcommitment included; `*_used` what is given out.

    Heartbeats are not here: a host that has nothing new to say writes nothing.
    """

    KIND: ClassVar[str] = "host"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("leaving",),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("name",), ("key",))
    GUARDS: ClassVar[tuple[str, ...]] = (
        "vcpus_used <= vcpus",
        "memory_mib_used <= memory_mib",
        "vcpus_used >= 0",
        "disk_gib_used <= disk_gib",
    )

    name: str
    capabilities: Capabilities
    underlay: str = ""  # "IP:PORT" (UDP) of its end of the VPCs' VXLANs, as its agent says; "" when it has none
    state: HostState = HostState.READY
    draining: bool = False  # an operator writes: it keeps what it has and takes nothing new
    pressure: tuple[Pressure, ...] = ()  # what its machine is short of, as its agent measured
    leaving: bool = False  # an operator writes, once: it is forgotten as soon as nothing is on it, or it is silent
    vcpus: int
    memory_mib: int
    disk_gib: int | None = None  # None: nobody counts it
    disk_gib_used: int = 0
    vcpus_used: int = 0
    memory_mib_used: int = 0
    instances: int = 0
    dedicated: Dedication | None = None  # mostly: none of dedicated tenancy is here
    joined_at: float
    key: str | None = None  # SHA-256 of its agent's public key; None for the agent within the server's own process
    run: str = ""  # the agent's process that joined last, and which of its host's processes that was: see Origin
    starts: int = 0

    @property
    def takes_instances(self) -> bool:
        return self.state is HostState.READY and not self.draining and not self.pressure


def dedication(now: Dedication | None, account: str, instances: int) -> Dedication | None:
    """`now` with so many instances of dedicated tenancy more, or fewer."""
    count = instances if now is None else now.instances + instances
    return Dedication(account=account, instances=count) if count > 0 else None
