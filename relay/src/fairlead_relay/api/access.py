"""
Who may call what: bearer tokens, roles, and a rule that denies unless a route says otherwise.

Every route is marked with `public` or `needs(role)`; one dependency of the whole application looks the mark up. A route
that somebody forgot to mark answers 403 to everybody. OIDC comes in here later: another way to a Caller, same marks.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request

from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.services import services_of
from fairlead_relay.pki.access_tokens import AccessToken
from fairlead_relay.store.tokens import Role, find_token, touch_token

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

_MARK: Final = "__fairlead_access__"
_PUBLIC: Final = "public"
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_RANK: Final = {Role.VIEWER: 1, Role.DEPLOYER: 2, Role.ADMIN: 3}
TOUCH_SECONDS: Final = 60.0
"""How exact a token's last use is kept: reads must not turn into writes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what a valid token says."""

    token_id: str
    organization: str
    role: Role
    expires_at: float | None
    """Seconds since the epoch; None for never."""


def public(endpoint: Endpoint) -> Endpoint:
    """Mark a route that needs no token."""
    setattr(endpoint, _MARK, _PUBLIC)
    return endpoint


def needs(role: Role) -> Callable[[Endpoint], Endpoint]:
    """Mark a route that needs a token of at least this role in the organization that its path names."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, role)
        return endpoint

    return mark


def role_of(endpoint: Callable[..., object]) -> Role | None:
    """
    Return the role that a route needs; None for one that is public.

    Raises: LookupError: it is not marked, so it answers nobody.
    """
    mark = getattr(endpoint, _MARK, None)
    if mark is None:
        raise LookupError(f"{endpoint.__name__} of {endpoint.__module__} is marked with neither public nor needs")
    return mark if isinstance(mark, Role) else None


async def authorize(request: Request) -> None:
    """
    Let a request through, or not; a dependency of the whole application.

    Raises: Problem: 401 without a valid token, 403 when its role or organization does not allow this.
    """
    mark = getattr(request.scope.get("endpoint"), _MARK, None)
    if mark == _PUBLIC:
        return
    caller = await _authenticate(request)
    if not isinstance(mark, Role) or _RANK[caller.role] < _RANK[mark]:
        wanted = mark if isinstance(mark, Role) else "that nobody has"
        detail = f"this needs the role {wanted}; the token has {caller.role}"
        raise Problem(HTTPStatus.FORBIDDEN, ApiCode.FORBIDDEN, detail)
    organization = request.path_params.get("organization", caller.organization)
    if organization != caller.organization:
        # The same answer whether the other organization exists or not.
        detail = f"the token is not for organization {organization[:63]!r}"
        raise Problem(HTTPStatus.FORBIDDEN, ApiCode.FORBIDDEN, detail)
    request.state.caller = caller


async def _authenticate(request: Request) -> Caller:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        detail = "send a token: Authorization: Bearer flt_…"
        raise Problem(HTTPStatus.UNAUTHORIZED, ApiCode.UNAUTHENTICATED, detail, headers=_CHALLENGE)
    services = services_of(request)
    now = services.clock()
    token = AccessToken.parse(text)
    found = await services.store.read(lambda connection: find_token(connection, token.token_id)) if token else None
    if (
        token is None
        or found is None
        or not hmac.compare_digest(found.secret_sha256, token.secret_sha256)
        or (found.expires_at is not None and found.expires_at <= now)
    ):
        detail = "the token is unknown or past its expiry; ask an administrator for a new one"
        raise Problem(HTTPStatus.UNAUTHORIZED, ApiCode.UNAUTHENTICATED, detail, headers=_CHALLENGE)
    if found.last_used_at is None or found.last_used_at < now - TOUCH_SECONDS:
        await services.store.write(lambda connection: touch_token(connection, found.id, now))
    return Caller(found.id, found.organization, found.role, found.expires_at)


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]
"""The caller of a marked route."""
