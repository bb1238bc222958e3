"""
Retention: which history may be forgotten, and forgetting it, some at a time.

Kept whatever its age: what an environment runs (its newest success), its newest deployments, everything that has not
ended. Bundles go with the last deployment or plan that names them. The content of bundles is the blob port's to forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select

from fairlead_relay.store.jobs import is_one_of
from fairlead_relay.store.schema import bundles, deployments, job_events, jobs, plans
from fairlead_shared.jobs import JobState

KEPT_DEPLOYMENTS: Final = 20
"""Of each environment: far more than anybody rolls back over."""
LOOSE_SECONDS: Final = 7 * 86_400.0
"""Life of jobs without a deployment, such as health checks and plans: their answer was read when it came."""
BUNDLE_GRACE_SECONDS: Final = 86_400.0
"""Between the upload of a bundle and the first deployment or plan of it."""


@dataclass(frozen=True, slots=True)
class Forgettable:
    """What may go."""

    deployments: tuple[str, ...]
    jobs: tuple[str, ...]
    """Without a deployment."""
    bundles: tuple[tuple[str, str], ...]
    """(organization, hash)."""

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return bool(self.deployments or self.jobs or self.bundles)


_environment = (deployments.c.organization, deployments.c.application, deployments.c.environment)
_succeeded = is_one_of(jobs.c.state, JobState.SUCCEEDED)
_ranked = (
    select(
        deployments.c.id,
        jobs.c.finished_at,
        _succeeded.label("succeeded"),
        func.row_number().over(partition_by=_environment, order_by=deployments.c.sequence.desc()).label("place"),
        func.row_number()
        .over(partition_by=(*_environment, _succeeded), order_by=deployments.c.sequence.desc())
        .label("place_among_alike"),
    )
    .select_from(deployments.join(jobs, jobs.c.id == deployments.c.job_id))
    .subquery()
)
_OLD_DEPLOYMENTS: Final = (
    select(_ranked.c.id)
    .where(
        _ranked.c.finished_at < bindparam("of_finished_before"),
        _ranked.c.place > KEPT_DEPLOYMENTS,
        or_(~_ranked.c.succeeded, _ranked.c.place_among_alike > 1),
    )
    .limit(bindparam("of_limit"))
)
_LOOSE_JOBS: Final = (
    select(jobs.c.id)
    .where(jobs.c.deployment_id.is_(None), jobs.c.finished_at < bindparam("of_finished_before"))
    .limit(bindparam("of_limit"))
)
_IS_NEEDED: Final = or_(
    exists().where(
        deployments.c.organization == bundles.c.organization, deployments.c.bundle_sha256 == bundles.c.sha256
    ),
    exists().where(plans.c.organization == bundles.c.organization, plans.c.bundle_sha256 == bundles.c.sha256),
)
_LOOSE_BUNDLES: Final = (
    select(bundles.c.organization, bundles.c.sha256)
    .where(bundles.c.created_at < bindparam("of_created_before"), ~_IS_NEEDED)
    .limit(bindparam("of_limit"))
)


def forgettable(connection: Connection, history_seconds: float, now: float, limit: int) -> Forgettable:
    """
    Return what may go now, at most `limit` of each kind.

    Args:
        connection: In a read; it looks at every deployment.
        history_seconds: How long ended deployments are kept at least.
        now: Seconds since the epoch.
        limit: How much may be forgotten in one write.
    """
    old = {"of_finished_before": now - history_seconds, "of_limit": limit}
    loose = {"of_finished_before": now - LOOSE_SECONDS, "of_limit": limit}
    uploads = {"of_created_before": now - BUNDLE_GRACE_SECONDS, "of_limit": limit}
    return Forgettable(
        tuple(connection.scalars(_OLD_DEPLOYMENTS, old)),
        tuple(connection.scalars(_LOOSE_JOBS, loose)),
        tuple((organization, sha256) for organization, sha256 in connection.execute(_LOOSE_BUNDLES, uploads)),
    )


def forget(connection: Connection, what: Forgettable, now: float) -> Forgettable:
    """
    Delete rows that may go, unless something happened to them since, such as a retry.

    Args:
        connection: In a write.
        what: As found before, in a read.
        now: Seconds since the epoch.
    Returns: What went.
    """
    loose = tuple(
        connection.scalars(select(jobs.c.id).where(jobs.c.id.in_(what.jobs), jobs.c.finished_at.is_not(None)))
    )
    _forget_jobs(connection, loose)
    of_these = jobs.c.deployment_id.in_(what.deployments)
    busy = set(connection.scalars(select(jobs.c.deployment_id).where(of_these, jobs.c.finished_at.is_(None))))
    ended = tuple(deployment_id for deployment_id in what.deployments if deployment_id not in busy)
    _forget_jobs(connection, tuple(connection.scalars(select(jobs.c.id).where(jobs.c.deployment_id.in_(ended)))))
    connection.execute(delete(deployments).where(deployments.c.id.in_(ended)))
    unused = tuple(bundle for bundle in what.bundles if _forget_bundle(connection, *bundle, now))
    return Forgettable(ended, loose, unused)


def _forget_jobs(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(delete(job_events).where(job_events.c.job_id.in_(ids)))
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))


def _forget_bundle(connection: Connection, organization: str, sha256: str, now: float) -> bool:
    this = (bundles.c.organization == organization, bundles.c.sha256 == sha256, ~_IS_NEEDED)
    old = bundles.c.created_at < now - BUNDLE_GRACE_SECONDS
    return connection.execute(delete(bundles).where(*this, old)).rowcount > 0


def used_bundles(connection: Connection, hashes: Sequence[str]) -> set[str]:
    """Return those of some hashes that an organization has as a bundle."""
    return set(connection.scalars(select(bundles.c.sha256).where(bundles.c.sha256.in_(hashes)).distinct()))
