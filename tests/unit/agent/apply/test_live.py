"""What counts as a change of a live object, and what does not."""

from typing import Any

import pytest

from fairlead_agent.apply.live import digest_of, live_of


def found(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a live object; `changes` replace its top level."""
    ours = {"f:data": {"f:x": {}}, "f:metadata": {"f:labels": {"f:app": {}}}}
    managed = [
        {"manager": "fairlead", "operation": "Apply", "time": "1", "fieldsV1": ours},
        {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
    ]
    numbers = {"uid": "1", "resourceVersion": "5", "generation": 1}
    metadata = {"name": "a", **numbers, "labels": {"app": "web"}, "managedFields": managed}
    return {"metadata": metadata, "data": {"x": 1.5}, "status": {"phase": "x"}, **changes}


def with_metadata(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a live object with changed metadata."""
    return found(metadata={**found()["metadata"], **changes})


@pytest.mark.parametrize(
    "same",
    [
        found(status={"phase": "y"}),
        found(apiVersion="v1", kind="ConfigMap"),
        with_metadata(resourceVersion="6", generation=2),
        with_metadata(managedFields=[{**found()["metadata"]["managedFields"][0], "time": "2"}]),
        with_metadata(labels={"app": "web", "theirs": "x"}, annotations={"deployment.kubernetes.io/revision": "2"}),
    ],
)
def test_what_others_write_is_no_change(same: dict[str, Any]) -> None:
    """Controllers write status, versions and notes of their own all the time; lists leave kinds out."""
    assert digest_of(same) == digest_of(found())


@pytest.mark.parametrize(
    "other",
    [
        found(data={"x": 2}),
        with_metadata(labels={"app": "worker"}),
        with_metadata(labels={}),
        with_metadata(managedFields=[{"manager": "fairlead", "operation": "Apply", "fieldsV1": {"f:data": {}}}]),
    ],
)
def test_value_label_and_owned_field_are_changes(other: dict[str, Any]) -> None:
    """To give up a field is a change too, though no value differs."""
    assert digest_of(other) != digest_of(found())


def test_deletion_under_way_is_seen() -> None:
    """Writing to such an object would be writing into the void."""
    live = live_of(with_metadata(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["hold"]))
    assert (live.uid, live.deleted, live.finalizers) == ("1", True, ("hold",))
