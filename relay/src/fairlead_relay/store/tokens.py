"""
API tokens. Stored is the SHA-256 of a secret of 160 random bits or more, which needs no slow hash.

Must not: see a secret, or decide what a role may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from fairlead_relay.store.organizations import find_organization
from fairlead_relay.store.schema import api_tokens


class Role(StrEnum):
    """What a token's holder may do in its organization; each role may do what those after it may."""

    ADMIN = "admin"
    DEPLOYER = "deployer"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as stored, without its secret."""

    id: str
    organization: str
    role: Role
    secret_sha256: str
    """Lower-case hex."""
    created_at: float
    """Seconds since the epoch."""
    expires_at: float | None
    """Seconds since the epoch; None: never."""
    last_used_at: float | None = None
    """Seconds since the epoch, to the minute; None: never."""


_COLUMNS = (
    api_tokens.c.id,
    api_tokens.c.organization,
    api_tokens.c.role,
    api_tokens.c.secret_sha256,
    api_tokens.c.created_at,
    api_tokens.c.expires_at,
    api_tokens.c.last_used_at,
)


def create_token(connection: Connection, token: ApiToken) -> None:
    """
    Store a token.

    Raises: NotFound: no such organization.
    """
    find_organization(connection, token.organization)
    connection.execute(
        insert(api_tokens).values(
            id=token.id,
            organization=token.organization,
            role=token.role,
            secret_sha256=token.secret_sha256,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )


def find_token(connection: Connection, token_id: str) -> ApiToken | None:
    """Return a token by its id, also an expired one; None if unknown. The caller compares the secret and the expiry."""
    row = connection.execute(select(*_COLUMNS).where(api_tokens.c.id == token_id)).one_or_none()
    if row is None:
        return None
    return ApiToken(
        row.id, row.organization, Role(row.role), row.secret_sha256, row.created_at, row.expires_at, row.last_used_at
    )


def touch_token(connection: Connection, token_id: str, now: float, at_most_every_seconds: float = 60.0) -> None:
    """Note that a token was used; at most once in so many seconds, so that reads do not turn into writes."""
    connection.execute(
        update(api_tokens)
        .where(
            api_tokens.c.id == token_id,
            (api_tokens.c.last_used_at.is_(None)) | (api_tokens.c.last_used_at < now - at_most_every_seconds),
        )
        .values(last_used_at=now)
    )
