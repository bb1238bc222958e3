"""What a deletion is to run: of what was kept, of what is lost, and of what an earlier agent left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.deletion import homeless_hooks, hooks_of_deletion, hooks_to_keep
from fairlead_agent.apply.hooks import BundleHooks, Occasion
from fairlead_agent.apply.inventory import NO_HOOKS, Inventory, InventoryStore, KeptHooks
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import NAMESPACES, Resource
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployWork, OwnedObject, ReplayMark
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.objects import ObjectRef
from fairlead_shared.statement import EMPTY_BUNDLE, Strategy
from tests.unit.agent.apply.statements import statement
from tests.unit.agent.apply.test_hook_proof import job
from tests.unit.agent.apply.test_inventory import KEY, MemoryState, owned
from tests.unit.agent.apply.test_wanted import config_map, wanted

SOME = "a" * 64
MARK = ReplayMark("01", finished=True)


def work(**changes: Any) -> DeployWork:  # noqa: ANN401  (fields of a model)
    """Return a deletion."""
    stated = statement(**{"strategy": Strategy.DESTROY, **changes})
    return DeployWork(stated, EMPTY_BUNDLE, Policy(), lambda *_: {}, 1.0)


def test_hooks_of_a_deletion_are_left_as_the_bundle_has_them() -> None:
    """Secrets sealed, namespaces settled; nothing else of the bundle, and nothing by a deletion."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop", "annotations": {"helm.sh/hook": "pre-delete"}},
        "sealedData": {"password": "p"},
    }
    backup = job("before-delete")
    objects = wanted(config_map(namespace="shop"), secret, backup)
    assert hooks_to_keep(BundleHooks(objects.hooks, Occasion.FIRST), objects) == make_bundle([secret, backup])
    assert hooks_to_keep(BundleHooks(objects.hooks, Occasion.DELETION), objects) == EMPTY_BUNDLE


async def found(inventory: Inventory, deletion: DeployWork, state: MemoryState) -> tuple[Bundle, list[str]]:
    """Return what a deletion runs, and what is said, each with its severity."""
    bundle, findings = await hooks_of_deletion(InventoryStore(state), inventory, deletion)
    return bundle, [f"{one.severity}: {one.message}" for one in findings]


async def test_what_was_kept_runs() -> None:
    """Unless whoever deletes said without."""
    state, hooks = MemoryState(), make_bundle([job("before-delete")])
    kept = await InventoryStore(state).keep_hooks(KEY, hooks)
    inventory = Inventory(bundle_sha256=SOME, deletion_hooks=kept)
    assert await found(inventory, work(), state) == (hooks, [])
    assert await found(inventory, work(strategy=Strategy.DESTROY_WITHOUT_HOOKS), state) == (EMPTY_BUNDLE, [])
    state.objects.clear()
    lost = f"error: its hooks that run at deletion are lost: ConfigMap {kept.part} is gone, or was changed"
    assert await found(inventory, work(), state) == (EMPTY_BUNDLE, [lost])
    assert await found(inventory, work(strategy=Strategy.DESTROY_WITHOUT_HOOKS), state) == (EMPTY_BUNDLE, [])


EARLIER = "warning: whether hooks run at deletion is not known: an agent of an earlier version deployed it"
LOST = "error: whether hooks run at deletion is not known: its inventory was lost"
OWNED = (owned("a", "1"),)


