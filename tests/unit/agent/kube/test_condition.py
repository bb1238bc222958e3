"""Conditions of a status."""

import pytest

from fairlead_agent.kube.condition import has_condition


def test_condition_must_be_true() -> None:
    """False and Unknown are not."""
    established = {"status": {"conditions": [{"type": "Established", "status": "True"}]}}
    assert has_condition(established, "Established")
    assert not has_condition(established, "NamesAccepted")


@pytest.mark.parametrize("manifest", [{}, {"status": None}, {"status": {"conditions": None}}])
def test_object_without_status_has_no_condition(manifest: dict[str, object]) -> None:
    """A fresh object has none yet."""
    assert not has_condition(manifest, "Established")
