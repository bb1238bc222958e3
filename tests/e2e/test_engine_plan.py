"""Plans on a real API server: what would change field by field, no noise, nothing secret, and nothing written."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.policy import Policy
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Action, Outcome
from fairlead_shared.statement import Consent
from tests.cluster.binaries import KUBERNETES
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    APPLICATION_RULES,
    WRITE,
    World,
    application,
    config_map,
    deployment,
    in_namespace,
    secret,
    service,
    world,
)
from tests.polling import eventually

NAMESPACE_RULES = [*APPLICATION_RULES, {"apiGroups": [""], "resources": ["namespaces"], "verbs": WRITE}]


async def everything(place: World) -> dict[str, str]:
    """Map each object that a plan could touch, the agent's own state included, to its UID and version."""
    kinds = "configmaps,secrets,services,serviceaccounts,deployments,jobs,pods,leases"
    path = '{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}@{.metadata.resourceVersion}{"\\n"}{end}'
    found: dict[str, str] = {}
    for namespace in (place.namespace, place.agent_namespace):
        text = await place.kubectl("get", kinds, "-n", namespace, "-o", f"jsonpath={path}")
        found |= {f"{namespace}/{line.split()[0]}": line.split()[1] for line in text.splitlines()}
    return found


async def test_plan_says_what_a_deployment_would_do_and_does_nothing(control_plane: Cluster, tmp_path: Path) -> None:
    """Created, changed by field, unchanged and pruned; then no object, no state and no audit record shows a write."""
    async with world(control_plane, tmp_path) as place:
        old = [*application(), config_map("old"), config_map("kept")]
        await place.deploy(old)
        await place.kubectl("annotate", "configmap", "kept", "-n", place.namespace, "fairlead.dev/prune=deny")
        before = await everything(place)
        wanted = [item for item in application() if item["kind"] not in {"Deployment", "Secret"}]
        volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
        changed = deployment("web", replicas=2, serviceAccountName="web", volumes=volumes)
        result, story = await place.plan([*wanted, changed, secret("database", password="other"), config_map("new")])
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert {action.value: count for action, count in result.counts.items()} == {
            "created": 1, "changed": 2, "unchanged": 3, "pruned": 1, "skipped": 1,
        }  # fmt: skip
        name = place.namespace
        assert story.actions() == {
            f"ConfigMap {name}/new": "created",
            f"ConfigMap {name}/settings": "unchanged",
            f"Deployment {name}/web": "changed",
            f"Secret {name}/database": "changed",
            f"Service {name}/web": "unchanged",
            f"ServiceAccount {name}/web": "unchanged",
            f"ConfigMap {name}/old": "pruned",
            f"ConfigMap {name}/kept": "skipped",
        }
        assert story.fields() == {
            f"Deployment {name}/web /spec/replicas": ("0", "2"),
            f"Secret {name}/database /data": (None, None),
        }
        assert [event.step for event in story.of("step")] == ["preflight", "preflight"]
        assert await everything(place) == before
        # The log is in order: once a later write is in it, an earlier one would be, too.
        written = len(place.writes())
        await place.deploy([*old, config_map("marker")])

        async def marked() -> bool:
            return ("patch", "configmaps", "marker") in place.writes()

        await eventually(marked, "the audit log to show the marker's write")
        assert place.writes()[written:] == [("patch", "configmaps", "marker")]


