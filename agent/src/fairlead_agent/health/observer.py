"""
Observer: the health of a set of objects, from watches of them, their replica sets, pods and events.

Decides nothing and reports nothing; `wait` and `check` ask it. Follows changes by watches only, so nothing is polled.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from fairlead_agent.health.followed import Follow, Followed
from fairlead_agent.health.pods import JOB_FAILURES, Event, Pod, event_of, newest, pod_of, verdict_of_pod
from fairlead_agent.health.rules import UNOBSERVED
from fairlead_agent.health.targets import Source, Target, is_watched, is_workload
from fairlead_agent.health.verdict import HEALTHY, Verdict, owner_uid
from fairlead_agent.kube.resources import EVENTS, PODS, REPLICA_SETS, Resource
from fairlead_agent.kube.watch import EVERYTHING, Key, Watch
from fairlead_agent.together import together
from fairlead_shared.progress import HealthStatus

T = TypeVar("T")
_ABSENT = Verdict(HealthStatus.MISSING, "it does not exist")
_REVISION = "deployment.kubernetes.io/revision"


class _ReplicaSet(NamedTuple):
    """What leads from a Deployment to its newest pods; of thousands, no more is kept."""

    owner: str
    """UID of its Deployment."""
    uid: str
    revision: int


class Opener(Protocol):
    """Makes or finds a watch, as described by Watch."""

    def __call__(
        self,
        resource: Resource,
        namespace: str,
        project: Callable[[Mapping[str, Any]], T | None],
        changed: Callable[[Key], None],
        *,
        name: str = "",
        label_selector: str = "",
        names_only: bool = False,
    ) -> Watch[T]:
        """Return it."""


class Observer:
    """
    The health of some objects, now and as it changes.

    Args:
        opener: Gives the watches; whoever has them follow runs them.
        targets: The objects.
        label_selector: What all of them are labelled with; of what explains them it says nothing.
    """

    def __init__(self, opener: Opener, targets: Sequence[Target], label_selector: str = "") -> None:
        self.targets = tuple(targets)
        self.changed = asyncio.Event()
        """Set when anything changed that could matter; whoever waits clears it."""
        self._opener = opener
        self._kinds: dict[Source, Watch[Followed]] = {}
        self._pods: dict[str, Watch[Pod]] = {}
        self._events: dict[str, Watch[Event]] = {}
        self._sets: dict[str, Watch[_ReplicaSet]] = {}
        self._read: set[tuple[str, str]] = set()
        """(kind, namespace) of which all evidence was seen once."""
        self._keys = {(target.ref.namespace, target.ref.name) for target in targets}
        self._versions: defaultdict[Source, list[str]] = defaultdict(list)
        """What must have been seen before anything is said: without it, what was there before would be judged."""
        for target in targets:
            if target.version:
                self._versions[target.source].append(target.version)
            if target.source not in self._kinds:
                resource, namespace, name = target.source
                self._kinds[target.source] = opener(
                    resource,
                    namespace,
                    Follow.of(resource),
                    self._look_again,
                    name=name,
                    label_selector=label_selector,
                    names_only=not is_watched(resource),
                )

    async def look(self) -> None:
        """Read everything once. Raises: KubeError: the API server is away."""
        await together(watch.snapshot() for watch in self._kinds.values())
        self.verdicts(0.0)  # opens the evidence that is needed
        await together(watch.snapshot() for watch in self._evidence())

    async def seen(self) -> None:
        """Return once the objects were seen as they were written: enough to see that they are well, not why not."""
        for source, watch in self._kinds.items():
            await watch.reached(self._versions[source])

    async def synced(self) -> None:
        """Return once everything that the last verdicts needed was seen as it was a moment ago."""
        for watch in (*self._kinds.values(), *self._evidence()):
            await watch.reached(())

    def verdicts(self, now: float) -> dict[Target, Verdict]:
        """
        Return the verdict on each target; while the evidence of one is still being read, it is progressing.

        Args:
            now: Seconds since the epoch.
        """
        known = len([*self._evidence()])
        verdicts = self._judge(now)
        # A watch that this look opened may be one that others look through: what it holds, it does not tell again.
        return verdicts if len([*self._evidence()]) == known else self._judge(now)

    def _judge(self, now: float) -> dict[Target, Verdict]:
        evidence = _Evidence(self._pods, self._events, self._sets)
        return {target: self._verdict(target, evidence, now) for target in self.targets}

    def _look_again(self, key: Key) -> None:
        if key == EVERYTHING or key in self._keys:
            self.changed.set()

    def _reconsider(self, _key: Key) -> None:
        self.changed.set()

    def _verdict(self, target: Target, evidence: _Evidence, now: float) -> Verdict:
        seen = self._kinds[target.source].objects.get((target.ref.namespace, target.ref.name))
        verdict = self._judged(target, seen, evidence, now)
        if not target.is_run or seen is None or not verdict.satisfies or seen.has_ended:
            return verdict
        return Verdict(HealthStatus.PROGRESSING, verdict.cause or "it runs")

    def _judged(self, target: Target, seen: Followed | None, evidence: _Evidence, now: float) -> Verdict:
        resource = target.resource
        watch = self._kinds[target.source]
        if watch.denied is not None:
            return Verdict(HealthStatus.UNKNOWN, watch.denied.explained(), final=True)
        if seen is not None and not is_watched(resource):
            return HEALTHY
        own = _ABSENT if seen is None else seen.verdict
        # What happened before the controller looked explains nothing: it is about what was there before.
        if own.satisfies or own is UNOBSERVED:
            return own
        if not self._has_evidence(resource, target.ref.namespace):
            return Verdict(HealthStatus.PROGRESSING, own.cause)
        if seen is None:
            return evidence.of_absent(target)
        if own.final:
            return evidence.explained(own, resource, seen.uid, now)
        if (resource.group, resource.kind) == ("", "PersistentVolumeClaim"):
            return evidence.of_claim(own, seen.uid)
        return evidence.of_workload(own, resource, seen.uid, now) if is_workload(resource) else own

    def _has_evidence(self, resource: Resource, namespace: str) -> bool:
        """
        Tell whether that was read by which an object is judged that is not well; watched from the first such one on.

        Most never are: a watch is a connection to the API server, and there would be three for each namespace.
        """
        if is_workload(resource):
            if namespace not in self._pods:
                self._pods[namespace] = self._opener(PODS, namespace, pod_of, self._reconsider)
                self._sets[namespace] = self._opener(REPLICA_SETS, namespace, _replica_set_of, self._reconsider)
        elif (resource.group, resource.kind) != ("", "PersistentVolumeClaim"):
            return True
        if namespace not in self._events:
            self._events[namespace] = self._opener(EVENTS, namespace, event_of, self._reconsider)
        watches = (self._events[namespace], self._pods.get(namespace), self._sets.get(namespace))
        if all(watch is None or watch.synced.is_set() for watch in watches):
            self._read.add((resource.kind, namespace))  # and stays so when they are listed anew
        return (resource.kind, namespace) in self._read

    def _evidence(self) -> Iterator[Watch[Any]]:
        yield from self._pods.values()
        yield from self._events.values()
        yield from self._sets.values()


class _Evidence:
    """Pods, replica sets and events, indexed by whom they belong to; made anew for each look."""

    def __init__(
        self,
        pods: Mapping[str, Watch[Pod]],
        events: Mapping[str, Watch[Event]],
        sets: Mapping[str, Watch[_ReplicaSet]],
    ) -> None:
        self._pods: defaultdict[str, list[Pod]] = defaultdict(list)
        self._pod_by_uid: dict[str, Pod] = {}
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._sets: defaultdict[str, list[_ReplicaSet]] = defaultdict(list)
        for pod in _all(pods):
            self._pod_by_uid[pod.uid] = pod
            if pod.owner and not pod.deleted:
                self._pods[pod.owner].append(pod)
        for event in _all(events):
            self._events[event.uid].append(event)
        for owned in _all(sets):
            self._sets[owned.owner].append(owned)

    def explained(self, own: Verdict, resource: Resource, uid: str, now: float) -> Verdict:
        """Add to a failed Job what its pods say; everything else is explained already."""
        if resource.kind != "Job":
            return own
        said = next((verdict.cause for verdict in self._verdicts_of_pods(uid, now) if verdict.cause), "")
        return Verdict(own.status, f"{own.cause}; {said}" if said else own.cause, final=own.final)

    def of_absent(self, target: Target) -> Verdict:
        """Tell how a Job ended that its time to live removed, perhaps before any watch saw it; else it is missing."""
        if target.resource.kind == "Job" and target.uid:
            end = newest(self._events[target.uid], "Completed", *JOB_FAILURES)
            if end is not None and end.reason == "Completed":
                return HEALTHY
            if end is not None:
                return Verdict(HealthStatus.DEGRADED, f"it failed: {end.message} ({end.reason})", final=True)
        return _ABSENT

    def of_claim(self, own: Verdict, uid: str) -> Verdict:
        """Tell a claim that waits for a pod from one that cannot be provisioned."""
        event = newest(self._events[uid], "WaitForFirstConsumer", "FailedBinding", "ProvisioningFailed")
        if event is None:
            return own
        if event.reason == "WaitForFirstConsumer":
            return Verdict(HealthStatus.SUSPENDED, "it waits for the first pod that uses it")
        return Verdict(HealthStatus.DEGRADED, f"it cannot be bound: {event.message} ({event.reason})")

    def of_workload(self, own: Verdict, resource: Resource, uid: str, now: float) -> Verdict:
        """Explain a workload that is not healthy by its pods, or by why it has none."""
        if resource.kind == "Pod":
            pod = self._pod_by_uid.get(uid)
            seen = verdict_of_pod(pod, self._events[uid], now) if pod is not None else own
            return own if seen.satisfies else seen  # evidence comes by another watch, which may be behind
        maker = uid
        if resource.kind == "Deployment":
            current = max(self._sets[uid], key=lambda one: one.revision, default=None)
            if current is None:
                return own
            maker = current.uid
        verdicts = self._verdicts_of_pods(maker, now)
        worst = next((verdict for verdict in verdicts if verdict.status is HealthStatus.DEGRADED), None)
        if worst is not None:
            if resource.kind == "Job" and not self._is_stuck(maker, now):
                return Verdict(own.status, worst.cause)  # a Job tries again by itself, up to its own limit
            return worst
        creation = newest(self._events[maker], "FailedCreate", "SuccessfulCreate")
        if creation is not None and creation.reason == "FailedCreate":
            return Verdict(HealthStatus.DEGRADED, f"its pods cannot be created: {creation.message} (FailedCreate)")
        said = next((verdict.cause for verdict in verdicts if verdict.cause), "")
        return (
            Verdict(own.status, said or own.cause, final=own.final) if own.status is HealthStatus.PROGRESSING else own
        )

    def _verdicts_of_pods(self, maker: str, now: float) -> list[Verdict]:
        return [verdict_of_pod(pod, self._events[pod.uid], now) for pod in self._pods[maker]]

    def _is_stuck(self, maker: str, now: float) -> bool:
        """Whether an unfinished pod is degraded: an image that cannot be pulled, a missing ConfigMap."""
        return any(
            pod.phase == "Pending" and verdict_of_pod(pod, self._events[pod.uid], now).status is HealthStatus.DEGRADED
            for pod in self._pods[maker]
        )


def _all(watches: Mapping[str, Watch[Any]]) -> Iterable[Any]:
    for watch in watches.values():
        yield from watch.objects.values()


def _replica_set_of(manifest: Mapping[str, Any]) -> _ReplicaSet:
    metadata = manifest["metadata"]
    text = (metadata.get("annotations") or {}).get(_REVISION, "")
    return _ReplicaSet(owner_uid(manifest), metadata["uid"], int(text) if text.isdecimal() else 0)
