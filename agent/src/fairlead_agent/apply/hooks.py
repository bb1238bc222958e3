"""
Hooks: objects that run at a moment of a deployment instead of being kept; what their annotations say. Pure: no I/O.

Three tools' words are read, those of one tool for each object: Fairlead's own, else Argo CD's, else Helm's, as Argo CD
does with the latter two. What no moment of a deployment is meant by (Helm's tests) is left out, with its words. What
is meant for the deletion of the environment does nothing in the deployment that brings it (deletion.py). Namespaces and
CustomResourceDefinitions are no hooks, whatever they say: all that is in them waits for them already, a hook as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fairlead_agent.kube.resources import CRDS, NAMESPACES
from fairlead_shared.objects import Manifest, ObjectRef

HOOK_RUN = "fairlead.dev/hook-run"
"""Annotation that Fairlead puts on the Jobs and Pods of hooks: which run of which deployment made it."""
RUNS = frozenset({("batch", "Job"), ("", "Pod")})
"""(group, kind) of what runs to its end: made anew for each deployment, and waited for. Others are applied as ever."""
FOUNDING = frozenset({(NAMESPACES.group, NAMESPACES.kind), (CRDS.group, CRDS.kind)})
"""(group, kind) of what others are made in, and what is therefore never a hook."""


class Moment(StrEnum):
    """When hooks run."""

    BEFORE = "before"
    """Before anything else is written; in a deletion, before anything is deleted."""
    AFTER = "after"
    """When everything is healthy, and pruned what was to go; in a deletion, when everything is deleted."""
    FAILURE = "failure"
    """When anything failed after the first write could have been made."""


class Occasion(StrEnum):
    """What kind of deployment it is; Helm's hooks ask for it."""

    FIRST = "first"
    """The environment has nothing of an earlier one."""
    AGAIN = "again"
    ROLLBACK = "rollback"
    """The statement says so."""
    DELETION = "deletion"
    """Nothing of the environment is to be left."""
    REST = "rest of a deletion"
    """The same, where an earlier try ran what runs before it and may have deleted things since."""


DEPLOYMENTS = (Occasion.FIRST, Occasion.AGAIN, Occasion.ROLLBACK)
"""Occasions that bring objects."""


class Ending(StrEnum):
    """How a hook ended, where that decides whether its object is deleted."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hook:
    """What the annotations of one object say."""

    moments: Mapping[Occasion, frozenset[Moment]]
    """When it runs, for each occasion."""
    weight: int = 0
    """Those of one moment run in groups, the least first."""
    deleted_when: frozenset[Ending] = frozenset()
    """After which end its object is deleted; one that stays is replaced by the next run."""
    left_out: tuple[str, ...] = ()
    """Words of its annotation that name nothing that Fairlead does."""
    mistakes: tuple[tuple[str, str], ...] = ()
    """Annotations that nobody can read, each with what is wrong."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """One tool's annotations."""

    hook: str
    weight: str
    delete: str
    moments: Mapping[str, Mapping[Occasion, Moment]]
    endings: Mapping[str, Ending | None]
    """Words of `delete`; None for those that ask for what is done anyway."""
    kept: frozenset[str] = frozenset()
    """Words of an object that is no hook, but kept like any other."""
    ignored: frozenset[str] | None = frozenset()
    """Words for which nothing is done; None for all that are not in `moments`."""


def _always(moment: Moment) -> Mapping[Occasion, Moment]:
    return dict.fromkeys(DEPLOYMENTS, moment)


_BEFORE_DELETION = {Occasion.DELETION: Moment.BEFORE}
_AFTER_DELETION = {Occasion.DELETION: Moment.AFTER, Occasion.REST: Moment.AFTER}

