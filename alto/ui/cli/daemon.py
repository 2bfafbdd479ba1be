"""Start and stop the daemon of this machine's cloud, as a person would: as a process of its own.

The command line knows nothing of daemons but how to call one: `python -m alto.daemons.allinone --state FOLDER ...`, which
writes `cloud.json` when it is ready; with `--down` it takes away what the cloud made.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from alto.kit.world import Pid, RealProcesses
from alto.ui.cli.client import Client, Unreachable
from alto.ui.cli.context import Cloud, read_cloud
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.waiting import wait_until

CLOUD, AGENT = "alto.daemons.allinone", "alto.daemons.agent"
T = TypeVar("T")

READY_S = 120.0  # a first start also unpacks the image on a slow disk
DOWN_S = 180.0
LOG_LINES = 12
_FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')


def command(state: Path, *arguments: str, module: str = CLOUD) -> list[str]:
    return [sys.executable, "-m", module, "--state", str(state), *arguments]


def answers(cloud: Cloud) -> bool:
    client = Client(cloud, timeout_s=5.0)
    try:
        client.send("GET", "status")
    except Unreachable:
        return False
    except Failure:
        pass  # it said no, so it is there
    finally:
        client.close()
    return True


def start(state: Path, arguments: Sequence[str], *, quiet: bool = False, timeout_s: float = READY_S) -> tuple[Cloud, float]:
    """Start the daemon, detached; returns when it answers, with the seconds it took. Raises: Failure."""

    def ready(pid: int) -> tuple[Cloud | None, str]:
        cloud = read_cloud(state)
        if cloud is None or cloud.pid != pid:
            return None, ""
        return (cloud, "") if answers(cloud) else (None, "its answer")

    return _start(state, CLOUD, arguments, ready, quiet=quiet, timeout_s=timeout_s, what="the cloud")


def start_agent(state: Path, arguments: Sequence[str], *, quiet: bool = False) -> tuple[dict[str, Any], float]:
    """Start this machine's agent, detached; returns when its cloud has taken it. Raises: Failure."""

    def ready(pid: int) -> tuple[dict[str, Any] | None, str]:
        found = ready_agent(state)
        return (found if found is not None and found["pid"] == pid else None), ""

    return _start(state, AGENT, arguments, ready, quiet=quiet, timeout_s=READY_S, what="the agent")


def ready_agent(state: Path) -> dict[str, Any] | None:
    """What a running agent wrote when its cloud took it; None when none runs."""
    try:
        found: dict[str, Any] = json.loads((state / "agent.json").read_bytes())
        process = Pid(**json.loads((state / "server.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    # Its number alone proves nothing: numbers are used again, and one that was killed has its own until somebody reaps it.
    return found if process.pid == found.get("pid") and RealProcesses().alive(process) else None


def _start(
    state: Path,
    module: str,
    arguments: Sequence[str],
    ready: Callable[[int], tuple[T | None, str]],
    *,
    quiet: bool,
    timeout_s: float,
    what: str,
) -> tuple[T, float]:
    """`ready`, given the daemon's number, answers what it found, or what is still waited for."""
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    log = state / "alto.log"
    began = time.monotonic()
    with open(log, "ab") as output:
        before = output.tell()  # what earlier starts said is no reason to wait now
        # In a session of its own: closing the terminal, or Ctrl-C in it, is not for the cloud.
        process = subprocess.Popen(
            command(state, *arguments, module=module),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env=environment(),
        )
    found: list[T] = []

    def not_ready() -> str | None:
        if process.poll() is not None:
            raise Failure(
                f"{what} ended while it started (exit code {process.returncode})",
                why="\n  ".join(readable(last_lines(log, since=before))) or "it said nothing",
                hint=f"alto doctor    or    less {log}",
            )
        answer, waits_for = ready(process.pid)
        if answer is not None:
            found.append(answer)
            return None
        return waits_for or last_word(log, since=before) or "its first word"

    wait_until(not_ready, what=f"starting {what}", timeout_s=timeout_s, poll_s=0.05, quiet=quiet, hint=f"less {log}")
    return found[0], time.monotonic() - began


def stop(state: Path, *, keep_data: bool, say: Callable[[str], None], module: str = CLOUD) -> None:
    """Take away what the daemon made, by itself. Raises: Failure."""
    arguments = ["--down", *(["--keep-data"] if keep_data else [])]
    try:
        done = subprocess.run(
            command(state, *arguments, module=module),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DOWN_S,
            cwd="/",
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"the cloud did not go down within {DOWN_S:.0f} s", hint="alto doctor", exit=Exit.TIMEOUT) from None
    for line in done.stdout.decode(errors="replace").splitlines():
        say(line)
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise Failure("the cloud did not go down", why="\n  ".join(readable(complaint[-LOG_LINES:])), hint="alto doctor")


def last_lines(log: Path, count: int = LOG_LINES, *, since: int = 0) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - 16384))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def last_word(log: Path, *, since: int) -> str:
    """The daemon's last log line, short, as the reason to wait."""
    lines = readable(last_lines(log, 1, since=since))
    return lines[0][:100] if lines else ""


def readable(lines: Sequence[str]) -> list[str]:
    """Log lines (logfmt) as sentences: the event, and what it says of an error; others as they are."""
    sentences = []
    for line in lines:
        fields = {name: bare or quoted for name, quoted, bare in _FIELD.findall(line)}
        if "event" in fields:
            line = ": ".join(fields[name] for name in ("event", "error", "cause") if fields.get(name))
        sentences.append(line)
    return sentences


def environment() -> dict[str, str]:
    """The daemon's: found by `python -m` from anywhere, also when this is run from a checkout."""
    source = str(Path(__file__).resolve().parents[3])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}:{path}" if path else source}
