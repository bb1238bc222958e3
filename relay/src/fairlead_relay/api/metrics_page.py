"""
The page of counts, on a port of its own: whoever can reach the API should not learn how busy the relay is.

Must not: need a token (Prometheus has none, and the port is the operator's to close), or wait long for the store.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fairlead_relay.errors import StoreError
from fairlead_relay.metrics import MEDIA_TYPE, Metrics
from fairlead_relay.store import Store
from fairlead_relay.store.drifts import count_drifted
from fairlead_relay.store.jobs import count_unfinished
from fairlead_shared.jobs import JobState

PATH: Final = "/metrics"
STORE_SECONDS: Final = 2.0
"""How long the store may take to count its jobs; scrapes give up after 10 s, and the other counts matter most then."""


def make_metrics_page(metrics: Metrics, store: Store) -> ASGIApp:
    """Return an ASGI application that serves nothing but the counts."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await _answer(scope, metrics, store))(scope, receive, send)

    return app


async def _answer(scope: Scope, metrics: Metrics, store: Store) -> Response:
    if scope["path"] != PATH:
        return PlainTextResponse(f"the counts are at {PATH}\n", HTTPStatus.NOT_FOUND)
    if scope["method"] not in {"GET", "HEAD"}:
        return PlainTextResponse("GET\n", HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
    return Response(metrics.render(*await _count(store)), media_type=MEDIA_TYPE)


async def _count(store: Store) -> tuple[dict[JobState, int] | None, int | None]:
    try:
        async with asyncio.timeout(STORE_SECONDS):
            return await store.read(lambda connection: (count_unfinished(connection), count_drifted(connection)))
    except (StoreError, TimeoutError):
        return None, None
