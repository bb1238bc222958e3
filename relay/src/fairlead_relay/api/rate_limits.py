"""
How many requests are served: so many a minute for each token, and so many failed ones for each address.

Counted in fixed windows, in the memory of one relay: exact enough to keep one runaway script from taking what all
others need, and nothing is stored for it. A token that is good is never refused for what its address did: behind an
ingress everybody has the same one.
Source: draft-ietf-httpapi-ratelimit-headers-08, the fields RateLimit-Policy and RateLimit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WINDOW_SECONDS: Final = 60.0
AUDITED_PER_MINUTE: Final = 30
"""Attempts of one token that came to nothing and are recorded: with 500 bytes each, 21 MB in a day at most."""
_MOST_NAMES: Final = 10_000
"""Names that are counted apart in one window: about 1 MiB. Those beyond share one count."""
_STATE: Final = "rate_limit"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left in a window after a request was counted."""

    policy: str
    limit: int
    """Requests per window."""
    left: int
    """Below 0: this one is too many."""
    reset_seconds: float
    """Until the window ends."""

    @property
    def is_exceeded(self) -> bool:
        """Whether the request is to be refused."""
        return self.left < 0

    @property
    def headers(self) -> dict[str, str]:
        """What the answer tells of it."""
        told = {
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={WINDOW_SECONDS:.0f}',
            "RateLimit": f'"{self.policy}";r={max(0, self.left)};t={math.ceil(self.reset_seconds)}',
        }
        return told | ({"Retry-After": str(math.ceil(self.reset_seconds))} if self.is_exceeded else {})


class Window:
    """
    Counts by name within windows of a minute.

    Args:
        policy: What the limit is called in headers.
        limit: Requests per window and name.

    """

    def __init__(self, policy: str, limit: int) -> None:
        self._policy = policy
        self._limit = limit
        self._began = -math.inf
        self._counts: dict[str, int] = {}

    def take(self, name: str, now: float) -> Allowance:
        """
        Count one request.

        Args:
            name: Whose it is.
            now: Monotonic seconds.

        """
        if now >= self._began + WINDOW_SECONDS:
            self._began, self._counts = now, {}
        if name not in self._counts and len(self._counts) >= _MOST_NAMES:
            name = ""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return Allowance(self._policy, self._limit, self._limit - count, self._began + WINDOW_SECONDS - now)


class RateLimits:
    """
    The limits of one relay.

    Args:
        requests_per_minute: Of one token.
        failures_per_minute: Requests of one address without a good token.

    """

    def __init__(self, requests_per_minute: int, failures_per_minute: int) -> None:
        self.of_tokens = Window("token", requests_per_minute)
        self.of_failures = Window("failures", failures_per_minute)
        self.of_audits = Window("audits", AUDITED_PER_MINUTE)


def note(scope: Scope, allowance: Allowance) -> None:
    """Have the answer to a request tell what is left."""
    scope["state"][_STATE] = allowance


class RateLimitHeaders:
    """
    ASGI middleware: tells each caller what is left of its limit.

    Args:
        app: What it wraps; `note` is called while it serves.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def tell(message: Message) -> None:
            allowance: Allowance | None = state.get(_STATE)
            if message["type"] == "http.response.start" and allowance is not None:
                told = [(name.lower().encode(), value.encode()) for name, value in allowance.headers.items()]
                message["headers"] = [*message.get("headers", ()), *told]
            await send(message)

        await self._app(scope, receive, tell)
