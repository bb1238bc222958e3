"""
Deletion: the hooks that a deployment leaves for the deletion of its environment, and what of them a deletion runs.

As Helm keeps them with its release, the agent keeps them with its inventory: what runs was brought by a verified
deployment that succeeded, and nothing is taken from the relay any more. They are a bundle of their own, so that all
that proves and runs the hooks of a deployment proves and runs these, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.hooks import BundleHooks, Moment
from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import NAMESPACES
from fairlead_agent.ports import DeployWork
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.errors import ErrorCode
from fairlead_shared.statement import EMPTY_BUNDLE, Strategy

_REMEDY = "deploy it again, or delete it with --no-hooks"


def hooks_to_keep(hooks: BundleHooks, wanted: WantedObjects) -> Bundle:
    """Return the hooks that a deployment leaves, each in its settled namespace; the empty bundle for none."""
    return make_bundle(wanted[place] for place in hooks if hooks.is_for_deletion(place))


async def hooks_of_deletion(
    store: InventoryStore, inventory: Inventory, work: DeployWork
) -> tuple[Bundle, list[Finding]]:
    """
    Return what a deletion is to run, and what there is to say of it.

    Where it is not known any more, nothing may be deleted: what was to run before may be a backup. Where an agent of
    the version before deployed last, which left such hooks out, it is said and goes on as with that agent.

    Args:
        store: Where they are kept.
        inventory: The environment's; of one that was lost, what its labels say.
        work: The deletion.
    Raises: KubeError: the API server is away.
    """
    if work.statement.strategy is Strategy.DESTROY_WITHOUT_HOOKS:
        return EMPTY_BUNDLE, []
    kept = inventory.deletion_hooks
    if kept is not None:
        bundle = await store.kept_hooks(kept)
        if bundle is not None:
            return bundle, []
        message = f"its hooks that run at deletion are lost: ConfigMap {kept.part} is gone, or was changed"
        return EMPTY_BUNDLE, [Finding(ErrorCode.CONFLICT, message, remedy=_REMEDY)]
    if inventory.bundle_sha256 not in {"", EMPTY_BUNDLE.sha256}:
        message = "whether hooks run at deletion is not known: an agent of an earlier version deployed it"
        remedy = "deploy it again to have them run"
        return EMPTY_BUNDLE, [Finding(ErrorCode.WARNING, message, remedy=remedy, severity="warning")]
    has_run = work.statement.previous_bundle_sha256 is not None or not inventory.marks
    if inventory.objects and not inventory.bundle_sha256 and has_run:
        message = "whether hooks run at deletion is not known: its inventory was lost"
        return EMPTY_BUNDLE, [Finding(ErrorCode.CONFLICT, message, remedy=_REMEDY)]
    return EMPTY_BUNDLE, []


async def homeless_hooks(
    client: KubeClient, inventory: Inventory, hooks: BundleHooks, wanted: WantedObjects, ended: Collection[int]
) -> tuple[dict[int, str], list[Finding]]:
    """
    Return the hooks of a deletion that cannot run, as their namespace is gone or is being deleted.

    What runs after is left out: what it would clean up went with its namespace, and it could never run again. What
    runs before may be a backup: it is left out where nothing of the environment is anywhere else.

    Args:
        client: Of the cluster.
        inventory: The environment's.
        hooks: Those of the deletion.
        wanted: Their objects.
        ended: Those that ran already.
    Returns: Place → why, of those that are left out; and what there is to say of all of them.
    Raises: KubeError: the API server is away.
    """
    running = [place for place in hooks if hooks.runs(place) and place not in ended]
    gone = await _gone(client, {wanted.refs[place].namespace for place in running})
    if not gone:
        return {}, []
    gone |= await _gone(client, {owned.ref.namespace for owned in inventory.objects} - gone.keys())
    left = [owned.ref for owned in inventory.objects if owned.ref.namespace and owned.ref.namespace not in gone]
    homeless: dict[int, str] = {}
    findings: list[Finding] = []
    for place in running:
        ref = wanted.refs[place]
        if ref.namespace in gone and left and Moment.BEFORE in hooks.moments(place):
            message = f"it is to run before {left[0]} is deleted, and {gone[ref.namespace]}"
            findings.append(Finding(ErrorCode.CONFLICT, message, ref, remedy=_REMEDY))
        elif ref.namespace in gone:
            homeless[place] = f"it does not run: {gone[ref.namespace]}"
            findings.append(Finding(ErrorCode.WARNING, homeless[place], ref, severity="warning"))
    return homeless, findings


async def _gone(client: KubeClient, namespaces: Iterable[str]) -> dict[str, str]:
    """Map namespaces in which nothing can be made any more to why; where that may not be asked, the proof tells."""
    gone = {}
    for name in sorted(set(namespaces) - {""}):
        try:
            live = await client.find(NAMESPACES, "", name)
        except MissingRight:
            continue
        if live is None:
            gone[name] = f"namespace {name} is gone"
        elif live["metadata"].get("deletionTimestamp"):
            gone[name] = f"namespace {name} is being deleted"
    return gone
