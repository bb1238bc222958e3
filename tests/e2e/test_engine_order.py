"""The order of writes on a real API server: what is awaited has to be ready, and what is unrelated does not wait."""

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from fairlead_agent.apply.references import DEPENDS_ON
from fairlead_agent.health.rules import verdict_of
from fairlead_agent.health.verdict import projected
from fairlead_agent.kube import watch as watch_module
from fairlead_agent.kube.watch import Watch
from fairlead_agent.ports import DeployResult
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Outcome, ProgressEvent
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    APPLICATION_RULES,
    WRITE,
    Checkpoint,
    Story,
    World,
    application,
    config_map,
    deployment,
    world,
)
from tests.e2e.test_engine_deploy import assert_succeeded
from tests.polling import PATIENCE_SECONDS, eventually

STAGES = 20
GENEROUS_SECONDS = 5.0
"""From the event that shows an object ready to the next write, on a busy machine; what is measured is printed."""
POD_RULES = [*APPLICATION_RULES, {"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": WRITE}]


def awaiting(manifest: Mapping[str, Any], on: str) -> dict[str, Any]:
    """Return a manifest that waits for something."""
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {DEPENDS_ON: on}}}


def pod(name: str) -> dict[str, Any]:
    """Return a Pod that nobody schedules: it is ready when a test says so."""
    spec = {"containers": [{"name": "main", "image": "none"}], "schedulerName": "nobody"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def _is_there(place: World, name: str) -> bool:
    return bool(await place.live("pod", name))


async def make_ready(place: World, name: str, status: str = "True") -> None:
    """Say of a Pod what its kubelet would."""
    conditions = [{"type": kind, "status": status} for kind in ("Ready", "ContainersReady")]
    running = {"status": {"phase": "Running", "conditions": conditions}}
    where = ("pod", name, "-n", place.namespace)
    await place.kubectl("patch", *where, "--subresource=status", "--type=merge", "-p", json.dumps(running))


class Reader(Story):
    """A story that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    async def report(self, event: ProgressEvent) -> None:
        """Take an event."""
        await super().report(event)
        self.came.set()

    async def until(self, kind: str, name: str) -> Any:  # noqa: ANN401  (an event of that type)
        """Wait for the first event of a type about an object."""
        async with asyncio.timeout(60):
            while True:
                for event in self.of(kind):
                    if event.object.name == name:
                        return event
                self.came.clear()
                await self.came.wait()


async def watched(place: World, count: int, ready: asyncio.Event) -> dict[str, dict[str, float]]:
    """Watch Deployments beside the engine: when each was made, and when an event first showed it ready."""
    seen: dict[str, dict[str, float]] = {}
    resource = await place.client.resolve("apps/v1", "Deployment")
    page = await place.client.page(resource, place.namespace, limit=1)
    opened = place.client.watch(
        resource, place.namespace, resource_version=page.resource_version, server_seconds=300, silence_seconds=300
    )
    async with opened as events:
        ready.set()
        async for event in events:
            if event["type"] not in {"ADDED", "MODIFIED"}:
                continue
            times = seen.setdefault(event["object"]["metadata"]["name"], {"made": time.monotonic()})
            if verdict_of("apps", "Deployment", projected(event["object"])).satisfies:
                times.setdefault("ready", time.monotonic())
            if len(seen) == count and all("ready" in one for one in seen.values()):
                break
    return seen


async def test_each_stage_follows_the_one_it_awaits_at_once(control_plane: Cluster, tmp_path: Path) -> None:
    """Twenty Deployments, each awaiting the one before: never written too early, and soon after it is ready."""
    async with world(control_plane, tmp_path) as place:
        chain = [deployment("stage-00")]
        for number in range(1, STAGES):
            on = f"apps/namespaces/{place.namespace}/Deployment/stage-{number - 1:02d}"
            chain.append(awaiting(deployment(f"stage-{number:02d}"), on))
        is_watched = asyncio.Event()
        watching = asyncio.create_task(watched(place, STAGES, is_watched))
        await is_watched.wait()
        result, story = await place.deploy(reversed(chain), wait_seconds=120)
        assert_succeeded(result, created=STAGES)
        seen = [times for _, times in sorted((await asyncio.wait_for(watching, 60)).items())]
        added = [after["made"] - before["ready"] for before, after in pairwise(seen)]
        assert min(added) > 0
        told = f"{STAGES} stages, ready to next write: median {median(added):.3f} s, most {max(added):.3f} s"
        print(told)
        assert median(added) < GENEROUS_SECONDS, told
        healthy = [event.key for event in story.of("health") if event.status == "Healthy"]
        assert len(healthy) == len({key.split("/Healthy")[0] for key in healthy}) == STAGES
        began = time.monotonic()
        result, _ = await place.deploy(chain)
        assert_succeeded(result, unchanged=STAGES)
        print(f"unchanged, {STAGES} stages: {time.monotonic() - began:.2f} s")


async def test_only_what_awaits_it_waits_until_an_object_is_ready(control_plane: Cluster, tmp_path: Path) -> None:
    """What is unrelated, and what merely comes later in the bundle, is written meanwhile."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        reader = Reader()
        manifests = [
            pod("first"),
            awaiting(config_map("second"), f"/namespaces/{place.namespace}/Pod/first"),
            awaiting(config_map("third"), f"/namespaces/{place.namespace}/ConfigMap/second"),
            *application(),
        ]
        running = asyncio.create_task(
            place.engine().run(place.work(manifests, wait_seconds=120), reader.report, Checkpoint())
        )
        for name in ("first", "web", "settings", "database"):
            assert (await reader.until("object", name)).action == "created"
        await reader.until("health", "first")
        assert not await place.live("configmap", "second")
        await make_ready(place, "first")
        assert_succeeded(await running, created=8)
        order = [event.object.name for event in reader.of("object")]
        assert order[-2:] == ["second", "third"]


async def test_what_awaits_something_unready_is_skipped_with_the_reason(control_plane: Cluster, tmp_path: Path) -> None:
    """And all behind it; the rest is there, and the next deployment goes on once it is ready."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        on = f"/namespaces/{place.namespace}/Pod/first"
        later = awaiting(config_map("third"), f"/namespaces/{place.namespace}/ConfigMap/second")
        manifests = [pod("first"), awaiting(config_map("second"), on), later, config_map("beside")]
        result, story = await place.deploy(manifests, wait_seconds=6.0)
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.UNHEALTHY)
        assert result.cause.startswith(f"Pod {place.namespace}/first is Progressing")
        assert {event.object.name: str(event.action) for event in story.of("object")} == {
            "first": "created",
            "second": "skipped",
            "third": "skipped",
            "beside": "created",
        }
        details = {event.object.name: event.detail for event in story.of("object")}
        assert details["second"].startswith(
            f"it waits for what is not ready: Pod {place.namespace}/first is Progressing"
        )
        await make_ready(place, "first")
        result, _ = await place.deploy(manifests)
        assert_succeeded(result, created=2, unchanged=2)


async def test_what_needs_no_write_is_not_judged_by_how_it_was_before(
    control_plane: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch that is shared with the deployment before may be behind what was compared."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        running = asyncio.create_task(place.deploy([pod("first")]))
        await eventually(lambda: _is_there(place, "first"), "the pod")
        await make_ready(place, "first")
        assert_succeeded((await running)[0], created=1)
        monkeypatch.setattr(Watch, "_take", lambda _self, _event, position: position)
        monkeypatch.setattr(watch_module, "LATE_SECONDS", 0.1)
        await make_ready(place, "first", status="False")
        result, _ = await place.deploy([pod("first")], wait_seconds=6.0)
        assert result.cause.startswith(f"Pod {place.namespace}/first is Progressing: it is not ready yet"), result


async def test_a_wait_for_readiness_ends_at_once_when_the_deployment_is_superseded(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """However long it could go on; and another attempt takes it up where it was."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        reader, checkpoint = Reader(), Checkpoint()
        work = place.work(
            [pod("first"), awaiting(config_map("second"), f"/namespaces/{place.namespace}/Pod/first")],
            wait_seconds=3600,
        )
        running = asyncio.create_task(place.engine().run(work, reader.report, checkpoint))
        await reader.until("health", "first")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, PATIENCE_SECONDS)
        assert not await place.live("configmap", "second")
        await make_ready(place, "first")
        result: DeployResult = await place.engine().run(work, reader.report, checkpoint)
        assert_succeeded(result, created=2)


