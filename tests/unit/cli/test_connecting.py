"""Opening a connection from what login stored."""

import os
from pathlib import Path

import pytest

from fairlead_cli.config import Context, config_file, save
from fairlead_cli.connecting import connect
from fairlead_cli.errors import ConfigInvalid
from tests.unit.cli.scripted_relay import SERVER, TOKEN


def test_stored_context_is_used(home: Path) -> None:
    """Nothing is sent before the first call."""
    save(config_file(os.environ), Context(SERVER, TOKEN, "acme"))
    with connect() as client:
        assert client.context == Context(SERVER, TOKEN, "acme")
        assert client.organization == "acme"


def test_a_ca_file_that_is_none_is_named(home: Path) -> None:
    """Missing, or not PEM."""
    (home / "bad.pem").write_text("no certificate")
    for name in ("missing.pem", "bad.pem"):
        save(config_file(os.environ), Context(SERVER, TOKEN, "acme", str(home / name)))
        with pytest.raises(ConfigInvalid, match="is no readable PEM file"):
            connect()
