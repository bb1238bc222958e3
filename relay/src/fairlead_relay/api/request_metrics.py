"""Counts requests by the route that answers them, never by the path that was asked for: clients choose that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_ROUTE: Final = "none"
"""For what no route answers."""
Answered = Callable[[str, str, int, float], None]
"""Method, route, status, seconds to the head of the answer."""


class RequestMetrics:
    """
    ASGI middleware around the whole application.

    Args:
        app: What it wraps.
        answered: Called once for each request, as its answer begins.

    """

    def __init__(self, app: ASGIApp, answered: Answered) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                self._answered(scope["method"], route, int(message["status"]), time.monotonic() - begun)
            await send(message)

        await self._app(scope, receive, count)
