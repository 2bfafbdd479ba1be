"""Machines as LXC system containers.

`state_dir/ID/` holds, beside what every make has there (machines.py, which says when what is said here is done), root.raw (its
disk: an ext4 file system without partitions, as large as was asked for) and what LXC is told (config.py). A machine's life is
one process, the keeper (config.py too), and its guest runs no instruction before its record is on the disk.
Not here: networks (the guest's end of a port comes in by name), images.
"""

import hashlib
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from alto.drivers.compute.container import interfaces
from alto.drivers.compute.container.config import (
    AGAIN,
    CONFIG,
    CONSOLE_LOG,
    DISK,
    ENDED,
    HALTED,
    INIT,
    LXC_LOG,
    TOOLS,
    TYPED,
    UID_FIRST,
    UID_RANGES,
    UIDS_EACH,
    is_keeper_of,
    is_typist_of,
    keeper,
    lxc_config,
    typist,
)
from alto.drivers.compute.container.console import LogLine
from alto.drivers.compute.driver import BootFiles, Line, Tap
from alto.drivers.compute.groups import ControlGroups, GroupLimits
from alto.drivers.compute.host import host_faults, memory_mib, processors
from alto.drivers.compute.machines import Here, Machines
from alto.drivers.compute.record import Ended, Record, origin_of
from alto.drivers.volume.driver import Disk
from alto.kit.world import Pid, World
from alto.model.errors import DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine
from alto.model.limits import limits_of

log = structlog.get_logger()

COPY_S = 600.0
STARTED_S = 30.0  # from the keeper to the guest's first instruction: 0.05 s, and more where twenty start at once
POLL_S = 0.003
REBOOT_GRACE_S = 10.0
NOTICED_S = STARTED_S + 10.0  # from the end of a guest's first process to its keeper's word, or to the next one of a reboot
KILL_S = 10.0
TYPIST_S = 5.0
LOGS = {"console.log": "console.old", "keeper.log": "keeper.old"}
POWER_OFF, RESTART = signal.SIGPWR, signal.SIGINT
# What systemd as the first process wants instead of SIGPWR: SIGRTMIN+3. It is known by blocking that signal (lxc-stop does so).
HALT_SYSTEMD = 37
# What the keeper and LXC need beside the guest; and as many processes and threads as a small machine may have by itself.
OWN_MEMORY_MIB, PROCESSES_PER_VCPU, PROCESSES_LEAST = 16, 2048, 4096


class _Here(Here):
    """`gone_at`: on the monotonic clock, since when its guest was seen to have no first process."""

    def __init__(self, home: Path, record: Record) -> None:
        super().__init__(home, record)
        self.gone_at: float | None = None


