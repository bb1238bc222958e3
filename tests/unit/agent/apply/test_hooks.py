"""What annotations of three tools say of hooks."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead_agent.apply.hooks import KEPT, BundleHooks, Ending, Hook, Moment, Occasion, hook_of, is_hook

BEFORE, AFTER, FAILURE = Moment.BEFORE, Moment.AFTER, Moment.FAILURE
NEVER: dict[Occasion, set[Moment]] = {occasion: set() for occasion in Occasion}
ARGO, HELM, OWN = "argocd.argoproj.io/", "helm.sh/", "fairlead.dev/"


def annotated(annotations: dict[str, str], *, kind: str = "Job", api_version: str = "batch/v1") -> dict[str, Any]:
    """Return a Job, or another kind, with annotations."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "annotations": annotations}}


@pytest.mark.parametrize(
    ("name", "value", "first", "again", "rollback"),
    [
        (f"{OWN}hook", "before", {BEFORE}, {BEFORE}, {BEFORE}),
        (f"{OWN}hook", "after, failure", {AFTER, FAILURE}, {AFTER, FAILURE}, {AFTER, FAILURE}),
        (f"{ARGO}hook", "PreSync", {BEFORE}, {BEFORE}, {BEFORE}),
        (f"{ARGO}hook", "PostSync,SyncFail", {AFTER, FAILURE}, {AFTER, FAILURE}, {AFTER, FAILURE}),
        (f"{HELM}hook", "pre-install", {BEFORE}, set(), set()),
        (f"{HELM}hook", "post-install", {AFTER}, set(), set()),
        (f"{HELM}hook", "pre-install,pre-upgrade", {BEFORE}, {BEFORE}, set()),
        (f"{HELM}hook", "post-upgrade", set(), {AFTER}, set()),
        (f"{HELM}hook", "pre-rollback,post-rollback", set(), set(), {BEFORE, AFTER}),
    ],
)
def test_moments_depend_on_the_occasion(
    name: str, value: str, first: set[Moment], again: set[Moment], rollback: set[Moment]
) -> None:
    """Helm tells a first deployment, a later one and a rollback apart; the others do not."""
    hook = hook_of(annotated({name: value}))
    assert hook is not None
    told = {Occasion.FIRST: first, Occasion.AGAIN: again, Occasion.ROLLBACK: rollback}
    assert hook.moments == NEVER | told
    assert hook.mistakes == ()


@pytest.mark.parametrize(
    ("name", "value", "deletion", "rest", "first"),
    [
        (f"{OWN}hook", "before-delete", {BEFORE}, set(), set()),
        (f"{OWN}hook", "after-delete", {AFTER}, {AFTER}, set()),
        (f"{OWN}hook", "after, before-delete", {BEFORE}, set(), {AFTER}),
        (f"{ARGO}hook", "PreDelete", {BEFORE}, set(), set()),
        (f"{ARGO}hook", "PostDelete,PreSync", {AFTER}, {AFTER}, {BEFORE}),
        (f"{HELM}hook", "pre-delete", {BEFORE}, set(), set()),
        (f"{HELM}hook", "pre-delete, post-delete", {BEFORE, AFTER}, {AFTER}, set()),
        (f"{HELM}hook", "pre-install,post-delete", {AFTER}, {AFTER}, {BEFORE}),
        (f"{OWN}hook", "failure", set(), set(), set()),
    ],
)
def test_what_runs_at_deletion_runs_in_no_deployment(
    name: str, value: str, deletion: set[Moment], rest: set[Moment], first: set[Moment]
) -> None:
    """And what runs before it not once more when a try has come that far; what runs on failure not at all."""
    hook = hook_of(annotated({name: value}))
    assert hook is not None
    assert hook.moments[Occasion.DELETION] == deletion
    assert hook.moments[Occasion.REST] == rest
    assert hook.moments[Occasion.FIRST] - {FAILURE} == first
    assert (hook.left_out, hook.mistakes) == ((), ())


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({f"{HELM}hook": "test"}, ("test",)),
        ({f"{HELM}hook": "test-success"}, ("test-success",)),
        ({f"{HELM}hook": "pre-install,test"}, ("test",)),
        ({f"{HELM}hook": "of-another-helm"}, ("of-another-helm",)),
        ({f"{ARGO}hook": "Skip"}, ("Skip",)),
        ({f"{ARGO}hook": "PreSync,Skip"}, ("Skip",)),
    ],
)
def test_what_no_deployment_does_is_left_out_by_name(annotations: dict[str, str], words: tuple[str, ...]) -> None:
    """It is a hook all the same, and not written as an object of the environment."""
    hook = hook_of(annotated(annotations))
    assert hook is not None
    assert (hook.left_out, hook.mistakes) == (words, ())


