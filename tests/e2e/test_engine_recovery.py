"""Lost inventories on a real API server: what an environment owns is found again by labels, and nothing else is."""

import json
from pathlib import Path

from fairlead_agent.policy import Policy
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Outcome
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import APPLICATION_RULES, WRITE, Story, World, application, config_map, world

BEFORE = "0" * 64
"""Some bundle: what says that the environment is not new."""


async def lose_inventory(place: World) -> None:
    """Delete all that the agent knows of what it made."""
    await place.kubectl("delete", "configmap", "--all", "--namespace", place.agent_namespace)
    place.previous_bundle_sha256 = BEFORE


def losses(story: Story) -> list[str]:
    """Return what a story says of a lost inventory."""
    return [finding.message for finding in story.of("finding") if "inventory" in finding.message]


async def test_what_an_environment_owns_is_found_by_its_labels(control_plane: Cluster, tmp_path: Path) -> None:
    """It is pruned as ever, once; what only carries a copy of the label is somebody else's."""
    async with world(control_plane, tmp_path) as place:
        made = application()
        await place.deploy([*made, config_map("old")])
        label = (await place.live("configmap", "old"))["metadata"]["labels"]["fairlead.dev/owner"]
        copied = config_map("copied")
        copied["metadata"] |= {"namespace": place.namespace, "labels": {"fairlead.dev/owner": label}}
        await place.create(copied)
        await lose_inventory(place)
        result, story = await place.plan(made)
        assert result.counts == {"unchanged": len(made), "pruned": 1}
        assert (await place.owned()).objects == ()
        result, story = await place.deploy(made)
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        assert result.counts == {"unchanged": len(made), "pruned": 1}
        assert losses(story) == [f"the environment's inventory was lost; its labels name {len(made) + 1} objects"]
        assert await place.live("configmap", "old") == {}
        assert await place.live("configmap", "copied") != {}
        assert len((await place.owned()).objects) == len(made)
        result, story = await place.deploy(made)
        assert losses(story) == []


async def test_a_kind_that_cannot_be_listed_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    """Its objects stay in the cluster, and the warning has the rule with which they would be found."""
    blind = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb not in {"list", "watch"}]}
        if "configmaps" in rule["resources"]
        else rule
        for rule in APPLICATION_RULES
    ]
    async with world(control_plane, tmp_path, rules=blind) as place:
        claim = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": SUSPENDED}
        await place.deploy([config_map("old"), claim])
        await lose_inventory(place)
        result, story = await place.deploy([config_map("new")])
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        assert result.counts == {"created": 1, "pruned": 1}
        (named,) = [one for one in story.of("finding") if "configmaps" in one.message]
        assert (named.severity, named.code) == ("warning", ErrorCode.FORBIDDEN)
        assert named.remedy.startswith(f"# Role in namespace {place.namespace}\n")
        assert 'verbs: ["list"]' in named.remedy
        assert await place.live("configmap", "old") != {}


async def test_cluster_scoped_objects_are_found_by_the_policys_names(control_plane: Cluster, tmp_path: Path) -> None:
    """By name where the rule has one, by list where it has the beginning of one."""
    group = "scheduling.k8s.io"
    rights = [{"apiGroups": [group], "resources": ["priorityclasses"], "verbs": WRITE}]
    async with world(control_plane, tmp_path, cluster_rules=rights) as place:
        prefix = place.namespace
        names = [f"{prefix}-exact", f"{prefix}-many-1", f"{prefix}-many-2"]
        rule = {"group": group, "kind": "PriorityClass", "names": [f"{prefix}-exact", f"{prefix}-many-*"]}
        place.policy = Policy.model_validate({"clusterScoped": [rule]})
        header = {"apiVersion": f"{group}/v1", "kind": "PriorityClass", "value": 1}
        classes = [{**header, "metadata": {"name": name, "namespace": None}} for name in names]
        await place.deploy([*classes, config_map("kept")])
        await lose_inventory(place)
        result, _ = await place.deploy([config_map("kept")])
        assert result.counts == {"unchanged": 1, "pruned": 3}
        listed = json.loads(await place.kubectl("get", "priorityclass", "-o", "json"))["items"]
        assert not set(names) & {item["metadata"]["name"] for item in listed}


async def test_a_new_environment_asks_for_nothing_more(control_plane: Cluster, tmp_path: Path) -> None:
    """Its first deployment finds no inventory, and need not look for what nobody has made."""
    async with world(control_plane, tmp_path) as place:
        result, story = await place.deploy([config_map("first")])
        assert result.outcome is Outcome.SUCCEEDED
        assert losses(story) == []
        asked = control_plane.audit_log.read_text()
        user = f"system:serviceaccount:{place.agent_namespace}:agent"
        assert not [line for line in asked.splitlines() if user in line and "selfsubjectrulesreviews" in line]


async def test_what_asks_to_be_orphaned_is_left_as_nobodys(control_plane: Cluster, tmp_path: Path) -> None:
    """It stays as it is but for the owner's label; who wants it back has to say so."""
    async with world(control_plane, tmp_path) as place:
        leaving = config_map("leaving", colour="blue")
        leaving["metadata"]["annotations"] = {"fairlead.dev/prune": "orphan"}
        await place.deploy([leaving, config_map("kept")])
        before = await place.live("configmap", "leaving")
        result, story = await place.plan([config_map("kept")])
        assert story.actions()[f"ConfigMap {place.namespace}/leaving"] == "skipped"
        assert await place.live("configmap", "leaving") == before
        result, story = await place.deploy([config_map("kept")])
        assert result.counts == {"unchanged": 1, "skipped": 1}
        (told,) = [event for event in story.of("object") if event.object.name == "leaving"]
        assert "fairlead.dev/prune: orphan" in told.detail
        after = await place.live("configmap", "leaving")
        assert (after["metadata"]["uid"], after["data"]) == (before["metadata"]["uid"], {"colour": "blue"})
        assert "fairlead.dev/owner" not in after["metadata"].get("labels", {})
        assert [owned.ref.name for owned in (await place.owned()).objects] == ["kept"]
        result, _ = await place.deploy([leaving, config_map("kept")])
        assert result.code is ErrorCode.OWNED_BY_OTHER


SUSPENDED = {
    "suspend": True,
    "template": {"spec": {"containers": [{"name": "main", "image": "pause"}], "restartPolicy": "Never"}},
}
