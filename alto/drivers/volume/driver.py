"""The interface of a storage: what keeps the bytes of volumes and snapshots."""

from pathlib import Path
from typing import Protocol

import msgspec

from alto.model.errors import Impossible


class Keyring(Protocol):
    """Who opens sealed keys (`model/encryption.py`). Nothing of them is ever written, nor said on a command line."""

    async def open(self, sealed: str) -> str:
        """The key, in hexadecimal. Raises: DriverFault: nobody can be asked now; Impossible: it is not for this host."""


class NoKeys:
    """A Keyring of a host, or a test, without encrypted disks."""

    async def open(self, sealed: str) -> str:
        raise Impossible("This host opens no encrypted disks")


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What a disk is an overlay of: an image's or a snapshot's file. Never written. An encrypted one is under disks of the
    same key only."""

    path: Path
    format: str = "qcow2"
    sealed_key: str | None = None  # of an encrypted one


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as a machine takes it: a qcow2 file, and what lies under it."""

    volume_id: str
    path: Path
    size_bytes: int
    base: Base | None = None
    sealed_key: str | None = None  # of an encrypted one


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """`storage` names it: two hosts that say the same name reach the same volumes."""

    storage: str
    size_gib: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    volumes: tuple[str, ...]
    snapshots: tuple[str, ...]


class VolumeDriver(Protocol):
    """Calls are idempotent: asking for what already is, is success and changes nothing.

    Each may raise DriverFault (worth retrying) or Impossible (not), and nothing else. The caller sees to it that a volume is
    worked on by one call at a time, and that no machine has it open; a snapshot never changes once it is made.
    """

    async def capacity(self) -> Capacity: ...

    async def create(
        self, volume_id: str, size_bytes: int, *, account: str, base: Base | None = None, sealed_key: str | None = None
    ) -> Disk:
        """An empty volume, or one that begins as `base`. Its record is on the disk before its bytes are promised. One that is
        there is answered as it is, grown when it is smaller than `size_bytes`.

        With `sealed_key`, all that is ever written to it is encrypted. An image stays under it as it is; a snapshot with
        another key, or without, is copied, so that what was somebody's data is encrypted too."""

    async def has(self, id: str) -> bool:
        """Whether a volume or a snapshot is there, whole."""

    async def disk(self, volume_id: str) -> Disk:
        """Raises: DriverFault, when it is not there."""

    async def grow(self, volume_id: str, size_bytes: int) -> Disk:
        """At least so large."""

    async def delete(self, volume_id: str) -> None:
        """Nothing of it is left; what was made from it stays."""

    async def snapshot(self, volume_id: str, snapshot_id: str) -> None:
        """A copy of the volume as it is now, which needs it no more. An encrypted one's has its key."""

    async def begin_snapshot(self, snapshot_id: str, size_bytes: int, *, sealed_key: str | None = None) -> Path:
        """An empty file for somebody else to copy into: it is no snapshot before `finish_snapshot`. Begins anew each time."""

    async def finish_snapshot(self, snapshot_id: str) -> None:
        """What was copied is on the disk, and is the snapshot from now on."""

    async def copy_snapshot(self, source_id: str, snapshot_id: str, *, sealed_key: str | None = None) -> None:
        """Encrypted with `sealed_key`, if there is one, whatever the source is."""

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Volumes that began as it keep what they need of it."""

    async def base(self, snapshot_id: str) -> Base:
        """Raises: DriverFault, when it is not there."""

    async def observe(self) -> Stored:
        """Everything that is in the storage now."""
