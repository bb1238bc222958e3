"""
Inner TLS: the session's own TLS 1.3 connection, inside the messages of a channel whose TLS somebody on the way ends.

Where a network inspects TLS, no client certificate passes and the certificate presented is not the relay's. Both then
prove themselves one layer further in, by the same protocol, certificates and checks as everywhere else: whoever ends
the outer TLS can delay and cut, and neither read, alter, replay nor pose as either side. Nothing here is a protocol of
our own but the length before each frame.

Sans-I/O: the owner moves messages, in order and without loss, as every channel does:

    start()              the agent's side speaks first
    receive(bytes)       one message that came in; returns the frames that are complete now
    send(frame)          once is_established
    data_to_send()       messages to write, each once; after every other verb, also after one that raised

Source: RFC 8446 (the handshake signs both sides' fresh randoms, and binds the keys to them: §4.4.3, §7.1).
"""

from __future__ import annotations

import contextlib
import ssl
import struct

from fairlead_shared.errors import ErrorCode, FrameInvalid
from fairlead_shared.frames import MAX_FRAME_BYTES

PATH_SUFFIX = "/inner-tls"
"""Follows the path of a websocket or long-poll request whose messages carry inner TLS."""
_LENGTH = struct.Struct(">I")
_READ_BYTES = 64 * 1024


class InnerTls:
    """
    One side of one inner connection.

    Args:
        context: Whom to trust and what to present, as for any other TLS connection of this side.
        server_name: The agent's side: the relay's host, which its certificate must name. None: the relay's side.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._plain = bytearray()
        self.is_established = False
        """Whether the handshake is done. For the agent, the relay may still refuse its certificate: see receive()."""
        self.is_over = False
        """Whether the peer ended it in due form, or it broke; nothing is received any more."""

    def start(self) -> None:
        """Begin the handshake, from the agent's side."""
        self._step()

    def receive(self, content: bytes) -> list[bytes]:
        """
        Take one message.

        Args:
            content: As it came; anybody on the way may have made it.
        Returns: Frames of the peer, in order.
        Raises:
            ssl.SSLError: it is not what the peer sent, or one side does not accept the other's certificate. TLS 1.3
                tells the agent so with the first message after its handshake.
            FrameInvalid: a frame over the limit.
        """
        if self.is_over:
            return []
        self._incoming.write(content)
        try:
            self._step()
            if self.is_established:
                self._read()
            return self._complete()
        except (ssl.SSLError, FrameInvalid):
            self.is_over = True
            raise

    def send(self, frame: bytes) -> None:
        """Encrypt one frame; without effect when the connection is over."""
        if self.is_over:
            return
        content = memoryview(_LENGTH.pack(len(frame)) + frame)
        while content:
            content = content[self._tls.write(content) :]

    def close(self) -> None:
        """Say goodbye; idempotent."""
        if self.is_established and not self.is_over:
            # Always "want read": the peer's goodbye is not waited for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self.is_over = True

    def data_to_send(self) -> list[bytes]:
        """Return messages to write now, each within the limit of a frame."""
        pieces = []
        while self._outgoing.pending:
            pieces.append(self._outgoing.read(MAX_FRAME_BYTES))
        return pieces

    def peer_certificate(self) -> bytes | None:
        """Return the peer's certificate, verified by the handshake, in DER form; None without one."""
        return self._tls.getpeercert(binary_form=True)

    def _step(self) -> None:
        if not self.is_established:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                self.is_established = True

    def _read(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            while content := self._tls.read(_READ_BYTES):
                self._plain += content
            self.is_over = True

    def _complete(self) -> list[bytes]:
        frames = []
        at = 0
        while len(self._plain) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._plain, at)
            if size > MAX_FRAME_BYTES:
                raise FrameInvalid(ErrorCode.TOO_LARGE, f"{size:,} bytes, the limit is {MAX_FRAME_BYTES:,}")
            if len(self._plain) - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            frames.append(bytes(self._plain[at : at + size]))
            at += size
        del self._plain[:at]
        return frames
