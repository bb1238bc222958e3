"""
The agent port: reads who calls from the client certificate, and keeps one link per agent, whatever its transport.

TLS ends here, in the relay's process: a proxy that ended it would be the one whom the relay trusts. A client without a
certificate may only ask for the CA and enrol, and the number of those is bounded.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import ssl
from http import HTTPStatus

import structlog

from fairlead_relay.errors import ChannelClosed, RequestInvalid
from fairlead_relay.gateway.admission import Admission
from fairlead_relay.gateway.channel import Channel
from fairlead_relay.gateway.http_request import RequestHead, RequestReader, response
from fairlead_relay.gateway.inner_channel import InnerChannel
from fairlead_relay.gateway.link import Link, LinkPorts
from fairlead_relay.gateway.listener import HANDSHAKE_SECONDS, HANDSHAKES_PER_SECOND, Listener
from fairlead_relay.gateway.poll_channel import PollChannel
from fairlead_relay.gateway.polling import Polling
from fairlead_relay.gateway.secure_stream import SecureStream
from fairlead_relay.gateway.websocket_channel import WebsocketChannel
from fairlead_relay.pki.authority import AgentCertificate, read_agent_certificate
from fairlead_shared.inner_tls import PATH_SUFFIX
from fairlead_shared.poll_batches import POLL_PATH, SESSION_HEADER

PATH = "/v1/agent"
HEAD_SECONDS = 10.0
"""For the head of the first request."""
CLOSE_SECONDS = 5.0
DRAIN_SECONDS = 5.0
"""How long agents may take to close after they were told to go away."""
FEWEST_SECONDS = 1.0
MOST_SECONDS = 30.0
YOUNGEST_SHARE = 0.8
"""Connections are moved at a random age between this share of the greatest age and all of it: never all at once."""
MOVE_SECONDS = 60.0
"""After being told to move, an agent that is still here is cut off."""
RENEWAL_SECONDS = 5.0
RENEWALS_PER_SECOND = 50
"""Renewals that follow a change of the CA: each is a signature and a commit."""

_log = structlog.get_logger(__name__)


class Gateway:
    """
    The listener and its links.

    Args:
        context: TLS 1.3, client certificate optional.
        ports: What every connection works with.
        unidentified_per_minute: Clients without a certificate served per minute.
        max_age_seconds: After at most so long a connection is told to reconnect.
        tls_inspection: Whether agents are served whose network ends TLS on the way.

    """

    def __init__(
        self,
        context: ssl.SSLContext,
        ports: LinkPorts,
        unidentified_per_minute: int,
        max_age_seconds: float,
        *,
        tls_inspection: bool = False,
    ) -> None:
        self._context = context
        self._tls_inspection = tls_inspection
        self._ports = ports
        self._admission = Admission(unidentified_per_minute, ports.monotonic())
        self._max_age_seconds = max_age_seconds
        self._links: dict[Link, asyncio.TimerHandle] = {}
        """And when each is moved."""
        self._polls: set[asyncio.Task[None]] = set()
        self._polling = Polling(self._begin_poll)
        self._listener = Listener(context, self._serve, ports.monotonic, ports.on_refused)
        self._draining = False
        self._stopped = False

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket."""
        self._listener.start(listener)

    def go_away(self) -> None:
        """Tell every agent to reconnect elsewhere, and accept no more; idempotent."""
        self._draining = True
        self._ports.dispatcher.drain()
        for link in list(self._links):
            link.go_away("the relay stops or restarts", FEWEST_SECONDS)

    def ask_to_renew(self) -> None:
        """Have every agent renew its certificate soon, since the CA has changed; spread over the fleet's size."""
        within_seconds = max(RENEWAL_SECONDS, len(self._links) / RENEWALS_PER_SECOND)
        for link in list(self._links):
            link.ask_to_renew(within_seconds)

    async def stop(self) -> None:
        """Close every connection and the listener; complete on return, idempotent."""
        self._draining = True
        if self._stopped:
            return
        self._stopped = True
        for link in list(self._links):
            link.close("the relay stops or restarts; reconnect")
        if self._polls:
            await asyncio.wait(self._polls, timeout=DRAIN_SECONDS)
        await self._listener.stop(DRAIN_SECONDS + CLOSE_SECONDS)
        for task in self._polls:
            task.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)

    async def _serve(self, stream: SecureStream) -> None:
        begun = await self._begin(stream)
        if begun is not None:
            await self._serve_channel(*begun)

    async def _begin(self, stream: SecureStream) -> tuple[WebsocketChannel, str, AgentCertificate | None] | None:
        """
        Answer the first request, and those that follow if it is none for a websocket.

        Returns: The websocket, its path and its certificate, without what else the connection began with; None when
            nothing is left to serve.
        """
        shown = stream.peer_certificate()
        certificate = None if shown is None else read_agent_certificate(shown)
        reader = RequestReader(stream)
        try:
            found = await reader.head(HEAD_SECONDS)
            if found is None:
                return None
            head, raw = found

            def refusal(head: RequestHead) -> bytes | None:
                return self._refusal(head, certificate, has_certificate=shown is not None)

            if (refused := refusal(head)) is not None:
                stream.write(refused)
            elif head.is_upgrade:
                channel = WebsocketChannel(stream, raw + reader.rest())
                return (channel, head.path, certificate) if channel.accept() else None
            else:
                await self._polling.serve(stream, reader, head, certificate, refusal)
        except RequestInvalid as error:
            stream.write(_refuse(error.status, f"{error.reason}\n"))
        return None

    async def _serve_channel(self, channel: Channel, path: str, certificate: AgentCertificate | None) -> None:
        """Serve a channel; inside of it, where TLS ended on the way and so nobody was identified."""
        if not path.endswith(PATH_SUFFIX):
            await self._run(channel, certificate)
            return
        inner = InnerChannel(channel, self._context)
        try:
            await inner.handshake(HANDSHAKE_SECONDS)
        except ChannelClosed as error:
            _log.info("inner TLS handshake refused", transport=channel.transport, reason=error.reason)
            await inner.close()
            return
        shown = inner.peer_certificate()
        await self._run(inner, None if shown is None else read_agent_certificate(shown))

    def _begin_poll(self, session: str, channel: PollChannel, path: str) -> None:
        async def run() -> None:
            try:
                await self._serve_channel(channel, path, channel.certificate)
            except Exception:  # noqa: BLE001  (task boundary: a defect must not end the others)
                _log.exception("connection failed", transport=channel.transport)
            finally:
                self._polling.forget(session)

        task = asyncio.create_task(run(), name="gateway/poll")
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)

    async def _run(self, channel: Channel, certificate: AgentCertificate | None) -> None:
        link = Link(channel, certificate, self._ports, self._reconnect_window_seconds)
        share = YOUNGEST_SHARE + (1 - YOUNGEST_SHARE) * random.random()  # noqa: S311  (jitter, not a secret)
        age = self._max_age_seconds * share
        self._links[link] = asyncio.get_running_loop().call_later(age, self._move, link)
        try:
            await link.run()
        finally:
            self._links.pop(link).cancel()

    def _move(self, link: Link) -> None:
        link.go_away("this connection has reached its age", 0.0)
        reason = "this connection has reached its age; reconnect"
        self._links[link] = asyncio.get_running_loop().call_later(MOVE_SECONDS, link.close, reason)

    def _reconnect_window_seconds(self) -> float:
        """Size the reconnect window: a lone agent is back in a second, 10,000 do not stampede."""
        return min(MOST_SECONDS, max(FEWEST_SECONDS, len(self._links) / HANDSHAKES_PER_SECOND))

    def _refusal(
        self, head: RequestHead, certificate: AgentCertificate | None, *, has_certificate: bool
    ) -> bytes | None:
        """Return the answer to a connection that is not served, None to one that is."""
        path = head.path.removesuffix(PATH_SUFFIX)
        if path != (PATH if head.is_upgrade else POLL_PATH):
            self._ports.on_refused("path")
            return _refuse(HTTPStatus.NOT_FOUND, f"agents connect to {PATH}; people use the API's port\n")
        if path != head.path and not self._tls_inspection:
            self._ports.on_refused("tls_inspection")
            reason = "this relay serves no agents through TLS inspection; FAIRLEAD_RELAY_TLS_INSPECTION=true allows it"
            return _refuse(HTTPStatus.FORBIDDEN, f"{reason}\n")
        is_begun = self._polling.is_under_way(head.headers.get(SESSION_HEADER.lower(), ""))
        if self._draining and not is_begun:
            self._ports.on_refused("draining")
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the relay stops or restarts\n", FEWEST_SECONDS)
        if has_certificate:
            if certificate is None:
                self._ports.on_refused("certificate")
                return _refuse(HTTPStatus.FORBIDDEN, "the client certificate names no agent\n")
            return None
        if is_begun:
            return None  # admitted with its first request
        wait_seconds = self._admission.admit(self._ports.monotonic())
        if wait_seconds > 0:
            self._ports.on_refused("too_many")
            _log.warning("too many clients without a certificate", retry_after_seconds=wait_seconds)
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients without a certificate\n", wait_seconds)
        return None


def _refuse(status: HTTPStatus, text: str, retry_after_seconds: float | None = None) -> bytes:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_seconds))
    return response(status, text.encode(), headers)
