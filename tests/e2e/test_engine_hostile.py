"""Broken and hostile bundles on a real API server: whatever is in them, nothing of others is changed or deleted."""

import asyncio
import json
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployWork
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.errors import BundleInvalid, ErrorCode
from fairlead_shared.progress import Action, Outcome
from fairlead_shared.statement import Consent
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    Checkpoint,
    Story,
    World,
    application,
    config_map,
    deployment,
    in_namespace,
    secret,
    service,
    world,
)
from tests.fault.scale import scaled

BUNDLES = scaled(60, 400)
JOB_SECONDS = 60.0
"""For one deployment: more would be one that hangs."""
WITNESSES = ("settings", "web", "theirs")
"""Names that stand for somebody else's objects, of each kind of an application, in a namespace beside ours."""

Manifest = dict[str, Any]
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, -1, 2**63, True, "", "x" * 300, "../..", "*", "\u0000", [], {}, [[]], {"a": {"b": []}}, [None]]
)
METADATA: list[dict[str, Any]] = [
    {"namespace": "kube-system"},
    {"namespace": "../default"},
    {"namespace": ""},
    {"name": "theirs"},
    {"name": "a/b"},
    {"generateName": "web-"},
    {"uid": "00000000-0000-0000-0000-000000000000"},
    {"resourceVersion": "1"},
    {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    {"finalizers": ["example.com/never"]},
    {"labels": {"fairlead.dev/owner": "0123456789ab"}},
    {"labels": {"fairlead.dev/owner": ""}},
    {"annotations": {"fairlead.dev/prune": "orphan"}},
    {"annotations": {"fairlead.dev/prune": "deny"}},
    {"annotations": {"fairlead.dev/depends-on": "/namespaces/kube-system/ConfigMap/theirs"}},
    {"managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {}}]},
    {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "0", "controller": True}]},
]
HEADERS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace"},
    {"apiVersion": "v1", "kind": "List"},
    {"apiVersion": "v1", "kind": "Pod"},
    {"apiVersion": "apps/v1beta9"},
    {"apiVersion": "v1/../apps"},
    {"apiVersion": ""},
    {"kind": "configmap"},
    {"kind": "Deployment/scale"},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"},
]


def places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of everything in a manifest."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*at, name))
    return found


@st.composite
def bundles(draw: st.DrawFn) -> list[Manifest]:
    """Draw some manifests of a real application, and break them."""
    whole = [*application(), config_map("more", colour="red"), secret("token", value="x"), deployment("worker")]
    which = draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5, unique=True))
    chosen = [whole[number] for number in which]
    for _ in range(draw(st.integers(0, 3))):
        manifest = draw(st.sampled_from(chosen))
        match draw(st.sampled_from(["metadata", "header", "replace", "remove", "name"])):
            case "metadata" if isinstance(manifest.get("metadata"), dict):
                manifest["metadata"] |= deepcopy(draw(st.sampled_from(METADATA)))
            case "header":
                manifest |= draw(st.sampled_from(HEADERS))
            case "name" if isinstance(manifest.get("metadata"), dict):
                manifest["metadata"]["name"] = draw(st.sampled_from(WITNESSES))
            case broken:
                path = draw(st.sampled_from(places(manifest) or [("kind",)]))
                inside: Any = manifest
                for name in path[:-1]:
                    inside = inside[name]
                if broken == "remove" and path[-1] in (inside if isinstance(inside, dict) else range(len(inside))):
                    del inside[path[-1]]
                else:
                    inside[path[-1]] = draw(VALUES)
    return chosen


def work_of(place: World, bundle: Bundle) -> DeployWork:
    """Return the work of a bundle that nobody checked but the agent."""
    work = place.work([], wait_seconds=1.0)
    return replace(work, bundle=bundle, statement=work.statement.model_copy(update={"bundle_sha256": bundle.sha256}))


def witnesses(namespace: str, name: str) -> list[Manifest]:
    """Return an object of each kind that the bundles have."""
    plain = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} for kind in ("Secret", "ServiceAccount")]
    return [in_namespace(made, namespace) for made in (*plain, config_map(name), service(name), deployment(name))]


async def standing(place: World) -> dict[str, Any]:
    """Return what witnesses are like, without what controllers write."""
    found = {}
    for namespace in (place.namespace, f"{place.namespace}-theirs"):
        text = await place.kubectl(
            "get", "configmaps,secrets,serviceaccounts,services,deployments", "-n", namespace, "-o", "json"
        )
        for item in json.loads(text)["items"]:
            if item["metadata"]["name"] in (WITNESSES if namespace != place.namespace else ("theirs",)):
                kept = {field: value for field, value in item.items() if field not in {"status", "metadata"}}
                metadata = {field: item["metadata"].get(field) for field in ("uid", "labels", "ownerReferences")}
                found[f"{namespace}/{item['kind']}/{item['metadata']['name']}"] = kept | metadata
    return found


@pytest.mark.timeout(900)
def test_nothing_of_others_is_touched_whatever_a_bundle_holds(control_plane: Cluster, tmp_path: Path) -> None:
    """Each ends with a reason, within its time; whatever it is allowed, what others made stands as it stood."""
    ended: Counter[str] = Counter()

    async def attempt(place: World, manifests: list[Manifest]) -> None:
        try:
            bundle = make_bundle(manifests)
        except (BundleInvalid, ValueError, TypeError) as error:
            ended[type(error).__name__] += 1
            return
        story = Story()
        run = place.engine().run(work_of(place, bundle), story.report, Checkpoint())
        result = await asyncio.wait_for(run, JOB_SECONDS)
        ended[str(result.code or result.outcome)] += 1
        assert result.outcome is Outcome.SUCCEEDED or (result.cause and result.code is not ErrorCode.INTERNAL), result
        touched = [
            event.object
            for event in story.of("object")
            if event.action in {Action.CHANGED, Action.RECREATED, Action.PRUNED, Action.CREATED}
            and (event.object.name == "theirs" or event.object.namespace != place.namespace)
        ]
        assert touched == []

    with asyncio.Runner() as runner:

        async def prepare() -> tuple[Any, World]:
            context = world(control_plane, tmp_path)
            place = await context.__aenter__()
            recreate = [{"group": group, "kind": kind} for group, kind in (("apps", "Deployment"), ("", "ConfigMap"))]
            place.policy = Policy.model_validate({"recreate": recreate})
            place.consents = (Consent.ADOPT, Consent.PRUNE, Consent.RECREATE)
            beside = f"{place.namespace}-theirs"
            await place.kubectl("create", "namespace", beside)
            for namespace, names in ((place.namespace, ("theirs",)), (beside, WITNESSES)):
                await place.create(*(made for name in names for made in witnesses(namespace, name)))
            return context, place

        context, place = runner.run(prepare())
        before = runner.run(standing(place))

        @settings(
            max_examples=BUNDLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(bundles())
        def try_one(manifests: list[Manifest]) -> None:
            runner.run(attempt(place, manifests))

        try:
            try_one()
            assert runner.run(standing(place)) == before
        finally:
            runner.run(place.kubectl("delete", "namespace", f"{place.namespace}-theirs", "--wait=false"))
            runner.run(context.__aexit__(None, None, None))
    print(dict(ended))
    assert len(before) == 5 + 5 * len(WITNESSES)
    assert ended["succeeded"] > 0
    assert len(ended) > 4
