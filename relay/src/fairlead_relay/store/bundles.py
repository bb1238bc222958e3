"""Bundles: which content an organization has stored. The bytes are in the blob port (blobs.py), once for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, literal, select

from fairlead_relay.store.jobs import is_one_of
from fairlead_relay.store.schema import bundles, deployments, jobs, plans
from fairlead_shared.jobs import HELD_STATES, JobState


@dataclass(frozen=True, slots=True)
class Bundle:
    """An organization's right to content it has stored."""

    organization: str
    sha256: str
    """Lower-case hex of the raw bytes."""
    size_bytes: int
    """Of the raw bytes."""
    created_at: float
    """Seconds since the epoch."""


_COLUMNS: Final = (bundles.c.organization, bundles.c.sha256, bundles.c.size_bytes, bundles.c.created_at)
_FIND: Final = select(*_COLUMNS).where(
    bundles.c.organization == bindparam("of_organization"), bundles.c.sha256 == bindparam("of_sha256")
)
_INSERT: Final = insert(bundles)
_THEIRS: Final = (
    jobs.c.organization == bindparam("of_organization"),
    jobs.c.cluster == bindparam("of_cluster"),
    jobs.c.finished_at.is_(None),
    # Beside those that wait, of which there may be thousands.
    is_one_of(jobs.c.state, JobState.UNREACHABLE, *HELD_STATES),
)
_OFFERS: Final = (
    select(literal(1))
    .select_from(deployments.join(jobs, jobs.c.deployment_id == deployments.c.id))
    .where(*_THEIRS, deployments.c.bundle_sha256 == bindparam("of_sha256"))
    .limit(1),
    select(literal(1))
    .select_from(plans.join(jobs, jobs.c.id == plans.c.job_id))
    .where(*_THEIRS, plans.c.bundle_sha256 == bindparam("of_sha256"))
    .limit(1),
)
"""Made once: every deployment asks, and making a statement costs more than running one of these."""


def find_bundle(connection: Connection, organization: str, sha256: str) -> Bundle | None:
    """Return a bundle; None when this organization never stored it, whoever else did."""
    row = connection.execute(_FIND, {"of_organization": organization, "of_sha256": sha256}).one_or_none()
    return None if row is None else Bundle(*row)


def add_bundle(connection: Connection, bundle: Bundle) -> bool:
    """
    Note that an organization stored content, after the blob port has it.

    Returns: True when it is new, False when it was known.
    """
    if find_bundle(connection, bundle.organization, bundle.sha256) is not None:
        return False
    row = {
        "organization": bundle.organization,
        "sha256": bundle.sha256,
        "size_bytes": bundle.size_bytes,
        "created_at": bundle.created_at,
    }
    connection.execute(_INSERT, row)
    return True


def serves_cluster(connection: Connection, organization: str, cluster: str, sha256: str) -> bool:
    """Tell whether a job that a cluster's agent was given needs this bundle: only then may the agent fetch it."""
    of = {"of_organization": organization, "of_cluster": cluster, "of_sha256": sha256}
    return any(connection.scalar(offer, of) is not None for offer in _OFFERS)
