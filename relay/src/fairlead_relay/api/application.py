"""Puts the API together: routes, access, problems, limits. The only place that knows all of them."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from fairlead_relay import __version__
from fairlead_relay.api import agents, applications, bundles, clusters, deployments, jobs, problems, service, streams
from fairlead_relay.api.access import authorize
from fairlead_relay.api.request_log import RequestLog
from fairlead_relay.api.services import Services

MAX_BODY_BYTES = 64 * 1024
"""Of a request to a route that sets no limit of its own: names and numbers, nothing large."""


def make_api(services: Services) -> ASGIApp:
    """Return the ASGI application."""
    app = FastAPI(
        title="Fairlead",
        version=__version__,
        openapi_url="/v1/openapi.json",
        # The interactive pages load scripts from elsewhere, which nobody who runs this in a closed network wants.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(authorize)],
        max_body_size=MAX_BODY_BYTES,
    )
    app.state.services = services
    problems.install(app)
    for module in (service, clusters, agents, applications, bundles, deployments, jobs, streams):
        app.include_router(module.router)
    return RequestLog(problems.LargeBodies(app))
