"""A storage that only remembers: for `alto up --simulate N`, whose hosts share one, and for the simulator, which has knobs.

`FakeStorage` is the disks and outlives any number of `FakeVolumes` drivers. What a volume holds is a list of words, so that
a test sees what was copied from where. Invariant: without faults it answers as the contract suite asks of real drivers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from alto.drivers.compute.fake import Knobs
from alto.drivers.volume.driver import Base, Capacity, Disk, Keyring, NoKeys, Stored
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible

T = TypeVar("T")
FOLDER = Path("/simulated/storage")


class FakeVolume(msgspec.Struct, frozen=True):
    size_bytes: int
    words: tuple[str, ...] = ()
    base: Base | None = None
    sealed_key: str | None = None


class FakeStorage:
    def __init__(self, name: str = "simulated", size_gib: int = 1 << 20) -> None:
        self.name = name
        self.size_gib = size_gib
        self.volumes: dict[str, FakeVolume] = {}
        self.snapshots: dict[str, FakeVolume] = {}
        self.half_made: dict[str, str | None] = {}  # snapshots begun: id -> sealed key

    def write(self, volume_id: str, word: str) -> None:
        """As a guest would."""
        old = self.volumes[volume_id]
        self.volumes[volume_id] = msgspec.structs.replace(old, words=(*old.words, word))

    def copy(self, volume_id: str, target: Path) -> None:
        """As a running machine does it, into the file of a snapshot that was begun."""
        if target.name in self.half_made:
            key = self.half_made[target.name]
            self.snapshots[target.name] = msgspec.structs.replace(self.volumes[volume_id], base=None, sealed_key=key)


class FakeVolumes:
    """A VolumeDriver."""

    def __init__(
        self,
        world: World,
        storage: FakeStorage | None = None,
        *,
        knobs: Knobs | None = None,
        keys: Keyring | None = None,
    ) -> None:
        self.storage = storage if storage is not None else FakeStorage()
        self.knobs = knobs if knobs is not None else Knobs()
        self._world = world
        self._keys = keys or NoKeys()

    async def capacity(self) -> Capacity:
        return Capacity(storage=self.storage.name, size_gib=self.storage.size_gib)

    async def create(
        self, volume_id: str, size_bytes: int, *, account: str, base: Base | None = None, sealed_key: str | None = None
    ) -> Disk:
        of_snapshot = base is not None and str(base.path).startswith(f"{FOLDER}/")
        copied = base is not None and of_snapshot and base.sealed_key != sealed_key
        if volume_id not in self.storage.volumes:
            if base is not None and base.sealed_key is not None and sealed_key is None:
                raise Impossible("What is made of an encrypted snapshot is encrypted")
            await self._open(sealed_key, base.sealed_key if base is not None and copied else None)

        def effect() -> Disk:
            old = self.storage.volumes.get(volume_id)
            if old is None:
                words = self._snapshot(base.path.name).words if base is not None and of_snapshot else ()
                under = base if not copied else None
                self.storage.volumes[volume_id] = FakeVolume(size_bytes, words, under, sealed_key)
            elif old.size_bytes < size_bytes:
                self.storage.volumes[volume_id] = msgspec.structs.replace(old, size_bytes=size_bytes)
            return self._disk(volume_id)

        return await self._call("create_volume", effect)

    async def has(self, id: str) -> bool:
        return await self._call("has", lambda: id in self.storage.volumes or id in self.storage.snapshots)

    async def disk(self, volume_id: str) -> Disk:
        return await self._call("disk", lambda: self._disk(volume_id))

    async def grow(self, volume_id: str, size_bytes: int) -> Disk:
        known = self.storage.volumes.get(volume_id)
        if known is not None and known.size_bytes < size_bytes:
            await self._open(known.sealed_key)

        def effect() -> Disk:
            old = self._volume(volume_id)
            self.storage.volumes[volume_id] = msgspec.structs.replace(old, size_bytes=max(old.size_bytes, size_bytes))
            return self._disk(volume_id)

        return await self._call("grow", effect)

    async def delete(self, volume_id: str) -> None:
        await self._call("delete_volume", lambda: self.storage.volumes.pop(volume_id, None))

    async def snapshot(self, volume_id: str, snapshot_id: str) -> None:
        if snapshot_id not in self.storage.snapshots:
            await self._open(self._volume(volume_id).sealed_key)

        def effect() -> None:
            self.storage.snapshots.setdefault(snapshot_id, msgspec.structs.replace(self._volume(volume_id), base=None))

        await self._call("snapshot", effect)

    async def begin_snapshot(self, snapshot_id: str, size_bytes: int, *, sealed_key: str | None = None) -> Path:
        await self._open(sealed_key)

        def effect() -> Path:
            self.storage.half_made[snapshot_id] = sealed_key
            return FOLDER / snapshot_id

        return await self._call("begin_snapshot", effect)

    async def finish_snapshot(self, snapshot_id: str) -> None:
        def effect() -> None:
            self._snapshot(snapshot_id)
            self.storage.half_made.pop(snapshot_id, None)

        await self._call("finish_snapshot", effect)

    async def copy_snapshot(self, source_id: str, snapshot_id: str, *, sealed_key: str | None = None) -> None:
        was = self._snapshot(source_id).sealed_key
        if snapshot_id not in self.storage.snapshots and sealed_key not in (None, was):
            await self._open(was, sealed_key)

        def effect() -> None:
            source = self._snapshot(source_id)
            key = sealed_key or source.sealed_key
            self.storage.snapshots[snapshot_id] = msgspec.structs.replace(source, sealed_key=key)

        await self._call("copy_snapshot", effect)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        def effect() -> None:
            self.storage.half_made.pop(snapshot_id, None)
            self.storage.snapshots.pop(snapshot_id, None)

        await self._call("delete_snapshot", effect)

    async def base(self, snapshot_id: str) -> Base:
        def effect() -> Base:
            return Base(path=FOLDER / snapshot_id, sealed_key=self._snapshot(snapshot_id).sealed_key)

        return await self._call("base", effect)

    async def observe(self) -> Stored:
        return await self._call(
            "observe_storage",
            lambda: Stored(volumes=tuple(sorted(self.storage.volumes)), snapshots=tuple(sorted(self.storage.snapshots))),
        )

    async def _open(self, *sealed_keys: str | None) -> None:
        """Nothing is encrypted here, and yet a host that does not get a key does nothing that takes it."""
        for sealed in sealed_keys:
            if sealed is not None:
                await self._keys.open(sealed)

    def _disk(self, volume_id: str) -> Disk:
        found = self._volume(volume_id)
        return Disk(
            volume_id=volume_id,
            path=FOLDER / volume_id,
            size_bytes=found.size_bytes,
            base=found.base,
            sealed_key=found.sealed_key,
        )

    def _volume(self, volume_id: str) -> FakeVolume:
        found = self.storage.volumes.get(volume_id)
        if found is None:
            raise DriverFault(f"The volume {volume_id} is not in this storage")
        return found

    def _snapshot(self, snapshot_id: str) -> FakeVolume:
        found = self.storage.snapshots.get(snapshot_id)
        if found is None:
            raise DriverFault(f"The snapshot {snapshot_id} is not in this storage")
        return found

    async def _call(self, method: str, effect: Callable[[], T]) -> T:
        fault = await self.knobs.before(self._world, method)
        result = effect()
        await self.knobs.after(self._world, method, fault)
        return result
