"""
Live streams: the records of a deployment, a job or an organization, as Server-Sent Events or NDJSON.

Nothing is lost and nothing doubled: a stream listens first, then reads the store from the position asked for, then goes
on with what it hears; when it hears that it lagged, it reads the store again. A slow client costs a bounded queue.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.services import Services, ServicesOf
from fairlead_relay.bus import LAGGED, Subscription
from fairlead_relay.metrics import Metrics
from fairlead_relay.store.deployments import find_deployment
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import find_job
from fairlead_relay.store.outbox import EventRecord
from fairlead_relay.store.tokens import Role
from fairlead_shared.jobs import FINAL_STATES

router = APIRouter(prefix="/v1/organizations/{organization}", tags=["streams"])

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
HEARTBEAT_SECONDS: Final = 15.0
"""Below the idle limits of common proxies, 30 to 60 s."""
_RECORD: Final = (
    '{"id": 7, "deployment_id": "01k9z6w3p0000000000000shop", "job_id": "01k9z6w3p000000000000000aa", "attempt": 1, '
    '"recorded_at": "2026-11-24T12:00:00.000Z", "event": {"type": "job", "state": "running", "attempt": 1, '
    '"reason": "", "at": 1795521600.0}}'
)
"""A record, as an example."""
_READ_RECORDS: Final = 500
"""Records per read: about 150 KiB, and a few milliseconds of the store."""

ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": (
            "The records, oldest first. NDJSON if `Accept` asks for it: one a line. Else Server-Sent Events: the "
            "record as `data`, its `id` to resume after, and an event `end` when nothing can follow."
        ),
        "content": {
            SSE: {"example": f"id: 7\ndata: {_RECORD}\n\nevent: end\ndata: {{}}\n\n"},
            NDJSON: {"schema": {"type": "string"}, "example": f"{_RECORD}\n"},
        },
    }
}
"""What a stream answers with, for the document."""

Follow = Annotated[bool, Query(description="False: return what is stored, then end.")]
LastEventId = Annotated[str | None, Header(description="Position after which the stream starts.")]


class _Sign(Enum):
    IDLE = "idle"
    """Nothing happened for a while."""
    END = "end"
    """The story is over: its final record was given before."""


@router.get("/deployments/{deployment_id}/events", response_class=StreamingResponse, responses=ANSWERS)
@needs(Role.VIEWER)
async def of_deployment(
    organization: OrganizationPath,
    deployment_id: Annotated[str, Path(max_length=64)],
    request: Request,
    services: ServicesOf,
    last_event_id: LastEventId = None,
    *,
    follow: Follow = True,
) -> StreamingResponse:
    """Stream what happens to a deployment; ends by itself after its final state."""
    await services.store.read(lambda connection: find_deployment(connection, organization, deployment_id))
    return _stream(services, request, Scope(organization, deployment_id=deployment_id), last_event_id, follow=follow)


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=ANSWERS)
@needs(Role.VIEWER)
async def of_job(
    organization: OrganizationPath,
    job_id: Annotated[str, Path(max_length=64)],
    request: Request,
    services: ServicesOf,
    last_event_id: LastEventId = None,
    *,
    follow: Follow = True,
) -> StreamingResponse:
    """Stream what happens to a job; ends by itself after its final state."""
    await services.store.read(lambda connection: find_job(connection, organization, job_id))
    return _stream(services, request, Scope(organization, job_id=job_id), last_event_id, follow=follow)


@router.get("/events", response_class=StreamingResponse, responses=ANSWERS)
@needs(Role.VIEWER)
async def of_organization(
    organization: OrganizationPath,
    request: Request,
    services: ServicesOf,
    last_event_id: LastEventId = None,
    *,
    follow: Follow = True,
) -> StreamingResponse:
    """Stream what happens to all jobs of an organization."""
    return _stream(services, request, Scope(organization), last_event_id, follow=follow)


def _stream(
    services: Services, request: Request, scope: Scope, last_event_id: str | None, *, follow: bool
) -> StreamingResponse:
    if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isdigit()):
        detail = "Last-Event-ID: give the id of a record that this stream sent"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail, field="last-event-id")
    records = follow_records(services, scope, int(last_event_id or 0), follow=follow)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    is_ndjson = NDJSON in request.headers.get("accept", "")
    lines = _counted(services.metrics, _as_ndjson(records) if is_ndjson else _as_sse(records))
    return StreamingResponse(lines, media_type=NDJSON if is_ndjson else SSE, headers=headers)


async def _counted(metrics: Metrics, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Pass a stream on, and count it for as long as it lasts."""
    metrics.stream_begun()
    try:
        async for line in lines:
            yield line
    finally:
        metrics.stream_ended()


