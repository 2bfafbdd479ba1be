"""nftables transactions in a network namespace: by libnftables in this process, or by the `nft` command where it is absent.

The library takes 0.6 ms for a small transaction, the command 5 to 20 (measured, two processes to start). What removes rules
waits some 10 ms for the kernel either way, so both run off the event loop's thread.
"""

import asyncio
import ctypes
import functools
import threading

from alto.kit.world import World
from alto.model.errors import DriverFault

TIMEOUT_S = 30.0

# The library keeps tables of names of its own; nothing promises that two threads may use it at once.
_library_lock = threading.Lock()


class Nft:
    def __init__(self, world: World) -> None:
        self._world = world
        self._library = _load()

    async def apply(self, netns: str | None, text: str) -> None:
        """All of `text` or nothing of it. Raises: DriverFault."""
        if not text:
            return
        if self._library is None:
            finished = await self._world.processes.run(
                ["nft", "-f", "-"], stdin=text.encode(), timeout_s=TIMEOUT_S, netns=netns
            )
            # All of it: the last line only points at a place in the one before.
            complaint = None if finished.returncode == 0 else finished.stderr.decode(errors="replace")
        else:
            call = functools.partial(_transaction, self._library, text)
            complaint = await asyncio.to_thread(self._world.net.in_netns, netns, call)
        if complaint is not None:
            raise DriverFault("The host's packet filter did not take its rules") from ValueError(complaint)


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _transaction(library: ctypes.CDLL, text: str) -> str | None:
    """What the library complains of, if anything. The context is new each time: it belongs to the namespace it was made in,
    and would keep that alive after its VPC is gone."""
    with _library_lock:
        context = library.nft_ctx_new(0)
        if not context:
            return "libnftables has no context to give"
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            if library.nft_run_cmd_from_buffer(context, text.encode()) == 0:
                return None
            said: bytes = library.nft_ctx_get_error_buffer(context) or b"no reason given"
            return said.decode(errors="replace")
        finally:
            library.nft_ctx_free(context)
