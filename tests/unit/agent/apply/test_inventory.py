"""Inventories over a store that keeps versions as the API server does."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from fairlead_agent.apply.inventory import NO_HOOKS, Inventory, InventoryStore, KeptHooks
from fairlead_agent.errors import AlreadyExists, Conflict, NotFound, Unexpected
from fairlead_agent.ports import Ended, EnvironmentKey, OwnedObject, ReplayMark, StateKind
from fairlead_shared.bundle import make_bundle
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Outcome, ResultEvent
from fairlead_shared.statement import EMPTY_BUNDLE

KEY = EnvironmentKey("acme", "shop", "staging")
HEAD = f"fairlead-environment-{KEY.owner}"


@dataclass(slots=True)
class MemoryState:
    """Objects with versions; `dies_at` raises at that write, as a killed process would stop."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: int = 0
    reads: int = 0
    dies_at: int = 0
    before_update: Callable[[], Awaitable[None]] | None = None
    """Called once, before the next update."""
    after_read: Callable[[], Awaitable[object]] | None = None
    """Called once, after the next read and before its answer."""

    async def read(self, kind: StateKind, name: str) -> dict[str, Any] | None:
        """Return a copy of the object."""
        self.reads += 1
        found = self.objects.get(name)
        if self.after_read is not None:
            hook, self.after_read = self.after_read, None
            await hook()
        return None if found is None else {**found, "metadata": dict(found["metadata"])}

    async def select(self, kind: StateKind, label_selector: str, *, names_only: bool = False) -> list[dict[str, Any]]:
        """Return the objects with one label."""
        label, wanted, value = label_selector.partition("=")
        return [
            {"metadata": one["metadata"]} if names_only else one
            for one in self.objects.values()
            if label in (labels := one["metadata"].get("labels", {})) and (not wanted or labels[label] == value)
        ]

    async def create(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create unless there."""
        self._write()
        name = manifest["metadata"]["name"]
        if name in self.objects:
            raise AlreadyExists(name)
        return self._store(name, manifest)

    async def update(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace at the version given."""
        if self.before_update is not None:
            hook, self.before_update = self.before_update, None
            await hook()
        self._write()
        name = manifest["metadata"]["name"]
        if name not in self.objects:
            raise NotFound(name)
        if self.objects[name]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise Conflict(name)
        return self._store(name, manifest)

    async def delete(self, kind: StateKind, name: str, resource_version: str = "") -> None:
        """Delete if there."""
        self._write()
        live = self.objects.get(name)
        if live is not None and resource_version not in ("", live["metadata"]["resourceVersion"]):
            raise Conflict(name)
        self.objects.pop(name, None)

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise KeyboardInterrupt

    def _store(self, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        stored = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.writes)}}
        self.objects[name] = stored
        return stored


def owned(name: str, uid: str = "") -> OwnedObject:
    """Return an entry for a ConfigMap."""
    return OwnedObject(ref=ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name=name), uid=uid)


def ended(attempt: int, outcome: Outcome = Outcome.SUCCEEDED, cause: str = "") -> Ended:
    """Return how an attempt ended."""
    return Ended(attempt, ResultEvent(key="result", at=1, outcome=outcome, cause=cause))


async def _finish(store: InventoryStore) -> None:
    await store.finish(KEY, "01", ended(1))


MANY = [owned(f"{'x' * 200}{number}", uid=f"uid-{number}") for number in range(1600)]


async def test_environment_without_deployment_owns_nothing() -> None:
    """Reading makes nothing."""
    state = MemoryState()
    assert await InventoryStore(state).load(KEY) == Inventory()
    assert state.writes == 0


async def test_what_is_stored_is_loaded_again() -> None:
    """Objects, marks and the last bundle survive."""
    store = InventoryStore(MemoryState())
    mark = ReplayMark("01", finished=True, not_before=5)
    stored = await store.change(KEY, lambda old: old.owns([owned("a", "1")]).marked(mark))
    assert await store.load(KEY) == stored
    assert await store.marks(KEY) == (mark,)


