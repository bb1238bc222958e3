"""What is said of hooks before anything is written."""

from __future__ import annotations

from typing import Any

from fairlead_agent.apply.hook_proof import misread, too_early, unfit_for_deletion
from fairlead_agent.apply.hooks import BundleHooks, Occasion
from fairlead_agent.apply.inventory import MOST_HOOK_BYTES
from fairlead_agent.apply.planning import Planned
from fairlead_agent.kube.resources import CONFIG_MAPS
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


def unfit(*manifests: dict[str, Any]) -> list[str]:
    """Return what stands against a deployment's hooks for a deletion."""
    objects = wanted(*manifests)
    found = unfit_for_deletion(BundleHooks(objects.hooks, Occasion.FIRST), objects)
    return [f"{one.severity}: {one.message}" for one in found]


def test_what_runs_after_deletion_is_warned_of_what_is_gone_by_then() -> None:
    """Not if that is kept, or is a hook of the deletion itself; what runs before has it still."""
    late = "warning: it runs after ConfigMap shop/a is deleted, which it names"
    assert unfit(config_map(namespace="shop"), job("after-delete", "a", "elsewhere")) == [late]
    assert unfit(config_map(namespace="shop"), job("before-delete", "a")) == []
    for annotation in ({"fairlead.dev/prune": "deny"}, {"fairlead.dev/hook": "after-delete"}):
        assert unfit(config_map(namespace="shop", annotations=annotation), job("after-delete", "a")) == []


def test_what_a_deletion_could_not_run_is_refused_when_it_is_brought() -> None:
    """Too much of it; or one that waits for what is none of them, since that would be told too late."""
    large = config_map(namespace="shop", annotations={"helm.sh/hook": "pre-delete"})
    (said,) = unfit(large | {"data": {"x": "y" * MOST_HOOK_BYTES}})
    assert said.startswith("error: the hooks that run at deletion have 409,")
    waiting = job("before-delete")
    waiting["metadata"]["annotations"]["fairlead.dev/depends-on"] = "/namespaces/shop/ConfigMap/a"
    (said,) = unfit(config_map(namespace="shop"), waiting)
    assert said == (
        "error: at deletion it waits for ConfigMap shop/a of the core group, which is not among the objects"
    )
    annotations = {"fairlead.dev/hook": "before-delete"}
    assert unfit(config_map(namespace="shop", annotations=annotations), waiting) == []
    annotations["fairlead.dev/depends-on"] = "batch/namespaces/shop/Job/migrate"
    circle = unfit(config_map(namespace="shop", annotations=annotations), waiting)
    start = "error: at deletion the objects wait for each other: "
    assert [said.startswith(start) for said in circle] == [True, True]


def test_two_that_would_be_one_at_deletion_are_refused() -> None:
    """One says its namespace, and the other has none but that."""
    annotations = {"fairlead.dev/hook": "before-delete"}
    objects = wanted(config_map(annotations=annotations), config_map(namespace="shop", annotations=annotations))
    objects.settle(0, CONFIG_MAPS)
    (finding,) = unfit_for_deletion(BundleHooks(objects.hooks, Occasion.FIRST), objects)
    assert finding.message == "its hooks that run at deletion: ConfigMap shop/a occurs twice"
