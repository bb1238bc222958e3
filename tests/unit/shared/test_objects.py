"""References to objects."""

from __future__ import annotations

from fairlead_shared.objects import ObjectRef


def test_reference_of_a_manifest_and_its_words() -> None:
    """Core kinds are named plainly, kinds of foreign groups with their group."""
    core = ObjectRef.of({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"}})
    foreign = ObjectRef(api_version="example.com/v1", kind="Widget", name="w")
    assert str(core) == "Secret shop/db"
    assert core.group == ""
    assert str(foreign) == "Widget.example.com w"
    assert foreign.group == "example.com"


def test_identity_ignores_the_version() -> None:
    """An object that moves from v1beta1 to v1 stays the same object."""
    old, new = (
        ObjectRef(api_version=f"apps/{v}", kind="Deployment", namespace="n", name="w") for v in ("v1beta1", "v1")
    )
    assert old.identity == new.identity
