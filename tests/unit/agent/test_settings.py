"""Settings: what is refused, and that the sentence names flag and variable."""

from pathlib import Path

import pytest

from fairlead_agent.errors import SettingsInvalid
from fairlead_agent.settings import read_settings

GIVEN = {"relay_url": "wss://relay.example:7444/", "policy_file": "/p", "kubernetes_host": "10.0.0.1"}


def test_defaults_fill_what_is_not_given() -> None:
    """Empty and absent values mean the default."""
    settings = read_settings({**GIVEN, "probe_port": None, "state_namespace": ""})
    assert settings.relay_url == "wss://relay.example:7444"
    assert settings.policy_file == Path("/p")
    assert (settings.kubernetes_port, settings.probe_port, settings.log_format) == (443, 0, "json")
    assert settings.replica


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"relay_url": None}, "--relay-url (FAIRLEAD_RELAY_URL): is not set"),
        ({"relay_url": "https://relay"}, "wss://HOST:PORT"),
        ({"relay_url": "wss://relay/path"}, "without path"),
        ({"kubernetes_host": ""}, "--kubernetes-host (KUBERNETES_SERVICE_HOST): is not set"),
        ({"probe_port": 70_000}, "--probe-port (FAIRLEAD_PROBE_PORT)"),
        ({"tls_inspection": True}, "FAIRLEAD_TLS_INSPECTION): it needs the CA of what inspects TLS"),
        ({"log_format": "xml"}, "FAIRLEAD_LOG_FORMAT"),
    ],
)
def test_wrong_value_names_flag_and_variable(change: dict[str, object], expected: str) -> None:
    """One sentence says which setting is wrong, where it comes from and why."""
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({**GIVEN, **change})
    assert expected in str(caught.value)
