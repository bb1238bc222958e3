"""What the agent takes for unchanged without a dry-run, against what the API server says of the same apply."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from fairlead_agent.apply.as_applied import is_as_applied
from fairlead_agent.apply.live import digest_of
from fairlead_agent.kube.client import Applied, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.policy import Policy
from fairlead_shared.progress import Action
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    APPLICATION_RULES,
    WRITE,
    World,
    application,
    config_map,
    deployment,
    in_namespace,
    service,
    world,
)

Manifest = dict[str, Any]
OTHER_VALUES: tuple[Any, ...] = (None, 0, 1, True, "", "1", {}, [], {"a": "b"}, ["a"])


def rich_deployment() -> Manifest:
    """Return a Deployment with lists of every sort: keyed, keyed by what is defaulted, owned as a whole."""
    manifest = deployment(
        "rich",
        volumes=[{"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
        tolerations=[{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}],
        nodeSelector={"kubernetes.io/os": "linux"},
        topologySpreadConstraints=[
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": "rich"}},
            }
        ],
    )
    main = {
        "name": "main",
        "image": "pause",
        "args": ["--a", "--b"],
        "ports": [
            {"containerPort": 53, "protocol": "UDP"},
            {"containerPort": 53},
            {"containerPort": 80, "name": "http"},
        ],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "a"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"requests": {"cpu": "100m", "memory": "16Mi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/a"}, {"name": "settings", "mountPath": "/b"}],
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    }
    manifest["spec"]["template"]["spec"]["containers"] = [main, {"name": "side", "image": "pause"}]
    manifest["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}
    return manifest


def manifests() -> list[Manifest]:
    """Return what is applied and then changed in every way."""
    held = config_map("held", colour="blue", shape="round")
    held["metadata"] |= {"finalizers": ["example.com/a", "example.com/b"], "annotations": {"note": "x"}}
    ports = [{"name": "b", "port": 81}, {"name": "a", "port": 80, "targetPort": "http"}]
    front = service("front")
    front["spec"]["ports"] = ports
    plain = [manifest for manifest in application() if manifest["kind"] != "Secret"]
    token = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "data": {"x": "eA=="}}
    made = [*plain, rich_deployment(), deployment("filled", securityContext={}), held, front, token]
    for manifest in made:
        manifest["metadata"].setdefault("labels", {})["ours"] = "x"  # as each manifest that the engine sends
    return made


def mutants(manifest: Manifest, live: Manifest) -> Iterator[Manifest]:
    """Yield a manifest with each field taken away, replaced, doubled or moved, and with each live field taken in."""
    for path in paths(manifest):
        if path in (("apiVersion",), ("kind",), ("metadata",), ("metadata", "name"), ("metadata", "namespace")):
            continue
        yield changed(manifest, path, lambda inside, last: inside.pop(last))
        for value in OTHER_VALUES:
            yield changed(manifest, path, lambda inside, last, value=value: put(inside, last, value))
        if isinstance(at(manifest, path), list):
            yield changed(manifest, path, lambda inside, last: inside[last].reverse())
            yield changed(manifest, path, lambda inside, last: inside[last].extend(deepcopy(inside[last][:1])))
        if isinstance(at(manifest, path), dict):
            yield changed(manifest, path, lambda inside, last: inside[last].update({"more": "x"}))
    for path in paths(live):
        owner = at(manifest, path[:-1])
        if isinstance(owner, dict) and path[-1] not in owner and path[0] in {"spec", "data"}:
            yield changed(manifest, path, lambda inside, last, path=path: put(inside, last, deepcopy(at(live, path))))


def paths(value: object, to: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything beneath a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*to, name)
        yield from paths(inner, (*to, name))


def at(value: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """Return what is at a path; None if nothing is."""
    for name in path:
        if (isinstance(value, list) and isinstance(name, int) and name < len(value)) or (
            isinstance(value, dict) and name in value
        ):
            value = value[name]
        else:
            return None
    return value


def put(inside: Any, last: Any, value: object) -> None:  # noqa: ANN401
    """Set one item of a list or mapping."""
    inside[last] = value


def changed(manifest: Manifest, path: tuple[Any, ...], change: Any) -> Manifest:  # noqa: ANN401
    """Return a copy that is changed at a path."""
    made = deepcopy(manifest)
    change(at(made, path[:-1]), path[-1])
    return made


async def resource_of(place: World, manifest: Manifest) -> Resource:
    """Return where a manifest's kind is served."""
    return await place.client.resolve(manifest["apiVersion"], manifest["kind"])


async def applied(place: World, manifest: Manifest) -> Manifest:
    """Apply a manifest, and return the live object."""
    resource = await resource_of(place, manifest)
    await place.client.apply(resource, manifest)
    found = await place.client.find(resource, place.namespace, manifest["metadata"]["name"])
    assert found is not None
    return found


