"""
Slots: how many requests may be under way at once, as the API server bears it.

The API server queues fairly among its clients and says 429 to one that asks for more than its share (priority and
fairness). Half as many then go on, and one more after each round that went well, as TCP treats a congested way. No
rate is fixed: a fast server is used, a busy one is left to others.

Sources: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/ and RFC 5681 §3.1.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Slots:
    """
    A semaphore whose size follows the API server's answers. Use as an asynchronous context manager.

    Args:
        most: The size to begin with, and never to exceed, ≥ 1.
        monotonic: Seconds.
    """

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._monotonic = monotonic
        self._size = float(most)
        self._held = 0
        self._halved_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def size(self) -> int:
        """How many may be held now."""
        return int(self._size)

    async def __aenter__(self) -> Self:
        if not self._waiting and self._held < self.size:
            self._held += 1
            return self
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given the slot a moment before
                self._release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def throttled(self, began: float) -> None:
        """
        Take note of a 429: half as many from now on, once for all that were under way together.

        Args:
            began: When the request began, by `monotonic`.
        """
        if began >= self._halved_at:
            self._size = max(1.0, self._size / 2)
            self._halved_at = self._monotonic()

    def went_well(self) -> None:
        """Take note of an answer: after as many as there are slots there is one more."""
        self._size = min(float(self._most), self._size + 1 / self._size)
        self._give()

    def _release(self) -> None:
        self._held -= 1
        self._give()

    def _give(self) -> None:
        while self._waiting and self._held < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._held += 1
                turn.set_result(None)
