"""The World of one simulated process: virtual time with its own skew, seeded chance, and files that a power cut can bite.

Files belong to a machine (`SimDisk`) and outlive its processes. What `write` wrote is on the disk when it returns, as kit's
contract says; what `append` added, and names removed since the last `write`, are only in the page cache: `cut_power` keeps
a random part of them. Processes and sockets there are none: whoever asks for one is a driver that should be a fake.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from alto.kit.serial import Serial
from alto.kit.world import Finished, Pid, World
from tests.sim.loop import SimLoop

EPOCH = 1_790_000_000.0  # when simulated time begins: September 2026


class SimClock:
    """`now` may be skewed and may jump; `monotonic` starts anywhere and only runs forward."""

    def __init__(self, loop: SimLoop, *, skew_s: float = 0.0, booted_at: float = 0.0) -> None:
        self._loop = loop
        self.skew_s = skew_s
        self._booted_at = booted_at

    def now(self) -> float:
        return EPOCH + self._loop.time() + self.skew_s

    def monotonic(self) -> float:
        return self._booted_at + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimChance:
    def __init__(self, seed: str, now: Callable[[], float] = lambda: EPOCH) -> None:
        self._random = random.Random(seed)
        self._serial = Serial(now, self._random.getrandbits)

    def hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}" if digits else ""

    def serials(self, count: int, digits: int, gap: int) -> str:
        return self._serial.draw(count, digits, gap)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class SimDisk:
    """One machine's file system. `files` is what a reader sees; `_durable` what a power cut leaves.

    As on ext4: one journal, so that every fsync makes all earlier renames and removals durable too; appended data only
    when the file itself is written again.
    """

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.folders: set[Path] = {Path("/")}
        self._durable: dict[Path, bytes] = {}
        self._removed: list[Path] = []
        self.writes = 0

    def sync(self, path: Path, data: bytes) -> None:
        for removed in self._removed:
            if removed not in self.files:
                self._durable.pop(removed, None)
        self._removed.clear()
        self.files[path] = self._durable[path] = data
        self.writes += 1

    def remove(self, path: Path) -> None:
        if self.files.pop(path, None) is not None:
            self._removed.append(path)

    def cut_power(self, chance: random.Random) -> None:
        """Everything that no fsync asked for is lost, in part: the journal may have committed by itself meanwhile."""
        kept = chance.randint(0, len(self._removed))
        for removed in self._removed[:kept]:
            self._durable.pop(removed, None)
        for path in sorted(self.files):
            known, now = self._durable.get(path, b""), self.files[path]
            if now != known and now.startswith(known):
                self._durable[path] = now[: chance.randint(len(known), len(now))]
        self._removed.clear()
        self.files = dict(self._durable)
        for path in self.files:
            self.folders.update(path.parents)


class SimFiles:
    """kit's Files over a disk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def read(self, path: Path) -> bytes:
        try:
            return self._disk.files[path]
        except KeyError:
            raise FileNotFoundError(str(path)) from None

    def part(self, path: Path, start: int, count: int) -> bytes:
        data = self.read(path)
        start = start if start >= 0 else max(0, len(data) + start)
        return data[start : start + count]

    def size(self, path: Path) -> int:
        return len(self.read(path))

    def open(self, path: Path, *, write: bool = False, append: bool = False) -> int:
        _refuse(f"a descriptor of {path}")

    def open_secret(self, data: bytes) -> int:
        _refuse("a descriptor of a secret")

    def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        self._need_folder(path)
        if durable:
            self._disk.sync(path, bytes(data))
        else:
            self._disk.files[path] = bytes(data)

    def append(self, path: Path, data: bytes) -> None:
        self._need_folder(path)
        self._disk.files[path] = self._disk.files.get(path, b"") + data

    def move(self, path: Path, to: Path) -> None:
        _refuse(f"another name for {path}")

    def remove(self, path: Path) -> None:
        self._disk.remove(path)

    def remove_tree(self, path: Path) -> None:
        for file in sorted(self._disk.files):
            if file == path or path in file.parents:
                self._disk.remove(file)
        self._disk.folders -= {folder for folder in self._disk.folders if folder == path or path in folder.parents}

    def remove_folders(self, path: Path) -> bool:
        self._disk.folders -= {folder for folder in self._disk.folders if folder == path or path in folder.parents}
        return True

    def make_dirs(self, path: Path, *, mode: int = 0o700) -> None:
        self._disk.folders.update((path, *path.parents))

    def names(self, path: Path) -> list[str]:
        inside = [*self._disk.files, *self._disk.folders]
        return sorted({entry.name for entry in inside if entry.parent == path and entry != path})

    def put_setting(self, path: Path, value: str) -> None:
        _refuse(f"a setting of the kernel: {path}")

    def space(self, path: Path) -> tuple[int, int]:
        raise FileNotFoundError(f"{path} is simulated: it takes no disk")

    def exists(self, path: Path) -> bool:
        return path in self._disk.files or path in self._disk.folders

    def _need_folder(self, path: Path) -> None:
        if path.parent not in self._disk.folders:
            raise FileNotFoundError(str(path.parent))


def _refuse(what: str) -> NoReturn:
    raise RuntimeError(f"{what} in a simulation: use a fake driver")


class NoProcesses:
    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0, netns: str | None = None
    ) -> Finished:
        _refuse(f"process {argv[0]}")

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pid:
        _refuse(f"process {argv[0]}")

    def alive(self, pid: Pid) -> bool:
        _refuse("pid")

    def find(self, pid: int) -> Pid | None:
        _refuse("pid")

    def signal(self, pid: Pid, signal: int) -> None:
        _refuse("signal")

    async def wait_gone(self, pid: Pid, *, timeout_s: float) -> bool:
        _refuse("pid")


class NoNet:
    def open_socket(self, family: int = 0, type: int = 0, *, netns: str | None = None) -> NoReturn:
        _refuse("socket")

    def open_tap(self, name: str, *, netns: str) -> int:
        _refuse("tap")

    async def connect_unix(self, path: Path, *, limit: int = 0) -> NoReturn:
        _refuse("socket")

    async def connect(self, host: str, port: int, *, tls: object = None, name: str | None = None) -> NoReturn:
        _refuse("socket")

    async def serve(self, sock: object, handler: Callable[..., Awaitable[None]]) -> NoReturn:
        _refuse("socket")


def sim_world(loop: SimLoop, seed: str, disk: SimDisk, *, skew_s: float = 0.0, booted_at: float = 0.0) -> World:
    clock = SimClock(loop, skew_s=skew_s, booted_at=booted_at)
    return World(
        clock=clock,
        chance=SimChance(seed, clock.now),
        files=SimFiles(disk),
        processes=NoProcesses(),
        net=NoNet(),
    )
