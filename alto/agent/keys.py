"""The keys of this host's encrypted disks: asked of the server each time, and kept nowhere.

A machine that runs needs none of it: its hypervisor has what it needs. So a host whose server is away goes on, and what is
started or attached meanwhile waits.
"""

from collections.abc import Awaitable, Callable

from alto.model.errors import DriverFault


class HostKeys:
    """A Keyring. Made before the agent, whose drivers need it; the agent says who answers."""

    def __init__(self) -> None:
        self._ask: Callable[[str], Awaitable[str]] | None = None

    def answered_by(self, ask: Callable[[str], Awaitable[str]]) -> None:
        self._ask = ask

    async def open(self, sealed: str) -> str:
        if self._ask is None:
            raise DriverFault("There is nobody yet to ask for the key of a disk")
        return await self._ask(sealed)
