"""Heads of requests on the agent port: what agents send is read, anything ambiguous is refused."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_relay.errors import RequestInvalid
from fairlead_relay.gateway.http_request import parse_head, response


def test_a_poll_is_read() -> None:
    """Method, path, headers by their lower-case names."""
    head = parse_head(b"POST /v1/agent/poll HTTP/1.1\r\nHost: relay\r\nContent-LENGTH:  12 \r\nX:\r\n\r\n")
    assert (head.method, head.path, head.is_upgrade) == ("POST", "/v1/agent/poll", False)
    assert head.headers == {"host": "relay", "content-length": "12", "x": ""}
    assert head.body_bytes(100) == 12


def test_an_upgrade_is_known_by_its_header() -> None:
    """Whatever its letters."""
    assert parse_head(b"GET /v1/agent HTTP/1.1\r\nUPGRADE: WebSocket\r\n\r\n").is_upgrade


@pytest.mark.parametrize(
    "content",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nName : value\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_malformed_heads_are_refused(content: bytes) -> None:
    """With 400, never with a guess."""
    with pytest.raises(RequestInvalid) as refused:
        parse_head(content)
    assert refused.value.status is HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Transfer-Encoding: chunked\r\n", HTTPStatus.LENGTH_REQUIRED),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", HTTPStatus.LENGTH_REQUIRED),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", HTTPStatus.BAD_REQUEST),
        (b"Content-Length: +3\r\n", HTTPStatus.BAD_REQUEST),
        (b"Content-Length: -3\r\n", HTTPStatus.BAD_REQUEST),
        (b"Content-Length: 101\r\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (b"Content-Length: 9999999999\r\n", HTTPStatus.BAD_REQUEST),
    ],
)
def test_bodies_of_unclear_or_excessive_size_are_refused(headers: bytes, status: HTTPStatus) -> None:
    """Nothing on the way can read the same request differently."""
    with pytest.raises(RequestInvalid) as refused:
        parse_head(b"POST / HTTP/1.1\r\n" + headers + b"\r\n").body_bytes(100)
    assert refused.value.status is status


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    """A head is read or refused, whatever it is."""
    try:
        head = parse_head(content + b"\r\n\r\n")
    except RequestInvalid:
        return
    assert head.method.isupper()
    assert head.path.startswith("/")


def test_no_body_is_an_empty_body() -> None:
    """For requests that have none."""
    assert parse_head(b"DELETE / HTTP/1.1\r\n\r\n").body_bytes(100) == 0


def test_responses_say_how_long_they_are() -> None:
    """Except one that has no body by definition."""
    assert response(HTTPStatus.OK, b"ab", {"A": "1"}) == b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\nab"
    assert response(HTTPStatus.NO_CONTENT) == b"HTTP/1.1 204 No Content\r\n\r\n"
