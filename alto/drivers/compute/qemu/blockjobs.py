"""Copies of disks by QEMU: of a running machine's, and of those that no machine has open.

A copy is of one moment, for all volumes that are asked for together; what is written later is kept out of it. A process of
its own does it where no machine runs, confined as a machine's is: a disk may have been written by somebody who broke out.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from alto.drivers.compute.qemu import hotplug, monitor
from alto.drivers.compute.qemu.commandline import copier, encrypted_by, key_of
from alto.drivers.compute.qemu.monitor import HypervisorRefused, Monitor
from alto.drivers.volume.driver import Disk, Keyring, NoKeys
from alto.kit.world import World
from alto.model.errors import DriverFault

GREETING_S = 30.0
LOOK_S = (0.02, 0.5)  # between two looks at a copy, growing
COPY_S = 6 * 3600.0
GONE_S = 5.0


async def copy(world: World, qemu: Monitor, targets: Mapping[str, Path]) -> None:
    """Each volume into an empty file of its size."""
    await begin(world, qemu, targets)
    await finish(world, qemu, targets)


async def begin(world: World, qemu: Monitor, targets: Mapping[str, Path]) -> None:
    """The moment of which the copies are. A copy of an encrypted disk has its key, unless QEMU has another one for it."""
    await _clear(world, qemu, targets)
    depths = await _depths(qemu)
    actions = []
    for id, path in targets.items():
        set = await hotplug.add_fd(world.files, qemu, path, _copy_of(id), write=True)
        file = {"driver": "file", "filename": f"/dev/fdset/{set}", "discard": "unmap"}
        target: dict[str, object] = {"driver": "qcow2", "node-name": _copy_of(id), "file": file, "discard": "unmap"}
        for name in (key_of(_copy_of(id)), key_of(id)):
            if await hotplug.has_key(qemu, name):
                target |= encrypted_by(name)
                break
        await qemu.execute("blockdev-add", target)
        # Without anything under it, only what was ever written is copied.
        sync = "full" if depths.get(id) else "top"
        job = {"job-id": _copy_of(id), "device": id, "target": _copy_of(id), "sync": sync}
        actions.append({"type": "blockdev-backup", "data": {**job, "auto-dismiss": False}})
    await qemu.execute("transaction", {"actions": actions, "properties": {"completion-mode": "grouped"}})


async def finish(world: World, qemu: Monitor, targets: Mapping[str, Path]) -> None:
    """Raises: DriverFault, when a copy failed; then all of them are of no use."""
    wait_s = LOOK_S[0]
    jobs = {_copy_of(id) for id in targets}
    try:
        async with asyncio.timeout(COPY_S):
            states = await _jobs(qemu, jobs)
            while any(state != "concluded" for state, _ in states.values()):
                await world.clock.sleep(wait_s)
                states = await _jobs(qemu, jobs)
                wait_s = min(wait_s * 2, LOOK_S[1])
    except TimeoutError:
        raise DriverFault("The copy of the disk took too long") from None
    errors = [error for _, error in states.values() if error]
    lost = len(states) < len(jobs)
    await _clear(world, qemu, targets)
    if errors or lost:
        raise DriverFault("The disk could not be copied") from RuntimeError("; ".join(errors) or "the copy is gone")


async def _clear(world: World, qemu: Monitor, targets: Iterable[str]) -> None:
    """What an earlier copy left, which nobody waits for any more."""
    names = {_copy_of(id) for id in targets}
    for _ in range(100):
        states = await _jobs(qemu, names)
        if not states:
            break
        for name, (state, _) in states.items():
            with suppress(HypervisorRefused):
                await qemu.execute("job-dismiss" if state == "concluded" else "job-cancel", {"id": name})
        await world.clock.sleep(LOOK_S[0])
    else:
        raise DriverFault("An earlier copy of the disk does not end")
    for name in names:
        with suppress(HypervisorRefused):
            await qemu.execute("blockdev-del", {"node-name": name})
        await hotplug.remove_fds(qemu, name)


def _copy_of(volume_id: str) -> str:
    return f"copy-{volume_id}"


async def _jobs(qemu: Monitor, names: set[str]) -> dict[str, tuple[str, str]]:
    """Of those jobs that there are: state and error."""
    answer = await qemu.execute("query-jobs")
    assert isinstance(answer, list)
    return {one["id"]: (one["status"], one.get("error", "")) for one in answer if one["id"] in names}


async def _depths(qemu: Monitor) -> dict[str, int]:
    # Asked flat, QEMU calls every depth 0.
    answer = await qemu.execute("query-named-block-nodes", {"flat": False})
    assert isinstance(answer, list)
    return {one["node-name"]: one["backing_file_depth"] for one in answer}


class DiskTool:
    """Works on disks that no machine has open, which their locks make sure of. `folder` is for sockets and logs."""

    def __init__(self, world: World, folder: Path, keys: Keyring | None = None) -> None:
        self._world = world
        self._folder = folder
        self._keys = keys or NoKeys()

    async def copy(self, disk: Disk, target: Path, *, sealed_key: str | None = None) -> None:
        """Into an empty qcow2 file of its size, which this key opens. Raises: DriverFault, Impossible."""
        async with self._qemu(disk) as qemu:
            await hotplug.add_node(self._world.files, self._keys, qemu, disk, read_only=True)
            if sealed_key is not None and sealed_key != disk.sealed_key:
                await hotplug.add_key(qemu, key_of(_copy_of(disk.volume_id)), await self._keys.open(sealed_key))
            await copy(self._world, qemu, {disk.volume_id: target})

    async def grow(self, disk: Disk, size_bytes: int) -> None:
        async with self._qemu(disk) as qemu:
            await hotplug.add_node(self._world.files, self._keys, qemu, replace(disk, size_bytes=size_bytes))
            await qemu.execute("block_resize", {"node-name": disk.volume_id, "size": size_bytes})
            await qemu.execute("blockdev-del", {"node-name": disk.volume_id})

    @asynccontextmanager
    async def _qemu(self, disk: Disk) -> AsyncIterator[Monitor]:
        home = self._folder / disk.volume_id
        self._world.files.make_dirs(home)
        try:
            sock = monitor.listen(self._world, home / "qmp")
            try:
                process = await self._world.processes.spawn(
                    copier(disk.volume_id, sock.fileno()),
                    log=home / "log",
                    pass_fds=[sock.fileno()],
                    env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                )
            finally:
                sock.close()
            try:
                qemu = await monitor.connect(self._world, home / "qmp", lambda event: None, timeout_s=GREETING_S)
                try:
                    yield qemu
                    with suppress(DriverFault):
                        await qemu.execute("quit")
                finally:
                    await qemu.close()
                await self._world.processes.wait_gone(process, timeout_s=GONE_S)
            finally:
                self._world.processes.signal(process, 9)
                await self._world.processes.wait_gone(process, timeout_s=GONE_S)
        finally:
            self._world.files.remove_tree(home)
