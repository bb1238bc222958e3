"""The order of writes and of deletes."""

from typing import Any

from fairlead_agent.apply.graph import Graph, deletion_waves
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
        graph.needs[place].add(other)
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
    assert [[ref.kind for ref in wave] for wave in deletion_waves(refs)] == [
        ["MutatingWebhookConfiguration"],
        ["Deployment"],
        ["ConfigMap", "RoleBinding"],
        ["Role"],
        ["CustomResourceDefinition"],
        ["Namespace"],
    ]
