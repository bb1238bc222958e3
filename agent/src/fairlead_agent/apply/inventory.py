"""
Inventory: what each environment owns in this cluster, kept in ConfigMaps of the agent's namespace.

One head per environment, `fairlead-environment-<owner>`, changed by compare-and-set: it is the commit point. Lists too
long for one object go into shards named by their content and writer, written before the head that names them and
removed after; a crash in between leaves shards nobody names, which the next change removes. The hooks that are to run
when the environment is deleted are such a part, too. An object is listed before its first write, so that what a killed
attempt made is never forgotten. Only this module knows the layout.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pydantic import TypeAdapter

from fairlead_agent.errors import AlreadyExists, Conflict, NotFound, Unexpected
from fairlead_agent.ports import Ended, EnvironmentKey, OwnedObject, ReplayMark, StateKind, StatePort
from fairlead_shared.bundle import Bundle, BundleHash, read_bundle
from fairlead_shared.errors import BundleInvalid
from fairlead_shared.progress import Outcome, ResultEvent
from fairlead_shared.statement import EMPTY_BUNDLE

OWNER_LABEL = "fairlead.dev/owner"
ENVIRONMENT_ANNOTATION = "fairlead.dev/environment"
INVENTORY_LABEL = "fairlead.dev/inventory-of"
LEADER_ANNOTATION = "fairlead.dev/leader"
_SHARD_BYTES = 400 * 1024
"""Well below 512 KiB, so that metadata and JSON escaping fit too (etcd takes 1.5 MiB, some clusters less)."""
MOST_HOOK_BYTES = _SHARD_BYTES
"""Of the hooks kept for a deletion, as a bundle: they have one part."""
_MARKS = 32
"""Deployments remembered; older ones are refused by age."""
_MARK_FIELDS = ("deployment_id", "finished", "not_before")
"""What each mark holds; an agent of the version before, rolled back to, knows these and refuses more of them."""
_TRIES = 8
"""Lost compare-and-sets in a row before giving up: only another replica's deployment could cause one."""
_KEPT, _KEPT_OBJECTS = 64, 100
"""Inventories in memory, and how long each may be: for many small deployments. Beside a large one a read is nothing."""
_OWNED = TypeAdapter(OwnedObject)


@dataclass(frozen=True, slots=True)
class KeptHooks:
    """Which bundle holds what is to run when an environment is deleted, and where it is kept."""

    bundle_sha256: str
    part: str = ""
    """Name of its ConfigMap; empty for the empty bundle."""


