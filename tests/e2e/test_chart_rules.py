"""
Each right of the agent's chart, taken away in turn: a deployment that needs it fails, and names the rule that it needs.

What no deployment needs is listed here with its reason, so that a right without a user shows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
import yaml

from fairlead_agent.checkpoint import Checkpoint, CheckpointStore
from fairlead_agent.errors import MissingRight
from fairlead_agent.identity_store import SECRET_NAME, IdentityStore
from fairlead_agent.kube import resources
from fairlead_agent.kube.state import StateObjects
from fairlead_agent.leadership import Leadership
from fairlead_agent.ports import StateKind
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import JobOffer
from fairlead_shared.progress import Outcome
from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import Story, World, config_map, deployment, secret, service, world
from tests.polling import eventually
from tests.product.target import render

Right = tuple[str, str, str]
"""Group, resource and verb."""

_LABELS: Final = {"app": "web"}
_CONTAINERS: Final = [{"name": "main", "image": "pause"}]
_POD: Final = {"metadata": {"labels": _LABELS}, "spec": {"containers": _CONTAINERS}}
_ONCE: Final[dict[str, Any]] = {
    "suspend": True,
    "template": {"spec": {"containers": _CONTAINERS, "restartPolicy": "Never"}},
}
STORAGE_CLASS: Final = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "chart-rules"},
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "WaitForFirstConsumer",
}
_CLAIM: Final = {
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": "chart-rules",
    "resources": {"requests": {"storage": "1Mi"}},
}
_SPECS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", _CLAIM),
    "statefulsets": (
        "apps/v1",
        "StatefulSet",
        {"replicas": 0, "serviceName": "web", "selector": {"matchLabels": _LABELS}, "template": _POD},
    ),
    "daemonsets": ("apps/v1", "DaemonSet", {"selector": {"matchLabels": _LABELS}, "template": _POD}),
    "jobs": ("batch/v1", "Job", _ONCE),
    "cronjobs": ("batch/v1", "CronJob", {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": _ONCE}}),
    "ingresses": (
        "networking.k8s.io/v1",
        "Ingress",
        {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    ),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {"matchLabels": _LABELS}}),
    "poddisruptionbudgets": (
        "policy/v1",
        "PodDisruptionBudget",
        {"minAvailable": 1, "selector": {"matchLabels": _LABELS}},
    ),
    "horizontalpodautoscalers": (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    ),
}
EVIDENCE: Final = ("pods", "events", "replicasets")
"""Read to explain why a workload is not healthy; what cannot be explained can be deployed all the same."""
_EXISTENCE: Final = "its kind is healthy once it exists, so a deployment does not watch it; a health check lists it"


def sample(resource: str, name: str) -> dict[str, Any]:
    """Return an object of a resource that is well without a node."""
    match resource:
        case "configmaps":
            return config_map(name)
        case "secrets":
            return secret(name, password="x")
        case "services":
            return service(name)
        case "deployments":
            return deployment(name)
        case "serviceaccounts":
            return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    version, kind, spec = _SPECS[resource]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def role_of(template: str) -> list[dict[str, Any]]:
    """Return the rules of the Role that a template of the chart makes, by its defaults, for one bound namespace."""
    environment = {"organization": "acme", "application": "shop", "environment": "*", "type": "*"}
    policy = {"bindings": [{"namespace": "shop", "environments": [environment]}]}
    values = {"relay": {"url": "wss://relay.invalid:7444"}, "policy": policy}
    text = render("fairlead-agent", "one", "fairlead", values, template)
    (role,) = [made for made in yaml.safe_load_all(text) if made and made["kind"] == "Role"]
    rules: list[dict[str, Any]] = role["rules"]
    return rules


def rights(rules: list[dict[str, Any]]) -> Iterator[Right]:
    """Yield each right that rules grant."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def without(rules: list[dict[str, Any]], taken: Right) -> list[dict[str, Any]]:
    """Return rules that grant all but one right."""
    granted = [right for right in rights(rules) if right != taken]
    return [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in granted]


@pytest.fixture(scope="module")
def rules(control_plane: Cluster) -> list[dict[str, Any]]:
    """Render the chart's rules; helm is built here, which may take as long as it takes."""
    binary("helm")
    control_plane.kubectl("apply", "--filename=-", input=json.dumps(STORAGE_CLASS))
    return role_of("bound-roles.yaml")


@asynccontextmanager
async def taken(place: World, rules: list[dict[str, Any]], right: Right) -> AsyncIterator[None]:
    """Take one right away while the block runs, and give it back."""
    group, resource, verb = right
    asked = resources.Right(place.namespace, group, resource, name="", verb=verb)

    async def set_rules(wanted: list[dict[str, Any]], *, granted: bool) -> None:
        patch = json.dumps({"rules": wanted})
        name = ("role", place.agent_namespace, "--namespace", place.namespace)
        await place.kubectl("patch", *name, "--type=merge", "--patch", patch)

        async def holds() -> bool:
            return await place.client.may(asked) is granted

        await eventually(holds, f"the right to {verb} {resource} to be {granted}")

    await set_rules(without(rules, right), granted=False)
    yield
    await set_rules(rules, granted=True)


def missing(story: Story) -> list[tuple[str, str]]:
    """Return severity and rule of each missing right that a story names; the API server's own warnings are left out."""
    found = [finding for finding in story.of("finding") if finding.code is ErrorCode.FORBIDDEN]
    return [(finding.severity, finding.remedy) for finding in found]


