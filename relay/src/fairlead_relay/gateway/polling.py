"""
Answers long-poll requests on the agent port: which series of requests each belongs to, and what goes in and out.

    POST /v1/agent/poll                                   begins a series; the answer's Fairlead-Session names it
    POST … with Fairlead-Session and Fairlead-Send: n     batch n from the agent in the body
    POST … with Fairlead-Session and Fairlead-Receive: n  asks for batch n; held until there is something to send
    DELETE … with Fairlead-Session                        ends it

The identity is that of the client certificate, checked with each request; the name of a series is no secret to rely on.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from http import HTTPStatus

from fairlead_relay.errors import RequestInvalid
from fairlead_relay.gateway.http_request import RequestHead, RequestReader, response
from fairlead_relay.gateway.poll_channel import PollChannel
from fairlead_relay.gateway.secure_stream import SecureStream
from fairlead_relay.pki.authority import AgentCertificate
from fairlead_shared.errors import FrameInvalid
from fairlead_shared.inner_tls import PATH_SUFFIX
from fairlead_shared.poll_batches import (
    MAX_BATCH_BYTES,
    POLL_PATH,
    RECEIVE_HEADER,
    SEND_HEADER,
    SESSION_HEADER,
    split_frames,
)

POLL_PATHS = (POLL_PATH, POLL_PATH + PATH_SUFFIX)
BODY_SECONDS = 20.0
"""For a body of at most 1 MiB, over a slow line."""
IDLE_SECONDS = 60.0
"""How long a connection may stay open between two requests."""


class Polling:
    """
    The series of requests of all agents.

    Args:
        begin: Starts to serve a new channel, whose path is given too; must call `forget` when it is over.

    """

    def __init__(self, begin: Callable[[str, PollChannel, str], None]) -> None:
        self._begin = begin
        self._channels: dict[str, PollChannel] = {}

    def is_under_way(self, session: str) -> bool:
        """Tell whether a series of that name is served."""
        return session in self._channels

    def forget(self, session: str) -> None:
        """Drop a series that is over; what the agent still asks is answered with 410."""
        self._channels.pop(session, None)

    async def serve(
        self,
        stream: SecureStream,
        reader: RequestReader,
        head: RequestHead,
        certificate: AgentCertificate | None,
        refusal: Callable[[RequestHead], bytes | None],
    ) -> None:
        """
        Answer the request whose head was read and admitted, and those that follow on the same connection.

        Args:
            stream: The connection.
            reader: Reads from it.
            head: Of its first request.
            certificate: The client's.
            refusal: Returns the answer to a following request that is not admitted, which ends the connection.

        """
        while True:
            body = await reader.body(head.body_bytes(MAX_BATCH_BYTES), BODY_SECONDS)
            if body is None:
                return
            stream.write(await self._answer(head, body, certificate))
            await stream.drain()
            following = await reader.head(IDLE_SECONDS)
            if following is None:
                return
            head = following[0]
            if (refused := refusal(head)) is not None:
                stream.write(refused)
                return

    async def _answer(self, head: RequestHead, body: bytes, certificate: AgentCertificate | None) -> bytes:
        try:
            if head.path not in POLL_PATHS or head.method not in ("POST", "DELETE"):
                raise RequestInvalid(HTTPStatus.NOT_FOUND, f"agents POST to {POLL_PATH}")
            name = head.headers.get(SESSION_HEADER.lower())
            if name is None:
                return self._open(head.path, certificate)
            channel = self._channels.get(name)
            if channel is None or not channel.belongs_to(certificate):
                raise RequestInvalid(HTTPStatus.GONE, "this long-poll session is over; begin another")
            return await self._exchange(channel, head, body)
        except RequestInvalid as error:
            return response(error.status, f"{error.reason}\n".encode(), {"Content-Type": "text/plain"})

    def _open(self, path: str, certificate: AgentCertificate | None) -> bytes:
        name = secrets.token_urlsafe(18)
        channel = self._channels[name] = PollChannel(certificate)
        self._begin(name, channel, path)
        return response(HTTPStatus.OK, headers={SESSION_HEADER: name})

    async def _exchange(self, channel: PollChannel, head: RequestHead, body: bytes) -> bytes:
        if head.method == "DELETE":
            await channel.leave()
            return response(HTTPStatus.NO_CONTENT)
        if (number := _number(head, SEND_HEADER)) is not None:
            try:
                frames = split_frames(body)
            except FrameInvalid as error:
                raise RequestInvalid(HTTPStatus.BAD_REQUEST, error.reason) from error
            await channel.take(number, frames)
            return response(HTTPStatus.NO_CONTENT)
        if (number := _number(head, RECEIVE_HEADER)) is not None:
            batch = await channel.give(number)
            return response(HTTPStatus.OK, batch, {"Content-Type": "application/octet-stream"})
        raise RequestInvalid(HTTPStatus.BAD_REQUEST, f"{SEND_HEADER} or {RECEIVE_HEADER} is missing")


def _number(head: RequestHead, header: str) -> int | None:
    text = head.headers.get(header.lower())
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text):
        raise RequestInvalid(HTTPStatus.BAD_REQUEST, f"{header} is no number")
    return int(text)
