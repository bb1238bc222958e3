"""
HTTP connections that take neither for ever nor all memory: uvicorn's protocol with bounds on what a client sends.

A head must be complete within seconds and within a size, a body must go on. Such clients are answered and cut off;
whoever waits for the relay, as the reader of a stream does, is left alone.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request line with its header fields; the largest honest ones, with a long token and cookies, have a few KiB."""
HEAD_SECONDS: Final = 10.0
"""From the connection or from a request's first byte to the end of its head."""
BODY_SECONDS: Final = 30.0
"""Between two pieces of a body."""


class PatientProtocol(HttpToolsProtocol):
    """One connection of the API."""

    _waits_for_head = True
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, of a head no more than it may have."""
        while data and not self.transport.is_closing():
            piece = data
            if self._waits_for_head:
                room = MAX_HEAD_BYTES - self._head_bytes
                if room <= 0:
                    self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                    return
                piece = data[:room]
                self._head_bytes += len(piece)
                if self._timer is None:
                    self._wait(HEAD_SECONDS)
            elif self._timer is not None:
                self._wait(BODY_SECONDS)
            data = data[len(piece) :]
            super().data_received(piece)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        self._waits_for_head = False
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing until the next request begins; uvicorn ends connections that are kept for too long."""
        self._forget()
        self._waits_for_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _wait(self, seconds: float) -> None:
        self._forget()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.flow.read_paused:
            # It is the relay that does not take more now.
            self._wait(BODY_SECONDS)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, unless an answer has begun, and close."""
        self._forget()
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle  # None until the first request, whatever its type says
        if cycle is None or cycle.response_complete or not cycle.response_started:
            text = f"{status.phrase}\n"
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode()
            )
        self.transport.close()
