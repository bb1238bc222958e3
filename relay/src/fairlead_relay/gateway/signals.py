"""
An event that one task waits for, and that costs next to nothing while nobody does.

Why here: `asyncio.Event` makes its queue of waiters at once, 0.7 KiB; a connection has six, and a relay thousands of
connections. Must not be waited for by two tasks at a time.
"""

from __future__ import annotations

import asyncio


class Signal:
    """An event for one waiter."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """Tell whether it was set and not cleared since."""
        return self._is_set

    def set(self) -> None:
        """Let the waiter go on, and those to come; idempotent."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Have those to come wait; idempotent."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set. Raises: RuntimeError: another task waits already."""
        if self._is_set:
            return
        if self._waiter is not None:
            raise RuntimeError("a signal has one waiter, and another task waits already")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
