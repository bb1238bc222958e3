"""
API tokens. Stored is the SHA-256 of a secret of 160 random bits or more, which needs no slow hash.

Must not: see a secret, or decide what a role may do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from fairlead_relay.errors import NotFound
from fairlead_relay.store.applications import find_application
from fairlead_relay.store.organizations import find_organization
from fairlead_relay.store.outbox import iso_time
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
    name: str = ""
    """What people call it; they need not be unique."""
    application: str | None = None
    """The only application that it is good for; None: the whole organization."""


_COLUMNS = (
    api_tokens.c.id,
    api_tokens.c.organization,
    api_tokens.c.role,
    api_tokens.c.secret_sha256,
    api_tokens.c.created_at,
    api_tokens.c.expires_at,
    api_tokens.c.last_used_at,
    api_tokens.c.name,
    api_tokens.c.application,
)


_FIND: Final = select(*_COLUMNS).where(api_tokens.c.id == bindparam("of_id"))
"""Made once: every request asks, and making a statement costs more than running this one."""


def create_token(connection: Connection, token: ApiToken) -> None:
    """
    Store a token.

    Raises: NotFound: no such organization, or it has no such application.
    """
    find_organization(connection, token.organization)
    if token.application is not None:
        find_application(connection, token.organization, token.application)
    connection.execute(
        insert(api_tokens).values(
            id=token.id,
            organization=token.organization,
            role=token.role,
            secret_sha256=token.secret_sha256,
            created_at=token.created_at,
            expires_at=token.expires_at,
            name=token.name,
            application=token.application,
        )
    )


def find_token(connection: Connection, token_id: str) -> ApiToken | None:
    """Return a token by its id, also an expired one; None if unknown. The caller compares the secret and the expiry."""
    row = connection.execute(_FIND, {"of_id": token_id}).one_or_none()
    return None if row is None else _token(row)


def list_tokens(connection: Connection, organization: str, limit: int, after: str | None = None) -> list[ApiToken]:
    """Return at most `limit` tokens of an organization by id, those after the id `after`; empty at the end."""
    query = select(*_COLUMNS).where(api_tokens.c.organization == organization)
    if after is not None:
        query = query.where(api_tokens.c.id > after)
    return [_token(row) for row in connection.execute(query.order_by(api_tokens.c.id).limit(limit))]


def delete_token(connection: Connection, organization: str, token_id: str) -> ApiToken:
    """
    Forget a token: it is refused from now on, by every relay.

    Returns: What it was.
    Raises: NotFound: the organization has none of that id.
    """
    of = (api_tokens.c.organization == organization, api_tokens.c.id == token_id)
    row = connection.execute(delete(api_tokens).where(*of).returning(*_COLUMNS)).one_or_none()
    if row is None:
        raise NotFound("token", token_id)
    return _token(row)


def audited_token(token: ApiToken) -> dict[str, Any]:
    """Return what the audit log says of a token."""
    expires_at = None if token.expires_at is None else iso_time(token.expires_at)
    return {"name": token.name, "role": str(token.role), "application": token.application, "expires_at": expires_at}


def _token(row: Sequence[Any]) -> ApiToken:
    token_id, organization, role, *rest = row
    return ApiToken(token_id, organization, Role(role), *rest)


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
