"""What the daemons have in common as processes: their log and exit code, the signals that end them, what runs until then, their
number on the disk, the places the system has for them."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import structlog

from alto.kit.world import Pid, World
from alto.model.errors import AltoError

PROCESS = "server.json"
STOP_TIMEOUT_S = 10.0
# New objects after which cycles are looked for, and how often the older ones are looked at too. Nearly all that a request
# leaves behind is freed as it ends, without that; what stays is in caches, and would be looked through again and again.
GARBAGE_THRESHOLDS = (20_000, 50, 100)

log = structlog.get_logger()


def run(body: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """A daemon's whole life; the exit code. What it cannot go on without is one line of its log."""
    import uvloop

    set_up_log()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(body())
    except AltoError as error:
        log.error("cannot go on", error=str(error), cause=str(error.__cause__ or ""))
        return 1


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def run_until(stop: asyncio.Event, parts: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """All `parts`, by name, side by side until `stop`; one that fails ends all."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(part, name=name) for name, part in parts.items()]
        await stop.wait()
        for task in running:
            task.cancel()


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
