"""
HTTP to one API server: authentication, bounded concurrency, time limits, retries, and answers translated to our errors.

Every request this agent makes can be sent again (reads, server-side apply, and deletes, creates and updates that carry
their precondition), so a broken connection, a 429 or a 5xx is retried with full jitter until the patience is used up.
Knows paths and bytes, not kinds.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from fairlead_agent.errors import KubeError, Throttled, Unexpected, Unreachable
from fairlead_agent.kube.access import ClusterAccess, TokenSource, TrustSource
from fairlead_agent.kube.gate import WriteGate
from fairlead_agent.kube.readiness import Readiness
from fairlead_agent.kube.slots import Slots
from fairlead_agent.kube.status import error_of
from fairlead_shared.backoff import full_jitter

CONCURRENCY = 16
"""Requests under way at once at most; more gain nothing on a small API server (8 to 16 measured alike)."""
REQUEST_SECONDS = 40.0
"""Longer than the API server's own limit of 34 s for a mutating request that waits for slow webhooks."""
CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long one request is retried: an API server's restart or failover takes 5 to 30 s."""
_BACKOFF_BASE_SECONDS = 0.2
_BACKOFF_CAP_SECONDS = 5.0
_LARGE_BYTES = 128 * 1024
"""A body from which on a connection is not used again: its TLS would keep a buffer as large."""
_STREAM_LINE_BYTES = 16 * 1024 * 1024
"""Largest watch event taken; etcd stores at most 1.5 MiB per object, doubled by JSON at worst."""
_USER_AGENT = "fairlead-agent"
_RETRIED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_TRANSIT_MILLISECONDS = 2_000
"""Bytes of a write that the API server's host does not acknowledge for so long are given up, by the kernel itself: also
while this process is frozen. See leadership.TRANSIT_SECONDS."""

_WARNING = re.compile(r'299 \S+ "(?P<text>(?:[^"\\]|\\.)*)"')
"""RFC 9111 §5.5 took this header out; the API server goes on in the form of RFC 7234 §5.5."""
_MOST_WARNINGS, _WARNING_CHARACTERS = 20, 1000

Observe = Callable[[str, int, float], None]
"""Takes method, status (0: no answer) and seconds of one try of a request."""
SocketFactory = Callable[[tuple[Any, ...]], socket.socket]
"""Makes the socket for an address; tests put it into another network namespace."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered to a request that it carried out."""

    status: int
    content: dict[str, Any]
    warnings: tuple[str, ...] = ()
    """Texts of its `Warning` headers, such as that a version is deprecated."""


@dataclass(slots=True)
class _Doubts:
    """What speaks for asking again, though a request was refused."""

    renewed: bool = False
    """The token was read again."""
    believed: bool = False
    """The API server was ready after it forbade this: the next refusal is one."""


class _GateShut(Exception):
    """The gate shut before the write began."""


class _GuardedBody(aiohttp.BytesPayload):
    """The body of a write. It looks at the gate right before it leaves; without its body a request is never begun."""

    def __init__(self, content: bytes, content_type: str, gate: WriteGate) -> None:
        super().__init__(content, content_type=content_type)
        self._gate = gate

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if self._gate.seconds_left() <= 0:
            raise _GateShut
        await super().write_with_length(writer, content_length)


