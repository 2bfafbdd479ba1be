"""QEMU's command line for a machine. Pure: same machine, same words.

Every file comes in as a descriptor that the driver opened, because the process runs as a user that may open nothing of ours.
Disk formats and the backing chain are said here and never read from a disk: a guest that broke out of its machine could have
written anything there (CVE-2014-0134 and its kin). What each choice costs was measured; see docs/adr.
"""

import hashlib
import json
from collections.abc import Sequence

import msgspec

from alto.drivers.compute.driver import BootFiles, Tap
from alto.drivers.volume.driver import Disk
from alto.model.instances import Machine

# Beyond 1,879,048,191, systemd's UIDS-GIDS.md knows no use of a user id.
UID_FIRST, UID_COUNT = 1_900_000_000, 200_000_000
# The size of QEMU's cache of translated code. Without a limit a small Debian guest grows to 1.5 GB; 32 MiB costs 60 % more
# CPU for the tiny image, more than 64 gains nothing.
TB_MIB_TINY, TB_MIB = 64, 128
# Where devices are plugged while the machine runs: a bridge with 31 places. As many root ports of PCI Express would cost a
# guest's boot three times as much (docs/adr/0009-one-bridge-for-hot-plug.md).
HOT_BUS = "hot"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Descriptors(msgspec.Struct, frozen=True, kw_only=True):
    """Open files of this process, by number, that QEMU inherits under the same number."""

    disks: tuple[tuple[int, int | None], ...]  # of each disk, and of its base
    keys: tuple[tuple[str, int], ...] = ()  # of each encrypted disk: the volume, and a file in memory
    monitor: int  # a listening Unix socket
    console: int  # a listening Unix socket
    console_log: int
    kernel: int | None = None
    initrd: int | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line must know of the host. `tsc_khz`: see accelerator.py; None when it is not known for sure."""

    accelerator: str  # "kvm" | "tcg"
    tsc_khz: int | None = None
    kvm_gid: int | None = None


def uid_of(id: str) -> int:
    """The user, and group, that machine `id` runs as: its own, and no account on the host."""
    return UID_FIRST + int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]) % UID_COUNT


def uuid_of(id: str) -> str:
    """Begins with "ec2", as Amazon's do: cloud-init's ds-identify takes its EC2 data source by this."""
    digits = "ec2" + hashlib.sha256(id.encode()).hexdigest()[:29]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def command(
    machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], fds: Descriptors, host: Host
) -> list[str]:
    return [*_confinement(machine.id, host), "qemu-system-x86_64", *arguments(machine, boot, taps, disks, fds, host)]


def copier(id: str, monitor_fd: int) -> list[str]:
    """A QEMU without a machine, which works on disks for `id` and ends with the process that started it."""
    words = [*_confinement(id, Host(accelerator="none")), "setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64"]
    words += ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX]
    words += ["-chardev", f"socket,id=monitor,fd={monitor_fd},server=on,wait=off"]
    return [*words, "-mon", "chardev=monitor,mode=control"]


def _confinement(id: str, host: Host) -> list[str]:
    """A network of its own with nothing in it, a user of its own, no capability, and no way to gain one. These programs
    become QEMU by exec, so the process keeps its number; and QEMU never runs as root, not even to read a disk's header."""
    user = str(uid_of(id))
    groups = ["--clear-groups"] if host.kvm_gid is None else ["--groups", str(host.kvm_gid)]
    return [
        *("unshare", "--net", "--ipc", "--"),
        *("setpriv", "--reuid", user, "--regid", user, *groups),
        *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"),
    ]


def arguments(
    machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk], fds: Descriptors, host: Host
) -> list[str]:
    words = ["-name", f"guest={machine.id}", "-uuid", uuid_of(machine.id)]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX]
    words += _processor(machine, boot, host)
    words += _smbios(machine)
    words += ["-device", "virtio-rng-pci", "-device", f"pcie-pci-bridge,id={HOT_BUS}"]
    words += _disks(disks, fds)
    for index, tap in enumerate(taps):
        if tap.fd >= 0:
            words += ["-netdev", f"tap,id={netdev_of(tap.interface_id)},fd={tap.fd}"]
            words += ["-device", _options({key: str(value) for key, value in nic(tap, hot=index > 0).items()})]
    words += ["-chardev", f"socket,id=monitor,fd={fds.monitor},server=on,wait=off"]
    words += ["-mon", "chardev=monitor,mode=control"]
    words += ["-add-fd", f"set=3,fd={fds.console_log},opaque=console"]
    log = "logfile=/dev/fdset/3,logappend=on"
    words += ["-chardev", f"socket,id=console,fd={fds.console},server=on,wait=off,{log}", "-serial", "chardev:console"]
    # The guest begins when its driver says so: not a moment without what is told to QEMU by then.
    words += ["-S"]
    # A guest that powers itself off leaves a paused process behind: so the driver learns of it even when it was dead itself.
    words += ["-action", "shutdown=pause"]
    if fds.kernel is not None:
        words += ["-kernel", f"/proc/self/fd/{fds.kernel}", "-append", _kernel_line(boot, host)]
        if fds.initrd is not None:
            words += ["-initrd", f"/proc/self/fd/{fds.initrd}"]
    return words


def netdev_of(interface_id: str) -> str:
    return f"net-{interface_id}"


def nic(tap: Tap, *, hot: bool) -> dict[str, str]:
    """An interface's device. No ROM: the guest is never booted from the network, and SeaBIOS need not look."""
    device = {
        "driver": "virtio-net-pci",
        "id": tap.interface_id,
        "netdev": netdev_of(tap.interface_id),
        "mac": tap.mac,
        "romfile": "",
    }
    return device | on_hot_bus() if hot else device


