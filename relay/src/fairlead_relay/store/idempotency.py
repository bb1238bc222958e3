"""
Requests that were made with an idempotency key, and what was answered, as long as a client may ask again.

Must not: read an answer; it is sealed by whoever stores it, since some hold a secret that is shown once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from fairlead_relay.store.schema import idempotency_keys

KEPT_SECONDS: Final = 86_400.0
"""How long an answer is kept: a day of retries."""
CLAIM_SECONDS: Final = 60.0
"""How long a request may be under way. Longer ones were cut off with their relay."""


class Claim(Enum):
    """What a request with a key is to do, where no answer is stored."""

    FRESH = "fresh"
    """Carry it out, then `settle` or `release` the key."""
    BUSY = "busy"
    """The same request is under way."""
    DIFFERENT = "different"
    """The key was used for another request."""
    CARRIED_OUT = "carried out"
    """The request had its effect, and its answer was lost with the relay that served it."""


_NO_ANSWER: Final = b""
"""Stored with a request's effect, until its answer is. No sealed answer is empty."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its key."""

    token_id: str
    """Keys of different tokens have nothing to do with each other."""
    key: str
    sha256: str
    """Of method, path and body, lower-case hex."""


def claim_key(connection: Connection, request: Request, now: float) -> Claim | bytes:
    """
    Take a key for a request, or tell what became of the one that has it; expired keys are forgotten.

    Args:
        connection: In a write.
        request: Who asks for what.
        now: Seconds since the epoch.
    Returns: What to do, or the sealed answer to give again.
    """
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= now))
    found = connection.execute(
        select(idempotency_keys.c.request_sha256, idempotency_keys.c.answer, idempotency_keys.c.expires_at).where(
            _is(request)
        )
    ).one_or_none()
    if found is None:
        connection.execute(
            insert(idempotency_keys).values(
                token_id=request.token_id,
                key=request.key,
                request_sha256=request.sha256,
                expires_at=now + CLAIM_SECONDS,
            )
        )
        return Claim.FRESH
    if found.request_sha256 != request.sha256:
        return Claim.DIFFERENT
    if found.answer is None:
        return Claim.BUSY
    if bytes(found.answer) == _NO_ANSWER:
        marked_at = found.expires_at - KEPT_SECONDS
        return Claim.BUSY if now < marked_at + CLAIM_SECONDS else Claim.CARRIED_OUT
    return bytes(found.answer)


def mark_key(connection: Connection, request: Request, now: float) -> None:
    """Note, in the transaction of a request's effect, that it has had it: it is not carried out again."""
    connection.execute(
        update(idempotency_keys)
        .where(_is(request), idempotency_keys.c.request_sha256 == request.sha256, idempotency_keys.c.answer.is_(None))
        .values(answer=_NO_ANSWER, expires_at=now + KEPT_SECONDS)
    )


def settle_key(connection: Connection, request: Request, answer: bytes, now: float) -> None:
    """Keep the answer to a request for whoever asks again with its key."""
    connection.execute(
        update(idempotency_keys)
        .where(_is(request), idempotency_keys.c.request_sha256 == request.sha256)
        .values(answer=answer, expires_at=now + KEPT_SECONDS)
    )


def release_key(connection: Connection, request: Request) -> None:
    """Forget a request that had no effect, so that the next try is carried out."""
    connection.execute(delete(idempotency_keys).where(_is(request), idempotency_keys.c.answer.is_(None)))


def _is(request: Request) -> ColumnElement[bool]:
    return and_(idempotency_keys.c.token_id == request.token_id, idempotency_keys.c.key == request.key)
