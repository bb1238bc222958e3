"""
Which agents may connect, renew and rejoin: one answer for every transport, kept in the store across restarts.

An agent is let in unless its cluster is disabled, it was revoked, or another agent enrolled in its place since. Its
certificate's own validity is checked before: by TLS for connections, by the authority for rejoins. Two floors make old
certificates worthless: the last enrolment's, for everything, and that of the newest certificate that was in use, for
rejoins, so that a key that leaked once is of no use after its successor was seen.

Both are times at which certificates count as made, and only ever compared with each other: a new certificate counts as
made after all before it (`newest_made`), also while the relay's clock is behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, insert, select, update

from fairlead_relay.errors import AgentRefused, Conflict, NotFound
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.schema import agents, approvals, clusters
from fairlead_shared.errors import ErrorCode
from fairlead_shared.identity import AgentIdentity, identity_fingerprint


@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate that an agent showed or stored."""

    serial: str
    """Lower-case hex."""
    issuer: str
    """Fingerprint of the issuing CA, lower-case hex."""
    made_at: float
    """Seconds since the epoch."""
    expires_at: float
    """Seconds since the epoch."""


def _is_of_cluster(table: Table) -> ColumnElement[bool]:
    return and_(table.c.organization == bindparam("of_organization"), table.c.cluster == bindparam("of_cluster"))


def _names(identity: AgentIdentity) -> dict[str, object]:
    return {"of_organization": identity.organization, "of_cluster": identity.cluster}


def check_enabled(connection: Connection, organization: str, cluster: str) -> None:
    """
    Check that a cluster's agent may come at all.

    Raises: NotFound: no such cluster. AgentRefused: it is disabled.
    """
    row = connection.execute(
        select(clusters.c.disabled_at).where(clusters.c.organization == organization, clusters.c.name == cluster)
    ).one_or_none()
    if row is None:
        raise NotFound("cluster", cluster)
    _refuse_disabled(cluster, row.disabled_at)


def _refuse_disabled(cluster: str, disabled_at: float | None) -> None:
    if disabled_at is not None:
        raise AgentRefused(
            ErrorCode.REVOKED,
            f"cluster '{cluster}' was disabled at {iso_time(disabled_at)}; "
            f"'fairlead cluster enable {cluster}' lets its agent in again",
        )


_STANDING: Final = (
    select(agents.c.revoked_at, agents.c.enrolled_from, agents.c.enrolled_at, clusters.c.disabled_at)
    .join(clusters, and_(clusters.c.organization == agents.c.organization, clusters.c.name == agents.c.cluster))
    .where(_is_of_cluster(agents), agents.c.name == bindparam("of_agent"))
)


def check_agent(connection: Connection, identity: AgentIdentity, made_at: float | None = None) -> None:
    """
    Check that an agent may connect, or have another certificate.

    Args:
        connection: In a read or write.
        identity: Whom its certificate names.
        made_at: When that certificate was made, seconds since the epoch; None where it was checked before.
    Raises: AgentRefused: unknown, disabled, revoked, or replaced by a later enrolment.
    """
    row = connection.execute(_STANDING, {**_names(identity), "of_agent": identity.agent}).one_or_none()
    if row is None:
        raise AgentRefused(ErrorCode.REVOKED, "this relay knows no such agent; enrol with a new token")
    _refuse_disabled(identity.cluster, row.disabled_at)
    if row.revoked_at is not None:
        raise AgentRefused(
            ErrorCode.REVOKED,
            f"the agent of cluster '{identity.cluster}' was revoked at {iso_time(row.revoked_at)}; "
            "it may enrol again with a new token",
        )
    if made_at is not None and made_at < row.enrolled_from:
        raise AgentRefused(
            ErrorCode.REVOKED,
            f"another agent enrolled for cluster '{identity.cluster}' at {iso_time(row.enrolled_at)}, "
            "after this certificate was made; enrol again with a new token if this one shall serve it",
        )


def newest_made(connection: Connection, identity: AgentIdentity) -> float:
    """Return when the newest certificate of an agent counts as made; 0 before its first. The next must be newer."""
    floors = (agents.c.enrolled_from, agents.c.presented_from, agents.c.issued_from)
    row = connection.execute(select(*floors).where(_is(agents, identity))).one_or_none()
    return 0.0 if row is None else max(row)


def check_rejoin(connection: Connection, identity: AgentIdentity, made_at: float) -> None:
    """
    Check that the certificate with which an agent wants to rejoin is the newest it was seen with.

    Raises: AgentRefused: as `check_agent`, or a newer certificate was in use since.
    """
    check_agent(connection, identity, made_at)
    newest = connection.scalar(select(agents.c.presented_from).where(_is(agents, identity)))
    if newest is not None and made_at < newest:
        raise AgentRefused(
            ErrorCode.REVOKED,
            "this certificate was replaced by a newer one that was in use since; restore the agent's newest Secret, "
            "or enrol again with a new token",
        )


