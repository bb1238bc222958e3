"""The deploy engine on a real API server: create, change, leave alone, prune, order, and what it never touches."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.errors import AlreadyExists, LeadershipLost
from fairlead_agent.kube.client import Applied, KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS, Resource
from fairlead_agent.kube.state import StateObjects
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployResult, EnvironmentKey, ReplayMark, StateKind
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Action, ObjectEvent, Outcome
from fairlead_shared.statement import Consent
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
    in_namespace,
    secret,
    service,
    world,
)
from tests.polling import eventually

CRDS_ALLOWED = {"group": "apiextensions.k8s.io", "kind": "CustomResourceDefinition", "names": ["boats*"]}
MAKER_RULES: list[dict[str, Any]] = [
    *APPLICATION_RULES,
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": WRITE},
    {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": WRITE},
    {"apiGroups": ["boats.example.com"], "resources": ["*"], "verbs": WRITE},
]
"""What it takes to make namespaces and kinds, and to write into them."""


def assert_succeeded(result: DeployResult, **counts: int) -> None:
    """Hold that a deployment succeeded with exactly these actions."""
    assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
    assert {action.value: count for action, count in result.counts.items()} == counts


async def versions(place: World) -> dict[str, str]:
    """Map each object of the application's namespace to its resourceVersion."""
    kinds = "configmaps,secrets,services,serviceaccounts,deployments"
    template = '{range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\\n"}{end}'
    text = await place.kubectl("get", kinds, "-n", place.namespace, "-o", f"jsonpath={template}")
    return dict(line.split() for line in text.splitlines())


async def test_first_deployment_creates_every_object_as_its_owner(control_plane: Cluster, tmp_path: Path) -> None:
    """Each object is there with the owner's label, and the inventory knows its UID."""
    async with world(control_plane, tmp_path) as place:
        result, story = await place.deploy(application())
        assert_succeeded(result, created=5)
        assert set(story.actions().values()) == {"created"}
        live = await place.live("configmap", "settings")
        assert live["data"] == {"colour": "blue"}
        assert live["metadata"]["labels"]["fairlead.dev/owner"] == place.environment.owner
        assert live["metadata"]["annotations"]["fairlead.dev/environment"] == str(place.environment)
        inventory = await place.owned()
        assert {owned.ref.name: owned.uid for owned in inventory.objects}["settings"] == live["metadata"]["uid"]
        assert all(owned.uid for owned in inventory.objects)
        assert [mark.finished for mark in inventory.marks] == [True]


async def test_sealed_secret_arrives_opened_and_stays_out_of_events(control_plane: Cluster, tmp_path: Path) -> None:
    """The plaintext is in the Secret and nowhere else."""
    async with world(control_plane, tmp_path) as place:
        _, story = await place.deploy([secret("database", password="hunter2")])
        assert (await place.live("secret", "database"))["data"] == {"password": "aHVudGVyMg=="}
        told = " ".join(event.model_dump_json() for event in story.events.values())
        kept = await place.kubectl("get", "configmaps", "-n", place.agent_namespace, "-o", "json")
        assert not any(word in told + kept for word in ("hunter2", "aHVudGVyMg"))


async def test_second_deployment_of_the_same_writes_nothing(control_plane: Cluster, tmp_path: Path) -> None:
    """No object changes its version, and the audit log shows no write."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy(application())
        before = await versions(place)
        await eventually(lambda: _says(place, 5), "the audit log to show the first deployment")
        result, story = await place.deploy(application())
        assert_succeeded(result, unchanged=5)
        assert set(story.actions().values()) == {"unchanged"}
        assert await versions(place) == before
        await place.deploy([*application(), config_map("marker")])
        await eventually(lambda: _says(place, 6), "the audit log to show the marker's write")
        assert len(place.writes()) == 6


async def test_change_writes_the_changed_object_only(control_plane: Cluster, tmp_path: Path) -> None:
    """Defaults of the server do not count as changes; a changed value does."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy(application())
        before = await versions(place)
        changed = [item for item in application() if item["kind"] != "ConfigMap"]
        result, story = await place.deploy([*changed, config_map("settings", colour="red")])
        assert_succeeded(result, changed=1, unchanged=4)
        assert story.actions()[f"ConfigMap {place.namespace}/settings"] == "changed"
        after = await versions(place)
        assert [name for name in after if after[name] != before[name]] == ["ConfigMap/settings"]