class ContainerCompute(Machines[_Here]):
    """A ComputeDriver."""

    logs = LOGS

    def __init__(self, world: World, state_dir: Path, *, groups: ControlGroups, share: float = 1.0) -> None:
        super().__init__(world, state_dir, groups=groups, share=share)
        self._own_groups = groups
        self._typists: dict[str, Pid] = {}  # of machines whose console was opened

    async def capabilities(self) -> Capabilities:
        with host_faults():
            files = self._world.files
            return Capabilities(
                kind="container", accelerator="none", vcpus=processors(files), memory_mib=int(memory_mib(files) * self._share)
            )

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        if disks:
            raise Impossible("A container keeps its root itself, and takes no volumes")
        await super().start(machine, boot, taps, disks)

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        if disks:
            raise Impossible("A container takes no volumes")

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        return False

    async def attach_interface(self, id: str, tap: Tap) -> None:
        async with self._settled(id) as here:
            init = self._init(here) if here is not None and tap.peer else None
            if here is None or init is None:
                return
            known = interfaces.load(self._world.files, here.home)
            links = await interfaces.links(self._world, init)
            if tap.mac not in links:
                name = interfaces.free_name(links)
                # Known before it is there: a guest that reboots now has it afterwards.
                interfaces.save(self._world.files, here.home, interfaces.with_one(known, tap, name))
                await interfaces.give(self._world, init, tap.peer, name)

    async def detach_interface(self, id: str, interface_id: str) -> None:
        async with self._settled(id) as here:
            if here is None:
                return
            known = interfaces.load(self._world.files, here.home)
            gone = next((one for one in known if one.id == interface_id), None)
            init = self._init(here)
            if gone is None:
                return
            interfaces.save(self._world.files, here.home, tuple(one for one in known if one is not gone))
            if init is not None:
                await interfaces.take_back(self._world, init, here.record.process, gone)

    async def interfaces(self, id: str) -> frozenset[str]:
        async with self._settled(id) as here:
            init = self._init(here) if here is not None else None
            if here is None or init is None:
                return frozenset()
            there = await interfaces.links(self._world, init)
            return frozenset(one.id for one in interfaces.load(self._world.files, here.home) if one.mac in there)

    async def measure(self, id: str) -> bool:
        """The guest's first process lives, under a keeper that lives."""
        with host_faults():
            here = await self._find(id)
            return here is not None and self._alive(here.record) and self._init(here) is not None

    async def close(self) -> None:
        pass  # nothing is held open: keepers and records stand by themselves

    # Beginning.

    def _here(self, home: Path, record: Record) -> _Here:
        return _Here(home, record)

    async def _begin(
        self, here: _Here, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], undo: AsyncExitStack
    ) -> None:
        files, before = self._world.files, here.record
        if before.origin is None or not files.exists(here.home / DISK):
            await self._make_disk(here.home, machine, boot)
        for name in (AGAIN, ENDED, INIT, LXC_LOG):
            files.remove(here.home / name)
        uid_first = before.uid_first or free_range(machine.id, {one.record.uid_first for one in self._known().values()})
        await self._leave_group(machine.id)
        undo.push_async_callback(self._leave_group, machine.id)
        # LXC's groups, its own and the guest's, are within.
        self._own_groups.limit(machine.id, group_limits(machine))
        groups = self._own_groups.make(machine.id)
        interfaces.save(files, here.home, interfaces.at_start(taps))
        rate = limits_of(machine.instance_type, machine.vcpus, machine.memory_mib).disk
        settings = self._own_groups.disk_settings(machine.id, rate) if rate is not None else []
        told = lxc_config(machine, here.home, uid_first=uid_first, groups=groups, disk_settings=settings)
        files.write(here.home / CONFIG, told.encode(), durable=False)
        self._starting(here, machine, before.origin or origin_of(boot), uid_first=uid_first)
        process = await self._world.processes.spawn(
            keeper(here.home),
            log=here.home / "keeper.log",
            env={"PATH": TOOLS},
        )
        self._started(here, process)
        undo.push_async_callback(self._kill, here)
        await self._wait_until_started(here)

    async def _make_disk(self, home: Path, machine: Machine, boot: BootFiles) -> None:
        """The image's file system in a file of the size that was asked for; whole and on the disk, or not at all."""
        if boot.disk is None or boot.disk_format != "raw" or boot.kernel is not None:
            raise Impossible("The machine's image is the disk of a virtual machine; a container needs a root file system")
        size, new = machine.root.size_gib << 30, home / f"{DISK}.new"
        # resize2fs makes the file longer, too, and syncs it. Nobody had it open but who made it, so there is nothing to check
        # first; and to grow what is mounted root needs more than to mount (CAP_SYS_RESOURCE).
        larger = size > self._world.files.size(boot.disk)
        finish = 'resize2fs -f "$2" "$3" >/dev/null' if larger else 'sync "$2"'
        script = f'cp --sparse=auto --reflink=auto -- "$1" "$2" && {finish} && exec mv -- "$2" "$4"'
        words = [str(boot.disk), str(new), f"{size >> 10}K", str(home / DISK)]
        await self._run("sh", "-c", script, "sh", *words, timeout_s=COPY_S)

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

    async def _find_process(self, here: _Here) -> Pid | None:
        """Whoever has its folder for an argument."""
        return self._find_words(partial(is_keeper_of, here.home))

    def _has_ended(self, here: _Here) -> bool:
        """Its keeper came to a word."""
        return self._world.files.exists(here.home / ENDED)

    async def _settle_living(self, here: _Here) -> None:
        """LXC 5 waits for ever when the guest's first process is killed in the moment that it is handed over."""
        if not self._world.files.exists(here.home / INIT) or self._init(here) is not None:
            here.gone_at = None
            return
        now = self._world.clock.monotonic()
        here.gone_at = now if here.gone_at is None else here.gone_at
        if now - here.gone_at >= NOTICED_S:
            log.warning("a container's guest is gone, and its keeper does not say so", instance=here.record.id)
            await self._end(here, self._why_off(here))

    def _find_words(self, wanted: Callable[[list[str]], bool]) -> Pid | None:
        for name in self._world.files.names(Path("/proc")):
            if name.isdigit() and wanted(self._words(int(name))):
                process = self._world.processes.find(int(name))
                if process is not None:
                    return process
        return None

    def _words(self, pid: int) -> list[str]:
        try:
            return self._world.files.read(Path(f"/proc/{pid}/cmdline")).decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

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

    def _died(self, here: _Here) -> Ended:
        try:
            said = self._world.files.read(here.home / ENDED).strip()
        except FileNotFoundError:
            said = b""
        return Ended.BY_GUEST if said == HALTED else Ended.CRASHED

    async def _line(self, here: _Here) -> Line:
        pipe = here.home / TYPED
        if not self._world.files.exists(pipe):
            await self._run("mkfifo", "--mode=600", str(pipe), timeout_s=TYPIST_S)
        carry = partial(self._carry, here)
        await carry()
        return LogLine(
            self._world,
            here.home / CONSOLE_LOG,
            self._world.files.open(pipe, write=True),
            alive=lambda: self._alive(here.record),
            carry=carry,
        )

    async def _carry(self, here: _Here) -> None:
        """One typist: a second one would be told that the console is busy. It goes with the guest, so each life needs one."""
        known = self._typists.get(here.record.id)
        if known is not None and self._world.processes.alive(known):
            return
        found = self._find_words(partial(is_typist_of, here.home))
        if found is None:
            found = await self._world.processes.spawn(typist(here.home), log=here.home / "keeper.log")
        self._typists[here.record.id] = found

    # Ending.

    async def _ask_off(self, here: _Here, grace_s: float) -> None:
        init = self._init(here)
        if init is not None:
            status = self._world.files.read(Path(f"/proc/{init.pid}/status")).decode()
            blocked = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:")), 0)
            systemd = blocked >> (HALT_SYSTEMD - 1) & 1
            self._world.processes.signal(init, HALT_SYSTEMD if systemd else POWER_OFF)
        await self._world.processes.wait_gone(here.record.process, timeout_s=grace_s)

    async def _restart(self, here: _Here) -> None:
        """By the signal that a guest takes for its reset button, and by force when it does not listen; the keeper stays."""
        before = self._init(here)
        if before is None:
            raise DriverFault(f"Machine {here.record.id} is not on, so it cannot reboot")
        # However this life ends, another follows.
        self._world.files.write(here.home / AGAIN, b"")
        self._world.processes.signal(before, RESTART)
        if not await self._world.processes.wait_gone(before, timeout_s=REBOOT_GRACE_S):
            self._world.processes.signal(before, signal.SIGKILL)
        await self._wait_until_started(here, other_than=before)

    async def _take_down(self, here: _Here) -> None:
        await self._kill(here)

    async def _let_go(self, here: _Here) -> None:
        self._typists.pop(here.record.id, None)

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