def on_hot_bus() -> dict[str, str]:
    # The bridge hands on no I/O ports, which only drivers older than virtio 1.0 need.
    return {"bus": HOT_BUS, "disable-legacy": "on"}


def inherited(fds: Descriptors, taps: Sequence[Tap]) -> list[int]:
    numbers = [fd for pair in fds.disks for fd in pair] + [fd for _, fd in fds.keys]
    numbers += [fds.monitor, fds.console, fds.console_log, fds.kernel, fds.initrd]
    numbers += [tap.fd for tap in taps]
    return [number for number in numbers if number is not None and number >= 0]


def _processor(machine: Machine, boot: BootFiles, host: Host) -> list[str]:
    # What a cloud guest has no use for costs boot time under emulation: no HPET, VMware port, or system management mode.
    count, threads = machine.vcpus, machine.threads_per_core
    topology = f",sockets=1,cores={count // threads},threads={threads}" if threads is not None else ""
    words = ["-machine", "q35,hpet=off,vmport=off,smm=off", "-m", f"{machine.memory_mib}M", "-smp", f"{count}{topology}"]
    if host.accelerator == "kvm":
        return [*words, "-accel", "kvm", "-cpu", "host"]
    tiny = boot.kernel is not None
    # One thread for all its processors: docs/adr/0018-emulated-processors-share-a-thread.md.
    turns = "single" if count > 1 else "multi"
    # qemu64 is emulated the fastest; a registered image may have been compiled for more.
    accel = f"tcg,thread={turns},tb-size={TB_MIB_TINY if tiny else TB_MIB}"
    # Emulated, these are AMD's, whose threads QEMU cannot tell a guest of.
    vendor = ",vendor=GenuineIntel" if threads is not None and threads > 1 else ""
    return [*words, "-accel", accel, "-cpu", ("qemu64" if tiny else "max") + vendor]


def _kernel_line(boot: BootFiles, host: Host) -> str:
    if host.accelerator == "kvm" or host.tsc_khz is None:
        return boot.cmdline
    # Emulation hands through the host's time stamp counter: telling its rate saves the kernel the calibration (1.7 s).
    return f"{boot.cmdline} tsc_early_khz={host.tsc_khz} tsc=reliable no_timer_check"


def _smbios(machine: Machine) -> list[str]:
    uuid = uuid_of(machine.id)
    tables = (
        {"type": "0", "vendor": "Amazon EC2"},
        {
            "type": "1",
            "manufacturer": "Amazon EC2",
            "product": machine.instance_type,
            "serial": uuid,
            "uuid": uuid,
        },
        {"type": "3", "manufacturer": "Amazon EC2", "asset": machine.id},
    )
    return [word for table in tables for word in ("-smbios", _options(table))]


def key_of(node: str) -> str:
    """QEMU's name for the secret that opens a disk, and what is under it."""
    return f"key-{node}"


def encrypted_by(key: str) -> dict[str, object]:
    return {"encrypt": {"format": "luks", "key-secret": key}}


def node(disk: Disk, set: int, base_set: int | None, *, read_only: bool = False) -> dict[str, object]:
    """The whole chain of a volume as QEMU's block layer takes it, named after the volume; `set` are descriptor sets."""

    def file(set: int, *, read_only: bool) -> dict[str, object]:
        # Descriptor sets, because QEMU opens and locks a disk several times.
        return {"driver": "file", "filename": f"/dev/fdset/{set}", "read-only": read_only, "aio": "threads"}

    # The default cache mode, writeback: what the guest synced is on the disk. Zeros written become holes.
    top: dict[str, object] = {
        "driver": "qcow2",
        "node-name": disk.volume_id,
        "read-only": read_only,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {**file(set, read_only=read_only), "discard": "unmap"},
        "backing": None,
    }
    if disk.sealed_key is not None:
        top |= encrypted_by(key_of(disk.volume_id))
    if disk.base is not None and base_set is not None:
        top["backing"] = {"driver": disk.base.format, "read-only": True, "file": file(base_set, read_only=True)}
        if disk.base.format == "qcow2":
            top["backing"] |= {"backing": None}  # type: ignore[operator]
        if disk.base.sealed_key is not None:
            top["backing"] |= encrypted_by(key_of(disk.volume_id))  # type: ignore[operator]
    return top


def drive(disk: Disk) -> dict[str, str]:
    """The guest finds it by its serial number, which has room for 20 characters: the id without its dash, as on EC2."""
    return {
        "driver": "virtio-blk-pci",
        "id": disk.volume_id,
        "drive": disk.volume_id,
        "serial": disk.volume_id.replace("-", ""),
    }


def _disks(disks: Sequence[Disk], fds: Descriptors) -> list[str]:
    words = []
    for volume_id, fd in fds.keys:
        # QEMU reads it once; by a path, since a secret knows no sets of descriptors.
        words += ["-object", f"secret,id={key_of(volume_id)},file=/proc/self/fd/{fd}"]
    for index, (disk, (own, base)) in enumerate(zip(disks, fds.disks, strict=True)):
        # Of the sets, 3 is the console's log.
        set, base_set = (1, 2) if index == 0 else (2 * index + 2, 2 * index + 3)
        words += ["-add-fd", f"set={set},fd={own},opaque={disk.volume_id}"]
        if base is not None:
            words += ["-add-fd", f"set={base_set},fd={base},opaque={disk.volume_id}"]
        words += ["-blockdev", json.dumps(node(disk, set, base_set if base is not None else None))]
        device = drive(disk) | ({"bootindex": "1"} if index == 0 else on_hot_bus())
        words += ["-device", _options(device)]
    return words


def _options(values: dict[str, str]) -> str:
    """QEMU's "a=b,c=d", in which a comma within a value is doubled."""
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in values.items())
