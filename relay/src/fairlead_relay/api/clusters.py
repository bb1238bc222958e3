"""Routes of clusters and their enrolment tokens."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay import __version__
from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Name, Shown
from fairlead_relay.api.labelling import (
    TAGGED,
    IfMatch,
    LabelsChange,
    LabelValues,
    SelectorText,
    change_noted,
    revisions_of,
    selector_of,
    tag,
)
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page
from fairlead_relay.api.services import Services, ServicesOf
from fairlead_relay.pki.random_text import random_base32
from fairlead_relay.store.access import approve
from fairlead_relay.store.clusters import (
    Agent,
    Approval,
    Cluster,
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    find_cluster,
    list_clusters,
)
from fairlead_relay.store.labels import Labelled, Labels, find_labels, select_labelled, start_labels
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.revocation import disable_cluster, enable_cluster
from fairlead_relay.store.tokens import Role
from fairlead_relay.version_skew import Skew, skew_of
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.identity import check_name, identity_fingerprint, key_fingerprint

router = APIRouter(prefix="/v1/organizations/{organization}/clusters", tags=["clusters"])

ENROLMENT_SECONDS = 3600.0
"""Life of an enrolment token: long enough to install a chart, short enough that a leaked one is soon worthless."""

ClusterState = Literal["pending", "unapproved", "connected", "offline", "disabled", "revoked"]
OrganizationPath = Annotated[str, Path(max_length=63)]
NamePath = Annotated[str, Path(max_length=63)]


class SealingKey(Shown):
    """The key that clients seal Secret values to."""

    public_key: str
    """Base64 of the raw X25519 key."""
    fingerprint: str
    """As `fairlead-agent keys` prints it in the cluster: compare the two."""


class AgentShown(Shown):
    """The program that serves a cluster."""

    name: str
    version: str
    skew: Skew
    """Of the version beside this relay's: supported are `same` and `older`."""
    kubernetes_version: str
    replica: str
    connected_at: str | None
    last_seen_at: str | None
    certificate_serial: str
    certificate_expires_at: str
    revoked_at: str | None
    sealing_key: SealingKey


class ApprovalShown(Shown):
    """An agent that waits until a person lets it in."""

    fingerprint: str
    """Of its identity key, as the agent in the cluster shows it: approve it only if the two are the same."""
    kind: Literal["enrol", "rejoin"]
    requested_at: str


class ClusterShown(Shown):
    """A cluster."""

    name: str
    state: ClusterState
    created_at: str
    labels: dict[str, str]
    require_approval: bool
    disabled_at: str | None
    approval: ApprovalShown | None
    """None while nobody waits."""
    agent: AgentShown | None
    """Null until the first has enrolled."""


class Enrolment(Shown):
    """What an agent needs to enrol; shown once."""

    token: str
    """A secret, for one agent and one use."""
    expires_at: str
    agent_url: str


class ClusterCreate(Asked):
    """A new cluster."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "harbour"}]})

    name: Name
    labels: LabelValues = Field(default_factory=dict)
    require_approval: bool = False
    """Whether a person must approve the key of each agent that enrols."""


class Approve(Asked):
    """Which key to let in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"fingerprint": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"}]}
    )

    fingerprint: Annotated[str, Field(max_length=100)]
    """As the agent in the cluster shows it."""


class ClusterCreated(Shown):
    """A new cluster and the token for its agent."""

    cluster: ClusterShown
    enrolment: Enrolment


