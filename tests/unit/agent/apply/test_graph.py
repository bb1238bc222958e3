"""The order of writes and of deletes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_agent.apply.graph import Graph, deletion_waves
from fairlead_agent.apply.references import DEPENDS_ON
from fairlead_shared.objects import ObjectRef

RBAC = "rbac.authorization.k8s.io/v1"


def manifest(kind: str, name: str, namespace: str = "shop", api_version: str = "v1", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a manifest; `fields` are its top level."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def needs(*manifests: dict[str, Any]) -> dict[str, set[str]]:
    """Map each object to the names of what must be there before it."""
    graph = Graph(manifests)
    names = [f"{one['kind']}/{one['metadata']['name']}" for one in manifests]
    return {names[place]: {names[other] for other in needed} for place, needed in enumerate(graph.needs)}


def workload(**spec: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a Deployment with this pod spec."""
    return manifest("Deployment", "web", api_version="apps/v1", spec={"template": {"spec": spec}})


def test_object_waits_for_its_namespace() -> None:
    """Only members wait, and only for their own."""
    found = needs(manifest("Namespace", "shop", ""), manifest("ConfigMap", "a"), manifest("ConfigMap", "b", "other"))
    assert found == {"Namespace/shop": set(), "ConfigMap/a": {"Namespace/shop"}, "ConfigMap/b": set()}


def test_custom_resource_waits_for_its_definition() -> None:
    """In whatever version it is written."""
    spec: dict[str, object] = {"group": "example.com", "scope": "Namespaced"}
    spec |= {"names": {"kind": "Boat", "plural": "boats"}, "versions": [{"name": "v1", "served": True}]}
    crd = manifest("CustomResourceDefinition", "boats.example.com", "", "apiextensions.k8s.io/v1", spec=spec)
    found = needs(crd, manifest("Boat", "tug", api_version="example.com/v1"))
    assert found["Boat/tug"] == {"CustomResourceDefinition/boats.example.com"}


def test_workload_waits_for_everything_its_pods_name() -> None:
    """Volumes, environment, pull secrets, account, claims: a pod without them would not start."""
    web = workload(
        serviceAccountName="web",
        imagePullSecrets=[{"name": "pull"}],
        volumes=[
            {"configMap": {"name": "files"}},
            {"persistentVolumeClaim": {"claimName": "disk"}},
            {"projected": {"sources": [{"secret": {"name": "keys"}}]}},
        ],
        initContainers=[{"envFrom": [{"secretRef": {"name": "env"}}]}],
        containers=[{"env": [{"valueFrom": {"configMapKeyRef": {"name": "setting"}}}]}],
    )
    named = [
        manifest("ServiceAccount", "web"),
        manifest("Secret", "pull"),
        manifest("ConfigMap", "files"),
        manifest("PersistentVolumeClaim", "disk"),
        manifest("Secret", "keys"),
        manifest("Secret", "env"),
        manifest("ConfigMap", "setting"),
    ]
    assert len(needs(web, *named)["Deployment/web"]) == len(named)


def test_workload_waits_for_the_rights_of_its_account() -> None:
    """A pod that starts before its role binding fails its first request."""
    binding = manifest(
        "RoleBinding",
        "reads",
        api_version=RBAC,
        roleRef={"kind": "Role", "name": "reader"},
        subjects=[{"kind": "ServiceAccount", "name": "web"}],
    )
    found = needs(workload(serviceAccountName="web"), binding, manifest("Role", "reader", api_version=RBAC))
    assert found["RoleBinding/reads"] == {"Role/reader"}
    found = needs(workload(serviceAccountName="web"), binding, manifest("ServiceAccount", "web"))
    assert found["Deployment/web"] == {"RoleBinding/reads", "ServiceAccount/web"}


def test_webhooks_come_last() -> None:
    """A webhook without its backend would refuse the rest of its own bundle."""
    hook = manifest("ValidatingWebhookConfiguration", "hook", "", "admissionregistration.k8s.io/v1")
    found = needs(hook, manifest("ConfigMap", "a"), workload())
    assert found["ValidatingWebhookConfiguration/hook"] == {"ConfigMap/a", "Deployment/web"}


