"""An event is heard of by everybody who waits for it, and by nobody for longer than it said."""

import asyncio

from alto.kit.event import Event


def test_what_was_set_is_not_waited_for() -> None:
    async def scenario() -> None:
        event = Event()
        event.set()
        assert await event.wait(0.0)
        assert event.is_set(), "only `clear` takes it back"

    asyncio.run(scenario())


def test_everybody_hears_of_it_even_when_the_first_clears_it() -> None:
    async def scenario() -> None:
        event = Event()
        both = [asyncio.create_task(event.wait(60)) for _ in range(2)]
        await asyncio.sleep(0)
        event.set()
        event.clear()
        assert await asyncio.gather(*both) == [True, True]

    asyncio.run(scenario())


def test_nobody_waits_longer_than_it_said() -> None:
    async def scenario() -> None:
        event = Event()
        short, long = asyncio.create_task(event.wait(0.001)), asyncio.create_task(event.wait(60))
        assert await short is False
        assert not long.done()
        event.set()
        assert await long is True

    asyncio.run(scenario())


def test_what_is_set_as_the_time_ends_is_set() -> None:
    async def scenario() -> None:
        event = Event()
        waiting = asyncio.create_task(event.wait(0.0))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.0, event.set)
        assert await waiting is event.is_set()

    asyncio.run(scenario())


def test_who_is_cancelled_waits_no_more() -> None:
    async def scenario() -> None:
        event = Event()
        gone, stays = asyncio.create_task(event.wait(60)), asyncio.create_task(event.wait(60))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        event.set()
        assert gone.cancelled()
        assert await stays

    asyncio.run(scenario())