async def test_what_is_taken_for_unchanged_is_unchanged(control_plane: Cluster, tmp_path: Path) -> None:
    """Each change that is passed over, of thousands, is one to which the API server answers with what is there."""
    passed_over = tried = 0
    async with world(control_plane, tmp_path) as place:
        for manifest in (in_namespace(one, place.namespace) for one in manifests()):
            resource = await resource_of(place, manifest)
            await applied(place, manifest)
            await beside(place, manifest)
            live = await applied(place, manifest)
            name = manifest["metadata"]["name"]
            assert is_as_applied(manifest, live) == (name != "filled"), f"{manifest['kind']} {name}"
            for mutant in mutants(manifest, live):
                tried += 1
                if is_as_applied(mutant, live):
                    passed_over += 1
                    answer = await place.client.apply(resource, mutant, dry_run=True, force=True)
                    assert digest_of(answer.manifest) == digest_of(live), mutant
        held = in_namespace(config_map("held"), place.namespace)
        await applied(place, held)
    print(f"{tried} changes, {passed_over} of them taken for none")
    assert tried > 2000
    assert passed_over > 0, "a value replaced by itself is no change"


async def beside(place: World, manifest: Manifest) -> None:
    """Have another manager own fields of an object, within our lists and maps, and some of them ours as well."""
    kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
    theirs: Manifest = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"]}
    theirs["metadata"] = {"name": name, "namespace": place.namespace, "labels": {"theirs": "x"}}
    if kind == "configmap":
        theirs["data"] = {"theirs": "x", "colour": "blue"}
    if name == "rich":
        container = {
            "name": "main",
            "image": "pause",
            "env": [{"name": "A", "value": "1"}, {"name": "C", "value": "3"}],
        }
        theirs["spec"] = {
            "template": {"metadata": {"annotations": {"theirs": "x"}}, "spec": {"containers": [container]}}
        }
    if name == "filled":
        theirs["spec"] = {"template": {"spec": {"securityContext": {"runAsNonRoot": True}}}}
    if name == "held":
        theirs["metadata"]["finalizers"] = ["example.com/b", "example.com/c"]
    await asyncio.to_thread(
        place.cluster.kubectl, "apply", "--server-side", "--field-manager=theirs", "-f", "-", input=json.dumps(theirs)
    )


class TellingClient(KubeClient):
    """A client that tells what it applied."""

    applied: ClassVar[list[tuple[str, bool]]] = []
    """(name, whether as a dry-run)."""

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False, force: bool = False
    ) -> Applied:
        """Note it, and apply."""
        self.applied.append((manifest["metadata"]["name"], dry_run))
        return await super().apply(resource, manifest, dry_run=dry_run, force=force)


async def test_object_in_place_costs_no_dry_run(control_plane: Cluster, tmp_path: Path) -> None:
    """One list tells of all of them; of a change there is one dry-run and one write."""
    many = [config_map(f"m{number}", colour="blue") for number in range(10)]
    async with world(control_plane, tmp_path, client_type=TellingClient) as place:
        await place.deploy(many)
        TellingClient.applied.clear()
        result, _ = await place.deploy(many)
        assert (result.counts, TellingClient.applied) == ({Action.UNCHANGED: 10}, [])
        many[3]["data"]["colour"] = "red"
        result, _ = await place.deploy(many)
        assert result.counts == {Action.UNCHANGED: 9, Action.CHANGED: 1}
        assert TellingClient.applied == [("m3", True), ("m3", False)]


async def test_field_that_the_policy_leaves_to_others_is_asked_for(control_plane: Cluster, tmp_path: Path) -> None:
    """What is sent then hangs on what is there."""
    many = [config_map(f"m{number}", colour="blue", shape="round") for number in range(5)]
    async with world(control_plane, tmp_path, client_type=TellingClient) as place:
        rule = {"group": "", "kind": "ConfigMap", "namespace": place.namespace, "names": ["m*"]}
        place.policy = Policy.model_validate({"drift": {"ignore": [{**rule, "pointers": ["/data/colour"]}]}})
        await place.deploy(many)
        TellingClient.applied.clear()
        result, _ = await place.deploy(many)
        assert result.counts == {Action.UNCHANGED: 5}
        assert sorted(TellingClient.applied) == [(f"m{number}", True) for number in range(5)]


async def test_deprecated_version_of_what_is_in_place_is_told(control_plane: Cluster, tmp_path: Path) -> None:
    """Each time, since the next Kubernetes may be the one without it."""
    many = [{"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": f"m{number}"}} for number in range(5)]
    rules = [*APPLICATION_RULES, {"apiGroups": [""], "resources": ["endpoints"], "verbs": WRITE}]
    async with world(control_plane, tmp_path, rules=rules, client_type=TellingClient) as place:
        await place.deploy(many)
        TellingClient.applied.clear()
        result, story = await place.deploy(many)
        assert (result.counts, TellingClient.applied) == ({Action.UNCHANGED: 5}, [])
        assert "v1 Endpoints is deprecated" in " ".join(one.message for one in story.of("finding"))
