"""Routes of deployments: create, roll back, show, list, cancel."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page, sequence_of
from fairlead_relay.api.services import Services, ServicesOf
from fairlead_relay.planning.deployments import DeploymentRequest, OnEarlier, Place
from fairlead_relay.store.applications import find_environment
from fairlead_relay.store.audit import Trail
from fairlead_relay.store.deployments import Deployment, find_deployment, find_rollback_of, list_deployments
from fairlead_relay.store.jobs import stop_job
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_relay.store.writer import riding
from fairlead_shared.bundle import MAX_OBJECTS
from fairlead_shared.jobs import JobState
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Consent

router = APIRouter(prefix="/v1/organizations/{organization}", tags=["deployments"])

ApplicationPath = Annotated[str, Path(max_length=63)]
EnvironmentPath = Annotated[str, Path(max_length=63)]
DeploymentPath = Annotated[str, Path(max_length=64)]
_DeploymentId = Annotated[str, Field(pattern=r"^[0-9a-z]{16,40}$", description="Made by the client, time-ordered.")]
_WaitSeconds = Annotated[float, Field(gt=0, le=86_400)]
_DeadlineSeconds = Annotated[float, Field(ge=1, le=604_800)]
WAIT_SECONDS = 600.0
"""How long objects may take to become healthy."""
DEADLINE_SECONDS = 3600.0
"""How long an offline agent may take to come back before the deployment expires."""


class _Timed(Asked):
    deployment_id: _DeploymentId
    wait_seconds: _WaitSeconds = WAIT_SECONDS
    """How long the objects may take to become healthy."""
    deadline_seconds: _DeadlineSeconds = DEADLINE_SECONDS
    """How long the deployment may wait for its agent."""
    on_earlier: OnEarlier = "wait"
    """Earlier deployments of the environment go first (`wait`), or end as superseded (`supersede`)."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Higher goes first, between environments of one cluster; within one the order of asking holds."""
    consents: frozenset[Consent] = frozenset()
    """What it may do that it does not do unasked; the cluster's operator must allow each of them, too."""


class DeploymentCreate(_Timed):
    """A deployment of an uploaded bundle. The same request again gives the same deployment."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"deployment_id": "01k9z6w3p0000000000000shop", "bundle_sha256": "e3b0" * 16}]}
    )

    bundle_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    origins: dict[Annotated[str, Field(max_length=512)], Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict, max_length=MAX_OBJECTS
    )
    """Reference of an object → file and line it came from."""
    rollback_on_failure: bool = False
    """If it fails after its first write: deploy the bundle again that succeeded before, as `rollback` does. Not if it
    was told to stop, or something newer waits; and what is so made is rolled back by nobody."""


class RollbackCreate(_Timed):
    """A return to an earlier deployment's bundle."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"deployment_id": "01k9z6w3p0000000000000back"}]})

    to: str | None = None
    """Id of a deployment that succeeded; null for the newest of another bundle than what an agent took last."""


class DeploymentJob(Shown):
    """The job that carries a deployment out."""

    id: str
    attempt: int
    priority: int
    deadline: str


class DeploymentShown(Shown):
    """A deployment and how far it is."""

    id: str
    organization: str
    application: str
    environment: str
    environment_type: str
    cluster: str
    bundle_sha256: str
    previous_bundle_sha256: str | None
    """What the environment was given last; null for its first deployment."""
    rollback: bool
    rollback_on_failure: bool
    """Whether a failure after its first write is rolled back."""
    rolled_back_by: str | None
    """The deployment that rolls its failure back, as it asked; null if none does."""
    rollback_skipped: str
    """Why its failure is not rolled back though it asked for that; empty otherwise."""
    rollback_of: str | None
    """The deployment whose failure this one rolls back, as that one asked; null otherwise."""
    state: JobState
    reason: str
    """Why it waits, was lost or was refused; empty otherwise."""
    outcome: Outcome | None
    """Null until an agent has carried it out."""
    code: str | None
    """Why it ended badly, as in problems; null otherwise."""
    cause: str
    """One sentence; empty unless it ended badly."""
    counts: dict[str, int]
    origins: dict[str, str]
    """Empty in lists."""
    created_by: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    job: DeploymentJob


@router.post(
    "/applications/{application}/environments/{environment}/deployments", status_code=202, max_body_size=4 << 20
)
@needs(Role.DEPLOYER, audit="deployment.create")
async def create(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    body: DeploymentCreate,
    services: ServicesOf,
    trail: TrailOf,
) -> DeploymentShown:
    """Deploy an uploaded bundle; durable before the answer."""
    request = replace(
        _request(Place(organization, application, environment), body, trail),
        rollback_on_failure=body.rollback_on_failure,
    )
    # Without a mark on its key: asked for again, the client's own id gives the deployment that is there.
    with riding(None):
        deployment = await services.planner.deploy(request, body.bundle_sha256, body.origins)
    return await services.store.read(lambda connection: show_deployment(services, connection, deployment))