def depending(kind: str, name: str, on: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a manifest that says itself what it waits for."""
    made = manifest(kind, name, **more)
    made["metadata"]["annotations"] = {DEPENDS_ON: on}
    return made


def test_what_an_annotation_names_has_to_be_ready() -> None:
    """All of it; what an object merely names has to be there, and no more."""
    on = "/namespaces/shop/ConfigMap/a, apps/namespaces/shop/Deployment/web,/Namespace/shop"
    web = workload(volumes=[{"configMap": {"name": "a"}}])
    graph = Graph(
        [depending("ConfigMap", "late", on), manifest("ConfigMap", "a"), web, manifest("Namespace", "shop", "")]
    )
    assert graph.mistakes == []
    assert graph.awaits == [{1, 2, 3}, set(), set(), set()]
    assert graph.needs == [{1, 2, 3}, {3}, {1, 3}, set()]
    assert graph.needed_for([2]) == {1, 2, 3}


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("web", "'web' names no object; write GROUP/namespaces/NAMESPACE/KIND/NAME"),
        ("apps/namespaces/shop/Deployment/", "names no object"),
        ("apps/shop/Deployment/web", "names no object"),
        ("/namespaces/shop/ConfigMap/a,", "'' names no object"),
        ("/namespaces/shop/Deployment/web", "waits for Deployment shop/web of the core group, which is not among"),
        ("apps/Deployment/web", "waits for Deployment web of group apps, which is not among the objects"),
    ],
)
def test_an_annotation_that_names_nothing_is_a_mistake(on: str, said: str) -> None:
    """Of the object that has it; it would else wait for nothing, unnoticed."""
    graph = Graph([workload(), depending("ConfigMap", "late", on), manifest("ConfigMap", "a")])
    ((place, what),) = graph.mistakes
    assert place == 1
    assert said in what


def test_what_waits_for_a_webhook_comes_after_it() -> None:
    """And what waits for that, too; the webhook waits for all else."""
    hook = manifest("MutatingWebhookConfiguration", "hook", "", "admissionregistration.k8s.io/v1")
    on = "admissionregistration.k8s.io/MutatingWebhookConfiguration/hook"
    late, later = depending("ConfigMap", "late", on), depending("ConfigMap", "later", "/namespaces/shop/ConfigMap/late")
    graph = Graph([later, late, hook, manifest("ConfigMap", "a"), hook | {"kind": "ValidatingWebhookConfiguration"}])
    assert graph.needs == [{1}, {2}, {3}, set(), {0, 1, 3}]
    assert graph.cycle() == []


def test_objects_that_await_each_other_are_a_circle() -> None:
    """Also of one object with itself."""
    one, other = "/namespaces/shop/ConfigMap/one", "/namespaces/shop/ConfigMap/other"
    graph = Graph([depending("ConfigMap", "one", other), depending("ConfigMap", "other", one)])
    assert [ref.name for ref in graph.cycle()] == ["one", "other"]
    assert [ref.name for ref in Graph([depending("ConfigMap", "one", one)]).cycle()] == ["one"]


@given(st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=1, max_size=10))
def test_everything_comes_after_what_it_awaits_or_is_in_a_circle(edges: list[set[int]]) -> None:
    """Whatever waits for whatever: there is an order, or a path of objects that each wait for the next."""
    count = len(edges)
    named = [frozenset(other for other in others if other < count) for others in edges]
    manifests = [
        depending(
            "ConfigMap", f"c{place}", ",".join(f"/namespaces/shop/ConfigMap/c{other}" for other in sorted(others))
        )
        for place, others in enumerate(named)
    ]
    graph = Graph(manifests)
    assert (graph.mistakes, graph.awaits) == ([], named)
    circle = [int(ref.name[1:]) for ref in graph.cycle()]
    if circle:
        assert all(other in named[place] for place, other in zip(circle, [*circle[1:], circle[0]], strict=True))
        return
    placed: list[int] = []
    while len(placed) < count:
        free = [place for place in range(count) if place not in placed and named[place] <= set(placed)]
        assert free, "no circle was found, and yet nothing can go on"
        placed += free
    assert all(place not in graph.needed_for(named[place]) for place in range(count))


def test_malformed_manifest_needs_nothing() -> None:
    """What is wrong with it is the API server's to say."""
    odd = [workload(volumes="x", containers=[1, {"env": {}}, {"envFrom": [None]}]), manifest("Pod", "p", spec=[1])]
    assert set(map(frozenset, needs(*odd).values())) == {frozenset()}


def test_bundle_without_cycle_has_none() -> None:
    """Every object becomes ready."""
    assert Graph([manifest("Namespace", "shop", ""), manifest("ConfigMap", "a")]).cycle() == []


def test_cycle_is_shown_from_its_first_object_to_its_last() -> None:
    """Objects beside the cycle are left out of its path."""
    graph = Graph([manifest("ConfigMap", name) for name in "abcd"])
    for place, other in ((0, 1), (1, 2), (2, 1), (3, 0)):
        graph.needs[place] |= {other}
        graph.needed_by[other].append(place)
    assert [ref.name for ref in graph.cycle()] == ["b", "c"]


def test_deletes_run_against_the_order_of_creation() -> None:
    """Webhooks first, then workloads, then what they name, definitions and namespaces at the end."""
    kinds = [
        ("v1", "Namespace"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        (RBAC, "Role"),
        (RBAC, "RoleBinding"),
    ]
    refs = [ObjectRef(api_version=api_version, kind=kind, name="x") for api_version, kind in kinds]
    assert [[ref.kind for ref in wave] for wave in deletion_waves(refs, {})] == [
        ["MutatingWebhookConfiguration"],
        ["Deployment"],
        ["ConfigMap", "RoleBinding"],
        ["Role"],
        ["CustomResourceDefinition"],
        ["Namespace"],
    ]


def test_what_is_awaited_is_deleted_after_what_awaits_it() -> None:
    """Whatever their kinds would say; the rest keeps its order, and a circle ends somewhere."""
    kinds = ("Deployment", "ConfigMap", "Service", "Namespace")
    operator, config, service, namespace = (ObjectRef(api_version="v1", kind=kind, name="x") for kind in kinds)
    gone = ObjectRef(api_version="v1", kind="Pod", name="gone")
    awaits = {
        config.identity: [operator.identity, gone.identity],
        service.identity: [config.identity],
        operator.identity: [operator.identity],
    }
    refs = [operator, config, service, namespace]
    assert [[ref.kind for ref in wave] for wave in deletion_waves(refs, awaits)] == [
        ["Service"],
        ["ConfigMap"],
        ["Deployment"],
        ["Namespace"],
    ]
    circle = {operator.identity: [service.identity], service.identity: [operator.identity]}
    assert sorted(ref.kind for wave in deletion_waves(refs, circle) for ref in wave) == sorted(kinds)


BEFORE, AFTER = frozenset({(0, 0)}), frozenset({(2, 0)})
"""Stages of hooks."""


def test_hooks_wait_only_for_their_own_stage_and_what_they_are_in() -> None:
    """What runs earlier is there, and what comes later cannot be waited for."""
    names = [{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}, {"configMapRef": {"name": "c"}}]
    manifests = [
        workload(containers=[{"envFrom": names}]),
        manifest("ConfigMap", "a"),
        manifest("ConfigMap", "b"),
        manifest("ConfigMap", "c"),
        manifest("Namespace", "shop", ""),
    ]
    graph = Graph(manifests, {0: BEFORE, 1: BEFORE, 2: frozenset({(0, -5)})})
    assert graph.needs[0] == {1, 4}
    assert graph.cycle() == []
    kept = Graph(manifests, {1: BEFORE, 2: AFTER, 3: frozenset()})
    assert kept.needs[0] == {4}


@pytest.mark.parametrize(
    ("stages", "awaits", "is_mistake"),
    [
        ({1: BEFORE}, set(), False),
        ({0: AFTER}, set(), False),
        ({0: BEFORE, 1: BEFORE}, {1}, False),
        ({0: AFTER, 1: BEFORE}, set(), False),
        ({1: AFTER}, set(), True),
        ({0: BEFORE}, set(), True),
        ({1: frozenset()}, set(), True),
        ({0: frozenset()}, set(), False),
    ],
)
def test_an_annotation_may_name_what_runs_no_later(
    stages: dict[int, frozenset[tuple[int, int]]], awaits: set[int], *, is_mistake: bool
) -> None:
    """A hook of an earlier stage has ended by then; one of a later stage, or that is left out, never would have."""
    graph = Graph([depending("ConfigMap", "late", "/namespaces/shop/ConfigMap/a"), manifest("ConfigMap", "a")], stages)
    assert graph.awaits[0] == awaits
    assert [place for place, _ in graph.mistakes] == ([0] if is_mistake else [])


def test_a_hook_may_await_the_namespace_of_its_bundle() -> None:
    """Namespaces are no hooks, and there before any."""
    hook = depending("ConfigMap", "late", "/Namespace/shop")
    assert Graph([hook, manifest("Namespace", "shop", "")], {0: BEFORE}).mistakes == []
