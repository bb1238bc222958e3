"""Routes about the relay itself: probes, version, and who the caller is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from fairlead_relay import __version__
from fairlead_relay.api.access import CallerOf, needs, public
from fairlead_relay.api.bodies import Shown
from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.store.meta import store_epoch
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_shared.frames import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION

router = APIRouter(tags=["relay"])


class Healthy(Shown):
    """The process serves."""

    status: Literal["ok"] = "ok"


class Version(Shown):
    """What this relay is and speaks."""

    relay_version: str
    api_version: Literal["v1"] = "v1"
    protocol_versions: Annotated[list[int], Field(min_length=2, max_length=2)]
    """Oldest and newest protocol version that agents may speak."""


class WhoAmI(Shown):
    """What the token says of its holder."""

    token_id: str
    organization: str
    role: Role
    expires_at: str | None
    """Null: never."""
    name: str
    """What people call the token; empty if it was given none."""
    application: str | None
    """The only application that the token is good for; null: the whole organization."""


@router.get("/healthz")
@public
async def healthz() -> Healthy:
    """Say that the process serves; fails only when it does not."""
    return Healthy()


@router.get("/readyz")
@public
async def readyz(services: ServicesOf) -> Healthy:
    """Say whether requests should come here: the store answers and the relay does not drain."""
    if services.stopping.is_set():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, ApiCode.UNAVAILABLE, "the relay stops or restarts")
    await services.store.read(store_epoch)
    return Healthy()


@router.get("/v1/version")
@public
async def version() -> Version:
    """Show the relay's version and the versions it speaks."""
    return Version(relay_version=__version__, protocol_versions=[OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION])


@router.get("/v1/whoami")
@needs(Role.VIEWER, narrows=True)
async def whoami(caller: CallerOf) -> WhoAmI:
    """Show what the caller's token says."""
    return WhoAmI(
        token_id=caller.token_id,
        organization=caller.organization,
        role=caller.role,
        expires_at=iso_time(caller.expires_at) if caller.expires_at is not None else None,
        name=caller.name,
        application=caller.application,
    )
