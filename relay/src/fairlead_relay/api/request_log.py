"""One log line per request, and a request id that every line written meanwhile carries."""

from __future__ import annotations

import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead_relay.pki.random_text import random_base32

_QUIET: Final = frozenset({"/healthz", "/readyz"})
"""Probes ask every few seconds and have nothing to tell."""
_log = structlog.get_logger(__name__)


class RequestLog:
    """
    ASGI middleware around the whole application.

    Args:
        app: What it wraps.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0
        request_id = scope.setdefault("state", {})["request_id"] = random_base32(16)

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._app(scope, receive, note)
            except Exception:  # noqa: BLE001  (the edge of HTTP: a defect of one request must not take others with it)
                _log.exception("request failed", method=scope["method"], path=scope["path"])
            finally:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(time.monotonic() - started, 4),
                )
