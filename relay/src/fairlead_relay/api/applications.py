"""Routes of applications and their environments."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.access import CallerOf, needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Name, Shown
from fairlead_relay.api.clusters import OrganizationPath, SealingKey, show_sealing_key
from fairlead_relay.api.deployments import ApplicationPath, DeploymentShown, EnvironmentPath, show_deployment
from fairlead_relay.api.drift import DriftSummary, summarize_drift
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
from fairlead_relay.store.applications import (
    Application,
    Environment,
    create_application,
    create_environment,
    find_application,
    find_environment,
    list_applications,
    list_environments,
)
from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.deployments import current_deployment, list_deployments
from fairlead_relay.store.labels import Labelled, Labels, find_labels, select_labelled, start_labels
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_shared.identity import check_name

router = APIRouter(prefix="/v1/organizations/{organization}/applications", tags=["applications"])


class ApplicationCreate(Asked):
    """A new application."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "shop"}]})

    name: Name
    labels: LabelValues = Field(default_factory=dict)


class ApplicationShown(Shown):
    """An application."""

    name: str
    labels: dict[str, str]
    created_at: str


class EnvironmentCreate(Asked):
    """A new environment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "staging", "type": "staging", "cluster": "harbour", "namespace": "shop"}]
        }
    )

    name: Name
    type: Name
    """Environment type, such as staging; the agent's operator binds namespaces to it."""
    cluster: Name
    namespace: Name
    """Where objects without a namespace go."""
    labels: LabelValues = Field(default_factory=dict)


class EnvironmentShown(Shown):
    """An environment, and what it runs."""

    application: str
    name: str
    labels: dict[str, str]
    type: str
    cluster: str
    namespace: str
    created_at: str
    sealing_key: SealingKey | None
    """Of its cluster's agent; null until that has enrolled."""
    current: DeploymentShown | None
    """The last deployment that succeeded: what runs."""
    latest: DeploymentShown | None
    """The last deployment that was asked for."""
    drift: DriftSummary | None
    """Whether it is as the current deployment left it; null if its agent has not said, or does not look."""


@router.post("", status_code=201)
@needs(Role.ADMIN, audit="application.create")
async def create(
    organization: OrganizationPath, body: ApplicationCreate, services: ServicesOf, trail: TrailOf
) -> ApplicationShown:
    """Create an application."""
    name = check_name("name", body.name)
    now = services.clock()

    def write(connection: Connection) -> ApplicationShown:
        made = create_application(connection, organization, name, now)
        labels = start_labels(connection, _application(organization, name), body.labels)
        trail.note(connection, f"application/{name}", after={"labels": labels.values})
        return _show(made, labels)

    return await services.store.write(write)


@router.get("")
@needs(Role.VIEWER, narrows=True)
async def index(
    organization: OrganizationPath,
    services: ServicesOf,
    caller: CallerOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    selector: SelectorText = None,
) -> Page[ApplicationShown]:
    """List applications by name, those whose labels match; to a token for one application, that one."""
    wanted = selector_of(selector)

    def read(connection: Connection) -> list[tuple[Application, Labels]]:
        def fetch(most: int, after: str | None) -> list[Application]:
            return list_applications(connection, organization, most, after, only=caller.application)

        of = _application(organization)
        return select_labelled(connection, of, wanted, limit + 1, cursor, fetch, lambda row: row.name)

    rows = await services.store.read(read)
    return page(rows, limit, lambda row: _show(*row), lambda row: row[0].name)


@router.get("/{application}", responses=TAGGED)
@needs(Role.VIEWER)
async def show(
    organization: OrganizationPath, application: ApplicationPath, services: ServicesOf, response: Response
) -> ApplicationShown:
    """Show one application."""

    def read(connection: Connection) -> tuple[Application, Labels]:
        found = find_application(connection, organization, application)
        return found, find_labels(connection, _application(organization, application))

    found, labels = await services.store.read(read)
    tag(response, labels)
    return _show(found, labels)


@router.patch("/{application}", responses=TAGGED)
@needs(Role.ADMIN, audit="application.label")
async def change(
    organization: OrganizationPath,
    application: ApplicationPath,
    body: LabelsChange,
    services: ServicesOf,
    trail: TrailOf,
    response: Response,
    if_match: IfMatch = None,
) -> ApplicationShown:
    """Change some labels of an application."""
    revisions = revisions_of(if_match)

    def write(connection: Connection) -> tuple[Application, Labels]:
        found, of = find_application(connection, organization, application), _application(organization, application)
        return found, change_noted(trail, connection, of, body.labels, revisions)

    found, labels = await services.store.write(write)
    tag(response, labels)
    return _show(found, labels)


