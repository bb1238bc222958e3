"""Where settings come from: which source wins, and what each says of a name or value that does not fit."""

from pathlib import Path

import pytest

from fairlead_relay.errors import SettingsInvalid
from fairlead_relay.settings import Settings
from fairlead_relay.settings_sources import resolve_settings

FILE = """
# A relay's settings.
api_listen = ":7443"
server_names = ["relay.example.com", "10.0.0.1"]
api_tls = false
lease_seconds = 90
"""


def written(folder: Path, text: str) -> Path:
    """Write a file of settings."""
    file = folder / "relay.toml"
    file.write_text(text)
    return file


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    """And each setting says where its value came from; a flag that was not given is no flag."""
    file = written(tmp_path, FILE)
    environment = {
        "FAIRLEAD_RELAY_CONFIG_FILE": str(file),
        "FAIRLEAD_RELAY_LEASE_SECONDS": "120",
        "FAIRLEAD_RELAY_SERVER_NAMES": "a.example.com, b.example.com",
        "FAIRLEAD_RELAY_TLS_INSPECTION": "true",
        "PATH": "/bin",
    }
    effective = resolve_settings({"server_names": ("c.example.com",), "data_dir": None}, environment)
    settings, origins = effective.settings, effective.origins
    assert (settings.api_listen, origins["api_listen"]) == (":7443", f"{file}, line 3")
    assert (settings.api_tls, origins["api_tls"]) == (False, f"{file}, line 5")
    assert (settings.lease_seconds, origins["lease_seconds"]) == (120, "$FAIRLEAD_RELAY_LEASE_SECONDS")
    assert settings.tls_inspection
    assert (settings.server_names, origins["server_names"]) == (("c.example.com",), "--server-names")
    assert (settings.data_dir, origins["data_dir"]) == (Path("/var/lib/fairlead-relay"), "default")
    assert set(origins) == set(Settings.model_fields)


def test_a_file_that_a_flag_names_wins_over_the_environments(tmp_path: Path) -> None:
    """As with every other setting."""
    file = written(tmp_path, "jobs_per_agent = 7")
    environment = {"FAIRLEAD_RELAY_CONFIG_FILE": str(tmp_path / "missing.toml")}
    assert resolve_settings({}, environment, file).settings.jobs_per_agent == 7


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    """As people write lists in an environment."""
    settings = resolve_settings({}, {"FAIRLEAD_RELAY_SERVER_NAMES": "relay.example.com, 10.0.0.1"}).settings
    assert settings.server_names == ("relay.example.com", "10.0.0.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('\napi_listn = ":1"', "line 2: there is no setting api_listn; did you mean api_listen?"),
        ("\n[database]\nurl = 1", "line 2: there is no setting database; did you mean"),
        ("zzz = 1", "line 1: there is no setting zzz; 'fairlead-relay config show' lists them"),
        ('api_listen = "nonsense"', "line 1: must look like HOST:PORT"),
        ("lease_seconds = 0", "line 1: Input should be greater than or equal to 1"),
        ("lease_seconds = ", "it is no TOML: "),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    """And what was meant, where that can be guessed."""
    with pytest.raises(SettingsInvalid) as refused:
        resolve_settings({}, {}, written(tmp_path, text))
    assert words in str(refused.value)
    assert "relay.toml" in str(refused.value)


def test_what_is_no_file_of_settings_is_refused(tmp_path: Path) -> None:
    """With one sentence that names it."""
    for file, words in (
        (tmp_path / "missing.toml", "it cannot be read: No such file"),
        (tmp_path, "it cannot be read: Is a directory"),
    ):
        with pytest.raises(SettingsInvalid, match=words):
            resolve_settings({}, {}, file)
    file = tmp_path / "relay.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsInvalid, match="it is not UTF-8 text"):
        resolve_settings({}, {}, file)
    file.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SettingsInvalid, match="larger than 1 MiB"):
        resolve_settings({}, {}, file)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("FAIRLEAD_RELAY_API_LISTN", "did you mean FAIRLEAD_RELAY_API_LISTEN?"),
        ("FAIRLEAD_RELAY_api_listen", "did you mean FAIRLEAD_RELAY_API_LISTEN?"),
    ],
)
def test_an_unknown_variable_is_refused(variable: str, words: str) -> None:
    """A misspelt limit is no limit; the value is not repeated, it may be a secret."""
    with pytest.raises(SettingsInvalid) as refused:
        resolve_settings({}, {variable: "hush"})
    assert variable in str(refused.value)
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


def test_an_error_of_the_environment_names_the_variable_and_not_the_value() -> None:
    """A URL may hold a password."""
    with pytest.raises(SettingsInvalid, match=r"^\$FAIRLEAD_RELAY_API_URL: must start with https://") as refused:
        resolve_settings({}, {"FAIRLEAD_RELAY_API_URL": "hush"})
    assert "hush" not in str(refused.value)


def test_what_kubernetes_and_the_agent_set_is_left_alone() -> None:
    """A Service named fairlead-relay puts its addresses into every pod of the namespace."""
    environment = dict.fromkeys(
        (
            "FAIRLEAD_RELAY_SERVICE_HOST",
            "FAIRLEAD_RELAY_SERVICE_PORT",
            "FAIRLEAD_RELAY_SERVICE_PORT_API",
            "FAIRLEAD_RELAY_PORT",
            "FAIRLEAD_RELAY_PORT_7443_TCP",
            "FAIRLEAD_RELAY_PORT_7443_TCP_ADDR",
            "FAIRLEAD_RELAY_AGENTS_SERVICE_HOST",
            "FAIRLEAD_RELAY_AGENTS_PORT_7444_TCP_PROTO",
            "FAIRLEAD_RELAY_URL",
        ),
        "tcp://10.0.0.1:7443",
    )
    assert resolve_settings({}, environment).settings == Settings()
