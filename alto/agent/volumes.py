"""The agent's hands on a storage: the volumes of its machines, and storage jobs (volumes and snapshots by themselves).

A volume of a machine is touched only by whoever holds that machine's lock, so that nothing is copied or grown behind the
back of a start. A job is done again until it is done or can never be; whatever was half done by an agent that died is found
again in the storage itself, so nothing is remembered here. Not here: what a step does (drivers), and why (the server).

Invariant: bytes are deleted only by a job that says so, or with the instance that they were made with, as its wish says.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog
from msgspec.structs import replace

from alto.drivers.compute.driver import BootFiles, ComputeDriver
from alto.drivers.volume.driver import Base, Disk, VolumeDriver
from alto.kit.world import World
from alto.model.errors import AltoError, DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine
from alto.model.volumes import GIB, JobReport, StorageJob, Task

log = structlog.get_logger()

RETRY_FIRST_S, RETRY_MAX_S = 0.5, 15.0
JOBS_MAX = 4  # side by side: each may copy a whole disk


class VolumeHands:
    def __init__(
        self,
        world: World,
        driver: VolumeDriver | None,
        compute: ComputeDriver,
        *,
        lock_of: Callable[[str], asyncio.Lock],
        machines: Callable[[], Iterable[Machine]],
        news: asyncio.Event,
    ) -> None:
        """`lock_of`: a machine's lock. `driver` is None on a host that has no storage: its machines keep roots of their own."""
        self._world = world
        self._driver = driver
        self._compute = compute
        self._lock_of = lock_of
        self._machines = machines
        self._news = news
        self._jobs: dict[str, StorageJob] = {}
        self._workers: set[str] = set()
        self._copying: set[str] = set()  # snapshots that are being made just now
        self._at_once = asyncio.Semaphore(JOBS_MAX)
        self._wired: dict[str, tuple[int, int]] = {}  # machine -> the incarnation and wiring that are true
        self.reports: dict[str, JobReport] = {}

    async def describe(self, capabilities: Capabilities) -> Capabilities:
        """`capabilities` with what this storage adds to them."""
        if self._driver is None:
            return capabilities
        capacity = await self._driver.capacity()
        return replace(capabilities, storage=capacity.storage, disk_gib=capacity.size_gib)

    async def observe(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Ids of volumes and of snapshots."""
        if self._driver is None:
            return (), ()
        stored = await self._driver.observe()
        return stored.volumes, stored.snapshots

    # Volumes of machines; the caller holds the machine's lock.

    async def made(self, machine: Machine, boot: BootFiles) -> tuple[Disk, ...]:
        """Everything that `machine` starts with, the root volume first; what comes into being with it is made."""
        driver = self._driver
        if driver is None:
            return ()
        root = machine.root
        if root.made_here:
            # The snapshot may be gone by the second start, when it is not needed any more.
            base = Base(path=boot.disk, format=boot.disk_format) if boot.disk is not None else None
            if root.snapshot_id is not None:
                base = await self._base_of(root.volume_id, root.snapshot_id)
            size = root.size_gib * GIB
            made = await driver.create(root.volume_id, size, account=machine.account, base=base, sealed_key=root.sealed_key)
            disks = [made]
        else:
            disks = [await driver.grow(root.volume_id, root.size_gib * GIB)]
        for one in machine.volumes:
            size = one.size_gib * GIB
            if one.made_here and not await driver.has(one.volume_id):
                base = await self._base_of(one.volume_id, one.snapshot_id) if one.snapshot_id is not None else None
                made = await driver.create(one.volume_id, size, account=machine.account, base=base, sealed_key=one.sealed_key)
                disks.append(made)
            else:
                disks.append(await driver.grow(one.volume_id, size))
        return tuple(disks)

    async def _base_of(self, volume_id: str, snapshot_id: str) -> Base | None:
        """What a volume is made of; None when it is made already. Raises: Impossible, when the snapshot is gone."""
        assert self._driver is not None
        if await self._driver.has(volume_id):
            return None
        if not await self._driver.has(snapshot_id):
            raise Impossible(f"The snapshot {snapshot_id} is gone")
        return await self._driver.base(snapshot_id)

    def started(self, machine: Machine) -> None:
        self._wired[machine.id] = (machine.incarnation, machine.wiring)

    async def wire(self, machine: Machine, *, running: bool) -> None:
        """The machine has the volumes that it should have, each as large as it should be; at once when it is so already."""
        if self._driver is None or self._wired.get(machine.id) == (machine.incarnation, machine.wiring):
            return
        sizes = {machine.root.volume_id: machine.root.size_gib, **{one.volume_id: one.size_gib for one in machine.volumes}}
        wanted = [(id, sizes[id]) for id in machine.volume_ids]
        if running:
            disks = [(await self._driver.disk(id), size) for id, size in wanted]
            await self._compute.wire(
                machine.id, [replace(disk, size_bytes=max(disk.size_bytes, size * GIB)) for disk, size in disks]
            )
        else:
            for id, size in wanted:
                if await self._driver.has(id):
                    await self._driver.grow(id, size * GIB)
        self.started(machine)

    async def ended(self, machine: Machine) -> None:
        """The machine is gone for good: what was made with it goes too, unless it was to be kept."""
        self._wired.pop(machine.id, None)
        if self._driver is None:
            return
        for id in machine.volume_ids:
            self._check_copied(id)
        root = machine.root
        if root.made_here and root.delete_on_termination and not root.away:
            await self._driver.delete(machine.root.volume_id)
        for one in machine.volumes:
            if one.made_here and one.delete_on_termination:
                await self._driver.delete(one.volume_id)

    # Jobs.

    def take(self, jobs: Sequence[StorageJob], tasks: asyncio.TaskGroup) -> None:
        for job in jobs:
            known = self._jobs.get(job.id)
            if known is None or known.version <= job.version:
                self._jobs[job.id] = job
        for key in dict.fromkeys(job.set_id or job.id for job in jobs):
            if key not in self._workers:
                self._workers.add(key)
                tasks.create_task(self._work(key), name=f"storage {key}")

    async def _work(self, key: str) -> None:
        pause_s = RETRY_FIRST_S
        try:
            while jobs := [job for _, job in sorted(self._jobs.items()) if key in (job.set_id, job.id)]:
                try:
                    async with self._at_once:
                        await self._do(jobs)
                except Impossible as error:
                    log.error("storage job is impossible", job=key, error=str(error), cause=str(error.__cause__ or ""))
                    self._done(jobs, fault=str(error))
                except AltoError as error:
                    log.warning("storage job failed", job=key, error=str(error), cause=str(error.__cause__ or ""))
                    await self._world.clock.sleep(pause_s)
                    pause_s = min(pause_s * 2, RETRY_MAX_S)
                else:
                    self._done(jobs)
        finally:
            self._workers.discard(key)

    def _done(self, jobs: Sequence[StorageJob], fault: str | None = None) -> None:
        for job in jobs:
            self.reports[job.id] = JobReport(id=job.id, version=job.version, fault=fault, at=self._world.clock.now())
            if self._jobs.get(job.id) == job:
                del self._jobs[job.id]
        self._news.set()

    async def _do(self, jobs: Sequence[StorageJob]) -> None:
        driver, job = self._driver, jobs[0]
        if driver is None:
            raise Impossible("This host has no storage for volumes")
        match job.task:
            case Task.CREATE:
                base = await self._base_of(job.id, job.snapshot_id) if job.snapshot_id is not None else None
                await driver.create(job.id, job.size_gib * GIB, account=job.account, base=base, sealed_key=job.sealed_key)
            case Task.GROW:
                await driver.grow(job.id, job.size_gib * GIB)
            case Task.DELETE:
                self._check_copied(job.id)
                await driver.delete(job.id)
            case Task.COPY:
                await driver.copy_snapshot(job.snapshot_id or "", job.id, sealed_key=job.sealed_key)
            case Task.DELETE_SNAPSHOT:
                if job.id in self._copying or any(other.snapshot_id == job.id for other in self._jobs.values()):
                    raise DriverFault(f"{job.id} is being made, or still needed for what is made from it")
                await driver.delete_snapshot(job.id)
            case Task.SNAPSHOT:
                await self._snapshot(driver, jobs)

    def _check_copied(self, volume_id: str) -> None:
        """Raises: DriverFault, while a snapshot of it is still to be taken."""
        if any(job.task is Task.SNAPSHOT and job.volume_id == volume_id for job in self._jobs.values()):
            raise DriverFault(f"{volume_id} is still to be copied into a snapshot")

    async def _snapshot(self, driver: VolumeDriver, jobs: Sequence[StorageJob]) -> None:
        """All of `jobs`, which are of one machine's volumes, or one of a volume that no machine has."""
        wanted = {job.volume_id or "": job for job in jobs}
        has = next((one for one in self._machines() if not wanted.keys().isdisjoint(one.volume_ids)), None)
        ids = {job.id for job in jobs}
        self._copying |= ids
        try:
            if has is None:
                await self._copy(driver, wanted, None)
            else:
                async with self._lock_of(has.id):
                    await self._copy(driver, wanted, has.id)
        finally:
            self._copying -= ids

    async def _copy(self, driver: VolumeDriver, wanted: dict[str, StorageJob], machine_id: str | None) -> None:
        missing = {volume_id: job for volume_id, job in wanted.items() if not await driver.has(job.id)}
        if machine_id is not None and missing:
            targets = {
                id: await driver.begin_snapshot(job.id, job.size_gib * GIB, sealed_key=job.sealed_key)
                for id, job in missing.items()
            }
            quiet = any(job.reboot for job in missing.values())
            if await self._compute.backup(machine_id, targets, quiet=quiet):
                for job in missing.values():
                    await driver.finish_snapshot(job.id)
                return
        for volume_id, job in missing.items():
            if not await driver.has(volume_id):
                raise Impossible(f"The volume {volume_id} is gone")
            await driver.snapshot(volume_id, job.id)
