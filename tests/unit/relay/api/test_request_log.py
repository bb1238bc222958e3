"""The line per request, and the edge where a defect ends."""

import structlog
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from fairlead_relay.api.request_log import RequestLog

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/v1/things"}


async def receive() -> Message:
    """Nothing is received here."""
    raise AssertionError


async def serve(app: RequestLog, scope: Scope = SCOPE) -> list[Message]:
    """Send one request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer 204, and write a line meanwhile."""
    structlog.get_logger().info("meanwhile", **structlog.contextvars.get_contextvars())
    await send({"type": "http.response.start", "status": 204, "headers": []})


async def test_the_request_id_is_in_the_answer_and_in_every_line_written_meanwhile() -> None:
    """A user's report of the header leads to the lines."""
    with capture_logs() as lines:
        (start,) = await serve(RequestLog(answer))
    meanwhile, line = lines
    assert dict(start["headers"])[b"x-request-id"].decode() == meanwhile["request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/things", 204)


async def test_probes_are_not_logged() -> None:
    """They would drown the rest."""
    with capture_logs() as lines:
        await serve(RequestLog(answer), {**SCOPE, "path": "/healthz"})
    assert [line["event"] for line in lines] == ["meanwhile"]


async def test_a_defect_is_written_down_once_and_goes_no_further() -> None:
    """The framework has answered 500 by then; the next request is served."""

    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a defect")

    with capture_logs() as lines:
        assert await serve(RequestLog(fail)) == []
    assert [line["event"] for line in lines] == ["request failed", "request"]
