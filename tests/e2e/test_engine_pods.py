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


QUOTA_RULE = {"apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["list"]}
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
        where = ("-n", place.namespace, "--timeout=120s")
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
        workloads = [deployment(name, replicas=1) for name in ("web", "db", "queue")]
        _, story = await place.deploy(workloads, wait_seconds=0.5)
        finished: Any = story.events["step/preflight/finished"]
        rule = '{apiGroups: [""], resources: [pods], verbs: [create]}'
        assert f"no pods tried in {place.namespace}: needs {rule}" in finished.detail
        rule = '{apiGroups: [""], resources: [resourcequotas], verbs: [list]}'
        assert f"no quotas read in {place.namespace}: needs {rule}" in finished.detail
        tried = [
            line
            for line in control_plane.audit_log.read_text().splitlines()
            if json.loads(line).get("objectRef", {}).get("namespace") == place.namespace
            and json.loads(line)["objectRef"].get("resource") == "pods"
            and json.loads(line)["verb"] == "create"
            and "dryRun" in json.loads(line)["requestURI"]
        ]
        # One alone, whose refusal is doubted once.
        assert len(tried) <= 2


async def test_a_warning_of_the_api_server_reaches_the_developer(control_plane: Cluster, tmp_path: Path) -> None:
    """Once for all objects it is about; the deployment goes on."""
    async with world(control_plane, tmp_path) as place:
        result, story = await place.deploy([deployment("web"), deployment("twin")])
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        (warning,) = [one for one in story.of("finding") if one.code is ErrorCode.WARNING]
        assert warning.severity == "warning"
        assert warning.message.startswith('would violate PodSecurity "restricted:latest"')
        assert warning.message.endswith("(2 objects)")


def asking(name: str, replicas: int, cpu: str, **rolling: int) -> dict[str, Any]:
    """Return a Deployment whose pods ask for CPU, with a strategy if one is given."""
    made = deployment(name, replicas=replicas)
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}} if cpu else {}
    if rolling:
        made["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return made


def about_quotas(story: Story) -> list[tuple[str, str, str]]:
    """Return severity, object and words of the findings about quotas."""
    found = [(str(one.severity), named(one), one.message) for one in story.of("finding")]
    return [one for one in found if "ResourceQuota" in one[2]]


async def test_all_that_a_deployment_takes_is_compared_with_the_quota(control_plane: Cluster, tmp_path: Path) -> None:
    """Each pod fits and all of them do not: told before the first write, those that take most by name."""
    async with world(control_plane, tmp_path, rules=[*APPLICATION_RULES, QUOTA_RULE]) as place:
        await limit(place, "ResourceQuota", "tight", {"hard": {"requests.cpu": "2", "count/configmaps": "50"}})
        bundle = [asking("web", 3, "500m"), asking("db", 2, "400m"), config_map("settings")]
        result, story = await place.deploy(bundle)
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.INVALID_OBJECT)
        takes = "the deployment takes 2300m more requests.cpu in the end,"
        assert about_quotas(story) == [
            ("error", "web", f"{takes} 1500m of it here; ResourceQuota tight has 2 left"),
            ("error", "db", f"{takes} 800m of it here; ResourceQuota tight has 2 left"),
        ]
        assert place.writes() == []
        odd = {"matchExpressions": [{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}]}
        await limit(place, "ResourceQuota", "odd", {"hard": {"pods": "0"}, "scopeSelector": odd})
        _, story = await place.deploy([asking("web", 3, "500m"), asking("db", 1, "400m")], wait_seconds=0.5)
        assert about_quotas(story) == []
        assert set(story.actions().values()) == {"created"}
        finished: Any = story.events["step/preflight/finished"]
        assert "not counted: ResourceQuota odd, for its scope" in finished.detail


async def test_a_surge_that_finds_no_room_is_told(control_plane: Cluster, tmp_path: Path) -> None:
    """An error where no pod may go first, since the roll-out would never begin; scaling down needs no room."""
    async with world(control_plane, tmp_path, rules=[*APPLICATION_RULES, QUOTA_RULE]) as place:
        await limit(place, "ResourceQuota", "tight", {"hard": {"requests.cpu": "1"}})
        await place.deploy([asking("web", 2, "500m")], wait_seconds=0.5)
        used = ("-n", place.namespace, "--timeout=120s", "resourcequota/tight")
        await place.kubectl("wait", "--for=jsonpath={.status.used.requests\\.cpu}=1", *used)
        where = ("-n", place.namespace, "--timeout=120s", "deployment/web")
        await place.kubectl("wait", "--for=jsonpath={.status.replicas}=2", *where)
        stuck = asking("web", 2, "400m", maxSurge=1, maxUnavailable=0)
        result, story = await place.deploy([stuck])
        says = (
            "the deployment takes 400m more requests.cpu while it is rolled out, 600m of it here; "
            "ResourceQuota tight has 0 left"
        )
        assert about_quotas(story) == [("error", "web", says)]
        assert result.outcome is Outcome.FAILED
        _, story = await place.plan([asking("web", 2, "400m", maxSurge=1, maxUnavailable=1)])
        assert about_quotas(story) == [("warning", "web", says)]
        _, story = await place.plan([asking("web", 1, "500m")])
        assert about_quotas(story) == []


async def test_defaults_of_a_limit_range_count(control_plane: Cluster, tmp_path: Path) -> None:
    """The bundle asks for nothing, and admission asks for it: what pods would have is what is added up."""
    async with world(control_plane, tmp_path, rules=[*POD_RULES, QUOTA_RULE]) as place:
        default = {"type": "Container", "defaultRequest": {"cpu": "1"}}
        await limit(place, "LimitRange", "defaults", {"limits": [default]})
        await limit(place, "ResourceQuota", "tight", {"hard": {"requests.cpu": "2"}})
        _, story = await place.deploy([asking("web", 3, "")])
        (found,) = about_quotas(story)
        assert found[:2] == ("error", "web")
        assert "takes 3 more requests.cpu in the end" in found[2]
