"""
What can be said of hooks before anything is written, beside their dry-run: it would come too late, or never.

Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.hooks import RUNS, BundleHooks, Moment
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.references import named_by
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS, Right
from fairlead_agent.together import together
from fairlead_shared.errors import ErrorCode
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


async def unreadable_logs(client: KubeClient, hooks: BundleHooks, wanted: WantedObjects) -> list[Finding]:
    """
    Warn where the log of a hook that fails could not be read.

    Raises: KubeError: temporary ones.
    """
    ran = (wanted.refs[place] for place in hooks if hooks.runs(place))
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
