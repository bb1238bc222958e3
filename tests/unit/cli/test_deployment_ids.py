"""Deployment ids: valid, unique, in order of time."""

from fairlead_cli.deployment_ids import ALPHABET, LENGTH, new_deployment_id
from fairlead_shared.identity import check_id


def test_ids_are_valid_and_differ() -> None:
    """What the relay and the agent check, and the whole alphabet is used."""
    ids = {new_deployment_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(check_id("deployment", one)) == LENGTH for one in ids)
    assert set("".join(ids)) == set(ALPHABET)


def test_ids_sort_by_time() -> None:
    """Lists by id are lists by time; a known moment has a known prefix, as the ULID specification's example."""
    assert new_deployment_id(1_469_918_176.385).startswith("01aryz6s41")
    moments = [0, 1, 1_000_000.5, 1_767_000_000.001, 1_767_000_000.002, 5_000_000_000]
    made = [new_deployment_id(moment) for moment in moments]
    assert made == sorted(made)
