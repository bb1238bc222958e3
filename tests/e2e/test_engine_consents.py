"""The deploy engine on a real API server, where it needs consent: to take over, to make again, to delete much."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.policy import Policy
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Consent
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    Checkpoint,
    Story,
    World,
    config_map,
    deployment,
    in_namespace,
    service,
    world,
)


def rules(**content: Any) -> Policy:  # noqa: ANN401
    """Return the operator's rules, by the names they have in the file."""
    return Policy.model_validate(content)


async def apply_by_hand(place: World, manifest: dict[str, Any], *flags: str) -> None:
    """Apply as somebody with kubectl does."""
    text = json.dumps(in_namespace(manifest, place.namespace))
    await place.kubectl("apply", *flags, "-f", "-", stdin=text)


@pytest.mark.parametrize("flags", [(), ("--server-side",)])
async def test_what_kubectl_made_is_taken_over_with_all_its_fields(
    control_plane: Cluster, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Fields that kubectl wrote and the manifest no longer names go away; kubectl owns none of the object any more."""
    async with world(control_plane, tmp_path) as place:
        old = config_map("settings", colour="blue", size="big")
        await apply_by_hand(place, old, *flags)
        before = await place.live("configmap", "settings")
        new = config_map("settings", colour="red")
        result, story = await place.deploy([new])
        assert result.code is ErrorCode.OWNED_BY_OTHER
        assert "adopt: [kubectl]" in story.of("finding")[0].remedy

        place.policy = rules(adopt=["kubectl"])
        result, story = await place.deploy([new])
        assert result.code is ErrorCode.OWNED_BY_OTHER
        assert "--adopt" in story.of("finding")[0].remedy
        assert await place.live("configmap", "settings") == before

        place.consents = (Consent.ADOPT,)
        result, story = await place.deploy([new])
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        assert story.of("object")[0].detail == "taken over from kubectl"
        after = await place.live("configmap", "settings")
        assert after["data"] == {"colour": "red"}
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert {entry["manager"] for entry in after["metadata"]["managedFields"]} == {"fairlead"}
        assert list(after["metadata"]["annotations"]) == ["fairlead.dev/environment"]

        place.consents = ()
        result, _ = await place.deploy([new])
        assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {"unchanged": 1})
        result, _ = await place.deploy([config_map("other")])
        assert result.counts == {"created": 1, "pruned": 1}
        assert await place.live("configmap", "settings") == {}


@pytest.mark.parametrize(
    ("marks", "maker"),
    [
        ({"annotations": {"meta.helm.sh/release-name": "shop"}}, "helm"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:a/b"}}, "argocd"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}, "flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "something"}}, "other"),
    ],
)
async def test_what_another_deployer_keeps_needs_a_rule_of_its_own(
    control_plane: Cluster, tmp_path: Path, marks: dict[str, Any], maker: str
) -> None:
    """Consent and a rule for other makers are not enough: a controller would undo what is written."""
    async with world(control_plane, tmp_path) as place:
        theirs = config_map("settings", colour="blue")
        theirs["metadata"] |= marks
        await apply_by_hand(place, theirs)
        before = await place.live("configmap", "settings")
        every = {"kubectl", "helm", "argocd", "flux", "other"}
        place.policy, place.consents = rules(adopt=sorted(every - {maker})), (Consent.ADOPT,)
        result, story = await place.deploy([config_map("settings", colour="blue")])
        assert result.code is ErrorCode.OWNED_BY_OTHER
        assert f"adopt: [{maker}]" in story.of("finding")[0].remedy
        assert await place.live("configmap", "settings") == before


async def test_another_environments_object_is_never_taken_over(control_plane: Cluster, tmp_path: Path) -> None:
    """Whatever the rules and consents: it must leave the other one first."""
    async with world(control_plane, tmp_path) as place:
        theirs = config_map("settings", colour="blue")
        theirs["metadata"]["labels"] = {"fairlead.dev/owner": "0123456789ab"}
        await apply_by_hand(place, theirs)
        place.policy = rules(adopt=["kubectl", "helm", "argocd", "flux", "other"])
        place.consents = (Consent.ADOPT,)
        result, story = await place.deploy([config_map("settings", colour="red")])
        assert result.code is ErrorCode.OWNED_BY_OTHER
        assert "another environment" in story.of("finding")[0].message


async def test_a_field_of_another_manager_is_taken_by_rule_alone(control_plane: Cluster, tmp_path: Path) -> None:
    """A conflict names manager and field; the rule is for that object, not for others."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([config_map("settings", colour="blue"), config_map("others", colour="blue")])
        for name in ("settings", "others"):
            stolen = config_map(name, colour="green")
            await apply_by_hand(place, stolen, "--server-side", "--force-conflicts", "--field-manager=tuner")
        wanted = [config_map("settings", colour="red"), config_map("others", colour="green")]
        result, story = await place.deploy(wanted)
        assert result.code is ErrorCode.CONFLICT
        (finding,) = story.of("finding")
        assert (finding.field, '"tuner"' in finding.message) == ("data.colour", True)
        place.policy = rules(
            force=[{"group": "", "kind": "ConfigMap", "namespace": place.namespace, "names": ["sett*"]}]
        )
        result, _ = await place.deploy(wanted)
        assert result.outcome is Outcome.SUCCEEDED, result.cause
        assert (await place.live("configmap", "settings"))["data"] == {"colour": "red"}


async def test_an_immutable_field_is_changed_by_making_the_object_again(control_plane: Cluster, tmp_path: Path) -> None:
    """Only with rule and consent; the loss is stated before; a killed attempt's second one reports the same."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([deployment("web"), service("web")])
        before = await place.live("deployment", "web")
        moved = deployment("web")
        moved["spec"]["selector"]["matchLabels"] = moved["spec"]["template"]["metadata"]["labels"] = {"app": "moved"}
        manifests = [moved, service("web")]

        result, story = await place.deploy(manifests)
        (finding,) = story.of("finding")
        assert (result.code, finding.field) == (ErrorCode.IMMUTABLE, "spec.selector")
        assert 'recreate:\n- group: "apps"\n  kind: Deployment\n' in finding.remedy
        place.policy = rules(recreate=[{"group": "apps", "kind": "Deployment"}])
        result, story = await place.deploy(manifests)
        assert "--recreate" in story.of("finding")[0].remedy
        assert await place.live("deployment", "web") == before

        place.consents = (Consent.RECREATE,)
        work, checkpoint, story = place.work(manifests), Checkpoint(), Story()
        result = await place.engine().run(work, story.report, checkpoint)
        assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {"recreated": 1, "unchanged": 1}), result.cause
        (warning,) = story.of("finding")
        assert (warning.severity, "its pods end" in warning.message) == ("warning", True)
        after = await place.live("deployment", "web")
        assert after["spec"]["selector"]["matchLabels"] == {"app": "moved"}
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        owned = {one.ref.name: one.uid for one in (await place.owned()).objects if one.ref.kind == "Deployment"}
        assert owned == {"web": after["metadata"]["uid"]}

        again = await place.engine().run(work, Story().report, checkpoint)
        assert again.counts == {"recreated": 1, "unchanged": 1}
        assert (await place.live("deployment", "web"))["metadata"]["uid"] == after["metadata"]["uid"]


async def test_what_is_invalid_is_not_taken_for_immutable(control_plane: Cluster, tmp_path: Path) -> None:
    """The words of a refusal do not decide: an object that would be refused as a new one is never deleted."""
    async with world(control_plane, tmp_path) as place:
        await place.deploy([deployment("web")])
        before = await place.live("deployment", "web")
        place.policy = rules(recreate=[{"group": "apps", "kind": "Deployment"}])
        place.consents = (Consent.RECREATE,)
        broken = deployment("web")
        broken["spec"]["selector"]["matchLabels"] = {"app": "moved"}  # and its pods' labels are not
        result, _ = await place.deploy([broken])
        assert result.code in {ErrorCode.IMMUTABLE, ErrorCode.INVALID_OBJECT}
        assert result.outcome is Outcome.FAILED
        assert await place.live("deployment", "web") == before


async def test_claims_and_their_sets_are_never_made_again(control_plane: Cluster, tmp_path: Path) -> None:
    """Rule and consent do not reach what holds data."""
    async with world(control_plane, tmp_path) as place:

        def stateful(size: str, policy: str) -> dict[str, Any]:
            made = deployment("store")
            made["kind"] = "StatefulSet"
            made["spec"] |= {"serviceName": "store", "podManagementPolicy": policy}
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
            made["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
            return made

        def claim(mode: str) -> dict[str, Any]:
            spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
            return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}

        place.policy = rules(recreate=[{"group": "apps", "kind": "StatefulSet"}])
        place.consents = (Consent.RECREATE,)
        await place.deploy([stateful("1Mi", "OrderedReady"), claim("ReadWriteOnce")], wait_seconds=0.5)
        before = await place.live("statefulset", "store")
        result, story = await place.deploy([stateful("2Mi", "OrderedReady"), claim("ReadWriteMany")])
        assert result.code is ErrorCode.IMMUTABLE
        remedies = {finding.object.kind: finding.remedy for finding in story.of("finding")}
        assert "without the data" in remedies["StatefulSet"]
        assert "never made again" in remedies["PersistentVolumeClaim"]
        assert (await place.live("statefulset", "store"))["metadata"]["uid"] == before["metadata"]["uid"]
        result, _ = await place.deploy([stateful("1Mi", "Parallel"), claim("ReadWriteOnce")], wait_seconds=0.5)
        assert (await place.live("statefulset", "store"))["metadata"]["uid"] != before["metadata"]["uid"]


async def test_an_environment_does_not_shrink_unasked(control_plane: Cluster, tmp_path: Path) -> None:
    """Beyond the operator's share it needs consent: a folder that was not checked out is no wish to delete."""
    async with world(control_plane, tmp_path) as place:
        place.policy = rules(prune={"unconfirmedObjects": 2, "unconfirmedPercent": 50})
        await place.deploy([config_map(f"c{number}") for number in range(6)])
        result, story = await place.deploy([config_map("c0")])
        assert result.code is ErrorCode.CONSENT
        assert "5 of the 6 objects" in story.of("finding")[0].message
        assert len((await place.owned()).objects) == 6
        result, _ = await place.deploy([config_map(f"c{number}") for number in range(3)])
        assert result.counts == {"unchanged": 3, "pruned": 3}
        place.consents = (Consent.PRUNE,)
        place.policy = rules(prune={"unconfirmedObjects": 0, "unconfirmedPercent": 0})
        result, _ = await place.deploy([config_map("c0")])
        assert result.counts == {"unchanged": 1, "pruned": 2}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("fairlead.dev/prune", "deny"),
        ("helm.sh/resource-policy", "keep"),
        ("argocd.argoproj.io/sync-options", "Validate=false, Prune=false"),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ],
)
async def test_an_annotation_keeps_an_object(
    control_plane: Cluster, tmp_path: Path, annotation: str, value: str
) -> None:
    """It stays, and stays in the inventory: without the annotation the next deployment prunes it."""
    async with world(control_plane, tmp_path) as place:
        kept = config_map("kept")
        kept["metadata"]["annotations"] = {annotation: value}
        await place.deploy([kept, config_map("other")])
        result, story = await place.deploy([config_map("other")])
        assert result.counts == {"unchanged": 1, "skipped": 1}
        details = {event.object.name: event.detail for event in story.of("object")}
        assert annotation in details["kept"]
        await place.kubectl("annotate", "configmap", "kept", "-n", place.namespace, f"{annotation}-")
        result, _ = await place.deploy([config_map("other")])
        assert result.counts == {"unchanged": 1, "pruned": 1}


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (("annotate", "moved=yes"), Outcome.SUCCEEDED),
        (("delete",), Outcome.SUCCEEDED),
        (("label", "fairlead.dev/owner=0123456789ab"), Outcome.FAILED),
    ],
)
@pytest.mark.parametrize("kind", ["configmap", "deployment"])
async def test_what_happens_before_an_object_changes_hands_is_seen(
    control_plane: Cluster, tmp_path: Path, kind: str, command: tuple[str, ...], outcome: Outcome
) -> None:
    """Taken over or deleted to be made again: what moved meanwhile is no hindrance, another's object is left alone."""
    async with world(control_plane, tmp_path, client_type=MeddledClient) as place:
        place.policy = rules(adopt=["kubectl"], recreate=[{"group": "apps", "kind": "Deployment"}])
        place.consents = (Consent.ADOPT, Consent.RECREATE)
        theirs, ours = config_map("web", colour="blue"), config_map("web", colour="red")
        if kind == "deployment":
            theirs, ours = deployment("web"), deployment("web")
            ours["spec"]["selector"]["matchLabels"] = ours["spec"]["template"]["metadata"]["labels"] = {"app": "moved"}
        await apply_by_hand(place, theirs)
        verb, *changes = command

        async def meddle() -> None:
            await place.kubectl(verb, kind, "web", "-n", place.namespace, *changes)

        MeddledClient.waiting = [meddle]
        result, _ = await place.deploy([ours])
        assert MeddledClient.waiting == [], "nothing was written"
        assert result.outcome is outcome, result.cause
        live = await place.live(kind, "web")
        if outcome is Outcome.FAILED:
            assert "another environment" in result.cause
            assert live["metadata"]["labels"]["fairlead.dev/owner"] == "0123456789ab"
            assert "fairlead" not in {entry["manager"] for entry in live["metadata"]["managedFields"]}
        else:
            assert live["metadata"]["labels"]["fairlead.dev/owner"] == place.environment.owner


class MeddledClient(KubeClient):
    """A client to whose object something happens once all of it was proved, right before it is read for the write."""

    waiting: ClassVar[list[Callable[[], Awaitable[None]]]] = []
    proved = False

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Update the inventory or a checkpoint: the proof is over."""
        self.proved = True
        return await super().update(resource, manifest)

    async def create(self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create, as `update`."""
        self.proved = self.proved or not dry_run
        return await super().create(resource, manifest, dry_run=dry_run)

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Meddle once, then read."""
        if self.proved and name == "web" and self.waiting:
            await self.waiting.pop()()
        return await super().find(resource, namespace, name)
