"""
Dialling the relay: DNS, TCP, proxy, TLS and the upgrade, one after the other, with the hop named when one fails.

Every connection of the agent to its relay is made here, enrolment included. The name is resolved and the way chosen
anew each time, so that nothing stale outlives a failure. Nothing is retried: that is the link's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from cryptography import x509
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from fairlead_agent.channel import Channel, WebsocketChannel
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.hop_failures import failure_of, os_reason, proxy_refusal
from fairlead_agent.proxy import Proxy, is_excepted, parse_proxy
from fairlead_agent.settings import Settings
from fairlead_shared.frames import MAX_FRAME_BYTES

PATH = "/v1/agent"
SUBPROTOCOL = Subprotocol("fairlead.v1")
STEP_SECONDS = 10.0
"""How long each hop may take: a TCP connect repeated three times, or a slow resolver's second server."""
CLOSE_SECONDS = 2.0
"""How long to wait for the peer's half of the closing handshake."""
QUEUED_FRAMES = 16
"""Incoming frames held for the reader before TCP pushes back; the session takes them as fast as they come."""
MAX_HEAD_BYTES = 16 * 1024
"""Of a proxy's answer."""

Passed = Callable[[str, str], None]
"""Told of each hop that was passed: its name and one phrase about it."""


def _ignore(_hop: str, _found: str) -> None:
    """Take no note."""


