"""
Dialling the relay: one websocket over TLS 1.3, with the hop named when it fails.

DNS, TCP, TLS and the upgrade are separate steps here, so that an error says which of them to look at. Nothing is
retried: that is the link's business.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
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
                user_agent_header=None,
            )
    except TimeoutError:
        raw.close()
        raise ConnectFailed("TLS", f"{host}:{port}", f"no answer within {2 * STEP_SECONDS:.0f} s") from None
    except (OSError, InvalidHandshake) as error:
        raw.close()
        raise failure_of(error, f"{host}:{port}") from error
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


def failure_of(error: BaseException, address: str) -> ConnectFailed:
    """
    Return what a failed TLS handshake or upgrade means.

    TLS 1.3 reports a refused client certificate only at the first read, inside the upgrade: the chain of causes is
    searched for it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConnectFailed("TLS", address, f"the relay's certificate is not accepted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return ConnectFailed("TLS", address, (cause.reason or str(cause)).replace("_", " ").lower())
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, InvalidStatus):
        return ConnectFailed("upgrade", address, f"HTTP status {error.response.status_code}")
    if isinstance(error, InvalidHandshake):
        return ConnectFailed("upgrade", address, str(error) or type(error).__name__)
    return ConnectFailed("TLS", address, _reason(error))


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
