"""Machines as QEMU processes that do not need us: found again by what is written beside their disks.

`state_dir/ID/` holds a machine: record.json (see record.py), console.log, and the sockets of QEMU.
Not here: networks (a tap comes in open), volumes (files come in by path), the wish (the agent's).
The invariant: at most one process per machine, and a process is never used before its record is on the disk.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import structlog
from msgspec.structs import replace
from qemu.qmp.message import Message

from alto.drivers.compute.driver import BootFiles, Line, Tap
from alto.drivers.compute.groups import ControlGroups, GroupLimits, entering
from alto.drivers.compute.host import boot_id, console_of, host_faults, memory_mib, processors, trim_logs
from alto.drivers.compute.qemu import accelerator, blockjobs, hotplug, monitor
from alto.drivers.compute.qemu.commandline import Descriptors, Host, command, inherited
from alto.drivers.compute.qemu.monitor import Monitor, NobodyListens
from alto.drivers.compute.record import Ended, Record, Stage, load, origin_of, save
from alto.drivers.image.qcow2 import HEADER_BYTES, refusal
from alto.drivers.volume.driver import Disk
from alto.kit.world import Pid, World
from alto.model.errors import DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine, Power, Seen
from alto.model.limits import limits_of

LOGS = {"console.log": "console.old", "qemu.log": "qemu.old"}
GREETING_S = 30.0  # from exec to QMP's greeting: 0.1 s, and more on a host where twenty start at once
ASK_AGAIN_S = 3.0  # a guest that is still booting does not hear its power button
REBOOT_GRACE_S = 10.0
QUIT_S = 5.0
KILL_S = 10.0
MEASURE_S = 5.0
RECONNECT_S = 5.0  # how often `observe` tries a hypervisor that did not answer


log = structlog.get_logger()

# QEMU's own needs beside the guest's: emulated devices and translation take part of a processor, and up to some hundred MiB
# with the cache of translated code; its block layer starts threads as it needs them.
OWN_CPUS, OWN_MEMORY_MIB, OWN_THREADS = 0.5, 512, 256


class _Here:
    """One machine on this host. `off` is set when QEMU says that the guest powered off."""

    def __init__(self, home: Path, record: Record) -> None:
        self.home = home
        self.record = record
        self.monitor: Monitor | None = None
        self.off = asyncio.Event()
        self.working = asyncio.Lock()  # held by whoever changes the machine
        self.connecting = asyncio.Lock()  # a second client of the monitor would wait in vain
        self.connect_at = 0.0  # not sooner, on the monotonic clock


class QemuCompute:
    """A ComputeDriver. One at a time per `state_dir`: QMP serves one client, and records have one writer."""

    def __init__(
        self,
        world: World,
        state_dir: Path,
        *,
        trial: Callable[[], Awaitable[BootFiles]] | None = None,
        share: float = 1.0,
        groups: ControlGroups | None = None,
    ) -> None:
        """`trial`: where to get a kernel for the trial boot that decides about KVM; without one, emulation. `share`: of this
        machine's memory, what is this host's to give out, where several hosts are one machine. `groups`: where machines have
        their limits; without, they have none."""
        self._share = share
        self._groups = groups
        self._world = world
        self._state = state_dir
        self._trial = trial
        self._machines: dict[str, _Here] | None = None
        self._host: Host | None = None
        self._boot_id = ""
        self._choosing = asyncio.Lock()
        self._changed = asyncio.Event()

    async def capabilities(self) -> Capabilities:
        host = await self._ready()
        files = self._world.files
        return Capabilities(
            kind="qemu", accelerator=host.accelerator, vcpus=processors(files), memory_mib=int(memory_mib(files) * self._share)
        )

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        with host_faults():
            host = await self._ready()
            here = self._known().get(machine.id)
            if here is None:
                record = Record(id=machine.id, incarnation=0, stage=Stage.OFF, boot_id=self._boot_id)
                here = _Here(self._state / machine.id, record)
            async with here.working:
                await self._settle(here)
                if here.record.stage is not Stage.OFF:
                    if here.record.incarnation >= machine.incarnation:
                        return
                    # Whoever begins an incarnation has seen the end of the one before.
                    await self._end(here, Ended.STOPPED)
                await self._start(here, machine, boot, taps, disks, host)
            self._changed.set()

    async def attach_interface(self, id: str, tap: Tap) -> None:
        with host_faults():
            async with self._running(id) as qemu:
                if qemu is not None:
                    await hotplug.add_interface(qemu, tap)

    async def detach_interface(self, id: str, interface_id: str) -> None:
        with host_faults():
            async with self._running(id) as qemu:
                if qemu is not None:
                    await hotplug.remove_interface(qemu, interface_id)

    async def interfaces(self, id: str) -> frozenset[str]:
        with host_faults():
            async with self._running(id) as qemu:
                return await hotplug.interfaces(qemu) if qemu is not None else frozenset()

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        with host_faults():
            async with self._running(id) as qemu:
                if qemu is not None:
                    for disk in disks:
                        self._check(disk)
                    await hotplug.set_disks(self._world.files, qemu, disks)

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        with host_faults():
            async with self._running(id) as qemu:
                if qemu is None or not targets.keys() <= await hotplug.disks(qemu):
                    return False
                if not quiet:
                    await blockjobs.copy(self._world, qemu, targets)
                    return True
                here = self._known()[id]
                self._save(here, replace(here.record, stage=Stage.REBOOTING))
                await self._press_button(here, REBOOT_GRACE_S)
                # Whatever comes of the copies, the guest comes up again.
                try:
                    await blockjobs.begin(self._world, qemu, targets)
                finally:
                    await self._reset(here)
                await blockjobs.finish(self._world, qemu, targets)
                return True

    async def stop(self, id: str, *, grace_s: float) -> None:
        with host_faults():
            here = await self._find(id)
            if here is None:
                return
            async with here.working:
                await self._settle(here)
                if here.record.stage is Stage.OFF:
                    return
                self._save(here, replace(here.record, stage=Stage.STOPPING))
                await self._press_button(here, grace_s)
                await self._end(here, Ended.STOPPED)

    async def reboot(self, id: str) -> None:
        """By the power button, so that the guest can write what it holds; after ten seconds without that."""
        with host_faults():
            here = await self._find(id)
            if here is None:
                raise DriverFault(f"Machine {id} is not here, so it cannot reboot")
            async with here.working:
                await self._settle(here)
                if here.record.stage is Stage.OFF:
                    raise DriverFault(f"Machine {id} is not on, so it cannot reboot")
                await self._connected(here)
                self._save(here, replace(here.record, stage=Stage.REBOOTING))
                await self._press_button(here, REBOOT_GRACE_S)
                await self._reset(here)

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
                if here.record.stage is not Stage.OFF and self._alive(here.record):
                    await self._kill(here.record.process)
                if here.monitor is not None:
                    await here.monitor.close()
                await self._leave_group(id)
                # The record last: while anything is left, the machine is still found.
                for name in self._world.files.names(here.home):
                    if name != "record.json":
                        self._world.files.remove(here.home / name)
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
            here = await self._find(id)
            if here is None or here.record.stage is Stage.OFF:
                raise DriverFault(f"Machine {id} is not on, so its console cannot be opened")
            return await monitor.open_line(self._world, here.home / "console")

    async def measure(self, id: str) -> bool:
        with host_faults():
            here = await self._find(id)
            if here is None or here.record.stage is Stage.OFF:
                return False
            try:
                async with asyncio.timeout(MEASURE_S):
                    return await (await self._connected(here)).status() == "running"
            except (DriverFault, TimeoutError):
                return False

    async def close(self) -> None:
        for here in (self._machines or {}).values():
            if here.monitor is not None:
                await here.monitor.close()
                here.monitor = None

    # Beginning.

    async def _ready(self) -> Host:
        """The first call chooses the accelerator, and learns which machines are here."""
        async with self._choosing:
            if self._host is None:
                self._world.files.make_dirs(self._state)
                self._boot_id = boot_id(self._world.files)
                self._host = await accelerator.choose(self._world, self._state / ".accelerator.json", self._trial)
            return self._host

    def _known(self) -> dict[str, _Here]:
        if self._machines is None:
            self._machines = {}
            for name in self._world.files.names(self._state):
                home = self._state / name
                record = None if name.startswith(".") else load(self._world.files, home)
                if record is not None:
                    self._machines[record.id] = _Here(home, record)
        return self._machines

    async def _find(self, id: str) -> _Here | None:
        await self._ready()
        return self._known().get(id)

    @asynccontextmanager
    async def _running(self, id: str) -> AsyncIterator[Monitor | None]:
        """The monitor of a machine that is on, ours for the block; None of one that is off or not here."""
        here = await self._find(id)
        if here is None:
            yield None
            return
        async with here.working:
            await self._settle(here)
            yield None if here.record.stage is Stage.OFF else await self._connected(here)

    async def _start(
        self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], host: Host
    ) -> None:
        files = self._world.files
        before = here.record
        if machine.id not in self._known():
            files.make_dirs(here.home)
        if not disks:
            raise Impossible("A machine needs a root volume")
        async with AsyncExitStack() as undo:
            if machine.id in self._known():
                undo.callback(self._save, here, before)
            else:
                undo.callback(files.remove_tree, here.home)
            if before.origin is not None:
                # The kernel goes with the disk that the machine was first started with.
                boot = before.origin.boot
            for disk in disks:
                self._check(disk)
            starting = replace(
                before,
                incarnation=machine.incarnation,
                stage=Stage.STARTING,
                ended=Ended.STOPPED,
                boot_id=self._boot_id,
                pid=0,
                started=0,
                origin=origin_of(boot),
            )
            self._save(here, starting)
            if self._groups is not None:
                undo.push_async_callback(self._groups.remove, machine.id)
            process = await self._spawn(here, machine, boot, taps, disks, host)
            undo.push_async_callback(self._drop, here, process)
            # While QEMU gets ready: the greeting comes later than this is on the disk.
            self._save(here, replace(starting, stage=Stage.ON, pid=process.pid, started=process.started))
            here.off.clear()
            try:
                qemu = await self._connected(here, GREETING_S)
                rate = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib).disk
                if rate is not None:
                    for disk in disks:
                        await hotplug.keep_to(qemu, disk.volume_id, rate)
                status = await qemu.status()
            except DriverFault as error:
                said = files.part(here.home / "qemu.log", -2000, 2000).decode(errors="replace")
                raise DriverFault("The machine did not start") from RuntimeError(f"{error}: {said}")
            if status not in ("running", "shutdown"):
                raise DriverFault("The machine did not start") from RuntimeError(f"QEMU's status is {status}")
            undo.pop_all()
        self._known()[machine.id] = here

    async def _spawn(
        self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], host: Host
    ) -> Pid:
        with ExitStack() as ours:

            def opened(path: Path, *, write: bool = False, append: bool = False) -> int:
                fd = self._world.files.open(path, write=write, append=append)
                ours.callback(os.close, fd)
                return fd

            listening = [monitor.listen(self._world, here.home / name) for name in ("qmp", "console")]
            for sock in listening:
                ours.callback(sock.close)
            fds = Descriptors(
                disks=tuple((opened(one.path, write=True), opened(one.base.path) if one.base else None) for one in disks),
                monitor=listening[0].fileno(),
                console=listening[1].fileno(),
                console_log=opened(here.home / "console.log", append=True),
                kernel=opened(boot.kernel) if boot.kernel else None,
                initrd=opened(boot.initrd) if boot.initrd else None,
            )
            within = entering(self._groups.limit(machine.id, group_limits(machine))) if self._groups is not None else []
            return await self._world.processes.spawn(
                [*within, *command(machine, boot, taps, disks, fds, host)],
                log=here.home / "qemu.log",
                pass_fds=inherited(fds, taps),
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            )

    def _check(self, disk: Disk) -> None:
        for path, format, what in ((disk.path, "qcow2", "disk"), *([(b.path, b.format, "image")] if (b := disk.base) else [])):
            if not self._world.files.exists(path):
                raise Impossible(f"The machine's {what} is gone from this host")
            if format == "qcow2":
                header = self._world.files.part(path, 0, HEADER_BYTES)
                why = refusal(header, self._world.files.size(path), may_have_backing=path == disk.path)
                if why is not None:
                    raise Impossible(f"The machine's {what} cannot be used: {why}")

    # Knowing again.

    async def _look(self, here: _Here) -> None:
        async with here.working:
            try:
                await self._settle(here)
            except DriverFault as error:
                log.warning("machine does not answer", instance=here.record.id, error=str(error))
            await trim_logs(self._world, here.home, LOGS)

    async def _settle(self, here: _Here) -> None:
        """Make the record true: a process that ended, a guest that powered itself off, a reboot left half done."""
        await self._claim(here)
        record = here.record
        if record.stage is Stage.OFF:
            return
        if not self._alive(record):
            await self._ended(here, self._why_off(here))
            return
        if (here.monitor is None or here.monitor.broken) and self._world.clock.monotonic() >= here.connect_at:
            try:
                if await (await self._connected(here)).status() == "shutdown":
                    here.off.set()
            except DriverFault:
                # It runs, and does not answer: `measure` says so. A later look tries again.
                here.connect_at = self._world.clock.monotonic() + RECONNECT_S
        if here.off.is_set():
            if record.stage is Stage.REBOOTING:
                await self._reset(here)
            else:
                await self._end(here, self._why_off(here))

    async def _claim(self, here: _Here) -> None:
        """A record without a process: our predecessor died between the two. Whoever listens on the socket is it."""
        if here.record.stage is not Stage.STARTING:
            return
        try:
            # Who connects before QEMU listens itself has for a peer whoever made the socket: our predecessor. Its greeting
            # says that it does, and the second connection has the right one.
            (await self._connected(here)).broken = True
            qemu = await self._connected(here)
        except NobodyListens:
            # Nobody ever had the socket but the two of them: this incarnation has not begun, and may.
            begun = here.record.incarnation - 1
            self._save(here, replace(here.record, stage=Stage.OFF, ended=Ended.STOPPED, incarnation=begun))
            return
        process = self._world.processes.find(qemu.peer_pid)
        if process is None:
            raise DriverFault("The machine's hypervisor ended while it was looked at")
        found = replace(here.record, stage=Stage.ON, pid=process.pid, started=process.started, boot_id=self._boot_id)
        self._save(here, found)
        if await qemu.status() == "shutdown":
            here.off.set()

    def _alive(self, record: Record) -> bool:
        return record.boot_id == self._boot_id and self._world.processes.alive(record.process)

    def _why_off(self, here: _Here) -> Ended:
        if here.record.stage is Stage.STOPPING:
            return Ended.STOPPED
        return Ended.BY_GUEST if here.off.is_set() else Ended.CRASHED

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

    async def _connected(self, here: _Here, timeout_s: float = monitor.ANSWER_S) -> Monitor:
        def hear(event: Message) -> None:
            if event["event"] == "SHUTDOWN":
                here.off.set()
                self._changed.set()

        async with here.connecting:
            if here.monitor is not None and here.monitor.broken:
                await here.monitor.close()
                here.monitor = None
            if here.monitor is None:
                here.monitor = await monitor.connect(self._world, here.home / "qmp", hear, timeout_s=timeout_s)
            return here.monitor

    async def _watch_end(self, process: Pid, timeout_s: float) -> None:
        if await self._world.processes.wait_gone(process, timeout_s=timeout_s):
            self._changed.set()

    # Ending.

    async def _press_button(self, here: _Here, grace_s: float) -> None:
        """Returns when the guest is off, `grace_s` have passed, or nobody hears."""
        clock = self._world.clock
        end = clock.monotonic() + grace_s
        while not here.off.is_set() and (left := end - clock.monotonic()) > 0 and self._alive(here.record):
            try:
                await (await self._connected(here)).execute("system_powerdown")
            except DriverFault:
                return
            try:
                async with asyncio.timeout(min(left, ASK_AGAIN_S)):
                    await here.off.wait()
            except TimeoutError:
                continue

    async def _reset(self, here: _Here) -> None:
        qemu = await self._connected(here)
        here.off.clear()
        await qemu.execute("system_reset")
        await qemu.execute("cont")
        self._save(here, replace(here.record, stage=Stage.ON))

    async def _end(self, here: _Here, why: Ended) -> None:
        """Ask QEMU to close its disks and quit; kill it when it does not."""
        process = here.record.process
        try:
            await (await self._connected(here)).execute("quit")
            gone = await self._world.processes.wait_gone(process, timeout_s=QUIT_S)
        except DriverFault:
            gone = False
        if not gone:
            await self._kill(process)
        await self._ended(here, why)

    async def _leave_group(self, id: str) -> None:
        if self._groups is not None:
            await self._groups.remove(id)

    async def _ended(self, here: _Here, why: Ended) -> None:
        await self._leave_group(here.record.id)
        self._save(here, replace(here.record, stage=Stage.OFF, ended=why, pid=0, started=0))
        here.off.clear()
        if here.monitor is not None:
            await here.monitor.close()
            here.monitor = None

    async def _drop(self, here: _Here, process: Pid) -> None:
        await self._kill(process)
        if here.monitor is not None:
            await here.monitor.close()
            here.monitor = None

    async def _kill(self, process: Pid) -> None:
        self._world.processes.signal(process, signal.SIGKILL)
        if not await self._world.processes.wait_gone(process, timeout_s=KILL_S):
            raise DriverFault("The machine's hypervisor could not be killed")

    # Files.

    def _home(self, id: str) -> Path:
        if not id or "/" in id or id.startswith("."):
            raise Impossible(f"'{id}' is no machine's id")
        return self._state / id

    def _save(self, here: _Here, record: Record) -> None:
        if here.record != record:
            save(self._world.files, here.home, record)
        here.record = record


def group_limits(machine: Machine) -> GroupLimits:
    limits = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib)
    return GroupLimits(
        cpus=limits.vcpus + OWN_CPUS,
        cpu_weight=limits.cpu_weight,
        memory_mib=limits.memory_mib + OWN_MEMORY_MIB,
        processes=limits.vcpus + OWN_THREADS,
    )
