"""
The agent port: accepts connections, reads who calls from the client certificate, and keeps one link per agent.

TLS ends here, in the relay's process: a proxy that ended it would be the one whom the relay trusts. A client without a
certificate may only ask for the CA and enrol, and the number of those is bounded.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from http import HTTPStatus

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fairlead_relay.gateway.admission import Admission
from fairlead_relay.gateway.link import Link, LinkPorts
from fairlead_relay.pki.authority import identity_of
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.identity import AgentIdentity

PATH = "/v1/agent"
SUBPROTOCOL = Subprotocol("fairlead.v1")
OPEN_SECONDS = 10.0
"""For the TLS handshake, and again for the upgrade."""
CLOSE_SECONDS = 5.0
QUEUED_FRAMES = 4
"""Received and not yet read; each has at most 1 MiB, and TCP holds the rest back."""
DRAIN_SECONDS = 5.0
"""How long agents may take to close after they were told to go away."""
FEWEST_SECONDS = 1.0
MOST_SECONDS = 30.0
AGENTS_PER_SECOND = 500
"""Handshakes that two cores serve with half their time (1.8 ms of CPU each): the reconnect window is sized for this."""

_log = structlog.get_logger(__name__)


class Gateway:
    """
    The listener and its links.

    Args:
        context: TLS 1.3, client certificate optional.
        ports: What every connection works with.
        unidentified_per_minute: Clients without a certificate served per minute.

    """

    def __init__(self, context: ssl.SSLContext, ports: LinkPorts, unidentified_per_minute: int) -> None:
        self._context = context
        self._ports = ports
        self._admission = Admission(unidentified_per_minute, ports.monotonic())
        self._links: set[Link] = set()
        self._server: Server | None = None
        self._draining = False

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket."""
        self._server = await serve(
            self._serve,
            sock=listener,
            ssl=self._context,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            process_request=self._admit,
            server_header=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            # The session has its own heartbeat, which reaches through proxies that answer pings themselves.
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            max_queue=QUEUED_FRAMES,
        )

    def go_away(self) -> None:
        """Tell every agent to reconnect elsewhere, and accept no more; idempotent."""
        self._draining = True
        for link in list(self._links):
            link.go_away("the relay stops or restarts", FEWEST_SECONDS)

    async def stop(self) -> None:
        """Close every connection and the listener; complete on return, idempotent."""
        self._draining = True
        server, self._server = self._server, None
        if server is None:
            return
        for link in list(self._links):
            link.close("the relay stops or restarts; reconnect")
        server.close(reason="the relay stops or restarts")
        try:
            async with asyncio.timeout(DRAIN_SECONDS + CLOSE_SECONDS):
                await server.wait_closed()
        except TimeoutError:
            for connection in list(server.all_connections):
                connection.transport.abort()
            await server.wait_closed()

    async def _serve(self, websocket: ServerConnection) -> None:
        link = Link(websocket, _peer(websocket), self._ports, self._reconnect_window_seconds)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _reconnect_window_seconds(self) -> float:
        """Size the reconnect window: a lone agent is back in a second, 10,000 do not stampede."""
        return min(MOST_SECONDS, max(FEWEST_SECONDS, len(self._links) / AGENTS_PER_SECOND))

    def _admit(self, websocket: ServerConnection, request: Request) -> Response | None:
        if request.path != PATH:
            return _refuse(HTTPStatus.NOT_FOUND, f"agents connect to {PATH}; people use the API's port\n")
        if self._draining:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the relay stops or restarts\n", FEWEST_SECONDS)
        certificate = _certificate(websocket)
        if certificate is not None:
            if identity_of(certificate) is None:
                return _refuse(HTTPStatus.FORBIDDEN, "the client certificate names no agent\n")
            return None
        wait_seconds = self._admission.admit(self._ports.monotonic())
        if wait_seconds > 0:
            _log.warning("too many clients without a certificate", retry_after_seconds=wait_seconds)
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients without a certificate\n", wait_seconds)
        return None


def _peer(websocket: ServerConnection) -> AgentIdentity | None:
    certificate = _certificate(websocket)
    return None if certificate is None else identity_of(certificate)


def _certificate(websocket: ServerConnection) -> bytes | None:
    """Return the client certificate, verified by the handshake, in DER form."""
    connection: ssl.SSLObject = websocket.transport.get_extra_info("ssl_object")
    return connection.getpeercert(binary_form=True)


def _refuse(status: HTTPStatus, text: str, retry_after_seconds: float | None = None) -> Response:
    headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text)), "Connection": "close"}
    )
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_seconds))
    return Response(status, status.phrase, headers, text.encode())
