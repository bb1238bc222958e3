"""Hooks on a real node: they run at their moment, once for each deployment, and say why they failed."""

from __future__ import annotations

import io
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.inventory import NO_HOOKS
from fairlead_agent.health.check import HealthCheck
from fairlead_cli.content import read_content
from fairlead_cli.manifests import read_manifests
from fairlead_cli.rendering import ChartOptions
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Strategy
from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.e2e.engine_world import APPLICATION_RULES, World, config_map, secret, world

LOG_RULE = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
HOOK_RULES = [*APPLICATION_RULES, LOG_RULE]
SUCCEEDS, FAILS = ("lookup", "localhost"), ("read", "/nothing-is-here")


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Cluster:
    """Return a cluster whose node has the probe image."""
    load_image(cluster, probe_image_tar())
    return cluster


def hook(manifest: dict[str, Any], moments: str, **annotations: str) -> dict[str, Any]:
    """Return a manifest as a hook; `weight` and `delete` are annotations as well."""
    named = {f"fairlead.dev/hook-{name}": value for name, value in annotations.items()}
    metadata = {**manifest["metadata"], "annotations": {"fairlead.dev/hook": moments, **named}}
    return {**manifest, "metadata": metadata}


def job(name: str, *args: str, **container: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a Job that runs the probe once; `container` adds to its container."""
    made = {"name": "main", "image": PROBE_IMAGE, "args": list(args), **container}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [made]}}},
    }


async def ended(place: World, name: str) -> tuple[datetime, str]:
    """Return when a Job completed, and its UID."""
    live = await place.live("job", name)
    return datetime.fromisoformat(live["status"]["completionTime"]), live["metadata"]["uid"]


async def made(place: World, kind: str, name: str) -> datetime:
    """Return when an object was made."""
    return datetime.fromisoformat((await place.live(kind, name))["metadata"]["creationTimestamp"])


async def test_they_run_in_order_and_again_in_each_deployment(node: Cluster, tmp_path: Path) -> None:
    """By weight before everything, after everything last, on failure not at all; pruned when nobody names them."""
    bundle = [
        config_map("settings", colour="red"),
        hook(config_map("seed", rows="3"), "before", weight="-5", delete="succeeded"),
        hook(job("migrate", *SUCCEEDS, envFrom=[{"configMapRef": {"name": "seed"}}]), "before"),
        hook(job("check", *SUCCEEDS, envFrom=[{"configMapRef": {"name": "settings"}}]), "after"),
        hook(job("alarm", *SUCCEEDS), "failure"),
    ]
    async with world(node, tmp_path, rules=HOOK_RULES) as place:
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        (migrated, first), (checked, _) = await ended(place, "migrate"), await ended(place, "check")
        assert migrated <= await made(place, "configmap", "settings") <= checked
        seeds = f"ConfigMap {place.namespace}/seed"
        told = [(str(event.object), str(event.action), event.detail) for event in story.of("object")]
        assert told == [
            (seeds, "created", "hook: runs before, weight -5"),
            (f"Job {place.namespace}/migrate", "created", "hook: runs before"),
            (seeds, "pruned", "hook: deleted when it had succeeded, as its annotation asks"),
            (f"ConfigMap {place.namespace}/settings", "created", ""),
            (f"Job {place.namespace}/check", "created", "hook: runs after"),
        ]
        assert await place.live("job", "alarm") == await place.live("configmap", "seed") == {}
        health = await HealthCheck(place.client, place.inventory, time.time).check(place.environment)
        assert [event.object.name for event in health] == ["settings"]

        _, plan = await place.plan(bundle)
        assert plan.actions()[f"Job {place.namespace}/migrate"] == "recreated"
        assert plan.actions()[f"Job {place.namespace}/alarm"] == "skipped"
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert story.actions()[f"ConfigMap {place.namespace}/settings"] == "unchanged"
        assert (await ended(place, "migrate"))[1] != first

        result, _ = await place.deploy([config_map("settings", colour="red")])
        assert result.outcome is Outcome.SUCCEEDED
        assert await place.live("job", "migrate") == await place.live("job", "check") == {}
        assert [owned.ref.name for owned in (await place.owned()).objects] == ["settings"]


def argo(manifest: dict[str, Any], hook: str, **annotations: str) -> dict[str, Any]:
    """Return a manifest as a hook of Argo CD's; `wave` and `delete` are annotations as well."""
    names = {"wave": "sync-wave", "delete": "hook-delete-policy"}
    named = {f"argocd.argoproj.io/{names[name]}": value for name, value in annotations.items()}
    metadata = {**manifest["metadata"], "annotations": {"argocd.argoproj.io/hook": hook, **named}}
    return {**manifest, "metadata": metadata}


async def test_what_was_written_for_argo_cd_runs_at_its_moments(node: Cluster, tmp_path: Path) -> None:
    """PreSync by waves, PostSync last, SyncFail only after a failure; what is to go when it succeeded goes."""
    bundle = [
        config_map("settings", colour="red"),
        argo(job("second", *SUCCEEDS), "PreSync", wave="1"),
        argo(job("first", *SUCCEEDS), "PreSync", wave="-1"),
        argo(job("smoke", *SUCCEEDS), "PostSync", delete="HookSucceeded"),
        argo(job("page", *SUCCEEDS), "SyncFail"),
    ]
    async with world(node, tmp_path, rules=HOOK_RULES) as place:
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        (first, _), (second, _) = await ended(place, "first"), await ended(place, "second")
        assert first <= second <= await made(place, "configmap", "settings")
        told = [(event.object.name, str(event.action)) for event in story.of("object")]
        names = ("first", "second", "settings", "smoke")
        assert told == [*((name, "created") for name in names), ("smoke", "pruned")]
        assert await place.live("job", "smoke") == await place.live("job", "page") == {}
        result, story = await place.deploy(
            [*bundle, argo(job("third", *FAILS), "PreSync", wave="2")], wait_seconds=120.0
        )
        assert result.outcome is Outcome.FAILED
        assert result.cause.startswith(f"the hook that runs before, Job {place.namespace}/third failed")
        assert (await ended(place, "page"))[1]


async def test_one_that_fails_stops_everything_and_is_quoted(node: Cluster, tmp_path: Path) -> None:
    """Its last lines are in the reason, without values of Secrets; what is to run on failure runs."""
    password = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
    bundle = [
        config_map("settings"),
        hook(secret("login", password="/hunter2"), "before", weight="-1"),
        hook(job("migrate", "read", "$(PASSWORD)", env=[password]), "before"),
        hook(job("alarm", *SUCCEEDS), "failure"),
        hook(job("check", *SUCCEEDS), "after"),
    ]
    async with world(node, tmp_path, rules=HOOK_RULES) as place:
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.UNHEALTHY)
        start = f"the hook that runs before, Job {place.namespace}/migrate failed: it failed: "
        assert result.cause.startswith(start), result.cause
        assert result.cause.endswith("\nprobe: open ***: no such file or directory")
        assert "hunter2" not in json.dumps([event.model_dump(mode="json") for event in story.events.values()])
        assert next(step for step in story.of("step") if step.status == "failed").detail == result.cause
        assert await place.live("configmap", "settings") == await place.live("job", "check") == {}
        assert (await ended(place, "alarm"))[1]
        told = [event.object.name for event in story.of("object")]
        assert told == ["login", "migrate", "alarm"]