def rule_of(right: Right, namespace: str) -> str:
    """Write a right as the agent names it: what an operator adds to the Role."""
    group, resource, verb = right
    rule = f'- apiGroups: ["{group}"]\n  resources: ["{resource}"]\n  verbs: ["{verb}"]\n'
    return f"# Role in namespace {namespace}\n{rule}"


async def take_each(cluster: Cluster, directory: Path, rules: list[dict[str, Any]], resource: str) -> dict[str, str]:
    """
    Deploy one resource with each of its rights taken away in turn: something new, a change, and something to prune.

    Returns: What the verbs are for that no deployment needs.
    """
    unneeded = {}
    own = [right for right in rights(rules) if right[1] == resource]
    async with world(cluster, directory, rules=rules) as place:
        before = [sample(resource, name) for name in ("leaving", "changing")]
        result, _ = await place.deploy(before)
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        changed = sample(resource, "changing")
        changed["metadata"]["annotations"] = {"colour": "red"}
        # What fails leaves everything as it was, so those that a deployment can do without come last.
        for right in sorted(own, key=lambda right: right[2] in {"list", "watch"}):
            async with taken(place, rules, right):
                result, story = await place.deploy([changed, sample(resource, f"new-{right[2]}")])
            if result.outcome is Outcome.SUCCEEDED:
                unneeded[right[2]] = _EXISTENCE
                continue
            assert result.code is ErrorCode.FORBIDDEN, (right, result)
            remedies = [remedy for _, remedy in missing(story)]
            assert remedies == [rule_of(right, place.namespace)], right
            assert "step/preflight/failed" in story.events, f"{right} was missed after the first write"
    return unneeded


async def test_a_missing_right_is_named_before_anything_is_written(
    control_plane: Cluster, tmp_path: Path, rules: list[dict[str, Any]]
) -> None:
    """Verb, resource and namespace as the rule to add, for every right with which the chart lets objects be written."""
    written = sorted({resource for _, resource, verb in rights(rules) if verb == "patch"})
    few = asyncio.Semaphore(4)

    async def one(resource: str) -> dict[str, str]:
        async with few:
            return await take_each(control_plane, tmp_path / resource, rules, resource)

    unneeded = dict(zip(written, await asyncio.gather(*map(one, written)), strict=True))
    watched = {"services", "persistentvolumeclaims", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"}
    assert {resource for resource, verbs in unneeded.items() if not verbs} == watched
    assert {tuple(verbs) for resource, verbs in unneeded.items() if resource not in watched} == {("list", "watch")}


async def test_evidence_that_cannot_be_read_is_a_warning(
    control_plane: Cluster, tmp_path: Path, rules: list[dict[str, Any]]
) -> None:
    """Without pods, events or replica sets a deployment goes on, and says which rule would explain a failure."""
    async with world(control_plane, tmp_path, rules=rules) as place:
        for number, right in enumerate(right for right in rights(rules) if right[1] in EVIDENCE):
            async with taken(place, rules, right):
                result, story = await place.deploy([deployment(f"web-{number}")])
            assert result.outcome is Outcome.SUCCEEDED, right
            expected = [] if right[2] == "get" else [("warning", rule_of(right, place.namespace))]
            assert missing(story) == expected, right


async def use_own_rights(place: World) -> None:
    """Do in the agent's own namespace what an agent does in its life. Raises: MissingRight."""
    logger, namespace = structlog.get_logger(), place.agent_namespace
    state = StateObjects(place.client, namespace)
    for _ in ("its first start", "its container's restart"):
        await Leadership(place.client, namespace, "one", logger).acquire()
    identities = IdentityStore(state)
    await identities.open()
    kept = await state.read(StateKind.SECRET, SECRET_NAME)
    assert kept is not None
    await state.update(StateKind.SECRET, kept)
    await place.inventory.load(place.environment)
    checkpoints = CheckpointStore(state, logger)
    offer = JobOffer(job_id="job1", attempt=1, token=1, job_kind="deploy", lease_seconds=30, deadline=0)
    for _ in ("accepted", "ended"):
        await checkpoints.save(Checkpoint(offer))
    assert [one.offer for one in await checkpoints.load_all()] == [offer]
    await checkpoints.delete("job1")


async def test_a_missing_right_of_the_agents_own_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    """Each right on its own objects has a use, and without it the agent says which rule it lacks."""
    rules = role_of("own-role.yaml")
    single = [rule | {"verbs": [verb]} for rule in rules for verb in rule["verbs"]]
    assert len(single) == 11
    async with world(control_plane, tmp_path / "all", own_rules=rules) as place:
        await use_own_rights(place)
    for number, missing_rule in enumerate(single):
        granted = [rule for rule in single if rule is not missing_rule]
        async with world(control_plane, tmp_path / str(number), own_rules=granted) as place:
            with pytest.raises(MissingRight) as caught:
                await use_own_rights(place)
            right = (missing_rule["apiGroups"][0], missing_rule["resources"][0], missing_rule["verbs"][0])
            assert caught.value.rule_yaml() == rule_of(right, place.agent_namespace)


def test_every_right_is_tried_or_has_another_user(rules: list[dict[str, Any]]) -> None:
    """What is neither written nor evidence: the logs of hooks that fail, and quotas that are compared with."""
    written = {resource for _, resource, verb in rights(rules) if verb == "patch"}
    assert {resource for _, resource, _ in rights(rules)} - written - set(EVIDENCE) == {"pods/log", "resourcequotas"}