async def test_a_circle_and_a_wrong_annotation_are_refused_with_all_they_are_about(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """Each object of a circle by itself, so that each one's file and line are shown; nothing is written."""
    async with world(control_plane, tmp_path) as place:
        named = f"/namespaces/{place.namespace}/ConfigMap"
        manifests = [
            awaiting(config_map("a"), f"{named}/b"),
            awaiting(config_map("b"), f"{named}/c"),
            awaiting(config_map("c"), f"{named}/a"),
            awaiting(config_map("lost"), f"{named}/nowhere"),
            config_map("fine"),
        ]
        result, story = await place.deploy(manifests)
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.INVALID_OBJECT)
        found = {event.object.name: (event.field, event.message) for event in story.of("finding")}
        a, b, c = (f"ConfigMap {place.namespace}/{name}" for name in "abc")
        circle = f"the objects wait for each other: {a} needs {b} needs {c} needs {a}"
        assert found == {
            "a": ("", circle),
            "b": ("", circle),
            "c": ("", circle),
            "lost": (
                f'metadata.annotations["{DEPENDS_ON}"]',
                f"it waits for ConfigMap {place.namespace}/nowhere of the core group, which is not among the objects",
            ),
        }
        assert not await place.live("configmap", "fine")


async def test_what_is_awaited_goes_after_what_awaits_it_is_gone(control_plane: Cluster, tmp_path: Path) -> None:
    """A finalizer holds the one, and with it the other; what is unrelated goes meanwhile."""
    async with world(control_plane, tmp_path) as place:
        operator = f"/namespaces/{place.namespace}/ServiceAccount/operator"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
        served = awaiting(config_map("served"), operator)
        served["metadata"]["finalizers"] = ["example.com/operator"]
        await place.deploy([account, served, config_map("beside"), config_map("kept")])
        reader = Reader()
        running = asyncio.create_task(place.engine().run(place.work([config_map("kept")]), reader.report, Checkpoint()))

        async def is_being_deleted() -> bool:
            return "deletionTimestamp" in (await place.live("configmap", "served")).get("metadata", {})

        await eventually(is_being_deleted, "the finalizer to be what holds it")
        await reader.until("object", "beside")
        assert "deletionTimestamp" not in (await place.live("serviceaccount", "operator"))["metadata"]
        patch = ("--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        await place.kubectl("patch", "configmap", "served", "-n", place.namespace, *patch)
        assert_succeeded(await running, unchanged=1, pruned=3)
        order = [event.object.name for event in reader.of("object")]
        assert order.index("served") < order.index("operator")


async def test_what_is_awaited_stays_with_what_may_not_be_deleted(control_plane: Cluster, tmp_path: Path) -> None:
    """Both are in the inventory still, and are tried again."""
    async with world(control_plane, tmp_path) as place:
        operator = f"/namespaces/{place.namespace}/ServiceAccount/operator"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
        await place.deploy([account, awaiting(config_map("served"), operator), config_map("kept")])
        where = ("configmap", "served", "-n", place.namespace)
        await place.kubectl("annotate", *where, "fairlead.dev/prune=deny")
        result, story = await place.deploy([config_map("kept")])
        assert_succeeded(result, unchanged=1, skipped=2)
        details = {event.object.name: event.detail for event in story.of("object")}
        assert details["operator"] == (
            f"ConfigMap {place.namespace}/served, which waits for it by its annotation, is still there"
        )
        await place.kubectl("annotate", *where, "fairlead.dev/prune-")
        result, _ = await place.deploy([config_map("kept")])
        assert_succeeded(result, unchanged=1, pruned=2)
