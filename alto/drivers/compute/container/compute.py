"""Machines as LXC system containers that do not need us: found again by what is written beside their disks.

`state_dir/ID/` holds a machine: record.json (see record.py), root.raw (its disk: an ext4 file system without partitions, as
large as was asked for), console.log, and what LXC is told (config.py). Its life is one process, the keeper (config.py too).
Not here: networks (the guest's end of a port comes in by name), images, the wish (the agent's).
The invariant: at most one keeper per machine, and a guest runs no instruction before its record is on the disk.
"""

import asyncio
import hashlib
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import structlog
from msgspec.structs import replace

from alto.drivers.compute.container import interfaces
from alto.drivers.compute.container.config import (
    AGAIN,
    CONFIG,
    DISK,
    ENDED,
    HALTED,
    INIT,
    LXC_LOG,
    UID_FIRST,
    UID_RANGES,
    UIDS_EACH,
    console,
    is_keeper_of,
    keeper,
    lxc_config,
)
from alto.drivers.compute.driver import BootFiles, Line, Tap
from alto.drivers.compute.groups import ControlGroups, GroupLimits
from alto.drivers.compute.host import boot_id, console_of, host_faults, memory_mib, processors, trim_logs
from alto.drivers.compute.line import SocketLine
from alto.drivers.compute.record import Ended, Record, Stage, load, origin_of, save
from alto.drivers.volume.driver import Disk
from alto.kit.world import Pid, World
from alto.model.errors import DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine, Power, Seen
from alto.model.limits import limits_of

log = structlog.get_logger()

COPY_S = 600.0
STARTED_S = 30.0  # from the keeper to the guest's first instruction: 0.05 s, and more where twenty start at once
POLL_S = 0.003
REBOOT_GRACE_S = 10.0
KILL_S = 10.0
CONSOLE_GONE_S = 2.0
LOGS = {"console.log": "console.old", "keeper.log": "keeper.old"}
POWER_OFF, RESTART = signal.SIGPWR, signal.SIGINT
# What systemd as the first process wants instead of SIGPWR: SIGRTMIN+3. It is known by blocking that signal (lxc-stop does so).
HALT_SYSTEMD = 37
# What the keeper and LXC need beside the guest; and as many processes and threads as a small machine may have by itself.
OWN_MEMORY_MIB, PROCESSES_PER_VCPU, PROCESSES_LEAST = 16, 2048, 4096


class _Here:
    """One machine on this host."""

    def __init__(self, home: Path, record: Record) -> None:
        self.home = home
        self.record = record
        self.working = asyncio.Lock()  # held by whoever changes the machine


