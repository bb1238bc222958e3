"""The deploy engine on a real API server, refused: each refusal names what is wrong, and nothing was written."""

from pathlib import Path
from typing import Any

from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.ports import DeployResult
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import FindingEvent, Outcome
from tests.cluster.access import socket_factory
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    APPLICATION_RULES,
    Checkpoint,
    Story,
    World,
    config_map,
    deployment,
    service,
    world,
)


async def refused(place: World, *manifests: dict[str, Any]) -> tuple[DeployResult, list[FindingEvent]]:
    """Deploy what must fail in preflight; hold that nothing was written."""
    result, story = await place.deploy(manifests)
    assert result.outcome is Outcome.FAILED
    assert result.counts == {}
    assert "step/preflight/failed" in story.events
    assert (await place.owned()).objects == ()
    assert place.writes() == []
    return result, story.of("finding")


async def test_everything_wrong_is_reported_at_once(control_plane: Cluster, tmp_path: Path) -> None:
    """Five mistakes, five findings, each with its object, its field and its code; the good object is not written."""
    async with world(control_plane, tmp_path) as place:
        web = deployment("web")
        web["spec"]["template"]["spec"]["containers"][0]["imagee"] = "typo"
        elsewhere = config_map("elsewhere")
        elsewhere["metadata"]["namespace"] = "kube-system"
        result, findings = await refused(
            place,
            config_map("good"),
            {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "old"}},
            elsewhere,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "own", "namespace": None}},
            web,
            config_map("Not_A_Name"),
        )
        by_code = {finding.code: finding for finding in findings}
        assert "Deployment in apps/v1" in by_code[ErrorCode.UNKNOWN_KIND].message
        assert by_code[ErrorCode.NOT_BOUND].field == "metadata.namespace"
        assert "kind: Namespace" in by_code[ErrorCode.CLUSTER_SCOPED].remedy
        told = {finding.object.name: finding for finding in findings if finding.object is not None}
        assert set(told) == {"old", "elsewhere", "own", "web", "Not_A_Name"}
        assert told["web"].field == 'spec.template.spec.containers[name="main"].imagee'
        assert told["Not_A_Name"].field == "metadata.name"
        assert "(and 4 more)" in result.cause


async def test_refused_deployment_prunes_nothing(control_plane: Cluster, tmp_path: Path) -> None:
    """Deletes are dry-run in preflight, and only dry-run: what would have been pruned is still the same object."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("leaving"), config_map("staying")])
        before = await place.live("configmap", "leaving")
        result, _ = await place.deploy([config_map("staying"), config_map("Not_A_Name")])
        assert result.code is ErrorCode.INVALID_OBJECT
        assert await place.live("configmap", "leaving") == before
        assert [owned.ref.name for owned in (await place.owned()).objects] == ["leaving", "staying"]


async def test_denied_delete_is_found_before_the_first_write(control_plane: Cluster, tmp_path: Path) -> None:
    """Without the right to delete, pruning would fail at the end: preflight says so, with the rule."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "patch"]}]
    async with world(control_plane, tmp_path, rules=rules) as place:
        await place.deploy([config_map("leaving"), config_map("settings", colour="blue")])
        result, story = await place.deploy([config_map("settings", colour="red")])
        assert result.code is ErrorCode.FORBIDDEN
        assert 'verbs: ["delete"]' in story.of("finding")[0].remedy
        assert (await place.live("configmap", "settings"))["data"] == {"colour": "blue"}


async def test_invalid_field_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    """The server's causes become findings with the path of the field."""
    async with world(control_plane, tmp_path) as place:
        web = service("web")
        web["spec"]["ports"][0]["port"] = 99999
        _, findings = await refused(place, web)
        assert [(finding.code, finding.field) for finding in findings] == [
            (ErrorCode.INVALID_OBJECT, "spec.ports[0].port")
        ]
        assert "99999" in findings[0].message


async def test_missing_right_comes_with_its_rule(control_plane: Cluster, tmp_path: Path) -> None:
    """The finding holds the rule that is missing, once for all objects that need it."""
    rules = [rule for rule in APPLICATION_RULES if "deployments" not in rule["resources"]]
    async with world(control_plane, tmp_path, rules=rules) as place:
        result, findings = await refused(place, deployment("web"), deployment("worker"), config_map("settings"))
        assert [finding.code for finding in findings] == [ErrorCode.FORBIDDEN]
        where = f"in namespace {place.namespace}"
        assert findings[0].message == f"the agent may not patch deployments.apps {where} (2 objects need it)"
        assert findings[0].remedy == (
            f'# Role {where}\n- apiGroups: ["apps"]\n  resources: ["deployments"]\n  verbs: ["patch"]\n'
        )
        assert result.code is ErrorCode.FORBIDDEN


