"""
Clusters, the agents that serve them, and the tokens with which agents enrol.

Must not: see a token's secret (only its hash), or decide whether a certificate is good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from fairlead_relay.errors import Conflict, EnrolmentRefused, NotFound
from fairlead_relay.store.organizations import find_organization
from fairlead_relay.store.schema import agents, approvals, clusters, enrolment_tokens
from fairlead_shared.errors import ErrorCode
from fairlead_shared.identity import AgentIdentity


@dataclass(frozen=True, slots=True)
class Agent:
    """The program that serves a cluster, as it introduced itself last."""

    name: str
    enrolled_at: float
    version: str
    """Empty until its first hello, as are the next two."""
    kubernetes_version: str
    replica: str
    sealing_key: str
    """Base64 of the raw X25519 public key."""
    certificate_serial: str
    """Lower-case hex."""
    certificate_expires_at: float
    certificate_issuer: str | None
    """Fingerprint of the CA that issued the certificate it was last seen with; None until then."""
    revoked_at: float | None
    session_id: str | None
    """The connection that holds its jobs; None while it is offline."""
    connected_at: float | None
    last_seen_at: float | None


@dataclass(frozen=True, slots=True)
class Approval:
    """An agent's wish to be let in, which a person decides on."""

    key_sha256: str
    """Of its identity key, lower-case hex."""
    kind: str
    """`enrol`, or `rejoin` after an absence that is too long."""
    requested_at: float
    approved_at: float | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster with its agent. Times are seconds since the epoch."""

    organization: str
    name: str
    created_at: float
    require_approval: bool
    """Whether a person must approve each enrolment."""
    disabled_at: float | None
    approval: Approval | None
    """The newest wish, also after it was approved, until the agent is seen."""
    agent: Agent | None
    """None until the first enrolment."""

    @property
    def state(self) -> str:
        """What is to be seen first: `disabled`, `unapproved`, `pending`, `revoked`, `connected` or `offline`."""
        if self.disabled_at is not None:
            return "disabled"
        if self.agent is None or self.agent.revoked_at is not None:
            if self.approval is not None and self.approval.approved_at is None:
                return "unapproved"
            return "pending" if self.agent is None else "revoked"
        return "offline" if self.agent.session_id is None else "connected"


@dataclass(frozen=True, slots=True)
class EnrolmentGrant:
    """What a token lets its bearer enrol as."""

    organization: str
    cluster: str


_AGENT = (
    agents.c.name.label("agent_name"),
    agents.c.enrolled_at,
    agents.c.version,
    agents.c.kubernetes_version,
    agents.c.replica,
    agents.c.sealing_key,
    agents.c.certificate_serial,
    agents.c.certificate_expires_at,
    agents.c.certificate_issuer,
    agents.c.revoked_at,
    agents.c.session_id,
    agents.c.connected_at,
    agents.c.last_seen_at,
)
_APPROVAL = (approvals.c.key_sha256, approvals.c.kind, approvals.c.requested_at, approvals.c.approved_at)
_SELECT = select(
    clusters.c.organization,
    clusters.c.name,
    clusters.c.created_at,
    clusters.c.require_approval,
    clusters.c.disabled_at,
    *_APPROVAL,
    *_AGENT,
).select_from(
    clusters.outerjoin(
        agents, and_(agents.c.organization == clusters.c.organization, agents.c.cluster == clusters.c.name)
    ).outerjoin(
        approvals, and_(approvals.c.organization == clusters.c.organization, approvals.c.cluster == clusters.c.name)
    )
)
_FIND = _SELECT.where(clusters.c.organization == bindparam("of_organization"), clusters.c.name == bindparam("of_name"))
"""Made once: every deployment that waits asks, and making a statement costs more than running this one."""


def create_cluster(
    connection: Connection, organization: str, name: str, now: float, *, require_approval: bool = False
) -> Cluster:
    """
    Create a cluster that waits for its agent.

    Args:
        connection: In a write.
        organization: Whose it is.
        name: Its name.
        now: Seconds since the epoch.
        require_approval: Whether a person must approve each enrolment.
    Raises: NotFound: no such organization. Conflict: the name is taken.
    """
    find_organization(connection, organization)
    try:
        connection.execute(
            insert(clusters).values(
                organization=organization, name=name, created_at=now, require_approval=require_approval
            )
        )
    except IntegrityError as error:
        raise Conflict(f"cluster '{name}' exists already") from error
    return Cluster(organization, name, now, require_approval, None, None, None)


def find_cluster(connection: Connection, organization: str, name: str) -> Cluster:
    """
    Return a cluster with its agent.

    Raises: NotFound: the organization has none of that name.
    """
    row = connection.execute(_FIND, {"of_organization": organization, "of_name": name}).one_or_none()
    if row is None:
        raise NotFound("cluster", name)
    return _cluster(row)


def list_clusters(
    connection: Connection, organization: str, limit: int, after: str | None = None, *, with_agent: bool = False
) -> list[Cluster]:
    """Return at most `limit` clusters by name, those after the name `after`; empty at the end."""
    query = _SELECT.where(clusters.c.organization == organization)
    if after is not None:
        query = query.where(clusters.c.name > after)
    if with_agent:
        query = query.where(agents.c.name.is_not(None))
    return [_cluster(row) for row in connection.execute(query.order_by(clusters.c.name).limit(limit))]


def _cluster(row: Sequence[Any]) -> Cluster:
    organization, name, created_at, require_approval, disabled_at, *rest = row
    approval, agent = rest[: len(_APPROVAL)], rest[len(_APPROVAL) :]
    return Cluster(
        organization,
        name,
        created_at,
        require_approval,
        disabled_at,
        None if approval[0] is None else Approval(*approval),
        None if agent[0] is None else Agent(*agent),
    )


def create_enrolment_token(
    connection: Connection,
    grant: EnrolmentGrant,
    token_id: str,
    secret_sha256: str,
    now: float,
    expires_at: float,
) -> None:
    """
    Store a one-time token for a cluster's agent.

    Args:
        connection: In a write.
        grant: The cluster it is bound to.
        token_id: Its public part.
        secret_sha256: `EnrolmentToken.secret_hash()`.
        now: Seconds since the epoch.
        expires_at: Seconds since the epoch.
    Raises: NotFound: no such cluster.
    """
    find_cluster(connection, grant.organization, grant.cluster)
    connection.execute(
        insert(enrolment_tokens).values(
            id=token_id,
            organization=grant.organization,
            cluster=grant.cluster,
            secret_sha256=secret_sha256,
            created_at=now,
            expires_at=expires_at,
        )
    )


def use_enrolment_token(
    connection: Connection, token_id: str, secret_sha256: str, key_sha256: str, now: float
) -> EnrolmentGrant:
    """
    Spend a token on one key, in one statement.

    The same key may ask again until the expiry: its answer may have been lost.

    Args:
        connection: In a write.
        token_id: The token's public part.
        secret_sha256: Hash of the secret that was presented.
        key_sha256: Fingerprint of the public key in the agent's request.
        now: Seconds since the epoch.
    Returns: What the agent may enrol as. A token that waits for approval, or was approved, outlives its expiry for the
        key that used it.
    Raises: EnrolmentRefused: unknown, wrong secret, spent on another key, or expired. Permanent.
    """
    waits = exists().where(
        approvals.c.organization == enrolment_tokens.c.organization,
        approvals.c.cluster == enrolment_tokens.c.cluster,
        approvals.c.key_sha256 == key_sha256,
    )
    used = enrolment_tokens.c.used_key_sha256
    guard = and_(
        enrolment_tokens.c.id == token_id,
        enrolment_tokens.c.secret_sha256 == secret_sha256,
        or_(
            and_(enrolment_tokens.c.expires_at > now, or_(used.is_(None), used == key_sha256)),
            and_(used == key_sha256, waits),
        ),
    )
    row = connection.execute(
        update(enrolment_tokens)
        .where(guard)
        .values(used_at=func.coalesce(enrolment_tokens.c.used_at, now), used_key_sha256=key_sha256)
        .returning(enrolment_tokens.c.organization, enrolment_tokens.c.cluster)
    ).one_or_none()
    if row is not None:
        return EnrolmentGrant(*row)
    # Only the holder of the secret learns which of the reasons it is.
    known = connection.execute(
        select(enrolment_tokens.c.expires_at, enrolment_tokens.c.used_at).where(
            enrolment_tokens.c.id == token_id, enrolment_tokens.c.secret_sha256 == secret_sha256
        )
    ).one_or_none()
    if known is None:
        raise EnrolmentRefused(ErrorCode.TOKEN_INVALID, "the token is unknown; create a new one for this cluster")
    if known.used_at is not None:
        raise EnrolmentRefused(ErrorCode.TOKEN_INVALID, "the token was used already; create a new one for this cluster")
    raise EnrolmentRefused(ErrorCode.TOKEN_EXPIRED, "the token has expired; create a new one for this cluster")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an agent enrolled with, and got."""

    sealing_key: str
    """Base64 of the raw X25519 public key."""
    key_sha256: str
    """Of its identity key's public part, lower-case hex."""
    serial: str
    """The certificate's serial, lower-case hex."""
    made_at: float
    """When the certificate counts as made, seconds since the epoch."""
    expires_at: float
    """The certificate's end, seconds since the epoch."""