_DIALECTS = (
    _Dialect(
        hook="fairlead.dev/hook",
        weight="fairlead.dev/hook-weight",
        delete="fairlead.dev/hook-delete",
        moments={
            **{moment.value: _always(moment) for moment in Moment},
            "before-delete": _BEFORE_DELETION,
            "after-delete": _AFTER_DELETION,
        },
        endings={"before": None, **{ending.value: ending for ending in Ending}},
    ),
    _Dialect(
        hook="argocd.argoproj.io/hook",
        weight="argocd.argoproj.io/sync-wave",
        delete="argocd.argoproj.io/hook-delete-policy",
        moments={
            "PreSync": _always(Moment.BEFORE),
            "PostSync": _always(Moment.AFTER),
            "SyncFail": _always(Moment.FAILURE),
            "PreDelete": _BEFORE_DELETION,
            "PostDelete": _AFTER_DELETION,
        },
        endings={"BeforeHookCreation": None, "HookSucceeded": Ending.SUCCEEDED, "HookFailed": Ending.FAILED},
        kept=frozenset({"Sync"}),
        ignored=frozenset({"Skip"}),
    ),
    _Dialect(
        hook="helm.sh/hook",
        weight="helm.sh/hook-weight",
        delete="helm.sh/hook-delete-policy",
        moments={
            "pre-install": {Occasion.FIRST: Moment.BEFORE},
            "post-install": {Occasion.FIRST: Moment.AFTER},
            "pre-upgrade": {Occasion.AGAIN: Moment.BEFORE},
            "post-upgrade": {Occasion.AGAIN: Moment.AFTER},
            "pre-rollback": {Occasion.ROLLBACK: Moment.BEFORE},
            "post-rollback": {Occasion.ROLLBACK: Moment.AFTER},
            "pre-delete": _BEFORE_DELETION,
            "post-delete": _AFTER_DELETION,
        },
        endings={"before-hook-creation": None, "hook-succeeded": Ending.SUCCEEDED, "hook-failed": Ending.FAILED},
        ignored=None,
    ),
)
"""
Source: https://helm.sh/docs/topics/charts_hooks/,
    https://argo-cd.readthedocs.io/en/stable/user-guide/sync-waves/,
    https://argo-cd.readthedocs.io/en/stable/user-guide/helm/#helm-hooks
"""


Stage = tuple[int, int]
"""(place of a moment among all, weight), in order; what is no hook is in (1, 0)."""
KEPT: Stage = (1, 0)
_RANKS = {Moment.BEFORE: 0, Moment.AFTER: 2, Moment.FAILURE: 3}


class BundleHooks:
    """
    The hooks of one bundle on one occasion.

    Args:
        hooks: Those of the bundle, by their place in it.
        occasion: What kind of deployment it is.
    """

    def __init__(self, hooks: Mapping[int, Hook], occasion: Occasion) -> None:
        self.occasion = occasion
        self._hooks = hooks
        self._moments = {place: hook.moments[occasion] for place, hook in hooks.items()}

    @property
    def of_deletion(self) -> bool:
        """Whether the environment is being deleted."""
        return self.occasion not in DEPLOYMENTS

    def __contains__(self, place: object) -> bool:
        """Whether the object of a place is a hook, or left out as one."""
        return place in self._hooks

    def __len__(self) -> int:
        return len(self._hooks)

    def __getitem__(self, place: int) -> Hook:
        """Return what the object of a place says."""
        return self._hooks[place]

    def __iter__(self) -> Iterator[int]:
        """Yield the places of all hooks."""
        return iter(self._hooks)

    def moments(self, place: int) -> frozenset[Moment]:
        """Return when a hook runs on this occasion."""
        return self._moments[place]

    def runs(self, place: int) -> bool:
        """Tell whether a hook has a moment on this occasion."""
        return bool(self._moments[place])

    def is_for_deletion(self, place: int) -> bool:
        """Tell whether a deployment leaves a hook for the deletion of its environment; none is left in a deletion."""
        return not self.of_deletion and bool(self._hooks[place].moments[Occasion.DELETION])

    def is_idle(self, place: int) -> bool:
        """Tell whether nothing is done with a hook in a deployment that goes well."""
        return self._moments[place] <= {Moment.FAILURE}

    def groups(self, moment: Moment) -> list[list[int]]:
        """Return the places of the hooks of one moment, in groups that run one after the other."""
        of_moment = [place for place in self._hooks if moment in self._moments[place]]
        weights = sorted({self._hooks[place].weight for place in of_moment})
        return [[place for place in of_moment if self._hooks[place].weight == weight] for weight in weights]

    def stages(self) -> dict[int, frozenset[Stage]]:
        """Return when each hook runs; at no time if it is left out."""
        return {
            place: frozenset((_RANKS[moment], self._hooks[place].weight) for moment in moments)
            for place, moments in self._moments.items()
        }

    def note(self, place: int) -> str:
        """Say in a few words what is done with a hook, or why nothing is."""
        hook, moments = self._hooks[place], self._moments[place]
        left_out = f"{', '.join(hook.left_out)} is nothing that Fairlead does" if hook.left_out else ""
        if moments:
            told = [told_moment(one, self.occasion) for one in Moment if one in moments]
            when = " and ".join(told) + (f", and {_told_deletion(hook)}" if self.is_for_deletion(place) else "")
            weight = f", weight {hook.weight}" if hook.weight else ""
            return f"hook: runs {when}{weight}" + (f"; {left_out}" if left_out else "")
        if self.of_deletion:
            return "hook: ran before deletion, in an earlier try"
        others = [said for one, said in _OCCASIONS.items() if hook.moments[one]]
        others += [_told_deletion(hook)] if self.is_for_deletion(place) else []
        return f"hook: runs only {' or '.join(others)}" if others else f"hook, left out: {left_out}"


