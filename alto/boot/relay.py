"""What leads a VPC to the cloud's API: connections to an interface endpoint, relayed byte for byte.

Who may connect was decided by the endpoint's groups before; who asks, and whether they may, the API finds by each request's
signature. Bounded: by connections that are open at once, and by how long one may be silent both ways.
"""

import asyncio
from collections.abc import Callable

from alto.kit.world import World

CONNECTIONS_MAX = 256  # of one endpoint interface
IDLE_S = 350.0  # as Amazon's keep a silent one
CONNECT_S = 5.0
CHUNK = 64 * 1024


class ApiRelay:
    """`api()` is asked at each connection: where the API listens now, None if it is not known."""

    def __init__(self, world: World, api: Callable[[], tuple[str, int] | None]) -> None:
        self._world = world
        self._api = api
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = self._api()
        self._open.add(writer)
        try:
            if where is not None and len(self._open) <= CONNECTIONS_MAX:
                async with asyncio.timeout(CONNECT_S):
                    far_reader, far_writer = await self._world.net.connect(*where)
                try:
                    await self._both_ways((reader, writer), (far_reader, far_writer))
                finally:
                    far_writer.close()
        except (OSError, TimeoutError):
            pass  # the API is not there
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        """Cut what is open."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _both_ways(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        try:
            async with asyncio.timeout(IDLE_S) as idle, asyncio.TaskGroup() as tasks:

                async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    while data := await reader.read(CHUNK):
                        idle.reschedule(asyncio.get_running_loop().time() + IDLE_S)
                        writer.write(data)
                        await writer.drain()
                    # Who has said all may still hear.
                    writer.write_eof()

                tasks.create_task(pass_on(near[0], far[1]), name="to the API")
                tasks.create_task(pass_on(far[0], near[1]), name="from the API")
        except* OSError:
            pass  # either end is gone, or both say nothing
