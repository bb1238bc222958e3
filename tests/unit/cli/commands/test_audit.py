"""`fairlead audit`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, ScriptedRelay

Fairlead = Callable[..., Result]
AUDIT = f"GET {ORGANIZATION}/audit"
SHOWN = {
    "number": 7,
    "at": MOMENT,
    "actor": {"kind": "token", "id": "abcdefghjkmnpqrs", "name": "ci", "role": "viewer"},
    "address": "192.0.2.7",
    "request_id": "r1",
    "verb": "deployment.create",
    "target": "environment/shop/staging",
    "outcome": "denied",
    "detail": "forbidden: this needs the role deployer; the token has viewer",
    "before": None,
    "after": None,
    "digest": "00",
}


def test_the_log_is_a_table_that_says_who_did_what(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The reason, the right and the address where there is room."""
    by_agent = SHOWN | {"actor": {"kind": "agent", "id": "harbour"}, "verb": "agent.enrol", "outcome": "succeeded"}
    relay.answer(AUDIT, {"items": [SHOWN, by_agent], "next_cursor": None})
    table = fairlead("audit", "list").stdout
    assert "7" in table
    for words in ("2026-11-24 05:00:00", "ci", "deployment.create", "environment/shop/staging", "denied", "harbour"):
        assert words in table
    wide = fairlead("audit", "list", "-o", "wide").stdout
    for words in ("this needs the role deployer", "viewer", "192.0.2.7", "r1"):
        assert words not in table
        assert words in wide
    assert json.loads(fairlead("audit", "list", "-o", "json").stdout)["items"][0]["digest"] == "00"


def test_what_is_asked_for_is_asked_of_the_relay(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """A length of time becomes the moment that it began."""
    relay.answer(AUDIT, {"items": [], "next_cursor": None})
    arguments = ("--actor", "ci", "--verb", "token.create", "--outcome", "failed", "--since", "1h", "--limit", "5")
    assert fairlead("audit", "list", *arguments).exit_code == 0
    query = dict(relay.requests[-1].url.params)
    since = datetime.fromisoformat(query.pop("since"))
    assert abs(datetime.now(UTC) - timedelta(hours=1) - since) < timedelta(minutes=5)
    assert query == {"actor": "ci", "verb": "token.create", "outcome": "failed", "limit": "5"}
    assert fairlead("audit", "list", "--since", "soon").exit_code == 2
