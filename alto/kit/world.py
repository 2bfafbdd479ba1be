"""The World: the only door through which Alto reaches time, chance, files, processes and sockets.

Everything that could make two runs differ comes in through one `World` object, so that the whole system
runs under a seeded simulator with a virtual clock (`tests/sim`). `real_world()` is the one for people.
`tests/test_tidy.py` forbids the direct calls (`time`, `random`, `open`, `subprocess`, ...) elsewhere.

Not here: databases (the store owns its file) and the HTTP server (the daemons own it).
"""

import asyncio
import ctypes
import os
import random
import shutil
import signal as signals
import socket
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from alto.kit.serial import Serial

if TYPE_CHECKING:
    # For its types only: processes that speak no TLS spare its memory.
    import ssl

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NETNS_DIR = Path("/run/netns")
LINE_MAX = 64 * 1024  # bytes; what asyncio itself reads into one line


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970, UTC. It may jump; durations use `monotonic`."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes backwards."""

    async def sleep(self, seconds: float) -> None: ...


class Chance(Protocol):
    def hex(self, digits: int) -> str:
        """`digits` lower-case hexadecimal digits, unpredictable in production."""

    def serials(self, count: int, digits: int, gap: int) -> str:
        """`count` times `digits` hexadecimal digits that sort in the order in which they were drawn (`serial.py`)."""

    def bytes(self, count: int) -> bytes: ...

    def uniform(self, low: float, high: float) -> float:
        """For jitter only."""


class Files(Protocol):
    """Paths are absolute. Missing files raise FileNotFoundError, as the standard library does."""

    def read(self, path: Path) -> bytes: ...

    def part(self, path: Path, start: int, count: int) -> bytes:
        """At most `count` bytes from `start`; a negative start counts from the end, as a slice's does."""

    def size(self, path: Path) -> int: ...

    def open(self, path: Path, *, write: bool = False, append: bool = False) -> int:
        """A descriptor to hand to another process; the caller closes it. `append` makes the file when it is absent."""

    def open_secret(self, data: bytes) -> int:
        """A descriptor, as `open`'s, of a file that has these bytes, no name, and no place but memory."""

    def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        """Whole or not at all, and on the disk when it returns: temporary name, fsync, rename, fsync of the folder.
        Not `durable`: whole or not at all for who reads it before the machine's next boot, which has no use for it."""

    def append(self, path: Path, data: bytes) -> None: ...

    def move(self, path: Path, to: Path) -> None:
        """Within one file system; what is at `to` is replaced."""

    def remove(self, path: Path) -> None:
        """Idempotent."""

    def remove_tree(self, path: Path) -> None:
        """Whatever is there, a folder or a file. Idempotent."""

    def remove_folders(self, path: Path) -> bool:
        """A tree of folders whose files are the kernel's own and go with them, as control groups' do. False while one is in
        use. Idempotent."""

    def make_dirs(self, path: Path, *, mode: int = 0o700) -> None:
        """Idempotent."""

    def names(self, path: Path) -> list[str]:
        """Sorted names in a folder; empty when there is no such folder."""

    def exists(self, path: Path) -> bool: ...

    def put_setting(self, path: Path, value: str) -> None:
        """Into a file of the kernel's, as it is and at once: such files have no other name meanwhile."""

    def space(self, path: Path) -> tuple[int, int]:
        """(bytes, free bytes) of the file system that holds `path`."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    returncode: int
    stdout: bytes
    stderr: bytes

    def complaint(self, *, lines: int = 1) -> str:
        """The last lines of stderr in one, for an error's `__cause__` or log."""
        said = self.stderr.decode(errors="replace").strip().splitlines()[-lines:]
        return "; ".join(line.strip() for line in said) or f"exit code {self.returncode}"


@dataclass(frozen=True)
class Pid:
    """A process for certain: pids are reused, (pid, start time in clock ticks since boot) is not."""

    pid: int
    started: int


class Processes(Protocol):
    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0, netns: str | None = None
    ) -> Finished:
        """Run to the end, in namespace `netns` if given. Raises: TimeoutError after killing it; FileNotFoundError."""

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pid:
        """Start a process that outlives this one (own session, output appended to `log`)."""

    def alive(self, pid: Pid) -> bool:
        """False as soon as it is dead, even while nobody has reaped it."""

    def find(self, pid: int) -> Pid | None:
        """The process that has this number now, if any."""

    def signal(self, pid: Pid, signal: int) -> None:
        """Idempotent: no error when it is gone."""

    async def wait_gone(self, pid: Pid, *, timeout_s: float) -> bool:
        """True when it ended within the time; works for processes that are not our children (pidfd)."""


