"""
Deployments: one change of one environment to one bundle, with the exact statement that was signed.

A deployment has no state of its own: it is as far as its job. Must not sign or check statements; planning does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    exists,
    insert,
    select,
    text,
    tuple_,
    update,
)

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store.applications import ENVIRONMENT_COLUMNS, Environment
from fairlead_relay.store.jobs import JOB_COLUMNS, Job, NewJob, enqueue_jobs, job_of
from fairlead_relay.store.schema import deployments, environments, jobs
from fairlead_shared.jobs import JobKind, JobState
from fairlead_shared.progress import Action
from fairlead_shared.statement import DeploymentStatement

EnvironmentNames = tuple[str, str, str]
"""(organization, application, environment)."""


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """A deployment to be stored, with what its statement says."""

    id: str
    organization: str
    application: str
    environment: str
    environment_type: str
    cluster: str
    bundle_sha256: str
    previous_bundle_sha256: str | None
    rollback: bool
    statement: bytes
    """The bytes that were signed."""
    envelope: str
    """JSON of the DSSE envelope, as the agent gets it."""
    origins: str
    """JSON object: reference of an object → file and line it came from."""
    request_sha256: str
    """Hash of what the client asked: the same id with another request is a conflict."""
    rollback_on_failure: bool = False
    """Whether its failure is to be rolled back."""
    rollback_of: str | None = None
    """The deployment whose failure it rolls back, as that one asked."""


@dataclass(frozen=True, slots=True)
class Running:
    """An environment and what it runs."""

    environment: Environment
    bundle_sha256: str | None
    """Of the newest deployment that succeeded; None if none did."""
    destroyed_by: str | None
    """The deployment that destroys it, if one does."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as stored, with its job."""

    sequence: int
    id: str
    organization: str
    application: str
    environment: str
    environment_type: str
    cluster: str
    bundle_sha256: str
    previous_bundle_sha256: str | None
    rollback: bool
    origins: str
    request_sha256: str
    created_by: str
    created_at: float
    """Seconds since the epoch."""
    rollback_on_failure: bool
    rollback_of: str | None
    rollback_skipped: str
    """Why its failure was not rolled back though that was asked for; empty otherwise."""
    job: Job


_COLUMNS: Final = (
    deployments.c.sequence, deployments.c.id, deployments.c.organization, deployments.c.application,
    deployments.c.environment, deployments.c.environment_type, deployments.c.cluster, deployments.c.bundle_sha256,
    deployments.c.previous_bundle_sha256, deployments.c.rollback, deployments.c.origins, deployments.c.request_sha256,
    deployments.c.created_by, deployments.c.created_at, deployments.c.rollback_on_failure, deployments.c.rollback_of,
    deployments.c.rollback_skipped,
)  # fmt: skip
_NAMES: Final = tuple(column.name for column in _COLUMNS)
_SELECT: Final = select(*JOB_COLUMNS, *(column.label(f"deployment_{column.name}") for column in _COLUMNS)).select_from(
    deployments.join(jobs, jobs.c.id == deployments.c.job_id)
)
_FIND: Final = _SELECT.where(
    deployments.c.organization == bindparam("of_organization"), deployments.c.id == bindparam("of_id")
)
_INSERT: Final = insert(deployments).returning(deployments.c.sequence, sort_by_parameter_order=True)
_REQUEST: Final = select(deployments.c.organization, deployments.c.request_sha256).where(
    deployments.c.id == bindparam("of_id")
)
_tried = jobs.alias("tried")
_TAKEN: Final = exists().where(_tried.c.deployment_id == deployments.c.id, _tried.c.started_at.is_not(None))
"""An agent took it, if not by its last job then by one before."""
_STATEMENT: Final = select(deployments.c.statement).where(deployments.c.id == bindparam("of_deployment"))
_ROLLBACK_OF: Final = (
    select(deployments.c.id)
    .where(
        deployments.c.organization == bindparam("of_organization"),
        deployments.c.rollback_of == bindparam("of_deployment"),
    )
    .order_by(deployments.c.sequence.desc())
    .limit(1)
)
_SKIP_ROLLBACK: Final = (
    update(deployments)
    .where(deployments.c.id == bindparam("of_deployment"))
    .values(rollback_skipped=bindparam("new_reason"))
)
_KNOWN: Final = select(deployments.c.id).where(deployments.c.id.in_(bindparam("of_ids", expanding=True)))
_succeeded = jobs.alias("succeeded")
_destroying = jobs.alias("destroying")
_since = environments.alias("since")


