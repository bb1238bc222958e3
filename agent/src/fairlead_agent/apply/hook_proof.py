"""
What can be said of hooks before anything is written, beside their dry-run: it would come too late, or never.

Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fairlead_agent.apply.deletion import hooks_to_keep
from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.graph import Graph
from fairlead_agent.apply.hooks import RUNS, BundleHooks, Moment, Occasion
from fairlead_agent.apply.inventory import MOST_HOOK_BYTES
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.prune import keeping_annotation
from fairlead_agent.apply.references import named_by
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS, Right
from fairlead_agent.together import together
from fairlead_shared.errors import BundleInvalid, ErrorCode
from fairlead_shared.progress import Action

LOGS = f"{PODS.plural}/log"


def misread(hooks: BundleHooks, wanted: WantedObjects) -> Iterator[Finding]:
    """Yield what is wrong with annotations of hooks."""
    for place in hooks:
        for annotation, what in hooks[place].mistakes:
            field = f'metadata.annotations["{annotation}"]'
            yield Finding(ErrorCode.INVALID_OBJECT, what, wanted.refs[place], field=field)


def too_early(hooks: BundleHooks, wanted: WantedObjects, planned: Mapping[int, Planned]) -> Iterator[Finding]:
    """Warn of hooks that run before something that they name is there, and would wait for it in vain."""
    kept = {
        wanted.refs[place].identity: place
        for place, one in planned.items()
        if place not in hooks and one.action is Action.CREATED
    }
    for group in hooks.groups(Moment.BEFORE) if kept else ():
        for place in group:
            for place_of_named in sorted({kept[named] for named in named_by(wanted[place]) if named in kept}):
                named = wanted.refs[place_of_named]
                message = f"it runs before {named} is there, which it names"
                remedy = f"make {named} a hook of the same moment and a lower weight"
                yield Finding(ErrorCode.WARNING, message, wanted.refs[place], remedy=remedy, severity="warning")


def unfit_for_deletion(hooks: BundleHooks, wanted: WantedObjects) -> Iterator[Finding]:
    """Yield why what a deployment leaves for its environment's deletion could not run then, or not well."""
    places = [place for place in hooks if hooks.is_for_deletion(place)]
    if not places:
        return
    try:
        size = len(hooks_to_keep(hooks, wanted).content)
    except BundleInvalid as error:  # two of one name, as one says no namespace
        yield Finding(error.code, f"its hooks that run at deletion: {error.reason}", wanted.refs[places[0]])
        return
    if size > MOST_HOOK_BYTES:
        message = f"the hooks that run at deletion have {size:,} bytes, and at most {MOST_HOOK_BYTES:,} are kept"
        yield Finding(ErrorCode.TOO_LARGE, message, wanted.refs[places[0]])
    then = BundleHooks({at: hooks[place] for at, place in enumerate(places)}, Occasion.DELETION)
    graph = Graph([wanted[place] for place in places], then.stages())
    for finding in graph.findings():
        remedy = "what it waits for has to be a hook of the deletion, too" if finding.field else ""
        yield replace(finding, message=f"at deletion {finding.message}", remedy=remedy)
    yield from _too_late([places[at] for group in then.groups(Moment.AFTER) for at in group], places, wanted)


def _too_late(after: Sequence[int], kept: Sequence[int], wanted: WantedObjects) -> Iterator[Finding]:
    """Warn of hooks that run after deletion and name something that is deleted by then."""
    left = {wanted.refs[place].identity for place in kept}
    by_identity = {ref.identity: place for place, ref in enumerate(wanted.refs) if ref.identity not in left}
    for place in after:
        for named in sorted({named for named in named_by(wanted[place]) if named in by_identity}):
            gone = wanted.refs[by_identity[named]]
            if not keeping_annotation(wanted[by_identity[named]]):
                message = f"it runs after {gone} is deleted, which it names"
                remedy = f"make {gone} a hook of the same moment and a lower weight"
                yield Finding(ErrorCode.WARNING, message, wanted.refs[place], remedy=remedy, severity="warning")


async def unreadable_logs(client: KubeClient, hooks: BundleHooks, wanted: WantedObjects) -> list[Finding]:
    """
    Warn where the log of a hook that fails could not be read.

    Raises: KubeError: temporary ones.
    """
    ran = (wanted.refs[place] for place in hooks if hooks.runs(place) or hooks.is_for_deletion(place))
    namespaces = sorted({ref.namespace for ref in ran if (ref.group, ref.kind) in RUNS})
    allowed = await together(_may_read(client, namespace) for namespace in namespaces)
    missing = [MissingRight("get", "", LOGS, where) for where, may in zip(namespaces, allowed, strict=True) if not may]
    return [
        Finding(
            one.code,
            f"the reason of a hook that fails will be without its log: {one}",
            remedy=one.rule_yaml(),
            severity="warning",
        )
        for one in missing
    ]


async def _may_read(client: KubeClient, namespace: str) -> bool:
    try:
        return await client.may(Right(namespace, "", LOGS, "", "get"))
    except MissingRight:
        return True  # it may not even ask: the log itself will tell
