"""A storage on this host's disk: each volume a qcow2 file with its record beside it, each snapshot a file that never changes.

`folder/volumes/ID/` holds volume.json (written before the bytes), disk.qcow2, and base.qcow2 when it began as a snapshot:
a further name (a hard link) of the snapshot's file, so that a snapshot may go while volumes still need its bytes.
`folder/snapshots/ID.qcow2` is a snapshot; one that is being made has a dot before its name. An encrypted one has its sealed
key beside it, in `.ID.key`; a volume has it in its record. What opens them is nowhere here.

Not here: reading or copying what a disk holds, which a confined process does (`DiskTool`). The invariant: a file under its own
name is whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from alto.drivers.image.qcow2 import HEADER_BYTES, empty, refusal, virtual_bytes
from alto.drivers.volume import luks
from alto.drivers.volume.driver import Base, Capacity, Disk, Keyring, NoKeys, Stored
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible

GIB = 1 << 30
COMMAND_S = 600.0


class DiskTool(Protocol):
    async def copy(self, disk: Disk, target: Path, *, sealed_key: str | None = None) -> None:
        """Into an empty qcow2 file of its size, which this key opens."""

    async def grow(self, disk: Disk, size_bytes: int) -> None: ...


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    account: str
    base: str | None
    base_format: str = "qcow2"
    sealed_key: str | None = None


class FileVolumes:
    """A VolumeDriver. One at a time per `folder`."""

    def __init__(self, world: World, folder: Path, tool: DiskTool, keys: Keyring | None = None) -> None:
        self._world = world
        self._folder = folder
        self._tool = tool
        self._keys = keys or NoKeys()

    async def capacity(self) -> Capacity:
        with _faults():
            name = self._folder / "storage"
            self._world.files.make_dirs(self._folder / "volumes")
            self._world.files.make_dirs(self._folder / "snapshots")
            if not self._world.files.exists(name):
                self._world.files.write(name, ("st-" + self._world.chance.hex(17)).encode())
            size = await self._run("df", "--output=size", "--block-size=1G", str(self._folder))
            return Capacity(storage=self._world.files.read(name).decode(), size_gib=int(size.split()[-1]))

    async def create(
        self, volume_id: str, size_bytes: int, *, account: str, base: Base | None = None, sealed_key: str | None = None
    ) -> Disk:
        with _faults():
            files, home = self._world.files, self._home(volume_id)
            if await self.has(volume_id):
                return await self.grow(volume_id, size_bytes)
            if base is not None and base.sealed_key is not None and sealed_key is None:
                raise Impossible("What is made of an encrypted snapshot is encrypted")
            files.make_dirs(home)
            source = None
            if base is not None and base.path.parent == self._folder / "snapshots" and base.sealed_key != sealed_key:
                source, base = base, None
            if base is not None and base.path.parent == self._folder / "snapshots":
                await self._run("ln", "--force", "--", str(base.path), str(home / "base.qcow2"))
                base = Base(path=home / "base.qcow2", sealed_key=sealed_key)
            record = _Record(
                id=volume_id,
                account=account,
                base=str(base.path) if base is not None else None,
                base_format=base.format if base is not None else "qcow2",
                sealed_key=sealed_key,
            )
            files.write(home / "volume.json", msgspec.json.encode(record))
            if source is not None:
                half = home / "copy.qcow2"
                size = self._base_bytes(source)
                files.write(half, await self._empty(size, sealed_key))
                was = Disk(volume_id=volume_id, path=source.path, size_bytes=size, sealed_key=source.sealed_key)
                await self._tool.copy(was, half, sealed_key=sealed_key)
                await self._put_in_place(half, home / "disk.qcow2")
                return await self.grow(volume_id, size_bytes)
            if base is not None:
                size_bytes = max(size_bytes, self._base_bytes(base))
            backing = str(base.path) if base is not None else None
            files.write(home / "disk.qcow2", await self._empty(size_bytes, sealed_key, backing))
            return await self.disk(volume_id)

    async def _empty(self, size_bytes: int, sealed_key: str | None, backing: str | None = None) -> bytes:
        if sealed_key is None:
            return empty(size_bytes, backing)
        key = await self._keys.open(sealed_key)
        return empty(size_bytes, backing, luks_head=luks.head(key.encode(), self._world.chance.bytes(luks.CHANCE_BYTES)))

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
            base = None
            if record.base is not None:
                # A snapshot under an encrypted volume has its key; an image has none.
                own = Path(record.base).parent == home
                key = record.sealed_key if own else None
                base = Base(path=Path(record.base), format=record.base_format, sealed_key=key)
            header = files.part(home / "disk.qcow2", 0, HEADER_BYTES)
            encrypted = record.sealed_key is not None
            why = refusal(header, files.size(home / "disk.qcow2"), may_have_backing=True, encrypted=encrypted)
            if why is not None:
                raise Impossible(f"The volume {volume_id} cannot be used: {why}")
            return Disk(
                volume_id=volume_id,
                path=home / "disk.qcow2",
                size_bytes=virtual_bytes(header),
                base=base,
                sealed_key=record.sealed_key,
            )

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
                await self._copy(await self.disk(volume_id), snapshot_id)

    async def _copy(self, disk: Disk, snapshot_id: str, sealed_key: str | None = None) -> None:
        key = sealed_key or disk.sealed_key
        target = await self.begin_snapshot(snapshot_id, disk.size_bytes, sealed_key=key)
        await self._tool.copy(disk, target, sealed_key=key)
        await self.finish_snapshot(snapshot_id)

    async def begin_snapshot(self, snapshot_id: str, size_bytes: int, *, sealed_key: str | None = None) -> Path:
        with _faults():
            target = self._half(snapshot_id)
            self._world.files.remove(target)
            if sealed_key is not None:
                self._world.files.write(self._key(snapshot_id), sealed_key.encode())
            self._world.files.write(target, await self._empty(size_bytes, sealed_key))
            return target

    async def finish_snapshot(self, snapshot_id: str) -> None:
        with _faults():
            if self._world.files.exists(self._half(snapshot_id)):
                await self._put_in_place(self._half(snapshot_id), self._snapshot(snapshot_id))

    async def _put_in_place(self, half: Path, whole: Path) -> None:
        await self._run("sync", str(half))
        await self._run("mv", "--no-target-directory", str(half), str(whole))
        await self._run("sync", str(whole.parent))

    async def copy_snapshot(self, source_id: str, snapshot_id: str, *, sealed_key: str | None = None) -> None:
        """It never changes, so another name of the same bytes is a copy; unless that has another key."""
        with _faults():
            if await self.has(snapshot_id):
                return
            source = await self.base(source_id)
            if sealed_key not in (None, source.sealed_key):
                size = self._base_bytes(source)
                was = Disk(volume_id=snapshot_id, path=source.path, size_bytes=size, sealed_key=source.sealed_key)
                return await self._copy(was, snapshot_id, sealed_key)
            if source.sealed_key is not None:
                self._world.files.write(self._key(snapshot_id), source.sealed_key.encode())
            await self._run("ln", "--", str(source.path), str(self._snapshot(snapshot_id)))

    async def delete_snapshot(self, snapshot_id: str) -> None:
        with _faults():
            self._world.files.remove(self._half(snapshot_id))
            self._world.files.remove(self._snapshot(snapshot_id))
            self._world.files.remove(self._key(snapshot_id))

    async def base(self, snapshot_id: str) -> Base:
        if not await self.has(snapshot_id):
            raise DriverFault(f"The snapshot {snapshot_id} is not in this storage")
        with _faults():
            key = self._world.files.read(self._key(snapshot_id)).decode() if self._is_encrypted(snapshot_id) else None
            return Base(path=self._snapshot(snapshot_id), sealed_key=key)

    def _is_encrypted(self, snapshot_id: str) -> bool:
        return self._world.files.exists(self._key(snapshot_id))

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

    def _key(self, snapshot_id: str) -> Path:
        return self._folder / "snapshots" / f".{_plain(snapshot_id)}.key"

    def _base_bytes(self, base: Base) -> int:
        if base.format == "raw":
            return self._world.files.size(base.path)
        header = self._world.files.part(base.path, 0, HEADER_BYTES)
        why = refusal(header, self._world.files.size(base.path), encrypted=base.sealed_key is not None)
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
