"""Control groups: one of each machine's own, in every hierarchy that the host has, of version 1 or 2.

All of a host's machines have their groups below one of its own name, at the root of the hierarchies (as LXC has them, too), so
that neither a service manager nor another cloud on the machine is in the way. Groups that are not ours are never touched.
"""

from pathlib import Path

import structlog

from alto.kit.world import World

log = structlog.get_logger()

GONE_S = 2.0
POLL_S = 0.005


class ControlGroups:
    """`name`: of this cloud and host, as "alto-1a2b3c4d-qemu"."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._found: list[Path] | None = None

    def make(self, id: str) -> Path:
        """The machine's group, relative to the root of each hierarchy."""
        group = Path(self._name) / id
        return group

    async def remove(self, id: str) -> None:
        """Idempotent. Processes that end leave their groups a moment later."""
        end = self._world.clock.monotonic() + GONE_S
        for root in self._roots():
            group = root / self._name / id
            while not self._world.files.remove_folders(group):
                if self._world.clock.monotonic() > end:
                    log.warning("a control group is still in use", group=str(group))
                    break
                await self._world.clock.sleep(POLL_S)

    def remove_all(self) -> None:
        """What is left of this host when its machines are gone."""
        for root in self._roots():
            if not self._world.files.remove_folders(root / self._name):
                log.warning("a control group is still in use", group=str(root / self._name))

    def _roots(self) -> list[Path]:
        if self._found is None:
            lines = self._world.files.read(Path("/proc/self/mountinfo")).decode().splitlines()
            self._found = [Path(line.split()[4]) for line in lines if line.partition(" - ")[2].startswith("cgroup")]
        return self._found