async def test_missing_right_to_watch_is_found_before_the_first_write(control_plane: Cluster, tmp_path: Path) -> None:
    """Without `list` on Deployments health could not be awaited: better to know now."""
    rules = [rule for rule in APPLICATION_RULES if "deployments" not in rule["resources"]]
    rules.append({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "create", "patch"]})
    async with world(control_plane, tmp_path, rules=rules) as place:
        _, findings = await refused(place, deployment("web"))
        errors = [finding for finding in findings if finding.severity == "error"]
        assert 'verbs: ["list"]' in errors[0].remedy
        assert errors[0].message.startswith("its health cannot be watched")


async def test_object_of_another_environment_is_left_alone(control_plane: Cluster, tmp_path: Path) -> None:
    """The first owner is named, and keeps it."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("settings", colour="blue")])
        first = place.environment
        place.environment = type(first)("acme", "other", "staging")
        result, story = await place.deploy([config_map("settings", colour="red")])
        assert result.code is ErrorCode.OWNED_BY_OTHER
        assert str(first) in story.of("finding")[0].message
        assert (await place.live("configmap", "settings"))["data"] == {"colour": "blue"}


async def test_object_of_another_tool_is_left_alone(control_plane: Cluster, tmp_path: Path) -> None:
    """What kubectl or Helm made is not ours to overwrite; who made it is said."""
    async with world(control_plane, tmp_path) as place:
        theirs = config_map("settings", theirs="yes")
        labels = {"app.kubernetes.io/managed-by": "Helm"}
        theirs["metadata"] |= {"namespace": place.namespace, "labels": labels}
        await place.create(theirs)
        _, findings = await refused(place, config_map("settings", theirs="no"))
        assert findings[0].code is ErrorCode.OWNED_BY_OTHER
        assert "Helm" in findings[0].message
        assert "kubectl" in findings[0].message


async def test_conflict_names_manager_and_field(control_plane: Cluster, tmp_path: Path) -> None:
    """Somebody edited our object: their field is theirs until they let go, and both are named."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("settings", colour="blue")])
        patch = '{"data":{"colour":"green"}}'
        where = ("-n", place.namespace, "--field-manager=editor")
        await place.kubectl("patch", "configmap", "settings", *where, "--type=merge", "-p", patch)
        result, story = await place.deploy([config_map("settings", colour="red")])
        assert result.code is ErrorCode.CONFLICT
        finding = story.of("finding")[0]
        assert finding.field == "data.colour"
        assert "editor" in finding.message
        assert (await place.live("configmap", "settings"))["data"] == {"colour": "green"}


async def test_immutable_field_is_told_from_an_invalid_one(control_plane: Cluster, tmp_path: Path) -> None:
    """A selector cannot change in place; the code says so, since the remedy differs."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([deployment("web")])
        changed = deployment("web")
        changed["spec"]["selector"]["matchLabels"]["tier"] = "front"
        changed["spec"]["template"]["metadata"]["labels"]["tier"] = "front"
        result, story = await place.deploy([changed])
        assert result.code is ErrorCode.IMMUTABLE
        assert story.of("finding")[0].field == "spec.selector"


async def test_denial_by_quota_is_not_taken_for_a_missing_right(control_plane: Cluster, tmp_path: Path) -> None:
    """Both are 403; the quota's own words come through."""
    async with world(control_plane, tmp_path) as place:
        hard = {"count/services": "0"}
        metadata = {"name": "few", "namespace": place.namespace}
        await place.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
        await place.kubectl(
            "wait", "resourcequota/few", "-n", place.namespace, "--for=jsonpath={.status.hard.count/services}=0"
        )
        _, findings = await refused(place, service("web"))
        assert findings[0].code is ErrorCode.INVALID_OBJECT
        assert "exceeded quota: few" in findings[0].message


async def test_missing_namespace_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    """A bound namespace that nobody made is the reason, not the object."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    async with world(control_plane, tmp_path, cluster_rules=rules) as place:
        lost = config_map("settings")
        lost["metadata"]["namespace"] = f"{place.namespace}-no"
        result, story = await place.deploy([lost], namespaces=(f"{place.namespace}-no",))
        assert result.outcome is Outcome.FAILED
        assert story.of("finding")[0].message == f"namespace {place.namespace}-no does not exist"


async def test_absent_api_server_is_one_clear_result(control_plane: Cluster, tmp_path: Path) -> None:
    """After its patience the engine says whom it could not reach and why."""
    async with world(control_plane, tmp_path) as place:
        nobody = place.cluster.server.replace(":6443", ":6444")
        access = ClusterAccess(nobody, place.cluster.ca_file, tmp_path / "token")
        factory = socket_factory(place.cluster.netns)
        async with KubeClient(access, socket_factory=factory, patience_seconds=0.5) as client:
            story = Story()
            result = await place.engine(client).run(place.work([config_map("a")]), story.report, Checkpoint())
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.API_SERVER_UNREACHABLE)
        assert nobody in result.cause