NO_HOOKS = KeptHooks(str(EMPTY_BUNDLE.sha256))


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one environment owns, and which deployments it has seen."""

    objects: tuple[OwnedObject, ...] = ()
    marks: tuple[ReplayMark, ...] = ()
    """Oldest first."""
    bundle_sha256: str = ""
    """Of the last deployment that succeeded; empty before the first."""
    environment_type: str = ""
    """As that deployment said; empty where an agent of the version before kept the inventory."""
    namespaces: tuple[str, ...] = ()
    """The same of its namespaces."""
    deletion_hooks: KeptHooks | None = None
    """What that deployment left for the environment's deletion; None where nobody said: see `bundle_sha256`."""
    is_being_deleted: bool = False
    """Whether a deletion was begun, and what runs before it has run."""

    def owns(self, objects: Iterable[OwnedObject]) -> Inventory:
        """Return it with objects added, or their UIDs filled in; a known UID is not forgotten for an unknown one."""
        known = {owned.ref.identity: owned for owned in self.objects}
        for owned in objects:
            identity = owned.ref.identity
            before = known.get(identity)
            after = owned if owned.uid or before is None else replace_uid(owned, before.uid)
            if after != before:  # else the one that is there stays: of thousands, two would be a few MiB
                known[identity] = after
        return replace(self, objects=tuple(known[identity] for identity in sorted(known)))

    def without(self, objects: Iterable[OwnedObject]) -> Inventory:
        """Return it without some objects."""
        gone = {owned.ref.identity for owned in objects}
        return replace(self, objects=tuple(owned for owned in self.objects if owned.ref.identity not in gone))

    def begun(self, mark: ReplayMark) -> Inventory:
        """Return it with a mark, unless the deployment has one: then an attempt goes on, or another one is made."""
        known = any(one.deployment_id == mark.deployment_id for one in self.marks)
        return self if known else self.marked(mark)

    def marked(self, mark: ReplayMark) -> Inventory:
        """Return it with a mark added, or replaced where the deployment has one; only the newest holds a result."""
        others = [known for known in self.marks if known.deployment_id != mark.deployment_id]
        place = next(
            (at for at, known in enumerate(self.marks) if known.deployment_id == mark.deployment_id), len(others)
        )
        others.insert(place, mark)
        *earlier, newest = others[-_MARKS:]
        told = (one if one.result is None else replace(one, result=None) for one in earlier)
        return replace(self, marks=(*told, newest))

    def mark_of(self, deployment_id: str) -> ReplayMark | None:
        """Return the mark of a deployment, None if it was not begun."""
        return next((mark for mark in self.marks if mark.deployment_id == deployment_id), None)

    def ended(self, deployment_id: str, ended: Ended) -> Inventory:
        """Return it with how an attempt of a begun deployment ended, unless that is known already."""
        mark = self.mark_of(deployment_id)
        if mark is None or mark.ended_attempt >= ended.attempt or mark.result_of(ended.attempt) is not None:
            return self
        finished = mark.finished or ended.result.outcome is Outcome.SUCCEEDED
        return self.marked(replace(mark, finished=finished, ended_attempt=ended.attempt, result=ended.result))


def replace_uid(owned: OwnedObject, uid: str) -> OwnedObject:
    """Return the entry with another UID."""
    return replace(owned, uid=uid)


@dataclass(frozen=True, slots=True)
class _Stored:
    inventory: Inventory
    resource_version: str = ""
    """Of the head; empty while there is none."""
    shards: tuple[str, ...] = field(default=())
    missing: str = ""
    """A part that the head names and that is not there."""


