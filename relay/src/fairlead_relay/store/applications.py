"""Applications and their environments. Must not know what an environment runs; deployments do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.organizations import find_organization
from fairlead_relay.store.schema import applications, environments


@dataclass(frozen=True, slots=True)
class Application:
    """One product of an organization."""

    organization: str
    name: str
    created_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One running copy of an application."""

    organization: str
    application: str
    name: str
    type: str
    """Environment type, e.g. staging."""
    cluster: str
    namespace: str
    """The default namespace."""
    created_at: float
    """Seconds since the epoch."""


_APPLICATION = (applications.c.organization, applications.c.name, applications.c.created_at)
ENVIRONMENT_COLUMNS: Final = (
    environments.c.organization,
    environments.c.application,
    environments.c.name,
    environments.c.type,
    environments.c.cluster,
    environments.c.namespace,
    environments.c.created_at,
)
_FIND_ENVIRONMENT = select(*ENVIRONMENT_COLUMNS).where(
    environments.c.organization == bindparam("of_organization"),
    environments.c.application == bindparam("of_application"),
    environments.c.name == bindparam("of_name"),
    environments.c.deleted_at.is_(None),
)
"""Made once: every enqueue asks, and making a statement costs more than running this one."""


def create_application(connection: Connection, organization: str, name: str, now: float) -> Application:
    """
    Create an application.

    Raises: NotFound: no such organization. Conflict: the name is taken.
    """
    find_organization(connection, organization)
    made = Application(organization, name, now)
    try:
        connection.execute(insert(applications).values(organization=organization, name=name, created_at=now))
    except IntegrityError as error:
        raise Conflict(f"application '{name}' exists already") from error
    return made


def find_application(connection: Connection, organization: str, name: str) -> Application:
    """
    Return an application.

    Raises: NotFound: the organization has none of that name.
    """
    row = connection.execute(
        select(*_APPLICATION).where(applications.c.organization == organization, applications.c.name == name)
    ).one_or_none()
    if row is None:
        raise NotFound("application", name)
    return Application(*row)


def list_applications(
    connection: Connection, organization: str, limit: int, after: str | None = None, *, only: str | None = None
) -> list[Application]:
    """Return at most `limit` applications by name, those after the name `after` or the `only` one; may be empty."""
    query = select(*_APPLICATION).where(applications.c.organization == organization)
    if only is not None:
        query = query.where(applications.c.name == only)
    if after is not None:
        query = query.where(applications.c.name > after)
    return [Application(*row) for row in connection.execute(query.order_by(applications.c.name).limit(limit))]


def create_environment(connection: Connection, environment: Environment) -> Environment:
    """
    Create an environment; the name of one that was deleted can be used again.

    Raises: NotFound: no such application or cluster. Conflict: the name is taken.
    """
    find_application(connection, environment.organization, environment.application)
    find_cluster(connection, environment.organization, environment.cluster)
    named = {
        "organization": environment.organization,
        "application": environment.application,
        "name": environment.name,
    }
    facts = {
        "type": environment.type,
        "cluster": environment.cluster,
        "namespace": environment.namespace,
        "created_at": environment.created_at,
    }
    # One of that name that was deleted: its row stands for the new one, as its history stands for the name.
    again = update(environments).where(
        *(environments.c[column] == value for column, value in named.items()), environments.c.deleted_at.is_not(None)
    )
    if connection.execute(again.values(**facts, deleted_at=None)).rowcount:
        return environment
    try:
        connection.execute(insert(environments).values(**named, **facts))
    except IntegrityError as error:
        raise Conflict(f"environment '{environment.name}' of '{environment.application}' exists already") from error
    return environment


def find_environment(connection: Connection, organization: str, application: str, name: str) -> Environment:
    """
    Return an environment.

    Raises: NotFound: no such application, or it has no environment of that name.
    """
    of = {"of_organization": organization, "of_application": application, "of_name": name}
    row = connection.execute(_FIND_ENVIRONMENT, of).one_or_none()
    if row is None:
        raise missing_environment(connection, organization, application, name)
    return Environment(*row)


def missing_environment(connection: Connection, organization: str, application: str, name: str) -> NotFound:
    """Return the error for an environment that is not there: it is missing, or its whole application is."""
    try:
        find_application(connection, organization, application)
    except NotFound as error:
        return error
    return NotFound("environment", name)


def list_environments(
    connection: Connection, organization: str, application: str, limit: int, after: str | None = None
) -> list[Environment]:
    """
    Return at most `limit` environments of an application by name, those after the name `after`; empty at the end.

    Raises: NotFound: no such application.
    """
    find_application(connection, organization, application)
    query = select(*ENVIRONMENT_COLUMNS).where(
        environments.c.organization == organization,
        environments.c.application == application,
        environments.c.deleted_at.is_(None),
    )
    if after is not None:
        query = query.where(environments.c.name > after)
    return [Environment(*row) for row in connection.execute(query.order_by(environments.c.name).limit(limit))]
