"""What LXC and the keeper of a container are told, as text. Pure: same machine, same words.

A container's root is nobody on the host: its users are a range of user ids that nobody else has. The range is shifted by the
mount, so the disk itself holds plain ids and moves to another range, or another host, as it is.
"""

import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from alto.drivers.compute.groups import GUEST
from alto.model.errors import Impossible
from alto.model.instances import Machine

# systemd's UIDS-GIDS.md gives 524288 to 1879048191 to containers, in steps of 65536, and its nspawn hashes into all of it; QEMU
# processes of ours begin beyond. /etc/subuid, if there is one, begins at 100000 and seldom passes the first of these.
UID_FIRST, UIDS_EACH, UID_RANGES = 1_000_000_000 // 65536 * 65536, 65536, 12_000

# Names in the folder of a machine.
DISK = "root.raw"
CONFIG, INIT, AGAIN, ENDED, LXC_LOG = "config", "init.pid", "again", "ended", "lxc.log"
INTERFACES, ATTACHED = "interfaces", "attached"
CONSOLE_LOG, TYPED = "console.log", "typed"
# The keeper's variable for its hooks: the number of the disk's device.
DEVICE = "ALTO_DISK"

KEEPER_NAME = "alto-keeper"
HALTED = b"halted"
# In the keeper's own view of the host. The path to it must be open to the guest's users, and that to a machine's folder is not.
MOUNT_POINT = "/mnt"
# What LXC calls the folder of all containers: it must be open in the same way, and only gives sockets their names.
LXC_PATH = "/run"

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"
# Where the host's users may have namespaces of their own (Debian's package uidmap), LXC has newuidmap write the map of ids, for
# root too, and that refuses what /etc/subuid does not list. Where LXC finds no such tool it writes the map itself, which root
# may; and it looks for no other.
NO_TOOLS = "/nonexistent"
# The kernel reads 2.5 MiB ahead of a guest on a loop device, and counts that for the guest's own: the first program alone would
# wait for a tenth of a second on a slow type's disk. This is what it does on other disks.
READ_AHEAD_KIB = 128

# The process that is a container's life: it outlives the agent, holds the mount of the disk in a mount namespace of its own
# (so nothing stays mounted, or looped, that has no process), starts LXC again when the guest reboots, and says how it ended.
#
# LXC 5 would reboot by itself, but then mounts the disk without the shift of ids, and the guest may not write to its own files.
# The first word after the name is the folder, the second LXC's name for it. Each program that it starts is a moment of the
# guest's start, so there are few.
KEEPER = f"""
cd "$1" || exit 1
mount -t ext4 -o loop,nodev,noatime {DISK} {MOUNT_POINT} || exit 1
export {DEVICE}="$(mountpoint -d {MOUNT_POINT})"
echo {READ_AHEAD_KIB} >"/sys/dev/block/${DEVICE}/bdi/read_ahead_kb"
while :; do
    # Without us it must not go on: nobody would know how it ended.
    PATH={NO_TOOLS} /usr/bin/setpriv --pdeathsig KILL \\
        /usr/bin/lxc-start -P {LXC_PATH} -n "$2" -f {CONFIG} -F -l INFO -o {LXC_LOG}
    [ -e {AGAIN} ] || break
    # A guest that reboots at once costs the host no more than this.
    sleep 0.2
    rm -f {AGAIN} {LXC_LOG}
done
# The kernel tells of a power-off in a process namespace by this signal to its first process (reboot(2)).
if grep -q 'ended on signal Interrupt' {LXC_LOG}; then echo halted; else echo crashed; fi >{ENDED}.new
mv {ENDED}.new {ENDED}
"""


def lxc_name(home: Path) -> str:
    """Two clouds on one machine, or two tests, may have a machine of the same id."""
    return f"{home.name}.{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def keeper(home: Path) -> list[str]:
    """A mount namespace of its own, from which nothing comes back."""
    words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", KEEPER, KEEPER_NAME]
    return [*words, str(home), lxc_name(home)]


