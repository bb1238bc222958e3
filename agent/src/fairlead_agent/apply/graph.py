"""
Order of writes: which objects of a bundle wait for which. Pure: no I/O.

An object waits only for its own namespace, its own CRD, what it names, and what its annotation says; for the last it
waits until that is ready, for the others until they are there. Webhook configurations wait for everything else, lest a
webhook without a backend refuse the rest of its own bundle; but for what is to come after them. Everything unrelated
runs in parallel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.hooks import FOUNDING, KEPT, Stage
from fairlead_agent.apply.references import DEPENDS_ON, Identity, bound_service_accounts, dependencies, named_by
from fairlead_agent.kube.resources import CRDS, resources_of_crd
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import Manifest, ObjectRef

WEBHOOK_GROUP = "admissionregistration.k8s.io"
_KEPT = frozenset({KEPT})
_NOTHING: frozenset[int] = frozenset()
_DEPENDS_ON_FIELD = f'metadata.annotations["{DEPENDS_ON}"]'


class Graph:
    """
    Dependencies among the objects of one bundle, each known by its place in it.

    Args:
        manifests: The objects.
        stages: When each hook runs, by its place. What is of another stage is no dependency but a namespace or kind:
            either it was there before, or waiting for it would be in vain.
        refs: The objects' references where they are had: of thousands, to have them twice is a MiB.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        stages: Mapping[int, frozenset[Stage]] | None = None,
        refs: Sequence[ObjectRef] | None = None,
    ) -> None:
        self._refs = refs or [ObjectRef.of(manifest) for manifest in manifests]
        self._stages = stages or {}
        places: dict[Identity, int] = {ref.identity: place for place, ref in enumerate(self._refs)}
        self.mistakes: list[tuple[int, str]] = []
        """Places of objects whose annotation is wrong, each with what is."""
        self.awaits = [_frozen(self._awaited(place, manifest, places)) for place, manifest in enumerate(manifests)]
        """For each object the places of what must be ready before it."""
        self.needs = _needs(manifests, self._refs, places, self.awaits)
        """For each object the places of what must be there before it, that which must be ready included."""
        if self._stages:
            self.needs = [
                _frozen(other for other in needed if self._is_founding(other) or self._is_beside(place, other))
                for place, needed in enumerate(self.needs)
            ]
        self.needed_by: list[list[int]] = [[] for _ in manifests]
        """For each object the places of what waits for it."""
        for place, needed in enumerate(self.needs):
            for other in needed:
                self.needed_by[other].append(place)

    def needed_for(self, places: Iterable[int]) -> set[int]:
        """Return everything some objects need, directly or not, and themselves."""
        found: set[int] = set()
        left = list(places)
        while left:
            place = left.pop()
            if place not in found:
                found.add(place)
                left.extend(self.needs[place])
        return found

    def cycle(self) -> list[ObjectRef]:
        """Return the objects of one cycle, each needing the next and the last the first; empty if there is none."""
        left = [len(needed) for needed in self.needs]
        ready = [place for place, count in enumerate(left) if count == 0]
        while ready:
            for waiting in self.needed_by[ready.pop()]:
                left[waiting] -= 1
                if left[waiting] == 0:
                    ready.append(waiting)
        stuck = {place for place, count in enumerate(left) if count > 0}
        return [self._refs[place] for place in self._walk(stuck)]

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the order: for a circle each of its objects, so that each one's file is named."""
        for place, what in self.mistakes:
            yield Finding(ErrorCode.INVALID_OBJECT, what, self._refs[place], field=_DEPENDS_ON_FIELD)
        if cycle := self.cycle():
            path = " needs ".join(str(ref) for ref in (*cycle, cycle[0]))
            for ref in cycle:
                yield Finding(ErrorCode.INVALID_OBJECT, f"the objects wait for each other: {path}", ref)

    def _awaited(self, place: int, manifest: Manifest, places: Mapping[Identity, int]) -> set[int]:
        awaited: set[int] = set()
        for named in dependencies(manifest):
            if isinstance(named, str):
                syntax = "GROUP/namespaces/NAMESPACE/KIND/NAME, or GROUP/KIND/NAME"
                self.mistakes.append((place, f"{named!r} names no object; write {syntax}"))
            elif named in places:
                awaited |= self._awaited_of(place, places[named])
            else:
                group, kind, namespace, name = named
                what = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
                of_group = f"group {group}" if group else "the core group"
                self.mistakes.append((place, f"it waits for {what} of {of_group}, which is not among the objects"))
        return awaited

    def _awaited_of(self, place: int, other: int) -> set[int]:
        """Return what is to be awaited of an object that another names: nothing if it runs at an earlier stage."""
        if self._is_beside(place, other):
            return {other}
        if self._is_founding(other):
            return set()
        mine, others = self._stages_of(place), self._stages_of(other)
        if mine and not (others and min(others) < min(mine)):
            self.mistakes.append((place, f"it waits for {self._refs[other]}, a hook that does not run before it"))
        return set()

    def _stages_of(self, place: int) -> frozenset[Stage]:
        return self._stages.get(place, _KEPT)

    def _is_beside(self, place: int, other: int) -> bool:
        return not self._stages_of(place).isdisjoint(self._stages_of(other))

    def _is_founding(self, place: int) -> bool:
        return (self._refs[place].group, self._refs[place].kind) in FOUNDING

    def _walk(self, stuck: set[int]) -> list[int]:
        """Follow needs among objects that never became ready until one comes again."""
        if not stuck:
            return []
        path: list[int] = []
        place = min(stuck)
        while place not in path:
            path.append(place)
            place = next(other for other in sorted(self.needs[place]) if other in stuck)
        return path[path.index(place) :]


