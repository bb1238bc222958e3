"""Routes of API tokens: made, listed and revoked by an organization's administrators. A secret is shown once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.pki.access_tokens import AccessToken
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import ApiToken, Role, audited_token, create_token, delete_token, list_tokens
from fairlead_shared.identity import check_name

router = APIRouter(prefix="/v1/organizations/{organization}/tokens", tags=["tokens"])

EXPIRES_SECONDS = 90 * 86_400.0
"""Life of a token whose maker does not say: as for `fairlead-relay token create`."""
LONGEST_NAME = 100


class TokenCreate(Asked):
    """A new token."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "CI of the shop", "role": "deployer", "application": "shop"}]}
    )

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    """What people call it, such as who uses it."""
    role: Role
    application: Annotated[str, Field(max_length=63)] | None = None
    """The only application that it is good for; null: the whole organization."""
    expires_seconds: Annotated[float, Field(ge=60, le=10 * 366 * 86_400)] | None = EXPIRES_SECONDS
    """Its life; null: it never expires."""


class TokenShown(Shown):
    """A token, without its secret."""

    id: str
    name: str
    """Empty if it was given none."""
    role: Role
    application: str | None
    """The only application that it is good for; null: the whole organization."""
    created_at: str
    expires_at: str | None
    """Null: never."""
    last_used_at: str | None
    """To the minute; null: not yet."""


class TokenCreated(TokenShown):
    """A new token, with its secret."""

    token: str
    """The secret, shown this once."""


@router.post("", status_code=201)
@needs(Role.ADMIN, audit="token.create")
async def create(
    organization: OrganizationPath, body: TokenCreate, services: ServicesOf, trail: TrailOf
) -> TokenCreated:
    """Create a token and return its secret, this once."""
    application = None if body.application is None else check_name("application", body.application)
    made, now = AccessToken.generate(), services.clock()
    expires_at = None if body.expires_seconds is None else now + body.expires_seconds
    token = ApiToken(
        made.token_id,
        organization,
        body.role,
        made.secret_sha256,
        now,
        expires_at,
        name=body.name,
        application=application,
    )

    def write(connection: Connection) -> None:
        create_token(connection, token)
        trail.note(connection, f"token/{token.id}", after=audited_token(token))

    await services.store.write(write)
    return TokenCreated(token=made.text, **_show(token).model_dump())


@router.get("")
@needs(Role.ADMIN)
async def index(
    organization: OrganizationPath, services: ServicesOf, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[TokenShown]:
    """List the organization's tokens by id, expired ones too."""
    rows = await services.store.read(lambda connection: list_tokens(connection, organization, limit + 1, cursor))
    return page(rows, limit, _show, lambda row: row.id)


@router.delete("/{token_id}", status_code=204, response_class=Response)
@needs(Role.ADMIN, audit="token.revoke")
async def delete(
    organization: OrganizationPath,
    token_id: Annotated[str, Path(max_length=64)],
    services: ServicesOf,
    trail: TrailOf,
) -> Response:
    """Revoke a token: from now on every relay refuses it."""

    def write(connection: Connection) -> None:
        deleted = delete_token(connection, organization, token_id)
        trail.note(connection, before=audited_token(deleted))

    await services.store.write(write)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _show(token: ApiToken) -> TokenShown:
    return TokenShown(
        id=token.id,
        name=token.name,
        role=token.role,
        application=token.application,
        created_at=iso_time(token.created_at),
        expires_at=None if token.expires_at is None else iso_time(token.expires_at),
        last_used_at=None if token.last_used_at is None else iso_time(token.last_used_at),
    )
