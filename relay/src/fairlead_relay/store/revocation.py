"""
Cutting agents off: clusters that are disabled and enabled, agents that are revoked.

Each takes the agent's session away in the same transaction, so that what it still reports counts no more at once; the
relay that holds the connection sees it in its next sweep and closes it. Its jobs wait, unreachable, for the agent that
comes back.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, delete, func, select, update

from fairlead_relay.errors import NotFound
from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.schema import agents, approvals, clusters, enrolment_tokens
from fairlead_relay.store.sessions import close_session


def disable_cluster(connection: Connection, organization: str, name: str, now: float) -> None:
    """
    Disconnect a cluster's agent and let none in until it is enabled. Twice is once.

    Raises: NotFound: no such cluster.
    """
    find_cluster(connection, organization, name)
    connection.execute(
        update(clusters)
        .where(clusters.c.organization == organization, clusters.c.name == name)
        .values(disabled_at=func.coalesce(clusters.c.disabled_at, now))
    )
    disconnect_agent(connection, organization, name, now)


def enable_cluster(connection: Connection, organization: str, name: str) -> None:
    """
    Undo `disable_cluster`: the agent connects again by itself. Twice is once.

    Raises: NotFound: no such cluster.
    """
    find_cluster(connection, organization, name)
    connection.execute(
        update(clusters)
        .where(clusters.c.organization == organization, clusters.c.name == name)
        .values(disabled_at=None)
    )


def revoke_agent(connection: Connection, organization: str, cluster: str, now: float) -> None:
    """
    Make an agent's certificates worthless for good; it comes back only by a new token. Twice is once.

    The cluster's tokens end too: the agent may hold one that its key can still use.

    Raises: NotFound: no such cluster, or no agent has enrolled for it.
    """
    if find_cluster(connection, organization, cluster).agent is None:
        raise NotFound("agent", cluster)
    of_cluster = (agents.c.organization == organization, agents.c.cluster == cluster)
    connection.execute(update(agents).where(*of_cluster).values(revoked_at=func.coalesce(agents.c.revoked_at, now)))
    connection.execute(
        update(enrolment_tokens)
        .where(
            enrolment_tokens.c.organization == organization,
            enrolment_tokens.c.cluster == cluster,
            enrolment_tokens.c.expires_at > now,
        )
        .values(expires_at=now)
    )
    connection.execute(
        delete(approvals).where(approvals.c.organization == organization, approvals.c.cluster == cluster)
    )
    disconnect_agent(connection, organization, cluster, now)


def disconnect_agent(connection: Connection, organization: str, cluster: str, now: float) -> None:
    """Take the session from a cluster's agent; none is fine. The relay that holds the connection closes it."""
    holds = and_(agents.c.organization == organization, agents.c.cluster == cluster, agents.c.session_id.is_not(None))
    for session_id in connection.scalars(select(agents.c.session_id).where(holds)).all():
        if session_id is not None:
            close_session(connection, session_id, now)