@router.post("/{application}/environments", status_code=201)
@needs(Role.ADMIN, audit="environment.create")
async def create_one_environment(
    organization: OrganizationPath,
    application: ApplicationPath,
    body: EnvironmentCreate,
    services: ServicesOf,
    trail: TrailOf,
) -> EnvironmentShown:
    """Create an environment of an application on a cluster."""
    environment = Environment(
        organization,
        application,
        check_name("name", body.name),
        check_name("type", body.type),
        check_name("cluster", body.cluster),
        check_name("namespace", body.namespace),
        services.clock(),
    )

    def write(connection: Connection) -> EnvironmentShown:
        made = create_environment(connection, environment)
        labels = start_labels(connection, _environment(made), body.labels)
        after = {"type": made.type, "cluster": made.cluster, "namespace": made.namespace, "labels": labels.values}
        trail.note(connection, f"environment/{application}/{made.name}", after=after)
        return _show_environment(services, connection, made, labels)

    return await services.store.write(write)


@router.get("/{application}/environments")
@needs(Role.VIEWER)
async def index_environments(
    organization: OrganizationPath,
    application: ApplicationPath,
    services: ServicesOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    selector: SelectorText = None,
) -> Page[EnvironmentShown]:
    """List an application's environments by name, those whose labels match."""
    wanted = selector_of(selector)

    def read(connection: Connection) -> Page[EnvironmentShown]:
        def fetch(most: int, after: str | None) -> list[Environment]:
            return list_environments(connection, organization, application, most, after)

        of = Labelled(organization, "environment", application=application)
        rows = select_labelled(connection, of, wanted, limit + 1, cursor, fetch, lambda row: row.name)
        return page(rows, limit, lambda row: _show_environment(services, connection, *row), lambda row: row[0].name)

    return await services.store.read(read)


@router.patch("/{application}/environments/{environment}", responses=TAGGED)
@needs(Role.ADMIN, audit="environment.label")
async def change_environment(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    body: LabelsChange,
    services: ServicesOf,
    trail: TrailOf,
    response: Response,
    if_match: IfMatch = None,
) -> EnvironmentShown:
    """Change some labels of an environment."""
    revisions = revisions_of(if_match)

    def write(connection: Connection) -> tuple[EnvironmentShown, Labels]:
        found = find_environment(connection, organization, application, environment)
        labels = change_noted(trail, connection, _environment(found), body.labels, revisions)
        return _show_environment(services, connection, found, labels), labels

    shown, labels = await services.store.write(write)
    tag(response, labels)
    return shown


@router.get("/{application}/environments/{environment}", responses=TAGGED)
@needs(Role.VIEWER)
async def show_environment(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    services: ServicesOf,
    response: Response,
) -> EnvironmentShown:
    """Show one environment: what it runs, what was asked for last, and the key to seal Secret values to."""

    def read(connection: Connection) -> tuple[EnvironmentShown, Labels]:
        found = find_environment(connection, organization, application, environment)
        labels = find_labels(connection, _environment(found))
        return _show_environment(services, connection, found, labels), labels

    shown, labels = await services.store.read(read)
    tag(response, labels)
    return shown


def _application(organization: str, name: str = "") -> Labelled:
    return Labelled(organization, "application", name)


def _environment(environment: Environment) -> Labelled:
    return Labelled(environment.organization, "environment", environment.name, environment.application)


def _show(application: Application, labels: Labels) -> ApplicationShown:
    return ApplicationShown(
        name=application.name, labels=dict(labels.values), created_at=iso_time(application.created_at)
    )


def _show_environment(
    services: Services, connection: Connection, environment: Environment, labels: Labels
) -> EnvironmentShown:
    place = (environment.organization, environment.application, environment.name)
    agent = find_cluster(connection, environment.organization, environment.cluster).agent
    current = current_deployment(connection, *place)
    latest = next(iter(list_deployments(connection, *place, limit=1)), None)
    return EnvironmentShown(
        application=environment.application,
        name=environment.name,
        labels=dict(labels.values),
        type=environment.type,
        cluster=environment.cluster,
        namespace=environment.namespace,
        created_at=iso_time(environment.created_at),
        sealing_key=show_sealing_key(agent.sealing_key) if agent else None,
        current=show_deployment(services, connection, current, brief=True) if current else None,
        latest=show_deployment(services, connection, latest, brief=True) if latest else None,
        drift=summarize_drift(connection, place, current.bundle_sha256 if current else None),
    )
