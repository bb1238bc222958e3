"""Puts the API together: routes, access, problems, limits. The only place that knows all of them."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from fairlead_relay import __version__
from fairlead_relay.api import (
    agents,
    applications,
    audit,
    bundles,
    clusters,
    deletions,
    deployments,
    document,
    drift,
    jobs,
    organizations,
    problems,
    service,
    streams,
    tokens,
)
from fairlead_relay.api.access import authorize
from fairlead_relay.api.auditing import AttemptRecords
from fairlead_relay.api.idempotency import IdempotencyKeys
from fairlead_relay.api.rate_limits import RateLimitHeaders
from fairlead_relay.api.request_log import RequestLog
from fairlead_relay.api.request_metrics import RequestMetrics
from fairlead_relay.api.services import Services

MAX_BODY_BYTES = 64 * 1024
"""Of a request to a route that sets no limit of its own: names and numbers, nothing large."""


AREAS = {
    "relay": "The relay itself, and who the caller is.",
    "organizations": "Tenants.",
    "audit": "Who did what, or tried to.",
    "tokens": "What people and CI prove themselves with.",
    "clusters": "Clusters, and how their agents get in.",
    "agents": "The programs that serve clusters, one per cluster.",
    "applications": "Applications and their environments.",
    "bundles": "Manifests by the hash of their bytes.",
    "deployments": "Changes of an environment to a bundle.",
    "jobs": "Units of work for agents.",
    "streams": "What happens, live: Server-Sent Events, or NDJSON for scripts.",
}
"""Tag of each module's routes, and what the document says of it."""


def make_api(services: Services) -> ASGIApp:
    """Return the ASGI application."""
    app = make_routes()
    app.state.services = services
    recorded = AttemptRecords(problems.LargeBodies(app), services)
    limited = RateLimitHeaders(IdempotencyKeys(recorded, services))
    return RequestLog(RequestMetrics(limited, services.metrics.answered))


def make_routes() -> FastAPI:
    """Return the routes with their rules, and nothing to serve them with: enough to be described."""
    app = FastAPI(
        title="Fairlead",
        version=__version__,
        openapi_url=None,  # published by `document`
        openapi_tags=[{"name": name, "description": text} for name, text in AREAS.items()],
        generate_unique_id_function=document.operation_id,
        # The interactive pages load scripts from elsewhere, which nobody who runs this in a closed network wants.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(authorize)],
        max_body_size=MAX_BODY_BYTES,
    )
    problems.install(app)
    # A request is compared with the routes in their order: what is asked for most comes first.
    for module in (
        streams,
        deployments,
        bundles,
        jobs,
        applications,
        clusters,
        agents,
        deletions,
        drift,
        organizations,
        audit,
        tokens,
        service,
    ):
        app.include_router(module.router)
    document.publish(app, "/v1/openapi.json")
    return app
