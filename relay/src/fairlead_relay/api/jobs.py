"""Routes of jobs, and of the plans and health checks that are jobs without a deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.access import CallerOf, needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page, sequence_of
from fairlead_relay.api.services import Services, ServicesOf
from fairlead_relay.planning.deployments import Place
from fairlead_relay.store.job_lists import JobFilter, list_jobs
from fairlead_relay.store.jobs import Job, find_job, stop_job
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_shared.jobs import JobKind, JobState
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Consent

router = APIRouter(prefix="/v1/organizations/{organization}", tags=["jobs"])

NameQuery = Annotated[str | None, Query(max_length=63)]
PLAN_SECONDS = 60.0
"""How long a plan may wait for its agent, and take: some thousand objects are dry-run in ten seconds."""
HEALTH_SECONDS = 60.0
"""How long a health check may wait for its agent: who asks, looks at the answer now."""


class JobShown(Shown):
    """A unit of work for one agent."""

    id: str
    kind: str
    """`deploy`, `destroy`, `health` or `plan`; clients must expect others, of newer relays."""
    cluster: str
    application: str | None
    """Null if it is about the whole cluster, as is the environment then."""
    environment: str | None
    """Null if it is about the whole cluster."""
    deployment_id: str | None
    """Null for a job that deploys nothing."""
    priority: int
    state: JobState
    attempt: int
    reason: str
    """Why it waits, was lost or was refused; empty otherwise."""
    outcome: Outcome | None
    """Null until an agent has carried it out."""
    code: str | None
    """Why it ended badly, as in problems; null otherwise."""
    cause: str
    """One sentence; empty unless it ended badly."""
    counts: dict[str, int]
    created_by: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    deadline: str


class PlanCreate(Asked):
    """A plan of an uploaded bundle."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bundle_sha256": "e3b0" * 16}]})

    bundle_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    deadline_seconds: Annotated[float, Field(ge=1, le=3600)] = PLAN_SECONDS
    """How long the agent may take, and may be away."""
    consents: frozenset[Consent] = frozenset()
    """What the deployment would be allowed to do that it does not do unasked."""


class HealthCheckCreate(Asked):
    """A health check."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"deadline_seconds": 30}]})

    deadline_seconds: Annotated[float, Field(ge=1, le=3600)] = HEALTH_SECONDS


class HealthCheckCreated(JobShown):
    """A health check that was queued; its answer is in the job's events."""

    job_id: str
    """Same as `id`."""


async def _job_filter(
    state: Annotated[
        list[JobState] | None, Query(max_length=len(JobState), description="May be given several times.")
    ] = None,
    kind: JobKind | None = None,
    cluster: NameQuery = None,
    application: NameQuery = None,
    environment: NameQuery = None,
) -> JobFilter:
    return JobFilter(tuple(state or ()), kind, cluster, application, environment)


@router.get("/jobs")
@needs(Role.VIEWER, narrows=True)
async def index(
    organization: OrganizationPath,
    services: ServicesOf,
    caller: CallerOf,
    wanted: Annotated[JobFilter, Depends(_job_filter)],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[JobShown]:
    """List jobs, newest first."""
    if caller.application is not None:
        if wanted.application not in {None, caller.application}:
            return Page(items=[], next_cursor=None)  # those of other applications do not exist for it
        wanted = replace(wanted, application=caller.application)
    before = sequence_of(cursor)

    def read(connection: Connection) -> Page[JobShown]:
        rows = list_jobs(connection, organization, wanted, limit + 1, before)
        return page(rows, limit, lambda job: show_job(services, connection, job), lambda job: str(job.sequence))

    return await services.store.read(read)


@router.get("/jobs/{job_id}")
@needs(Role.VIEWER)
async def show(
    organization: OrganizationPath, job_id: Annotated[str, Path(max_length=64)], services: ServicesOf
) -> JobShown:
    """Show one job."""
    return await services.store.read(
        lambda connection: show_job(services, connection, find_job(connection, organization, job_id))
    )


@router.post("/jobs/{job_id}/cancel", status_code=202)
@needs(Role.DEPLOYER, audit="job.cancel")
async def cancel(
    organization: OrganizationPath,
    job_id: Annotated[str, Path(max_length=64)],
    services: ServicesOf,
    trail: TrailOf,
) -> JobShown:
    """Ask for a job to stop: at once if no agent has it, else its agent winds down and says how it ended."""
    now = services.clock()

    def write(connection: Connection) -> JobShown:
        before = find_job(connection, organization, job_id)
        stopped = stop_job(connection, organization, job_id, "cancel", now)
        trail.note(connection, before={"state": str(before.state)}, after={"state": str(stopped.state)})
        return show_job(services, connection, stopped)

    return await services.store.write(write)


@router.post("/applications/{application}/environments/{environment}/plans", status_code=202)
@needs(Role.DEPLOYER, audit="plan.create")
async def plan(
    organization: OrganizationPath,
    application: Annotated[str, Path(max_length=63)],
    environment: Annotated[str, Path(max_length=63)],
    body: PlanCreate,
    services: ServicesOf,
    trail: TrailOf,
) -> JobShown:
    """
    Ask the agent what a deployment of an uploaded bundle would do; nothing is changed.

    The answer is in the job's events: `planned` for each object, `finding` for what stands against it, and the result,
    which is `succeeded` if the deployment could be carried out.
    """
    place = Place(organization, application, environment)
    job = await services.planner.plan(place, trail, body.bundle_sha256, body.consents, body.deadline_seconds)
    return JobShown.model_validate(job_fields(job, job.reason))


@router.post("/applications/{application}/environments/{environment}/health-checks", status_code=202)
@needs(Role.VIEWER)
async def check_health(
    organization: OrganizationPath,
    application: Annotated[str, Path(max_length=63)],
    environment: Annotated[str, Path(max_length=63)],
    services: ServicesOf,
    caller: CallerOf,
    body: HealthCheckCreate | None = None,
) -> HealthCheckCreated:
    """Ask the agent for the health of everything in an environment."""
    deadline_seconds = (body or HealthCheckCreate()).deadline_seconds
    place = Place(organization, application, environment)
    job = await services.planner.check_health(place, caller.token_id, deadline_seconds)
    return HealthCheckCreated.model_validate({**job_fields(job, job.reason), "job_id": job.id})


def show_job(services: Services, connection: Connection, job: Job) -> JobShown:
    """Render a job, with the reason why it waits."""
    return JobShown.model_validate(job_fields(job, services.reason(connection, job)))


def job_fields(job: Job, reason: str) -> dict[str, object]:
    """Render the fields of a job; times as in the API."""
    return {
        "id": job.id,
        "kind": job.kind,
        "cluster": job.cluster,
        "application": job.application,
        "environment": job.environment,
        "deployment_id": job.deployment_id,
        "priority": job.priority,
        "state": job.state,
        "attempt": job.attempt,
        "reason": reason,
        "outcome": job.outcome,
        "code": job.code,
        "cause": job.cause,
        "counts": job.counts,
        "created_by": job.created_by,
        "created_at": iso_time(job.created_at),
        "started_at": iso_time(job.started_at) if job.started_at is not None else None,
        "finished_at": iso_time(job.finished_at) if job.finished_at is not None else None,
        "deadline": iso_time(job.deadline),
    }
