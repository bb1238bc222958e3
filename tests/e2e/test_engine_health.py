"""Health on a real node: success is seen at once, and a standing fault ends the wait early with its cause."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.health.check import HealthCheck
from fairlead_agent.health.observer import Observer
from fairlead_agent.health.targets import Target
from fairlead_agent.health.verdict import Verdict
from fairlead_agent.kube.watch import Watch
from fairlead_agent.ports import DeployResult
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import HealthEvent, HealthStatus, Outcome
from tests.cluster.cluster import Cluster
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.e2e.engine_world import Checkpoint, Story, World, config_map, deployment, secret, service, world
from tests.polling import eventually

LONG_SECONDS = 300.0
"""What a deployment may wait; most tests see it end within seconds, by itself."""


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Cluster:
    """Return a cluster whose node has the probe image."""
    load_image(cluster, probe_image_tar())
    return cluster


def serving(name: str, **container: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a Deployment of one pod that serves; `container` changes its container."""
    made = deployment(name, replicas=1, image=PROBE_IMAGE)
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    made["spec"]["template"]["spec"]["containers"] = [
        {"name": "main", "image": PROBE_IMAGE, "args": ["serve"], "readinessProbe": probe, **container}
    ]
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    return made


async def broken(place: World, *manifests: dict[str, Any]) -> tuple[DeployResult, float]:
    """Deploy something that cannot become healthy; return how it failed and after how many seconds."""
    began = time.monotonic()
    result, _ = await place.deploy(manifests, wait_seconds=LONG_SECONDS)
    assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.UNHEALTHY)
    return result, time.monotonic() - began


async def test_wait_ends_when_the_pods_are_ready(node: Cluster, tmp_path: Path) -> None:
    """The story goes from Progressing to Healthy, and success follows the last of it at once."""
    async with world(node, tmp_path) as place:
        result, story = await place.deploy(
            [serving("web"), service("web"), config_map("settings")], wait_seconds=LONG_SECONDS
        )
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        web = [event.status for event in story.of("health") if event.object.kind == "Deployment"]
        assert web[0] is HealthStatus.PROGRESSING
        assert web[-1] is HealthStatus.HEALTHY
        healthy = next(event for event in reversed(story.of("health")) if event.object.kind == "Deployment")
        assert story.events["step/wait/finished"].at - healthy.at < 10


async def test_crash_loop_names_container_and_exit_code(node: Cluster, tmp_path: Path) -> None:
    """A container that keeps crashing fails the wait within seconds, not at its end."""
    async with world(node, tmp_path) as place:
        result, seconds = await broken(place, serving("web", args=["no-such-verb"]))
        assert f"Deployment {place.namespace}/web is Degraded: container main of Pod web-" in result.cause
        assert "exit code 1" in result.cause
        assert seconds < LONG_SECONDS / 2


async def test_what_a_container_said_is_told_without_values_of_secrets(node: Cluster, tmp_path: Path) -> None:
    """Neither a deployment's story and result nor a later look at its health quotes one."""
    password = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
    quotes = {"args": ["read", "$(PASSWORD)"], "env": [password], "terminationMessagePolicy": "FallbackToLogsOnError"}
    async with world(node, tmp_path) as place:
        story = Story()
        manifests = [secret("login", password="/hunter2"), serving("web", **quotes)]
        work = place.work(manifests, wait_seconds=LONG_SECONDS)
        result = await place.engine().run(work, story.report, Checkpoint())
        assert "crashed with exit code 1: probe: open ***: no such file or directory" in result.cause
        checked = await HealthCheck(place.client, place.inventory, time.time).check(place.environment)
        assert any("probe: open ***: no such file" in event.cause for event in checked), checked
        told = [event.model_dump(mode="json") for event in [*story.events.values(), *checked]]
        assert "hunter2" not in json.dumps(told)


async def test_image_that_cannot_be_pulled_is_named(node: Cluster, tmp_path: Path) -> None:
    """The image and the reason the node gives."""
    async with world(node, tmp_path) as place:
        result, seconds = await broken(place, serving("web", image="registry.invalid/no/such:1"))
        assert "container main of Pod web-" in result.cause
        assert "cannot pull image registry.invalid/no/such:1" in result.cause
        assert seconds < LONG_SECONDS / 2


