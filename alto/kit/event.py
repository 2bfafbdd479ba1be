"""An event that is waited for at most so long: threading.Event's interface, for one event loop."""

import asyncio


class Event:
    """An asyncio.Event within asyncio.timeout does the same, at twice the cost, with three more lines wherever somebody waits.
    Belongs to the event loop that waits."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[bool]] = []

    def set(self) -> None:
        self._set = True
        for waiter in self._waiters:
            _wake(waiter, True)

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    async def wait(self, timeout_s: float) -> bool:
        """Whether it was set meanwhile, or before."""
        if self._set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(timeout_s, _wake, waiter, False)
        try:
            return await waiter or self._set  # both may happen in one turn of the loop
        finally:
            timer.cancel()
            self._waiters.remove(waiter)


def _wake(waiter: asyncio.Future[bool], was_set: bool) -> None:
    if not waiter.done():
        waiter.set_result(was_set)
