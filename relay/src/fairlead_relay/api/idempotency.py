"""
Idempotency keys: a POST that is sent again with its key has its effect once, and the same answer both times.

For clients whose connection broke before the answer came. The key belongs to the token that sent it. Answers are kept
sealed to this token's secret, which the relay does not have: some of them hold a secret that is shown once.
Source: draft-ietf-httpapi-idempotency-key-header-06: another request with the same key is 422, one under way 409.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from http import HTTPStatus
from typing import Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request as HttpRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead_relay.api.access import authenticate
from fairlead_relay.api.problems import ApiCode, Problem, store_failed
from fairlead_relay.api.services import Services
from fairlead_relay.errors import StoreUnavailable, StoreUnusable
from fairlead_relay.store.idempotency import Claim, Request, claim_key, mark_key, release_key, settle_key
from fairlead_relay.store.writer import riding

HEADER: Final = "idempotency-key"
LONGEST_KEY: Final = 255
MAX_BODY_BYTES: Final = 4 << 20
"""The largest body of any POST; one that is over it goes to its route, which refuses it."""
MAX_ANSWER_BYTES: Final = 256 * 1024
"""Of an answer that is kept. Larger ones are those to deployments, whose own id makes them safe to send again."""
_NONCE_BYTES: Final = 12
_KEPT_HEADERS: Final = (b"content-type", b"etag", b"location")
_PASSING: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Refusals before anything was tried: the next try may fare better."""
_log = structlog.get_logger(__name__)


class IdempotencyKeys:
    """
    ASGI middleware: serves a POST with a key once.

    Args:
        app: What it wraps.
        services: The relay's parts.

    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        given = dict(scope.get("headers", ())).get(HEADER.encode()) if scope["type"] == "http" else None
        if given is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send, _key(given))
        except Problem as problem:
            await problem.response()(scope, receive, send)
        except (StoreUnavailable, StoreUnusable) as error:
            await store_failed(error, scope["method"], scope["path"]).response()(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        http, services = HttpRequest(scope), self._services
        caller = await authenticate(http, services)
        sealing = _Sealing(http.headers["authorization"], key)
        body = await _read(receive)
        if body is None:
            return
        asked = b"\0".join([scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), body])
        request = Request(caller.token_id, key, hashlib.sha256(asked).hexdigest())
        now = services.clock()
        claim = await services.store.write(lambda connection: claim_key(connection, request, now))
        match claim:
            case Claim.BUSY:
                detail = "a request with this key is under way; wait for its answer"
                raise Problem(
                    HTTPStatus.CONFLICT,
                    ApiCode.IDEMPOTENCY_KEY_BUSY,
                    detail,
                    field=HEADER,
                    headers={"Retry-After": "1"},
                )
            case Claim.DIFFERENT:
                raise _reused()
            case Claim.CARRIED_OUT:
                detail = (
                    "this request was carried out, and its answer was lost with the relay that served it; look at what "
                    "there is now"
                )
                raise Problem(HTTPStatus.CONFLICT, ApiCode.IDEMPOTENCY_ANSWER_LOST, detail, field=HEADER)
            case Claim.FRESH:
                await self._carry_out(scope, _again(body, receive), send, request, sealing)
            case bytes():
                await _replay(send, sealing.open(claim))

    async def _carry_out(self, scope: Scope, receive: Receive, send: Send, request: Request, sealing: _Sealing) -> None:
        """Let the application answer, and keep the answer before it is sent: who sees it can rely on it."""
        store, clock, answer = self._services.store, self._services.clock, _Answer()
        try:
            with riding(lambda connection: mark_key(connection, request, clock())):
                await self._app(scope, receive, answer.take)
        finally:
            if answer.is_kept:
                sealed, now = sealing.seal(answer), clock()
                await store.write(lambda connection: settle_key(connection, request, sealed, now))
            else:
                # A request that was cut off here is tried again: its key must not say that it is under way.
                await store.write(lambda connection: release_key(connection, request))
            for message in answer.messages if answer.is_complete else ():
                await send(message)


class _Answer:
    """An answer on its way, held back."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.status = 0
        self.body = bytearray()
        self.is_complete = False

    @property
    def is_kept(self) -> bool:
        """Whether it is what every later try gets, too."""
        is_final = 0 < self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in _PASSING
        return self.is_complete and is_final and len(self.body) <= MAX_ANSWER_BYTES

    async def take(self, message: Message) -> None:
        """Hold one message back."""
        self.messages.append(message)
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        else:
            self.body += message.get("body", b"")
            self.is_complete = not message.get("more_body", False)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Those that are kept."""
        sent = self.messages[0].get("headers", ())
        return [(name.decode(), value.decode("latin-1")) for name, value in sent if name in _KEPT_HEADERS]


class _Sealing:
    """Seals answers to the secret of a token and the key that it sent."""

    def __init__(self, authorization: str, key: str) -> None:
        # The secret has 160 random bits: one hash makes a key of it.
        self._cipher = AESGCM(hashlib.sha256(b"fairlead/idempotency/" + authorization.encode("latin-1")).digest())
        self._key = key.encode()

    def seal(self, answer: _Answer) -> bytes:
        """Return an answer as it is stored."""
        body = base64.b64encode(answer.body).decode()
        plain = json.dumps({"status": answer.status, "headers": answer.headers, "body": body}).encode()
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, self._key)

    def open(self, sealed: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of a stored answer."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._key)
        except InvalidTag:
            # The same token in another spelling of its header, such as in its scheme.
            raise _reused() from None
        found = json.loads(plain)
        return found["status"], found["headers"], base64.b64decode(found["body"])


def _key(given: bytes) -> str:
    """Read the header: a string, in quotes as the draft has it or without."""
    key = given.decode("latin-1").strip().removeprefix('"').removesuffix('"')
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        detail = f"{HEADER}: give 1-{LONGEST_KEY} printable ASCII characters, a fresh UUID at best"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail, field=HEADER)
    return key


def _reused() -> Problem:
    detail = "this key was used for another request; make a fresh one for each"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.IDEMPOTENCY_KEY_REUSED, detail, field=HEADER)


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body; None when the client went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            detail = "the body is larger than this route takes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ApiCode.TOO_LARGE, detail)
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    unread = [body]

    async def give() -> Message:
        return {"type": "http.request", "body": unread.pop(), "more_body": False} if unread else await receive()

    return give


async def _replay(send: Send, answer: tuple[int, list[tuple[str, str]], bytes]) -> None:
    status, headers, body = answer
    told = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    told += [(b"content-length", str(len(body)).encode()), (b"idempotent-replayed", b"true")]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
