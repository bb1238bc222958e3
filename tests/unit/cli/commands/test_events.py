"""`fairlead events`."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import DEPLOYMENT_ID, ORGANIZATION, STORY, ScriptedRelay, stream

Fairlead = Callable[..., Result]
DEPLOYMENT = f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/events"


def test_stored_events_of_one_deployment(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Lines for people, after a position if asked."""
    relay.answer(DEPLOYMENT, stream(STORY, is_ended=False))
    result = fairlead("events", DEPLOYMENT_ID, "--after", "2")
    assert len(result.stdout.splitlines()) == len(STORY)
    assert relay.requests[0].url.params["follow"] == "false"
    assert relay.requests[0].headers["Last-Event-ID"] == "2"


def test_json_is_one_object_a_line(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """With the number that --after takes."""
    relay.answer(DEPLOYMENT, stream(STORY))
    lines = fairlead("events", DEPLOYMENT_ID, "-o", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]


def test_following_goes_on_after_a_drop(
    fairlead: Fairlead, relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole organization, each line says which deployment it is about."""
    monkeypatch.setattr("fairlead_cli.following.BASE_SECONDS", 0.0)
    relay.answer(f"GET {ORGANIZATION}/events", stream(STORY[:4], is_ended=False), stream(STORY[4:]))
    result = fairlead("events", "-f")
    lines = result.stdout.splitlines()
    assert len(lines) == len(STORY)
    assert all(line.startswith(f"{DEPLOYMENT_ID} ") for line in lines)
    assert "trying again" in result.stderr
