"""`fairlead cluster`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, ScriptedRelay, problem

Fairlead = Callable[..., Result]

CLUSTERS = f"{ORGANIZATION}/clusters"
PENDING: dict[str, Any] = {"name": "prod", "state": "pending", "created_at": MOMENT, "agent": None}
CONNECTED = PENDING | {
    "name": "edge",
    "state": "connected",
    "agent": {
        "name": "default",
        "version": "0.1.0",
        "kubernetes_version": "v1.37.0",
        "replica": "a",
        "connected_at": MOMENT,
        "last_seen_at": MOMENT,
        "certificate_expires_at": MOMENT,
        "sealing_key": {"public_key": "x", "fingerprint": "SHA256:abc"},
    },
}
ENROLMENT = {"token": "fle1_secret", "expires_at": MOMENT, "agent_url": "wss://relay:7444"}


def test_create_shows_the_token_once(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """With where the agent has to dial."""
    relay.answer(f"POST {CLUSTERS}", {"cluster": PENDING, "enrolment": ENROLMENT})
    result = fairlead("cluster", "create", "prod")
    assert result.exit_code == 0
    assert "Agent URL:      wss://relay:7444" in result.stdout
    assert result.stdout.count("fle1_secret") == 1
    assert "pending until its agent enrols" in result.stderr
    assert relay.bodies(f"POST {CLUSTERS}") == [{"name": "prod"}]


def test_the_token_can_go_to_a_file_alone(fairlead: Fairlead, relay: ScriptedRelay, home: Path) -> None:
    """Where no terminal's history keeps it, readable by its owner only."""
    relay.answer(f"POST {CLUSTERS}/prod/enrolment-tokens", ENROLMENT)
    file = home / "token"
    result = fairlead("cluster", "enrol", "prod", "--token-file", str(file), "-o", "json")
    assert result.exit_code == 0
    assert "fle1_secret" not in result.output
    assert json.loads(result.stdout)["agent_url"] == "wss://relay:7444"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("fle1_secret", 0o600)


def test_a_token_that_cannot_be_written_is_said(fairlead: Fairlead, relay: ScriptedRelay, home: Path) -> None:
    """Not printed in its place."""
    relay.answer(f"POST {CLUSTERS}", {"cluster": PENDING, "enrolment": ENROLMENT})
    (home / "file").write_text("")
    result = fairlead("cluster", "create", "prod", "--token-file", str(home / "file" / "token"))
    assert result.exit_code == 1
    assert "the token cannot be written" in result.stderr
    assert "fairlead cluster enrol prod" in result.stderr
    assert "fle1_secret" not in result.output


def test_list_and_show(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The fingerprint is what people compare with the agent's."""
    relay.answer(f"GET {CLUSTERS}", {"items": [PENDING, CONNECTED]})
    relay.answer(f"GET {CLUSTERS}/edge", CONNECTED)
    lines = fairlead("cluster", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "AGENT", "KUBERNETES", "LAST", "SEEN", "AGE"]
    assert lines[1].split()[:5] == ["prod", "pending", "-", "-", "-"]
    assert lines[2].split()[:4] == ["edge", "connected", "0.1.0", "v1.37.0"]
    assert "SHA256:abc" in fairlead("cluster", "list", "-o", "wide").stdout
    assert fairlead("cluster", "list", "-o", "name").stdout == "prod\nedge\n"
    assert "Sealing key:" in fairlead("cluster", "show", "edge").stdout


def test_a_name_that_is_taken(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """In the relay's words."""
    relay.answer(f"POST {CLUSTERS}", problem(409, "conflict", "cluster prod exists already"))
    result = fairlead("cluster", "create", "prod")
    assert (result.exit_code, result.stderr) == (1, "error: cluster prod exists already (conflict)\n")


def test_a_name_that_is_none_is_not_sent(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Exit code 2, with the rule."""
    result = fairlead("cluster", "create", "Prod!")
    assert result.exit_code == 2
    assert "lower-case letters" in result.stderr
    assert relay.requests == []


def test_a_cluster_may_ask_for_approval(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The fingerprint is shown, and given back to approve it."""
    waiting = PENDING | {"state": "unapproved", "approval": {"fingerprint": "SHA256:abc", "kind": "enrol"}}
    relay.answer(f"POST {CLUSTERS}", {"cluster": PENDING, "enrolment": ENROLMENT})
    relay.answer(f"GET {CLUSTERS}/prod", waiting)
    relay.answer(f"POST {CLUSTERS}/prod/approve", PENDING)
    assert "waits for approval" in fairlead("cluster", "create", "prod", "--require-approval").stderr
    assert relay.bodies(f"POST {CLUSTERS}") == [{"name": "prod", "require_approval": True}]
    shown = fairlead("cluster", "show", "prod").stdout
    assert "SHA256:abc" in shown
    assert fairlead("cluster", "approve", "prod", "SHA256:abc").exit_code == 0
    assert relay.bodies(f"POST {CLUSTERS}/prod/approve") == [{"fingerprint": "SHA256:abc"}]


def test_disable_and_enable(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """One undoes the other."""
    relay.answer(f"POST {CLUSTERS}/edge/disable", CONNECTED | {"state": "disabled"})
    relay.answer(f"POST {CLUSTERS}/edge/enable", CONNECTED)
    assert "cluster edge is disabled" in fairlead("cluster", "disable", "edge").stderr
    assert "cluster edge is enabled" in fairlead("cluster", "enable", "edge").stderr