async def test_without_the_right_to_read_logs_the_rule_is_told(node: Cluster, tmp_path: Path) -> None:
    """Before anything is written, as a warning, and in the reason."""
    async with world(node, tmp_path) as place:
        result, story = await place.deploy([hook(job("migrate", *FAILS), "before")], wait_seconds=120.0)
        rule = (
            f'# Role in namespace {place.namespace}\n- apiGroups: [""]\n  resources: ["pods/log"]\n  verbs: ["get"]\n'
        )
        (warning,) = [one for one in story.of("finding") if one.code is ErrorCode.FORBIDDEN]
        assert (warning.severity, warning.remedy) == ("warning", rule)
        assert result.cause.endswith(f"its log cannot be read: needs\n{rule}")


async def test_a_pod_has_to_end_and_what_runs_on_failure_has_its_own_time(node: Cluster, tmp_path: Path) -> None:
    """A pod that serves is well and has not ended; the deployment's time is over by then, and the last hook runs."""
    pod = job("x", "serve")["spec"]["template"]["spec"]
    server = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": pod}
    quick = {**server, "metadata": {"name": "quick"}, "spec": job("x", *SUCCEEDS)["spec"]["template"]["spec"]}
    write = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "patch", "delete"]}
    async with world(node, tmp_path, rules=[*HOOK_RULES, write]) as place:
        bundle = [hook(quick, "before"), hook(server, "before", weight="1"), hook(job("alarm", *SUCCEEDS), "failure")]
        result, story = await place.deploy(bundle, wait_seconds=15.0)
        start = f"the hook that runs before, Pod {place.namespace}/server did not end in time: it runs"
        assert result.cause.startswith(start), result.cause
        assert story.actions()[f"Pod {place.namespace}/quick"] == "created"
        assert (await ended(place, "alarm"))[1]


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
    "templates/web.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n",
    "templates/seed.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: seed\n  annotations:\n"
        "    helm.sh/hook: pre-upgrade\n    helm.sh/hook-weight: '-5'\ndata: {rows: '3'}\n"
    ),
    "templates/migrate.yaml": (
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  annotations:\n"
        "    helm.sh/hook: pre-upgrade\n    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded\n"
        "spec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n"
        "      - name: main\n        image: {{ .Values.image }}\n        args: [lookup, localhost]\n"
        "        envFrom: [{configMapRef: {name: seed}}]\n"
    ),
    "templates/tests/test.yaml": (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations: {helm.sh/hook: test}\n"
        "spec: {containers: [{name: main, image: none}]}\n"
    ),
    "templates/backup.yaml": (
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: backup\n  annotations: {helm.sh/hook: pre-delete}\n"
        "spec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n"
        "      - name: main\n        image: {{ .Values.image }}\n        args: [lookup, localhost]\n"
        "        envFrom: [{configMapRef: {name: web}}]\n"
    ),
    "templates/goodbye.yaml": (
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: goodbye\n  annotations:\n"
        "    helm.sh/hook: post-delete\n    helm.sh/hook-delete-policy: hook-succeeded\n"
        "spec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n"
        "      serviceAccountName: goodbye\n      containers:\n"
        "      - name: main\n        image: {{ .Values.image }}\n        args: [lookup, localhost]\n"
        "        envFrom: [{secretRef: {name: goodbye}}]\n"
    ),
    "templates/goodbye-account.yaml": (
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: goodbye\n  annotations:\n"
        "    helm.sh/hook: post-delete\n    helm.sh/hook-weight: '-5'\n"
    ),
}


