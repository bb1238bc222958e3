"""Ignored fields: left out once somebody else has them, kept while only we do, and found in lists by their keys."""

from typing import Any

import pytest

from fairlead_agent.apply.ignored import left_to_others, owned_length, parts_of, without

REPLICAS = ("spec", "replicas")
IMAGE = ("spec", "containers", "0", "image")
MANIFEST: dict[str, Any] = {
    "metadata": {"name": "web", "annotations": {"a/b": "1", "kept": "2"}},
    "spec": {
        "replicas": 1,
        "containers": [{"name": "main", "image": "a", "args": ["x", "y"], "ports": [{"containerPort": 80}]}],
    },
}


def live(*entries: tuple[str, dict[str, Any]], subresource: str = "") -> dict[str, Any]:
    """Return a live object whose fields have these managers."""
    managed = [
        {"manager": name, "operation": "Apply", "fieldsV1": fields, "subresource": subresource}
        for name, fields in entries
    ]
    return {**MANIFEST, "metadata": {**MANIFEST["metadata"], "managedFields": managed}}


def container(**fields: Any) -> dict[str, Any]:  # noqa: ANN401  (FieldsV1)
    """Return the set of fields of the container `main`."""
    return {"f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, **fields}}}}


def test_a_field_that_only_we_have_stays() -> None:
    """Left out, it would be deleted."""
    ours = live(("fairlead", {"f:spec": {"f:replicas": {}}}), ("kubectl", {"f:spec": {"f:paused": {}}}))
    assert left_to_others(MANIFEST, ours, [REPLICAS]) == MANIFEST
    assert left_to_others(MANIFEST, {"metadata": {}}, [REPLICAS]) == MANIFEST, "it is not there yet"


def test_a_field_that_we_lost_is_left_out_though_nobody_has_it() -> None:
    """The API server records no manager of replicas that were scaled to zero."""
    nobody = live(("fairlead", {"f:spec": {"f:paused": {}}}))
    assert "replicas" not in left_to_others(MANIFEST, nobody, [REPLICAS])["spec"]


@pytest.mark.parametrize("subresource", ["", "scale"])
def test_a_field_that_somebody_else_has_is_left_out(subresource: str) -> None:
    """Also one set through a subresource, as autoscalers do; the bundle's own manifest is not touched."""
    theirs = live(("kube-controller-manager", {"f:spec": {"f:replicas": {}}}), subresource=subresource)
    left = left_to_others(MANIFEST, theirs, [REPLICAS])
    assert left["spec"].keys() == {"containers"}
    assert MANIFEST["spec"]["replicas"] == 1
    assert left_to_others(MANIFEST, theirs, []) == MANIFEST


def test_who_writes_the_status_has_nothing() -> None:
    """A status may have fields of the same names."""
    entry = {"manager": "x", "operation": "Update", "subresource": "status", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    both = live(("fairlead", {"f:spec": {"f:replicas": {}}}))
    both["metadata"]["managedFields"].append(entry)
    assert left_to_others(MANIFEST, both, [REPLICAS]) == MANIFEST


def test_fields_that_are_about_to_be_ours_stay() -> None:
    """When an object is taken over, its maker's fields become ours: left out, they would be deleted."""
    theirs = live(("kubectl-client-side-apply", {"f:spec": {"f:replicas": {}}}))
    assert left_to_others(MANIFEST, theirs, [REPLICAS], ("kubectl",)) == MANIFEST


def test_an_item_of_a_list_is_found_by_its_keys() -> None:
    """A key that the manifest leaves out was filled in by the API server; another item's owner does not count."""
    assert (
        "image"
        not in left_to_others(MANIFEST, live(("x", container(**{"f:image": {}}))), [IMAGE])["spec"]["containers"][0]
    )
    other: dict[str, Any] = {"f:spec": {"f:containers": {'k:{"name":"other"}': {"f:image": {}}}}}
    ours = container(**{"f:image": {}})
    assert left_to_others(MANIFEST, live(("fairlead", ours), ("x", other)), [IMAGE]) == MANIFEST
    port = container(**{"f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:name": {}}}})
    assert owned_length(port, MANIFEST, ("spec", "containers", "0", "ports", "0", "name")) == 6
    assert owned_length(port, MANIFEST, ("spec", "containers", "0", "ports", "1", "name")) == 0


def test_what_changes_hands_as_one_is_left_out_as_one() -> None:
    """The arguments of a container have one manager; and whoever has a part of what is ignored has it."""
    arguments = live(("x", container(**{"f:args": {}})))
    left = left_to_others(MANIFEST, arguments, [("spec", "containers", "0", "args", "1")])
    assert "args" not in left["spec"]["containers"][0]
    part = live(("x", {"f:metadata": {"f:annotations": {"f:a/b": {}}}}))
    assert "annotations" not in left_to_others(MANIFEST, part, [("metadata", "annotations")])["metadata"]
    alone = left_to_others(MANIFEST, part, [parts_of("/metadata/annotations/a~1b")])
    assert alone["metadata"]["annotations"] == {"kept": "2"}


def test_items_of_sets_and_places_are_told_apart() -> None:
    """Finalizers are a set of values; what has neither keys nor values has places."""
    content = {"set": ["a", "b"], "list": ["c"]}
    assert owned_length({"f:set": {'v:"b"': {}}}, content, ("set", "1")) == 2
    assert owned_length({"f:set": {'v:"b"': {}}}, content, ("set", "0")) == 0
    assert owned_length({"f:list": {"i:0": {}}}, content, ("list", "0")) == 2
    assert owned_length({"f:list": {"z:0": {}}}, content, ("list", "0")) == 0


def test_without_removes_several_items_of_a_list() -> None:
    """No place moves before its turn, and what is not there does not matter."""
    content = {"list": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}
    gone = [("list", "1"), ("list", "10"), ("list", "2"), ("list", "11"), ("list", "x", "y"), ("none", "0")]
    assert without(content, gone) == {"list": [0, 3, 4, 5, 6, 7, 8, 9]}


def test_pointers_are_read_as_their_rfc_says() -> None:
    """`~1` is a slash, `~01` no slash."""
    assert parts_of("/a~1b/~01/") == ("a/b", "~1", "")
    with pytest.raises(ValueError, match="must begin with '/'"):
        parts_of("spec/replicas")