async def test_removed_field_is_removed_from_the_live_object(control_plane: Cluster, tmp_path: Path) -> None:
    """What the manifest no longer says is given up, though the rest stays."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("settings", colour="blue", size="large")])
        result, _ = await place.deploy([config_map("settings", colour="blue")])
        assert_succeeded(result, changed=1)
        assert (await place.live("configmap", "settings"))["data"] == {"colour": "blue"}


async def test_prune_deletes_what_left_the_bundle_and_nothing_else(control_plane: Cluster, tmp_path: Path) -> None:
    """Only what the inventory says we made goes; a stranger's object beside it stays."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy(application())
        stranger = config_map("stranger", theirs="yes")
        stranger["metadata"] |= {
            "namespace": place.namespace,
            "labels": {"fairlead.dev/owner": place.environment.owner},
        }
        await place.create(stranger)
        result, story = await place.deploy([config_map("settings", colour="blue")])
        assert_succeeded(result, unchanged=1, pruned=4)
        assert story.actions()[f"Deployment {place.namespace}/web"] == "pruned"
        assert not await place.live("deployment", "web")
        assert (await place.live("configmap", "stranger"))["data"] == {"theirs": "yes"}
        assert [owned.ref.name for owned in (await place.owned()).objects] == ["settings"]


async def test_an_environment_is_destroyed_by_a_bundle_of_nothing(control_plane: Cluster, tmp_path: Path) -> None:
    """All that its inventory holds goes, nothing else does, and a second time finds nothing to do."""
    async with world(control_plane, tmp_path) as place:
        result, _ = await place.deploy([config_map("settings", colour="blue"), config_map("more"), secret("database")])
        assert_succeeded(result, created=3)
        stranger = in_namespace(config_map("stranger"), place.namespace)
        await place.create(stranger)
        result, story = await place.deploy([])
        assert_succeeded(result, pruned=3)
        assert set(story.actions().values()) == {"pruned"}
        assert (await place.owned()).objects == ()
        for kind, name in (("configmap", "settings"), ("configmap", "more"), ("secret", "database")):
            assert await place.live(kind, name) == {}
        assert await place.live("configmap", "stranger")
        result, _ = await place.deploy([])
        assert_succeeded(result)


