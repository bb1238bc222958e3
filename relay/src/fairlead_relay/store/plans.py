"""
Plans: the statement and the bundle that a job of kind `plan` offers its agent.

A plan is no deployment: nothing is deployed by it, rolled back to or retried. What its agent finds is in the job's
events, and all of it is forgotten with the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, bindparam, insert, select

from fairlead_relay.store.jobs import Job, NewJob, enqueue_job
from fairlead_relay.store.schema import bundles, plans

_INSERT: Final = insert(plans)
_CONTENT: Final = (
    select(plans.c.envelope, bundles.c.size_bytes)
    .join_from(
        plans,
        bundles,
        and_(bundles.c.organization == plans.c.organization, bundles.c.sha256 == plans.c.bundle_sha256),
    )
    .where(plans.c.job_id == bindparam("job_id"))
)


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan to be asked for."""

    job: NewJob
    bundle_sha256: str
    """Of a bundle that the organization has."""
    envelope: str
    """JSON of the signed statement, whose strategy is `plan`."""


def ask_for_plan(connection: Connection, plan: NewPlan, now: float) -> Job:
    """
    Queue a job with what it offers.

    Args:
        connection: In a write.
        plan: Its environment and bundle exist.
        now: Seconds since the epoch.
    """
    job = enqueue_job(connection, plan.job, now)
    connection.execute(
        _INSERT,
        {
            "job_id": job.id,
            "organization": job.organization,
            "bundle_sha256": plan.bundle_sha256,
            "envelope": plan.envelope,
        },
    )
    return job


def plan_content(connection: Connection, job_id: str) -> tuple[str, int]:
    """Return JSON of the statement's envelope, and the size of the bundle in bytes, of a job of kind `plan`."""
    envelope, size_bytes = connection.execute(_CONTENT, {"job_id": job_id}).one()
    return envelope, size_bytes
