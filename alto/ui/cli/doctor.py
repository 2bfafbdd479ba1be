"""`alto doctor`: what this machine has and lacks for a cloud; each failing line says what to do.

The checks look, and change nothing but for a network namespace that is made and removed again. Not here: whether what the
cloud made is right (`alto audit`).
"""

import enum
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import click
import msgspec

from alto.model.encryption import KEY_RING, NEXT, KeyRing, fingerprint
from alto.ui.cli import daemon, options
from alto.ui.cli.cloud import DEFAULT_LISTEN
from alto.ui.cli.context import Cloud, read_cloud
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.output import say, show

DISK_GIB = 2
MEMORY_GIB = 1
COMMAND_S = 20.0

# Program -> Debian's package.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ip": "iproute2",
    "haproxy": "haproxy",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "lz4": "lz4",
    "dropbear": "dropbear-bin",
    "setpriv": "util-linux",
}
# Controller of the kernel's control groups -> what instances are kept to by it.
LIMITS = {"cpu": "processors", "memory": "memory", "pids": "processes"}
DISKS = {"io", "blkio"}  # of versions 2 and 1; virtual machines' disks QEMU keeps to their rate itself
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Verdict(enum.StrEnum):
    OK = "ok"
    HINT = "hint"  # works, and could work better
    NO = "no"


class Finding(NamedTuple):
    check: str
    verdict: Verdict
    what: str
    next: str = ""


@click.command(cls=options.Command)
def doctor() -> int:
    """What this machine lacks, and what to do about it."""
    findings = examine(options.state())
    show(
        [[one.check, one.verdict.value, one.what, one.next] for one in findings],
        ["CHECK", "OK", "WHAT", "NEXT"],
        data=[{"check": one.check, "verdict": one.verdict.value, "what": one.what, "next": one.next} for one in findings],
        format=options.output(),
        quiet=options.quiet(),
    )
    bad = [one for one in findings if one.verdict is Verdict.NO]
    say(f"{len(findings)} checks, {len(bad)} failed" if bad else f"{len(findings)} checks, all is well")
    return Exit.FAILED if bad else Exit.DONE


def examine(state: Path) -> list[Finding]:
    try:
        cloud = read_cloud(state)
    except Failure as failure:
        return [Finding("state", Verdict.NO, failure.what, failure.hint)]
    return [
        *examine_machine(),
        _disk(state),
        _port(cloud),
        _records(state),
        examine_master_key(state, cloud),
        _control_plane(state, cloud),
    ]


def examine_machine() -> list[Finding]:
    """What does not depend on a cloud."""
    machine = [_machine(), _programs(), _containers(), _root(), _accelerator(), _namespaces(), _packet_rules(), _memory()]
    return [*machine, _limits()]


def _machine() -> Finding:
    machine = platform.machine()
    if machine != "x86_64":
        return Finding("machine", Verdict.NO, f"this is {machine}", "real instances need x86_64; alto up --simulate 3 works")
    return Finding("machine", Verdict.OK, f"{machine}, {os.cpu_count()} CPUs, Linux {platform.release()}")


def _programs() -> Finding:
    missing = sorted({package for name, package in PROGRAMS.items() if shutil.which(name, path=PATH) is None})
    if missing:
        return Finding("programs", Verdict.NO, f"{len(missing)} packages are missing", f"apt-get install {' '.join(missing)}")
    return Finding("programs", Verdict.OK, ", ".join(sorted(PROGRAMS)))


