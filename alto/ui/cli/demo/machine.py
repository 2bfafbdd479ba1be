"""What of a cloud can be seen on this machine, from the kernel: its processes, namespaces, links, rules, routes.

Looks only, and kills only what it is told to. It asks nobody of ours, so that "nothing is left" is not our own word for it.
"""

import json
import os
import signal
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

COMMAND_S = 20.0
POOLS = range(66, 100)  # 127.64.0.0/16 is a cloud's by default


class Process(NamedTuple):
    """Pids are used again; with its start time (clock ticks since boot) a process is certain."""

    pid: int
    started: int
    words: tuple[str, ...]


def processes(word: str) -> list[Process]:
    """Those that have `word` somewhere in their arguments, this one excepted."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if any(word in one for one in words) and fields[0] not in "ZX":
            found.append(Process(int(entry.name), int(fields[19]), tuple(words)))
    return found


def machines(ids: Collection[str]) -> dict[str, Process]:
    """Instance id -> its QEMU, for those of `ids` that have one."""
    found = {}
    for process in processes("guest=i-"):
        for word in process.words:
            id = word.removeprefix("guest=").split(",")[0]
            if word.startswith("guest=") and id in ids:
                found[id] = process
    return found


def kill(process: Process) -> None:
    """-9, and only if it is still the same process."""
    handle = os.pidfd_open(process.pid)
    try:
        if process in processes(process.words[0]):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


class Traces(NamedTuple):
    """Everything outside its own folder that a cloud could leave. What Alto makes carries its cloud's mark."""

    namespaces: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    routes: frozenset[str]
    mounts: frozenset[str]

    def of(self, mark: str) -> Mapping[str, list[str]]:
        """Those that carry a cloud's mark; others come and go on a machine that does other things too."""
        marked = {name: sorted(one for one in things if mark in one) for name, things in zip(self._fields, self, strict=True)}
        return {name: things for name, things in marked.items() if things}


def free_pool() -> str:
    """A /16 of loopback addresses that no packet rule on this machine speaks of: two clouds must not share one."""
    rules = _output("nft", "list", "ruleset")
    for second in POOLS:
        if f"127.{second}." not in rules:
            return f"127.{second}.0.0/16"
    return f"127.{POOLS[0]}.0.0/16"


def traces() -> Traces:
    netns = Path("/run/netns")
    return Traces(
        namespaces=frozenset(path.name for path in netns.iterdir()) if netns.exists() else frozenset(),
        links=frozenset(link["ifname"] for link in json.loads(_output("ip", "-j", "link") or "[]")),
        tables=frozenset(_output("nft", "list", "tables").splitlines()),
        routes=frozenset(_output("ip", "-4", "route", "show", "table", "all").splitlines()),
        mounts=frozenset(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
    )


def _output(*command: str) -> str:
    environ = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, env=environ).stdout