def typist(home: Path) -> list[str]:
    """Types what comes through the pipe TYPED at the guest's console, as long as there is one. No escape key of LXC's, so that
    the guest gets them all: for that stands the character before "a".

    It never lets go by itself: LXC 5 ends the guest when a client of its console goes while a word of it is under way. So what
    the guest says is read where LXC keeps it, and this has no other end to it than a pipe that it holds open itself.
    """
    words = ["lxc-console", "-P", LXC_PATH, "-n", lxc_name(home), "-t", "0", "-e", "`"]
    return ["sh", "-c", 'exec "$@" 0<>"$0" >/dev/null', str(home / TYPED), *words]


def is_typist_of(home: Path, words: Sequence[str]) -> bool:
    """Also while it still becomes it."""
    return "lxc-console" in words and lxc_name(home) in words


def is_keeper_of(home: Path, words: Sequence[str]) -> bool:
    """Whether a process with these words is the keeper of the machine in `home`, also while it still becomes it."""
    return KEEPER_NAME in words and str(home) in words


def lxc_config(
    machine: Machine, home: Path, *, uid_first: int, groups: Path, disk_settings: Sequence[tuple[Path, str]] = ()
) -> str:
    """`groups`: this machine's control group, below the root of each hierarchy; LXC makes one for the guest in it.
    `disk_settings`: see ControlGroups."""
    says = "".join(f'echo "${DEVICE} {rate}" >{file} && ' for file, rate in disk_settings)
    # In one word, so that whoever reads it has all of it or nothing.
    begin = f"{says}echo $LXC_PID >{INIT}"
    lines = [
        f"lxc.uts.name = {_hostname(machine)}",
        f"lxc.rootfs.path = dir:{MOUNT_POINT}",
        "lxc.rootfs.options = idmap=container",
        f"lxc.idmap = u 0 {uid_first} {UIDS_EACH}",
        f"lxc.idmap = g 0 {uid_first} {UIDS_EACH}",
        "lxc.init.cmd = /sbin/init",
        # Unmodified systems log in on the console and expect no other terminal.
        "lxc.tty.max = 0",
        "lxc.pty.max = 1024",
        "lxc.mount.auto = proc:mixed sys:mixed",
        # A profile of the distribution's would not know our paths; a user namespace is the wall here.
        "lxc.apparmor.profile = unconfined",
        "lxc.cap.drop = mac_admin mac_override sys_module sys_rawio sys_time",
        f"lxc.console.logfile = {home / CONSOLE_LOG}",
        f"lxc.include = {home / INTERFACES}",
        f"lxc.cgroup.dir.container = {groups / GUEST}",
        f"lxc.cgroup.dir.monitor = {groups / 'lxc'}",
        f"lxc.cgroup.dir.monitor.pivot = {groups / 'pivot'}",
        "lxc.hook.version = 1",
        # In the host's namespaces, before the guest's first instruction.
        f"lxc.hook.start-host = {_hook(begin, home)}",
        # While the guest's network is still there. LXC itself gives back only what it took at the start.
        f"lxc.hook.stop = {_hook(f'while read name peer; do {_GIVE_BACK}; done <{ATTACHED}', home)}",
        # Its failure makes LXC stop where it would reboot: see KEEPER.
        f"lxc.hook.post-stop = {_hook(f'test $LXC_TARGET != reboot || {{ : >{AGAIN}; exit 1; }}', home)}",
    ]
    return "\n".join(lines) + "\n"


_GIVE_BACK = "nsenter --net=$LXC_NET_NS ip link set $name netns $$ name $peer"


def _hook(script: str, home: Path) -> str:
    """LXC runs it as `/bin/sh -c "exec HOOK"`, wherever it is, with the keeper's variables and NO_TOOLS."""
    return f"/bin/sh -c {shlex.quote(f'PATH={TOOLS}; cd {shlex.quote(str(home))} && {{ {script}; }}')}"


def _hostname(machine: Machine) -> str:
    name = machine.hostname.partition(".")[0]
    # It stands in a file that LXC reads by lines.
    if not re.fullmatch("[A-Za-z0-9-]{1,63}", name):
        raise Impossible(f"'{name}' is no name for a machine")
    return name
