"""Paths of the API, and the resources a CRD makes."""

from typing import Any

import pytest

from fairlead_agent.kube.resources import CONFIG_MAPS, NAMESPACES, REPLICA_SETS, Resource, resources_of_crd, verbs_for


def test_paths_of_core_and_named_groups_differ() -> None:
    """The core group has a root of its own."""
    assert CONFIG_MAPS.path("shop", "a") == "/api/v1/namespaces/shop/configmaps/a"
    assert REPLICA_SETS.path("shop") == "/apis/apps/v1/namespaces/shop/replicasets"
    assert NAMESPACES.path(name="shop") == "/api/v1/namespaces/shop"
    assert CONFIG_MAPS.path() == "/api/v1/configmaps"


@pytest.mark.parametrize("name", ["../secrets/x", "a/b", "a?dryRun=All", "a%2fb", "..", "a b"])
def test_name_cannot_leave_its_place_in_the_path(name: str) -> None:
    """A bundle's names are a stranger's input."""
    with pytest.raises(ValueError, match="no name"):
        CONFIG_MAPS.path("shop", name)
    with pytest.raises(ValueError, match="no name"):
        CONFIG_MAPS.path(name, "a")


def test_reference_of_a_listed_object_takes_kind_from_the_resource() -> None:
    """Lists leave apiVersion and kind out of their items."""
    ref = REPLICA_SETS.ref({"metadata": {"name": "web-1", "namespace": "shop"}})
    assert str(ref) == "ReplicaSet shop/web-1"
    assert ref.api_version == "apps/v1"


def test_definition_makes_a_resource_for_each_served_version() -> None:
    """Versions that are stored only are not served."""
    names = {"kind": "Boat", "plural": "boats"}
    versions = [{"name": "v1", "served": True}, {"name": "v0", "served": False}]
    crd = {"spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}}
    assert list(resources_of_crd(crd)) == [Resource("example.com", "v1", "Boat", "boats", namespaced=True)]


@pytest.mark.parametrize("spec", [None, [], {}, {"names": 1, "versions": []}, {"names": {}, "versions": "x"}])
def test_malformed_definition_makes_nothing(spec: object) -> None:
    """Its dry-run will say what is wrong with it."""
    assert list(resources_of_crd({"spec": spec})) == []


@pytest.mark.parametrize(
    ("rule", "verbs"),
    [
        ({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]}, {"list", "watch"}),
        ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"*"}),
        ({"apiGroups": [""], "resources": ["deployments"], "verbs": ["list"]}, set()),
        ({"apiGroups": ["apps"], "resources": ["deployments/status"], "verbs": ["list"]}, set()),
        ({"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["list"]}, set()),
        ({"nonResourceURLs": ["/healthz"], "verbs": ["get"]}, set()),
    ],
)
def test_a_rule_counts_for_a_kind_if_it_names_all_of_its_objects(rule: dict[str, Any], verbs: set[str]) -> None:
    """One that names objects says nothing of a list."""
    deployments = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
    assert verbs_for([rule], deployments) == verbs


def test_verbs_of_several_rules_add_up() -> None:
    """As RBAC has it."""
    deployments = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": [verb]} for verb in ("list", "watch")]
    assert verbs_for(rules, deployments) == {"list", "watch"}
