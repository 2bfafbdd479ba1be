"""A storage on this host's disk: each volume a qcow2 file with its record beside it, each snapshot a file that never changes.

`folder/volumes/ID/` holds volume.json (written before the bytes), disk.qcow2, and base.qcow2 when it began as a snapshot:
a further name (a hard link) of the snapshot's file, so that a snapshot may go while volumes still need its bytes.
`folder/snapshots/ID.qcow2` is a snapshot; one that is being made has a dot before its name.

Not here: reading or copying what a disk holds, which a confined process does (`DiskTool`). The invariant: a file under its own
name is whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from alto.drivers.image.qcow2 import HEADER_BYTES, empty, refusal, virtual_bytes
from alto.drivers.volume.driver import Base, Capacity, Disk, Stored
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible

GIB = 1 << 30
COMMAND_S = 600.0


class DiskTool(Protocol):
    async def copy(self, disk: Disk, target: Path) -> None:
        """Into an empty qcow2 file of its size."""

    async def grow(self, disk: Disk, size_bytes: int) -> None: ...


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    account: str
    base: str | None
    base_format: str = "qcow2"


class FileVolumes:
    """A VolumeDriver. One at a time per `folder`."""

    def __init__(self, world: World, folder: Path, tool: DiskTool) -> None:
        self._world = world
        self._folder = folder
        self._tool = tool

    async def capacity(self) -> Capacity:
        with _faults():
            name = self._folder / "storage"
            self._world.files.make_dirs(self._folder / "volumes")
            self._world.files.make_dirs(self._folder / "snapshots")
            if not self._world.files.exists(name):
                self._world.files.write(name, ("st-" + self._world.chance.hex(17)).encode())
            size = await self._run("df", "--output=size", "--block-size=1G", str(self._folder))
            return Capacity(storage=self._world.files.read(name).decode(), size_gib=int(size.split()[-1]))

    async def create(self, volume_id: str, size_bytes: int, *, account: str, base: Base | None = None) -> Disk:
        with _faults():
            files, home = self._world.files, self._home(volume_id)
            if await self.has(volume_id):
                return await self.grow(volume_id, size_bytes)
            files.make_dirs(home)
            if base is not None and base.path.parent == self._folder / "snapshots":
                await self._run("ln", "--force", "--", str(base.path), str(home / "base.qcow2"))
                base = Base(path=home / "base.qcow2")
            record = _Record(
                id=volume_id,
                account=account,
                base=str(base.path) if base is not None else None,
                base_format=base.format if base is not None else "qcow2",
            )
            files.write(home / "volume.json", msgspec.json.encode(record))
            if base is not None:
                size_bytes = max(size_bytes, self._base_bytes(base))
            files.write(home / "disk.qcow2", empty(size_bytes, str(base.path) if base is not None else None))
            return await self.disk(volume_id)

    async def has(self, id: str) -> bool:
        if id.startswith("snap-"):
            return self._world.files.exists(self._snapshot(id))
        return self._world.files.exists(self._home(id) / "disk.qcow2")

    async def disk(self, volume_id: str) -> Disk:
        with _faults():
            files, home = self._world.files, self._home(volume_id)
            if not await self.has(volume_id):
                raise DriverFault(f"The volume {volume_id} is not in this storage")
            try:
                record = msgspec.json.decode(files.read(home / "volume.json"), type=_Record)
            except msgspec.DecodeError as error:
                raise Impossible(f"The record of the volume {volume_id} is damaged") from error
            base = Base(path=Path(record.base), format=record.base_format) if record.base is not None else None
            header = files.part(home / "disk.qcow2", 0, HEADER_BYTES)
            why = refusal(header, files.size(home / "disk.qcow2"), may_have_backing=True)
            if why is not None:
                raise Impossible(f"The volume {volume_id} cannot be used: {why}")
            return Disk(volume_id=volume_id, path=home / "disk.qcow2", size_bytes=virtual_bytes(header), base=base)

    async def grow(self, volume_id: str, size_bytes: int) -> Disk:
        with _faults():
            disk = await self.disk(volume_id)
            if disk.size_bytes < size_bytes:
                await self._tool.grow(disk, size_bytes)
                disk = await self.disk(volume_id)
            return disk

    async def delete(self, volume_id: str) -> None:
        with _faults():
            self._world.files.remove_tree(self._home(volume_id))

    async def snapshot(self, volume_id: str, snapshot_id: str) -> None:
        with _faults():
            if not await self.has(snapshot_id):
                disk = await self.disk(volume_id)
                await self._tool.copy(disk, await self.begin_snapshot(snapshot_id, disk.size_bytes))
                await self.finish_snapshot(snapshot_id)

    async def begin_snapshot(self, snapshot_id: str, size_bytes: int) -> Path:
        with _faults():
            target = self._half(snapshot_id)
            self._world.files.remove(target)
            self._world.files.write(target, empty(size_bytes))
            return target

    async def finish_snapshot(self, snapshot_id: str) -> None:
        with _faults():
            if self._world.files.exists(self._half(snapshot_id)):
                await self._run("sync", str(self._half(snapshot_id)))
                await self._run("mv", "--no-target-directory", str(self._half(snapshot_id)), str(self._snapshot(snapshot_id)))
                await self._run("sync", str(self._folder / "snapshots"))

    async def copy_snapshot(self, source_id: str, snapshot_id: str) -> None:
        """It never changes, so another name of the same bytes is a copy."""
        with _faults():
            if not await self.has(snapshot_id):
                await self._run("ln", "--", str((await self.base(source_id)).path), str(self._snapshot(snapshot_id)))

    async def delete_snapshot(self, snapshot_id: str) -> None:
        with _faults():
            self._world.files.remove(self._half(snapshot_id))
            self._world.files.remove(self._snapshot(snapshot_id))

    async def base(self, snapshot_id: str) -> Base:
        if not await self.has(snapshot_id):
            raise DriverFault(f"The snapshot {snapshot_id} is not in this storage")
        return Base(path=self._snapshot(snapshot_id))

    async def observe(self) -> Stored:
        with _faults():
            volumes = self._world.files.names(self._folder / "volumes")
            snapshots = self._world.files.names(self._folder / "snapshots")
            return Stored(
                volumes=tuple([id for id in volumes if self._world.files.exists(self._home(id) / "disk.qcow2")]),
                snapshots=tuple([name.removesuffix(".qcow2") for name in snapshots if not name.startswith(".")]),
            )

    def _home(self, volume_id: str) -> Path:
        return self._folder / "volumes" / _plain(volume_id)

    def _snapshot(self, snapshot_id: str) -> Path:
        return self._folder / "snapshots" / f"{_plain(snapshot_id)}.qcow2"

    def _half(self, snapshot_id: str) -> Path:
        return self._folder / "snapshots" / f".{_plain(snapshot_id)}.qcow2"

    def _base_bytes(self, base: Base) -> int:
        if base.format == "raw":
            return self._world.files.size(base.path)
        header = self._world.files.part(base.path, 0, HEADER_BYTES)
        why = refusal(header, self._world.files.size(base.path))
        # A snapshot is ours, and has no backing file either.
        if why is not None:
            raise Impossible(why)
        return virtual_bytes(header)

    async def _run(self, *argv: str) -> bytes:
        try:
            done = await self._world.processes.run(argv, timeout_s=COMMAND_S)
        except TimeoutError as error:
            raise DriverFault("The storage did not answer in time") from error
        if done.returncode != 0:
            raise DriverFault("The storage could not do what the volume needs") from RuntimeError(done.complaint())
        return done.stdout


def _plain(id: str) -> str:
    if not id or "/" in id or id.startswith("."):
        raise Impossible(f"'{id}' is no id")
    return id


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverFault("The storage could not do what the volume needs") from error
