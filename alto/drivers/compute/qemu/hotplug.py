"""Devices that come and go while a machine runs, through its monitor.

What a machine has is asked of QEMU each time and never remembered, so that every step may be done again, after a death of
this process too. Not here: whether the machine is on, and who may touch it now (`compute.py`).
"""

import asyncio
from contextlib import suppress

from alto.drivers.compute.driver import Tap
from alto.drivers.compute.qemu.commandline import netdev_of, nic
from alto.drivers.compute.qemu.monitor import HypervisorRefused, Monitor
from alto.model.errors import DriverFault

# A guest that runs lets go of a device within 0.3 s; one that boots does not hear, and is asked again.
LET_GO_S, ASK_AGAIN_S = 10.0, 2.0


async def add_interface(qemu: Monitor, tap: Tap) -> None:
    """Idempotent. QEMU keeps a copy of `tap.fd`."""
    if tap.interface_id in await _devices(qemu):
        return
    netdev = netdev_of(tap.interface_id)
    # One that an earlier try left behind holds a tap that may be closed by now.
    await _unless_absent(qemu, "netdev_del", netdev)
    if tap.fd >= 0:
        await qemu.execute("getfd", {"fdname": netdev}, pass_fd=tap.fd)
        await qemu.execute("netdev_add", {"type": "tap", "id": netdev, "fd": netdev})
        await qemu.execute("device_add", nic(tap, hot=True))


async def remove_interface(qemu: Monitor, interface_id: str) -> None:
    """Idempotent. Raises: DriverFault, when the guest has not let go of it in time."""
    await _unplug(qemu, interface_id)
    await _unless_absent(qemu, "netdev_del", netdev_of(interface_id))


async def interfaces(qemu: Monitor) -> frozenset[str]:
    return frozenset(device for device in await _devices(qemu) if device.startswith("eni-"))


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


async def _unless_absent(qemu: Monitor, command: str, id: str) -> None:
    """A removal that is no fault when there is nothing to remove."""
    with suppress(HypervisorRefused):
        await qemu.execute(command, {"id": id})
