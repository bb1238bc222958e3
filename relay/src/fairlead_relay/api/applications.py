"""Routes of applications and their environments."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import ConfigDict
from sqlalchemy import Connection

from fairlead_relay.api.access import CallerOf, needs
from fairlead_relay.api.bodies import Asked, Name, Shown
from fairlead_relay.api.clusters import OrganizationPath, SealingKey, show_sealing_key
from fairlead_relay.api.deployments import ApplicationPath, DeploymentShown, EnvironmentPath, show_deployment
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
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_shared.identity import check_name

router = APIRouter(prefix="/v1/organizations/{organization}/applications", tags=["applications"])


class ApplicationCreate(Asked):
    """A new application."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "shop"}]})

    name: Name


class ApplicationShown(Shown):
    """An application."""

    name: str
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


class EnvironmentShown(Shown):
    """An environment, and what it runs."""

    application: str
    name: str
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


@router.post("", status_code=201)
@needs(Role.ADMIN)
async def create(organization: OrganizationPath, body: ApplicationCreate, services: ServicesOf) -> ApplicationShown:
    """Create an application."""
    name = check_name("name", body.name)
    now = services.clock()
    return _show(await services.store.write(lambda connection: create_application(connection, organization, name, now)))


@router.get("")
@needs(Role.VIEWER, narrows=True)
async def index(
    organization: OrganizationPath,
    services: ServicesOf,
    caller: CallerOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[ApplicationShown]:
    """List applications by name; to a token for one application, that one."""

    def read(connection: Connection) -> list[Application]:
        return list_applications(connection, organization, limit + 1, cursor, only=caller.application)

    return page(await services.store.read(read), limit, _show, lambda row: row.name)


@router.get("/{application}")
@needs(Role.VIEWER)
async def show(organization: OrganizationPath, application: ApplicationPath, services: ServicesOf) -> ApplicationShown:
    """Show one application."""
    return _show(await services.store.read(lambda connection: find_application(connection, organization, application)))


@router.post("/{application}/environments", status_code=201)
@needs(Role.ADMIN)
async def create_one_environment(
    organization: OrganizationPath, application: ApplicationPath, body: EnvironmentCreate, services: ServicesOf
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
        return _show_environment(services, connection, create_environment(connection, environment))

    return await services.store.write(write)


@router.get("/{application}/environments")
@needs(Role.VIEWER)
async def index_environments(
    organization: OrganizationPath,
    application: ApplicationPath,
    services: ServicesOf,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[EnvironmentShown]:
    """List an application's environments by name."""

    def read(connection: Connection) -> Page[EnvironmentShown]:
        rows = list_environments(connection, organization, application, limit + 1, cursor)
        return page(rows, limit, lambda row: _show_environment(services, connection, row), lambda row: row.name)

    return await services.store.read(read)


@router.get("/{application}/environments/{environment}")
@needs(Role.VIEWER)
async def show_environment(
    organization: OrganizationPath, application: ApplicationPath, environment: EnvironmentPath, services: ServicesOf
) -> EnvironmentShown:
    """Show one environment: what it runs, what was asked for last, and the key to seal Secret values to."""

    def read(connection: Connection) -> EnvironmentShown:
        return _show_environment(
            services, connection, find_environment(connection, organization, application, environment)
        )

    return await services.store.read(read)


def _show(application: Application) -> ApplicationShown:
    return ApplicationShown(name=application.name, created_at=iso_time(application.created_at))


def _show_environment(services: Services, connection: Connection, environment: Environment) -> EnvironmentShown:
    place = (environment.organization, environment.application, environment.name)
    agent = find_cluster(connection, environment.organization, environment.cluster).agent
    current = current_deployment(connection, *place)
    latest = next(iter(list_deployments(connection, *place, limit=1)), None)
    return EnvironmentShown(
        application=environment.application,
        name=environment.name,
        type=environment.type,
        cluster=environment.cluster,
        namespace=environment.namespace,
        created_at=iso_time(environment.created_at),
        sealing_key=show_sealing_key(agent.sealing_key) if agent else None,
        current=show_deployment(services, connection, current, brief=True) if current else None,
        latest=show_deployment(services, connection, latest, brief=True) if latest else None,
    )