async def test_prune_spares_an_object_somebody_made_anew(control_plane: Cluster, tmp_path: Path) -> None:
    """The same name, even with our label, is another object if its UID is."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("settings"), config_map("kept")])
        live = await place.live("configmap", "settings")
        await place.kubectl("delete", "configmap", "settings", "-n", place.namespace)
        metadata = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
        await place.create({**config_map("settings", theirs="yes"), "metadata": metadata})
        result, story = await place.deploy([config_map("kept")])
        assert_succeeded(result, unchanged=1, skipped=1)
        assert story.actions()[f"ConfigMap {place.namespace}/settings"] == "skipped"
        assert (await place.live("configmap", "settings"))["data"] == {"theirs": "yes"}


async def test_object_comes_after_what_it_names(control_plane: Cluster, tmp_path: Path) -> None:
    """A Deployment is written after its ServiceAccount and ConfigMap, whatever the order in the bundle."""
    async with world(control_plane, tmp_path) as place:
        _, story = await place.deploy(application())
        order = [event.object.kind + "/" + event.object.name for event in story.of("object")]
        assert order.index("Deployment/web") > order.index("ConfigMap/settings")
        assert order.index("Deployment/web") > order.index("ServiceAccount/web")


async def test_object_without_namespace_goes_to_the_only_one_bound(control_plane: Cluster, tmp_path: Path) -> None:
    """With one namespace in the statement there is no doubt where it belongs."""
    async with world(control_plane, tmp_path) as place:
        nowhere = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lost", "namespace": None}}
        result, _ = await place.deploy([nowhere])
        assert_succeeded(result, created=1)
        assert await place.live("configmap", "lost")


async def test_bundle_makes_its_own_namespace_and_kind(control_plane: Cluster, tmp_path: Path) -> None:
    """Namespace, CRD and their members arrive in one deployment, and leave in one."""
    async with world(control_plane, tmp_path, cluster_rules=MAKER_RULES) as place:
        inner, plural = f"{place.namespace}-inner", f"boats{place.namespace[5:]}"
        namespaces = {"group": "", "kind": "Namespace", "names": [inner]}
        place.policy = Policy.model_validate({"clusterScoped": [namespaces, CRDS_ALLOWED]})
        manifests = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner, "namespace": None}},
            crd(plural),
            {
                "apiVersion": "boats.example.com/v1",
                "kind": plural.title(),
                "metadata": {"name": "tug", "namespace": inner},
                "spec": {"length": 12},
            },
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inside", "namespace": inner}},
        ]
        bound = (place.namespace, inner)
        result, story = await place.deploy(manifests, namespaces=bound)
        assert_succeeded(result, created=4)
        finished = story.events["step/preflight/finished"]
        assert "2 not fully proved" in finished.detail  # type: ignore[union-attr]
        assert (await place.live(f"{plural}.boats.example.com", "tug", inner))["spec"] == {"length": 12}
        result, _ = await place.deploy(manifests, namespaces=bound)
        assert_succeeded(result, unchanged=4)
        result, _ = await place.deploy([config_map("last")], namespaces=bound)
        assert_succeeded(result, created=1, pruned=4)
        await place.kubectl("wait", "--for=delete", f"namespace/{inner}", "--timeout=120s")


async def test_invalid_member_of_a_new_kind_fails_before_any_other_write(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """What could not be proved at first is proved once its kind is there; what is left behind is said, then pruned."""
    async with world(control_plane, tmp_path, cluster_rules=MAKER_RULES) as place:
        plural = f"boats{place.namespace[5:]}"
        place.policy = Policy.model_validate({"clusterScoped": [CRDS_ALLOWED]})
        boat = {"apiVersion": "boats.example.com/v1", "kind": plural.title(), "metadata": {"name": "tug"}}
        result, story = await place.deploy([crd(plural), {**boat, "spec": {"length": "long"}}, config_map("settings")])
        assert result.outcome is Outcome.FAILED
        assert "spec.length" in [event.field for event in story.of("finding")]
        assert f"already there are CustomResourceDefinition.apiextensions.k8s.io {plural}" in result.cause
        assert not await place.live("configmap", "settings")
        result, story = await place.deploy([config_map("last")])
        assert_succeeded(result, created=1, pruned=1, skipped=2)
        skipped = story.events[f"object/ConfigMap {place.namespace}/settings/skipped"]
        assert isinstance(skipped, ObjectEvent)
        assert skipped.detail == "it was never made"


async def test_cancelled_deployment_leaves_a_true_inventory(control_plane: Cluster, tmp_path: Path) -> None:
    """Cancelled while it waits for health, everything it wrote is listed with its UID."""
    async with world(control_plane, tmp_path) as place:
        story = Story()
        work = place.work([deployment("web", replicas=1), config_map("settings")], wait_seconds=60.0)
        task = asyncio.create_task(place.engine().run(work, story.report, Checkpoint()))
        await eventually(lambda: _has(story, "step/wait/started"), "the wait to begin")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [bool(owned.uid) for owned in (await place.owned()).objects] == [True, True]
        result, _ = await place.deploy([config_map("settings")])
        assert_succeeded(result, unchanged=1, pruned=1)


class ShutInventory(InventoryStore):
    """An inventory that can be shut, as at the end of a replica's leadership."""

    is_shut = False

    async def change(self, *args: Any, **options: Any) -> Inventory:  # noqa: ANN401
        """Change it, unless it is shut."""
        if self.is_shut:
            raise LeadershipLost
        return await super().change(*args, **options)


async def test_cancelled_deployment_is_cancelled_also_where_it_may_not_write(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """Told as failed, it would be over for good, and not go on with the replica that leads next."""
    async with world(control_plane, tmp_path) as place:
        story, inventory = Story(), ShutInventory(StateObjects(place.client, place.agent_namespace))
        work = place.work([deployment("web", replicas=1)], wait_seconds=60.0)
        task = asyncio.create_task(place.engine(inventory=inventory).run(work, story.report, Checkpoint()))
        await eventually(lambda: _has(story, "step/wait/started"), "the wait to begin")
        inventory.is_shut = True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class OvertakenInventory(InventoryStore):
    """An inventory in which another replica begins a deployment right after it was read for one."""

    async def salvage(self, environment: EnvironmentKey) -> tuple[Inventory, bool]:
        """Read it, before the other."""
        found = await super().salvage(environment)
        other = ReplayMark("another", finished=False, not_before=int(time.time()))
        await InventoryStore(self._state).change(environment, lambda inventory: inventory.begun(other))
        return found


async def test_deployment_that_another_overtook_writes_nothing(control_plane: Cluster, tmp_path: Path) -> None:
    """It was proved against what was there, and held against the deployments that had been begun, before the other."""
    async with world(control_plane, tmp_path) as place:
        store = OvertakenInventory(StateObjects(place.client, place.agent_namespace))
        work = place.work([config_map("settings")])
        result = await place.engine(inventory=store).run(work, Story().report, Checkpoint())
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.CONFLICT)
        assert "another was begun meanwhile" in result.cause
        assert await place.client.find(CONFIG_MAPS, place.namespace, "settings") is None
        assert [mark.deployment_id for mark in (await place.owned()).marks] == ["another"]


