"""The doctor's look at rights, against a scripted API server that grants some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fairlead_agent.errors import SettingsInvalid
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Right
from fairlead_agent.kube.rights import examine_rights, read_rights
from tests.integration.scripted_api_server import says, scripted_api_server

DECLARED = """
- namespace: shop
  rules:
    - {apiGroups: [apps], resources: [deployments, statefulsets], verbs: [create, patch]}
    - {apiGroups: [""], resources: [pods/log], verbs: [get]}
- namespace: ""
  rules:
    - {apiGroups: [""], resources: [namespaces], resourceNames: [shop], verbs: [get]}
"""


def declared(tmp_path: Path, text: str = DECLARED) -> tuple[Right, ...]:
    """Read declared rights."""
    file = tmp_path / "rights.yaml"
    file.write_text(text)
    return read_rights(file)


def test_a_rule_is_taken_apart(tmp_path: Path) -> None:
    """Each verb on each resource is a question of its own, asked once."""
    rights = declared(tmp_path, DECLARED + DECLARED)
    assert len(rights) == 6
    assert rights[-1] == Right(namespace="", group="", resource="namespaces", name="shop", verb="get")


@pytest.mark.parametrize(
    "text", ["- {namespace: a, rules: [{verbs: [get]}]}", "a: [", "5", "- {namespce: a, rules: []}"]
)
def test_what_is_no_list_of_rules_is_refused(tmp_path: Path, text: str) -> None:
    """A slip must not make a test that asks for nothing."""
    with pytest.raises(SettingsInvalid, match="rights"):
        declared(tmp_path, text)
    with pytest.raises(SettingsInvalid, match="No such file"):
        read_rights(tmp_path / "nowhere")


async def test_missing_rights_are_named_as_rules(tmp_path: Path) -> None:
    """By namespace, in a form that goes into a Role as it is; nothing is asked but reviews."""
    asked: list[dict[str, Any]] = []

    async def review(request: web.Request) -> web.StreamResponse:
        assert request.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        attributes = (await request.json())["spec"]["resourceAttributes"]
        asked.append(attributes)
        return web.json_response({"status": {"allowed": attributes["resource"] != "statefulsets"}}, status=201)

    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, patience_seconds=5.0) as client:
        server.answers = [review]
        shop, cluster = await examine_rights(client, declared(tmp_path))
    assert (shop.passed, cluster.passed) == (False, True)
    assert shop.found == "2 of 5 that are declared in namespace shop are not granted"
    assert shop.remedy == (
        'add to a Role in namespace shop: {apiGroups: ["apps"], resources: ["statefulsets"], verbs: [create, patch]}'
    )
    assert cluster.found == "all 1 that are declared in the whole cluster are granted"
    log = {"verb": "get", "group": "", "resource": "pods", "subresource": "log", "namespace": "shop"}
    assert log in asked
    assert {"verb": "get", "group": "", "resource": "namespaces", "name": "shop"} in asked


async def test_an_api_server_that_fails_is_a_finding(tmp_path: Path) -> None:
    """Not a traceback: the pod of `helm test` says why it failed."""
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, patience_seconds=0.0) as client:
        server.answers = [says(401, {"kind": "Status", "message": "who?"})]
        (only,) = await examine_rights(client, declared(tmp_path))
    assert (only.subject, only.passed) == ("rights", False)
