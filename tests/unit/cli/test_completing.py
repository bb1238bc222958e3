"""Names completed from what is there."""

import threading
from pathlib import Path

import click
import httpx
import pytest
from click.shell_completion import ShellComplete

from fairlead_cli import completing
from fairlead_cli.__main__ import fairlead as root
from fairlead_cli.completing import complete, contexts
from fairlead_cli.config import Context, save
from tests.polling import PATIENCE_SECONDS
from tests.unit.cli.scripted_relay import ORGANIZATION, SERVER, TOKEN, ScriptedRelay, environment

APPS = f"GET {ORGANIZATION}/applications"


def completed(*words: str) -> list[str]:
    """Return what a shell offers for the last word."""
    shell = ShellComplete(root, {}, "fairlead", "_FAIRLEAD_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def stocked(relay: ScriptedRelay) -> ScriptedRelay:
    """A relay with two applications and a cluster."""
    cluster = {"name": "prod", "state": "connected", "created_at": "2026-11-24T05:00:00.000Z"}
    relay.answer(f"GET {ORGANIZATION}/clusters", {"items": [cluster, cluster | {"name": "test"}]})
    relay.answer(APPS, {"items": [{"name": "shop"}, {"name": "bakery"}]})
    found = [environment(), environment(name="production")]
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": found})
    return relay


def test_names_that_begin_so(stocked: ScriptedRelay, home: Path) -> None:
    """Clusters, applications, environments as addresses; as arguments and as options."""
    assert completed("cluster", "show", "") == ["prod", "test"]
    assert completed("cluster", "show", "pr") == ["prod"]
    assert completed("env", "list", "sh") == ["shop"]
    assert completed("status", "shop/s") == ["shop/staging"]
    assert completed("deploy", "-f", "x", "--env", "sh") == ["shop/staging", "shop/production"]
    assert completed("env", "create", "shop/x", "--cluster", "te") == []
    assert completed("status", "x", "-o", "ya") == ["yaml"]


JOBS = [
    {
        "id": "j3",
        "kind": "deploy",
        "state": "running",
        "deployment_id": "d2",
        "application": "shop",
        "environment": "qa",
    },
    {"id": "j2", "kind": "health", "state": "failed", "cluster": "prod"},
    {
        "id": "j1",
        "kind": "deploy",
        "state": "failed",
        "deployment_id": "d1",
        "application": "shop",
        "environment": "qa",
    },
    {
        "id": "j0",
        "kind": "deploy",
        "state": "failed",
        "deployment_id": "d1",
        "application": "shop",
        "environment": "qa",
    },
]


def test_ids_newest_first_with_a_word_on_each(relay: ScriptedRelay, home: Path) -> None:
    """Of jobs, and of the deployments they belong to: nobody can tell one id from another."""
    relay.answer(f"GET {ORGANIZATION}/jobs", {"items": JOBS})
    assert completed("jobs", "show", "") == ["j3", "j2", "j1", "j0"]
    assert completed("deployments", "show", "d") == ["d2", "d1"]
    shell = ShellComplete(root, {}, "fairlead", "_FAIRLEAD_COMPLETE")
    assert [item.help for item in shell.get_completions(["jobs", "show"], "j")] == [
        "deploy shop/qa running", "health prod failed", "deploy shop/qa failed", "deploy shop/qa failed",
    ]  # fmt: skip


def test_ids_that_a_command_can_do_something_with(relay: ScriptedRelay, home: Path) -> None:
    """What is over cannot be cancelled, what goes on not be retried: the relay is not asked for it."""
    relay.answer(f"GET {ORGANIZATION}/jobs", {"items": JOBS})
    completed("deployments", "cancel", "")
    completed("deployments", "retry", "")
    asked = [request.url.params.get_list("state") for request in relay.requests]
    assert "running" in asked[0]
    assert "failed" not in asked[0]
    assert asked[1] == ["failed", "refused", "expired", "cancelled"]


def test_new_names_are_not_completed(relay: ScriptedRelay, home: Path) -> None:
    """Nobody creates what is there."""
    assert completed("cluster", "create", "") == []
    assert relay.requests == []


@pytest.mark.parametrize("answer", [httpx.ConnectError("x"), httpx.Response(401), httpx.Response(200, text="no json")])
def test_failures_are_silent(
    answer: httpx.Response | Exception, relay: ScriptedRelay, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of error in the middle of a command line helps nobody."""
    relay.answer(APPS, answer)
    assert completed("env", "list", "") == []
    assert capsys.readouterr() == ("", "")


def test_not_logged_in_is_silent(home: Path) -> None:
    """The command itself will say it."""
    assert completed("env", "list", "") == []


def test_a_slow_relay_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Somebody holds a finger on Tab."""
    waited: list[bool] = []

    def slow() -> None:
        waited.append(threading.Event().wait(PATIENCE_SECONDS))

    monkeypatch.setattr("fairlead_cli.connecting.connect", slow)
    monkeypatch.setattr(completing, "COMPLETE_SECONDS", 0.1)
    assert complete("cluster", click.Context(click.Command("show")), "") == []
    assert not waited


def test_the_context_that_is_typed_counts(home: Path, monkeypatch: pytest.MonkeyPatch, relay: ScriptedRelay) -> None:
    """Names of one relay are wrong for another."""
    from fairlead_cli.options import chosen_context

    for name in ("one", "two"):
        save(home / "config.yaml", Context(SERVER, TOKEN, "acme"), name)
    asked: list[str] = []

    def connect() -> object:
        asked.append(chosen_context())
        return relay.client()

    monkeypatch.setattr("fairlead_cli.connecting.connect", connect)
    relay.answer(APPS, {"items": [{"name": "shop"}]})
    assert completed("env", "list", "--context", "one", "") == ["shop"]
    assert asked == ["one"]
    assert completed("env", "list", "--context", "t") == ["two"]
    assert completed("context", "use", "") == ["one", "two"]
    (home / "config.yaml").write_text("[")
    assert contexts("") == []