async def test_unchanged_inventory_is_not_written() -> None:
    """A deployment that changes nothing costs nothing."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns([owned("a", "1")]))
    await store.change(KEY, lambda old: old.owns([owned("a", "1")]))
    assert state.writes == 1


async def test_change_is_made_again_when_somebody_was_faster() -> None:
    """Both changes are in the end."""
    state = MemoryState()
    store, other = InventoryStore(state), InventoryStore(state)
    await store.change(KEY, lambda old: old.owns([owned("a")]))
    calls = 0

    def edit(old: Inventory) -> Inventory:
        nonlocal calls
        calls += 1
        return old.owns([owned("mine")])

    async def faster() -> None:
        await other.change(KEY, lambda old: old.owns([owned("theirs")]))

    state.before_update = faster
    await store.change(KEY, edit)
    assert calls == 2
    assert {one.ref.name for one in (await store.load(KEY)).objects} == {"a", "mine", "theirs"}


async def test_long_list_is_kept_in_parts_below_the_limit() -> None:
    """No part passes 512 KiB, and all objects come back."""
    state = MemoryState()
    store = InventoryStore(state)
    stored = await store.change(KEY, lambda old: old.owns(MANY))
    assert len(state.objects) > 2
    assert all(len(one["data"].get("objects", "")) < 512 * 1024 for one in state.objects.values())
    assert await store.load(KEY) == stored
    assert len(stored.objects) == 1600


async def test_parts_that_stay_as_they_are_are_not_written_again() -> None:
    """Only the head is: the same list of thousands would be sent twice or thrice by each deployment."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns(MANY))
    names, writes = set(state.objects), state.writes
    await store.change(KEY, lambda old: old.owns(MANY).marked(ReplayMark("d1", finished=True, not_before=1)))
    assert set(state.objects) == names
    assert state.writes == writes + 1


async def test_names_and_uids_that_were_read_are_kept_by_nobody_else() -> None:
    """Pydantic would remember 16,384 strings that it read, whoever needs them."""
    state = MemoryState()
    await InventoryStore(state).change(KEY, lambda old: old.owns([owned("name-of-one", "uid-of-one")]))
    (one,), (other,) = [(await InventoryStore(state).load(KEY)).objects for _ in range(2)]
    assert one == other
    assert one.uid is not other.uid


async def test_parts_of_an_older_list_are_removed() -> None:
    """Back to one object, nothing is left behind."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns(MANY))
    await store.change(KEY, lambda old: old.without(MANY[1:]))
    assert list(state.objects) == [HEAD]


@pytest.mark.parametrize("dies_at", range(1, 9))
async def test_killed_while_it_writes_parts_the_old_or_the_new_list_is_there(dies_at: int) -> None:
    """The head is the commit point; parts that nobody names are removed by the next change."""
    state = MemoryState()
    store = InventoryStore(state)
    before = await store.change(KEY, lambda old: old.owns(MANY))
    after = before.without(MANY[:10])
    state.writes, state.dies_at = 100, 100 + dies_at
    try:
        await store.change(KEY, lambda _: after)
    except KeyboardInterrupt:
        assert await store.load(KEY) in (before, after)
    state.dies_at = 0
    await store.change(KEY, lambda _: after)
    final = await store.change(KEY, lambda old: old.owns([owned("one-more")]))
    assert await store.load(KEY) == final
    head = state.objects[HEAD]
    assert {name for name in state.objects if name != HEAD} == set(_names(head))


async def test_missing_part_is_said_instead_of_forgotten() -> None:
    """An inventory that lost a part must not look like a short one: prune would not find what was ours."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns(MANY))
    del state.objects[_names(state.objects[HEAD])[0]]
    with pytest.raises(Unexpected, match="is missing"):
        await store.load(KEY)
    with pytest.raises(Unexpected, match="is missing"):
        await store.change(KEY, lambda inventory: inventory.owns([owned("new")]))
    found, is_whole = await store.salvage(KEY)
    assert (0 < len(found.objects) < len(MANY), is_whole) == (True, False)
    assert await store.marks(KEY) == ()
    healed = await store.change(KEY, lambda inventory: inventory.owns(MANY), salvages=True)
    assert healed.objects == (await store.load(KEY)).objects
    assert await store.salvage(KEY) == (healed, True)


async def test_head_of_another_environment_is_not_taken() -> None:
    """Twelve hex digits could meet; the full name decides."""
    state = MemoryState()
    await InventoryStore(state).change(KEY, lambda old: old.owns([owned("a")]))
    state.objects[HEAD]["data"]["environment"] = "acme/other/staging"
    with pytest.raises(Unexpected, match="is not the inventory of"):
        await InventoryStore(state).load(KEY)