async def test_missing_configuration_is_named(node: Cluster, tmp_path: Path) -> None:
    """A ConfigMap that does not exist keeps the container from starting."""
    async with world(node, tmp_path) as place:
        env = [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "colour"}}}]
        result, seconds = await broken(place, serving("web", env=env))
        assert 'configmap "absent" not found (CreateContainerConfigError)' in result.cause
        assert seconds < LONG_SECONDS / 2


async def test_missing_volume_source_is_named(node: Cluster, tmp_path: Path) -> None:
    """A Secret that does not exist keeps the pod from starting; only an Event says so."""
    async with world(node, tmp_path) as place:
        web = serving("web", volumeMounts=[{"name": "keys", "mountPath": "/keys"}])
        web["spec"]["template"]["spec"]["volumes"] = [{"name": "keys", "secret": {"secretName": "absent"}}]
        result, _ = await broken(place, web)
        assert 'secret "absent" not found (FailedMount)' in result.cause


async def test_unschedulable_pod_repeats_the_schedulers_words(node: Cluster, tmp_path: Path) -> None:
    """Too much memory asked for: the scheduler's reason per node."""
    async with world(node, tmp_path) as place:
        result, seconds = await broken(place, serving("web", resources={"requests": {"memory": "900Gi"}}))
        assert "cannot be scheduled: 0/1 nodes are available: 1 Insufficient memory" in result.cause
        assert seconds < LONG_SECONDS / 2


async def test_pods_denied_by_quota_are_explained(node: Cluster, tmp_path: Path) -> None:
    """No pod exists to ask; its replica set says why."""
    async with world(node, tmp_path) as place:
        metadata = {"name": "none", "namespace": place.namespace}
        await place.create(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "0"}}}
        )
        await place.kubectl("wait", "resourcequota/none", "-n", place.namespace, "--for=jsonpath={.status.hard.pods}=0")
        result, _ = await broken(place, serving("web"))
        assert "its pods cannot be created" in result.cause
        assert "exceeded quota: none" in result.cause


async def test_failing_probe_is_the_cause_at_the_end_of_the_wait(node: Cluster, tmp_path: Path) -> None:
    """A slow start looks the same, so it gets its time; then the probe's answer is the cause."""
    async with world(node, tmp_path) as place:
        web = serving("web", readinessProbe={"httpGet": {"path": "/", "port": 9999}, "periodSeconds": 1})
        result, story = await place.deploy([web], wait_seconds=8.0)
        if "probe failed" not in result.cause:  # a busy node has not probed yet
            result, story = await place.deploy([web], wait_seconds=90.0)
        assert result.outcome is Outcome.FAILED
        assert "container main of Pod web-" in result.cause
        assert "Readiness probe failed" in result.cause
        assert story.of("health")[-1].status is HealthStatus.PROGRESSING


async def test_failed_job_fails_at_once_with_its_pods_exit_code(node: Cluster, tmp_path: Path) -> None:
    """A Job past its back-off limit never recovers: no grace."""
    async with world(node, tmp_path) as place:
        result, _ = await broken(place, job("migrate", "no-such-verb"))
        assert f"{place.namespace}/migrate is Degraded: it failed" in result.cause
        assert "exit code 1" in result.cause


async def test_finished_job_is_healthy(node: Cluster, tmp_path: Path) -> None:
    """Waiting for a migration means waiting for its end."""
    async with world(node, tmp_path) as place:
        result, _ = await place.deploy([job("migrate", "lookup", "localhost")], wait_seconds=LONG_SECONDS)
        assert result.outcome is Outcome.SUCCEEDED


async def test_finished_job_that_cleans_itself_up_is_not_missed(node: Cluster, tmp_path: Path) -> None:
    """A time to live of zero removes it while others are still awaited."""
    async with world(node, tmp_path) as place:
        migrate = job("migrate", "lookup", "localhost")
        migrate["spec"]["ttlSecondsAfterFinished"] = 0
        slow = {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 15}
        result, _ = await place.deploy([migrate, serving("web", readinessProbe=slow)], wait_seconds=LONG_SECONDS)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert not await place.live("job", "migrate")


