"""Settings: what is derived from them, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from fairlead_relay.settings import Settings, parse_listen


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:7443", ("127.0.0.1", 7443)),
        (":0", ("", 0)),
        ("[::1]:1", ("::1", 1)),
        ("relay.example.com:65535", ("relay.example.com", 65535)),
    ],
)
def test_addresses_to_listen_on(text: str, parsed: tuple[str, int]) -> None:
    """Names, both families, every address, any free port."""
    assert parse_listen(text) == parsed


@pytest.mark.parametrize("text", ["", "7443", "host", "host:", "host:65536", "::1:7443", "[::1]", "host:-1", "a:b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The sentence shows the form."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_listen(text)


def test_urls_that_were_not_given_are_made_from_the_addresses() -> None:
    """An address that means every interface is no address to dial: then the first server name stands in."""
    made = Settings(server_names=("relay.example.com",)).with_urls(1, 2)
    assert (made.api_url, made.agent_url) == ("https://127.0.0.1:1", "wss://relay.example.com:2")
    assert Settings(api_listen=":7443", api_tls=False).with_urls(1, 2).api_url == "http://localhost:1"
    assert Settings(api_listen="[fd00::1]:7443").with_urls(1, 2).api_url == "https://[fd00::1]:1"
    given = Settings(api_url="https://relay.example.com/", agent_url="wss://agents.example.com").with_urls(1, 2)
    assert (given.api_url, given.agent_url) == ("https://relay.example.com", "wss://agents.example.com")


def test_certificates_name_everything_under_which_the_relay_is_reached() -> None:
    """Each name once: the given ones, then the URLs' hosts."""
    made = Settings(api_url="https://relay.example.com", agent_url="wss://localhost:1")
    assert made.certificate_names == ("localhost", "127.0.0.1", "::1", "relay.example.com")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://db/relay", "postgresql://db/relay"),
        ("postgresql://me@db/relay", "postgresql://me@db/relay"),
        (
            "postgresql://me:se:cr@t@db:5432/relay?application_name=a",
            "postgresql://me:***@db:5432/relay?application_name=a",
        ),
        ("postgresql:///relay?host=/run&password=secret&user=me", "postgresql:///relay?host=/run&password=***&user=me"),
        ("postgresql:///relay?sslpassword=secret", "postgresql:///relay?sslpassword=***"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    """Wherever a database URL holds them; nothing else is."""
    masked = Settings(database_url=url).masked()
    assert masked["database_url"] == shown
    assert masked["server_names"] == ["localhost", "127.0.0.1", "::1"]


def test_the_database_is_a_file_in_the_data_directory_unless_a_url_is_given() -> None:
    """With an absolute path, whatever the working directory becomes."""
    assert Settings(data_dir=Path("/srv/relay")).database == "sqlite:////srv/relay/relay.db"
    assert Settings(database_url="postgresql://db/relay").database == "postgresql://db/relay"


@pytest.mark.parametrize(
    "changed",
    [
        {"api_url": "ftp://x"},
        {"api_url": "https://"},
        {"agent_url": "https://x"},
        {"server_names": ()},
        {"heartbeat_seconds": 25},
        {"lease_seconds": 0},
        {"jobs_per_agent": 0},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object]) -> None:
    """Before anything starts."""
    with pytest.raises(ValidationError):
        Settings.model_validate(changed)
