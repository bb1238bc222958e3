"""What is kept of an object."""

from fairlead_agent.health.verdict import owner_uid, projected


def test_owner_is_the_controller() -> None:
    """Other owners only delay garbage collection."""
    owners = [{"uid": "1"}, {"uid": "2", "controller": True}]
    assert owner_uid({"metadata": {"ownerReferences": owners}}) == "2"
    assert owner_uid({"metadata": {}}) == ""


def test_templates_and_data_are_not_kept() -> None:
    """Thousands of objects must fit into memory, and Secrets must not be there at all."""
    manifest = {
        "metadata": {"name": "a", "uid": "1", "managedFields": [{}], "annotations": {"note": "long"}},
        "spec": {"replicas": 2, "template": {"spec": {}}},
        "data": {"password": "x"},
    }
    assert projected(manifest) == {
        "metadata": {"name": "a", "uid": "1"},
        "spec": {"replicas": 2},
        "status": {},
    }