class DeafState(StateObjects):
    """An API server whose answer to the first write of an inventory is lost, and which refuses that write again."""

    is_deaf = True

    async def create(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Make it, as the first of two tries."""
        made = await super().create(kind, manifest)
        if self.is_deaf and "environment" in manifest["data"]:
            self.is_deaf = False
            raise AlreadyExists(manifest["metadata"]["name"])
        return made


async def test_deployment_is_not_overtaken_by_itself(control_plane: Cluster, tmp_path: Path) -> None:
    """Where the answer to the write that lists it was lost, it finds its own mark."""
    async with world(control_plane, tmp_path) as place:
        state = DeafState(place.client, place.agent_namespace)
        work = place.work([config_map("settings")])
        result = await place.engine(inventory=InventoryStore(state)).run(work, Story().report, Checkpoint())
        assert not state.is_deaf
        assert_succeeded(result, created=1)


async def test_list_of_many_objects_is_kept_in_parts(control_plane: Cluster, tmp_path: Path) -> None:
    """What one ConfigMap of inventory cannot hold goes into several; shrinking removes the parts again."""
    async with world(control_plane, tmp_path) as place:
        result, _ = await place.deploy([config_map(f"{'long-' * 45}{number}") for number in range(1200)])
        assert_succeeded(result, created=1200)
        assert len((await place.owned()).objects) == 1200
        names = ("get", "configmaps", "-n", place.agent_namespace, "-l", "fairlead.dev/inventory-of", "-o", "name")
        assert len((await place.kubectl(*names)).splitlines()) > 2
        place.consents = (Consent.PRUNE,)
        result, _ = await place.deploy([config_map(f"{'long-' * 45}1"), service("web")])
        assert result.counts[Action.PRUNED] == 1199
        assert len((await place.kubectl(*names)).splitlines()) == 1


async def test_a_kind_may_give_up_an_old_version(control_plane: Cluster, tmp_path: Path) -> None:
    """What was written in it is changed in the new one, though its managed fields name a version that is gone."""
    async with world(control_plane, tmp_path, cluster_rules=MAKER_RULES) as place:
        plural = f"boats{place.namespace[5:]}"
        place.policy = Policy.model_validate({"clusterScoped": [CRDS_ALLOWED]})

        def boat(name: str, version: str, length: int) -> dict[str, Any]:
            header = {"apiVersion": f"boats.example.com/{version}", "kind": plural.title(), "metadata": {"name": name}}
            return {**header, "spec": {"length": length}}

        both = crd(plural, "v1", "v1beta1")
        result, _ = await place.deploy([both, boat("tug", "v1beta1", 12), boat("tow", "v1beta1", 9)])
        assert_succeeded(result, created=3)
        # A plan cannot prove what depends on the new CRD, and says what it would be by the present one.
        result, story = await place.plan([crd(plural, "v1"), boat("tug", "v1", 13), boat("tow", "v1", 9)])
        assert {action.value: count for action, count in result.counts.items()} == {"changed": 2, "unchanged": 1}
        (tug,) = [event for event in story.of("planned") if event.object.name == "tug"]
        assert tug.detail == "not fully proved before its namespace or kind is there"
        assert [(field.pointer, field.before, field.after) for field in tug.fields] == [("/spec/length", "12", "13")]
        # The version goes in the very deployment that moves on from it: nothing is wrong until the CRD is written.
        result, _ = await place.deploy([crd(plural, "v1"), boat("tug", "v1", 13)])
        assert_succeeded(result, changed=2, pruned=1)
        live = await place.live(f"{plural}.boats.example.com", "tug")
        assert live["spec"] == {"length": 13}
        assert {entry["apiVersion"] for entry in live["metadata"]["managedFields"]} == {"boats.example.com/v1"}


async def test_a_version_that_is_gone_already_is_said_and_mended(control_plane: Cluster, tmp_path: Path) -> None:
    """Somebody else took the version away: the object cannot be dry-run before it is mended, which is a write."""
    async with world(control_plane, tmp_path, cluster_rules=MAKER_RULES) as place:
        plural = f"boats{place.namespace[5:]}"
        old = {"apiVersion": "boats.example.com/v1beta1", "kind": plural.title(), "metadata": {"name": "tug"}}
        new = {**old, "apiVersion": "boats.example.com/v1", "spec": {"length": 13}}
        kind = crd(plural, "v1", "v1beta1")
        del kind["metadata"]["namespace"]
        await place.create(kind)
        await place.kubectl("wait", "--for=condition=Established", f"crd/{plural}.boats.example.com", "--timeout=120s")
        result, _ = await place.deploy([{**old, "spec": {"length": 12}}])
        assert_succeeded(result, created=1)
        only = json.dumps({"spec": {"versions": crd(plural, "v1")["spec"]["versions"]}})
        await place.kubectl("patch", "crd", f"{plural}.boats.example.com", "--type=merge", f"--patch={only}")
        before = await place.live(f"{plural}.boats.example.com", "tug")
        said = "not fully proved: the live object's managed fields name boats.example.com/v1beta1,"

        async def is_said() -> bool:
            result, story = await place.plan([new])
            assert result.outcome is Outcome.SUCCEEDED
            return any(event.message.startswith(said) for event in story.of("finding"))

        await eventually(is_said, "the API server to serve the old version no more")
        assert await place.live(f"{plural}.boats.example.com", "tug") == before
        result, _ = await place.deploy([new])
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        assert (await place.live(f"{plural}.boats.example.com", "tug"))["spec"] == {"length": 13}


def crd(plural: str, *versions: str) -> dict[str, Any]:
    """Return a CustomResourceDefinition with one required type, in one version or those given, the first one stored."""
    length = {"type": "object", "properties": {"length": {"type": "integer"}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.boats.example.com", "namespace": None},
        "spec": {
            "group": "boats.example.com",
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": plural,
                "kind": plural.title(),
                "listKind": f"{plural.title()}List",
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": place == 0,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": length}}},
                }
                for place, version in enumerate(versions or ("v1",))
            ],
        },
    }


async def _says(place: World, writes: int) -> bool:
    return len(await asyncio.to_thread(place.writes)) >= writes


async def _has(story: Story, key: str) -> bool:
    return key in story.events


class MeddledClient(KubeClient):
    """A client to whose objects something happens right before each write."""

    meddle: Callable[[str], Awaitable[None]] | None = None

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False, force: bool = False
    ) -> Applied:
        """Meddle once, then apply."""
        if not dry_run and MeddledClient.meddle is not None:
            meddle, MeddledClient.meddle = MeddledClient.meddle, None
            await meddle(manifest["metadata"]["name"])
        return await super().apply(resource, manifest, dry_run=dry_run, force=force)


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (("annotate", "moved=yes"), Outcome.SUCCEEDED),
        (("delete",), Outcome.SUCCEEDED),
        (("label", "--overwrite", "fairlead.dev/owner=somebody"), Outcome.FAILED),
    ],
)
async def test_what_happens_between_proof_and_write_is_seen(
    control_plane: Cluster, tmp_path: Path, command: tuple[str, ...], outcome: Outcome
) -> None:
    """A write is bound to the version that was compared: others' fields are kept, somebody else's object is left."""
    async with world(control_plane, tmp_path, client_type=MeddledClient) as place:
        await place.deploy([config_map("a", colour="blue")])

        async def meddle(name: str) -> None:
            verb, *rest = command
            await place.kubectl(verb, "configmap", name, "-n", place.namespace, *rest)

        MeddledClient.meddle = meddle
        result, _ = await place.deploy([config_map("a", colour="red")])
        assert result.outcome is outcome, result.cause
        live = await place.live("configmap", "a")
        assert live["data"] == {"colour": "red" if outcome is Outcome.SUCCEEDED else "blue"}
        if command[0] == "annotate":
            assert live["metadata"]["annotations"]["moved"] == "yes"
