"""
Accepts TCP connections no faster than their TLS handshakes can be afforded, and gives each its own task.

A fleet that returns after an outage must not starve the agents that are already back: what is not accepted yet waits in
the kernel's queue, and then in the agents' own backoff. Must not know what is spoken on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

import structlog

from fairlead_relay.gateway.secure_stream import SecureStream

HANDSHAKE_SECONDS = 10.0
"""For the TLS handshake: three round trips over a very slow line."""
HANDSHAKES_PER_SECOND = 400.0
"""At 1.8 ms of CPU each they leave a quarter of the loop's core to the agents that are connected."""
HANDSHAKES_BURST = 50.0
"""Accepted at once, 90 ms of CPU: a lone agent never waits."""
HANDSHAKES_AT_ONCE = 1000
"""Under way at the same time; clients that never finish theirs hold a place for HANDSHAKE_SECONDS."""
EXHAUSTED_SECONDS = 0.5
"""Pause when the process has no descriptors left."""

_log = structlog.get_logger(__name__)


class Listener:
    """
    The listening socket and the tasks of its connections.

    Args:
        context: TLS.
        serve: Called with each connection whose handshake is done; it is closed when that returns.
        monotonic: Monotonic seconds.
        on_refused: Called with `tls` for each handshake that failed.

    """

    def __init__(
        self,
        context: ssl.SSLContext,
        serve: Callable[[SecureStream], Awaitable[None]],
        monotonic: Callable[[], float],
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_refused = on_refused
        self._context = context
        self._serve = serve
        self._pace = Pace(HANDSHAKES_PER_SECOND, HANDSHAKES_BURST, monotonic())
        self._monotonic = monotonic
        self._places = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def start(self, listener: socket.socket) -> None:
        """Accept from a listening socket."""
        listener.settimeout(0)  # the loop wants it non-blocking
        self._socket = listener
        self._accepting = asyncio.create_task(self._accept(listener), name="gateway/accept")

    async def stop(self, seconds: float) -> None:
        """
        Accept no more and wait for the connections to end; complete on return.

        Args:
            seconds: After so long, what is left is cut off.

        """
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        if self._socket is not None:
            self._socket.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._places.release()
                _log.error("a connection was not accepted", reason=error.strerror)
                await asyncio.sleep(EXHAUSTED_SECONDS)
                continue
            task = asyncio.create_task(self._run(accepted), name="gateway/connection")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(self._pace.take(self._monotonic()))

    async def _run(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        stream = None
        peer = _named(accepted)
        try:
            try:
                with contextlib.suppress(OSError):
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _, stream = await loop.connect_accepted_socket(lambda: SecureStream(self._context), accepted)
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    await stream.handshake()
            finally:
                self._places.release()
            await self._serve(stream)
        except ssl.SSLError as error:
            said = getattr(error, "verify_message", "") or error.reason or str(error)
            self._on_refused("tls")
            _log.info("TLS handshake refused", peer=peer, reason=said)
        except (OSError, TimeoutError) as error:
            _log.debug("connection ended early", peer=peer, reason=str(error) or type(error).__name__)
        except Exception:  # noqa: BLE001  (task boundary: a defect must not end the others)
            _log.exception("connection failed", peer=peer)
        finally:
            if stream is None:
                accepted.close()
            else:
                stream.close()


class Pace:
    """
    A token bucket that says how long to wait instead of refusing.

    Args:
        per_second: How many in the long run.
        burst: How many at once.
        now: Monotonic seconds.

    """

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one; returns how many seconds to wait before the next."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second) - 1
        self._at = now
        return max(0.0, -self._left / self._per_second)


def _named(accepted: socket.socket) -> str:
    try:
        return str(accepted.getpeername()[0])
    except OSError:
        return "gone"
