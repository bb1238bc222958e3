"""Runs the API on a listening socket: uvicorn inside the relay's own loop, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from fairlead_relay.api.patient_protocol import PatientProtocol

GRACE_SECONDS = 5
"""How long requests under way may take once the relay stops."""
HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 1.0
"""Clients that keep a connection in a pool do not answer the end of TLS: there is nothing to wait for."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the relay, which stops more than this server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, with limits on TLS that it has no setting for."""
        config, loop = self.config, asyncio.get_running_loop()

        def make_protocol() -> asyncio.Protocol:
            protocol: asyncio.Protocol = PatientProtocol(config, self.server_state, {}, loop)
            return protocol

        self.servers = [
            await loop.create_server(
                make_protocol,
                sock=listener,
                ssl=config.ssl,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if config.ssl else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if config.ssl else None,
            )
            for listener in sockets or []
        ]
        self.started = True


class ApiServer:
    """
    The API's listener.

    Args:
        app: The application.
        context: TLS; None to speak plain HTTP behind an ingress.

    """

    def __init__(self, app: ASGIApp, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,  # longer than clients and ingresses keep idle connections: they close first, no race
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket; ready on return."""
        task = self._task = asyncio.create_task(self._server.serve([listener]), name="api")
        while not self._server.started:
            done, _ = await asyncio.wait({task}, timeout=0.01)
            if done:
                task.result()
                raise RuntimeError("the API's server ended while it started")

    async def stop(self) -> None:
        """Finish requests under way, at most for the grace period, and close; idempotent, complete on return."""
        task, self._task = self._task, None
        if task is not None:
            self._server.should_exit = True
            await task
