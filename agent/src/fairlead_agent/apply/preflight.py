"""
Preflight: prove as much of a deployment as can be proved before its first write, and report all that is wrong at once.

Kinds, binding and order are checked first, then everything is dry-run in parallel. Members of a namespace or CRD that
this very bundle makes cannot be dry-run yet: they are `deferred`, and the engine calls again once their namespace or
CRD is there. Writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fairlead_agent.apply.findings import Finding, Severity, findings_of
from fairlead_agent.apply.graph import Graph
from fairlead_agent.apply.hook_proof import misread, too_early, unfit_for_deletion, unreadable_logs
from fairlead_agent.apply.hooks import RUNS, BundleHooks
from fairlead_agent.apply.live import LiveObjects
from fairlead_agent.apply.planning import ObjectPlanner, Planned
from fairlead_agent.apply.pod_probe import PodProbe
from fairlead_agent.apply.quota_probe import QuotaProbe
from fairlead_agent.apply.recent import RecentAnswers
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import KubeError, MissingRight, NotFound, UnknownKind
from fairlead_agent.health.targets import EVIDENCE, Source, Target, is_watched, is_workload
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CRDS, NAMESPACES, Resource, Right, is_segment, resources_of_crd, verbs_for
from fairlead_agent.ports import DeployWork
from fairlead_agent.together import together
from fairlead_shared.errors import ErrorCode, SealInvalid
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action

_SERVED_SECONDS = 20.0
"""How long an established CRD may take until its objects are served; about one second is usual."""
_SERVED_POLL_SECONDS = 0.1
_BATCH = 64
"""Tasks at once; the client bounds the requests, this bounds what is parsed and waiting."""


Kind = tuple[str, str]
"""(apiVersion, kind)."""


@dataclass(slots=True)
class Proof:
    """What preflight found."""

    resources: list[Resource | None]
    """Where each object's kind is served; None where a finding says why not."""
    planned: dict[int, Planned] = field(default_factory=dict)
    """By place; objects with findings are missing."""
    deferred: set[int] = field(default_factory=set)
    """Places not fully proved: their namespace or CRD is not there yet."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that forbid to go on."""
        return [finding for finding in self.findings if finding.severity == "error"]


