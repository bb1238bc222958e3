"""`fairlead agent`."""

from collections.abc import Callable
from typing import Any

from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, ScriptedRelay, problem

Fairlead = Callable[..., Result]

AGENTS = f"{ORGANIZATION}/agents"
AGENT: dict[str, Any] = {
    "cluster": "prod",
    "state": "connected",
    "name": "default",
    "version": "0.1.0",
    "skew": "too_old",
    "kubernetes_version": "v1.37.0",
    "replica": "a",
    "connected_at": MOMENT,
    "last_seen_at": MOMENT,
    "certificate_serial": "0abc",
    "certificate_expires_at": MOMENT,
    "revoked_at": None,
    "sealing_key": {"public_key": "x", "fingerprint": "SHA256:abc"},
}


def test_list_and_show(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Each agent is named by its cluster."""
    relay.answer(f"GET {AGENTS}", {"items": [AGENT]})
    relay.answer(f"GET {AGENTS}/prod", AGENT)
    lines = fairlead("agent", "list").stdout.splitlines()
    assert lines[1].split()[:6] == ["prod", "connected", "0.1.0", "too", "old", "v1.37.0"]
    assert fairlead("agent", "list", "-o", "name").stdout == "prod\n"
    assert "0abc" in fairlead("agent", "show", "prod", "-o", "wide").stdout


def test_revoke_says_how_another_gets_in(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The next step is a new token."""
    relay.answer(f"POST {AGENTS}/prod/revoke", AGENT | {"state": "revoked", "revoked_at": MOMENT})
    result = fairlead("agent", "revoke", "prod")
    assert result.exit_code == 0
    assert "fairlead cluster enrol prod" in result.stderr
    assert "revoked" in result.stdout


def test_an_agent_that_is_not_there(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """In the relay's words."""
    relay.answer(f"GET {AGENTS}/prod", problem(404, "not_found", "no agent is named 'prod'"))
    relay.answer(f"GET {AGENTS}", {"items": []})
    result = fairlead("agent", "show", "prod")
    assert (result.exit_code, "no agent is named 'prod'" in result.stderr) == (1, True)