async def test_secrets_of_a_plan_stay_in_the_cluster(control_plane: Cluster, tmp_path: Path) -> None:
    """Neither the old nor the new value, nor a copy of them in an annotation, is in any event."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([secret("database", password="hunter2")])
        copied = secret("database", password="swordfish")
        copied["metadata"]["annotations"] = {"copy": "swordfish"}
        _, story = await place.plan([copied])
        told = " ".join(event.model_dump_json() for event in story.events.values())
        assert not [word for word in ("hunter2", "aHVudGVyMg", "swordfish", "c3dvcmRmaXNo") if word in told]
        (planned,) = story.of("planned")
        assert {one.pointer: one.masked for one in planned.fields} == {
            "/data": True,
            "/metadata/annotations/copy": True,
        }


LABELLING = {
    "patchType": "ApplyConfiguration",
    "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"injected": "yes"}}}'},
}
UNLABELLING = {
    "patchType": "JSONPatch",
    "jsonPatch": {
        "expression": '[JSONPatch{op: "remove", path: "/metadata/labels/" + jsonpatch.escapeKey("fairlead.dev/owner")}]'
    },
}


def mutation(name: str, namespace: str, mutated: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an admission policy that mutates each ConfigMap and Deployment of a namespace, as a webhook would."""
    version = f"admissionregistration.k8s.io/{KUBERNETES.mutating_policies}"
    of_both = {"apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": ["configmaps", "deployments"]}
    rule = {**of_both, "operations": ["CREATE", "UPDATE"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": version,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [mutated],
            },
        },
        {
            "apiVersion": version,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "matchResources": {"namespaceSelector": here}},
        },
    ]