async def test_a_charts_hooks_run_as_helm_runs_them(
    node: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `helm template`: those of an upgrade not before there is something to upgrade, those of a deletion then."""
    for name, text in CHART.items():
        (tmp_path / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chart" / name).write_text(text)
    monkeypatch.setenv("PATH", f"{binary('helm').parent}{os.pathsep}{os.environ['PATH']}")
    async with world(node, tmp_path / "agent", rules=HOOK_RULES) as place:
        options = ChartOptions("shop", place.namespace, settings=(f"image={PROBE_IMAGE}",))
        texts = read_content([str(tmp_path / "chart")], io.StringIO(), options, print)
        bundle = [one.manifest for one in read_manifests(texts, place.namespace)]
        login = secret("goodbye", password="hunter2")
        login["metadata"]["annotations"] = {"helm.sh/hook": "post-delete", "helm.sh/hook-weight": "-5"}
        bundle.append(login)
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        details = {event.object.name: event.detail for event in story.of("object")}
        assert details == {
            "web": "",
            "seed": "hook: runs only when there was one before",
            "migrate": "hook: runs only when there was one before",
            "backup": "hook: runs only before deletion",
            "goodbye": "hook: runs only after deletion",
        }
        result, story = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        told = [(event.object.name, str(event.action)) for event in story.of("object") if event.action != "skipped"]
        assert told == [("seed", "created"), ("migrate", "created"), ("migrate", "pruned"), ("web", "unchanged")]

        kept = (await place.owned()).deletion_hooks
        assert kept is not None
        state = json.loads(await place.kubectl("get", "configmaps", "-n", place.agent_namespace, "-o", "json"))
        assert kept.part in {one["metadata"]["name"] for one in state["items"]}
        result, story = await place.destroy(wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        ended = [f"{event.object.kind} {event.object.name} {event.action}" for event in story.of("object")]
        assert ended[0] == "Job backup created"
        assert set(ended[1:3]) == {"ConfigMap web pruned", "ConfigMap seed pruned"}
        assert set(ended[3:5]) == {"ServiceAccount goodbye created", "Secret goodbye created"}
        assert ended[5:7] == ["Job goodbye created", "Job goodbye pruned"]
        assert set(ended[7:]) == {"Job backup pruned", "ServiceAccount goodbye pruned", "Secret goodbye pruned"}
        left = await place.kubectl("get", "jobs,secrets,serviceaccounts", "-n", place.namespace, "-o", "name")
        assert left.split() == ["serviceaccount/default"]
        owned = await place.owned()
        assert (owned.objects, owned.deletion_hooks) == ((), NO_HOOKS)
        state = json.loads(await place.kubectl("get", "configmaps", "-n", place.agent_namespace, "-o", "json"))
        assert kept.part not in {one["metadata"]["name"] for one in state["items"]}


async def test_one_that_fails_before_a_deletion_stops_it(node: Cluster, tmp_path: Path) -> None:
    """Nothing is deleted; values of Secrets are in no reason. By Argo CD's words; and there is a way without them."""
    password = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
    bundle = [
        config_map("settings"),
        secret("login", password="/hunter2"),
        argo(job("backup", "read", "$(PASSWORD)", env=[password]), "PreDelete"),
        argo(job("goodbye", *SUCCEEDS), "PostDelete"),
    ]
    async with world(node, tmp_path, rules=HOOK_RULES) as place:
        result, _ = await place.deploy(bundle, wait_seconds=120.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert await place.live("job", "backup") == {}
        result, story = await place.destroy(wait_seconds=120.0)
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.UNHEALTHY)
        start = f"the hook that runs before deletion, Job {place.namespace}/backup failed: it failed: "
        assert result.cause.startswith(start), result.cause
        assert result.cause.endswith("\nprobe: open ***: no such file or directory")
        assert "hunter2" not in json.dumps([event.model_dump(mode="json") for event in story.events.values()])
        assert [event.object.name for event in story.of("object")] == ["backup"]
        assert await place.live("configmap", "settings")
        result, story = await place.destroy(strategy=Strategy.DESTROY_WITHOUT_HOOKS)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert set(story.actions().values()) == {"pruned"}
        left = await place.kubectl("get", "jobs,secrets,configmaps", "-n", place.namespace, "-o", "name")
        assert left.split() == ["configmap/kube-root-ca.crt"]
