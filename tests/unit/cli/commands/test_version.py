"""`fairlead version`."""

import json
from collections.abc import Callable

from click.testing import Result

import fairlead_cli
from tests.unit.cli.scripted_relay import SERVER, ScriptedRelay


def test_without_a_relay(fairlead: Callable[..., Result]) -> None:
    """The command has a version all the same."""
    result = fairlead("version")
    assert (result.exit_code, result.stdout) == (0, f"Fairlead:  {fairlead_cli.__version__}\n")
    assert "not logged in" in result.stderr


def test_with_a_relay(fairlead: Callable[..., Result], relay: ScriptedRelay) -> None:
    """Both, and where."""
    relay.answer("GET /v1/version", {"relay_version": "9", "api_version": "v1", "protocol_versions": [1, 1]})
    assert f"Relay:     9 (API v1) at {SERVER}" in fairlead("version").stdout
    assert json.loads(fairlead("version", "-o", "json").stdout)["relay"] == "9"
