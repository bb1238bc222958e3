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


async def test_cancelled_while_the_others_end_it_is_cancelled() -> None:
    """An error must not hide that the task is to end, nor make one look cancelled that is not."""
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    async def failing() -> None:
        raise Unreachable("the API server", "away")

    async def work() -> int:
        with pytest.raises(Unreachable):
            await together([slow(), failing()])
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    is_to_end = asyncio.create_task(together([slow(), failing()]))
    await ending.wait()
    is_to_end.cancel()
    await asyncio.sleep(0)
    assert not is_to_end.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await is_to_end
    assert await asyncio.create_task(work()) == 0
