"""Opening a connection from what login stored."""

import os
from pathlib import Path

import click
import pytest

from fairlead_cli.config import Context, config_file, save
from fairlead_cli.connecting import connect
from fairlead_cli.errors import ConfigInvalid
from fairlead_cli.options import with_output
from fairlead_cli.terminal import Terminal
from tests.unit.cli.scripted_relay import SERVER, TOKEN


def test_stored_context_is_used(home: Path) -> None:
    """Nothing is sent before the first call."""
    save(config_file(os.environ), Context(SERVER, TOKEN, "acme"), "default")
    with connect() as client:
        assert client.context == Context(SERVER, TOKEN, "acme")
        assert client.organization == "acme"


def test_the_command_line_chooses_before_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the environment before what is current."""
    for name in ("one", "two", "three"):
        save(config_file(os.environ), Context(f"https://{name}", TOKEN, "acme"), name)
    monkeypatch.setenv("FAIRLEAD_CONTEXT", "two")
    servers: list[str] = []

    @click.command()
    @with_output
    def command(terminal: Terminal) -> None:
        servers.append(connect().context.server)

    command([], standalone_mode=False)
    command(["--context", "one"], standalone_mode=False)
    monkeypatch.delenv("FAIRLEAD_CONTEXT")
    command([], standalone_mode=False)
    assert servers == ["https://two", "https://one", "https://three"]


def test_a_ca_file_that_is_none_is_named(home: Path) -> None:
    """Missing, or not PEM."""
    (home / "bad.pem").write_text("no certificate")
    for name in ("missing.pem", "bad.pem"):
        save(config_file(os.environ), Context(SERVER, TOKEN, "acme", str(home / name)), "default")
        with pytest.raises(ConfigInvalid, match="is no readable PEM file"):
            connect()