@router.post("", status_code=201)
@needs(Role.ADMIN, audit="cluster.create")
async def create(
    organization: OrganizationPath, body: ClusterCreate, services: ServicesOf, trail: TrailOf
) -> ClusterCreated:
    """Create a cluster and a token with which its agent enrols."""
    name = check_name("name", body.name)
    now = services.clock()

    def write(connection: Connection) -> ClusterCreated:
        made = create_cluster(connection, organization, name, now, require_approval=body.require_approval)
        labels = start_labels(connection, _labelled(organization, name), body.labels)
        token_id, enrolment = _enrolment(services, connection, organization, name)
        after = {"require_approval": made.require_approval, "labels": labels.values, "enrolment_token": token_id}
        trail.note(connection, f"cluster/{name}", after=after)
        return ClusterCreated(cluster=show_cluster(made, labels), enrolment=enrolment)

    return await services.store.write(write)


@router.get("")
@needs(Role.VIEWER)
async def index(
    organization: OrganizationPath,
    services: ServicesOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    selector: SelectorText = None,
) -> Page[ClusterShown]:
    """List clusters by name, those whose labels match."""
    wanted = selector_of(selector)

    def read(connection: Connection) -> list[tuple[Cluster, Labels]]:
        def fetch(most: int, after: str | None) -> list[Cluster]:
            return list_clusters(connection, organization, most, after)

        of = _labelled(organization)
        return select_labelled(connection, of, wanted, limit + 1, cursor, fetch, lambda row: row.name)

    rows = await services.store.read(read)
    return page(rows, limit, lambda row: show_cluster(*row), lambda row: row[0].name)


@router.get("/{name}", responses=TAGGED)
@needs(Role.VIEWER)
async def show(
    organization: OrganizationPath, name: NamePath, services: ServicesOf, response: Response
) -> ClusterShown:
    """Show one cluster with its agent."""
    cluster, labels = await services.store.read(lambda connection: _find(connection, organization, name))
    tag(response, labels)
    return show_cluster(cluster, labels)


@router.patch("/{name}", responses=TAGGED)
@needs(Role.ADMIN, audit="cluster.label")
async def change(
    organization: OrganizationPath,
    name: NamePath,
    body: LabelsChange,
    services: ServicesOf,
    trail: TrailOf,
    response: Response,
    if_match: IfMatch = None,
) -> ClusterShown:
    """Change some labels of a cluster."""
    revisions = revisions_of(if_match)

    def write(connection: Connection) -> tuple[Cluster, Labels]:
        cluster = find_cluster(connection, organization, name)
        return cluster, change_noted(trail, connection, _labelled(organization, name), body.labels, revisions)

    cluster, labels = await services.store.write(write)
    tag(response, labels)
    return show_cluster(cluster, labels)


@router.post("/{name}/enrolment-tokens", status_code=201)
@needs(Role.ADMIN, audit="enrolment_token.create")
async def create_token(
    organization: OrganizationPath, name: NamePath, services: ServicesOf, trail: TrailOf
) -> Enrolment:
    """Create another enrolment token, such as for an agent that lost its Secret."""

    def write(connection: Connection) -> Enrolment:
        token_id, enrolment = _enrolment(services, connection, organization, name)
        trail.note(connection, after={"enrolment_token": token_id, "expires_at": enrolment.expires_at})
        return enrolment

    return await services.store.write(write)


@router.post("/{name}/disable")
@needs(Role.ADMIN, audit="cluster.disable")
async def disable(organization: OrganizationPath, name: NamePath, services: ServicesOf, trail: TrailOf) -> ClusterShown:
    """Disconnect the cluster's agent within seconds, and let none in until the cluster is enabled."""
    now = services.clock()

    def write(connection: Connection) -> tuple[Cluster, Labels]:
        before = find_cluster(connection, organization, name)
        disable_cluster(connection, organization, name, now)
        trail.note(connection, before={"state": before.state})
        return _find(connection, organization, name)

    return show_cluster(*await services.store.write(write))


@router.post("/{name}/enable")
@needs(Role.ADMIN, audit="cluster.enable")
async def enable(organization: OrganizationPath, name: NamePath, services: ServicesOf, trail: TrailOf) -> ClusterShown:
    """Let the agent of a disabled cluster in again; it comes by itself."""

    def write(connection: Connection) -> tuple[Cluster, Labels]:
        before = find_cluster(connection, organization, name)
        enable_cluster(connection, organization, name)
        trail.note(connection, before={"state": before.state})
        return _find(connection, organization, name)

    return show_cluster(*await services.store.write(write))


