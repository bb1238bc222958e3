"""Calls at once: all their answers, or the first error and nothing left under way."""

import asyncio

import pytest

from fairlead_agent.errors import Unreachable
from fairlead_agent.together import together


async def test_answers_come_in_the_order_of_the_calls() -> None:
    """Whichever ends first."""
    go_on = asyncio.Event()

    async def first() -> int:
        await go_on.wait()
        return 1

    async def second() -> int:
        go_on.set()
        return 2

    assert await together([first(), second()]) == [1, 2]
    assert await together([]) == []


async def test_the_first_error_ends_the_others_before_it_is_raised() -> None:
    """Bare, as one call would have raised it; also from calls that do several things at once themselves."""
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def failing() -> None:
        await asyncio.sleep(0)
        raise Unreachable("the API server", "away")

    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())

    with pytest.raises(Unreachable, match="away"):
        await together([endless(), nested()])
    assert ended.is_set()