@router.post("/applications/{application}/environments/{environment}/rollback", status_code=202)
@needs(Role.DEPLOYER, audit="deployment.roll_back")
async def roll_back(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    body: RollbackCreate,
    services: ServicesOf,
    trail: TrailOf,
) -> DeploymentShown:
    """Deploy the bundle of an earlier deployment that succeeded."""
    request = _request(Place(organization, application, environment), body, trail)
    with riding(None):  # as above
        deployment = await services.planner.roll_back(request, body.to)
    return await services.store.read(lambda connection: show_deployment(services, connection, deployment))


@router.get("/applications/{application}/environments/{environment}/deployments")
@needs(Role.VIEWER)
async def index(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    services: ServicesOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[DeploymentShown]:
    """List an environment's deployments, newest first."""
    before = sequence_of(cursor)

    def read(connection: Connection) -> Page[DeploymentShown]:
        find_environment(connection, organization, application, environment)
        rows = list_deployments(connection, organization, application, environment, limit + 1, before)
        return page(
            rows,
            limit,
            lambda row: show_deployment(services, connection, row, brief=True),
            lambda row: str(row.sequence),
        )

    return await services.store.read(read)


@router.get("/deployments/{deployment_id}")
@needs(Role.VIEWER)
async def show(organization: OrganizationPath, deployment_id: DeploymentPath, services: ServicesOf) -> DeploymentShown:
    """Show one deployment."""
    return await services.store.read(
        lambda connection: show_deployment(
            services, connection, find_deployment(connection, organization, deployment_id)
        )
    )


@router.post("/deployments/{deployment_id}/cancel", status_code=202)
@needs(Role.DEPLOYER, audit="deployment.cancel")
async def cancel(
    organization: OrganizationPath, deployment_id: DeploymentPath, services: ServicesOf, trail: TrailOf
) -> DeploymentShown:
    """Ask for a deployment to stop; its agent winds down and says how it ended."""
    now = services.clock()

    def write(connection: Connection) -> DeploymentShown:
        deployment = find_deployment(connection, organization, deployment_id)
        stop_job(connection, organization, deployment.job.id, "cancel", now)
        stopped = find_deployment(connection, organization, deployment_id)
        before, after = ({"state": str(one.job.state)} for one in (deployment, stopped))
        trail.note(connection, before=before, after=after)
        return show_deployment(services, connection, stopped)

    return await services.store.write(write)


@router.post("/deployments/{deployment_id}/retry", status_code=202)
@needs(Role.DEPLOYER, audit="deployment.retry")
async def retry(
    organization: OrganizationPath, deployment_id: DeploymentPath, services: ServicesOf, trail: TrailOf
) -> DeploymentShown:
    """Try a deployment again that failed, expired, was refused or cancelled, with the statement it has."""
    deployment = await services.planner.retry(organization, deployment_id, trail)
    return await services.store.read(lambda connection: show_deployment(services, connection, deployment))


def show_deployment(
    services: Services, connection: Connection, deployment: Deployment, *, brief: bool = False
) -> DeploymentShown:
    """
    Render a deployment.

    Args:
        services: The relay's parts.
        connection: For the reason why it waits.
        deployment: As stored.
        brief: Leave the origins out, which may take megabytes.

    """
    job = deployment.job
    origins: dict[str, str] = {} if brief else json.loads(deployment.origins)
    rolled_back_by = None
    if deployment.rollback_on_failure and job.state is JobState.FAILED and not deployment.rollback_skipped:
        rolled_back_by = find_rollback_of(connection, deployment.organization, deployment.id)
    return DeploymentShown(
        id=deployment.id,
        organization=deployment.organization,
        application=deployment.application,
        environment=deployment.environment,
        environment_type=deployment.environment_type,
        cluster=deployment.cluster,
        bundle_sha256=deployment.bundle_sha256,
        previous_bundle_sha256=deployment.previous_bundle_sha256,
        rollback=deployment.rollback,
        rollback_on_failure=deployment.rollback_on_failure,
        rolled_back_by=rolled_back_by,
        rollback_skipped=deployment.rollback_skipped,
        rollback_of=deployment.rollback_of,
        state=job.state,
        reason=services.reason(connection, job),
        outcome=job.outcome,
        code=job.code,
        cause=job.cause,
        counts=job.counts,
        origins=origins,
        created_by=deployment.created_by,
        created_at=iso_time(deployment.created_at),
        started_at=iso_time(job.started_at) if job.started_at is not None else None,
        finished_at=iso_time(job.finished_at) if job.finished_at is not None else None,
        job=DeploymentJob(id=job.id, attempt=job.attempt, priority=job.priority, deadline=iso_time(job.deadline)),
    )


def _request(place: Place, body: _Timed, trail: Trail) -> DeploymentRequest:
    patience = (body.wait_seconds, body.deadline_seconds)
    return DeploymentRequest(body.deployment_id, place, trail, *patience, body.on_earlier, body.priority, body.consents)
