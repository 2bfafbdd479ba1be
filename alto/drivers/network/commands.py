"""`ip`, `bridge` and lists of what they know: commands in batches, one process for many, in a network namespace."""

import socket
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from alto.kit.world import World
from alto.model.errors import DriverFault

T = TypeVar("T")


class Commands:
    def __init__(self, world: World) -> None:
        self._world = world

    async def ip(self, netns: str | None, lines: Sequence[str], *, tolerant: bool = False) -> None:
        """`tolerant`: each line by itself, and one that fails is as good as done: what it removes is gone already."""
        await self._batch("ip", netns, lines, tolerant)

    async def ip_v6(self, netns: str | None, lines: Sequence[str], *, tolerant: bool = False) -> None:
        """Where a line does not say by itself which family it means."""
        await self._batch("ip", netns, lines, tolerant, "-6")

    async def bridge(self, netns: str | None, lines: Sequence[str], *, tolerant: bool = False) -> None:
        await self._batch("bridge", netns, lines, tolerant)

    def links(self, netns: str | None) -> set[str]:
        """The names of its devices."""
        # Not /sys/class/net: that shows the namespace it was mounted in.
        return self._world.net.in_netns(netns, lambda: {name for _, name in socket.if_nameindex()})

    async def delete_links(self, netns: str | None, names: Iterable[str]) -> None:
        """None of these is there any more. A device also goes with its other end, or with who holds it, in a moment of the
        kernel's own: one that cannot be deleted because it is gone is as it should be."""
        wanted = sorted(self.links(netns).intersection(names))
        await self.ip(netns, [f"link delete {name}" for name in wanted], tolerant=True)
        left = self.links(netns).intersection(wanted) if wanted else set()
        if left:
            raise DriverFault("The host did not do what its network needs") from ValueError(
                f"{', '.join(sorted(left))} in {netns} cannot be deleted"
            )

    async def listed(self, netns: str | None, what: Sequence[str], of: type[T], *, tool: str = "ip") -> list[T]:
        """What `ip -json WHAT` answers."""
        where = ["-n", netns] if netns else []
        finished = await self._world.processes.run([tool, *where, "-json", *what])
        if finished.returncode != 0:
            raise DriverFault("The host did not do what its network needs") from ValueError(finished.complaint())
        return msgspec.json.decode(finished.stdout or b"[]", type=list[of])  # type: ignore[valid-type]

    async def run(self, argv: Sequence[str]) -> None:
        finished = await self._world.processes.run(argv)
        if finished.returncode != 0:
            raise DriverFault("The host did not do what its network needs") from ValueError(
                f"{' '.join(argv)}: {finished.complaint()}"
            )

    async def _batch(self, tool: str, netns: str | None, lines: Sequence[str], tolerant: bool, *options: str) -> None:
        if not lines:
            return
        where = ["-n", netns] if netns else []
        force = ["-force"] if tolerant else []
        stdin = "\n".join(lines) + "\n"
        finished = await self._world.processes.run([tool, *options, *where, *force, "-batch", "-"], stdin=stdin.encode())
        if finished.returncode != 0 and not tolerant:
            raise DriverFault("The host did not do what its network needs") from ValueError(
                f"{tool} in {netns}: {finished.complaint(lines=2)}"
            )
