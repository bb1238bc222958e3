"""What is told of an apply without asking the API server; that it is told rightly, tests/e2e proves on a real one."""

from copy import deepcopy
from typing import Any

import pytest

from fairlead_agent.apply.as_applied import is_as_applied, is_identical

Manifest = dict[str, Any]


def wanted(**spec: Any) -> Manifest:  # noqa: ANN401
    """Return a Service as it is sent."""
    ports = [{"port": 80, "targetPort": "http"}, {"port": 53, "protocol": "UDP"}]
    metadata = {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "finalizers": ["a", "b"]}
    whole = {"selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": whole}


def live(**entry: Any) -> Manifest:  # noqa: ANN401
    """Return the live object, with what the API server and others added; `entry` changes what is said of us."""
    ports: Manifest = {
        'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}},
        'k:{"port":53,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}},
    }
    fields = {
        "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {".": {}, 'v:"a"': {}, 'v:"b"': {}}},
        "f:spec": {"f:selector": {}, "f:ports": ports},
    }
    ours = {"manager": "fairlead", "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields, **entry}
    theirs = {"manager": "other", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:type": {}}}}
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "1",
            "labels": {"app": "web", "theirs": "x"},
            "finalizers": ["a", "theirs", "b"],
            "managedFields": [theirs, ours],
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.0.0.1",
            "selector": {"app": "web"},
            "ports": [
                {"port": 80, "targetPort": "http", "protocol": "TCP"},
                {"port": 443, "protocol": "TCP"},
                {"port": 53, "protocol": "UDP", "targetPort": 53},
            ],
        },
        "status": {"loadBalancer": {}},
    }


def test_what_others_and_defaults_added_is_no_change() -> None:
    """A default, a field of another manager, an item of theirs between ours."""
    assert is_as_applied(wanted(), live())


@pytest.mark.parametrize(
    "changed",
    [
        wanted(selector={"app": "worker"}),
        wanted(type="ClusterIP"),
        wanted(ports=list(reversed(wanted()["spec"]["ports"]))),
        wanted(ports=wanted()["spec"]["ports"][:1]),
        wanted(ports=[{"port": 80, "targetPort": 80}, {"port": 53, "protocol": "UDP"}]),
        wanted(ports=[{"port": True, "targetPort": "http"}, {"port": 53, "protocol": "UDP"}]),
        wanted(ports="none"),
        wanted(ports=["http", {"port": 53, "protocol": "UDP"}]),
        wanted(selector=None),
        {**wanted(), "spec": {"selector": {"app": "web"}}},
        {**wanted(), "apiVersion": "v2"},
        {**wanted(), "metadata": {**wanted()["metadata"], "finalizers": ["b", "a"]}},
        {**wanted(), "metadata": {**wanted()["metadata"], "finalizers": ["a"]}},
        {**wanted(), "metadata": {**wanted()["metadata"], "labels": {}}},
    ],
)
def test_what_apply_would_change_is_left_to_the_api_server(changed: Manifest) -> None:
    """A value, a field more or less, an order, a type."""
    assert not is_as_applied(changed, live())


@pytest.mark.parametrize("entry", [{"manager": "theirs"}, {"operation": "Update"}, {"subresource": "status"}])
def test_only_our_last_apply_counts(entry: dict[str, str]) -> None:
    """What another manager, or an update of ours, set says nothing about an apply."""
    assert not is_as_applied(wanted(), live(**entry))


def test_list_merged_by_position_is_left_to_the_api_server() -> None:
    """No key says which item is whose."""
    there = live()
    owned = there["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]
    owned["f:ports"] = {"i:0": {"f:port": {}, "f:targetPort": {}}, "i:1": {"f:port": {}, "f:protocol": {}}}
    assert not is_as_applied(wanted(), there)


def test_empty_field_that_others_filled_is_left_to_the_api_server() -> None:
    """What was applied empty holds nothing of ours; applied with what is there by now, it would."""
    there = deepcopy(live())
    ours, theirs = (there["metadata"]["managedFields"][place]["fieldsV1"]["f:spec"] for place in (1, 0))
    ours["f:sessionAffinityConfig"] = {}
    there["spec"]["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 5}}
    mine = wanted(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}})
    assert is_as_applied(mine, there)
    theirs["f:sessionAffinityConfig"] = {"f:clientIP": {"f:timeoutSeconds": {}}}
    assert not is_as_applied(mine, there)


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), ({"a": 1}, {"a": 1, "b": 2}), ([1], [1, 2]), ("", None)]
)
def test_values_of_two_types_are_not_identical(one: object, other: object) -> None:
    """Python says otherwise of the first two."""
    assert not is_identical(one, other)
    assert is_identical(one, deepcopy(one))