def _frozen(places: Iterable[int]) -> frozenset[int]:
    """Return places as they are kept: none of them in memory once, since most of thousands wait for nothing."""
    return frozenset(places) or _NOTHING


def _needs(
    manifests: Sequence[Manifest],
    refs: Sequence[ObjectRef],
    places: Mapping[Identity, int],
    awaits: Sequence[frozenset[int]],
) -> list[frozenset[int]]:
    definitions = _definitions(manifests, refs)
    bindings: defaultdict[Identity, list[int]] = defaultdict(list)
    for place, manifest in enumerate(manifests):
        for account in bound_service_accounts(manifest):
            bindings[account].append(place)
    last = {place for place, ref in enumerate(refs) if ref.group == WEBHOOK_GROUP and "Webhook" in ref.kind}
    needs: list[frozenset[int]] = []
    for place, (manifest, ref) in enumerate(zip(manifests, refs, strict=True)):
        if place in last:
            needs.append(awaits[place])
            continue
        needed = {definitions.get((ref.group, ref.kind)), places.get(("", "Namespace", "", ref.namespace))}
        for named in named_by(manifest):
            needed.add(places.get(named))
            if ref.group != "rbac.authorization.k8s.io":
                needed.update(bindings.get(named, ()))
        needs.append(_frozen([*(other for other in needed if other not in {None, place}), *awaits[place]]))
    for place in last:
        needs[place] |= frozenset(range(len(refs))) - last - _after(place, needs)
    return needs


def _after(place: int, needs: Sequence[frozenset[int]]) -> set[int]:
    """Return what needs an object, directly or not."""
    if not any(place in needed for needed in needs):
        return set()  # nearly always, and then without a look at every pair
    found = {place}
    while more := {other for other, needed in enumerate(needs) if other not in found and not needed.isdisjoint(found)}:
        found |= more
    return found - {place}


def _definitions(manifests: Sequence[Manifest], refs: Sequence[ObjectRef]) -> dict[tuple[str, str], int]:
    """Map (group, kind) to the place of the CRD in the bundle that makes it."""
    return {
        (resource.group, resource.kind): place
        for place, (manifest, ref) in enumerate(zip(manifests, refs, strict=True))
        if (ref.group, ref.kind) == (CRDS.group, CRDS.kind)
        for resource in resources_of_crd(manifest)
    }


_DELETION_RANKS = {
    ("", "ConfigMap"): 2,
    ("", "Secret"): 2,
    ("", "ServiceAccount"): 2,
    ("", "PersistentVolumeClaim"): 2,
    ("rbac.authorization.k8s.io", "RoleBinding"): 2,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): 2,
    ("rbac.authorization.k8s.io", "Role"): 3,
    ("rbac.authorization.k8s.io", "ClusterRole"): 3,
    (CRDS.group, CRDS.kind): 4,
    ("", "Namespace"): 5,
}


def deletion_waves(
    refs: Sequence[ObjectRef], awaits: Mapping[Identity, Collection[Identity]]
) -> Iterator[list[ObjectRef]]:
    """
    Yield objects to delete in waves: webhooks first, else in the reverse of their creation, after what awaits them.

    Args:
        refs: Which.
        awaits: What some of them wait for by their annotation; a circle among these is no reason not to delete.
    """
    by_identity = {ref.identity: ref for ref in refs}
    ranks = {identity: (_deletion_rank(ref), 0) for identity, ref in by_identity.items()}
    for _ in refs:
        moved = False
        for waiting in by_identity:
            rank, depth = ranks[waiting]
            for awaited in awaits.get(waiting, ()):
                if awaited in ranks and awaited != waiting and ranks[awaited] <= (rank, depth):
                    ranks[awaited] = (rank, depth + 1)
                    moved = True
        if not moved:
            break
    waves: defaultdict[tuple[int, int], list[ObjectRef]] = defaultdict(list)
    for identity, ref in by_identity.items():
        waves[ranks[identity]].append(ref)
    for at in sorted(waves):
        yield waves[at]


def _deletion_rank(ref: ObjectRef) -> int:
    return 0 if ref.group == WEBHOOK_GROUP else _DELETION_RANKS.get((ref.group, ref.kind), 1)