async def test_job_that_ended_before_anybody_looked_is_judged_by_its_events(node: Cluster, tmp_path: Path) -> None:
    """Removed by its time to live: healthy if it completed, degraded if it failed, missing if nothing says."""
    async with world(node, tmp_path) as place:
        good, bad = job("good", "lookup", "localhost"), job("bad", "no-such-verb")
        uids = {}
        for one in (good, bad):
            one["spec"] |= {"ttlSecondsAfterFinished": 0, "backoffLimit": 0}
            name = one["metadata"]["name"]
            made = await place.kubectl("create", "-n", place.namespace, "-f", "-", "-o", "json", stdin=json.dumps(one))
            uids[name] = json.loads(made)["metadata"]["uid"]
        jobs = await place.client.resolve("batch/v1", "Job")
        await eventually(lambda: gone(place, *uids), "both to be removed")

        async def verdict(name: str, uid: str) -> Verdict:
            target = Target(
                ObjectRef(api_version="batch/v1", kind="Job", namespace=place.namespace, name=name), jobs, uid
            )
            observer = Observer(partial(Watch, place.client), [target])
            await observer.look()
            return observer.verdicts(time.time())[target]

        assert (await verdict("good", uids["good"])).satisfies
        failed = await verdict("bad", uids["bad"])
        assert (failed.status, failed.final) == (HealthStatus.DEGRADED, True)
        assert "BackoffLimitExceeded" in failed.cause
        assert (await verdict("never", "")).status is HealthStatus.MISSING


async def gone(place: World, *names: str) -> bool:
    """Whether these Jobs are no more."""
    return not any([await place.live("job", name) for name in names])


async def test_old_pods_are_not_blamed_for_a_new_fault(node: Cluster, tmp_path: Path) -> None:
    """A broken change fails by its own pod while the old one still serves; going back heals it."""
    async with world(node, tmp_path) as place:
        good = [serving("web")]
        assert (await place.deploy(good, wait_seconds=LONG_SECONDS))[0].outcome is Outcome.SUCCEEDED
        result, _ = await broken(place, serving("web", args=["no-such-verb"]))
        assert "exit code 1" in result.cause
        assert (await place.deploy(good, wait_seconds=LONG_SECONDS))[0].outcome is Outcome.SUCCEEDED


async def test_check_tells_the_health_of_everything_owned(node: Cluster, tmp_path: Path) -> None:
    """Once, without waiting: each object of the inventory, whatever was deleted by hand included."""
    async with world(node, tmp_path) as place:
        await place.deploy([serving("web"), config_map("settings"), config_map("gone")], wait_seconds=LONG_SECONDS)
        await place.kubectl("delete", "configmap", "gone", "-n", place.namespace)
        events = await HealthCheck(place.client, place.inventory, time.time).check(place.environment)
        assert {event.object.name: event.status for event in events} == {
            "web": HealthStatus.HEALTHY,
            "settings": HealthStatus.HEALTHY,
            "gone": HealthStatus.MISSING,
        }


async def test_fault_is_told_while_the_deployment_still_waits(node: Cluster, tmp_path: Path) -> None:
    """The event with the cause comes as soon as the pod's status has it."""
    async with world(node, tmp_path) as place:
        story = Story()
        work = place.work([serving("web", image="registry.invalid/no/such:1")], wait_seconds=LONG_SECONDS)
        task = asyncio.create_task(place.engine().run(work, story.report, Checkpoint()))
        await eventually(lambda: _waiting(place), "the kubelet to give up on the image")
        await eventually(lambda: _caused(story), "the cause to be told")
        assert (await task).outcome is Outcome.FAILED


async def _waiting(place: World) -> bool:
    path = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"
    return "Image" in await place.kubectl("get", "pods", "-n", place.namespace, "-o", path)


async def _caused(story: Story) -> bool:
    return any(isinstance(event, HealthEvent) and "cannot pull" in event.cause for event in story.events.values())


def job(name: str, *args: str) -> dict[str, Any]:
    """Return a Job that runs the probe once."""
    container = {"name": "main", "image": PROBE_IMAGE, "args": list(args)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