class ContainerCompute:
    """A ComputeDriver. One at a time per `state_dir`: records have one writer. `share`: of this machine's memory, what is this
    host's to give out, where several hosts are one machine."""

    def __init__(self, world: World, state_dir: Path, *, groups: ControlGroups, share: float = 1.0) -> None:
        self._world = world
        self._state = state_dir
        self._groups = groups
        self._share = share
        self._machines: dict[str, _Here] | None = None
        self._boot_id = ""
        self._changed = asyncio.Event()

    async def capabilities(self) -> Capabilities:
        with host_faults():
            files = self._world.files
            return Capabilities(
                kind="container", accelerator="none", vcpus=processors(files), memory_mib=int(memory_mib(files) * self._share)
            )

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        if disks:
            raise Impossible("A container keeps its root itself, and takes no volumes")
        with host_faults():
            here = self._known().get(machine.id)
            if here is None:
                record = Record(id=machine.id, incarnation=0, stage=Stage.OFF, boot_id=self._boot_id)
                here = _Here(self._home(machine.id), record)
            async with here.working:
                await self._settle(here)
                if here.record.stage is not Stage.OFF:
                    if here.record.incarnation >= machine.incarnation:
                        return
                    # Whoever begins an incarnation has seen the end of the one before.
                    await self._end(here, Ended.STOPPED)
                await self._start(here, machine, boot, taps)
            self._changed.set()

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        if disks:
            raise Impossible("A container takes no volumes")

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        return False

    async def attach_interface(self, id: str, tap: Tap) -> None:
        with host_faults():
            here = self._find(id)
            if here is None or not tap.peer:
                return
            async with here.working:
                await self._settle(here)
                init = self._init(here)
                if init is None:
                    return
                known = interfaces.load(self._world.files, here.home)
                links = await interfaces.links(self._world, init)
                if tap.mac not in links:
                    name = interfaces.free_name(links)
                    # Known before it is there: a guest that reboots now has it afterwards.
                    interfaces.save(self._world.files, here.home, interfaces.with_one(known, tap, name))
                    await interfaces.give(self._world, init, tap.peer, name)

    async def detach_interface(self, id: str, interface_id: str) -> None:
        with host_faults():
            here = self._find(id)
            if here is None:
                return
            async with here.working:
                await self._settle(here)
                known = interfaces.load(self._world.files, here.home)
                gone = next((one for one in known if one.id == interface_id), None)
                init = self._init(here)
                if gone is None:
                    return
                interfaces.save(self._world.files, here.home, tuple(one for one in known if one is not gone))
                if init is not None:
                    await interfaces.take_back(self._world, init, here.record.process, gone)

    async def interfaces(self, id: str) -> frozenset[str]:
        with host_faults():
            here = self._find(id)
            if here is None:
                return frozenset()
            async with here.working:
                await self._settle(here)
                init = self._init(here)
                if init is None:
                    return frozenset()
                there = await interfaces.links(self._world, init)
                return frozenset(one.id for one in interfaces.load(self._world.files, here.home) if one.mac in there)

    async def stop(self, id: str, *, grace_s: float) -> None:
        with host_faults():
            here = self._find(id)
            if here is None:
                return
            async with here.working:
                await self._settle(here)
                if here.record.stage is Stage.OFF:
                    return
                self._save(here, replace(here.record, stage=Stage.STOPPING))
                self._press_button(here)
                await self._world.processes.wait_gone(here.record.process, timeout_s=grace_s)
                await self._end(here, Ended.STOPPED)

    async def reboot(self, id: str) -> None:
        """By the signal that a guest takes for its reset button, and by force when it does not listen; the keeper stays."""
        with host_faults():
            here = self._find(id)
            if here is None:
                raise DriverFault(f"Machine {id} is not here, so it cannot reboot")
            async with here.working:
                await self._settle(here)
                before = self._init(here)
                if here.record.stage is Stage.OFF or before is None:
                    raise DriverFault(f"Machine {id} is not on, so it cannot reboot")
                # However this life ends, another follows.
                self._world.files.write(here.home / AGAIN, b"")
                self._world.processes.signal(before, RESTART)
                if not await self._world.processes.wait_gone(before, timeout_s=REBOOT_GRACE_S):
                    self._world.processes.signal(before, signal.SIGKILL)
                await self._wait_until_started(here, other_than=before)

    async def destroy(self, id: str) -> None:
        with host_faults():
            here = self._find(id)
            if here is None:
                # What a crash left of a beginning, if anything.
                await self._groups.remove(id)
                self._world.files.remove_tree(self._home(id))
                return
            async with here.working:
                await self._claim(here)
                await self._kill(here)
                await self._groups.remove(id)
                # The record last: while anything is left, the machine is still found.
                for name in self._world.files.names(here.home):
                    if name != "record.json":
                        self._world.files.remove_tree(here.home / name)
                self._world.files.remove_tree(here.home)
                self._known().pop(id, None)

    async def observe(self) -> Mapping[str, Seen]:
        with host_faults():
            machines = self._known()
            async with asyncio.TaskGroup() as tasks:
                for here in machines.values():
                    if not here.working.locked() and here.record.stage is not Stage.OFF:
                        tasks.create_task(self._look(here))
            return {id: self._seen(here) for id, here in sorted(machines.items())}

    async def wait_change(self, *, timeout_s: float) -> None:
        with host_faults():
            on = [here for here in self._known().values() if here.record.pid and here.record.stage is not Stage.OFF]
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(self._watch_end(here.record.process, timeout_s)) for here in on]
                try:
                    async with asyncio.timeout(timeout_s):
                        await self._changed.wait()
                except TimeoutError:
                    return
                finally:
                    for watcher in watchers:
                        watcher.cancel()
            self._changed.clear()

    async def console(self, id: str) -> bytes:
        with host_faults():
            return console_of(self._world.files, self._home(id))

    async def open_line(self, id: str) -> Line:
        with host_faults():
            here = self._find(id)
            if here is None or self._init(here) is None:
                raise DriverFault(f"Machine {id} is not on, so its console cannot be opened")
            ours, theirs = self._world.net.open_pair()
            with closing(theirs):
                try:
                    process = await self._world.processes.spawn(
                        console(here.home), log=here.home / "keeper.log", stream=theirs.fileno()
                    )
                except BaseException:
                    ours.close()
                    raise

            async def end() -> None:
                # It ends with its stream. Whoever takes the console next must not find it busy.
                if not await self._world.processes.wait_gone(process, timeout_s=CONSOLE_GONE_S):
                    self._world.processes.signal(process, signal.SIGKILL)

            return SocketLine(ours, end)

    async def measure(self, id: str) -> bool:
        """The guest's first process lives, under a keeper that lives."""
        with host_faults():
            here = self._find(id)
            return here is not None and self._alive(here.record) and self._init(here) is not None

    async def close(self) -> None:
        pass  # nothing is held open: keepers and records stand by themselves

    # Beginning.

    def _known(self) -> dict[str, _Here]:
        """The first call learns which machines are here."""
        if self._machines is None:
            self._world.files.make_dirs(self._state)
            self._boot_id = boot_id(self._world.files)
            self._machines = {}
            for name in self._world.files.names(self._state):
                home = self._state / name
                record = None if name.startswith(".") else load(self._world.files, home)
                if record is not None:
                    self._machines[record.id] = _Here(home, record)
        return self._machines

    def _find(self, id: str) -> _Here | None:
        return self._known().get(id)

    async def _start(self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap]) -> None:
        files = self._world.files
        before = here.record
        async with AsyncExitStack() as undo:
            if machine.id in self._known():
                undo.callback(self._save, here, before)
            else:
                undo.callback(files.remove_tree, here.home)
            files.make_dirs(here.home)
            fresh = before.origin is None or not files.exists(here.home / DISK)
            if fresh:
                await self._make_disk(here.home, machine, boot)
            for name in (AGAIN, ENDED, INIT, LXC_LOG):
                files.remove(here.home / name)
            uid_first = before.uid_first or free_range(machine.id, {one.record.uid_first for one in self._known().values()})
            await self._groups.remove(machine.id)
            undo.push_async_callback(self._groups.remove, machine.id)
            # LXC's groups, its own and the guest's, are within.
            self._groups.limit(machine.id, group_limits(machine))
            groups = self._groups.make(machine.id)
            interfaces.save(files, here.home, interfaces.at_start(taps))
            rate = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib).disk
            settings = self._groups.disk_settings(machine.id, rate) if rate is not None else []
            told = lxc_config(machine, here.home, uid_first=uid_first, groups=groups, disk_settings=settings)
            files.write(here.home / CONFIG, told.encode())
            starting = replace(
                before,
                incarnation=machine.incarnation,
                stage=Stage.STARTING,
                ended=Ended.STOPPED,
                boot_id=self._boot_id,
                pid=0,
                started=0,
                origin=before.origin or origin_of(boot),
                uid_first=uid_first,
            )
            self._save(here, starting)
            process = await self._world.processes.spawn(
                keeper(here.home, fresh_disk=fresh),
                log=here.home / "keeper.log",
                # Without newuidmap, which LXC uses where it finds it, and which knows only the ranges of /etc/subuid.
                env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
            )
            self._save(here, replace(starting, stage=Stage.ON, pid=process.pid, started=process.started))
            undo.push_async_callback(self._kill, here)
            await self._wait_until_started(here)
            undo.pop_all()
        self._known()[machine.id] = here

    async def _make_disk(self, home: Path, machine: Machine, boot: BootFiles) -> None:
        """The image's file system in a file of the size that was asked for; whole and on the disk, or not at all."""
        if boot.disk is None or boot.disk_format != "raw" or boot.kernel is not None:
            raise Impossible("The machine's image is the disk of a virtual machine; a container needs a root file system")
        size = max(machine.root.size_gib << 30, self._world.files.size(boot.disk))
        new = home / f"{DISK}.new"
        script = 'cp --sparse=auto --reflink=auto -- "$1" "$2" && truncate --size="$3" "$2" && sync "$2" && mv "$2" "$4"'
        await self._run("sh", "-c", script, "sh", str(boot.disk), str(new), str(size), str(home / DISK), timeout_s=COPY_S)

    async def _wait_until_started(self, here: _Here, *, other_than: Pid | None = None) -> None:
        """The guest's first process is there. Raises: DriverFault: it is not, in time or at all."""
        clock, processes = self._world.clock, self._world.processes
        end = clock.monotonic() + STARTED_S
        while (init := self._init(here)) is None or init == other_than or not self._is_begun(init):
            if not processes.alive(here.record.process):
                if self._world.files.exists(here.home / INIT):
                    return  # it began, and ended at once: that is the guest's own affair
                raise DriverFault("The machine did not start") from RuntimeError(self._last_words(here))
            if clock.monotonic() > end:
                raise DriverFault(f"The machine did not start within {STARTED_S:g} s")
            await clock.sleep(POLL_S)

    def _is_begun(self, init: Pid) -> bool:
        """Until LXC hands it over it is a process of LXC's, and LXC 5 waits for ever for one that is killed."""
        return self._words(init.pid)[:1] not in ([], [""], ["lxc-start"])

    def _last_words(self, here: _Here) -> str:
        words = [
            self._world.files.part(here.home / name, -2000, 2000).decode(errors="replace")
            for name in ("keeper.log", LXC_LOG)
            if self._world.files.exists(here.home / name)
        ]
        return "\n".join(words)

    # Knowing again.

    async def _look(self, here: _Here) -> None:
        async with here.working:
            await self._settle(here)
            await trim_logs(self._world, here.home, LOGS)

    async def _settle(self, here: _Here) -> None:
        """Make the record true: a keeper that ended, by itself or by force."""
        await self._claim(here)
        if here.record.stage is not Stage.OFF and not self._alive(here.record):
            await self._end(here, self._why_off(here))

    async def _claim(self, here: _Here) -> None:
        """A record without a process: our predecessor died between the two. Whoever has its folder for an argument is it."""
        if here.record.stage is not Stage.STARTING:
            return
        for name in self._world.files.names(Path("/proc")):
            if name.isdigit() and is_keeper_of(here.home, self._words(int(name))):
                process = self._world.processes.find(int(name))
                if process is not None:
                    news = replace(here.record, stage=Stage.ON, pid=process.pid, started=process.started, boot_id=self._boot_id)
                    self._save(here, news)
                    return
        if self._world.files.exists(here.home / ENDED):
            await self._ended(here, self._why_off(here))
            return
        # No keeper came to be, or to a word: this incarnation has not begun, and may.
        await self._groups.remove(here.record.id)
        begun = here.record.incarnation - 1
        self._save(here, replace(here.record, stage=Stage.OFF, ended=Ended.STOPPED, incarnation=begun))

    def _words(self, pid: int) -> list[str]:
        try:
            return self._world.files.read(Path(f"/proc/{pid}/cmdline")).decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

    def _alive(self, record: Record) -> bool:
        return bool(record.pid) and record.boot_id == self._boot_id and self._world.processes.alive(record.process)

    def _init(self, here: _Here) -> Pid | None:
        """The guest's first process, by its number on the host, if it lives. Its user is the machine's alone: a number that
        was given out again belongs to somebody else."""
        try:
            number = int(self._world.files.read(here.home / INIT))
            status = self._world.files.read(Path(f"/proc/{number}/status")).decode()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        users = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        process = self._world.processes.find(number)
        return process if int(users[0]) == here.record.uid_first else None

    def _why_off(self, here: _Here) -> Ended:
        if here.record.stage is Stage.STOPPING:
            return Ended.STOPPED
        try:
            said = self._world.files.read(here.home / ENDED).strip()
        except FileNotFoundError:
            said = b""
        return Ended.BY_GUEST if said == HALTED else Ended.CRASHED

    def _seen(self, here: _Here) -> Seen:
        record = here.record
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

    # Ending.

    def _press_button(self, here: _Here) -> None:
        init = self._init(here)
        if init is None:
            return
        status = self._world.files.read(Path(f"/proc/{init.pid}/status")).decode()
        blocked = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:")), 0)
        systemd = blocked >> (HALT_SYSTEMD - 1) & 1
        self._world.processes.signal(init, HALT_SYSTEMD if systemd else POWER_OFF)

    async def _end(self, here: _Here, why: Ended) -> None:
        await self._kill(here)
        await self._ended(here, why)

    async def _ended(self, here: _Here, why: Ended) -> None:
        await self._groups.remove(here.record.id)
        self._save(here, replace(here.record, stage=Stage.OFF, ended=why, pid=0, started=0))

    async def _kill(self, here: _Here) -> None:
        """No keeper, no guest. LXC and the guest's first process die with the keeper, and all the guest with that."""
        if self._alive(here.record):
            self._world.processes.signal(here.record.process, signal.SIGKILL)
            if not await self._world.processes.wait_gone(here.record.process, timeout_s=KILL_S):
                raise DriverFault("The machine could not be ended")
        init = self._init(here)
        if init is not None:
            self._world.processes.signal(init, signal.SIGKILL)
            if not await self._world.processes.wait_gone(init, timeout_s=KILL_S):
                raise DriverFault("The machine could not be ended")

    # Files.

    async def _run(self, *argv: str, timeout_s: float) -> bytes:
        done = await self._world.processes.run(argv, timeout_s=timeout_s)
        if done.returncode != 0:
            raise DriverFault("The host could not do what the machine needs") from RuntimeError(done.complaint())
        return done.stdout

    def _home(self, id: str) -> Path:
        if not id or "/" in id or id.startswith("."):
            raise Impossible(f"'{id}' is no machine's id")
        return self._state / id

    def _save(self, here: _Here, record: Record) -> None:
        if here.record != record:
            save(self._world.files, here.home, record)
        here.record = record


def free_range(id: str, taken: Collection[int]) -> int:
    """The first user id of a range that no other machine of this host has. By the id's digest, so that two clouds on one
    machine seldom meet."""
    first = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]) % UID_RANGES
    for step in range(UID_RANGES):
        found = UID_FIRST + (first + step) % UID_RANGES * UIDS_EACH
        if found not in taken:
            return found
    raise DriverFault("This host has no range of user ids left")


def group_limits(machine: Machine) -> GroupLimits:
    limits = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib)
    return GroupLimits(
        cpus=limits.vcpus,
        cpu_weight=limits.cpu_weight,
        memory_mib=limits.memory_mib + OWN_MEMORY_MIB,
        processes=max(PROCESSES_LEAST, PROCESSES_PER_VCPU * limits.vcpus),
    )
