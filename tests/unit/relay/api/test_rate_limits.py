"""Rate limits: counted by name in windows, told in headers, bounded in memory."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from fairlead_relay.api import rate_limits
from fairlead_relay.api.rate_limits import Allowance, RateLimitHeaders, Window, note


def test_each_name_has_its_own_count_until_the_window_ends() -> None:
    """One that is over its limit costs nobody else anything."""
    window = Window("token", 2)
    assert [window.take("a", 0.0).is_exceeded for _ in range(3)] == [False, False, True]
    assert not window.take("b", 1.0).is_exceeded
    assert window.take("a", 59.9).is_exceeded
    assert window.take("a", 60.0).left == 1


def test_the_headers_tell_what_is_left_and_when_to_come_back() -> None:
    """Retry-After only when there is something to wait for."""
    assert Allowance("token", 5, 3, 41.2).headers == {
        "RateLimit-Policy": '"token";q=5;w=60',
        "RateLimit": '"token";r=3;t=42',
    }
    assert Allowance("token", 5, -2, 41.2).headers == {
        "RateLimit-Policy": '"token";q=5;w=60',
        "RateLimit": '"token";r=0;t=42',
        "Retry-After": "42",
    }


def test_a_thousand_addresses_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the bound share one count."""
    monkeypatch.setattr(rate_limits, "_MOST_NAMES", 10)
    window = Window("failures", 5)
    exceeded = [window.take(f"address-{number}", 0.0).is_exceeded for number in range(30)]
    assert not any(exceeded[:15])
    assert all(exceeded[15:])
    assert len(window._counts) == 11


@pytest.mark.parametrize("is_noted", [True, False])
async def test_the_answer_carries_what_was_noted(*, is_noted: bool) -> None:
    """A public route notes nothing."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if is_noted:
            note(dict(scope), Allowance("token", 5, 3, 10.0))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def receive() -> Message:
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await RateLimitHeaders(app)({"type": "http"}, receive, send)
    names = [name for name, _ in sent[0]["headers"]]
    assert names == ([b"a", b"ratelimit-policy", b"ratelimit"] if is_noted else [b"a"])
