"""Reading answers; what the client makes of them is tested with it."""

import ssl
from collections.abc import Callable

import httpx
import pytest

from fairlead_cli.answers import page_of, read_record, reason_of, record_of, refusal_of
from fairlead_cli.errors import AnswerInvalid, ApiError
from fairlead_cli.records import Application
from tests.unit.cli.scripted_relay import TOKEN, problem


def test_records_are_read_or_the_first_wrong_field_is_named() -> None:
    """Without its value, which may be a token."""
    assert read_record(Application, "GET /x", b'{"name": "shop"}').name == "shop"
    reads: tuple[Callable[[], object], ...] = (
        lambda: read_record(Application, "GET /x", f'{{"name": ["{TOKEN}"]}}'),
        lambda: record_of(Application, "GET /x", {"name": [TOKEN]}),
    )
    for read in reads:
        with pytest.raises(AnswerInvalid, match="GET /x: the answer's name is not as expected") as caught:
            read()
        assert TOKEN not in str(caught.value)


def test_pages_have_items() -> None:
    """Anything else is no list."""
    assert page_of("GET /x", httpx.Response(200, json={"items": [1]}))["items"] == [1]
    for body in ([1], {"items": 3}, {}):
        with pytest.raises(AnswerInvalid, match="is no list"):
            page_of("GET /x", httpx.Response(200, json=body))


def test_refusals_keep_what_the_relay_said_and_to_what() -> None:
    """A foreign server's page is shown as far as helps."""
    refused = refusal_of("GET", "/v1/x", problem(404, "not_found", "no x", field="name"))
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.code, refused.detail, refused.field, refused.path) == (
        *(404, "not_found", "no x", "name"),
        "/v1/x",
    )
    head = refusal_of("HEAD", "/v1/x", httpx.Response(404))
    assert isinstance(head, ApiError)
    assert head.code == "not_found"
    assert "HTTP status 502 and no problem details: '<h1>" in str(
        refusal_of("GET", "/v1/x", httpx.Response(502, text="<h1>" + "x" * 1000))
    )


def test_no_answer_has_a_reason() -> None:
    """An untrusted certificate is told from a relay that is away."""
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert "login --ca-file" in reason_of(error)
    assert "it took too long" in reason_of(httpx.ReadTimeout("x"))
    assert reason_of(httpx.ConnectError("refused")).startswith("refused; is the address right")
