"""Requests are counted by route, whatever path was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from fairlead_relay.api.request_metrics import RequestMetrics


async def count(scope: Scope, status: int = 204) -> list[tuple[Any, ...]]:
    """Serve one request, and return what was counted."""
    counted: list[tuple[Any, ...]] = []

    async def app(inner: Scope, _receive: Receive, send: Send) -> None:
        if inner["path"].startswith("/v1/"):
            inner["route"] = SimpleNamespace(path="/v1/things/{name}")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        pass

    await RequestMetrics(app, lambda *seen: counted.append(seen))(scope, receive, send)
    return counted


async def test_a_request_is_counted_once_by_its_route() -> None:
    """Its name is in the path alone."""
    ((method, route, status, seconds),) = await count({"type": "http", "method": "GET", "path": "/v1/things/7"})
    assert (method, route, status) == ("GET", "/v1/things/{name}", 204)
    assert seconds >= 0


async def test_what_no_route_answers_is_counted_as_one() -> None:
    """A scanner's thousand paths are one series."""
    ((_, route, status, _),) = await count({"type": "http", "method": "GET", "path": "/.env"}, 404)
    assert (route, status) == ("none", 404)
