"""The edge (daemons/edge.py), as the network driver sees it: one per cloud and host, begun ahead of the first VPC, told when
one comes or goes."""

import asyncio
import sys
from pathlib import Path

from alto.drivers.network.detached import Detached
from alto.kit.world import World
from alto.model.errors import DriverFault
from alto.model.networks import METADATA_ADDRESS

SIGHUP = 1
READY_S = 5.0
POLL_S = 0.01


class Metadata:
    def __init__(self, world: World, state_dir: Path) -> None:
        self._world = world
        self._state_dir = state_dir
        self._edge = Detached(
            world,
            name="the metadata service",
            pid_file=state_dir / "edge.pid",
            marker=str(state_dir),
            log=state_dir / "edge.log",
        )
        self._starting = asyncio.Lock()  # a second one would step back, for as much work

    async def prepare(self) -> None:
        """The edge is there: to start Python takes a third of a second."""
        self._world.files.make_dirs(self._state_dir, mode=0o755)  # dnsmasq passes through
        async with self._starting:
            await self._edge.ensure([sys.executable, "-m", "alto.daemons.edge", "--state", str(self._state_dir)])

    async def serve(self, netns: str) -> None:
        """Returns when the edge listens inside the namespace."""
        await self.prepare()
        if await self._answers(netns):
            return
        self.look_again()
        await self._wait(netns, listening=True)

    async def release(self, netns: str) -> None:
        """Returns when the edge has let go of the namespace, which would live on with its socket."""
        if self._edge.find() is None:
            return
        self.look_again()
        await self._wait(netns, listening=False)

    def look_again(self) -> None:
        """Its records changed."""
        self._edge.signal(SIGHUP)

    async def remove(self) -> None:
        await self._edge.stop()
        for name in ("edge.pid", "edge.log", "edge.key"):
            self._world.files.remove(self._state_dir / name)

    async def _wait(self, netns: str, *, listening: bool) -> None:
        end = self._world.clock.monotonic() + READY_S
        while await self._answers(netns) != listening:
            if self._world.clock.monotonic() > end:
                raise DriverFault(f"The metadata service does not {'begin' if listening else 'end'} within {READY_S:g} s")
            await self._world.clock.sleep(POLL_S)

    async def _answers(self, netns: str) -> bool:
        with self._world.net.open_socket(netns=netns) as sock:
            try:
                async with asyncio.timeout(READY_S):
                    await asyncio.get_running_loop().sock_connect(sock, (METADATA_ADDRESS, 80))
            except (OSError, TimeoutError):
                return False
            return True
