"""`fairlead-relay config show`: values, origins, and a file that can be given back."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from fairlead_relay.settings import Settings
from fairlead_relay.settings_sources import resolve_settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_RELAY_DATABASE_URL", "postgresql://me:hush@db/relay")


def run(*arguments: str) -> str:
    """Run the command and return what it printed."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    """The password is not."""
    file = tmp_path / "relay.toml"
    file.write_text("jobs_per_agent = 3")
    output = run("--config", str(file), "config", "show", "--data-dir", "/srv/relay")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in output.splitlines()}
    assert rows["jobs_per_agent"] == ["3", f"{file}, line 1"]
    assert rows["data_dir"] == ["/srv/relay", "--data-dir"]
    assert rows["database_url"] == ["postgresql://me:***@db/relay", "$FAIRLEAD_RELAY_DATABASE_URL"]
    assert rows["api_tls"] == ["true", "default"]
    assert rows["api_url"] == ["-", "default"]
    assert set(rows) == {"SETTING", *Settings.model_fields}
    shown = json.loads(run("--config", str(file), "config", "show", "--output", "json"))
    assert shown["jobs_per_agent"] == {"value": 3, "origin": f"{file}, line 1"}


def test_the_file_that_it_prints_gives_the_same_settings(tmp_path: Path) -> None:
    """But for the password."""
    file = tmp_path / "relay.toml"
    file.write_text(run("config", "show", "-o", "toml"))
    masked = Settings(database_url="postgresql://me:***@db/relay")
    assert resolve_settings({}, {}, file).settings == masked


def test_a_wrong_setting_is_a_usage_error(tmp_path: Path) -> None:
    """One sentence with file and line, exit code 2."""
    file = tmp_path / "relay.toml"
    file.write_text("api_listn = 1")
    result = CliRunner().invoke(cli, ("--config", str(file), "config", "show"))
    assert result.exit_code == 2
    assert f"Error: {file}, line 1: there is no setting api_listn; did you mean api_listen?" in result.output
