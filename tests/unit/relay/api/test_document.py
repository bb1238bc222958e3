"""The document: each operation with its role and its problems, and none without a mark."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from fairlead_relay.api.access import needs, public
from fairlead_relay.api.document import describe, operation_id, publish, routes_of
from fairlead_relay.store.tokens import Role


class Body(BaseModel):
    name: str


def make_app() -> FastAPI:
    """Make an application with a route of each kind."""
    app = FastAPI(generate_unique_id_function=operation_id)

    @app.get("/open", tags=["things"])
    @public
    async def read() -> dict[str, str]:
        """Answer anybody."""
        return {}

    @app.post("/organizations/{organization}/things", tags=["things"])
    @needs(Role.ADMIN)
    async def create(organization: str, body: Body) -> dict[str, str]:
        """Create a thing."""
        return {organization: body.name}

    @app.get("/organizations/{organization}/things/{name}", tags=["things"])
    @needs(Role.VIEWER)
    async def show(organization: str, name: str) -> dict[str, str]:
        """Show a thing."""
        return {organization: name}

    return app


def statuses(operation: dict[str, Any]) -> list[str]:
    """List what an operation answers with."""
    return list(operation["responses"])


def test_an_operation_lists_the_problems_that_its_shape_allows() -> None:
    """A public one asks for nothing, one with a body may find it wrong, one that names something may not find it."""
    document = describe(make_app())
    read = document["paths"]["/open"]["get"]
    assert (read["security"], statuses(read)) == ([], ["200", "400", "500", "503"])
    create = document["paths"]["/organizations/{organization}/things"]["post"]
    assert statuses(create) == ["200", "400", "401", "403", "404", "409", "413", "422", "429", "500", "503"]
    assert (create["x-fairlead-role"], create["operationId"]) == ("admin", "things_create")
    show = document["paths"]["/organizations/{organization}/things/{name}"]["get"]
    assert statuses(show) == ["200", "400", "401", "403", "404", "422", "429", "500", "503"]


def test_every_problem_is_the_one_document() -> None:
    """The framework's own form of errors is not to be seen."""
    components = describe(make_app())["components"]
    assert "HTTPValidationError" not in components["schemas"]
    for answer in components["responses"].values():
        content = answer["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert set(components["schemas"]["Problem"]["required"]) <= set(content["example"])


def test_a_route_without_a_mark_is_not_published() -> None:
    """It would answer 403 to everybody, which is found out here and not by its first user."""
    app = make_app()

    @app.get("/forgotten", tags=["things"])
    async def forgotten() -> dict[str, str]:
        """Nobody said who may."""
        return {}

    with pytest.raises(LookupError, match="forgotten"):
        describe(app)


def test_the_published_document_is_made_once() -> None:
    """Making it takes longer than any request."""
    app = make_app()
    publish(app, "/openapi.json")
    assert app.openapi() is app.openapi()
    assert {path for path, _, _ in routes_of(app)} == set(app.openapi()["paths"])
