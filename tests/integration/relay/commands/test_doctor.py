"""`fairlead-relay doctor`: for people, for programs, and its exit code. What it finds, ../test_doctor.py shows."""

import json
from pathlib import Path

from click.testing import CliRunner

from fairlead_relay.commands.root import cli

LISTEN = {"FAIRLEAD_RELAY_API_LISTEN": "127.0.0.1:0", "FAIRLEAD_RELAY_AGENT_LISTEN": "127.0.0.1:0"}


def test_a_place_that_is_well(tmp_path: Path) -> None:
    """Exit code 0, a line each."""
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path / "data")], env=LISTEN)
    assert result.exit_code == 0, result.output
    assert {line[:4] for line in result.output.splitlines()} == {"ok  "}


def test_what_fails_has_a_remedy_and_an_exit_code(tmp_path: Path) -> None:
    """Also for programs."""
    (tmp_path / "relay.db").mkdir()
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path), "-o", "json"], env=LISTEN)
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert not report["well"]
    (wrong,) = [finding for finding in report["findings"] if not finding["passed"]]
    assert wrong["subject"] == "database"
    assert wrong["remedy"]