@router.post("/{name}/approve")
@needs(Role.ADMIN, audit="agent.approve")
async def approve_agent(
    organization: OrganizationPath, name: NamePath, body: Approve, services: ServicesOf, trail: TrailOf
) -> ClusterShown:
    """Let the agent in that waits, if its key has this fingerprint."""
    now = services.clock()

    def write(connection: Connection) -> tuple[Cluster, Labels]:
        find_cluster(connection, organization, name)
        approve(connection, organization, name, body.fingerprint, now)
        trail.note(connection, after={"fingerprint": body.fingerprint})
        return _find(connection, organization, name)

    return show_cluster(*await services.store.write(write))


def show_cluster(cluster: Cluster, labels: Labels) -> ClusterShown:
    """Render a cluster."""
    return ClusterShown(
        name=cluster.name,
        labels=dict(labels.values),
        state=state_of(cluster),
        created_at=iso_time(cluster.created_at),
        require_approval=cluster.require_approval,
        disabled_at=None if cluster.disabled_at is None else iso_time(cluster.disabled_at),
        approval=_show_approval(cluster.approval),
        agent=show_agent(cluster.agent) if cluster.agent else None,
    )


def state_of(cluster: Cluster) -> ClusterState:
    """Return what is to be seen of a cluster first."""
    return cast("ClusterState", cluster.state)


def _labelled(organization: str, name: str = "") -> Labelled:
    return Labelled(organization, "cluster", name)


def _find(connection: Connection, organization: str, name: str) -> tuple[Cluster, Labels]:
    cluster = find_cluster(connection, organization, name)
    return cluster, find_labels(connection, _labelled(organization, name))


def show_sealing_key(public_key: str) -> SealingKey:
    """Render a sealing key that was checked when it was stored."""
    key = X25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    return SealingKey(public_key=public_key, fingerprint=key_fingerprint(key))


def _show_approval(approval: Approval | None) -> ApprovalShown | None:
    if approval is None or approval.approved_at is not None:
        return None
    return ApprovalShown(
        fingerprint=identity_fingerprint(approval.key_sha256),
        kind=cast("Literal['enrol', 'rejoin']", approval.kind),
        requested_at=iso_time(approval.requested_at),
    )


def show_agent(agent: Agent) -> AgentShown:
    """Render an agent."""
    return AgentShown(
        name=agent.name,
        version=agent.version,
        skew=skew_of(agent.version, __version__),
        kubernetes_version=agent.kubernetes_version,
        replica=agent.replica,
        connected_at=iso_time(agent.connected_at) if agent.connected_at is not None else None,
        last_seen_at=iso_time(agent.last_seen_at) if agent.last_seen_at is not None else None,
        certificate_serial=agent.certificate_serial,
        certificate_expires_at=iso_time(agent.certificate_expires_at),
        revoked_at=None if agent.revoked_at is None else iso_time(agent.revoked_at),
        sealing_key=show_sealing_key(agent.sealing_key),
    )


def _enrolment(services: Services, connection: Connection, organization: str, cluster: str) -> tuple[str, Enrolment]:
    """Make an enrolment token. Returns: Its public id, and what the agent needs."""
    token = EnrolmentToken(random_base32(16), random_base32(32), services.authority.root_fingerprint)
    now = services.clock()
    expires_at = now + ENROLMENT_SECONDS
    grant = EnrolmentGrant(organization, cluster)
    create_enrolment_token(connection, grant, token.token_id, token.secret_hash(), now, expires_at)
    shown = Enrolment(token=token.to_text(), expires_at=iso_time(expires_at), agent_url=services.settings.agent_url)
    return token.token_id, shown
