"""
Together: many calls at once that end together. When one fails, the others are cancelled and waited for.

`asyncio.gather` leaves them running: what was asked for a deployment that failed would be asked beside the next one.
`asyncio.TaskGroup` of Python 3.11 loses a cancellation that comes while they end, and leaves the task looking cancelled
after an error. Source: https://github.com/python/cpython/issues/116720
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """
    Await some calls at once.

    Args:
        calls: Coroutines that nobody awaits yet.
    Returns: What each returned, in their order; empty for none.
    Raises: The first error of one of them, once none is under way any more; asyncio.CancelledError, too, only then.
    """
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them. Raises: asyncio.CancelledError: the caller was cancelled meanwhile."""
    for task in tasks:
        if not task.cancelling():  # a second time could cut off what it ends first
            task.cancel()
    is_cancelled = False
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