@asynccontextmanager
async def mutating(place: World, mutated: dict[str, Any], labels: dict[str, str]) -> AsyncIterator[None]:
    """Have an admission policy mutate what is made in a world, which leaves these labels of an owned ConfigMap."""
    await place.create(*mutation(place.namespace, place.namespace, mutated))
    try:

        async def mutates() -> bool:
            probe = in_namespace(config_map("probe"), place.namespace)
            probe["metadata"]["labels"] = {"fairlead.dev/owner": "us"}
            text = await place.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(probe))
            return (json.loads(text)["metadata"].get("labels") or {}) == labels

        await eventually(mutates, "the admission policy to take effect")
        yield
    finally:
        names = (f"{kind}/{place.namespace}" for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"))
        await place.kubectl("delete", *names)


async def test_defaults_and_what_admission_writes_are_no_changes(control_plane: Cluster, tmp_path: Path) -> None:
    """A Service and a Deployment full of defaults, and a label that admission adds, show nothing in the next plan."""
    labels = {"fairlead.dev/owner": "us", "injected": "yes"}
    async with world(control_plane, tmp_path) as place, mutating(place, LABELLING, labels):
        manifests = [config_map("settings", colour="blue"), deployment("web"), service("web")]
        await place.deploy(manifests)
        assert (await place.live("configmap", "settings"))["metadata"]["labels"]["injected"] == "yes"
        _, story = await place.plan(manifests)
        assert set(story.actions().values()) == {"unchanged"}
        _, story = await place.plan([config_map("settings", colour="red"), *manifests[1:]])
        settings = f"ConfigMap {place.namespace}/settings"
        assert story.fields() == {f"{settings} /data/colour": ('"blue"', '"red"')}


async def test_a_label_that_admission_takes_off_is_told_before_the_first_write(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """What is watched would be called missing at the end of its time; what is not would stay for ever."""
    async with world(control_plane, tmp_path) as place, mutating(place, UNLABELLING, {}):
        result, story = await place.deploy([config_map("settings"), deployment("web")])
        gone = "something in the cluster, such as a webhook, takes the label fairlead.dev/owner off"
        cause = f"Deployment {place.namespace}/web: its health could not be watched: {gone}"
        assert (result.code, result.cause) == (ErrorCode.CONFLICT, cause)
        assert {one.object.name: one.severity for one in story.of("finding")} == {"settings": "warning", "web": "error"}
        assert await place.live("configmap", "settings") == await place.live("deployment", "web") == {}


async def test_what_was_changed_by_hand_shows_as_a_change(control_plane: Cluster, tmp_path: Path) -> None:
    """The comparison is with the cluster, not with what was deployed last."""
    async with world(control_plane, tmp_path) as place:
        manifests = [config_map("settings", colour="blue")]
        await place.deploy(manifests)
        await place.kubectl(
            "patch", "configmap", "settings", "-n", place.namespace, "--field-manager", "fairlead",
            "--type", "merge", "-p", '{"data": {"colour": "green"}}',
        )  # fmt: skip
        place.policy = Policy.model_validate(
            {"force": [{"group": "", "kind": "ConfigMap", "namespace": place.namespace, "names": ["settings"]}]}
        )
        _, story = await place.plan(manifests)
        assert story.fields() == {f"ConfigMap {place.namespace}/settings /data/colour": ('"green"', '"blue"')}


def migration(*, image: str) -> dict[str, Any]:
    """Return a Job that never starts a pod."""
    pod = {"containers": [{"name": "main", "image": image}], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate"},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


async def test_an_immutable_field_shows_as_recreated_or_refused(control_plane: Cluster, tmp_path: Path) -> None:
    """Refused with the way out as long as nobody consented; then recreated, with the loss stated."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([migration(image="one")], wait_seconds=0.1)
        result, story = await place.plan([migration(image="two")])
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.IMMUTABLE)
        assert story.actions() == {}
        assert "let the operator allow it" in story.of("finding")[0].remedy
        place.policy = Policy.model_validate({"recreate": [{"group": "batch", "kind": "Job"}]})
        place.consents = (Consent.RECREATE,)
        before = await everything(place)
        result, story = await place.plan([migration(image="two")])
        assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {Action.RECREATED: 1})
        assert "it runs again from its start" in story.of("finding")[0].message
        assert await everything(place) == before


async def test_a_plan_that_cannot_be_carried_out_tells_all_reasons(control_plane: Cluster, tmp_path: Path) -> None:
    """Everything that is wrong at once, and what would become of the rest."""
    async with world(control_plane, tmp_path) as place:
        await place.create(in_namespace(config_map("theirs", by="hand"), place.namespace))
        bad = deployment("web")
        bad["spec"]["replicas"] = "many"
        result, story = await place.plan([config_map("theirs", by="us"), bad, config_map("good")])
        assert result.outcome is Outcome.FAILED
        assert {str(event.code) for event in story.of("finding")} == {"owned_by_other", "invalid_object"}
        assert story.actions() == {f"ConfigMap {place.namespace}/good": "created"}


async def test_members_of_a_new_namespace_are_planned_as_far_as_they_can_be(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """Created, with a word on what is not proved; and the namespace is not there afterwards."""
    async with world(control_plane, tmp_path, cluster_rules=NAMESPACE_RULES) as place:
        inner = f"{place.namespace}-inner"
        place.policy = Policy.model_validate({"clusterScoped": [{"group": "", "kind": "Namespace", "names": [inner]}]})
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner, "namespace": None}}
        member = in_namespace(config_map("inside"), inner)
        result, story = await place.plan([namespace, member], namespaces=(place.namespace, inner))
        assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {Action.CREATED: 2})
        details = {event.object.kind: event.detail for event in story.of("planned")}
        assert details == {"Namespace": "", "ConfigMap": "not fully proved before its namespace or kind is there"}
        assert not (await place.kubectl("get", "namespace", inner, "--ignore-not-found")).strip()


async def test_many_objects_are_planned_within_a_screenful_of_events(control_plane: Cluster, tmp_path: Path) -> None:
    """One event an object: what a plan tells of a large bundle is bounded by its objects."""
    async with world(control_plane, tmp_path) as place:
        manifests = [config_map(f"part-{number}", value="x" * 50_000) for number in range(20)]
        await place.deploy(manifests[:10])
        changed = [config_map(f"part-{number}", value="y" * 50_000) for number in range(20)]
        _, story = await asyncio.wait_for(place.plan(changed), 60)
        assert len(story.of("planned")) == 20
        assert max(len(event.model_dump_json()) for event in story.events.values()) < 2_000


@pytest.mark.parametrize("right", ["get", "patch"])
async def test_a_missing_right_is_named_as_it_would_be_by_a_deployment(
    control_plane: Cluster, tmp_path: Path, right: str
) -> None:
    """The rule that is missing, as YAML; a plan needs no right beyond those of the deployment."""
    verbs = [verb for verb in WRITE if verb != right]
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]
    async with world(control_plane, tmp_path, rules=rules) as place:
        await place.create(in_namespace(config_map("settings"), place.namespace))
        result, story = await place.plan([config_map("settings", colour="blue")])
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.FORBIDDEN)
        assert right in story.of("finding")[0].remedy