class Preflight:
    """
    Proves one deployment.

    Args:
        client: The API server.
        work: The deployment.
        wanted: Its objects.
        hooks: Which of them are hooks.
        recent: What is known of the namespaces from deployments a moment ago.
        ended: Hooks that need no proof, as they ran to their end: where they ran may have been deleted since.
        tells_fields: Whether the proof says which fields change.
    """

    def __init__(
        self,
        client: KubeClient,
        work: DeployWork,
        wanted: WantedObjects,
        hooks: BundleHooks,
        recent: RecentAnswers,
        *,
        ended: Collection[int] = (),
        tells_fields: bool = False,
    ) -> None:
        self._client = client
        self._work = work
        self._wanted = wanted
        self._hooks = hooks
        self._recent = recent
        self._ended = ended
        self._tells_fields = tells_fields
        self._live = LiveObjects(client, wanted)
        self._planner = ObjectPlanner(client, work, self._live, tells_fields=tells_fields)
        self._pods = PodProbe(client, wanted)
        self._quotas = QuotaProbe(client, wanted, self._planner, recent)

    async def run(self) -> tuple[Proof, Graph]:
        """
        Prove what can be proved before anything is written.

        Returns: The proof, and the order of writes.
        Raises: KubeError: only temporary ones (the API server is away); everything else is a finding.
        """
        wanted = self._wanted
        proof = Proof([None] * len(wanted))
        served = await self._served()
        for place in range(len(wanted)):
            if place not in self._hooks or self._hooks.runs(place) or self._hooks.is_for_deletion(place):
                self._place(place, served, proof)
        graph = Graph(wanted, self._hooks.stages(), wanted.refs)
        proof.findings += graph.findings()
        proof.findings += misread(self._hooks, wanted)
        known = [
            place for place, resource in enumerate(proof.resources) if resource is not None and place not in self._ended
        ]
        founding = [place for place in known if proof.resources[place] in (NAMESPACES, CRDS)]
        await self._each(founding, lambda place: self._dry_run(place, proof))
        new_namespaces = {wanted.refs[place].name for place in founding if _is_new(proof, place, NAMESPACES)}
        proof.deferred = {
            place
            for place in known
            if wanted.refs[place].namespace in new_namespaces or self._kind_is_new(place, proof)
        }
        await self._until_served(set(known) - proof.deferred, proof)
        rest = [place for place in known if place not in proof.deferred and place not in set(founding)]
        await self._live.list((place, resource) for place in rest if (resource := proof.resources[place]) is not None)
        await self._each(rest, lambda place: self._dry_run(place, proof))
        for place in proof.deferred:
            note = self._hooks.note(place) if place in self._hooks else ""
            proof.planned[place] = Planned(Action.CREATED, write=True, note=note)
        if self._tells_fields:
            await self._foresee(proof, new_namespaces)
        await self._check_watches((place for place in known if place not in proof.deferred), proof)
        proof.findings += await self._pods.run(self._running(rest), proof.planned)
        kept = [place for place in rest if place not in self._hooks]
        proof.findings += await self._quotas.run(kept, proof.planned, proof.resources)
        proof.findings += too_early(self._hooks, wanted, proof.planned)
        proof.findings += unfit_for_deletion(self._hooks, wanted)
        proof.findings += await unreadable_logs(self._client, self._hooks, wanted)
        self._live.forget()
        return proof, graph

    def _running(self, places: Iterable[int]) -> list[int]:
        """Return those that make pods now, if any; at deletion there will be other room for pods than today."""
        return [place for place in places if place not in self._hooks or self._hooks.runs(place)]

    async def _foresee(self, proof: Proof, new_namespaces: set[str]) -> None:
        """Say of what is deferred though its kind is there, as its CRD only changes, what would become of it today."""
        today = Proof(proof.resources)
        there = [
            place
            for place in sorted(proof.deferred)
            if self._wanted.refs[place].namespace not in new_namespaces and not self._is_made_anew(place, proof)
        ]
        await self._each(there, lambda place: self._dry_run(place, today))
        # What is wrong by the CRD of today may be right by the new one.
        proof.planned.update(today.planned)

    def _is_made_anew(self, place: int, proof: Proof) -> bool:
        """Whether no CRD of the object's kind is there yet."""
        ref = self._wanted.refs[place]
        definition = proof.planned.get(self._made_here[ref.api_version, ref.kind][1])
        return definition is None or definition.action is Action.CREATED

    @property
    def untried(self) -> str:
        """Say what was not tried of pods and quotas, and what the agent needs for it; empty if everything was."""
        told = []
        if self._pods.untried:
            namespaces = ", ".join(sorted(self._pods.untried))
            told.append(f'no pods tried in {namespaces}: needs {{apiGroups: [""], resources: [pods], verbs: [create]}}')
        if self._quotas.untried:
            namespaces = ", ".join(sorted(self._quotas.untried))
            rule = '{apiGroups: [""], resources: [resourcequotas], verbs: [list]}'
            told.append(f"no quotas read in {namespaces}: needs {rule}")
        if self._quotas.unexamined:
            told.append(f"not counted: {'; '.join(sorted(self._quotas.unexamined))}")
        return ", ".join(told)

    async def prove_hook(self, place: int, proof: Proof) -> tuple[Planned | None, list[Finding]]:
        """
        Dry-run a hook again, whose moment has come: what it was proved against may be long ago.

        Returns: What will become of it, None if it cannot be written; and what there is to report.
        Raises: KubeError: only temporary ones.
        """
        now = Proof(proof.resources)
        await self._dry_run(place, now)
        return now.planned.get(place), now.findings

    async def prove_deferred(self, proof: Proof) -> list[Finding]:
        """
        Dry-run what was deferred, its namespaces and CRDs being there now; `proof` is completed.

        Returns: What is wrong; empty if all of it is proved.
        """
        deferred = sorted(proof.deferred)
        later = Proof(proof.resources)
        await self._until_served(deferred, proof)
        await self._each(deferred, lambda place: self._dry_run(place, later))
        await self._check_watches(deferred, later)
        later.findings += await self._pods.run(self._running(deferred), later.planned)
        proof.planned.update(later.planned)
        proof.deferred = set()
        return later.findings

    async def _served(self) -> dict[Kind, Resource | UnknownKind]:
        """Find where each kind of the bundle is served; all at once, so that unknown ones are looked up together."""
        kinds = sorted({(ref.api_version, ref.kind) for ref in self._wanted.refs})

        async def resolve(kind: Kind) -> Resource | UnknownKind:
            if kind in self._made_here:
                return self._made_here[kind][0]
            try:
                return await self._client.resolve(*kind)
            except UnknownKind as error:
                return error

        return dict(zip(kinds, await together(resolve(kind) for kind in kinds), strict=True))

    @cached_property
    def _made_here(self) -> dict[Kind, tuple[Resource, int]]:
        """Map kinds to the resources that CRDs of this bundle make, and the places of those CRDs."""
        return {
            (resource.api_version, resource.kind): (resource, place)
            for place, ref in enumerate(self._wanted.refs)
            if (ref.group, ref.kind) == (CRDS.group, CRDS.kind)
            for resource in resources_of_crd(self._wanted[place])
        }

    def _place(self, place: int, served: Mapping[Kind, Resource | UnknownKind], proof: Proof) -> None:
        """Find where an object goes, and whether this environment may write there."""
        ref = self._wanted.refs[place]
        resource = served[ref.api_version, ref.kind]
        if isinstance(resource, UnknownKind) and place in self._ended:
            return
        if isinstance(resource, UnknownKind):
            remedy = "install the CustomResourceDefinition first, or correct apiVersion and kind"
            proof.findings.append(Finding(resource.code, str(resource), ref, field="kind", remedy=remedy))
            return
        self._wanted.settle(place, resource)
        ref = self._wanted.refs[place]
        if not is_segment(ref.name):
            message = f"{ref.name!r} cannot be the name of an object"
            proof.findings.append(Finding(ErrorCode.INVALID_OBJECT, message, ref, field="metadata.name"))
        elif resource.namespaced and not ref.namespace:
            message = "it names no namespace, and the environment has several"
            proof.findings.append(Finding(ErrorCode.INVALID_OBJECT, message, ref, field="metadata.namespace"))
        elif resource.namespaced and ref.namespace not in self._work.statement.namespaces:
            message = f"namespace {ref.namespace} is not among those of the deployment statement"
            proof.findings.append(Finding(ErrorCode.NOT_BOUND, message, ref, field="metadata.namespace"))
        elif not resource.namespaced and not self._work.policy.allows_cluster_scoped(ref):
            message = "it is cluster-scoped, and the agent's policy does not allow it"
            remedy = f'clusterScoped:\n- group: "{ref.group}"\n  kind: {ref.kind}\n  names: [{ref.name}]\n'
            proof.findings.append(Finding(ErrorCode.CLUSTER_SCOPED, message, ref, remedy=remedy))
        else:
            proof.resources[place] = resource

    async def _dry_run(self, place: int, proof: Proof) -> None:
        resource, ref = proof.resources[place], self._wanted.refs[place]
        if resource is None:
            return
        standing, warnings = self._planner.standing(resource, ref)
        if standing is not None and place not in self._hooks:
            proof.planned[place] = standing
            proof.findings += warnings
            return
        try:
            manifest = self._wanted.prepared(place)
        except SealInvalid as error:
            proof.findings.append(Finding(ErrorCode.SEAL, str(error), ref, remedy="seal it again to the current key"))
            return
        try:
            is_run = place in self._hooks and (ref.group, ref.kind) in RUNS
            plan = self._planner.plan_run if is_run else self._planner.plan
            planned, findings = await plan(resource, ref, manifest)
        except KubeError as error:
            if error.temporary:
                raise
            proof.findings.extend(findings_of(error, ref, fresh=True))
        else:
            proof.findings += findings
            if planned is not None:
                note = self._hooks.note(place) if place in self._hooks else ""
                proof.planned[place] = replace(planned, note=note)

    async def _check_watches(self, places: Iterable[int], proof: Proof) -> None:
        """Prove that health can be watched later: without the right, waiting would find out after the writes."""
        needed: dict[Source, ObjectRef] = {}
        evidence: dict[Source, ObjectRef] = {}
        for place in places:
            resource, ref = proof.resources[place], self._wanted.refs[place]
            if resource is None or place not in proof.planned:
                continue
            if is_watched(resource):
                needed.setdefault(Target(ref, resource).source, ref)
            if is_workload(resource):
                for source in EVIDENCE:
                    evidence.setdefault((source, ref.namespace, ""), ref)
        granted = await self._granted({*needed, *evidence})
        asked: list[tuple[Source, ObjectRef, Severity]] = [(*one, "error") for one in needed.items()]
        asked += [(*one, "warning") for one in evidence.items() if one[0] not in needed]
        await together(
            self._check_watch(source, ref, proof, severity) for source, ref, severity in asked if source not in granted
        )

    async def _granted(self, sources: Iterable[Source]) -> set[Source]:
        """
        Return what may be listed and watched by the rules of a namespace, which one question tells, or told just now.

        Of the rest nothing is known yet: an authorizer beside RBAC need not say what it would allow.
        """
        wanted = list(sources)

        async def rules(namespace: str) -> list[dict[str, Any]]:
            try:
                return await self._recent.rules(namespace)
            except MissingRight:
                return []

        namespaces = sorted({namespace for _, namespace, _ in wanted} - {""})
        found = dict(zip(namespaces, await together(map(rules, namespaces)), strict=True))
        return {
            (resource, namespace, name)
            for resource, namespace, name in wanted
            if (verbs := verbs_for(found.get(namespace, []), resource)) and ("*" in verbs or verbs >= {"list", "watch"})
        }

    async def _check_watch(self, source: Source, ref: ObjectRef, proof: Proof, severity: Severity) -> None:
        resource, namespace, name = source
        selector = f"metadata.name={name}" if name else ""
        try:
            await self._client.page(resource, namespace, limit=1, field_selector=selector, names_only=True)
            if not await self._may_watch(resource, namespace, name):
                raise MissingRight("watch", resource.group, resource.plural, namespace)
        except KubeError as error:
            if error.temporary:
                raise
            for finding in findings_of(error, ref):
                message = f"its health cannot be watched: {finding.message}"
                proof.findings.append(Finding(finding.code, message, ref, remedy=finding.remedy, severity=severity))

    async def _may_watch(self, resource: Resource, namespace: str, name: str) -> bool:
        """Ask for the right to watch; where even asking is refused, the watch itself will tell."""
        try:
            return await self._client.may(Right(namespace, resource.group, resource.plural, name, "watch"))
        except MissingRight:
            return True

    def _kind_is_new(self, place: int, proof: Proof) -> bool:
        """Whether the object's kind is made, or gets another version, by a CRD of this bundle that is not there yet."""
        ref = self._wanted.refs[place]
        made_here = self._made_here.get((ref.api_version, ref.kind))
        if made_here is None:
            return False
        definition = proof.planned.get(made_here[1])
        return definition is None or definition.action is not Action.UNCHANGED

    async def _until_served(self, places: Iterable[int], proof: Proof) -> None:
        """Wait until kinds made by this bundle's CRDs are served; no event says so, so this asks again."""
        made_here = {resource for resource, _ in self._made_here.values()}
        asked = {
            (resource, self._wanted.refs[place].namespace)
            for place in places
            if (resource := proof.resources[place]) is not None and resource in made_here
        }
        ends = time.monotonic() + _SERVED_SECONDS
        await together(self._ask_until_served(*where, ends) for where in asked)

    async def _ask_until_served(self, resource: Resource, namespace: str, ends: float) -> None:
        while time.monotonic() < ends:
            try:
                await self._client.page(resource, namespace, limit=1, names_only=True)
            except NotFound:
                await asyncio.sleep(_SERVED_POLL_SECONDS)
            except KubeError as error:
                if error.temporary:
                    raise
                return  # a missing right is the dry-run's to report
            else:
                return

    async def _each(self, places: Sequence[int], action: Callable[[int], Awaitable[None]]) -> None:
        """Run an action for each place, so many at once; the first temporary error ends all."""
        left = iter(places)

        async def work() -> None:
            for place in left:
                await action(place)

        await together(work() for _ in range(min(_BATCH, len(places))))


def _is_new(proof: Proof, place: int, resource: Resource) -> bool:
    planned = proof.planned.get(place)
    return proof.resources[place] == resource and planned is not None and planned.action is Action.CREATED