@pytest.mark.parametrize(
    ("inventory", "previous", "says"),
    [
        (Inventory(), None, []),
        (Inventory(marks=(MARK,), bundle_sha256=SOME, deletion_hooks=NO_HOOKS), SOME, []),
        (Inventory(marks=(MARK,), bundle_sha256=SOME, objects=OWNED), SOME, [EARLIER]),
        (Inventory(marks=(MARK,), bundle_sha256=str(EMPTY_BUNDLE.sha256)), None, []),
        # Never deployed with success: what the one that failed left is deleted.
        (Inventory(marks=(MARK,), objects=OWNED), None, []),
        # Found by labels; or found so by a deployment that failed then.
        (Inventory(objects=OWNED), None, [LOST]),
        (Inventory(objects=OWNED), SOME, [LOST]),
        (Inventory(marks=(MARK,), objects=OWNED), SOME, [LOST]),
        # In this cluster there is nothing.
        (Inventory(), SOME, []),
    ],
)
async def test_what_is_not_known_is_said(inventory: Inventory, previous: str | None, says: list[str]) -> None:
    """Where it was known once nothing may be deleted, since a backup may be what was to run."""
    assert await found(inventory, work(previous_bundle_sha256=previous), MemoryState()) == (EMPTY_BUNDLE, says)


async def test_a_part_lost_with_its_objects_is_no_lost_head() -> None:
    """The head still says what runs."""
    inventory = replace(Inventory(objects=OWNED), deletion_hooks=KeptHooks(SOME, "gone"))
    assert [said[:5] for said in (await found(inventory, work(), MemoryState()))[1]] == ["error"]


class _Namespaces(KubeClient):
    """A client with the namespaces `shop` and `leaving`, that may not ask for `locked`."""

    def __init__(self) -> None:
        super().__init__(ClusterAccess("https://none.invalid", Path("ca.crt"), Path("token")))

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a namespace."""
        assert (resource, namespace) == (NAMESPACES, "")
        if name == "locked":
            raise MissingRight("get", "", "namespaces", "")
        found = {"shop": {"name": "shop"}, "leaving": {"name": "leaving", "deletionTimestamp": "2026-11-30T00:00:00Z"}}
        return {"metadata": found[name]} if name in found else None


def owning(namespace: str) -> Inventory:
    """Return the inventory of an environment with one ConfigMap, and with the namespace that it made."""
    refs = [
        ObjectRef(api_version="v1", kind="ConfigMap", namespace=namespace, name="a"),
        ObjectRef(api_version="v1", kind="Namespace", namespace="", name="gone"),
    ]
    return Inventory(objects=tuple(OwnedObject(ref=ref) for ref in refs))


GONE, LEAVING = "namespace gone is gone", "namespace leaving is being deleted"
TO_RUN = "it is to run before ConfigMap shop/a is deleted, and namespace gone is gone"


@pytest.mark.parametrize(
    ("moment", "where", "inventory", "says", "is_left_out"),
    [
        ("after-delete", "shop", owning("shop"), [], False),
        ("after-delete", "locked", owning("shop"), [], False),
        ("after-delete", "gone", owning("shop"), [f"warning: it does not run: {GONE}"], True),
        ("after-delete", "leaving", owning("shop"), [f"warning: it does not run: {LEAVING}"], True),
        ("before-delete", "gone", owning("gone"), [f"warning: it does not run: {GONE}"], True),
        ("before-delete", "gone", owning("leaving"), [f"warning: it does not run: {GONE}"], True),
        # It may be the backup of what is there.
        ("before-delete", "gone", owning("shop"), [f"error: {TO_RUN}"], False),
    ],
)
async def test_a_hook_whose_namespace_is_gone_is_told(
    moment: str, where: str, inventory: Inventory, says: list[str], *, is_left_out: bool
) -> None:
    """It is left out where what it would work on went with its namespace; else nothing may be deleted."""
    hook = job(moment)
    hook["metadata"]["namespace"] = where
    objects = wanted(hook)
    hooks = BundleHooks(objects.hooks, Occasion.DELETION)
    homeless, findings = await homeless_hooks(_Namespaces(), inventory, hooks, objects, ())
    assert [f"{one.severity}: {one.message}" for one in findings] == says
    assert bool(homeless) is is_left_out
    assert await homeless_hooks(_Namespaces(), inventory, hooks, objects, {0}) == ({}, []), "what ran needs no home"
