"""Machines of this host as processes that do not need us: what is so whatever runs them.

`state_dir/ID/` holds a machine: record.json (see record.py), console.log, and what its make keeps there. A make (qemu/,
container/) says how a machine begins, is asked to power off, is taken down, and is known again; when it does so is said here.
Not here: networks, volumes, images, the wish (the agent's).
The invariant: at most one process per machine, and a process is never used before its record is on the disk.
"""

import abc
import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from msgspec.structs import replace

from alto.drivers.compute.driver import BootFiles, Line, Tap
from alto.drivers.compute.groups import ControlGroups
from alto.drivers.compute.host import boot_id, console_of, host_faults, trim_logs
from alto.drivers.compute.record import Ended, Origin, Record, Stage, load, save
from alto.drivers.volume.driver import Disk
from alto.kit.event import Event
from alto.kit.world import Pid, World
from alto.model.errors import DriverFault, Impossible
from alto.model.instances import Machine, Power, Seen

log = structlog.get_logger()


class Here:
    """One machine on this host."""

    def __init__(self, home: Path, record: Record) -> None:
        self.home = home
        self.record = record
        self.working = asyncio.Lock()  # held by whoever changes the machine


H = TypeVar("H", bound=Here)


class Machines(abc.ABC, Generic[H]):
    """What the makes' drivers have of a ComputeDriver in common. One at a time per `state_dir`: records have one writer."""

    logs: Mapping[str, str]  # files of a machine that only grow -> where the last part of each is kept

    def __init__(self, world: World, state_dir: Path, *, groups: ControlGroups | None, share: float) -> None:
        """`groups`: where machines have their limits; without, they have none. `share`: of this machine's memory, what is
        this host's to give out, where several hosts are one machine."""
        self._world = world
        self._state = state_dir
        self._groups = groups
        self._share = share
        self._machines: dict[str, H] | None = None
        self._boot_id = ""
        self._changed = Event()

    # What a make says.

    @abc.abstractmethod
    def _here(self, home: Path, record: Record) -> H: ...

    @abc.abstractmethod
    async def _begin(
        self, here: H, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], undo: AsyncExitStack
    ) -> None:
        """Its process runs and is in its record. `undo` is done when that fails."""

    @abc.abstractmethod
    async def _ask_off(self, here: H, grace_s: float) -> None:
        """Returns when the guest is off, `grace_s` have passed, or nobody hears."""

    @abc.abstractmethod
    async def _take_down(self, here: H) -> None:
        """No process of it is left. Idempotent."""

    @abc.abstractmethod
    async def _restart(self, here: H) -> None:
        """The guest begins anew, by force if it does not listen; its process stays. Raises: DriverFault: there is none."""

    @abc.abstractmethod
    async def _find_process(self, here: H) -> Pid | None:
        """Of a machine whose record stops short of its process; None when it never had one, or it has ended."""

    @abc.abstractmethod
    async def _line(self, here: H) -> Line: ...

    @abc.abstractmethod
    def _died(self, here: H) -> Ended:
        """Why a machine is off that nobody stopped."""

    async def _ready(self) -> None:
        """Before the first call: what a make must know of its host."""

    async def _settle_living(self, here: H) -> None:
        """What a guest may have done by itself in a process that lives."""

    def _has_ended(self, here: H) -> bool:
        """Whether a machine without a process has had one."""
        return False

    async def _let_go(self, here: H) -> None:
        """Of what is open to a machine's process."""

    # The driver.

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        with host_faults():
            here = await self._find(machine.id)
            if here is None:
                record = Record(id=machine.id, incarnation=0, stage=Stage.OFF, boot_id=self._boot_id)
                here = self._here(self._home(machine.id), record)
            async with here.working:
                await self._settle(here)
                if here.record.stage is not Stage.OFF:
                    if here.record.incarnation >= machine.incarnation:
                        if here.record.stage is Stage.READY:
                            raise DriverFault("The machine's hypervisor does not say yet whether the guest has begun")
                        return
                    # Whoever begins an incarnation has seen the end of the one before.
                    await self._end(here, Ended.STOPPED)
                async with AsyncExitStack() as undo:
                    if machine.id in self._known():
                        undo.callback(self._save, here, here.record)
                    else:
                        undo.callback(self._world.files.remove_tree, here.home)
                    self._world.files.make_dirs(here.home)
                    await self._begin(here, machine, boot, taps, disks, undo)
                    undo.pop_all()
                self._known()[machine.id] = here
            self._changed.set()

    async def stop(self, id: str, *, grace_s: float) -> None:
        async with self._settled(id) as here:
            if here is None or here.record.stage is Stage.OFF:
                return
            self._save(here, replace(here.record, stage=Stage.STOPPING))
            await self._ask_off(here, grace_s)
            await self._end(here, Ended.STOPPED)

    async def reboot(self, id: str) -> None:
        async with self._settled(id) as here:
            if here is None or here.record.stage is Stage.OFF:
                raise DriverFault(f"Machine {id} is not on, so it cannot reboot")
            await self._restart(here)

    async def destroy(self, id: str) -> None:
        with host_faults():
            here = await self._find(id)
            if here is None:
                # What a crash left of a beginning, if anything.
                await self._leave_group(id)
                self._world.files.remove_tree(self._home(id))
                return
            async with here.working:
                await self._claim(here)
                await self._kill(here)
                await self._let_go(here)
                await self._leave_group(id)
                # The record last: while anything is left, the machine is still found.
                for name in self._world.files.names(here.home):
                    if name != "record.json":
                        self._world.files.remove_tree(here.home / name)
                self._world.files.remove_tree(here.home)
                self._known().pop(id, None)

    async def observe(self) -> Mapping[str, Seen]:
        with host_faults():
            await self._ready()
            machines = self._known()
            async with asyncio.TaskGroup() as tasks:
                for here in machines.values():
                    if not here.working.locked() and here.record.stage is not Stage.OFF:
                        tasks.create_task(self._look(here))
            return {id: self._seen(here) for id, here in sorted(machines.items())}

    async def wait_change(self, *, timeout_s: float) -> None:
        with host_faults():
            await self._ready()
            on = [here for here in self._known().values() if here.record.pid and here.record.stage is not Stage.OFF]
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(self._watch_end(here.record.process, timeout_s)) for here in on]
                try:
                    changed = await self._changed.wait(timeout_s)
                finally:
                    for watcher in watchers:
                        watcher.cancel()
            if changed:
                self._changed.clear()

    async def console(self, id: str) -> bytes:
        with host_faults():
            return console_of(self._world.files, self._home(id))

    async def open_line(self, id: str) -> Line:
        with host_faults():
            here = await self._find(id)
            if here is None or here.record.stage is Stage.OFF or not self._alive(here.record):
                raise DriverFault(f"Machine {id} is not on, so its console cannot be opened")
            return await self._line(here)

    # Knowing again.

    def _known(self) -> dict[str, H]:
        """The first call learns which machines are here."""
        if self._machines is None:
            self._world.files.make_dirs(self._state)
            self._boot_id = boot_id(self._world.files)
            self._machines = {}
            for name in self._world.files.names(self._state):
                home = self._state / name
                record = None if name.startswith(".") else load(self._world.files, home)
                if record is not None:
                    self._machines[record.id] = self._here(home, record)
        return self._machines

    async def _find(self, id: str) -> H | None:
        await self._ready()
        return self._known().get(id)

    @asynccontextmanager
    async def _settled(self, id: str) -> AsyncIterator[H | None]:
        """A machine whose record is true, on or off, ours for the block; None: it is not here."""
        with host_faults():
            here = await self._find(id)
            if here is None:
                yield None
                return
            async with here.working:
                await self._settle(here)
                yield here

    async def _look(self, here: H) -> None:
        async with here.working:
            try:
                await self._settle(here)
            except DriverFault as error:
                log.warning("machine does not answer", instance=here.record.id, error=str(error))
            await trim_logs(self._world, here.home, self.logs)

    async def _settle(self, here: H) -> None:
        """Make the record true: a process that ended, a guest that powered itself off, a reboot left half done."""
        await self._claim(here)
        if here.record.stage is Stage.OFF:
            return
        if self._alive(here.record):
            await self._settle_living(here)
        else:
            await self._end(here, self._why_off(here))

    async def _claim(self, here: H) -> None:
        """A record without a process: our predecessor died between the two."""
        if here.record.stage is not Stage.STARTING:
            return
        process = await self._find_process(here)
        if process is not None:
            self._save(
                here,
                replace(here.record, stage=Stage.ON, pid=process.pid, started=process.started, boot_id=self._boot_id),
            )
        elif self._has_ended(here):
            await self._ended(here, self._why_off(here))
        else:
            await self._unbegin(here)

    async def _unbegin(self, here: H) -> None:
        """There is no process: this incarnation has not begun, and may."""
        await self._leave_group(here.record.id)
        begun = here.record.incarnation - 1
        off = replace(here.record, stage=Stage.OFF, ended=Ended.STOPPED, incarnation=begun, pid=0, started=0)
        self._save(here, off)
        await self._let_go(here)

    def _alive(self, record: Record) -> bool:
        return bool(record.pid) and record.boot_id == self._boot_id and self._world.processes.alive(record.process)

    def _why_off(self, here: H) -> Ended:
        return Ended.STOPPED if here.record.stage is Stage.STOPPING else self._died(here)

    def _seen(self, here: H) -> Seen:
        record = here.record
        if record.stage is Stage.READY:
            return Seen(power=Power.OFF, incarnation=record.incarnation - 1)
        if record.stage is not Stage.OFF and (record.stage is Stage.STARTING or self._alive(record)):
            return Seen(power=Power.ON, incarnation=record.incarnation)
        # It may have died a moment ago, after the last look: then the record does not say so yet.
        ended = record.ended if record.stage is Stage.OFF else self._why_off(here)
        return Seen(
            power=Power.OFF,
            incarnation=record.incarnation,
            guest_initiated=ended is Ended.BY_GUEST,
            crashed=ended is Ended.CRASHED,
        )

    async def _watch_end(self, process: Pid, timeout_s: float) -> None:
        if await self._world.processes.wait_gone(process, timeout_s=timeout_s):
            self._changed.set()

    # Beginning and ending.

    def _starting(self, here: H, machine: Machine, origin: Origin, *, uid_first: int = 0) -> None:
        """The record of a machine whose process may exist from now on."""
        starting = replace(
            here.record,
            incarnation=machine.incarnation,
            stage=Stage.STARTING,
            ended=Ended.STOPPED,
            boot_id=self._boot_id,
            pid=0,
            started=0,
            origin=origin,
            uid_first=uid_first,
        )
        # A power cut ends the process as well. What it could take beside that is where an older machine's disk came from.
        self._save(here, starting, durable=here.record.origin is not None)

    def _started(self, here: H, process: Pid, stage: Stage = Stage.ON) -> None:
        self._save(here, replace(here.record, stage=stage, pid=process.pid, started=process.started))

    @abc.abstractmethod
    async def _kill(self, here: H) -> None:
        """No process of it is left, at once."""

    async def _end(self, here: H, why: Ended) -> None:
        await self._take_down(here)
        await self._ended(here, why)

    async def _ended(self, here: H, why: Ended) -> None:
        await self._leave_group(here.record.id)
        self._save(here, replace(here.record, stage=Stage.OFF, ended=why, pid=0, started=0))
        await self._let_go(here)

    async def _leave_group(self, id: str) -> None:
        if self._groups is not None:
            await self._groups.remove(id)

    # Files.

    def _home(self, id: str) -> Path:
        if not id or "/" in id or id.startswith("."):
            raise Impossible(f"'{id}' is no machine's id")
        return self._state / id

    def _save(self, here: H, record: Record, *, durable: bool = True) -> None:
        if here.record != record:
            save(self._world.files, here.home, record, durable=durable)
        here.record = record