async def follow_records(
    services: Services, scope: Scope, after: int, *, follow: bool
) -> AsyncIterator[list[EventRecord] | _Sign]:
    """
    Yield the records of a scope in order, each once; those together that are there together.

    Args:
        services: The relay's parts.
        scope: Whose records.
        after: Position of the last record that is known; 0 for all.
        follow: Go on with what happens from now on, until the story is over or the relay stops.

    """
    stopping = asyncio.create_task(services.stopping.wait())
    try:
        # Listening begins before the first read: nothing can fall between the two.
        with services.bus.subscribe(scope) as heard:
            while not stopping.done():
                async for stored in _stored(services, scope, after):
                    yield stored
                    if stored is _Sign.END:
                        return
                    after = stored[-1].position
                if not follow:
                    return
                async for heard_now in _hear(heard, stopping):
                    if isinstance(heard_now, _Sign):
                        yield heard_now
                        continue
                    new = _newer(heard_now, after)
                    if new:
                        after = new[-1].position
                        yield new
                        if any(record.final for record in new) and scope != Scope(scope.organization):
                            yield _Sign.END
                            return
    finally:
        stopping.cancel()


def _newer(records: Iterable[EventRecord], after: int) -> list[EventRecord]:
    """Return those that follow a position, each once."""
    new: list[EventRecord] = []
    for record in records:
        if record.position > after:
            after = record.position
            new.append(record)
    return new


async def _stored(
    services: Services, scope: Scope, after: int
) -> AsyncIterator[list[EventRecord] | Literal[_Sign.END]]:
    """Yield what is stored, then END if nothing can follow it."""
    while True:
        records, is_over = await services.store.read(partial(_read, scope=scope, after=after))
        if records:
            after = records[-1].position
            yield records
        if is_over:
            yield _Sign.END
        if len(records) < _READ_RECORDS:
            return


async def _hear(heard: Subscription, stopping: asyncio.Task[Literal[True]]) -> AsyncIterator[list[EventRecord] | _Sign]:
    """Yield what a subscription hears, until it lagged or the relay stops."""
    while True:
        next_notice = asyncio.ensure_future(heard.get())
        try:
            await asyncio.wait({next_notice, stopping}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return
            if not next_notice.done():
                yield _Sign.IDLE
                continue
            notice = next_notice.result()
        finally:
            next_notice.cancel()
        if notice is LAGGED:
            return
        records = [one for one in (notice, *heard.take_more()) if isinstance(one, EventRecord)]
        if records:
            yield records


def _read(connection: Connection, *, scope: Scope, after: int) -> tuple[list[EventRecord], bool]:
    """Return the next records, and whether none will follow them: both from one snapshot."""
    records = read_events(connection, scope, after, _READ_RECORDS)
    if len(records) == _READ_RECORDS:
        return records, False
    if scope.deployment_id is not None:
        job = find_deployment(connection, scope.organization, scope.deployment_id).job
    elif scope.job_id is not None:
        job = find_job(connection, scope.organization, scope.job_id)
    else:
        return records, False
    return records, job.state in FINAL_STATES


async def _as_sse(records: AsyncIterator[list[EventRecord] | _Sign]) -> AsyncIterator[str]:
    # The first bytes leave at once, so that a client knows it is connected.
    yield ": connected\n\n"
    async for found in records:
        if isinstance(found, list):
            yield "".join(f"id: {record.position}\ndata: {record.to_json()}\n\n" for record in found)
        elif found is _Sign.END:
            yield "event: end\ndata: {}\n\n"
        else:
            yield ": ping\n\n"


async def _as_ndjson(records: AsyncIterator[list[EventRecord] | _Sign]) -> AsyncIterator[str]:
    async for found in records:
        if isinstance(found, list):
            yield "".join(record.to_json() + "\n" for record in found)
