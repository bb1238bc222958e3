"""`fairlead login`: a token that works is stored, any other is not."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from fairlead_cli.client import Client
from fairlead_cli.config import Context, load, read_stored
from tests.unit.cli.scripted_relay import SERVER, TOKEN, ScriptedRelay, problem

Fairlead = Callable[..., Result]


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> ScriptedRelay:
    """A scripted relay that `login` talks to with the context it was given."""
    scripted = ScriptedRelay()

    def client(context: Context) -> Client:
        return scripted.client(context.organization)

    monkeypatch.setattr("fairlead_cli.client.Client", client)
    return scripted


def test_a_token_that_works_is_stored(fairlead: Fairlead, relay: ScriptedRelay, home: Path) -> None:
    """From standard input, with the organization it is for; it is not printed."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "admin"})
    ca_file = home / "ca.pem"
    ca_file.write_text("")
    result = fairlead("login", SERVER + "/", "--ca-file", str(ca_file), stdin=f"{TOKEN}\n")
    assert result.exit_code == 0, result.stderr
    assert load(os.environ) == Context(SERVER, TOKEN, "acme", str(ca_file))
    assert f"logged in to {SERVER} as admin of acme" in result.stderr
    assert TOKEN not in result.output


def test_a_token_from_the_environment_comes_first(
    fairlead: Fairlead, relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI has it there."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "deployer"})
    monkeypatch.setenv("FAIRLEAD_TOKEN", TOKEN)
    assert fairlead("login", SERVER).exit_code == 0
    assert load({**os.environ, "FAIRLEAD_TOKEN": ""}).token == TOKEN


def test_each_relay_is_a_context(
    fairlead: Fairlead, relay: ScriptedRelay, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by --context, or after the relay; none is lost."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "admin"})
    for arguments in ((SERVER,), ("https://b.example", "--context", "partner"), (SERVER,)):
        assert fairlead("login", *arguments, stdin=TOKEN).exit_code == 0
    assert list(read_stored(home / "config.yaml").contexts) == ["default", "partner"]
    assert load(os.environ).server == SERVER
    assert fairlead("login", SERVER, "--context", "a/b", stdin=TOKEN).exit_code == 1
    monkeypatch.setenv("FAIRLEAD_CONTEXT", "chosen")
    assert fairlead("login", SERVER, stdin=TOKEN).exit_code == 0
    assert read_stored(home / "config.yaml").current == "chosen"


def test_a_person_is_asked_without_echo(
    fairlead: Fairlead, relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "viewer"})
    asked: list[dict[str, object]] = []

    def prompt(_text: str, **options: object) -> str:
        asked.append(options)
        return TOKEN

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr("fairlead_cli.commands.login.is_a_person_there", lambda: True)
    assert fairlead("login", SERVER).exit_code == 0
    assert asked == [{"hide_input": True, "err": True}]


def test_a_token_that_does_not_work_is_not_stored(fairlead: Fairlead, relay: ScriptedRelay, home: Path) -> None:
    """The former configuration stays."""
    relay.answer("GET /v1/whoami", problem(401, "unauthenticated", "the token is unknown"))
    result = fairlead("login", SERVER, stdin=TOKEN)
    assert result.exit_code == 4
    assert "the token is unknown" in result.stderr
    assert not (home / "config.yaml").exists()


@pytest.mark.parametrize(("server", "stdin"), [("http://relay.example", TOKEN), (SERVER, "hunter2")])
def test_what_must_not_be_sent_is_not(server: str, stdin: str, fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """A token in clear, or something that is no token."""
    result = fairlead("login", server, stdin=stdin)
    assert result.exit_code == 1
    assert stdin not in result.output
    assert relay.requests == []
