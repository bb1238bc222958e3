"""Log lines: their form, and that no secret survives in them."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fairlead_relay.logs import REDACTED, configure, redact
from fairlead_relay.settings import LogFormat

API_TOKEN = "flt_" + "a" * 16 + "_" + "b" * 32
ENROLMENT_TOKEN = "fle1_" + "a" * 16 + "_" + "b" * 32 + "_" + "c" * 64


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what configure does to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "name", ["secret", "client_secret", "password", "Authorization", "token", "api_token", "cookie"]
)
def test_a_value_under_a_telling_name_is_taken_out(name: str) -> None:
    """At any depth, whatever it is."""
    assert redact(None, "", {name: "x"}) == {name: REDACTED}
    assert redact(None, "", {"request": {"headers": [{name: b"x"}]}}) == {"request": {"headers": [{name: REDACTED}]}}


@pytest.mark.parametrize("name", ["token_id", "fencing", "tokens_left", "role"])
def test_a_value_under_another_name_stays(name: str) -> None:
    """Ids are what people search logs for."""
    assert redact(None, "", {name: "x"}) == {name: "x"}


@pytest.mark.parametrize("token", [API_TOKEN, ENROLMENT_TOKEN])
def test_a_token_within_a_text_is_taken_out(token: str) -> None:
    """Its public part stays, to find out whose it was."""
    found = redact(None, "", {"event": f"refused {token} from there"})["event"]
    assert "bbb" not in found
    assert token.split("_")[1] in found
    assert found.endswith(" from there")


def test_a_password_in_a_database_url_is_taken_out() -> None:
    """The host stays."""
    found = redact(None, "", {"event": "cannot reach postgresql://relay:hunter2@db.example.com/relay"})["event"]
    assert "hunter2" not in found
    assert "db.example.com" in found


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer eyJhbGciOi.J9.x-y",
        "authorization: basic Zm9vOmJhcg==",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\\nMC4CAQAwBQYDK2Vw\\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw",
    ],
)
def test_a_credential_and_a_private_key_within_a_text_are_taken_out(text: str) -> None:
    """What follows them stays, and so does what is no secret."""
    found = redact(None, "", {"event": f"refused {text}"})["event"]
    assert REDACTED in found
    for secret in ("eyJ", "Zm9v", "MC4CAQ"):
        assert secret not in found
    certificate = "-----BEGIN CERTIFICATE-----\nMC4CAQ\n-----END CERTIFICATE-----"
    assert redact(None, "", {"event": certificate})["event"] == certificate


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_traceback_holds_no_secret(log_format: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    """In neither form of the log."""
    configure(log_format)
    try:
        raise RuntimeError(f"with {API_TOKEN}")
    except RuntimeError:
        structlog.get_logger("ours").exception("failed")
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "bbb" not in shown


def test_a_deep_structure_ends_somewhere() -> None:
    """A structure that holds itself must not stop the relay."""
    ring: dict[str, object] = {}
    ring["ring"] = ring
    redact(None, "", {"ring": ring})


def test_json_lines_carry_fields_and_exceptions_from_both_kinds_of_logger(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, so that collectors need no rules for several."""
    configure(LogFormat.JSON)
    structlog.get_logger("ours").warning("something", cluster="harbour")
    try:
        raise RuntimeError(f"with {API_TOKEN}")
    except RuntimeError:
        logging.getLogger("theirs").exception("failed: %s", ENROLMENT_TOKEN)
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["cluster"], ours["level"]) == ("something", "harbour", "warning")
    assert ours["timestamp"].endswith("Z")
    assert "RuntimeError" in theirs["exception"]
    assert "bbb" not in json.dumps(theirs)


def test_lines_for_people_have_no_colours_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """And the libraries' chatter is left out."""
    configure(LogFormat.CONSOLE)
    structlog.get_logger("ours").info("something")
    logging.getLogger("websockets.server").info("connection open")
    (line,) = capsys.readouterr().err.splitlines()
    assert "something" in line
    assert "\x1b" not in line
