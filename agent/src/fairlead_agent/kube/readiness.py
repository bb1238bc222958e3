"""
Readiness: whether the API server's refusals can be believed, or it has only begun and knows no rules yet.

One that starts forbids everything until it has read its RBAC rules, for a second or two. Knows no HTTP: the transport
asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

UNASKABLE_SECONDS = 10.0
"""For how long a refusal to say whether it is ready is doubted as well; a start takes 1 to 3 s as a rule."""
UNREADY_SECONDS = 30.0
"""For how long a server that says it is not ready may forbid without being believed; some never are, and serve."""
_FORGOTTEN_SECONDS = 60.0
"""After so long without a question the next refusal may be another start's."""
_GOOD_SECONDS = 0.5
"""How long an answer is good: many requests may be refused at once."""


class Readiness:
    """
    What is known of one API server.

    Args:
        ask: Asks `/readyz` and returns the status, 0 without an answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._is_ready = False
        self._asked_at = float("-inf")
        self._unready_since: float | None = None

    async def is_ready(self) -> bool:
        """
        Tell whether the API server is ready.

        Everybody may ask, as a rule (`system:public-info-viewer`). Where not, or where it never is ready and serves all
        the same, this does not know after a while, and says yes.
        Source: https://kubernetes.io/docs/reference/using-api/health-checks/
        """
        async with self._asking:
            now = time.monotonic()
            if now - self._asked_at > _GOOD_SECONDS:
                is_forgotten = now - self._asked_at > _FORGOTTEN_SECONDS
                self._take(await self._ask(), now, is_forgotten=is_forgotten)
                self._asked_at = time.monotonic()
            return self._is_ready

    def _take(self, status: int, now: float, *, is_forgotten: bool) -> None:
        if status in {0, HTTPStatus.OK} or is_forgotten:
            self._unready_since = None
        self._is_ready = status == HTTPStatus.OK
        if status not in {0, HTTPStatus.OK}:
            self._unready_since = self._unready_since or now
            patience = UNASKABLE_SECONDS if status == HTTPStatus.FORBIDDEN else UNREADY_SECONDS
            self._is_ready = now - self._unready_since > patience
