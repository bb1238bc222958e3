"""Comparison: who has what differs, as managed fields tell."""

from pathlib import Path
from typing import Any

from fairlead_agent.drift.comparison import compare, managers_of
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS, Resource
from fairlead_shared.drift import DriftKind
from tests.unit.agent.apply.test_wanted import config_map, wanted

REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
PAUSED: dict[str, Any] = {"f:spec": {"f:paused": {}}}


def live(*entries: tuple[str, str, dict[str, Any]], subresource: str = "") -> dict[str, Any]:
    """Return a live object with these managers: name, time, fields."""
    managed = [
        {"manager": name, "operation": "Update", "time": time, "fieldsV1": fields, "subresource": subresource}
        for name, time, fields in entries
    ]
    return {"metadata": {"managedFields": managed}, "spec": {"replicas": 3}}


def test_whoever_has_the_field_did_it() -> None:
    """The last to write it first, with its time; who has other fields, and we ourselves, did not."""
    changed = live(
        ("fairlead", "2026-11-29T12:00:09Z", REPLICAS),
        ("earlier", "2026-11-29T12:00:01Z", REPLICAS),
        ("other", "2026-11-29T12:00:05Z", PAUSED),
        ("later", "2026-11-29T12:00:03Z", REPLICAS),
        ("later", "2026-11-29T12:00:02Z", REPLICAS),
    )
    assert managers_of(changed, ["/spec/replicas"]) == (("later", "earlier"), 1_795_953_603.0)


def test_where_nobody_has_it_the_last_to_write_is_named_without_a_time() -> None:
    """A field that was taken away has no manager."""
    changed = live(("a", "2026-11-29T12:00:01Z", PAUSED), ("b", "2026-11-29T12:00:03Z", PAUSED))
    assert managers_of(changed, ["/spec/replicas"]) == (("b",), None)


def test_who_writes_the_status_did_nothing() -> None:
    """Nor is anybody named where there is nobody else."""
    assert managers_of(live(("c", "2026-11-29T12:00:01Z", REPLICAS), subresource="status"), ["/spec/replicas"]) == (
        (),
        None,
    )
    assert managers_of({"metadata": {}}, ["/spec/replicas"]) == ((), None)


def test_names_are_bounded() -> None:
    """Whoever may write an object may call itself what it likes."""
    many = live(*((f"{number:03}" + "x" * 500, "2026-11-29T12:00:01Z", REPLICAS) for number in range(50)))
    names, _ = managers_of(many, ["/spec/replicas"])
    assert len(names) == 5
    assert {len(name) for name in names} == {128}


def test_a_time_that_is_none_is_left_out() -> None:
    """The API server writes it, but a test or another server may not."""
    assert managers_of(live(("a", "", REPLICAS)), ["/spec/replicas"]) == (("a",), None)


class _Made(KubeClient):
    """A client that finds one object, and writes nothing."""

    def __init__(self, live: dict[str, Any]) -> None:
        super().__init__(ClusterAccess("https://none.invalid", Path("ca.crt"), Path("token")))
        self._live = live

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the object."""
        assert (resource, namespace, name) == (CONFIG_MAPS, "shop", "a")
        return self._live


async def test_what_somebody_made_in_place_of_what_could_not_be_made_again_is_theirs() -> None:
    """Its UID is not known then; what we make has our label."""
    objects = wanted(config_map(namespace="shop"))
    found = await compare(_Made(config_map(namespace="shop", uid="u2")), objects, 0, CONFIG_MAPS, "")
    assert found.found is not None
    assert (found.found.kind, found.found.may_be_corrected, found.manifest) == (DriftKind.UNOWNED, False, {})
