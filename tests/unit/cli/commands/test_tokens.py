"""`fairlead token`."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, TOKEN, ScriptedRelay

Fairlead = Callable[..., Result]
TOKENS = f"{ORGANIZATION}/tokens"
SHOWN = {
    "id": "abcdefghjkmnpqrs",
    "name": "ci",
    "role": "deployer",
    "application": "shop",
    "created_at": MOMENT,
    "expires_at": MOMENT,
    "last_used_at": None,
}


def test_the_secret_is_all_of_stdout(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """So that `> file` holds a token; what it is good for is on stderr."""
    relay.answer(f"POST {TOKENS}", httpx.Response(201, json=SHOWN | {"token": TOKEN}))
    result = fairlead("token", "create", "ci", "--role", "deployer", "--application", "shop", "--expires", "30d")
    assert (result.exit_code, result.stdout) == (0, f"{TOKEN}\n")
    assert result.stderr == "token abcdefghjkmnpqrs is deployer of shop until 2026-11-24 05:00 UTC\n"
    [body] = relay.bodies(f"POST {TOKENS}")
    assert body == {"name": "ci", "role": "deployer", "application": "shop", "expires_seconds": 30 * 86_400}
    assert json.loads(fairlead("token", "create", "ci", "--role", "viewer", "-o", "json").stdout)["token"] == TOKEN


def test_a_file_takes_the_secret_in_place_of_the_terminal(fairlead: Fairlead, relay: ScriptedRelay, home: Path) -> None:
    """Readable by its owner only; and if it cannot be written, what to do."""
    relay.answer(f"POST {TOKENS}", httpx.Response(201, json=SHOWN | {"token": TOKEN, "expires_at": None}))
    arguments = ("token", "create", "ci", "--role", "admin", "--expires", "never", "--output-file")
    result = fairlead(*arguments, str(home / "t"), "-o", "json")
    assert TOKEN not in result.output
    assert "for ever" in result.stderr
    assert ((home / "t").read_text(), (home / "t").stat().st_mode & 0o777) == (TOKEN, 0o600)
    assert relay.bodies(f"POST {TOKENS}")[0]["expires_seconds"] is None
    assert fairlead(*arguments, str(home / "t")).stdout == ""
    (home / "d").mkdir()
    (home / "d" / "x").touch()
    refused = fairlead(*arguments, str(home / "t" / "x"))
    assert (refused.exit_code, "fairlead token revoke abcdefghjkmnpqrs" in refused.stderr) == (1, True)


def test_list_and_revoke(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """By id; nobody can show a secret again."""
    relay.answer(f"GET {TOKENS}", {"items": [SHOWN, SHOWN | {"application": None, "expires_at": None}]})
    relay.answer(f"DELETE {TOKENS}/abcdefghjkmnpqrs", httpx.Response(204))
    lines = fairlead("token", "list").stdout.splitlines()
    assert lines[1].split()[:5] == ["abcdefghjkmnpqrs", "ci", "deployer", "shop", "-"]
    assert lines[2].split()[3:] == ["all", "-", "never"]
    result = fairlead("token", "revoke", "abcdefghjkmnpqrs")
    assert (result.exit_code, result.stderr) == (0, "token abcdefghjkmnpqrs is revoked\n")
    assert fairlead("token", "revoke", "../x").exit_code == 2