class Transport:
    """
    One session with one API server. Use as an asynchronous context manager.

    Args:
        access: The API server and the identity there.
        socket_factory: Makes sockets; None: the usual ones.
        concurrency: Requests under way at once at most; fewer while the API server says that it is too much.
        patience_seconds: How long one request is tried again.
        gate: What writes pass; None: they need not ask. With a gate, a write is bounded by what the gate leaves it, on
            this side and by the API server.
        observe: Called after each try of a request; not for watches.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        socket_factory: SocketFactory | None = None,
        concurrency: int = CONCURRENCY,
        patience_seconds: float = PATIENCE_SECONDS,
        gate: WriteGate | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        self._observe = observe
        self.server = access.server
        self.watches = 0
        """Watches that are open now; each is a connection."""
        self._gate = gate
        self._socket_factory = socket_factory or (None if gate is None else _impatient_socket)
        self._token = TokenSource(access)
        self._trust = TrustSource(access)
        self._slots = Slots(concurrency, time.monotonic)
        self._patience_seconds = patience_seconds
        self._readiness = Readiness(self._ask_readiness)
        self._asking: aiohttp.ClientSession | None = None
        self._watching: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._trust.current()
        self._asking = self._new_session()
        # A connection keeps the buffers that its largest answer took, for as long as a watch goes on: none that a list
        # went through becomes a watch.
        self._watching = self._new_session()
        return self

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # requests are bounded by the slots, watches by who asks for them
            keepalive_timeout=30,
            socket_factory=self._socket_factory,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": _USER_AGENT},
            auto_decompress=True,
            raise_for_status=False,
            trust_env=False,
            read_bufsize=_STREAM_LINE_BYTES,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._asking, self._watching):
            if session is not None:
                await session.close()
        self._asking = self._watching = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """
        Send one request and return its answer.

        Args:
            method: HTTP method.
            path: Path below the server's URL.
            what: The object or collection asked for, for errors.
            query: Query parameters.
            body: JSON to send.
            content_type: Media type of the body.
            accept: Media types taken.
        Returns: The answer, of a status 2xx.
        Raises: KubeError: every other answer; Unreachable or Throttled once the patience is used up.
        """
        status, answer, warnings = await self._exchange(method, path, what, query, body, content_type, accept)
        return Answer(status, _object_of(answer, what), warnings)

    async def text(self, path: str, *, what: str, query: Mapping[str, str]) -> str:
        """
        Read what is no JSON, such as a log; bytes that are no UTF-8 are replaced.

        Args:
            path: Path below the server's URL.
            what: What is asked for, for errors.
            query: Query parameters; they bound the answer.
        Raises: KubeError: as `request`.
        """
        _, answer, _ = await self._exchange("GET", path, what, query, None, "", "*/*")
        return answer.decode(errors="replace")

    async def _exchange(
        self,
        method: str,
        path: str,
        what: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        content_type: str,
        accept: str,
    ) -> tuple[int, bytes, tuple[str, ...]]:
        """Send one request until it is answered: status 2xx, body and warnings."""
        content = None if body is None else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        headers = _headers(content, content_type, accept)
        gate = None if method == "GET" or (query and "dryRun" in query) else self._gate
        ends = time.monotonic() + self._patience_seconds
        doubts = _Doubts()
        attempt = 0
        while True:
            retry_after = 0.0
            trouble: KubeError
            await self._pass_gate(gate, ends)
            began = time.monotonic()
            try:
                status, answer, retry_after, warnings = await self._send(method, path, query, content, headers, gate)
            except _GateShut:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._note(method, 0, began)
                trouble = self._unreachable(error)
            else:
                self._note(method, status, began)
                if status < HTTPStatus.BAD_REQUEST:
                    return status, answer, warnings
                trouble = error_of(status, answer, what, retry_after)
                if await self._is_doubtful(status, doubts):
                    continue
                if not _is_passing(status, retry_after, doubts):
                    raise trouble
                if not isinstance(trouble, Throttled):
                    trouble = Unreachable(self.server, str(trouble))
            attempt += 1
            pause = max(retry_after, _pause(attempt))
            if time.monotonic() + pause > ends:
                raise trouble
            await asyncio.sleep(pause)

    async def _is_doubtful(self, status: int, doubts: _Doubts) -> bool:
        """Tell whether to ask again at once."""
        if status == HTTPStatus.UNAUTHORIZED and not doubts.renewed:
            doubts.renewed = True
            self._token.reread()
            return True
        if status == HTTPStatus.FORBIDDEN and not doubts.believed:
            doubts.believed = await self._readiness.is_ready()
            return doubts.believed
        return False

    async def _ask_readiness(self) -> int:
        try:
            return (await self._send("GET", "/readyz", None, None, {"Accept": "text/plain"}, None))[0]
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    def _note(self, method: str, status: int, began: float) -> None:
        """Count a try, and learn from its answer how many may be under way."""
        self._observe(method, status, time.monotonic() - began)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._slots.throttled(began)
        elif 0 < status < HTTPStatus.BAD_REQUEST:
            self._slots.went_well()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str],
        gate: WriteGate | None,
    ) -> tuple[int, bytes, float, tuple[str, ...]]:
        async with self._slots:
            seconds = REQUEST_SECONDS
            body: bytes | _GuardedBody | None = content
            if gate is not None:
                seconds = gate.seconds_left()
                if seconds <= 0:
                    raise _GateShut
                # The API server's limit holds even if this process is frozen now and never hangs up.
                query = {**(query or {}), "timeout": f"{seconds * 1000:.0f}ms"}
                body = _GuardedBody(content or b"", headers.get("Content-Type", "application/json"), gate)
            async with self._opened(self._asking).request(
                method,
                self.server + path,
                params=query,
                data=body,
                headers={**headers, **self._authorization()},
                ssl=self._trust.current(),
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
            ) as response:
                warnings = _warnings(response.headers.getall("Warning", []))
                return response.status, await response.read(), _retry_after(response), warnings

    async def _pass_gate(self, gate: WriteGate | None, ends: float) -> None:
        """Wait for the gate as long as for an API server that is away, which is why it is shut as a rule."""
        if gate is None:
            return
        try:
            async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                await gate.opened()
        except TimeoutError:
            raise Unreachable(self.server, "the agent's Lease could not be renewed, so it may not write") from None

    @asynccontextmanager
    async def stream(
        self, path: str, *, what: str, query: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """
        Open a watch and give its lines as JSON objects; it is not retried here.

        Args:
            path: Path of the collection.
            what: The collection, for errors.
            query: Query parameters, with `watch=1`.
            silence_seconds: The stream ends with Unreachable when nothing comes for so long.
        Raises: KubeError: the watch was refused, or broke.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        try:
            response = await self._open_stream(path, what, query, limits)
            self.watches += 1
            try:
                yield _lines(response)
            finally:
                self.watches -= 1
                response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(error) from error

    async def _open_stream(
        self, path: str, what: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        doubts = _Doubts()
        while True:
            response = await self._opened(self._watching).get(
                self.server + path,
                params=query,
                headers={"Accept": "application/json", **self._authorization()},
                ssl=self._trust.current(),
                timeout=limits,
                allow_redirects=False,
            )
            if response.status == HTTPStatus.OK:
                _release_write_buffer(response)
                return response
            try:
                trouble = error_of(response.status, await response.read(), what, _retry_after(response))
            finally:
                response.close()
            if await self._is_doubtful(response.status, doubts):
                continue
            if response.status == HTTPStatus.FORBIDDEN and not doubts.believed:
                raise Unreachable(self.server, f"it is starting: {trouble}")
            raise trouble

    def _unreachable(self, error: BaseException) -> Unreachable:
        if isinstance(error, aiohttp.ClientSSLError):
            self._trust.reread()  # the cluster's CA may have been changed a moment ago
        return Unreachable(self.server, _reason(error))

    def _opened(self, session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
        if session is None:
            raise Unreachable(self.server, "the client is closed")
        return session

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.current()}"}


def _impatient_socket(address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TRANSIT_MILLISECONDS)
    return made


def _release_write_buffer(response: aiohttp.ClientResponse) -> None:
    """
    Have OpenSSL give back 17 KiB that it keeps until the next write, which a watch never makes.

    It took them for the session ticket that came before the answer. A write of nothing sends nothing.

    Source: https://docs.openssl.org/3.0/man3/SSL_write/ (NOTES), https://docs.openssl.org/3.0/man3/SSL_CTX_set_mode/
        (SSL_MODE_RELEASE_BUFFERS)
    """
    transport = None if response.connection is None else response.connection.transport
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    if tls is not None:
        tls.write(b"")


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.strip():
            yield json.loads(line)


def _is_passing(status: int, retry_after: float, doubts: _Doubts) -> bool:
    """Tell whether an answer says only that now is not the time."""
    if status == HTTPStatus.FORBIDDEN:
        return not doubts.believed
    # A 500 with Retry-After (etcd changes its leader) asks to come again; without, it is an answer.
    return status in _RETRIED or (status == HTTPStatus.INTERNAL_SERVER_ERROR and retry_after > 0)


def _headers(content: bytes | None, content_type: str, accept: str) -> dict[str, str]:
    headers = {"Accept": accept}
    if content is not None:
        headers["Content-Type"] = content_type
        if len(content) > _LARGE_BYTES:
            headers["Connection"] = "close"
    return headers


def _object_of(answer: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except ValueError as error:
        raise Unexpected(HTTPStatus.OK, f"{what}: an answer that is no JSON") from error
    if not isinstance(parsed, dict):
        raise Unexpected(HTTPStatus.OK, f"{what}: an answer that is no JSON object")
    return parsed


def _warnings(headers: Sequence[str]) -> tuple[str, ...]:
    texts = [found["text"] for header in headers[:_MOST_WARNINGS] for found in _WARNING.finditer(header)]
    return tuple(re.sub(r"\\(.)", r"\1", text)[:_WARNING_CHARACTERS] for text in texts)


def _retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "0")), 0.0), PATIENCE_SECONDS)
    except ValueError:
        return 0.0


def _pause(attempt: int) -> float:
    return full_jitter(
        attempt,
        base_seconds=_BACKOFF_BASE_SECONDS,
        cap_seconds=_BACKOFF_CAP_SECONDS,
        random_unit=random.random(),  # noqa: S311  (spreads retries; nothing secret)
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