def _containers() -> Finding:
    """Their program is not among those that every cloud needs."""
    if shutil.which("lxc-start", path=PATH) is None:
        return Finding(
            "containers", Verdict.HINT, "no lxc-start: alto up --hosts container does not work", "apt-get install lxc"
        )
    groups = Path("/proc/self/mountinfo").read_text()
    if " - cgroup" not in groups:
        return Finding("containers", Verdict.HINT, "no control groups are mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    if not Path("/proc/self/ns/user").exists():
        return Finding("containers", Verdict.HINT, "the kernel has no user namespaces", "a kernel with CONFIG_USER_NS")
    return Finding("containers", Verdict.OK, "LXC, control groups and user namespaces: alto up --hosts qemu,container")


def _root() -> Finding:
    if os.geteuid() != 0:
        return Finding("root", Verdict.NO, "you are not root", "sudo alto ...; alto up --simulate 3 works without")
    return Finding("root", Verdict.OK, "you are root")


def _accelerator() -> Finding:
    kvm = Path("/dev/kvm")
    if not kvm.exists():
        return Finding(
            "kvm", Verdict.HINT, "no /dev/kvm: instances are emulated (TCG), several times slower", "enable VT-x/AMD-V"
        )
    if not os.access(kvm, os.R_OK | os.W_OK):
        return Finding("kvm", Verdict.HINT, "/dev/kvm is not yours to use", "run as root, or join the group kvm")
    return Finding("kvm", Verdict.OK, "/dev/kvm is there; a trial boot at `alto up` decides whether it works")


def _namespaces() -> Finding:
    if os.geteuid() != 0:
        return Finding("namespaces", Verdict.NO, "not tried: needs root", "sudo alto doctor")
    name = f"alto-doctor-{os.getpid()}"
    made = _run("ip", "netns", "add", name)
    if made is not None:
        return Finding(
            "namespaces", Verdict.NO, f"no network namespace could be made: {made}", "in a container: give it CAP_SYS_ADMIN"
        )
    tap = _run("ip", "-n", name, "tuntap", "add", "tap0", "mode", "tap")
    _run("ip", "netns", "del", name)
    if tap is not None:
        return Finding(
            "namespaces", Verdict.NO, f"no tap could be made: {tap}", "mknod /dev/net/tun c 10 200, or load module tun"
        )
    return Finding("namespaces", Verdict.OK, "network namespaces and taps work")


def _packet_rules() -> Finding:
    if os.geteuid() != 0:
        return Finding("nftables", Verdict.NO, "not tried: needs root", "sudo alto doctor")
    complaint = _run("nft", "-c", "add table inet alto_doctor")
    if complaint is not None:
        return Finding("nftables", Verdict.NO, complaint, "apt-get install nftables; the kernel needs NF_TABLES")
    return Finding("nftables", Verdict.OK, "the kernel takes nftables rules")


def _memory() -> Finding:
    values = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    gib = int(values["MemAvailable"].split()[0]) / 1024 / 1024
    if gib < MEMORY_GIB:
        return Finding(
            "memory", Verdict.NO, f"{gib:.1f} GiB are free", "end something; an instance takes a quarter GiB and more"
        )
    return Finding("memory", Verdict.OK, f"{gib:.1f} GiB are free")


def _limits() -> Finding:
    """Of instances: what the kernel keeps them to, by control groups of version 1 or 2."""
    there: set[str] = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        if kind == "cgroup":
            there.update(rest.split()[-1].split(","))
        elif kind == "cgroup2":
            there.update((Path(line.split()[4]) / "cgroup.controllers").read_text().split())
    missing = [what for controller, what in LIMITS.items() if controller not in there]
    if missing:
        return Finding(
            "limits",
            Verdict.HINT,
            f"instances are not kept to their type's {', '.join(missing)}",
            f"mount control groups with {', '.join(one for one in LIMITS if one not in there)}",
        )
    kept = f"instances are kept to their type's {', '.join(LIMITS.values())}"
    if not DISKS & there:
        return Finding(
            "limits", Verdict.HINT, f"{kept}; containers' disks to no rate", "mount control groups with io (version 2) or blkio"
        )
    if "io" not in there:
        how = "containers' what they wait for: of version 1, groups do not count what the kernel writes later"
        return Finding("limits", Verdict.OK, f"{kept} and disk rate, {how}")
    return Finding("limits", Verdict.OK, f"{kept} and disk rate")


def _disk(state: Path) -> Finding:
    folder = state
    while not folder.exists():
        folder = folder.parent
    gib = shutil.disk_usage(folder).free / 1024**3
    if gib < DISK_GIB:
        return Finding(
            "disk", Verdict.NO, f"{gib:.1f} GiB are free at {folder}", f"make room, or alto --state elsewhere ({DISK_GIB} GiB)"
        )
    return Finding("disk", Verdict.OK, f"{gib:.1f} GiB are free at {folder}")


def _port(cloud: Cloud | None) -> Finding:
    if cloud is not None and daemon.answers(cloud):
        return Finding("port", Verdict.OK, f"{urlsplit(cloud.endpoint).netloc} is this cloud's")
    address, _, port = DEFAULT_LISTEN.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, int(port)))
        except OSError as error:
            return Finding("port", Verdict.NO, f"{DEFAULT_LISTEN}: {error.strerror}", "alto up --listen 127.0.0.1:PORT")
    return Finding("port", Verdict.OK, f"{DEFAULT_LISTEN} is free")