def enrol_agent(connection: Connection, identity: AgentIdentity, enrolled: Enrolled, now: float) -> None:
    """
    Note an agent's first certificate, or its new one after it enrolled again; it is revoked no more.

    Certificates made before count no more, unless the same key only asks again because an answer was lost.

    Args:
        connection: In a write.
        identity: Whom the certificate names.
        enrolled: Keys and certificate.
        now: Seconds since the epoch.
    """
    values: dict[str, Any] = {
        "enrolled_at": now,
        "revoked_at": None,
        "sealing_key": enrolled.sealing_key,
        "enrolled_key_sha256": enrolled.key_sha256,
        "certificate_serial": enrolled.serial,
        "certificate_expires_at": enrolled.expires_at,
        "issued_from": enrolled.made_at,
    }
    is_repeated = and_(agents.c.enrolled_key_sha256 == enrolled.key_sha256, agents.c.revoked_at.is_(None))
    floors = {
        name: case((is_repeated, agents.c[name]), else_=enrolled.made_at)
        for name in ("enrolled_from", "presented_from")
    }
    if connection.execute(update(agents).where(_is(identity)).values({**values, **floors})).rowcount == 0:
        connection.execute(
            insert(agents).values(
                organization=identity.organization,
                cluster=identity.cluster,
                name=identity.agent,
                version="",
                kubernetes_version="",
                replica="",
                enrolled_from=enrolled.made_at,
                presented_from=enrolled.made_at,
                **values,
            )
        )


def renew_certificate(
    connection: Connection, identity: AgentIdentity, serial: str, made_at: float, expires_at: float
) -> None:
    """
    Note an agent's renewed certificate.

    Args:
        connection: In a write.
        identity: Whom it names.
        serial: Lower-case hex.
        made_at: When it counts as made, seconds since the epoch.
        expires_at: Seconds since the epoch.
    Raises: NotFound: no such agent.
    """
    changed = connection.execute(
        update(agents)
        .where(_is(identity))
        .values(certificate_serial=serial, issued_from=made_at, certificate_expires_at=expires_at)
    )
    if changed.rowcount == 0:
        raise NotFound("agent", str(identity))


def _is(identity: AgentIdentity) -> ColumnElement[bool]:
    return and_(
        agents.c.organization == identity.organization,
        agents.c.cluster == identity.cluster,
        agents.c.name == identity.agent,
    )
