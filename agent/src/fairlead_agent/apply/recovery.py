"""
Recovery: what an environment owns, found by the labels of the objects themselves, for when its inventory was lost.

Only kinds that the agent may list are looked at; of those that it could have written but may not list, a warning names
the missing rule. A label alone proves nothing, since controllers copy labels (an EndpointSlice has its Service's): an
object counts if this agent's own field manager applied the label, and no controller owns it. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.hooks import is_hook
from fairlead_agent.apply.inventory import OWNER_LABEL, Inventory, InventoryStore
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.client import FIELD_MANAGER, KubeClient
from fairlead_agent.kube.resources import Resource, verbs_for
from fairlead_agent.ports import DeployWork, OwnedObject
from fairlead_agent.together import together
from fairlead_shared.errors import ErrorCode


@dataclass(slots=True)
class Recovered:
    """What was found."""

    objects: list[OwnedObject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """Warnings: where nobody could look, and that the inventory was lost."""


async def load_or_recover(client: KubeClient, store: InventoryStore, work: DeployWork) -> tuple[Inventory, Recovered]:
    """
    Return what an environment owns, and what of it was found by labels, since its inventory, or a part of it, was lost.

    Raises: KubeError: the API server is away.
    """
    inventory, is_whole = await store.salvage(work.environment)
    # Before an environment's first deployment there is none, and nothing to look for either: a thousand of them must
    # not ask for everything. One that says it is not the first, in another cluster now, finds nothing and says nothing.
    is_new = work.statement.previous_bundle_sha256 is None and not work.statement.destroys
    if is_whole or (is_new and not inventory.marks):
        return inventory, Recovered()
    recovered = await recover(client, work)
    if not recovered.objects and not inventory.marks:
        return inventory, Recovered()
    return inventory.owns(recovered.objects), recovered


async def recover(client: KubeClient, work: DeployWork) -> Recovered:
    """
    Find what an environment owns in the namespaces of its deployment, and of cluster-scoped objects what it may write.

    Raises: KubeError: the API server is away.
    """
    served = _newest(await client.kinds())
    places: list[tuple[Resource, str, str]] = []
    recovered = Recovered()
    for namespace in work.statement.namespaces:
        rules = await client.rules(namespace)
        for resource in served:
            verbs = verbs_for(rules, resource)
            if not resource.namespaced or not verbs & {"patch", "*"}:
                continue
            if verbs & {"list", "*"}:
                places.append((resource, namespace, ""))
            else:
                missing = MissingRight("list", resource.group, resource.plural, namespace)
                recovered.findings.append(_unseen(missing))
    for rule in work.policy.cluster_scoped:
        found = [one for one in served if (one.group, one.kind) == (rule.group, rule.kind) and not one.namespaced]
        places += [(resource, "", name) for resource in found for name in rule.names]
    for one in await together(_look(client, work.environment.owner, *place) for place in places):
        if isinstance(one, Finding):
            recovered.findings.append(one)
        else:
            recovered.objects += one
    count = len(recovered.objects)
    message = f"the environment's inventory was lost; its labels name {count} object{'' if count == 1 else 's'}"
    recovered.findings.append(Finding(ErrorCode.WARNING, message, severity="warning"))
    return recovered


async def _look(
    client: KubeClient, owner: str, resource: Resource, namespace: str, name: str
) -> list[OwnedObject] | Finding:
    """Return what an owner has of one kind in one place, or why that cannot be seen."""
    found: list[dict[str, Any]] = []
    try:
        if name and not name.endswith("*"):
            live = await client.find(resource, namespace, name)
            found += [] if live is None else [live]
        else:
            token = ""
            while True:
                selector = f"{OWNER_LABEL}={owner}"
                page = await client.page(resource, namespace, token=token, label_selector=selector, names_only=True)
                found += page.items
                token = page.token
                if not token:
                    break
    except MissingRight as error:
        return _unseen(error)
    # What a list tells of an object is without its kind.
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [
        OwnedObject(
            ref=resource.ref(live),
            uid=live["metadata"]["uid"],
            hook=is_hook({**kind, "metadata": live["metadata"]}),
        )
        for live in found
        if live["metadata"]["name"].startswith(name.removesuffix("*")) and _is_made(live["metadata"], owner)
    ]


def _is_made(metadata: Mapping[str, Any], owner: str) -> bool:
    """Whether this agent put the owner's label there, and no controller has the object."""
    if (metadata.get("labels") or {}).get(OWNER_LABEL) != owner or metadata.get("deletionTimestamp"):
        return False
    if any(reference.get("controller") for reference in metadata.get("ownerReferences") or []):
        return False
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and f"f:{OWNER_LABEL}" in _labels_of(entry.get("fieldsV1") or {})
        for entry in metadata.get("managedFields") or []
    )


def _labels_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    labels: Mapping[str, Any] = ((fields.get("f:metadata") or {}).get("f:labels")) or {}
    return labels


def _newest(served: Sequence[Resource]) -> list[Resource]:
    """Return each kind once, in the version that the API server names first."""
    return list({(one.group, one.kind): one for one in reversed(served)}.values())


def _unseen(missing: MissingRight) -> Finding:
    """Say that objects of a kind are not in the rebuilt inventory, and so will not be pruned."""
    message = f"its objects cannot be found for a lost inventory: {missing}"
    return Finding(ErrorCode.FORBIDDEN, message, remedy=missing.rule_yaml(), severity="warning")
