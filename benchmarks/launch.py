"""From `RunInstances` to sshd's banner at the public address, beside the same image started by hand, in one run.

    sudo python -m benchmarks.launch [--pairs 5] [--cache FOLDER]

By hand means the best QEMU command line we know (Alto's own words for the machine, less what confines it), an overlay disk
from qemu-img, and a network inside QEMU that answers DHCP at once and has no metadata to wait for. Needs root; runs in a
network namespace of its own, so nothing leaves the machine.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.qemu.accelerator import choose
from alto.drivers.compute.qemu.commandline import Host
from alto.drivers.image.images import LocalImages
from alto.kit.world import real_world
from benchmarks.client import Ec2, values
from benchmarks.clouds import Cloud, prepare_images, start_real_alto, take_down
from benchmarks.tables import Verdict, print_table, print_verdicts, spread

INSTANCE_TYPE = "t2.micro"
MEMORY_MIB = 1024
CLONE_NEWNET = 0x40000000
GIVE_UP_S = 120.0
PROBE_EVERY_S = 0.05
PATIENCE_S = 1.5
FLOOR = 1.2


async def banner(address: str, port: int) -> None:
    """Until sshd speaks. Asks anew again and again: a connection that began before the guest was there may hang for seconds."""
    spoken = asyncio.Event()

    async def ask() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    if (await reader.readline()).startswith(b"SSH-2.0"):
                        spoken.set()
                finally:
                    writer.close()

    asked: set[asyncio.Task[None]] = set()
    try:
        async with asyncio.timeout(GIVE_UP_S):
            while not spoken.is_set():
                asked = {task for task in asked if not task.done()} | {asyncio.create_task(ask())}
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_EVERY_S):
                        await spoken.wait()
    finally:
        for task in asked:
            task.cancel()


async def by_alto(cloud: Cloud, client: Ec2) -> float:
    started = time.monotonic()
    wish = {"ImageId": cloud.image_id, "InstanceType": INSTANCE_TYPE, "MinCount": 1, "MaxCount": 1}
    id = values(client.call("RunInstances", wish), "instanceId")[0]
    address = values(client.call("DescribeInstances", {"InstanceId.1": id}), "ipAddress")[0]
    await banner(address, 22)
    took = time.monotonic() - started
    client.call("TerminateInstances", {"InstanceId.1": id})
    for _ in range(round(GIVE_UP_S / 0.1)):
        if b"<name>terminated</name>" in client.call("DescribeInstances", {"InstanceId.1": id}):
            return took
        await asyncio.sleep(0.1)
    raise SystemExit(f"{id} is not terminated after {GIVE_UP_S:g} s")


async def by_hand(folder: Path, boot: BootFiles, host: Host) -> float:
    disk = folder / "disk.qcow2"
    disk.unlink(missing_ok=True)
    port = 40022
    # Restricted: the guest's question for metadata is refused at once, and it goes on without.
    network = f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
    known_rate = f" tsc_early_khz={host.tsc_khz} tsc=reliable no_timer_check" if host.tsc_khz else ""
    kvm = ["-accel", "kvm", "-cpu", "host"]
    argv = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,hpet=off,vmport=off,smm=off", "-m", f"{MEMORY_MIB}M", "-smp", "1"),
        *(kvm if host.accelerator == "kvm" else ["-accel", "tcg,thread=multi,tb-size=64", "-cpu", "qemu64"]),
        *("-drive", f"file={disk},format=qcow2,if=virtio"),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-device", "virtio-rng-pci", "-serial", f"file:{folder / 'console.log'}"),
        *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.cmdline + known_rate),
    ]
    started = time.monotonic()
    overlay = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(boot.disk), "-F", boot.disk_format, str(disk))
    await (await asyncio.create_subprocess_exec(*overlay)).wait()
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        await banner("127.0.0.1", port)
        return time.monotonic() - started
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def compare(cloud: Cloud, folder: Path, images: LocalImages, pairs: int) -> tuple[list[float], list[float]]:
    client = cloud.client()
    open_port = {"IpPermissions.1.IpProtocol": "tcp", "IpPermissions.1.IpRanges.1.CidrIp": "0.0.0.0/0"}
    open_port |= {"IpPermissions.1.FromPort": "22", "IpPermissions.1.ToPort": "22", "GroupName": "default"}
    client.call("AuthorizeSecurityGroupIngress", open_port)
    boot = await images.fetch("tiny")
    host = await choose(real_world(), folder / "accelerator.json", partial(images.fetch, "tiny"))
    sides: list[Callable[[], Awaitable[float]]] = [
        lambda: by_alto(cloud, client),
        lambda: by_hand(folder, boot, host),
    ]
    found: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        for side in (0, 1) if pair % 2 else (1, 0):
            took = await sides[side]()
            print(f"  {'alto' if side == 0 else 'by hand'}: {took:.2f} s", file=sys.stderr)
            if pair:  # the first warms up
                found[side].append(took)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/alto-benchmark-images"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: sudo python -m benchmarks.launch")
    prepare_images(options.cache)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        parser.error("this kernel refuses network namespaces")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # QEMU runs as another user
        cloud = start_real_alto(folder, options.cache)
        try:
            ours, by_hand_s = asyncio.run(compare(cloud, folder, LocalImages(real_world(), options.cache), options.pairs))
        finally:
            take_down(cloud, folder, options.cache)
    ratios = [our / their for our, their in zip(ours, by_hand_s, strict=True)]
    rows = [("alto", spread(ours)), ("by hand", spread(by_hand_s)), ("ratio", spread(ratios))]
    print_table("RunInstances to sshd's banner", ("", "seconds"), rows)
    ratio = statistics.median(ratios)
    return 0 if print_verdicts([Verdict(f"at most {FLOOR} times by hand", f"{ratio:.2f}", ratio <= FLOOR)]) else 1


if __name__ == "__main__":
    sys.exit(main())
