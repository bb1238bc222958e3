"""The deploy engine on a real API server: what a workload's pods will meet is told before anything is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import FindingEvent, Outcome
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import APPLICATION_RULES, Story, World, config_map, deployment, world

POD_RULES = [*APPLICATION_RULES, {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]


CRON_RULE = {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list", "watch", "create", "patch"]}


def about_pods(story: Story) -> list[FindingEvent]:
    """Return the findings of pods that were tried; this cluster warns of its Pod Security level besides."""
    return [one for one in story.of("finding") if one.message.startswith("its pods would be refused")]


def named(finding: FindingEvent) -> str:
    """Return the name of a finding's object."""
    return finding.object.name if finding.object else ""


async def limit(place: World, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Put a limit on the namespace, and wait until the API server's admission counts it."""
    made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": place.namespace}, "spec": spec}
    await place.create(made)
    if kind == "ResourceQuota":
        where = ("-n", place.namespace, "--timeout=30s")
        await place.kubectl("wait", "--for=jsonpath={.status.hard}", f"resourcequota/{name}", *where)


@pytest.mark.parametrize(
    ("kind", "spec", "says"),
    [
        ("ResourceQuota", {"hard": {"pods": "0"}}, "exceeded quota"),
        ("ResourceQuota", {"hard": {"limits.memory": "1Gi"}}, "must specify limits.memory"),
        ("LimitRange", {"limits": [{"type": "Pod", "max": {"memory": "8Mi"}}]}, "maximum memory usage per Pod"),
    ],
)
async def test_what_the_namespace_refuses_to_pods_is_told_first(
    control_plane: Cluster, tmp_path: Path, kind: str, spec: dict[str, Any], says: str
) -> None:
    """The Deployment itself would be taken, and nothing of it would ever run."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        await limit(place, kind, "narrow", spec)
        result, story = await place.deploy([deployment("web", replicas=1), config_map("settings")])
        assert result.outcome is Outcome.FAILED
        (finding,) = about_pods(story)
        assert (named(finding), finding.field) == ("web", "spec.template")
        assert says in finding.message
        assert (place.writes(), (await place.owned()).objects) == ([], ())


async def test_pod_security_speaks_before_the_first_write(control_plane: Cluster, tmp_path: Path) -> None:
    """Also for a CronJob, whose pods come hours later; a workload without replicas makes no pods."""
    async with world(control_plane, tmp_path, rules=[*POD_RULES, CRON_RULE]) as place:
        label = "pod-security.kubernetes.io/enforce=baseline"
        await place.kubectl("label", "namespace", place.namespace, label)
        privileged = deployment("web", replicas=1, hostNetwork=True)
        pod = privileged["spec"]["template"]
        nightly = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly"},
            "spec": {
                "schedule": "0 3 * * *",
                "jobTemplate": {"spec": {"template": {"spec": {**pod["spec"], "restartPolicy": "Never"}}}},
            },
        }
        idle = deployment("idle", replicas=0, hostNetwork=True)
        result, story = await place.deploy([privileged, nightly, idle])
        assert result.code is ErrorCode.INVALID_OBJECT
        told = {named(finding): finding for finding in about_pods(story)}
        assert set(told) == {"web", "nightly"}
        assert "violates PodSecurity" in told["web"].message
        assert told["nightly"].field == "spec.jobTemplate.spec.template"
        warned = [finding.message for finding in story.of("finding") if finding.code is ErrorCode.WARNING]
        assert any("would violate PodSecurity" in message for message in warned)
        assert place.writes() == []


async def test_a_full_quota_does_not_stop_a_change(control_plane: Cluster, tmp_path: Path) -> None:
    """Pods that go make room for those that come: a warning, since only the roll-out can tell."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        await place.deploy([deployment("web", replicas=1)], wait_seconds=0.5)
        await limit(place, "ResourceQuota", "full", {"hard": {"pods": "0"}})
        _, story = await place.deploy(
            [deployment("web", replicas=1, priority=None, dnsPolicy="Default")], wait_seconds=0.5
        )
        (finding,) = about_pods(story)
        assert finding.severity == "warning"
        assert story.actions()[str(finding.object)] == "changed"


async def test_what_the_bundle_brings_itself_is_not_missed(control_plane: Cluster, tmp_path: Path) -> None:
    """Its own ServiceAccount is not there yet when the pod is tried; one that nobody makes is told."""
    async with world(control_plane, tmp_path, rules=POD_RULES) as place:
        web = deployment("web", replicas=1, serviceAccountName="web")
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
        result, story = await place.deploy([web])
        assert result.outcome is Outcome.FAILED
        assert 'serviceaccount "web" not found' in about_pods(story)[0].message
        _, story = await place.deploy([web, account], wait_seconds=0.5)
        assert about_pods(story) == []
        assert set(story.actions().values()) == {"created"}


async def test_without_the_right_nothing_is_tried_and_it_says_so(control_plane: Cluster, tmp_path: Path) -> None:
    """The chart's default gives no right to create pods; that is no reason to refuse a deployment."""
    async with world(control_plane, tmp_path) as place:
        _, story = await place.deploy([deployment("web", replicas=1), deployment("db", replicas=1)], wait_seconds=0.5)
        finished: Any = story.events["step/preflight/finished"]
        rule = '{apiGroups: [""], resources: [pods], verbs: [create]}'
        assert f"no pods tried in {place.namespace}: needs {rule}" in finished.detail
        tried = [
            line
            for line in control_plane.audit_log.read_text().splitlines()
            if json.loads(line).get("objectRef", {}).get("namespace") == place.namespace
            and json.loads(line)["objectRef"].get("resource") == "pods"
            and json.loads(line)["verb"] == "create"
            and "dryRun" in json.loads(line)["requestURI"]
        ]
        assert len(tried) <= 1


async def test_a_warning_of_the_api_server_reaches_the_developer(control_plane: Cluster, tmp_path: Path) -> None:
    """Once for all objects it is about; the deployment goes on."""
    async with world(control_plane, tmp_path) as place:
        result, story = await place.deploy([deployment("web"), deployment("twin")])
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        (warning,) = [one for one in story.of("finding") if one.code is ErrorCode.WARNING]
        assert warning.severity == "warning"
        assert warning.message.startswith('would violate PodSecurity "restricted:latest"')
        assert warning.message.endswith("(2 objects)")