class Net(Protocol):
    def open_socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        *,
        netns: str | None = None,
    ) -> socket.socket:
        """A non-blocking socket that belongs to network namespace `netns` (this process's own when None)."""

    def open_tap(self, name: str, *, netns: str) -> int:
        """File descriptor of tap `name` inside `netns`, made when absent; the tap goes when its last fd is closed."""

    def in_netns(self, netns: str | None, action: Callable[[], T]) -> T:
        """What `action()` returns, called with this thread in namespace `netns`. It must be short and never await."""

    def sysctl(self, settings: Mapping[str, str], *, netns: str | None = None) -> dict[str, str]:
        """Write kernel settings (paths below /proc/sys, with slashes); answers what each was before."""

    async def connect_unix(self, path: Path, *, limit: int = LINE_MAX) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`limit`: how many bytes may come before what is read until, a line's end for one. Raises: OSError."""

    async def connect(
        self, host: str, port: int, *, tls: "ssl.SSLContext | None" = None, name: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TCP; with `tls`, to whoever can prove to be `name`. Raises: OSError, of which ssl.SSLError is one."""

    async def connect_inside(
        self, netns: str | None, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TCP over IPv4 from within network namespace `netns`. Raises: OSError."""

    async def serve(
        self, sock: socket.socket, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> asyncio.Server: ...


@dataclass(frozen=True)
class World:
    clock: Clock
    chance: Chance
    files: Files
    processes: Processes
    net: Net


TOGETHER_S = 0.005  # a sleep that is no shorter ends at a multiple of it


class RealClock:
    # Not methods of our own: they are asked some dozen times for each launch.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        # Whoever sleeps wakes together: a process that is woken for each finds its caches cold each time.
        if seconds >= TOGETHER_S:
            seconds += -(time.monotonic() + seconds) % TOGETHER_S
        await asyncio.sleep(seconds)


_DRAWN_DIGITS = 32


class RealChance:
    def __init__(self, clock: Clock) -> None:
        self._drawn: deque[str] = deque()  # asked of the kernel in numbers: most are short, and a launch draws ten
        self._serial = Serial(clock.now, random.getrandbits)

    def hex(self, digits: int) -> str:
        if digits > _DRAWN_DIGITS:
            return os.urandom((digits + 1) // 2).hex()[:digits]
        while True:  # another thread may have taken what this one drew
            try:
                return self._drawn.popleft()[:digits]
            except IndexError:
                fresh = os.urandom(64 * _DRAWN_DIGITS // 2).hex()
                self._drawn.extend(fresh[at : at + _DRAWN_DIGITS] for at in range(0, len(fresh), _DRAWN_DIGITS))

    def serials(self, count: int, digits: int, gap: int) -> str:
        return self._serial.draw(count, digits, gap)

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)


class RealFiles:
    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def part(self, path: Path, start: int, count: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(start if start >= 0 else max(0, os.fstat(file.fileno()).st_size + start))
            return file.read(count)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def open(self, path: Path, *, write: bool = False, append: bool = False) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if append else os.O_RDWR if write else os.O_RDONLY
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def open_secret(self, data: bytes) -> int:
        fd = os.memfd_create("secret", os.MFD_CLOEXEC)
        os.write(fd, data)
        return fd

    def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if not durable:
            return
        # Without this the rename itself can be lost in a power cut.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def append(self, path: Path, data: bytes) -> None:
        with open(path, "ab") as file:
            file.write(data)

    def move(self, path: Path, to: Path) -> None:
        path.rename(to)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        # A socket, for one, is nothing that one could open to see that it is no folder.
        if path.is_dir() and not path.is_symlink():
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def remove_folders(self, path: Path) -> bool:
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)
        except OSError:
            # Its processes and ours work on it side by side: what counts is what is left.
            return not path.exists()
        return True

    def make_dirs(self, path: Path, *, mode: int = 0o700) -> None:
        path.mkdir(mode=mode, parents=True, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        return path.exists()

    def put_setting(self, path: Path, value: str) -> None:
        path.write_text(value)

    def space(self, path: Path) -> tuple[int, int]:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


class RealProcesses:
    """By subprocess and not the event loop's own way to start one: uvloop forks all of this process, which takes 20 ms where
    that is as large as a cloud's (150 MB), and stops everything else meanwhile. Here a program starts within half of one."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()  # that nobody waits for

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0, netns: str | None = None
    ) -> Finished:
        # Files in memory, not pipes: nobody need read and write while it runs, a command that ends before it read everything
        # is no error of ours, and one that leaves a process behind with its output open is nevertheless over.
        with ExitStack() as files:
            source, output, complaints = (files.enter_context(_memory(name)) for name in ("stdin", "stdout", "stderr"))
            source.write(stdin)
            source.seek(0)
            process = _started(argv, netns, stdin=source, stdout=output, stderr=complaints)
            try:
                async with asyncio.timeout(timeout_s):
                    await _end_of(process)
            except BaseException:
                process.kill()
                await _end_of(process)
                raise
            output.seek(0)
            complaints.seek(0)
            return Finished(process.returncode, output.read(), complaints.read())

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pid:
        with open(log, "ab") as output:  # noqa: ASYNC230
            process = _started(argv, netns, stdout=output, stderr=output, pass_fds=pass_fds, own_session=True, env=env)
        self._children.add(process)
        # Already dead: a start time of 0 belongs to no process, so `alive` says False.
        started = Pid(process.pid, _start_time(process.pid) or 0)
        _when_over(process, lambda: self._children.discard(process))
        return started

    def alive(self, pid: Pid) -> bool:
        return _start_time(pid.pid) == pid.started

    def find(self, pid: int) -> Pid | None:
        started = _start_time(pid)
        return Pid(pid, started) if started is not None else None

    def signal(self, pid: Pid, signal: int) -> None:
        if not self.alive(pid):
            return
        try:
            handle = os.pidfd_open(pid.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive(pid):
                signals.pidfd_send_signal(handle, signal)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    async def wait_gone(self, pid: Pid, *, timeout_s: float) -> bool:
        try:
            handle = os.pidfd_open(pid.pid)
        except ProcessLookupError:
            return True
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        try:
            if not self.alive(pid):
                return True
            loop.add_reader(handle, gone.set)
            try:
                async with asyncio.timeout(timeout_s):
                    await gone.wait()
                return True
            except TimeoutError:
                return False
            finally:
                loop.remove_reader(handle)
        finally:
            os.close(handle)


def _started(
    argv: Sequence[str],
    netns: str | None,
    *,
    stdout: BinaryIO,
    stderr: BinaryIO,
    stdin: BinaryIO | None = None,
    pass_fds: Sequence[int] = (),
    own_session: bool = False,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["ip", "netns", "exec", netns, *argv] if netns else list(argv),
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        start_new_session=own_session,
        env=dict(env) if env is not None else None,
    )


def _memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b", buffering=0)


def _when_over(process: subprocess.Popen[bytes], then: Callable[[], object]) -> Callable[[], None]:
    """`then()` once it has ended and is no child any more; answers how to no longer wait for that."""
    handle = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()

    def leave() -> None:
        loop.remove_reader(handle)
        os.close(handle)

    def over() -> None:
        leave()
        process.wait()
        then()

    loop.add_reader(handle, over)
    return leave


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    over = asyncio.Event()
    leave = _when_over(process, over.set)
    try:
        await over.wait()
    finally:
        if not over.is_set():
            leave()


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, or None when the process is gone or only waits to be reaped. One whose first thread has ended
    (field 3) while others have not (field 20) still holds its files and their locks."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rsplit(b")", 1)[1].split()
    ended = fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1)
    return None if ended else int(fields[19])


class RealNet:
    def open_socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        *,
        netns: str | None = None,
    ) -> socket.socket:
        if netns is None:
            sock = socket.socket(family, type)
        else:
            with inside_netns(netns):
                sock = socket.socket(family, type)
        sock.setblocking(False)
        return sock

    def open_tap(self, name: str, *, netns: str) -> int:
        import fcntl
        import struct

        tunsetiff, iff_tap, iff_no_pi, iff_vnet_hdr = 0x400454CA, 0x2, 0x1000, 0x4000
        with inside_netns(netns):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                flags = iff_tap | iff_no_pi | iff_vnet_hdr
                fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), flags))
            except BaseException:
                os.close(fd)
                raise
        return fd

    def in_netns(self, netns: str | None, action: Callable[[], T]) -> T:
        if netns is None:
            return action()
        with inside_netns(netns):
            return action()

    def sysctl(self, settings: Mapping[str, str], *, netns: str | None = None) -> dict[str, str]:
        def write() -> dict[str, str]:
            before = {}
            for key, value in settings.items():
                path = Path("/proc/sys") / key
                before[key] = path.read_text().strip()
                path.write_text(value)
            return before

        # /proc/sys/net shows the namespace of the thread that opens it.
        return self.in_netns(netns, write)

    async def connect_unix(self, path: Path, *, limit: int = LINE_MAX) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(path), limit=limit)

    async def connect(
        self, host: str, port: int, *, tls: "ssl.SSLContext | None" = None, name: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)

    async def connect_inside(
        self, netns: str | None, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = self.open_socket(netns=netns)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    async def serve(
        self, sock: socket.socket, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> asyncio.Server:
        return await asyncio.start_server(handler, sock=sock)


_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside_netns(name: str) -> Iterator[None]:
    """This thread is in network namespace `name` for the block. No await inside: the loop's thread would stay there."""
    # os.setns exists only from Python 3.12 on.
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns to {name}")
        finally:
            os.close(there)
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                # Going on would send this cloud's traffic from a tenant's network.
                os._exit(99)
    finally:
        os.close(home)


def real_world() -> World:
    clock = RealClock()
    return World(clock, RealChance(clock), RealFiles(), RealProcesses(), RealNet())