_OCCASIONS = {
    Occasion.FIRST: "in a first deployment",
    Occasion.AGAIN: "when there was one before",
    Occasion.ROLLBACK: "in a rollback",
}


def told_moment(moment: Moment, occasion: Occasion) -> str:
    """Say when hooks of a moment run."""
    if moment is Moment.FAILURE:
        return "on failure"
    return str(moment) if occasion in DEPLOYMENTS else f"{moment} deletion"


def _told_deletion(hook: Hook) -> str:
    """Say at which moments of a deletion a hook runs; the relay looks for these words (docs/protocol.md)."""
    moments = hook.moments[Occasion.DELETION]
    return f"{' and '.join(one for one in Moment if one in moments)} deletion"


def is_hook(manifest: Manifest) -> bool:
    """Tell whether an object is a hook, or one that is left out: not what an environment keeps, nor drifts from."""
    return hook_of(manifest) is not None


def hook_of(manifest: Manifest) -> Hook | None:
    """Return what an object's annotations say of hooks; None if it is an object like any other."""
    annotations = manifest["metadata"].get("annotations")
    ref = ObjectRef.of(manifest)
    if not isinstance(annotations, Mapping) or (ref.group, ref.kind) in FOUNDING:
        return None
    for dialect in _DIALECTS:
        words = _words(annotations.get(dialect.hook))
        if words:
            return None if dialect.kept.issuperset(words) else _read(dialect, words, annotations)
    return None


def _read(dialect: _Dialect, words: list[str], annotations: Mapping[str, object]) -> Hook:
    mistakes: list[tuple[str, str]] = []
    moments: dict[Occasion, set[Moment]] = {occasion: set() for occasion in Occasion}
    left_out: list[str] = []
    for word in words:
        if word in dialect.moments:
            for occasion, moment in dialect.moments[word].items():
                moments[occasion].add(moment)
        elif dialect.ignored is None or word in dialect.ignored:
            left_out.append(word)
        elif word in dialect.kept:
            mistakes.append((dialect.hook, f"{word} keeps an object, and so goes with no other moment"))
        else:
            mistakes.append((dialect.hook, f"{word!r} is no moment; {_one_of(dialect.moments)}"))
    weight, deleted_when = _weight(dialect, annotations, mistakes), _deleted_when(dialect, annotations, mistakes)
    fixed = {occasion: frozenset(found) for occasion, found in moments.items()}
    return Hook(fixed, weight, deleted_when, tuple(left_out), tuple(mistakes))


def _weight(dialect: _Dialect, annotations: Mapping[str, object], mistakes: list[tuple[str, str]]) -> int:
    text = str(annotations.get(dialect.weight, 0))
    try:
        return int(text)
    except ValueError:
        mistakes.append((dialect.weight, f"{text!r} is no whole number"))
        return 0


def _deleted_when(
    dialect: _Dialect, annotations: Mapping[str, object], mistakes: list[tuple[str, str]]
) -> frozenset[Ending]:
    words = _words(annotations.get(dialect.delete))
    unknown = [word for word in words if word not in dialect.endings]
    mistakes += [(dialect.delete, f"{word!r} is not known; {_one_of(dialect.endings)}") for word in unknown]
    return frozenset(ending for word in words if (ending := dialect.endings.get(word)) is not None)


def _words(value: object) -> list[str]:
    return [word.strip() for word in str(value or "").split(",") if word.strip()]


def _one_of(words: Mapping[str, object]) -> str:
    return f"write {', '.join(words)}"