def _records(state: Path) -> Finding:
    databases = sorted(state.glob("*.db")) + sorted(state.glob("*.sqlite*")) if state.exists() else []
    databases = [path for path in databases if not path.name.endswith(("-wal", "-shm"))]
    if not databases:
        return Finding("records", Verdict.OK, f"none yet in {state}")
    for path in databases:
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
            try:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            answer = str(error)
        if answer != "ok":
            return Finding(
                "records",
                Verdict.NO,
                f"{path}: {answer}",
                f"keep a copy, then: alto down --keep-data; mv {path} {path}.broken; alto up",
            )
    return Finding("records", Verdict.OK, f"{', '.join(path.name for path in databases)} passed its integrity check")


def examine_master_key(state: Path, cloud: Cloud | None) -> Finding:
    """Which file opens the ring: a change of the master key may have been cut off between its two."""
    if not (state / KEY_RING).exists():
        return Finding("master key", Verdict.OK, f"none yet in {state}")
    path = Path(cloud.master_key) if cloud is not None and cloud.master_key else state / "master.key"
    try:
        wanted = msgspec.json.decode((state / KEY_RING).read_bytes(), type=KeyRing).master
        following = path.with_name(path.name + NEXT)
        if _is_master_key(following, wanted):
            what = f"{following} opens this cloud; a change was cut off before it took the place of {path.name}"
            return Finding("master key", Verdict.HINT, what, "alto up ends the change; keep both until then")
        if _is_master_key(path, wanted):
            what = f"{path} opens this cloud"
            if following.exists():
                what += f"; a change was cut off before {following.name} did, and the next start takes that away"
            return Finding("master key", Verdict.OK, what)
    except PermissionError as error:
        return Finding("master key", Verdict.NO, f"not tried: {error.filename} is not yours to read", "sudo alto doctor")
    except msgspec.MsgspecError:
        return Finding("master key", Verdict.NO, f"{state / KEY_RING} is damaged", "put back a copy of it")
    what = f"{path} is another's" if path.exists() else f"there is no {path}"
    return Finding("master key", Verdict.NO, f"{what}: no encrypted volume opens", "put it back, or alto up --master-key FILE")


def _is_master_key(path: Path, wanted: str) -> bool:
    try:
        return fingerprint(bytes.fromhex(path.read_text())) == wanted
    except (FileNotFoundError, ValueError):
        return False


def _control_plane(state: Path, cloud: Cloud | None) -> Finding:
    if cloud is None:
        return Finding("control plane", Verdict.HINT, f"no cloud in {state}", "alto up")
    if daemon.answers(cloud):
        return Finding("control plane", Verdict.OK, f"{cloud.endpoint} answers")
    alive = cloud.pid and Path(f"/proc/{cloud.pid}").exists()
    what = f"process {cloud.pid} is there and {cloud.endpoint} does not answer" if alive else f"its process {cloud.pid} is gone"
    return Finding("control plane", Verdict.NO, what, f"alto up; less {state / 'alto.log'}")


def _run(*command: str) -> str | None:
    """None when it worked, else its complaint."""
    program = shutil.which(command[0], path=PATH)
    if program is None:
        return f"there is no {command[0]}"
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
