"""What the client's verbs put into their requests, against a server that keeps them."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from fairlead_agent import errors
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS, Right
from tests.integration.scripted_api_server import ScriptedApiServer, says, scripted_api_server

FOUND = {"kind": "ConfigMap", "metadata": {"name": "a"}}


def client_of(server: ScriptedApiServer) -> KubeClient:
    """Return a client of the scripted server."""
    return KubeClient(server.access, patience_seconds=5.0)


async def test_list_comes_in_pages(tmp_path: Path) -> None:
    """Each page asks for the next with the server's token."""
    first = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [FOUND]}
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(200, first), says(200, {"metadata": {"resourceVersion": "5"}, "items": None})]
        page = await client.page(CONFIG_MAPS, "shop", label_selector="a=b")
        last = await client.page(CONFIG_MAPS, "shop", token=page.token)
        assert (page.token, last.token, last.items) == ("more", "", [])
        assert [one.query.get("continue") for one in server.asked] == [None, "more"]
        assert server.asked[0].query["labelSelector"] == "a=b"


async def test_dry_run_of_a_delete_is_asked_for_in_the_body(tmp_path: Path) -> None:
    """With a body the API server ignores the query: said there only, it would delete."""
    bodies = []

    async def take(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response(FOUND)

    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [take]
        await client.delete(CONFIG_MAPS, "shop", "a", uid="1", resource_version="2", dry_run=True)
        await client.delete(CONFIG_MAPS, "shop", "a", uid="1")
        assert bodies[0]["dryRun"] == ["All"]
        assert bodies[0]["preconditions"] == {"uid": "1", "resourceVersion": "2"}
        assert "dryRun" not in bodies[1]


async def test_apply_is_strict_and_never_by_force(tmp_path: Path) -> None:
    """Manager, validation and the kind of body are the same for every object."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(201, FOUND), says(200, FOUND)]
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}
        assert (await client.apply(CONFIG_MAPS, manifest, dry_run=True)).created
        assert not (await client.apply(CONFIG_MAPS, manifest)).created
        assert dict(server.asked[0].query) == {"fieldManager": "fairlead", "fieldValidation": "Strict", "dryRun": "All"}
        assert "dryRun" not in server.asked[1].query
        assert server.asked[0].headers["Content-Type"] == "application/apply-patch+yaml"


async def test_a_right_is_asked_for_without_using_it(tmp_path: Path) -> None:
    """By a review of one's own rights."""
    asked = []

    async def take(request: web.Request) -> web.StreamResponse:
        asked.append((await request.json())["spec"]["resourceAttributes"])
        return web.json_response({"status": {"allowed": False}}, status=201)

    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [take]
        assert not await client.may(Right("shop", "", "configmaps", "a", "watch"))
        assert asked == [{"verb": "watch", "group": "", "resource": "configmaps", "namespace": "shop", "name": "a"}]


async def test_unknown_kinds_asked_for_together_cost_few_looks(tmp_path: Path) -> None:
    """A bundle full of typing errors must not flood discovery; the nearest spelling is offered."""
    served = {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced"}
    group = {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [served]}]}
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(200, {"items": [group]})]
        kinds = [("v1", f"Typo{number}") for number in range(50)]
        found = await asyncio.gather(*(client.resolve(*kind) for kind in kinds), return_exceptions=True)
        assert all(isinstance(one, errors.UnknownKind) for one in found)
        assert len(server.asked) <= 4, "two requests for the first, two for all that came while it asked"
        with pytest.raises(errors.UnknownKind, match="Deployment in apps/v1"):
            await client.resolve("apps/v1", "deployment")