async def test_begun_deployment_is_finished_once_known() -> None:
    """A deployment that never began leaves no mark."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.marked(ReplayMark("01", finished=False, not_before=7)))
    assert await store.finish(KEY, "02", ended(1)) is None
    failed = ended(2, Outcome.FAILED)
    assert await store.finish(KEY, "01", failed) == failed.result
    assert await store.marks(KEY) == (
        ReplayMark("01", finished=False, not_before=7, ended_attempt=2, result=failed.result),
    )
    # A version that knows nothing of attempts reads the rest.
    assert json.loads(state.objects[HEAD]["data"]["marks"]) == [
        {"deployment_id": "01", "finished": False, "not_before": 7}
    ]
    await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False, not_before=7)))
    await store.finish(KEY, "01", ended(3))
    assert await store.marks(KEY) == (
        ReplayMark("01", finished=True, not_before=7, ended_attempt=3, result=ended(3).result),
    )


async def test_how_an_attempt_ended_is_noted_once() -> None:
    """What is said later of the same attempt, or of an earlier one, changes nothing; a later attempt does."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    failed, done = ended(2, Outcome.FAILED), ended(3)
    await store.finish(KEY, "01", failed)
    writes = state.writes
    assert await store.finish(KEY, "01", ended(2)) == failed.result
    assert await store.finish(KEY, "01", ended(1)) is None
    assert state.writes == writes
    assert await store.finish(KEY, "01", done) == done.result
    # The job went on under the number of a later attempt, when it had succeeded already.
    assert await InventoryStore(state).finish(KEY, "01", ended(4, Outcome.CANCELLED)) == done.result
    assert await store.finish(KEY, "01", failed) is None
    assert state.writes == writes + 1


async def test_only_the_newest_deployment_has_its_result_in_the_inventory() -> None:
    """It is held for a job whose end nobody may have heard of; that of another shows that somebody has."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    await store.finish(KEY, "01", ended(1))
    await store.change(KEY, lambda old: old.begun(ReplayMark("02", finished=False)))
    assert await store.marks(KEY) == (
        ReplayMark("01", finished=True, ended_attempt=1),
        ReplayMark("02", finished=False),
    )
    assert "result" not in state.objects[HEAD]["data"]
    assert await store.finish(KEY, "01", ended(1)) is None
    long = ended(1, Outcome.FAILED, "€" * 4096)
    assert await store.finish(KEY, "02", long) == long.result
    assert len(state.objects[HEAD]["data"]["result"].encode()) < 16 * 1024


async def test_what_an_agent_of_the_version_before_noted_has_no_result() -> None:
    """It knows of none, and drops what it does not know with its next change."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    await store.finish(KEY, "01", ended(1, Outcome.FAILED))
    del state.objects[HEAD]["data"]["result"]
    assert await store.marks(KEY) == (ReplayMark("01", finished=False, ended_attempt=1),)
    # Its job goes on here, from its checkpoint, to an end that the mark does not hold.
    assert await store.finish(KEY, "01", ended(1, Outcome.FAILED)) is None


async def test_job_reads_its_inventory_once() -> None:
    """From its marks to the watch for drift after it, each change starts from what is known."""
    state = MemoryState()
    store = InventoryStore(state)
    assert await store.marks(KEY) == ()
    assert await store.salvage(KEY) == (Inventory(), False)
    await store.change(KEY, lambda old: old.owns([owned("a")]).begun(ReplayMark("01", finished=False)))
    await store.change(KEY, lambda old: old.owns([owned("a", "1")]))
    await store.finish(KEY, "01", ended(1))
    left = await store.left(KEY)
    assert (state.reads, state.writes) == (1, 3)
    assert left == await InventoryStore(state).load(KEY)


async def test_job_of_an_environment_without_inventory_reads_none() -> None:
    """A leader that claimed all there were knows of each new one; from then on it is read as every other."""
    state = MemoryState()
    other = EnvironmentKey("acme", "shop", "production")
    await InventoryStore(state).change(other, lambda old: old.begun(ReplayMark("01", finished=True)))
    store = InventoryStore(state)
    await store.claim("replica-a/1")
    reads = state.reads
    assert await store.marks(KEY) == ()
    assert await store.salvage(KEY) == (Inventory(), False)
    await store.change(KEY, lambda old: old.begun(ReplayMark("02", finished=False)))
    assert state.reads == reads
    assert [mark.deployment_id for mark in await store.marks(other)] == ["01"]
    await InventoryStore(state).finish(KEY, "02", ended(1))
    assert await store.marks(KEY) == (ReplayMark("02", finished=True, ended_attempt=1, result=ended(1).result),)