class InventoryStore:
    """
    Reads and changes inventories; also answers ports.ReplayPort.

    Args:
        state: The agent's own namespace.
    """

    def __init__(self, state: StatePort) -> None:
        self._state = state
        self._salt = secrets.token_hex(4)
        """In the names of this store's shards: a delete that another process sent long ago can never hit one."""
        self._kept: OrderedDict[EnvironmentKey, _Stored] = OrderedDict()
        """As last read or written here: what a change begins with. Another's change shows as a conflict."""
        self._owners: set[str] | None = None
        """Of all environments that had an inventory when this store claimed them, or were given one since."""
        self._considered: set[EnvironmentKey] = set()
        """Those of `_kept` that were read anew for a job's marks, and not used since."""

    async def claim(self, leader: str) -> None:
        """
        Write a new leader's name into every inventory, so that what an earlier one still has under way conflicts.

        Args:
            leader: The same for no two leaders.
        Raises: Conflict: somebody else keeps writing. KubeError: the API server said no.
        """
        heads = await self._state.select(StateKind.CONFIG_MAP, INVENTORY_LABEL)
        for head in heads:
            if "environment" in (head.get("data") or {}):
                await self._claim(head, leader)
        self._owners = {head["metadata"]["labels"][INVENTORY_LABEL] for head in heads}

    async def _claim(self, head: dict[str, Any] | None, leader: str) -> None:
        for _ in range(_TRIES):
            if head is None:
                return
            metadata = head["metadata"]
            annotations = {**(metadata.get("annotations") or {}), LEADER_ANNOTATION: leader}
            try:
                claimed = {**head, "metadata": {**metadata, "annotations": annotations}}
                await self._state.update(StateKind.CONFIG_MAP, claimed)
            except Conflict:
                head = await self._state.read(StateKind.CONFIG_MAP, metadata["name"])
            except NotFound:
                return
            else:
                return
        raise Conflict(f"inventory {head['metadata']['name'] if head else ''}")

    async def environments(self) -> list[EnvironmentKey]:
        """Return the environments that have an inventory. Raises: KubeError: the API server said no."""
        heads = await self._state.select(StateKind.CONFIG_MAP, INVENTORY_LABEL)
        named = (str((head.get("data") or {}).get("environment", "")).split("/") for head in heads)
        there = sorted(EnvironmentKey(*names) for names in named if len(names) == len(fields(EnvironmentKey)))
        for gone in self._kept.keys() - set(there):
            del self._kept[gone]
        return there

    async def load(self, environment: EnvironmentKey) -> Inventory:
        """
        Return an environment's inventory, an empty one before its first deployment.

        Raises: Unexpected: a part of it is missing. KubeError: the API server said no.
        """
        return (await self._read_whole(environment)).inventory

    async def left(self, environment: EnvironmentKey) -> Inventory:
        """Return the inventory as this store left it, and forget it; else as `load`, whose errors it raises."""
        stored = self._kept.pop(environment, None)
        return stored.inventory if stored is not None and not stored.missing else await self.load(environment)

    async def salvage(self, environment: EnvironmentKey) -> tuple[Inventory, bool]:
        """
        Return what there is of an environment's inventory, and whether that is all of it: False, too, for none.

        As it was when its marks were asked for, if that was for this; else read anew.
        """
        stored = self._kept.get(environment) if environment in self._considered else None
        self._considered.discard(environment)
        if stored is None:
            stored = await self._read_and_keep(environment)
        return stored.inventory, bool(stored.resource_version) and not stored.missing

    async def change(
        self, environment: EnvironmentKey, edit: Callable[[Inventory], Inventory], *, salvages: bool = False
    ) -> Inventory:
        """
        Change an inventory by compare-and-set.

        Args:
            environment: Whose.
            edit: Old → new; called again with a fresh copy when somebody else was faster, so it must be repeatable.
            salvages: Whether `edit` adds what a missing part held; without it, nothing is written beside a loss.
        Returns: The inventory as stored. Nothing is written if `edit` changes nothing.
        Raises: Conflict: somebody else kept being faster. KubeError: the API server said no.
        """
        self._considered.discard(environment)
        for _ in range(_TRIES):
            before = self._kept.pop(environment, None) or await self._read(environment)
            if before.missing and not salvages:
                raise _incomplete(environment, before)
            after = edit(before.inventory)
            if after == before.inventory and before.resource_version and not before.missing:
                self._keep(environment, before)
                return after
            try:
                stored = await self._write(environment, before, after)
            except (Conflict, AlreadyExists, NotFound):
                continue
            self._keep(environment, stored)
            return after
        raise Conflict(f"inventory of {environment}")

    async def marks(self, environment: EnvironmentKey) -> tuple[ReplayMark, ...]:
        """
        Return the deployments an environment remembers, oldest first; the job they were asked for starts there.

        Where this store knows that there was no inventory, it asks nobody: whoever changes one may find that another
        was faster, and that its marks are not those that were asked for.
        """
        if self._owners is not None and environment.owner not in self._owners:
            stored = self._keep(environment, _Stored(Inventory()))
        else:
            stored = await self._read_and_keep(environment)
        if self._kept.get(environment) is stored:
            self._considered.add(environment)
        return stored.inventory.marks

    async def finish(self, environment: EnvironmentKey, deployment_id: str, ended: Ended) -> ResultEvent | None:
        """
        Note how an attempt of a begun deployment ended, unless that is known already.

        Returns: How it ended, as the mark holds it; None if none does: not begun, or another one was begun since.
        """
        inventory = (self._kept.get(environment) or await self._read(environment)).inventory
        if inventory.ended(deployment_id, ended) != inventory:
            inventory = await self.change(environment, lambda now: now.ended(deployment_id, ended))
        mark = inventory.mark_of(deployment_id)
        return None if mark is None else mark.result_of(ended.attempt)

    async def keep_hooks(self, environment: EnvironmentKey, bundle: Bundle) -> KeptHooks:
        """
        Write the hooks of a deletion, for an inventory that is to name them.

        Args:
            environment: Whose.
            bundle: The hooks, of at most MOST_HOOK_BYTES; Secrets stay sealed, so that a ConfigMap may hold them.
        Returns: What the inventory is to say.
        Raises: KubeError: the API server said no.
        """
        if bundle.sha256 == EMPTY_BUNDLE.sha256:
            return NO_HOOKS
        return KeptHooks(str(bundle.sha256), await self._write_part(environment, "hooks", bundle.content.decode()))

    async def kept_hooks(self, kept: KeptHooks) -> Bundle | None:
        """
        Return the hooks that an inventory names; None if they are lost, or are not what was kept.

        Raises: KubeError: the API server said no.
        """
        if not kept.part:
            return EMPTY_BUNDLE
        part = await self._state.read(StateKind.CONFIG_MAP, kept.part)
        try:
            content = str(((part or {}).get("data") or {}).get("hooks", ""))
            return read_bundle(content.encode(), BundleHash(kept.bundle_sha256))
        except BundleInvalid:
            return None

    def _keep(self, environment: EnvironmentKey, stored: _Stored) -> _Stored:
        """Remember an inventory that is short; the least recently used goes."""
        self._kept.pop(environment, None)
        if len(stored.inventory.objects) <= _KEPT_OBJECTS:
            self._kept[environment] = stored
            if len(self._kept) > _KEPT:
                self._considered.discard(self._kept.popitem(last=False)[0])
        return stored

    async def _read_and_keep(self, environment: EnvironmentKey) -> _Stored:
        """Read, and remember it unless a change was made meanwhile: that is newer."""
        before = self._kept.get(environment)
        stored = await self._read(environment)
        return self._keep(environment, stored) if self._kept.get(environment) is before else stored

    async def _read_whole(self, environment: EnvironmentKey) -> _Stored:
        stored = await self._read(environment)
        if stored.missing:
            raise _incomplete(environment, stored)
        return stored

    async def _read(self, environment: EnvironmentKey) -> _Stored:
        head = await self._state.read(StateKind.CONFIG_MAP, _head_name(environment))
        if head is None:
            return _Stored(Inventory())
        kept: Mapping[str, str] = head.get("data") or {}
        if kept.get("environment") != str(environment):
            raise Unexpected(200, f"ConfigMap {_head_name(environment)} is not the inventory of {environment}")
        shards = tuple(json.loads(kept.get("shards", "[]")))
        objects = _objects_of(kept)
        missing = ""
        for name in shards:
            shard = await self._state.read(StateKind.CONFIG_MAP, name)
            if shard is None:
                missing = name
            else:
                objects += _objects_of(shard["data"])
        inventory = Inventory(
            objects=tuple(objects),
            marks=_marks(kept),
            bundle_sha256=kept.get("bundle_sha256", ""),
            environment_type=kept.get("environment_type", ""),
            namespaces=tuple(json.loads(kept.get("namespaces", "[]"))),
            deletion_hooks=_kept_hooks(kept),
            is_being_deleted="being_deleted" in kept,
        )
        return _Stored(inventory, head["metadata"]["resourceVersion"], shards, missing)

    async def _write(self, environment: EnvironmentKey, before: _Stored, after: Inventory) -> _Stored:
        parts = list(_parts(_OWNED.dump_json(owned).decode() for owned in after.objects))
        kept = {
            "environment": str(environment),
            "bundle_sha256": after.bundle_sha256,
            "environment_type": after.environment_type,
            "namespaces": json.dumps(after.namespaces),
            "marks": json.dumps([{name: getattr(mark, name) for name in _MARK_FIELDS} for mark in after.marks]),
            "ended_attempts": json.dumps(
                {mark.deployment_id: mark.ended_attempt for mark in after.marks if mark.ended_attempt}
            ),
        }
        if after.marks and (result := after.marks[-1].result) is not None:
            kept["result"] = result.model_dump_json(exclude_none=True)
        if after.deletion_hooks is not None:
            kept["deletion_hooks"] = json.dumps(asdict(after.deletion_hooks))
        if after.is_being_deleted:
            kept["being_deleted"] = "yes"
        shards: list[str] = []
        if len(parts) <= 1:
            kept["objects"] = "".join(parts)
        else:
            there = () if before.missing else before.shards
            shards = [await self._write_part(environment, "objects", part, there) for part in parts]
            kept["shards"] = json.dumps(shards)
        metadata: dict[str, Any] = {
            "name": _head_name(environment),
            "labels": {INVENTORY_LABEL: environment.owner},
            "annotations": {ENVIRONMENT_ANNOTATION: str(environment)},
        }
        if before.resource_version:
            metadata["resourceVersion"] = before.resource_version
            head = await self._state.update(StateKind.CONFIG_MAP, {"metadata": metadata, "data": kept})
        else:
            if self._owners is not None:
                self._owners.add(environment.owner)  # before it is made: the answer may be lost
            head = await self._state.create(StateKind.CONFIG_MAP, {"metadata": metadata, "data": kept})
        hooks = after.deletion_hooks.part if after.deletion_hooks else ""
        hooks_before = before.inventory.deletion_hooks.part if before.inventory.deletion_hooks else ""
        if before.shards or shards or hooks != hooks_before:
            await self._remove_parts(environment, keep=[_head_name(environment), *shards, hooks])
        return _Stored(after, head["metadata"]["resourceVersion"], tuple(shards))

    async def _write_part(self, environment: EnvironmentKey, key: str, part: str, there: Collection[str] = ()) -> str:
        name = f"{_head_name(environment)}-{hashlib.sha256(part.encode()).hexdigest()[:12]}-{self._salt}"
        if name in there:
            return name  # named by its content and by this store: it is the same
        metadata = {"name": name, "labels": {INVENTORY_LABEL: environment.owner}}
        try:
            await self._state.create(StateKind.CONFIG_MAP, {"metadata": metadata, "data": {key: part}})
        except AlreadyExists:
            return name  # as above
        return name

    async def _remove_parts(self, environment: EnvironmentKey, keep: Sequence[str]) -> None:
        selector = f"{INVENTORY_LABEL}={environment.owner}"
        for shard in await self._state.select(StateKind.CONFIG_MAP, selector, names_only=True):
            metadata = shard["metadata"]
            if metadata["name"] not in keep:
                # A part that changed since is another store's to remove.
                with contextlib.suppress(Conflict):
                    await self._state.delete(StateKind.CONFIG_MAP, metadata["name"], metadata["resourceVersion"])


