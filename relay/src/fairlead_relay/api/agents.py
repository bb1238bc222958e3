"""Routes of agents: the programs that serve clusters, one per cluster, and their revocation."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.clusters import AgentShown, ClusterState, NamePath, OrganizationPath, show_agent, state_of
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.errors import NotFound
from fairlead_relay.store.clusters import Cluster, find_cluster, list_clusters
from fairlead_relay.store.revocation import revoke_agent
from fairlead_relay.store.tokens import Role

router = APIRouter(prefix="/v1/organizations/{organization}/agents", tags=["agents"])


class AgentOfCluster(AgentShown):
    """An agent with the cluster it serves."""

    cluster: str
    state: ClusterState


@router.get("")
@needs(Role.VIEWER)
async def index(
    organization: OrganizationPath, services: ServicesOf, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[AgentOfCluster]:
    """List the agents that have enrolled, by cluster."""

    def read(connection: Connection) -> list[Cluster]:
        return list_clusters(connection, organization, limit + 1, cursor, with_agent=True)

    return page(await services.store.read(read), limit, _show, lambda row: row.name)


@router.get("/{cluster}")
@needs(Role.VIEWER)
async def show(organization: OrganizationPath, cluster: NamePath, services: ServicesOf) -> AgentOfCluster:
    """Show the agent of one cluster."""
    return _show(await services.store.read(lambda connection: find_cluster(connection, organization, cluster)))


@router.post("/{cluster}/revoke")
@needs(Role.ADMIN, audit="agent.revoke")
async def revoke(
    organization: OrganizationPath, cluster: NamePath, services: ServicesOf, trail: TrailOf
) -> AgentOfCluster:
    """Disconnect an agent within seconds and make its certificates worthless; it comes back only by a new token."""
    now = services.clock()

    def write(connection: Connection) -> Cluster:
        revoke_agent(connection, organization, cluster, now)
        found = find_cluster(connection, organization, cluster)
        serial = found.agent.certificate_serial if found.agent else None
        trail.note(connection, before={"certificate_serial": serial})
        return found

    return _show(await services.store.write(write))


def _show(cluster: Cluster) -> AgentOfCluster:
    if cluster.agent is None:
        raise NotFound("agent", cluster.name)
    shown = show_agent(cluster.agent)
    return AgentOfCluster(cluster=cluster.name, state=state_of(cluster), **shown.model_dump())