async def test_inventory_that_a_former_leader_made_late_is_met_by_the_first_change() -> None:
    """It was not there to be claimed: the change is made again on what is there now, of which the marks tell."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.claim("replica-b/2")
    assert await store.marks(KEY) == ()
    await InventoryStore(state).change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    seen: list[Inventory] = []

    def edit(old: Inventory) -> Inventory:
        seen.append(old)
        return old.begun(ReplayMark("02", finished=False))

    await store.change(KEY, edit)
    assert [[mark.deployment_id for mark in old.marks] for old in seen] == [[], ["01"]]
    assert [mark.deployment_id for mark in await store.marks(KEY)] == ["01", "02"]


async def test_answer_to_the_making_of_an_inventory_may_be_lost() -> None:
    """It may be there from then on, so that it is read."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.claim("replica-a/1")
    assert await store.marks(KEY) == ()
    state.dies_at = state.writes + 1
    with pytest.raises(KeyboardInterrupt):
        await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    state.dies_at = 0
    await InventoryStore(state).change(KEY, lambda old: old.begun(ReplayMark("01", finished=True)))
    assert await store.marks(KEY) == (ReplayMark("01", finished=True),)


async def test_what_another_changed_or_removed_is_seen_by_the_next_job() -> None:
    """Only what this very job read stands for what is there, and even that not for a change."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns([owned("a")]))
    await InventoryStore(state).change(KEY, lambda old: old.owns([owned("b")]))
    after = await store.change(KEY, lambda old: old.owns([owned("c")]))
    assert [one.ref.name for one in after.objects] == ["a", "b", "c"]
    state.objects.clear()
    assert await store.salvage(KEY) == (Inventory(), False)
    assert await store.marks(KEY) == ()


@pytest.mark.parametrize("asked", ["marks", "salvage"])
async def test_what_was_read_while_it_changed_is_not_what_was_left(asked: str) -> None:
    """A plan, or the offer of the next job, reads while a job ends: drift would be told that the job did not end."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.begun(ReplayMark("01", finished=False)))
    state.after_read = lambda: _finish(store)
    await (store.marks(KEY) if asked == "marks" else store.salvage(KEY))
    assert await store.left(KEY) == await InventoryStore(state).load(KEY)


async def test_what_somebody_took_away_is_not_what_was_left() -> None:
    """Once it was seen that it is gone."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns([owned("a")]))
    state.objects.clear()
    assert await store.environments() == []
    assert await store.left(KEY) == Inventory()


async def test_no_more_is_kept_in_memory_than_is_worth_it() -> None:
    """Long inventories, and those of environments long past, are read again."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns(MANY))
    for number in range(200):
        environment = EnvironmentKey("acme", "shop", f"staging-{number}")
        await store.change(environment, lambda old: old.owns([owned("a")]))
    reads = state.reads
    for environment in (KEY, EnvironmentKey("acme", "shop", "staging-0")):
        await store.left(environment)
    assert state.reads > reads + 1
    await store.left(EnvironmentKey("acme", "shop", "staging-199"))
    assert state.reads == reads + 1 + 1 + len(json.loads(state.objects[HEAD]["data"]["shards"]))


def test_known_uid_is_not_forgotten_for_an_unknown_one() -> None:
    """A resumed attempt lists its intent again."""
    inventory = Inventory().owns([owned("a", "1")]).owns([owned("a")])
    assert inventory.objects[0].uid == "1"
    assert inventory.owns([owned("a", "2")]).objects[0].uid == "2"


def test_marks_are_kept_in_order_and_bounded() -> None:
    """The newest stay; a mark that changes keeps its place."""
    inventory = Inventory()
    for number in range(40):
        inventory = inventory.marked(ReplayMark(f"{number:02}", finished=False))
    inventory = inventory.marked(ReplayMark("20", finished=True))
    assert [mark.deployment_id for mark in inventory.marks] == [f"{number:02}" for number in range(8, 40)]
    assert [mark.deployment_id for mark in inventory.marks if mark.finished] == ["20"]


def _names(head: Mapping[str, Any]) -> list[str]:
    return list(json.loads(head["data"]["shards"]))