def _objects_of(kept: Mapping[str, str]) -> list[OwnedObject]:
    return [_OWNED.validate_json(line) for line in kept.get("objects", "").splitlines()]


def _marks(kept: Mapping[str, str]) -> tuple[ReplayMark, ...]:
    ended = json.loads(kept.get("ended_attempts", "{}"))
    marks = [
        ReplayMark(**mark, ended_attempt=ended.get(mark["deployment_id"], 0))
        for mark in json.loads(kept.get("marks", "[]"))
    ]
    if "result" in kept:
        marks[-1] = replace(marks[-1], result=ResultEvent.model_validate_json(kept["result"]))
    return tuple(marks)


def _kept_hooks(kept: Mapping[str, str]) -> KeptHooks | None:
    found = json.loads(kept.get("deletion_hooks", "null"))
    return None if found is None else KeptHooks(found["bundle_sha256"], found["part"])


def _incomplete(environment: EnvironmentKey, stored: _Stored) -> Unexpected:
    return Unexpected(404, f"inventory of {environment}: its part {stored.missing} is missing")


def _head_name(environment: EnvironmentKey) -> str:
    return f"fairlead-environment-{environment.owner}"


def _parts(lines: Iterable[str]) -> Iterable[str]:
    """Join lines into texts of limited size."""
    part: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode()) + 1
        if part and size + length > _SHARD_BYTES:
            yield "\n".join(part) + "\n"
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield "\n".join(part) + "\n"