@pytest.mark.parametrize(
    ("annotations", "kind"),
    [
        ({}, {}),
        ({f"{OWN}hook": ""}, {}),
        ({f"{ARGO}hook": "Sync"}, {}),
        ({f"{HELM}hook-weight": "1"}, {}),
        ({f"{HELM}hook": "pre-install"}, {"kind": "Namespace", "api_version": "v1"}),
        (
            {f"{HELM}hook": "crd-install"},
            {"kind": "CustomResourceDefinition", "api_version": "apiextensions.k8s.io/v1"},
        ),
    ],
)
def test_what_is_kept_is_no_hook(annotations: dict[str, str], kind: dict[str, str]) -> None:
    """Argo CD's `Sync` is an ordinary object, and what others are made in is there before them anyway."""
    assert not is_hook(annotated(annotations, **kind))
    assert not is_hook({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": "none"}})


@pytest.mark.parametrize(
    ("annotations", "weight", "endings"),
    [
        ({f"{OWN}hook": "before"}, 0, set()),
        ({f"{OWN}hook": "before", f"{OWN}hook-weight": "-5", f"{OWN}hook-delete": "before"}, -5, set()),
        ({f"{OWN}hook": "before", f"{OWN}hook-delete": "succeeded,failed"}, 0, set(Ending)),
        ({f"{OWN}hook": "before", f"{HELM}hook-weight": "7"}, 0, set()),
        ({f"{HELM}hook": "pre-install", f"{HELM}hook-weight": "7"}, 7, set()),
        ({f"{HELM}hook": "test", f"{HELM}hook-delete-policy": "before-hook-creation"}, 0, set()),
        ({f"{HELM}hook": "test", f"{HELM}hook-delete-policy": "hook-succeeded"}, 0, {Ending.SUCCEEDED}),
        ({f"{ARGO}hook": "PreSync", f"{ARGO}sync-wave": "3"}, 3, set()),
        ({f"{ARGO}hook": "PreSync", f"{ARGO}hook-delete-policy": "HookFailed"}, 0, {Ending.FAILED}),
    ],
)
def test_weight_and_deletion_are_read_in_the_same_words(
    annotations: dict[str, str], weight: int, endings: set[Ending]
) -> None:
    """Of the tool whose annotation made it a hook, and of no other."""
    hook = hook_of(annotated(annotations))
    assert hook is not None
    assert hook.weight == weight
    assert hook.deleted_when == endings


def test_one_tool_is_heard() -> None:
    """Fairlead before Argo CD before Helm, as Argo CD does with the latter two."""
    both = {f"{HELM}hook": "post-install", f"{ARGO}hook": "PreSync"}
    hook = hook_of(annotated(both))
    assert hook is not None
    assert hook.moments[Occasion.FIRST] == {BEFORE}
    ours = hook_of(annotated(both | {f"{OWN}hook": "failure"}))
    assert ours is not None
    assert ours.moments[Occasion.FIRST] == {FAILURE}


@pytest.mark.parametrize(
    ("annotations", "field", "says"),
    [
        ({f"{OWN}hook": "befor"}, f"{OWN}hook", "write before, after, failure, before-delete, after-delete"),
        ({f"{ARGO}hook": "presync"}, f"{ARGO}hook", "write PreSync, PostSync, SyncFail, PreDelete, PostDelete"),
        ({f"{ARGO}hook": "Sync,PostSync"}, f"{ARGO}hook", "goes with no other moment"),
        ({f"{OWN}hook": "before", f"{OWN}hook-weight": "first"}, f"{OWN}hook-weight", "'first' is no whole number"),
        ({f"{HELM}hook": "test", f"{HELM}hook-delete-policy": "never"}, f"{HELM}hook-delete-policy", "'never'"),
    ],
)
def test_what_cannot_be_read_is_a_mistake(annotations: dict[str, str], field: str, says: str) -> None:
    """A hook that silently does not run is worse than one that is refused."""
    hook = hook_of(annotated(annotations))
    assert hook is not None
    [(where, what)] = hook.mistakes
    assert where == field
    assert says in what


def hooks(occasion: Occasion, *annotations: dict[str, str]) -> BundleHooks:
    """Return the hooks of a bundle of annotated Jobs."""
    found: dict[int, Hook] = {}
    for place, one in enumerate(annotations):
        if (hook := hook_of(annotated(one))) is not None:
            found[place] = hook
    return BundleHooks(found, occasion)


def test_groups_run_by_weight() -> None:
    """The least first; those of other moments, of other occasions, and what is no hook are in none."""
    bundle = hooks(
        Occasion.AGAIN,
        {f"{OWN}hook": "before"},
        {f"{HELM}hook": "pre-upgrade", f"{HELM}hook-weight": "-5"},
        {},
        {f"{HELM}hook": "pre-install", f"{HELM}hook-weight": "-9"},
        {f"{ARGO}hook": "PreSync,PostSync", f"{ARGO}sync-wave": "0"},
        {f"{OWN}hook": "failure"},
    )
    assert bundle.groups(BEFORE) == [[1], [0, 4]]
    assert bundle.groups(AFTER) == [[4]]
    assert bundle.groups(FAILURE) == [[5]]
    assert [place for place in range(6) if place in bundle] == [0, 1, 3, 4, 5]
    assert [place for place in bundle if bundle.is_idle(place)] == [3, 5]
    assert [place for place in bundle if not bundle.runs(place)] == [3]


def test_stages_order_hooks_around_what_is_kept() -> None:
    """Before it, after it, and last what runs on failure; what does not run has no stage."""
    bundle = hooks(
        Occasion.FIRST,
        {f"{OWN}hook": "before", f"{OWN}hook-weight": "9"},
        {f"{OWN}hook": "after", f"{OWN}hook-weight": "-9"},
        {f"{OWN}hook": "failure"},
        {f"{HELM}hook": "test"},
    )
    stages = bundle.stages()
    assert min(stages[0]) < KEPT < min(stages[1]) < min(stages[2])
    assert stages[3] == frozenset()


@pytest.mark.parametrize(
    ("annotations", "note"),
    [
        ({f"{OWN}hook": "before"}, "hook: runs before"),
        ({f"{OWN}hook": "failure,after", f"{OWN}hook-weight": "3"}, "hook: runs after and on failure, weight 3"),
        ({f"{HELM}hook": "pre-upgrade,test"}, "hook: runs before; test is nothing that Fairlead does"),
        ({f"{HELM}hook": "pre-install"}, "hook: runs only in a first deployment"),
        ({f"{HELM}hook": "post-install,post-rollback"}, "hook: runs only in a first deployment or in a rollback"),
        ({f"{HELM}hook": "test"}, "hook, left out: test is nothing that Fairlead does"),
        ({f"{HELM}hook": "pre-delete"}, "hook: runs only before deletion"),
        ({"fairlead.dev/hook": "after-delete,before-delete"}, "hook: runs only before and after deletion"),
        ({f"{HELM}hook": "pre-install,post-delete"}, "hook: runs only in a first deployment or after deletion"),
        ({f"{HELM}hook": "pre-upgrade,post-delete"}, "hook: runs before, and after deletion"),
    ],
)
def test_what_is_done_with_a_hook_is_said(annotations: dict[str, str], note: str) -> None:
    """Or why nothing is."""
    assert hooks(Occasion.AGAIN, annotations).note(0) == note


def test_a_deployment_leaves_hooks_for_a_deletion_and_a_deletion_none() -> None:
    """They do nothing in the deployment, and those of the deletion have their groups and their words then."""
    own = [{f"{OWN}hook": words} for words in ("before-delete", "after", "before-delete,after-delete", "failure")]
    brought = hooks(Occasion.AGAIN, *own)
    assert [place for place in brought if brought.is_for_deletion(place)] == [0, 2]
    assert [place for place in brought if brought.is_idle(place)] == [0, 2, 3]
    deleting, rest = hooks(Occasion.DELETION, *own), hooks(Occasion.REST, *own)
    assert not any(deleting.is_for_deletion(place) for place in deleting)
    assert [deleting.groups(moment) for moment in Moment] == [[[0, 2]], [[2]], []]
    assert [rest.groups(moment) for moment in Moment] == [[], [[2]], []]
    assert deleting.note(2) == "hook: runs before deletion and after deletion"
    assert rest.note(0) == "hook: ran before deletion, in an earlier try"
