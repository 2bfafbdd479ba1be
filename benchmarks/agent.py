"""What a host's work costs beside the same work by hand: starts of containers, while ever more of them run.

    sudo python -m benchmarks.agent [--containers 50] [--cache FOLDER]

By hand is a copy of the same root file system, mounted in a namespace of its own, and `lxc-start` with the same configuration:
no record, no sync, no limits, no wait for a process to be known again. All sides end when the guest's first process runs. LXD,
where it is installed, launches the same root file system out of an image of its own.
Not here: virtual machines (machines.py).
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from alto.daemons.process import default_cache
from alto.drivers.compute.container.compute import ContainerCompute
from alto.drivers.compute.container.config import CONFIG, DEVICE, INIT, NO_TOOLS, READ_AHEAD_KIB, TOOLS
from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.groups import ControlGroups
from alto.drivers.image.images import LocalImages
from alto.kit.world import World, real_world
from alto.model.images import CONTAINER_SOURCE
from alto.model.instances import Machine, MetadataOptions, RootVolume, Wish
from benchmarks.lxd import Lxd, is_installed
from benchmarks.tables import Verdict, ms, print_table, print_verdicts, spread

START_S = 60.0
PAIR_EVERY = 3
GOAL_START = 2.0
GOAL_LXD = 0.5
GOAL_FLAT = 1.5


def machine(number: int) -> Machine:
    return Machine(
        id=f"i-{number:017x}",
        account="000000000001",
        region="us-east-1",
        zone="us-east-1a",
        epoch=1,
        incarnation=1,
        wish=Wish.RUNNING,
        image_id="ami-0a170000000000002",
        image_source=CONTAINER_SOURCE,
        instance_type="m1.tiny",
        vcpus=1,
        memory_mib=256,
        root=RootVolume(volume_id=f"vol-{number:017x}", size_gib=1),
        nics=(),
        hostname=f"bench-{number}",
        public_key=None,
        key_name=None,
        user_data=None,
        metadata=MetadataOptions(),
        shutdown_behaviour="stop",
        reservation_id="r-00000000000000001",
        launch_index=0,
        launched_at=0.0,
        reboots=0,
    )


def by_hand(home: Path, boot: BootFiles, pattern: Path) -> tuple[float, subprocess.Popen[bytes]]:
    """`pattern`: a machine of ours, whose configuration it takes, under its own name."""
    home.mkdir()
    (home / "interfaces").write_text("lxc.net.0.type = empty\n")
    config = (pattern / CONFIG).read_text().replace(str(pattern), str(home)).replace(pattern.name, home.name)
    (home / CONFIG).write_text(config)
    script = f"""
cd "$1" && cp --sparse=auto -- "$2" root.raw && mount -o loop root.raw /mnt || exit 1
export {DEVICE}="$(mountpoint -d /mnt)"
echo {READ_AHEAD_KIB} >"/sys/dev/block/${DEVICE}/bdi/read_ahead_kb"
PATH={NO_TOOLS} exec /usr/bin/lxc-start -P /run -n "$3" -f {CONFIG} -F
"""
    began = time.monotonic()
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(home), str(boot.disk), home.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": TOOLS},
    )
    wait(lambda: runs(home), home.name)
    return time.monotonic() - began, process


def runs(home: Path) -> bool:
    """LXC has handed over to the guest's own first process."""
    try:
        words = Path(f"/proc/{int((home / INIT).read_text())}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return words not in (b"", b"\0") and not words.startswith(b"lxc-start\0")


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not start within {START_S:g} s")
        time.sleep(0.003)


class Measured(NamedTuple):
    """Seconds of starts."""

    ours: list[float]
    by_hand: list[tuple[float, float]]  # ours, and the one by hand right after it
    lxd: list[tuple[float, float]]  # ours, and LXD's right after it; none where it is not installed


async def measure(folder: Path, cache: Path, count: int) -> Measured:
    world = real_world()
    boot = await LocalImages(world, cache).fetch(CONTAINER_SOURCE)
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(Lxd(folder / "lxd", boot.disk)) if is_installed() else None
        return await _measure(folder, world, boot, count, peer)


async def _measure(folder: Path, world: World, boot: BootFiles, count: int, peer: Lxd | None) -> Measured:
    groups = ControlGroups(world, f"alto-benchmark-{os.getpid()}")
    driver = ContainerCompute(world, folder / "machines", groups=groups)
    found = Measured([], [], [])
    try:
        for number in range(1, count + 1):
            began = time.monotonic()
            await driver.start(machine(number), boot, [], [])
            found.ours.append(time.monotonic() - began)
            if number % PAIR_EVERY == 1:
                home = folder / "machines" / machine(number).id
                seconds, process = by_hand(folder / f"hand-{number}", boot, home)
                found.by_hand.append((found.ours[-1], seconds))
                process.kill()
                process.wait()
                if peer is not None:
                    found.lxd.append((found.ours[-1], peer.launch(f"peer-{number}")))
    finally:
        for number in range(1, count + 1):
            await driver.destroy(machine(number).id)
        groups.remove_all()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--cache", type=Path, default=default_cache())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alto-benchmark-") as folder:
        # LXD's guests have users of their own, who must pass through.
        Path(folder).chmod(0o711)
        found = uvloop.run(measure(Path(folder), given.cache, given.containers))
    ratios = [our / hand for our, hand in found.by_hand]
    beside_lxd = [our / theirs for our, theirs in found.lxd]
    third = max(1, len(ratios) // 3)
    flat = statistics.median(ratios[-third:]) / statistics.median(ratios[:third])
    rows = [
        ("by hand", ms(statistics.median(hand for _, hand in found.by_hand))),
        ("ours", ms(statistics.median(found.ours))),
        ("ours / by hand", spread(ratios)),
        (f"the same, last third of {given.containers} / first", f"{flat:.2f}"),
    ]
    if beside_lxd:
        rows += [("LXD", ms(statistics.median(theirs for _, theirs in found.lxd))), ("ours / LXD's", spread(beside_lxd))]
    else:
        rows.append(("LXD", "not installed"))
    print_table("Start of a container", ("", "median"), rows)
    verdicts = [
        Verdict(f"container start <= {GOAL_START:g}x by hand", spread(ratios), statistics.median(ratios) <= GOAL_START),
        Verdict(f"flat from 0 to {given.containers}: <= {GOAL_FLAT:g}x", f"{flat:.2f}", flat <= GOAL_FLAT),
    ]
    if beside_lxd:
        met = statistics.median(beside_lxd) <= GOAL_LXD
        verdicts.append(Verdict(f"container launch <= {GOAL_LXD:g}x LXD's", spread(beside_lxd), met))
    return 0 if print_verdicts(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
