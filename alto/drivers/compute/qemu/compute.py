"""Machines as QEMU processes.

`state_dir/ID/` holds the sockets of QEMU beside what every make has there (machines.py, which says when what is said here is
done). Not here: networks (a tap comes in open), volumes (files come in by path).
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
from alto.drivers.compute.host import host_faults, memory_mib, processors
from alto.drivers.compute.machines import Here, Machines
from alto.drivers.compute.qemu import accelerator, blockjobs, hotplug, monitor
from alto.drivers.compute.qemu.commandline import Descriptors, Host, command, inherited
from alto.drivers.compute.qemu.monitor import Monitor, NobodyListens
from alto.drivers.compute.record import Ended, Record, Stage, origin_of
from alto.drivers.image.qcow2 import HEADER_BYTES, refusal
from alto.drivers.volume.driver import Disk, Keyring, NoKeys
from alto.kit.world import Pid, World
from alto.model.errors import DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine
from alto.model.limits import limits_of

LOGS = {"console.log": "console.old", "qemu.log": "qemu.old"}
GREETING_S = 30.0  # from exec to QMP's greeting: 0.1 s, and more on a host where twenty start at once
ASK_AGAIN_S = 3.0  # a guest that is still booting does not hear its power button
REBOOT_GRACE_S = 10.0
QUIT_S = 5.0
KILL_S = 10.0
MEASURE_S = 5.0
LINE_S, LINE_POLL_S = 2.0, 0.01
# The status of a QEMU whose driver ended before the guest began. It is as none: what it was to be told is not known any more.
UNBEGUN = "prelaunch"
RECONNECT_S = 5.0  # how often `observe` tries a hypervisor that did not answer


log = structlog.get_logger()

# QEMU's own needs beside the guest's: emulated devices and translation take part of a processor, and up to some hundred MiB
# with the cache of translated code; its block layer starts threads as it needs them.
OWN_CPUS, OWN_MEMORY_MIB, OWN_THREADS = 0.5, 512, 256


class _Here(Here):
    """`off` is set when QEMU says that the guest powered off."""

    def __init__(self, home: Path, record: Record) -> None:
        super().__init__(home, record)
        self.monitor: Monitor | None = None
        self.off = asyncio.Event()
        self.connecting = asyncio.Lock()  # a second client of the monitor would wait in vain
        self.connect_at = 0.0  # not sooner, on the monotonic clock


class QemuCompute(Machines[_Here]):
    """A ComputeDriver. QMP serves one client, so there is one of these at a time, too."""

    logs = LOGS

    def __init__(
        self,
        world: World,
        state_dir: Path,
        *,
        trial: Callable[[], Awaitable[BootFiles]] | None = None,
        share: float = 1.0,
        groups: ControlGroups | None = None,
        keys: Keyring | None = None,
    ) -> None:
        """`trial`: where to get a kernel for the trial boot that decides about KVM; without one, emulation."""
        super().__init__(world, state_dir, groups=groups, share=share)
        self._trial = trial
        self._keys = keys or NoKeys()
        self._host: Host | None = None
        self._choosing = asyncio.Lock()

    async def capabilities(self) -> Capabilities:
        host = await self._chosen()
        files = self._world.files
        return Capabilities(
            kind="qemu", accelerator=host.accelerator, vcpus=processors(files), memory_mib=int(memory_mib(files) * self._share)
        )

    async def attach_interface(self, id: str, tap: Tap) -> None:
        async with self._running(id) as qemu:
            if qemu is not None:
                await hotplug.add_interface(qemu, tap)

    async def detach_interface(self, id: str, interface_id: str) -> None:
        async with self._running(id) as qemu:
            if qemu is not None:
                await hotplug.remove_interface(qemu, interface_id)

    async def interfaces(self, id: str) -> frozenset[str]:
        async with self._running(id) as qemu:
            return await hotplug.interfaces(qemu) if qemu is not None else frozenset()

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        async with self._running(id) as qemu:
            if qemu is not None:
                for disk in disks:
                    self._check(disk)
                await hotplug.set_disks(self._world.files, self._keys, qemu, disks)

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        async with self._running(id) as qemu:
            if qemu is None or not targets.keys() <= await hotplug.disks(qemu):
                return False
            if not quiet:
                await blockjobs.copy(self._world, qemu, targets)
                return True
            here = self._known()[id]
            self._save(here, replace(here.record, stage=Stage.REBOOTING))
            await self._ask_off(here, REBOOT_GRACE_S)
            # Whatever comes of the copies, the guest comes up again.
            try:
                await blockjobs.begin(self._world, qemu, targets)
            finally:
                await self._reset(here)
            await blockjobs.finish(self._world, qemu, targets)
            return True

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

    async def _ready(self) -> None:
        await self._chosen()

    async def _chosen(self) -> Host:
        """The first call chooses the accelerator."""
        async with self._choosing:
            if self._host is None:
                self._world.files.make_dirs(self._state)
                self._host = await accelerator.choose(self._world, self._state / ".accelerator.json", self._trial)
            return self._host

    def _here(self, home: Path, record: Record) -> _Here:
        return _Here(home, record)

    @asynccontextmanager
    async def _running(self, id: str) -> AsyncIterator[Monitor | None]:
        """The monitor of a machine that is on, ours for the block; None of one that is off or not here."""
        async with self._settled(id) as here:
            yield None if here is None or here.record.stage is Stage.OFF else await self._connected(here)

    async def _begin(
        self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], undo: AsyncExitStack
    ) -> None:
        if not disks:
            raise Impossible("A machine needs a root volume")
        if here.record.origin is not None:
            # The kernel goes with the disk that the machine was first started with.
            boot = here.record.origin.boot
        for disk in disks:
            self._check(disk)
        self._starting(here, machine, origin_of(boot))
        undo.push_async_callback(self._leave_group, machine.id)
        process = await self._spawn(here, machine, boot, taps, disks, await self._chosen())
        undo.push_async_callback(self._drop, here, process)
        # While QEMU gets ready: the greeting comes later than this is on the disk.
        self._started(here, process, Stage.READY)
        here.off.clear()
        try:
            qemu = await self._connected(here, GREETING_S)
            rate = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib).disk
            # In one breath: QEMU answers in order, and on a busy host each answer alone takes its time.
            await asyncio.gather(*(hotplug.keep_to(qemu, disk.volume_id, rate) for disk in disks if rate is not None))
            await qemu.execute("cont")
            # After a power cut it is all the same how far this one came.
            self._save(here, replace(here.record, stage=Stage.ON), durable=False)
        except DriverFault as error:
            said = self._world.files.part(here.home / "qemu.log", -2000, 2000).decode(errors="replace")
            raise DriverFault("The machine did not start") from RuntimeError(f"{error}: {said}")

    async def _spawn(
        self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], host: Host
    ) -> Pid:
        # Before anything is open: it may take a while, or be refused.
        opening = {one.volume_id: await self._keys.open(one.sealed_key) for one in disks if one.sealed_key is not None}
        with ExitStack() as ours:

            def opened(path: Path, *, write: bool = False, append: bool = False) -> int:
                fd = self._world.files.open(path, write=write, append=append)
                ours.callback(os.close, fd)
                return fd

            def secret(data: str) -> int:
                fd = self._world.files.open_secret(data.encode())
                ours.callback(os.close, fd)
                return fd

            listening = [monitor.listen(self._world, here.home / name) for name in ("qmp", "console")]
            for sock in listening:
                ours.callback(sock.close)
            fds = Descriptors(
                disks=tuple((opened(one.path, write=True), opened(one.base.path) if one.base else None) for one in disks),
                keys=tuple((id, secret(key)) for id, key in opening.items()),
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
        parts = [(disk.path, "qcow2", "disk", disk.sealed_key)]
        if disk.base is not None:
            parts.append((disk.base.path, disk.base.format, "image", disk.base.sealed_key))
        for path, format, what, key in parts:
            if not self._world.files.exists(path):
                raise Impossible(f"The machine's {what} is gone from this host")
            if format == "qcow2":
                header = self._world.files.part(path, 0, HEADER_BYTES)
                size, own = self._world.files.size(path), path == disk.path
                why = refusal(header, size, may_have_backing=own, encrypted=key is not None)
                if why is not None:
                    raise Impossible(f"The machine's {what} cannot be used: {why}")

    # Knowing again.

    async def _settle_living(self, here: _Here) -> None:
        unknown = here.record.stage is Stage.READY
        if unknown or ((here.monitor is None or here.monitor.broken) and self._world.clock.monotonic() >= here.connect_at):
            try:
                status = await (await self._connected(here)).status()
                if status == UNBEGUN:
                    await self._kill(here)
                    return await self._unbegin(here)
                if unknown:
                    self._save(here, replace(here.record, stage=Stage.ON), durable=False)
                if status == "shutdown":
                    here.off.set()
            except DriverFault:
                # It runs, and does not answer: `measure` says so. A later look tries again.
                here.connect_at = self._world.clock.monotonic() + RECONNECT_S
        if here.off.is_set():
            if here.record.stage is Stage.REBOOTING:
                await self._reset(here)
            else:
                await self._end(here, self._why_off(here))

    async def _find_process(self, here: _Here) -> Pid | None:
        """Whoever listens on its socket, and has let the guest begin."""
        try:
            # Who connects before QEMU listens itself has for a peer whoever made the socket: our predecessor. Its greeting
            # says that it does, and the second connection has the right one.
            (await self._connected(here)).broken = True
            qemu = await self._connected(here)
        except NobodyListens:
            return None  # and nobody ever had the socket but the two of them
        process = self._world.processes.find(qemu.peer_pid)
        if process is None:
            raise DriverFault("The machine's hypervisor ended while it was looked at")
        status = await qemu.status()
        if status == UNBEGUN:
            await self._drop(here, process)
            return None
        if status == "shutdown":
            here.off.set()
        return process

    def _died(self, here: _Here) -> Ended:
        return Ended.BY_GUEST if here.off.is_set() else Ended.CRASHED

    async def _line(self, here: _Here) -> Line:
        clock, qemu = self._world.clock, await self._connected(here)
        end = clock.monotonic() + LINE_S
        # QEMU turns away who comes before it has seen the last one go.
        while not await qemu.has_line_free():
            if clock.monotonic() > end:
                raise DriverFault(f"The serial console of {here.record.id} is in use")
            await clock.sleep(LINE_POLL_S)
        return await monitor.open_line(self._world, here.home / "console")

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

    # Ending.

    async def _ask_off(self, here: _Here, grace_s: float) -> None:
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

    async def _restart(self, here: _Here) -> None:
        """By the power button, so that the guest can write what it holds; after ten seconds without that."""
        await self._connected(here)
        self._save(here, replace(here.record, stage=Stage.REBOOTING))
        await self._ask_off(here, REBOOT_GRACE_S)
        await self._reset(here)

    async def _take_down(self, here: _Here) -> None:
        """Ask QEMU to close its disks and quit; kill it when it does not."""
        if self._alive(here.record):
            try:
                await (await self._connected(here)).execute("quit")
                if await self._world.processes.wait_gone(here.record.process, timeout_s=QUIT_S):
                    return
            except DriverFault:
                pass
            await self._kill(here)

    async def _let_go(self, here: _Here) -> None:
        here.off.clear()
        if here.monitor is not None:
            await here.monitor.close()
            here.monitor = None

    async def _drop(self, here: _Here, process: Pid) -> None:
        await self._kill_process(process)
        await self._let_go(here)

    async def _kill(self, here: _Here) -> None:
        if self._alive(here.record):
            await self._kill_process(here.record.process)

    async def _kill_process(self, process: Pid) -> None:
        self._world.processes.signal(process, signal.SIGKILL)
        if not await self._world.processes.wait_gone(process, timeout_s=KILL_S):
            raise DriverFault("The machine's hypervisor could not be killed")


def group_limits(machine: Machine) -> GroupLimits:
    limits = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib)
    return GroupLimits(
        cpus=limits.vcpus + OWN_CPUS,
        cpu_weight=limits.cpu_weight,
        memory_mib=limits.memory_mib + OWN_MEMORY_MIB,
        processes=limits.vcpus + OWN_THREADS,
    )
