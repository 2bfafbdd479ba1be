"""Devices that come and go while a machine runs, through its monitor.

What a machine has is asked of QEMU each time and never remembered, so that every step may be done again, after a death of
this process too. Not here: whether the machine is on, and who may touch it now (`compute.py`).
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from alto.drivers.compute.driver import Tap
from alto.drivers.compute.qemu.commandline import drive, key_of, netdev_of, nic, node, on_hot_bus
from alto.drivers.compute.qemu.monitor import HypervisorRefused, Monitor
from alto.drivers.volume.driver import Disk, Keyring
from alto.kit.world import Files
from alto.model.errors import DriverFault
from alto.model.limits import DiskRate

# A guest that runs lets go of a device within 0.3 s; one that boots does not hear, and is asked again.
LET_GO_S, ASK_AGAIN_S = 10.0, 2.0
TOGETHER = "disks"  # QEMU's name for the group of devices that share one rate


async def add_interface(qemu: Monitor, tap: Tap) -> None:
    """Idempotent. QEMU keeps a copy of `tap.fd`."""
    if tap.interface_id in await _devices(qemu):
        return
    netdev = netdev_of(tap.interface_id)
    # One that an earlier try left behind holds a tap that may be closed by now.
    await _unless_absent(qemu, "netdev_del", {"id": netdev})
    if tap.fd >= 0:
        await qemu.execute("getfd", {"fdname": netdev}, pass_fd=tap.fd)
        await qemu.execute("netdev_add", {"type": "tap", "id": netdev, "fd": netdev})
        await qemu.execute("device_add", nic(tap, hot=True))


async def remove_interface(qemu: Monitor, interface_id: str) -> None:
    """Idempotent. Raises: DriverFault, when the guest has not let go of it in time."""
    await _unplug(qemu, interface_id)
    await _unless_absent(qemu, "netdev_del", {"id": netdev_of(interface_id)})


async def interfaces(qemu: Monitor) -> frozenset[str]:
    return frozenset(device for device in await _devices(qemu) if device.startswith("eni-"))


async def set_disks(files: Files, keys: Keyring, qemu: Monitor, wanted: Sequence[Disk]) -> None:
    """The machine has these and no others, each at least as large as it says. Raises: DriverFault, as `remove_interface`.

    Keys are asked for only where a disk is new: a machine goes on with what it has, whoever can be asked."""
    present = await disks(qemu)
    rate = await _rate(qemu)
    for id in sorted(present - {disk.volume_id for disk in wanted}):
        await _unplug(qemu, id)
        await _remove_node(qemu, id)
    for disk in wanted:
        if disk.volume_id not in present:
            # What an earlier try left behind.
            await _remove_node(qemu, disk.volume_id)
            await add_node(files, keys, qemu, disk)
            await qemu.execute("device_add", drive(disk) | on_hot_bus())
        # Also of one that an earlier try plugged, and died.
        if rate is not None:
            await keep_to(qemu, disk.volume_id, rate)
    sizes = await node_sizes(qemu)
    for disk in wanted:
        if sizes.get(disk.volume_id, disk.size_bytes) < disk.size_bytes:
            await qemu.execute("block_resize", {"node-name": disk.volume_id, "size": disk.size_bytes})


async def disks(qemu: Monitor) -> frozenset[str]:
    return frozenset(device for device in await _devices(qemu) if device.startswith("vol-"))


async def keep_to(qemu: Monitor, volume_id: str, rate: DiskRate) -> None:
    """The volume is read and written no faster, together with all others of which this was said. Idempotent."""
    each_way = dict.fromkeys(("bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
    what = {"id": _backend(volume_id), "group": TOGETHER, "bps": rate.bytes_s, "iops": rate.iops}
    await qemu.execute("block_set_io_throttle", what | each_way)


async def _rate(qemu: Monitor) -> DiskRate | None:
    """What the machine's volumes are kept to; None where they are not."""
    answer = await qemu.execute("query-block")
    assert isinstance(answer, list)
    for one in answer:
        if one.get("inserted", {}).get("group") == TOGETHER:
            return DiskRate(mbps=one["inserted"]["bps"] // 125_000, iops=one["inserted"]["iops"])
    return None


def _backend(volume_id: str) -> str:
    """QEMU's path to what has the disk: a part of the device that the guest sees."""
    return f"/machine/peripheral/{volume_id}/virtio-backend"


async def add_node(files: Files, keys: Keyring, qemu: Monitor, disk: Disk, *, read_only: bool = False) -> None:
    """The volume's chain, of descriptors that are opened here."""
    if disk.sealed_key is not None:
        await add_key(qemu, key_of(disk.volume_id), await keys.open(disk.sealed_key))
    own = await add_fd(files, qemu, disk.path, disk.volume_id, write=not read_only)
    base = await add_fd(files, qemu, disk.base.path, disk.volume_id) if disk.base is not None else None
    await qemu.execute("blockdev-add", node(disk, own, base, read_only=read_only))


async def _remove_node(qemu: Monitor, id: str) -> None:
    await _unless_absent(qemu, "blockdev-del", {"node-name": id})
    await remove_key(qemu, key_of(id))
    await remove_fds(qemu, id)


async def add_key(qemu: Monitor, name: str, key: str) -> None:
    await qemu.execute("object-add", {"qom-type": "secret", "id": name, "data": key})


async def remove_key(qemu: Monitor, name: str) -> None:
    """Idempotent."""
    await _unless_absent(qemu, "object-del", {"id": name})


async def has_key(qemu: Monitor, name: str) -> bool:
    try:
        answer = await qemu.execute("qom-list", {"path": "/objects"})
    except HypervisorRefused:
        return False  # it never had any object
    assert isinstance(answer, list)
    return any(one["name"] == name for one in answer)


async def add_fd(files: Files, qemu: Monitor, path: Path, opaque: str, *, write: bool = False) -> int:
    """The number of the new set, which `remove_fds` finds by `opaque`."""
    fd = files.open(path, write=write)
    try:
        answer = await qemu.execute("add-fd", {"opaque": opaque}, pass_fd=fd)
    finally:
        os.close(fd)
    assert isinstance(answer, dict)
    return int(answer["fdset-id"])


async def remove_fds(qemu: Monitor, opaque: str) -> None:
    answer = await qemu.execute("query-fdsets")
    assert isinstance(answer, list)
    for one in answer:
        if any(fd.get("opaque") == opaque for fd in one["fds"]):
            await qemu.execute("remove-fd", {"fdset-id": one["fdset-id"]})


async def node_sizes(qemu: Monitor) -> dict[str, int]:
    """Of every block node that has a name: how large a disk it is."""
    answer = await qemu.execute("query-named-block-nodes", {"flat": True})
    assert isinstance(answer, list)
    return {one["node-name"]: one["image"]["virtual-size"] for one in answer}


async def _devices(qemu: Monitor) -> frozenset[str]:
    """Ids of the devices that have one."""
    answer = await qemu.execute("qom-list", {"path": "/machine/peripheral"})
    assert isinstance(answer, list)
    return frozenset(one["name"] for one in answer)


async def _unplug(qemu: Monitor, device: str) -> None:
    try:
        async with asyncio.timeout(LET_GO_S):
            while True:
                qemu.unplugged.clear()
                if device not in await _devices(qemu):
                    return
                # Refused while the guest still thinks about the last time that it was asked.
                with suppress(HypervisorRefused):
                    await qemu.execute("device_del", {"id": device})
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK_AGAIN_S):
                        await qemu.unplugged.wait()
    except TimeoutError:
        raise DriverFault(f"The guest has not let go of {device} yet") from None


async def _unless_absent(qemu: Monitor, command: str, arguments: Mapping[str, str]) -> None:
    """A removal that is no fault when there is nothing to remove."""
    with suppress(HypervisorRefused):
        await qemu.execute(command, arguments)
