"""Route of the audit log. It can be read, by administrators, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from fairlead_relay.api.access import needs
from fairlead_relay.api.bodies import Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page, sequence_of
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.store.audit import AuditFilter, AuditOutcome, AuditRecord, list_records
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role

router = APIRouter(prefix="/v1/organizations/{organization}/audit", tags=["audit"])


class ActorShown(Shown):
    """Who did it."""

    kind: Literal["token", "agent", "command"]
    """An API token, the agent of a cluster, or a command of the relay."""
    id: str
    name: str
    """What people call the token; the user who ran the command."""
    role: str
    """The token's role then; empty for others."""


class AuditRecordShown(Shown):
    """One record: who did what, or tried to."""

    number: int
    """1 for the organization's first, and one more for each: none is missing."""
    at: str
    actor: ActorShown
    address: str
    """The client's, as the relay saw it."""
    request_id: str
    """As in the relay's log."""
    verb: Annotated[str, Field(examples=["deployment.create"])]
    """`read` for a look at something that was denied."""
    target: Annotated[str, Field(examples=["environment/shop/staging"])]
    outcome: AuditOutcome
    detail: str
    """Why it failed or was denied; empty otherwise."""
    before: dict[str, Any] | None
    """What the change replaced."""
    after: dict[str, Any] | None
    """What it brought."""
    digest: str
    """SHA-256 of this record and the digest before it."""


@router.get("")
@needs(Role.ADMIN)
async def index(
    organization: OrganizationPath,
    services: ServicesOf,
    actor: Annotated[str | None, Query(max_length=100, description="Id or name.")] = None,
    verb: Annotated[str | None, Query(max_length=64)] = None,
    outcome: AuditOutcome | None = None,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339, such as `2026-01-31T12:00:00Z`.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AuditRecordShown]:
    """List the records of an organization, newest first."""
    wanted = AuditFilter(actor, verb, outcome, None if since is None else since.timestamp())
    before = sequence_of(cursor)
    rows = await services.store.read(
        lambda connection: list_records(connection, organization, wanted, limit + 1, before)
    )
    return page(rows, limit, _show, lambda row: str(row.number))


def _show(record: AuditRecord) -> AuditRecordShown:
    actor = record.actor
    return AuditRecordShown(
        number=record.number,
        at=iso_time(record.at),
        actor=ActorShown(kind=actor.kind, id=actor.id, name=actor.name, role=actor.role),
        address=actor.address,
        request_id=actor.request_id,
        verb=record.verb,
        target=record.target,
        outcome=record.outcome,
        detail=record.detail,
        before=record.before,
        after=record.after,
        digest=record.digest,
    )
