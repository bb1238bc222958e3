"""
Requests on the agent port, read by ourselves: an upgrade is handed on byte for byte, a poll has a bounded body.

Only what agents send is understood: no chunks, no folded lines, no second Content-Length. Whatever is ambiguous is
refused, so that nothing on the way can read it differently.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fairlead_relay.errors import RequestInvalid
from fairlead_relay.gateway.secure_stream import SecureStream

MAX_HEAD_BYTES = 8 * 1024
_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,1024}) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Request line and headers."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name; of a repeated one, the values separated by commas."""

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a websocket."""
        return "upgrade" in self.headers

    def body_bytes(self, limit: int) -> int:
        """Return the size of the body. Raises: RequestInvalid: it has another form, or is larger than the limit."""
        if "transfer-encoding" in self.headers:
            raise RequestInvalid(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
        length = self.headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise RequestInvalid(HTTPStatus.BAD_REQUEST, "the Content-Length is no number")
        if int(length) > limit:
            raise RequestInvalid(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {limit} bytes")
        return int(length)


def parse_head(content: bytes) -> RequestHead:
    """
    Read a request's head.

    Args:
        content: Up to and including the empty line.

    Raises: RequestInvalid: it is none that agents send.

    """
    lines = content[:-4].split(b"\r\n")
    first = _LINE.fullmatch(lines[0])
    if first is None:
        raise RequestInvalid(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise RequestInvalid(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        name, value = found[1].decode().lower(), found[2].decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return RequestHead(first[1].decode(), first[2].decode(), headers)


class RequestReader:
    """
    Reads one request after the other from a connection.

    Args:
        stream: The connection.

    """

    def __init__(self, stream: SecureStream) -> None:
        self._stream = stream
        self._held = b""

    async def head(self, seconds: float) -> tuple[RequestHead, bytes] | None:
        """
        Return the next request's head, parsed and as it came.

        Args:
            seconds: How long it may take.

        Returns: None when the client went away or sent nothing in time.
        Raises: RequestInvalid: it is none that agents send.

        """
        try:
            async with asyncio.timeout(seconds):
                while (end := self._held.find(b"\r\n\r\n")) < 0:
                    if len(self._held) > MAX_HEAD_BYTES:
                        raise RequestInvalid(
                            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large"
                        )
                    if not (more := await self._stream.read()):
                        return None
                    self._held += more
        except TimeoutError:
            return None
        head, self._held = self._held[: end + 4], self._held[end + 4 :]
        return parse_head(head), head

    async def body(self, size: int, seconds: float) -> bytes | None:
        """Return the body of the request; None when it did not arrive in time."""
        try:
            async with asyncio.timeout(seconds):
                parts = [self._held]
                missing = size - len(self._held)
                while missing > 0:
                    if not (more := await self._stream.read()):
                        return None
                    parts.append(more)
                    missing -= len(more)
        except TimeoutError:
            return None
        content = b"".join(parts)
        self._held = content[size:]
        return content[:size]

    def rest(self) -> bytes:
        """Return what was read after the last head, and forget it."""
        held, self._held = self._held, b""
        return held


def response(status: HTTPStatus, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a response, ready to be written."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
