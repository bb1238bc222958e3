"""Manifests as they will be sent."""

from typing import Any

import pytest

from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.kube.resources import CONFIG_MAPS, NAMESPACES
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployWork, EnvironmentKey
from fairlead_shared.bundle import make_bundle
from fairlead_shared.errors import SealInvalid
from tests.unit.agent.apply.statements import statement

KEY = EnvironmentKey("acme", "shop", "staging")


def wanted(*manifests: dict[str, Any], namespaces: tuple[str, ...] = ("shop",)) -> WantedObjects:
    """Return the objects of a bundle of manifests."""
    bundle = make_bundle(manifests)
    stated = statement(bundle_sha256=bundle.sha256, namespaces=namespaces)

    def unseal(sealed: Any, namespace: str, name: str) -> dict[str, bytes]:  # noqa: ANN401
        if "broken" in sealed:
            raise SealInvalid("wrong key")
        return {key: f"{namespace}/{name}/{value}".encode() for key, value in sealed.items()}

    return WantedObjects(DeployWork(stated, bundle, Policy(), unseal, 1.0))


def config_map(**metadata: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a ConfigMap with this metadata."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **metadata}, "data": {"x": "y"}}


def test_owner_is_marked_beside_labels_and_annotations_of_the_manifest() -> None:
    """Label for selection, annotation for people."""
    objects = wanted(config_map(namespace="shop", labels={"app": "web"}, annotations={"note": "hi"}))
    metadata = objects.prepared(0)["metadata"]
    assert metadata["labels"] == {"app": "web", "fairlead.dev/owner": KEY.owner}
    assert metadata["annotations"] == {"note": "hi", "fairlead.dev/environment": "acme/shop/staging"}


def test_fields_of_the_server_are_left_out() -> None:
    """Exported manifests repeat them, and apply would refuse managedFields."""
    exported = config_map(namespace="shop", uid="1", resourceVersion="2", managedFields=[{}], creationTimestamp=None)
    prepared = wanted({**exported, "status": {"phase": "x"}}).prepared(0)
    assert set(prepared["metadata"]) == {"name", "namespace", "labels", "annotations"}
    assert "status" not in prepared
    assert prepared["data"] == {"x": "y"}


def test_namespace_is_settled_as_the_kind_asks() -> None:
    """Dropped from cluster-scoped objects, filled in where only one is possible."""
    objects = wanted({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "namespace": "odd"}})
    objects.settle(0, NAMESPACES)
    assert objects.refs[0].namespace == ""
    assert "namespace" not in objects.prepared(0)["metadata"]
    objects = wanted(config_map())
    objects.settle(0, CONFIG_MAPS)
    assert objects.prepared(0)["metadata"]["namespace"] == "shop"


def test_namespace_is_not_guessed_among_several() -> None:
    """Preflight reports it."""
    objects = wanted(config_map(), namespaces=("back", "front"))
    objects.settle(0, CONFIG_MAPS)
    assert objects.refs[0].namespace == ""


def test_sealed_values_are_opened_for_their_own_place_only() -> None:
    """Namespace and name go into the opening; what is sent is base64."""
    sealed = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a", "namespace": "shop"},
        "sealedData": {"password": "p"},
    }
    objects = wanted(sealed)
    assert "sealedData" in objects[0]
    prepared = objects.prepared(0)
    assert prepared["data"] == {"password": "c2hvcC9hL3A="}
    assert "sealedData" not in prepared


def test_secret_that_cannot_be_opened_is_an_error() -> None:
    """It becomes a finding; nothing is sent."""
    metadata = {"name": "a", "namespace": "shop"}
    sealed = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "sealedData": {"broken": "x"}}
    with pytest.raises(SealInvalid):
        wanted(sealed).prepared(0)


def test_objects_are_a_sequence_in_the_bundles_order() -> None:
    """Places mean the same in every part of the engine."""
    objects = wanted(*({**config_map(), "metadata": {"name": name, "namespace": "shop"}} for name in "cab"))
    assert [ref.name for ref in objects.refs] == ["a", "b", "c"]
    assert [one["metadata"]["name"] for one in objects[1:]] == ["b", "c"]
    assert len(objects) == 3


def test_hooks_are_known_by_their_place() -> None:
    """What their annotations say is read once, with the bundle."""
    hook = config_map(name="b", namespace="shop", annotations={"fairlead.dev/hook": "after"})
    objects = wanted(hook, config_map(namespace="shop"))
    assert list(objects.hooks) == [1]


def test_an_annotation_may_be_added_to_what_is_written() -> None:
    """Of one object; the bundle's own stay."""
    objects = wanted(config_map(namespace="shop", annotations={"note": "hi"}), config_map(name="b", namespace="shop"))
    objects.annotate(0, "fairlead.dev/hook-run", "1-before")
    environment = {"fairlead.dev/environment": "acme/shop/staging"}
    assert objects.prepared(0)["metadata"]["annotations"] == {
        "note": "hi",
        "fairlead.dev/hook-run": "1-before",
        **environment,
    }
    assert objects.prepared(1)["metadata"]["annotations"] == environment


def test_values_of_secrets_are_told_for_masking() -> None:
    """All of them that can be opened; one that cannot is no reason to show the others."""
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "sealedData": values}
        for name, values in (("a", {"x": "1", "y": "2"}), ("b", {"broken": "?"}))
    ]
    assert sorted(wanted(*secrets, config_map()).secret_values()) == [b"shop/a/1", b"shop/a/2"]
