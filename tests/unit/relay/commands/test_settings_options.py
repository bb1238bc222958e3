"""Settings from flags and environment, and errors that name where a value came from."""

from pathlib import Path

import click
import pytest

from fairlead_relay.commands.settings_options import make_settings


def test_a_flag_wins_over_the_environment_which_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that was not given is no flag."""
    monkeypatch.setenv("FAIRLEAD_RELAY_DATA_DIR", "/from/environment")
    assert make_settings(data_dir=Path("/from/flag")).data_dir == Path("/from/flag")
    assert make_settings(data_dir=None).data_dir == Path("/from/environment")
    monkeypatch.delenv("FAIRLEAD_RELAY_DATA_DIR")
    assert make_settings(data_dir=None).data_dir == Path("/var/lib/fairlead-relay")


def test_an_error_names_the_flag_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it was given by."""
    with pytest.raises(click.UsageError, match="--api-listen: must look like HOST:PORT"):
        make_settings(api_listen="nonsense")
    monkeypatch.setenv("FAIRLEAD_RELAY_API_LISTEN", "nonsense")
    with pytest.raises(click.UsageError, match=r"\$FAIRLEAD_RELAY_API_LISTEN: must look like HOST:PORT"):
        make_settings(api_listen=None)
