"""What the daemons have in common as processes: their log, their number on the disk, the places the system has for them."""

import logging
import os
import signal
import sys
from ipaddress import ip_address
from pathlib import Path

import msgspec
import structlog

from alto.kit.world import Pid, World

PROCESS = "server.json"
STOP_TIMEOUT_S = 10.0


def set_up_log() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def default_cache() -> Path:
    """What can be built again outlives clouds: ALTO_CACHE, else the place that the system has for such things."""
    given = os.environ.get("ALTO_CACHE")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/alto")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alto"


def is_endpoint(text: str) -> bool:
    """Whether it is IP:PORT."""
    host, _, port = text.rpartition(":")
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return port.isdigit() and 0 < int(port) < 65536


def write_process(world: World, state: Path) -> None:
    """Who serves this state, for `--down`: from the first moment on, which may be long before it is ready."""
    process = world.processes.find(os.getpid())
    if process is not None:
        world.files.write(state / PROCESS, msgspec.json.encode(process))


async def stop_process(world: World, state: Path, ready: str) -> None:
    """End whoever serves `state`; `ready` is the file in which it said that it is ready."""
    try:
        process = msgspec.json.decode(world.files.read(state / PROCESS), type=Pid)
    except FileNotFoundError:
        return
    if world.processes.alive(process):
        world.processes.signal(process, signal.SIGTERM)
        if not await world.processes.wait_gone(process, timeout_s=STOP_TIMEOUT_S):
            world.processes.signal(process, signal.SIGKILL)
            await world.processes.wait_gone(process, timeout_s=STOP_TIMEOUT_S)
    for name in (PROCESS, ready):
        world.files.remove(state / name)