_PRESENTED: Final = (
    update(agents)
    .where(_is_of_cluster(agents), agents.c.presented_from <= bindparam("new_made_at"))
    .values(
        presented_from=bindparam("new_made_at"),
        certificate_serial=bindparam("new_serial"),
        certificate_issuer=bindparam("new_issuer"),
        certificate_expires_at=bindparam("new_expires_at"),
    )
)
_APPROVAL_USED: Final = delete(approvals).where(_is_of_cluster(approvals), approvals.c.approved_at.is_not(None))


def note_presented(connection: Connection, identity: AgentIdentity, presented: Presented) -> None:
    """Note that an agent holds a certificate; one older than the newest known changes nothing."""
    names = _names(identity)
    connection.execute(
        _PRESENTED,
        {
            **names,
            "new_made_at": presented.made_at,
            "new_serial": presented.serial,
            "new_issuer": presented.issuer,
            "new_expires_at": presented.expires_at,
        },
    )
    connection.execute(_APPROVAL_USED, names)


@dataclass(frozen=True, slots=True)
class Moves:
    """How far a fleet has come in a change of the CA."""

    moved: int
    """Agents whose certificate is by the CA in force."""
    unmoved: tuple[str, ...]
    """The others, as ORGANIZATION/CLUSTER; revoked ones do not count."""

    @property
    def agents(self) -> int:
        """All of them."""
        return self.moved + len(self.unmoved)


def count_moves(connection: Connection, issuer: str) -> Moves:
    """Count the agents that hold a certificate of an issuing CA, by its fingerprint."""
    rows = connection.execute(
        select(agents.c.organization, agents.c.cluster, agents.c.certificate_issuer)
        .where(agents.c.revoked_at.is_(None))
        .order_by(agents.c.organization, agents.c.cluster)
    ).all()
    unmoved = tuple(f"{row.organization}/{row.cluster}" for row in rows if row.certificate_issuer != issuer)
    return Moves(len(rows) - len(unmoved), unmoved)


def needs_approval(connection: Connection, organization: str, cluster: str) -> bool:
    """Tell whether a person must approve the enrolments of a cluster."""
    of_cluster = and_(clusters.c.organization == organization, clusters.c.name == cluster)
    return bool(connection.scalar(select(clusters.c.require_approval).where(of_cluster)))


def is_approved(
    connection: Connection,
    identity: AgentIdentity,
    kind: Literal["enrol", "rejoin"],
    key_sha256: str,
    now: float,
) -> bool:
    """
    Tell whether a person approved a key, and note the wish if not: the newest key takes the place of any other.

    Args:
        connection: In a write.
        identity: Whom the certificate would name.
        kind: What the agent wants.
        key_sha256: Of its key's public part, lower-case hex.
        now: Seconds since the epoch.
    """
    row = connection.execute(
        select(approvals.c.key_sha256, approvals.c.approved_at, approvals.c.kind).where(_is(approvals, identity))
    ).one_or_none()
    if row is not None and (row.key_sha256, row.kind) == (key_sha256, kind):
        return row.approved_at is not None
    connection.execute(delete(approvals).where(_is(approvals, identity)))
    connection.execute(
        insert(approvals).values(
            organization=identity.organization,
            cluster=identity.cluster,
            key_sha256=key_sha256,
            kind=kind,
            requested_at=now,
        )
    )
    return False


def approve(connection: Connection, organization: str, cluster: str, fingerprint: str, now: float) -> None:
    """
    Let the key in that waits.

    Args:
        connection: In a write.
        organization: The cluster's.
        cluster: The cluster.
        fingerprint: Of the key, as the person saw it in the cluster.
        now: Seconds since the epoch.
    Raises: Conflict: none waits, or another key than that.
    """
    guard = (approvals.c.organization == organization, approvals.c.cluster == cluster)
    waiting = connection.scalar(select(approvals.c.key_sha256).where(*guard))
    if waiting is None:
        raise Conflict(f"no agent of cluster '{cluster}' waits for approval")
    if identity_fingerprint(waiting) != fingerprint:
        raise Conflict(
            f"the key that waits has the fingerprint {identity_fingerprint(waiting)}, not {fingerprint}; "
            "approve it only if the agent in the cluster shows the same"
        )
    connection.execute(update(approvals).where(*guard, approvals.c.approved_at.is_(None)).values(approved_at=now))


def _is(table: Table, identity: AgentIdentity) -> ColumnElement[bool]:
    return and_(table.c.organization == identity.organization, table.c.cluster == identity.cluster)
