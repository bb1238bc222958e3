"""What is said of hooks before anything is written."""

from __future__ import annotations

from typing import Any

from fairlead_agent.apply.hook_proof import misread, too_early
from fairlead_agent.apply.hooks import BundleHooks, Occasion
from fairlead_agent.apply.planning import Planned
from fairlead_shared.progress import Action
from tests.unit.agent.apply.test_wanted import config_map, wanted


def job(moments: str, *names: str, weight: str = "0") -> dict[str, Any]:
    """Return a Job as a hook that reads some ConfigMaps."""
    sources = [{"configMapRef": {"name": name}} for name in names]
    annotations = {"fairlead.dev/hook": moments, "fairlead.dev/hook-weight": weight}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate", "namespace": "shop", "annotations": annotations},
        "spec": {"template": {"spec": {"containers": [{"envFrom": sources}]}}},
    }


def warned(hook: dict[str, Any], action: Action, **annotations: str) -> list[str]:
    """Return the warnings about a hook beside ConfigMap `a`, with which something is done."""
    objects = wanted(config_map(namespace="shop", annotations=annotations), hook)
    hooks = BundleHooks(objects.hooks, Occasion.FIRST)
    planned = {place: Planned(action, write=True) for place in range(2)}
    return [f"{one.severity}: {one.message}" for one in too_early(hooks, objects, planned)]


def test_a_hook_before_what_it_names_is_warned_of() -> None:
    """Its pod would wait for the ConfigMap, and the ConfigMap for the hook."""
    assert warned(job("before", "a"), Action.CREATED) == [
        "warning: it runs before ConfigMap shop/a is there, which it names"
    ]


def test_what_is_there_is_not_warned_of() -> None:
    """From an earlier deployment, from nobody in the bundle, or by the time that the hook runs."""
    assert warned(job("before", "a"), Action.CHANGED) == []
    assert warned(job("before", "b"), Action.CREATED) == []
    assert warned(job("after", "a"), Action.CREATED) == []
    assert warned(job("before", "a"), Action.CREATED, **{"fairlead.dev/hook": "before"}) == []


def test_annotations_that_nobody_can_read_are_errors() -> None:
    """With the annotation as the field."""
    objects = wanted(job("befor", weight="x"))
    found = list(misread(BundleHooks(objects.hooks, Occasion.FIRST), objects))
    assert [(one.severity, one.field) for one in found] == [
        ("error", 'metadata.annotations["fairlead.dev/hook"]'),
        ("error", 'metadata.annotations["fairlead.dev/hook-weight"]'),
    ]
