"""
Who may call what: bearer tokens, roles, and a rule that denies unless a route says otherwise.

Every route is marked with `public` or `needs(role)`; one dependency of the whole application looks the mark up. A route
that somebody forgot to mark answers 403 to everybody. A token for one application is let in where the path names this
application, or a job or deployment of it, and where a route says that it narrows its answer itself; nowhere else. OIDC
comes in here later: another way to a Caller, same marks.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request

from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.rate_limits import note
from fairlead_relay.api.services import Services, services_of
from fairlead_relay.errors import NotFound, StoreError
from fairlead_relay.pki.access_tokens import AccessToken
from fairlead_relay.store.deployments import find_deployment
from fairlead_relay.store.jobs import find_job
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
    application: str | None
    """The only application that the token is good for; None: the whole organization."""
    name: str
    """What people call the token."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a route asks of its caller."""

    role: Role
    narrows: bool
    audit: str | None


def public(endpoint: Endpoint) -> Endpoint:
    """Mark a route that needs no token."""
    setattr(endpoint, _MARK, _PUBLIC)
    return endpoint


def needs(role: Role, *, narrows: bool = False, audit: str | None = None) -> Callable[[Endpoint], Endpoint]:
    """
    Mark a route that needs a token of at least this role in the organization that its path names.

    Args:
        role: The least one.
        narrows: Whether the route itself keeps a token for one application from all others, though its path names none.
        audit: What its records in the audit log are called, for a route that changes something; see auditing.py.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, _Mark(role, narrows, audit))
        return endpoint

    return mark


def audit_verb_of(endpoint: object) -> str | None:
    """Return what a route's records in the audit log are called; None for one that changes nothing."""
    mark = getattr(endpoint, _MARK, None)
    return mark.audit if isinstance(mark, _Mark) else None


def role_of(endpoint: Callable[..., object]) -> Role | None:
    """
    Return the role that a route needs; None for one that is public.

    Raises: LookupError: it is not marked, so it answers nobody.
    """
    mark = getattr(endpoint, _MARK, None)
    if mark is None:
        raise LookupError(f"{endpoint.__name__} of {endpoint.__module__} is marked with neither public nor needs")
    return mark.role if isinstance(mark, _Mark) else None


async def authorize(request: Request) -> None:
    """
    Let a request through, or not; a dependency of the whole application.

    Raises: Problem: 401 without a valid token, 403 when its role or organization does not allow this, 429 when there
        were too many requests.
    """
    mark = getattr(request.scope.get("endpoint"), _MARK, None)
    if mark == _PUBLIC:
        return
    caller = await authenticate(request, services_of(request))
    if not isinstance(mark, _Mark) or _RANK[caller.role] < _RANK[mark.role]:
        wanted = mark.role if isinstance(mark, _Mark) else "that nobody has"
        detail = f"this needs the role {wanted}; the token has {caller.role}"
        raise Problem(HTTPStatus.FORBIDDEN, ApiCode.FORBIDDEN, detail)
    organization = request.path_params.get("organization", caller.organization)
    if organization != caller.organization:
        # The same answer whether the other organization exists or not.
        detail = f"the token is not for organization {organization[:63]!r}"
        raise Problem(HTTPStatus.FORBIDDEN, ApiCode.FORBIDDEN, detail)
    if caller.application is not None and not mark.narrows:
        await _check_application(request, caller.organization, caller.application)
    request.state.caller = caller


async def _check_application(request: Request, organization: str, application: str) -> None:
    """Refuse what is not of the one application that a token is for; a job of another one does not exist for it."""
    path, store = request.path_params, services_of(request).store
    if (job_id := path.get("job_id")) is not None:
        job = await store.read(lambda connection: find_job(connection, organization, job_id))
        if job.application != application:
            request.state.is_denied = True
            raise NotFound("job", job_id)
    elif (deployment_id := path.get("deployment_id")) is not None:
        deployment = await store.read(lambda connection: find_deployment(connection, organization, deployment_id))
        if deployment.application != application:
            request.state.is_denied = True
            raise NotFound("deployment", deployment_id)
    elif path.get("application") != application:
        detail = f"the token is for application '{application}' alone"
        raise Problem(HTTPStatus.FORBIDDEN, ApiCode.FORBIDDEN, detail)


async def authenticate(request: Request, services: Services) -> Caller:
    """
    Find out who asks, and count the request; once for each, however often it is called.

    Raises: Problem: 401 without a valid token, 429 when there were too many requests.
    """
    admitted: Caller | None = getattr(request.state, "admitted", None)
    if admitted is None:
        admitted = request.state.admitted = await _authenticate(request, services)
    return admitted


async def _authenticate(request: Request, services: Services) -> Caller:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthenticated(request, services, "send a token: Authorization: Bearer flt_…")
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
        raise _unauthenticated(request, services, detail)
    allowance = services.limits.of_tokens.take(found.id, services.monotonic())
    note(request.scope, allowance)
    if allowance.is_exceeded:
        detail = f"this token made more than {allowance.limit} requests within a minute"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, ApiCode.RATE_LIMITED, detail)
    if found.last_used_at is None or found.last_used_at < now - TOUCH_SECONDS:
        # With a full disk everything must still be readable: the note is worth less than the answer.
        with contextlib.suppress(StoreError):
            await services.store.write(lambda connection: touch_token(connection, found.id, now))
    return Caller(found.id, found.organization, found.role, found.expires_at, found.application, found.name)


def _unauthenticated(request: Request, services: Services, detail: str) -> Problem:
    """Return the refusal of a request without a good token; of too many from one address, another one."""
    address = request.client.host if request.client else ""
    allowance = services.limits.of_failures.take(address, services.monotonic())
    if not allowance.is_exceeded:
        return Problem(HTTPStatus.UNAUTHORIZED, ApiCode.UNAUTHENTICATED, detail, headers=_CHALLENGE)
    note(request.scope, allowance)
    detail = "too many requests without a good token came from this address"
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, ApiCode.RATE_LIMITED, detail)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]
"""The caller of a marked route."""
