"""The interface of every make of compute host."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from alto.drivers.volume.driver import Disk
from alto.model.hosts import Capabilities
from alto.model.instances import Machine
from alto.model.instances import Power as Power
from alto.model.instances import Seen as Seen


class BootFiles(msgspec.Struct, frozen=True, kw_only=True):
    """An image on this host's disk, ready to boot from. `disk` is only ever a backing file, never written; None where the
    machine's own root volume is all that there is."""

    disk: Path | None = None
    disk_format: str = "qcow2"
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""


class Tap(msgspec.Struct, frozen=True, kw_only=True):
    """A network port that waits for its machine: a tap's `fd`, or the name of a veth's guest end in this process's namespace
    (`peer`). Neither where nothing real is plugged (the fake)."""

    interface_id: str  # "eni-..."
    name: str
    mac: str
    fd: int = -1
    peer: str = ""


class Line(Protocol):
    """A machine's serial line, live. What the machine says is kept for `console` whoever holds the line, or nobody."""

    async def read(self) -> bytes:
        """What the machine says next, when it says something; nothing when the line has ended, as with the machine. Whoever
        holds a line reads it all the time: a machine may wait for its line."""

    async def write(self, data: bytes) -> None:
        """Typed on it. Raises: DriverFault: the line has ended, or the machine takes nothing more of it."""

    async def close(self) -> None:
        """Idempotent."""


class ComputeDriver(Protocol):
    """Calls are idempotent: asking for what already is, is success and changes nothing.

    Every method may raise DriverFault (worth retrying) or Impossible (not), and nothing else. Several machines may be
    worked on at once; calls for one machine come one after another.
    """

    async def capabilities(self) -> Capabilities: ...

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        """The process exists when it returns. It is of `machine.incarnation` and does not need this one to live. The first
        of `taps` is the primary interface and the first of `disks` the root volume: both stay while it runs. The caller
        closes each `fd`. Without any disk (on a host that has no storage) the driver keeps a root of its own, made from
        `boot.disk` at the first start and kept over stops."""

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        """A running machine has exactly these volumes, the root one first, each as large as it says. The guest may take a
        second to see a new one, and has let go of one that is gone when this returns. Nothing happens to a machine that is
        off: a start brings its volumes. Raises: DriverFault, when the guest has not let go yet: ask again."""

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        """Copy volumes of a running machine into empty files of their size, all as they were at one moment. `quiet`: the
        guest powers off before and comes up again after, in the same process, so that it has written everything.

        False, and nothing was done, when the machine is off or has not all of the volumes."""

    async def attach_interface(self, id: str, tap: Tap) -> None:
        """A running machine gets another interface; the guest may take a second to see it. Nothing happens when the
        machine has `tap.interface_id`, or is off: a start brings all its interfaces. The caller closes `tap.fd`."""

    async def detach_interface(self, id: str, interface_id: str) -> None:
        """A running machine loses the interface; the guest has let go of it when this returns. Raises: DriverFault, when
        it has not yet (one that boots does not hear): ask again."""

    async def interfaces(self, id: str) -> frozenset[str]:
        """Which network interfaces a running machine has now, asked of itself; none when it is off."""

    async def stop(self, id: str, *, grace_s: float) -> None:
        """Ask the guest to power off; after `grace_s` seconds, pull the plug. The disk stays."""

    async def reboot(self, id: str) -> None:
        """The guest restarts, by its power button, and hard when it does not listen; the process stays."""

    async def destroy(self, id: str) -> None:
        """No process, no disk, no file of it left."""

    async def observe(self) -> Mapping[str, Seen]:
        """Everything of ours that this driver finds on the host."""

    async def wait_change(self, *, timeout_s: float) -> None:
        """Returns when some machine may have changed by itself, or after `timeout_s`."""

    async def console(self, id: str) -> bytes:
        """What the serial console said, the last 64 KiB."""

    async def open_line(self, id: str) -> Line:
        """The serial line of a running machine; the caller closes it, and opens it once at a time. Raises: DriverFault: the
        machine is off or not here, or its line is in use."""

    async def measure(self, id: str) -> bool:
        """Whether the machine's own status (QMP answers, for QEMU) is good, now."""

    async def close(self) -> None:
        """Let go of connections; machines run on."""


class ImageDriver(Protocol):
    async def fetch(self, source: str) -> BootFiles:
        """The image on this host, built or copied when it is not cached. Concurrent calls for one source share the work.
        Raises: Impossible when there is no such image; DriverFault."""
