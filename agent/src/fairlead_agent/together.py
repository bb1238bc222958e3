"""
Together: many calls at once that end together. When one fails, the others are cancelled and waited for.

`asyncio.gather` leaves them running: what was asked for a deployment that failed would be asked beside the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """
    Await some calls at once.

    Args:
        calls: Coroutines that nobody awaits yet.
    Returns: What each returned, in their order; empty for none.
    Raises: The first error of one of them, once none is under way any more.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    return [task.result() for task in tasks]
