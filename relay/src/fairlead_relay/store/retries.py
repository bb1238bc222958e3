"""
Retries: another job for a deployment that ended without success, with the statement that was signed for it.

The agent lets only a later attempt of the same statement pass, and none after another deployment was begun; what is
refused here would be refused there. Must not make a statement: a new one is a new deployment.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, exists, or_, select, update

from fairlead_relay.errors import Conflict
from fairlead_relay.store.applications import find_environment
from fairlead_relay.store.deployments import Deployment, find_deployment, signed_statement
from fairlead_relay.store.jobs import NewJob, enqueue_job
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.schema import deployments, jobs
from fairlead_shared.jobs import JobState

RETRYABLE: Final = frozenset({JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED, JobState.REFUSED})
"""A superseded one has a newer one in its place, and what succeeded needs none."""
_NEWER: Final = (
    select(deployments.c.id)
    .where(
        deployments.c.organization == bindparam("of_organization"),
        deployments.c.application == bindparam("of_application"),
        deployments.c.environment == bindparam("of_environment"),
        deployments.c.sequence > bindparam("of_sequence"),
        # One that no agent took, and none will, changed nothing.
        exists().where(
            jobs.c.deployment_id == deployments.c.id, or_(jobs.c.started_at.is_not(None), jobs.c.finished_at.is_(None))
        ),
    )
    .order_by(deployments.c.sequence.desc())
    .limit(1)
)
_POINT_TO: Final = (
    update(deployments).where(deployments.c.id == bindparam("of_deployment")).values(job_id=bindparam("new_job"))
)


def retry_deployment(
    connection: Connection, organization: str, deployment_id: str, job_id: str, created_by: str, now: float
) -> Deployment:
    """
    Queue another job for a deployment, as patient as the last one was, as far as the statement lasts.

    Args:
        connection: In a write.
        organization: Whose.
        deployment_id: Which.
        job_id: Of the new job.
        created_by: Id of the token that asked.
        now: Seconds since the epoch.
    Returns: The deployment, with its new job.
    Raises: NotFound: no such deployment, or its environment was deleted. Conflict: it cannot be tried again, and why.
    """
    deployment = find_deployment(connection, organization, deployment_id)
    last = deployment.job
    find_environment(connection, organization, deployment.application, deployment.environment)
    if last.state not in RETRYABLE:
        raise Conflict(
            f"deployment '{deployment_id}' is {last.state}; only one that failed, expired, was refused or was "
            "cancelled can be retried"
        )
    statement = signed_statement(connection, deployment_id)
    if now >= statement.expires:
        raise Conflict(
            f"the statement of deployment '{deployment_id}' expired at {iso_time(statement.expires)}; deploy again"
        )
    place = {
        "of_organization": organization,
        "of_application": deployment.application,
        "of_environment": deployment.environment,
    }
    newer = connection.scalar(_NEWER, {**place, "of_sequence": deployment.sequence})
    if newer is not None:
        raise Conflict(f"deployment '{newer}' came after '{deployment_id}'; deploy again, or roll back")
    job = NewJob(
        id=job_id,
        organization=organization,
        cluster=deployment.cluster,
        kind=last.kind,
        application=deployment.application,
        environment=deployment.environment,
        deployment_id=deployment_id,
        exclusive=last.exclusive,
        wait_seconds=last.wait_seconds,
        deadline=min(now + last.deadline - last.created_at, statement.expires),
        created_by=created_by,
        priority=last.priority,
        attempt=last.attempt + 1,
    )
    enqueue_job(connection, job, now)
    connection.execute(_POINT_TO, {"of_deployment": deployment_id, "new_job": job_id})
    return find_deployment(connection, organization, deployment_id)
