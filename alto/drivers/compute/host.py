"""What every compute driver that runs on this machine needs of it: its size, its identity, its errors, its machines' logs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alto.kit.world import Files, World
from alto.model.errors import AltoError, DriverFault

CONSOLE_BYTES = 64 * 1024
LOG_BYTES_MAX = 1024 * 1024  # what a talkative guest may take of the host's disk before the older part is dropped


def processors(files: Files) -> int:
    return files.read(Path("/proc/cpuinfo")).decode().count("processor\t")


def memory_mib(files: Files) -> int:
    for line in files.read(Path("/proc/meminfo")).decode().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    raise DriverFault("The host does not say how much memory it has")


def boot_id(files: Files) -> str:
    """No process of an earlier boot is alive, whatever its number."""
    return files.read(Path("/proc/sys/kernel/random/boot_id")).decode().strip()


@contextmanager
def host_faults() -> Iterator[None]:
    """What the host may throw (a full disk, a missing program) becomes the one error that callers know."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise DriverFault("The host could not do what the machine needs") from error
    except ExceptionGroup as errors:
        if errors.split((OSError, AltoError))[1] is not None:
            raise
        raise DriverFault("The host could not do what the machine needs") from errors


def console_of(files: Files, home: Path) -> bytes:
    """The last of what a machine said."""
    parts = []
    for name in ("console.old", "console.log"):
        path = home / name
        if files.exists(path):
            parts.append(files.part(path, -CONSOLE_BYTES, CONSOLE_BYTES))
    return b"".join(parts)[-CONSOLE_BYTES:]


async def trim_logs(world: World, home: Path, logs: Mapping[str, str]) -> None:
    """`logs`: file -> where its last part is kept. All are opened for appending, so whoever writes goes on at the new end."""
    for name, kept in logs.items():
        path = home / name
        if world.files.exists(path) and world.files.size(path) > LOG_BYTES_MAX:
            world.files.write(home / kept, world.files.part(path, -CONSOLE_BYTES, CONSOLE_BYTES))
            await world.processes.run(["truncate", "--size=0", str(path)])
