"""Archives of a root file system, as image builders and other container tools make them, unpacked into a container's disk.

Somebody else made the archive: it is unpacked into a file system of bounded size that is mounted for that alone, by GNU tar,
which follows no link and no path out of it, in a mount namespace that goes with it. Not here: who may register one.
"""

from pathlib import Path

from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible
from alto.model.images import ARCHIVE_GIB

UNPACK_S = 3600.0
NO_ROOM, NO_ARCHIVE, NO_SYSTEM = 3, 4, 5
LEAST_MIB = 64
KEPT_FREE_BYTES = 1 << 30  # on this disk, when the archive was unpacked

# Its first process, by whatever name its maker gave it; a link may lead to what is only there once it is the root.
SCRIPT = f"""
mount -t ext4 -o loop,nodev,nosuid,noatime "$2" "$3" || exit 1
tar --extract --numeric-owner --same-permissions --same-owner --file "$1" --directory "$3" || {{
    [ "$(stat --file-system --format=%a "$3")" -lt 16 ] && exit {NO_ROOM}
    exit {NO_ARCHIVE}
}}
[ -e "$3/sbin/init" ] || [ -L "$3/sbin/init" ] || exit {NO_SYSTEM}
for folder in dev proc sys run tmp; do mkdir -p "$3/$folder" || exit {NO_ARCHIVE}; done
umount "$3" && sync "$2"
"""
REFUSALS = {
    NO_ROOM: f"The image's archive holds more than {ARCHIVE_GIB} GiB",
    NO_ARCHIVE: "The image's archive cannot be unpacked: it is damaged, or packed in a way that this host does not know",
    NO_SYSTEM: "The image's archive is no root file system: it has no /sbin/init",
}


async def unpack(world: World, archive: Path, disk: Path) -> None:
    """`disk` becomes an ext4 file system without partitions. Raises: Impossible: it is no root file system; DriverFault."""
    mount_point = disk.parent / "mnt"
    world.files.make_dirs(mount_point)
    _, free = world.files.space(disk.parent)
    # What a packed archive holds nobody knows before; it must not fill the host.
    size_mib = min(ARCHIVE_GIB << 10, (free - KEPT_FREE_BYTES) >> 20)
    if size_mib < LEAST_MIB:
        raise DriverFault("This host's disk has no room to unpack the image's archive")
    make = ["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-J", "size=16", "-L", "root", str(disk), f"{size_mib}M"]
    run = ["sh", "-c", SCRIPT, "alto-unpack", str(archive), str(disk), str(mount_point)]
    for words in (make, ["unshare", "--mount", "--propagation", "private", "--", *run]):
        try:
            done = await world.processes.run(words, timeout_s=UNPACK_S)
        except (TimeoutError, FileNotFoundError) as error:
            raise DriverFault("The image's archive could not be unpacked on this host") from error
        if words is not make and done.returncode == NO_ROOM and size_mib < ARCHIVE_GIB << 10:
            raise DriverFault("This host's disk has no room to unpack the image's archive")
        if words is not make and done.returncode in REFUSALS:
            raise Impossible(REFUSALS[done.returncode]) from RuntimeError(done.complaint())
        if done.returncode != 0:
            raise DriverFault("The image's archive could not be unpacked on this host") from RuntimeError(done.complaint())
    world.files.remove_tree(mount_point)
