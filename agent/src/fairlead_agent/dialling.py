"""
Dialling the relay: one websocket over TLS 1.3, with the hop named when it fails.

DNS, TCP, TLS and the upgrade are separate steps here, so that an error says which of them to look at. Nothing is
retried: that is the link's business.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from fairlead_agent.errors import ConnectFailed
from fairlead_shared.frames import MAX_FRAME_BYTES

PATH = "/v1/agent"
SUBPROTOCOL = Subprotocol("fairlead.v1")
STEP_SECONDS = 10.0
"""How long each hop may take: a TCP connect repeated three times, or a slow resolver's second server."""
CLOSE_SECONDS = 2.0
"""How long to wait for the peer's half of the closing handshake."""
QUEUED_FRAMES = 16
"""Incoming frames held for the reader before TCP pushes back; the session takes them as fast as they come."""


async def dial(relay_url: str, context: ssl.SSLContext) -> ClientConnection:
    """
    Open a websocket to the relay's agent port.

    Args:
        relay_url: `wss://HOST:PORT`.
        context: Whom to trust and which certificate to present.
    Raises: ConnectFailed: names the hop.
    """
    parts = urlsplit(relay_url)
    host, port = parts.hostname or "", parts.port or 443
    raw = await _connect_tcp(host, port)
    lost: list[Exception] = []

    class NotedConnection(ClientConnection):
        """Keeps why the transport was lost: the library reports only that it was."""

        def connection_lost(self, exc: Exception | None) -> None:
            if exc is not None:
                lost.append(exc)
            super().connection_lost(exc)

    try:
        async with asyncio.timeout(2 * STEP_SECONDS):
            return await connect(
                f"{relay_url}{PATH}",
                sock=raw,
                ssl=context,
                server_hostname=host,
                subprotocols=[SUBPROTOCOL],
                compression=None,
                open_timeout=None,
                ping_interval=None,  # the session has heartbeats of its own
                close_timeout=CLOSE_SECONDS,
                max_size=MAX_FRAME_BYTES,
                max_queue=QUEUED_FRAMES,
                create_connection=NotedConnection,
                user_agent_header=None,
            )
    except TimeoutError:
        raw.close()
        raise ConnectFailed("TLS", f"{host}:{port}", f"no answer within {2 * STEP_SECONDS:.0f} s") from None
    except (OSError, InvalidHandshake) as error:
        raw.close()
        raise failure_of([*lost, error], f"{host}:{port}") from error
    except asyncio.CancelledError:
        raw.close()
        raise


async def _connect_tcp(host: str, port: int) -> socket.socket:
    """Try the host's addresses one after the other."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STEP_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise ConnectFailed("DNS", host, f"no answer within {STEP_SECONDS:.0f} s") from None
    except OSError as error:
        raise ConnectFailed("DNS", host, _reason(error)) from error
    reason = "it has no address"
    for family, kind, protocol, _, address in found:
        raw = socket.socket(family, kind, protocol)
        raw.settimeout(0)  # the loop wants it non-blocking
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await loop.sock_connect(raw, address)
        except TimeoutError:
            reason = f"{address[0]} does not answer within {STEP_SECONDS:.0f} s"
        except OSError as error:
            reason = f"{address[0]}: {_reason(error)}"
        except asyncio.CancelledError:
            raw.close()
            raise
        else:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return raw
        raw.close()
    raise ConnectFailed("TCP", f"{host}:{port}", reason)


def failure_of(errors: Sequence[Exception], address: str) -> ConnectFailed:
    """
    Return what a failed TLS handshake or upgrade means.

    Args:
        errors: What went wrong, the first cause first. TLS 1.3 reports a refused client certificate only at the first
            read, inside the upgrade, whose own error then says nothing of TLS.
        address: Of the relay.
    """
    for error in errors:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectFailed("TLS", address, f"the relay's certificate is not accepted: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            return ConnectFailed("TLS", address, (error.reason or str(error)).replace("_", " ").lower())
    last = errors[-1]
    if isinstance(last, InvalidStatus):
        return ConnectFailed("upgrade", address, f"HTTP status {last.response.status_code}")
    if isinstance(last, InvalidMessage) and isinstance(last.__cause__, EOFError):
        # What a server that drops the connection without an alert looks like; asyncio's does.
        reason = "closed without an answer: the other end refuses this agent's certificate, or is no relay"
        return ConnectFailed("TLS", address, reason)
    if isinstance(last, InvalidHandshake):
        return ConnectFailed("upgrade", address, str(last) or type(last).__name__)
    return ConnectFailed("TLS", address, _reason(last))


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