def _last_succeeded(*of: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return the id of the newest deployment that succeeded, of an environment given by its three names."""
    return (
        select(_succeeded.c.deployment_id)
        .where(
            _succeeded.c.organization == of[0],
            _succeeded.c.application == of[1],
            _succeeded.c.environment == of[2],
            # Spelled out, as the index has it: a parameter would hide from the planner that the index fits.
            text("succeeded.state = 'succeeded' AND succeeded.deployment_id IS NOT NULL"),
            # Not of one that had the name before and was deleted.
            _succeeded.c.created_at
            >= select(_since.c.created_at)
            .where(_since.c.organization == of[0], _since.c.application == of[1], _since.c.name == of[2])
            .correlate(environments)
            .scalar_subquery(),
        )
        .order_by(_succeeded.c.sequence.desc())
        .limit(1)
        .correlate(environments)
        .scalar_subquery()
    )


_CURRENT: Final = _SELECT.where(
    deployments.c.id
    == _last_succeeded(bindparam("of_organization"), bindparam("of_application"), bindparam("of_environment"))
)
_PLACE: Final = (environments.c.organization, environments.c.application, environments.c.name)
RUNNING_BUNDLE: Final = (
    select(deployments.c.bundle_sha256).where(deployments.c.id == _last_succeeded(*_PLACE)).scalar_subquery()
)
"""Hash of the bundle that an environment of the statement around it runs; NULL if none succeeded."""
_RUNNING: Final = select(
    *ENVIRONMENT_COLUMNS,
    RUNNING_BUNDLE,
    select(_destroying.c.deployment_id)
    .where(
        _destroying.c.organization == environments.c.organization,
        _destroying.c.application == environments.c.application,
        _destroying.c.environment == environments.c.name,
        _destroying.c.kind == str(JobKind.DESTROY),
        _destroying.c.finished_at.is_(None),
    )
    .limit(1)
    .scalar_subquery(),
).where(tuple_(*_PLACE).in_(bindparam("of_places", expanding=True)), environments.c.deleted_at.is_(None))
"""Made once: every deployment asks, and making a statement costs more than running this one."""


def create_deployment(connection: Connection, deployment: NewDeployment, job: NewJob, now: float) -> Deployment:
    """
    Store a deployment and queue its job. The same id and request again give the deployment that is there.

    Args:
        connection: In a write.
        deployment: What to store; its environment and bundle exist.
        job: Its job, with this deployment's id.
        now: Seconds since the epoch.
    Raises: Conflict: the id stands for another request.
    """
    known = known_deployment(connection, deployment.organization, deployment.id, deployment.request_sha256)
    return known or create_deployments(connection, [(deployment, job)], now)[0]


def create_deployments(
    connection: Connection, new: Sequence[tuple[NewDeployment, NewJob]], now: float
) -> list[Deployment]:
    """
    Store deployments and queue their jobs in this order, in a few statements for all of them.

    Args:
        connection: In a write: what it found unknown before, nobody else stores meanwhile.
        new: Each with its job. The ids are unknown, and each is there once.
        now: Seconds since the epoch.
    """
    if not new:
        return []  # an INSERT without rows would insert one of defaults
    rows = [_row_of(deployment, job, now) for deployment, job in new]
    sequences = connection.scalars(_INSERT, rows).all()
    queued = enqueue_jobs(connection, [job for _, job in new], now)
    return [
        Deployment(job=job, **{name: sequence if name == "sequence" else row[name] for name in _NAMES})
        for sequence, row, job in zip(sequences, rows, queued, strict=True)
    ]


def _row_of(deployment: NewDeployment, job: NewJob, now: float) -> dict[str, Any]:
    return {
        "id": deployment.id,
        "organization": deployment.organization,
        "application": deployment.application,
        "environment": deployment.environment,
        "environment_type": deployment.environment_type,
        "cluster": deployment.cluster,
        "bundle_sha256": deployment.bundle_sha256,
        "previous_bundle_sha256": deployment.previous_bundle_sha256,
        "rollback": deployment.rollback,
        "origins": deployment.origins,
        "request_sha256": deployment.request_sha256,
        "created_by": job.created_by,
        "created_at": now,
        "statement": deployment.statement,
        "envelope": deployment.envelope,
        "job_id": job.id,
        "rollback_on_failure": deployment.rollback_on_failure,
        "rollback_of": deployment.rollback_of,
        "rollback_skipped": "",
    }


def known_deployment(
    connection: Connection, organization: str, deployment_id: str, request_sha256: str
) -> Deployment | None:
    """
    Return the deployment that a repeated request made; None when the id is new.

    Raises: Conflict: the id stands for another request, or belongs to somebody else.
    """
    row = connection.execute(_REQUEST, {"of_id": deployment_id}).one_or_none()
    if row is None:
        return None
    if tuple(row) != (organization, request_sha256):
        raise Conflict(f"deployment id '{deployment_id}' was used for another request; make a new one")
    return find_deployment(connection, organization, deployment_id)


def find_deployment(connection: Connection, organization: str, deployment_id: str) -> Deployment:
    """
    Return a deployment with its job.

    Raises: NotFound: the organization has none of that id.
    """
    row = connection.execute(_FIND, {"of_organization": organization, "of_id": deployment_id}).one_or_none()
    if row is None:
        raise NotFound("deployment", deployment_id)
    return _deployment(row)


def list_deployments(
    connection: Connection, organization: str, application: str, environment: str, limit: int, before: int | None = None
) -> list[Deployment]:
    """Return at most `limit` deployments of an environment, newest first, those older than the sequence `before`."""
    query = _of_environment(organization, application, environment)
    if before is not None:
        query = query.where(deployments.c.sequence < before)
    return [_deployment(row) for row in connection.execute(query.limit(limit))]


def current_deployment(
    connection: Connection, organization: str, application: str, environment: str
) -> Deployment | None:
    """Return the newest deployment that succeeded: what the environment runs. None if none did."""
    of = {"of_organization": organization, "of_application": application, "of_environment": environment}
    row = connection.execute(_CURRENT, of).one_or_none()
    return None if row is None else _deployment(row)


def find_rollback_of(connection: Connection, organization: str, deployment_id: str) -> str | None:
    """Return the id of the deployment that rolled back the last failure of another one; None if none did."""
    return connection.scalar(_ROLLBACK_OF, {"of_organization": organization, "of_deployment": deployment_id})


def signed_statement(connection: Connection, deployment_id: str) -> DeploymentStatement:
    """Return the statement of a deployment that is stored."""
    return DeploymentStatement.from_bytes(connection.scalars(_STATEMENT, {"of_deployment": deployment_id}).one())


def note_rollback_skipped(connection: Connection, deployment_id: str, reason: str) -> None:
    """Note why the failure of a deployment is not rolled back."""
    connection.execute(_SKIP_ROLLBACK, {"of_deployment": deployment_id, "new_reason": reason})


def known_among(connection: Connection, deployment_ids: Collection[str]) -> set[str]:
    """Return those of some ids that stand for a deployment, of whichever organization."""
    return set(connection.scalars(_KNOWN, {"of_ids": list(deployment_ids)}))


def running_bundles(
    connection: Connection, places: Collection[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Running]:
    """
    Return environments with what they run, in one statement.

    Args:
        connection: In a read or write.
        places: By their names.
    Returns: Those that exist.
    """
    found = {}
    for row in connection.execute(_RUNNING, {"of_places": list(places)}):
        environment = Environment(*row[:-2])
        found[environment.organization, environment.application, environment.name] = Running(environment, *row[-2:])
    return found


def rollback_target(
    connection: Connection, organization: str, application: str, environment: str, to: str | None
) -> Deployment:
    """
    Return the deployment whose bundle a rollback brings back.

    Args:
        connection: In a read or write.
        organization: Whose.
        application: Which.
        environment: Which.
        to: Id of a succeeded deployment of this environment; None: the newest that ran other content than the last one
            an agent took, which has changed the cluster also if it failed.
    Raises: NotFound: no such deployment. Conflict: it did not succeed, or there is nothing to go back to.
    """
    if to is not None:
        chosen = find_deployment(connection, organization, to)
        if (chosen.application, chosen.environment) != (application, environment):
            raise NotFound("deployment", to)
        if chosen.job.state is not JobState.SUCCEEDED:
            raise Conflict(f"deployment '{to}' did not succeed ({chosen.job.state}); choose one that did")
        return chosen
    if current_deployment(connection, organization, application, environment) is None:
        raise Conflict("nothing was deployed successfully yet, so there is nothing to go back to")
    taken = _of_environment(organization, application, environment).where(_TAKEN)
    running: set[str] = set()
    same_content = True
    with connection.execute(taken.execution_options(yield_per=20)) as newest_first:
        for deployment in map(_deployment, newest_first):
            succeeded = deployment.job.state is JobState.SUCCEEDED
            if same_content and (succeeded or not running):
                running.add(deployment.bundle_sha256)
                same_content = succeeded and _changed_nothing(deployment.job)
                continue
            same_content = False
            if succeeded and deployment.bundle_sha256 not in running:
                return deployment
    raise Conflict("no earlier deployment that succeeded ran another bundle, so there is nothing to go back to")


def _changed_nothing(job: Job) -> bool:
    """
    Tell whether a deployment found everything as its bundle wants it.

    Then what ran before it had the same content, whatever its hash: sealing the same Secret twice gives other bytes.
    """
    return {action for action, count in job.counts.items() if count} == {str(Action.UNCHANGED)}


def _of_environment(organization: str, application: str, environment: str) -> Select[Any]:
    return _SELECT.where(
        and_(
            deployments.c.organization == organization,
            deployments.c.application == application,
            deployments.c.environment == environment,
        )
    ).order_by(deployments.c.sequence.desc())


def _deployment(row: Sequence[Any]) -> Deployment:
    facts = zip(_NAMES, row[len(JOB_COLUMNS) :], strict=True)
    return Deployment(**dict(facts), job=job_of(row))
