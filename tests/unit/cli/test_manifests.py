"""Manifests: what all kinds share is checked, what the server writes is dropped, the namespace is filled in."""

import pytest

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import Located, read_manifests

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n"


def read(*texts: str) -> list[Located]:
    """Read texts as files a.yaml, b.yaml, … for namespace `shop`."""
    return read_manifests([Text(f"{name}.yaml", text) for name, text in zip("abc", texts, strict=False)], "shop")


def refusal(*texts: str) -> str:
    """Return the sentence with which texts are refused."""
    with pytest.raises(ManifestInvalid) as caught:
        read(*texts)
    return str(caught.value)


def test_objects_keep_file_and_line() -> None:
    """The reason of a failure names them."""
    located = read(CONFIG.format(name="one") + "---\n" + CONFIG.format(name="two"), CONFIG.format(name="three"))
    assert [str(one.origin) for one in located] == ["a.yaml:1", "a.yaml:6", "b.yaml:1"]
    assert str(located[1].ref) == "ConfigMap shop/two"


def test_rendered_objects_keep_their_file_alone() -> None:
    """The lines of what a program wrote are in no file, also in an error."""
    text = "\n\n" + CONFIG.format(name="one")
    assert str(read_manifests([Text("chart/templates/a.yaml", text, is_rendered=True)], "shop")[0].origin) == (
        "chart/templates/a.yaml"
    )
    with pytest.raises(ManifestInvalid, match=r"^chart/x\.yaml: what it renders is wrong: this is not valid YAML"):
        read_manifests([Text("chart/x.yaml", "a: [", is_rendered=True)], "shop")


def test_lists_are_flattened() -> None:
    """`kubectl get -o yaml` prints a List, and typed lists too."""
    text = """apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: one}
- apiVersion: v1
  kind: ConfigMapList
  items:
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: two}
"""
    assert [(one.ref.name, one.origin.line) for one in read(text)] == [("one", 4), ("two", 10)]


def test_a_kind_that_only_ends_in_list_is_an_object() -> None:
    """A custom resource may be called AllowList and have no items."""
    [one] = read("apiVersion: a.b/v1\nkind: AllowList\nmetadata: {name: x}\nspec: {}\n")
    assert one.ref.kind == "AllowList"


def test_namespace_is_the_environments_unless_given_or_cluster_scoped() -> None:
    """The command cannot ask the cluster, so it knows the kinds; a CRD in the input tells of its own."""
    crd = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.a.b}}
spec: {{group: a.b, scope: {scope}, names: {{kind: {kind}, plural: {plural}}}}}
---
apiVersion: a.b/v1
kind: {kind}
metadata: {{name: x, namespace: other}}
"""
    located = read(
        CONFIG.format(name="one") + "  namespace: other\n---\n" + CONFIG.format(name="one"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, namespace: wrong}\n",
        crd.format(plural="wides", kind="Wide", scope="Cluster")
        + "---\n"
        + crd.format(plural="deeps", kind="Deep", scope="Namespaced"),
    )
    assert [one.ref.namespace for one in located] == ["other", "shop", "", "", "", "", "other"]
    assert [one.manifest["metadata"].get("namespace") for one in located[2:4]] == [None, None]


def test_what_the_api_server_writes_is_dropped() -> None:
    """Nobody who pipes `kubectl get -o yaml` means the resource version."""
    text = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  uid: u
  resourceVersion: "1"
  managedFields: []
  creationTimestamp: null
  labels: {a: b}
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: "{}"
    keep: me
spec: {replicas: 1}
status: {ready: 1}
"""
    [one] = read(text)
    assert one.manifest == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}, "annotations": {"keep": "me"}},
        "spec": {"replicas": 1},
    }


def test_a_duplicate_names_both_places() -> None:
    """Also across versions of one API group: it is the same object in the cluster."""
    ingress = "apiVersion: networking.k8s.io/{version}\nkind: Ingress\nmetadata: {{name: web}}\n"
    said = refusal(ingress.format(version="v1"), "\n" + ingress.format(version="v1beta1"))
    assert said == "b.yaml:2: Ingress.networking.k8s.io shop/web is also at a.yaml:1; keep one of the two"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}\n", "a.yaml:1: apiVersion: is missing"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "a.yaml:1: kind: is missing"),
        ("apiVersion: v1\nkind: 3\nmetadata: {name: a}\n", "a.yaml:1: kind: is missing or not a string"),
        ("apiVersion: v1\nkind: ConfigMap\n", "a.yaml:1: metadata: is missing"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n", "a.yaml:1: metadata.name: is missing"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 8}\n", "metadata.name: is missing or not a string"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", "metadata.generateName: a generated name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: [b]}\n", "metadata.namespace: is not a string"),
        (f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {'a' * 254}}}\n", "longer than Kubernetes allows"),
        ("- a\n", "a.yaml:1: a Kubernetes object must be a mapping"),
        ("apiVersion: v1\nkind: List\nitems: 3\n", "a.yaml:1: items: must be a list"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "a.yaml:1: a Kubernetes object must be a mapping"),
        ("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "name its folder"),
        ("# nothing\n", "no object was found"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    """File, line and field, so that it can be put right without searching."""
    assert said in refusal(text)