@dataclass(frozen=True)
class Dialler:
    """Knows the relay's address and the operator's rules for the way there."""

    relay_url: str
    """`wss://HOST:PORT`."""
    https_proxy: str = field(default="", repr=False)
    """Proxy for this relay, see proxy.py; empty: none."""
    no_proxy: str = ""
    ca_bundle_file: Path | None = None
    """Further roots, for what is not the relay, whose own is pinned: a proxy reached over TLS, or what inspects TLS."""
    tls_inspection: bool = False
    """Whether the operator lets the network end TLS on the way; see opening.py."""
    passed: Passed = _ignore

    @classmethod
    def of(cls, settings: Settings, passed: Passed = _ignore) -> Dialler:
        """Return a dialler as the settings say."""
        proxy = settings.https_proxy.get_secret_value()
        return cls(
            settings.relay_url, proxy, settings.no_proxy, settings.ca_bundle_file, settings.tls_inspection, passed
        )

    @property
    def host(self) -> str:
        """The relay's host."""
        return urlsplit(self.relay_url).hostname or ""

    @property
    def port(self) -> int:
        """The relay's port."""
        return urlsplit(self.relay_url).port or 443

    @property
    def address(self) -> str:
        """HOST:PORT of the relay, for errors."""
        return f"{self.host}:{self.port}"

    async def dial(self, context: ssl.SSLContext, path_suffix: str = "") -> Channel:
        """
        Open a websocket to the relay's agent port.

        Args:
            context: Whom to trust and which certificate to present.
            path_suffix: What the messages carry, if not frames.
        Raises: ConnectFailed: names the hop.
        """
        raw = await self.connect()
        lost: list[Exception] = []
        secured: list[asyncio.Transport] = []
        """The transport, once its handshake is done."""
        passed = self.passed

        class NotedConnection(ClientConnection):
            """Keeps why the transport was lost: the library reports only that it was."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                secured.append(cast("asyncio.Transport", transport))
                passed("TLS", describe_tls(transport))
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                if exc is not None:
                    lost.append(exc)
                super().connection_lost(exc)

        def give_up() -> None:
            for transport in secured:
                # Cancelled as the handshake ended, asyncio would wait half a minute for the peer's goodbye.
                transport.abort()
            raw.close()

        try:
            async with asyncio.timeout(2 * STEP_SECONDS):
                websocket = await connect(
                    f"{self.relay_url}{PATH}{path_suffix}",
                    sock=raw,
                    ssl=context,
                    server_hostname=self.host,
                    subprotocols=[SUBPROTOCOL],
                    compression=None,
                    proxy=None,
                    open_timeout=None,
                    ping_interval=None,  # the session has heartbeats of its own
                    close_timeout=CLOSE_SECONDS,
                    max_size=MAX_FRAME_BYTES,
                    max_queue=QUEUED_FRAMES,
                    create_connection=NotedConnection,
                    user_agent_header=None,
                )
        except TimeoutError:
            give_up()
            hop = "upgrade" if secured else "TLS"
            raise ConnectFailed(hop, self.address, f"no answer within {2 * STEP_SECONDS:.0f} s") from None
        except (OSError, InvalidHandshake) as error:
            give_up()
            failed = failure_of([*lost, error], self.address)
            unanswered = not isinstance(error, InvalidStatus)
            failed.cut_upgrade = bool(secured) and unanswered and not any(isinstance(one, ssl.SSLError) for one in lost)
            raise failed from error
        except asyncio.CancelledError:
            give_up()
            raise
        self.passed("upgrade", "websocket")
        return WebsocketChannel(websocket)

    async def connect(self) -> socket.socket:
        """Return a connected socket that leads to the relay, through the proxy if there is one; see dial()."""
        proxy = self._proxy()
        if proxy is None:
            return await self._connect_tcp(self.host, self.port)
        raw = await self._connect_tcp(proxy.host, proxy.port)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                tunnel = await (self._tunnel_in_tls(raw, proxy) if proxy.tls else self._tunnel(raw, proxy))
        except TimeoutError:
            raw.close()
            raise ConnectFailed("proxy", proxy.address, f"no answer within {STEP_SECONDS:.0f} s") from None
        except OSError as error:
            raw.close()
            reason = "closed without an answer" if isinstance(error, EOFError) else os_reason(error)
            raise ConnectFailed("proxy", proxy.address, reason) from error
        except BaseException:
            raw.close()
            raise
        self.passed("proxy", f"{proxy.address} made a tunnel to {self.address}")
        return tunnel

    def _proxy(self) -> Proxy | None:
        if not self.https_proxy or is_excepted(self.no_proxy, self.host, self.port):
            return None
        return parse_proxy(self.https_proxy)

    async def _tunnel(self, raw: socket.socket, proxy: Proxy) -> socket.socket:
        loop = asyncio.get_running_loop()
        await self._ask(proxy, lambda ask: loop.sock_sendall(raw, ask), lambda: loop.sock_recv(raw, MAX_HEAD_BYTES))
        return raw

    async def _tunnel_in_tls(self, raw: socket.socket, proxy: Proxy) -> socket.socket:
        """Speak TLS with the proxy; the tunnel is one end of a pair of sockets, so that what follows is the same."""
        context = ssl.create_default_context()
        try:
            if self.ca_bundle_file is not None:
                context.load_verify_locations(self.ca_bundle_file)
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed("proxy", proxy.address, f"{self.ca_bundle_file}: {os_reason(error)}") from error
        reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname=proxy.host)

        async def send(ask: bytes) -> None:
            writer.write(ask)
            await writer.drain()

        try:
            await self._ask(proxy, send, lambda: reader.read(MAX_HEAD_BYTES))
        except BaseException:
            writer.transport.abort()
            raise
        near, far = socket.socketpair()
        near.settimeout(0)
        far.settimeout(0)
        pump = asyncio.create_task(_pump(far, reader, writer), name="proxy-tls")
        _pumps.add(pump)
        pump.add_done_callback(_pumps.discard)
        return near

    async def _ask(
        self, proxy: Proxy, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Ask for a tunnel. The relay does not speak first, so nothing but the proxy's answer can be read here."""
        lines = [f"CONNECT {_authority(self.host, self.port)} HTTP/1.1", f"Host: {_authority(self.host, self.port)}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await send("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = await receive()
            if not more or len(head) + len(more) > MAX_HEAD_BYTES:
                reason = "closed without an answer" if not more else "its answer is no answer of a proxy"
                raise ConnectFailed("proxy", proxy.address, reason)
            head += more
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(None, 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():  # noqa: PLR2004
            raise ConnectFailed("proxy", proxy.address, "what answers is no HTTP proxy")
        if not words[1].startswith("2"):
            raise proxy_refusal(int(words[1]), proxy, self.address)

    async def _connect_tcp(self, host: str, port: int) -> socket.socket:
        """Try the host's addresses one after the other."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STEP_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise ConnectFailed("DNS", host, f"no answer within {STEP_SECONDS:.0f} s") from None
        except OSError as error:
            raise ConnectFailed("DNS", host, os_reason(error)) from error
        self.passed("DNS", f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}")
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
                reason = f"{address[0]}: {os_reason(error)}"
            except asyncio.CancelledError:
                raw.close()
                raise
            else:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.passed("TCP", f"connected to {address[0]} port {port}")
                return raw
            raw.close()
        raise ConnectFailed("TCP", f"{host}:{port}", reason)


_pumps: set[asyncio.Task[None]] = set()
"""Keeps the tasks of tunnels alive: a loop holds only weak references."""


async def _pump(far: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes between a pair's far end and the proxy until either side ends."""
    loop = asyncio.get_running_loop()

    async def outwards() -> None:
        while content := await loop.sock_recv(far, 64 * 1024):
            writer.write(content)
            await writer.drain()

    async def inwards() -> None:
        while content := await reader.read(64 * 1024):
            await loop.sock_sendall(far, content)

    tasks = [asyncio.create_task(outwards()), asyncio.create_task(inwards())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            far.close()
        writer.transport.abort()


def describe_tls(transport: asyncio.BaseTransport) -> str:
    """Return one phrase about a finished handshake."""
    found: ssl.SSLObject = transport.get_extra_info("ssl_object")
    shown = found.getpeercert(binary_form=True)
    issuer = "" if shown is None else f" by {x509.load_der_x509_certificate(shown).issuer.rfc4514_string()}"
    return f"{found.version()}, certificate{issuer} accepted"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