async def test_new_leader_writes_its_name_into_every_inventory_and_nothing_else() -> None:
    """What an earlier leader read before is no longer current; parts are no inventories."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns([owned(f"object-{number:05d}", "1" * 36) for number in range(6000)]))
    parts = [name for name in state.objects if name != HEAD]
    before = {name: dict(one["metadata"]) for name, one in state.objects.items()}
    await InventoryStore(state).claim("replica-b/2")
    after = state.objects[HEAD]["metadata"]
    assert after["annotations"]["fairlead.dev/leader"] == "replica-b/2"
    assert after["resourceVersion"] != before[HEAD]["resourceVersion"]
    assert parts
    assert all(state.objects[name]["metadata"] == before[name] for name in parts)
    assert len((await store.load(KEY)).objects) == 6000


async def test_write_of_an_earlier_leader_conflicts_after_the_claim() -> None:
    """It was on its way when the new leader took over: compare-and-set refuses it."""
    state = MemoryState()
    earlier = InventoryStore(state)
    await earlier.change(KEY, lambda old: old.owns([owned("a", "1")]))
    conflicts = []

    async def take_over() -> None:
        await InventoryStore(state).claim("replica-b/2")
        conflicts.append(state.objects[HEAD]["metadata"]["resourceVersion"])

    state.before_update = take_over
    writes = state.writes
    await earlier.change(KEY, lambda old: old.owns([owned("b", "2")]))
    assert conflicts
    assert state.writes == writes + 3, "the claim, the refused write and the write at the new version"


async def test_parts_of_two_leaders_never_share_a_name() -> None:
    """So a late delete of an earlier leader cannot hit what a newer head names."""
    state = MemoryState()
    many = [owned(f"object-{number:05d}", "1" * 36) for number in range(6000)]
    await InventoryStore(state).change(KEY, lambda old: old.owns(many))
    first = set(state.objects) - {HEAD}
    await InventoryStore(state).change(KEY, lambda old: replace(old, bundle_sha256="f" * 64))
    assert not first & set(state.objects)
    assert len((await InventoryStore(state).load(KEY)).objects) == 6000


HOOK = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "backup", "namespace": "shop"}}


async def keep(store: InventoryStore, *manifests: dict[str, Any]) -> KeptHooks:
    """Have an inventory name hooks for its environment's deletion."""
    kept = await store.keep_hooks(KEY, make_bundle(manifests))
    await store.change(KEY, lambda old: replace(old, deletion_hooks=kept))
    return kept


async def test_hooks_of_a_deletion_are_kept_until_others_are() -> None:
    """In a part of their own, which goes when nobody names it any more."""
    state = MemoryState()
    first = await keep(InventoryStore(state), HOOK)
    inventory = await InventoryStore(state).load(KEY)
    assert inventory.deletion_hooks == first
    assert await InventoryStore(state).kept_hooks(first) == make_bundle([HOOK])
    assert set(state.objects) == {HEAD, first.part}
    second = await keep(InventoryStore(state), HOOK, HOOK | {"kind": "CronJob"})
    assert set(state.objects) == {HEAD, second.part}
    assert await InventoryStore(state).kept_hooks(first) is None
    assert await keep(InventoryStore(state)) == NO_HOOKS
    assert set(state.objects) == {HEAD}
    assert await InventoryStore(state).kept_hooks(NO_HOOKS) == EMPTY_BUNDLE


async def test_hooks_stay_beside_parts_of_objects() -> None:
    """A large inventory removes old parts, and no kept hooks."""
    state = MemoryState()
    kept = await keep(InventoryStore(state), HOOK)
    store = InventoryStore(state)
    await store.change(KEY, lambda old: old.owns(MANY))
    await store.change(KEY, lambda old: old.without(MANY))
    assert set(state.objects) == {HEAD, kept.part}
    assert (await store.load(KEY)).deletion_hooks == kept


async def test_hooks_that_somebody_changed_are_lost() -> None:
    """What is not what a deployment brought never runs."""
    state = MemoryState()
    kept = await keep(InventoryStore(state), HOOK)
    content = state.objects[kept.part]["data"]["hooks"]
    state.objects[kept.part]["data"] = {"hooks": content.replace("backup", "intruder")}
    assert await InventoryStore(state).kept_hooks(kept) is None


async def test_an_inventory_of_the_version_before_says_nothing_of_hooks() -> None:
    """That is not the same as saying that there are none."""
    state = MemoryState()
    store = InventoryStore(state)
    await store.change(KEY, lambda old: replace(old, bundle_sha256="f" * 64, is_being_deleted=True))
    assert (await InventoryStore(state).load(KEY)).is_being_deleted
    del state.objects[HEAD]["data"]["being_deleted"]
    read = await InventoryStore(state).load(KEY)
    assert (read.deletion_hooks, read.is_being_deleted) == (None, False)
