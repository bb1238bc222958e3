"""Failures on the way to the relay, in words: which hop, which certificate, why, what to do."""

import ssl

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from fairlead_agent.hop_failures import MAX_RETRY_AFTER_SECONDS, failure_of, proxy_refusal, retry_after, tls_reason
from fairlead_agent.proxy import parse_proxy


def refused(status: int, body: bytes = b"", **headers: str) -> InvalidStatus:
    """Return what the library raises for an answer to the upgrade."""
    named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return InvalidStatus(Response(status, "", named, body))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "refuses this agent's certificate: no CA"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "refuses this agent's certificate: it has expired"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants one"),
        ("WRONG_VERSION_NUMBER", "does not speak TLS:"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "does not speak TLS 1.3"),
        ("SOMETHING_NEW", "something new"),
    ],
)
def test_alerts_have_words(reason: str, words: str) -> None:
    """OpenSSL's names become sentences."""
    error = ssl.SSLError(1, "x")
    error.reason = reason
    assert words in tls_reason(error)


def test_a_cause_below_the_upgrade_wins() -> None:
    """An alert read after the handshake explains the upgrade that found no answer."""
    alert = ssl.SSLError(1, "x")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
    failed = failure_of([alert, EOFError()], "relay:1")
    assert (failed.hop, failed.address) == ("TLS", "relay:1")


def test_a_refused_upgrade_tells_what_the_relay_said_and_when_to_come_back() -> None:
    """Status, first line of the body and Retry-After."""
    busy = failure_of([refused(503, b"too many clients\n", Retry_After="7")], "relay:1")
    assert (busy.hop, busy.reason) == ("upgrade", "HTTP status 503: too many clients")
    assert busy.retry_after_seconds == 7
    assert failure_of([refused(403)], "relay:1").hop == "authorization"


def test_an_answer_of_something_else_names_it_and_not_its_page() -> None:
    """A relay names no server; what stands between usually does, and answers with a page nobody wants in a log."""
    page = refused(503, b"<!DOCTYPE html>", Server="squid/5.7", Content_Type="text/html;charset=utf-8")
    assert failure_of([page], "relay:1").reason == "HTTP status 503 from squid/5.7"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 0), ("", 0), ("soon", 0), ("-1", 0), ("12", 12), ("999999", MAX_RETRY_AFTER_SECONDS)],
)
def test_retry_after_is_bounded(text: str | None, seconds: float) -> None:
    """Nobody may send an agent to sleep for a day."""
    assert retry_after(text) == seconds


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("http://p:1", 407, "wants a user and password"),
        ("http://u:w@p:1", 407, "does not accept the user"),
        ("http://p:1", 403, "NO_PROXY"),
        ("http://p:1", 502, "cannot reach relay:2"),
        ("http://p:1", 504, "cannot resolve"),
        ("http://p:1", 418, "refuses a tunnel"),
    ],
)
def test_a_proxy_that_refuses_says_what_to_do(url: str, status: int, words: str) -> None:
    """Each status a proxy answers CONNECT with."""
    failed = proxy_refusal(status, parse_proxy(url), "relay:2")
    assert failed.hop == "proxy"
    assert words in failed.reason
    assert "w@" not in str(failed)
