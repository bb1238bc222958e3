"""Routes that delete an environment: the plan, and the deletion that names what it means."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.bodies import Asked, Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.deployments import DEADLINE_SECONDS, ApplicationPath, EnvironmentPath
from fairlead_relay.api.jobs import JobShown, show_job
from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.planning.deployments import Place
from fairlead_relay.store.applications import find_environment
from fairlead_relay.store.deletions import (
    forget_environment,
    reported_hooks,
    reported_objects,
    unfinished_deployments,
    used_namespaces,
)
from fairlead_relay.store.tokens import Role
from fairlead_shared.bundle import MAX_OBJECTS
from fairlead_shared.statement import EMPTY_BUNDLE

router = APIRouter(
    prefix="/v1/organizations/{organization}/applications/{application}/environments/{environment}",
    tags=["applications"],
)

NOTE = (
    "The agent deletes what its inventory of this environment holds and what still carries this environment's label, "
    "in namespaces that its operator still binds to it. Hooks that the last deployment left for this run before and "
    "after. Namespaces, and objects that others made, stay."
)


class DeletionPlan(Shown):
    """What deleting an environment would mean."""

    confirmation: str
    """What the deletion must say."""
    cluster: str
    namespaces: list[str]
    """Every namespace that its deployments were signed for."""
    objects: list[str]
    """What the last deployment that succeeded made or found, as `Kind namespace/name`."""
    hooks: list[str]
    """What the last deployment that succeeded left to run, as `Kind namespace/name: before deletion`."""
    unfinished_deployments: list[str]
    """Deployments that end as superseded for it."""
    kept: str
    """What stays."""


class EnvironmentDelete(Asked):
    """A deletion, confirmed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"confirmation": "shop/staging"}]})

    confirmation: Annotated[str, Field(max_length=127)]
    """`APPLICATION/ENVIRONMENT`, typed by whoever means it."""
    hooks: bool = True
    """Whether hooks that the last deployment left for this run before and after it."""


@router.get("/deletion")
@needs(Role.VIEWER)
async def plan(
    organization: OrganizationPath, application: ApplicationPath, environment: EnvironmentPath, services: ServicesOf
) -> DeletionPlan:
    """Show what deleting an environment would mean; nothing is changed."""
    place = (organization, application, environment)

    def read(connection: Connection) -> DeletionPlan:
        found = find_environment(connection, *place)
        return DeletionPlan(
            confirmation=_confirmation(application, environment),
            cluster=found.cluster,
            namespaces=sorted(used_namespaces(connection, place)),
            objects=sorted(map(str, reported_objects(connection, place, MAX_OBJECTS))),
            hooks=[f"{ref}: {when}" for ref, when in reported_hooks(connection, place, MAX_OBJECTS)],
            unfinished_deployments=unfinished_deployments(connection, place),
            kept=NOTE,
        )

    return await services.store.read(read)


@router.delete("", status_code=202, response_model=JobShown, responses={204: {"description": "Objects stay."}})
@needs(Role.ADMIN, audit="environment.delete")
async def delete(
    organization: OrganizationPath,
    application: ApplicationPath,
    environment: EnvironmentPath,
    body: EnvironmentDelete,
    services: ServicesOf,
    trail: TrailOf,
    *,
    orphan: Annotated[bool, Query(description="Leave the objects where they are, and only forget them.")] = False,
) -> JobShown | Response:
    """Destroy all that an environment made, then delete it: the job that does so, in which both can be followed."""
    wanted = _confirmation(application, environment)
    if body.confirmation != wanted:
        detail = f"confirmation: it must be {wanted!r}, the environment's name, to delete it"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail, field="confirmation")
    place = Place(organization, application, environment)
    if orphan:
        now = services.clock()

        def forget(connection: Connection) -> None:
            found = find_environment(connection, *place.names)
            forget_environment(connection, place.names, now)
            before = {"type": found.type, "cluster": found.cluster, "namespace": found.namespace}
            trail.note(connection, before=before, after={"objects": "orphaned"})

        await services.store.write(forget)
        return Response(status_code=HTTPStatus.NO_CONTENT)
    await run_in_threadpool(services.blobs.put, str(EMPTY_BUNDLE.sha256), [EMPTY_BUNDLE.content])
    deployment = await services.planner.destroy(place, trail, DEADLINE_SECONDS, runs_hooks=body.hooks)
    return await services.store.read(lambda connection: show_job(services, connection, deployment.job))


def _confirmation(application: str, environment: str) -> str:
    return f"{application}/{environment}"
