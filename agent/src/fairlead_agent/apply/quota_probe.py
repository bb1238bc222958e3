"""
Quota probe: reads the quotas of a deployment's namespaces, and what its objects would take of them.

One pod that fits says nothing of three with their surge; a quota refuses the last of them minutes later, and only the
ReplicaSet hears of it. Objects are taken as the API server would make them, and pods as its admission would leave them
(defaults of a LimitRange) where the agent may dry-run one. Namespaces without a quota cost one request at most. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead_agent.apply.demand import (
    Demand,
    PodSet,
    less,
    pod_spec,
    pods_held,
    pods_wanted,
    roll_out,
    usage_of_object,
)
from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.planning import ObjectPlanner, Planned
from fairlead_agent.apply.pod_probe import pod_of
from fairlead_agent.apply.quota import Quota, examine, quota_of
from fairlead_agent.apply.recent import RecentAnswers
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import KubeError, MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS, Resource
from fairlead_agent.together import together
from fairlead_shared.errors import SealInvalid
from fairlead_shared.progress import Action


class QuotaProbe:
    """
    Compares what one deployment takes with the quotas of its namespaces.

    Args:
        client: Of the cluster.
        wanted: The deployment's objects.
        planner: Says what the API server would make of each.
        recent: Reads the quotas.
    """

    def __init__(
        self, client: KubeClient, wanted: WantedObjects, planner: ObjectPlanner, recent: RecentAnswers
    ) -> None:
        self.untried: set[str] = set()
        """Namespaces whose quotas the agent may not list."""
        self.unexamined: set[str] = set()
        """What could not be counted, in words."""
        self._client = client
        self._wanted = wanted
        self._planner = planner
        self._recent = recent

    async def run(
        self, places: Iterable[int], planned: Mapping[int, Planned], resources: Sequence[Resource | None]
    ) -> list[Finding]:
        """
        Compare.

        Args:
            places: Which objects, in namespaces that are there; no hooks, which come and go.
            planned: What will become of each object of the bundle.
            resources: Where each one's kind is served.
        Returns: What does not fit.
        Raises: KubeError: temporary ones.
        """
        by_namespace: dict[str, list[int]] = {}
        for place in places:
            if place in planned and planned[place].write and (namespace := self._wanted.refs[place].namespace):
                by_namespace.setdefault(namespace, []).append(place)
        found = await together(
            self._examine(namespace, ones, planned, resources) for namespace, ones in by_namespace.items()
        )
        return [finding for findings in found for finding in findings]

    async def _examine(
        self,
        namespace: str,
        places: Sequence[int],
        planned: Mapping[int, Planned],
        resources: Sequence[Resource | None],
    ) -> list[Finding]:
        quotas = await self._quotas(namespace)
        if not quotas:
            return []
        demands = await together(
            self._demand(place, planned[place], resource)
            for place in places
            if (resource := resources[place]) is not None
        )
        return [finding for quota in quotas for finding in examine(quota, [one for one in demands if one is not None])]

    async def _quotas(self, namespace: str) -> list[Quota]:
        try:
            found = await self._recent.quotas(namespace)
        except MissingRight:
            self.untried.add(namespace)
            return []
        quotas = [quota_of(live) for live in found]
        unknown = [quota for quota in quotas if quota.counts({}) is None]
        self.unexamined.update(f"ResourceQuota {quota.name}, for its scope" for quota in unknown)
        return [quota for quota in quotas if quota not in unknown]

    async def _demand(self, place: int, planned: Planned, resource: Resource) -> Demand | None:
        ref = self._wanted.refs[place]
        try:
            manifest = self._wanted.prepared(place)
            is_there = planned.action is not Action.CREATED
            live = await self._client.find(resource, ref.namespace, ref.name) if is_there else None
            made = manifest
            if planned.action is not Action.RECREATED:
                made = await self._planner.outcome(resource, ref, manifest)
            return await self._demand_of(place, resource, made, live)
        except SealInvalid:
            return None  # found by the dry-run
        except KubeError as error:
            if error.temporary:
                raise
            self.unexamined.add(f"{ref} in quotas: {error}")
            return None

    async def _demand_of(
        self, place: int, resource: Resource, made: Mapping[str, Any], live: Mapping[str, Any] | None
    ) -> Demand:
        ref = self._wanted.refs[place]
        objects = less(usage_of_object(resource, made), usage_of_object(resource, live) if live else {})
        template, before = pod_spec(resource, made), pod_spec(resource, live) if live else None
        count = pods_wanted(resource, made, live)
        if template is None or count is None:
            if template is not None:
                self.unexamined.add(f"the pods of {ref} in quotas: their number is that of the nodes")
            return Demand(ref, objects, None)
        spec = await self._admitted(place, resource, made, template)
        held = None
        if live is not None and before is not None:
            old = spec if before == template else await self._admitted(place, resource, live, before)
            held = PodSet(pods_held(resource, live), old)
        surge, may_shrink = roll_out(resource, made, count) if held is not None and before != template else (0, True)
        return Demand(ref, objects, PodSet(count, spec), held, surge, may_shrink)

    async def _admitted(
        self, place: int, resource: Resource, manifest: Mapping[str, Any], template: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return a pod's spec as admission would leave it; its template where nobody can tell."""
        made_here = {ref.identity for ref in self._wanted.refs}
        pod = None if resource == PODS else pod_of(manifest, self._wanted.refs[place], made_here)
        if pod is None:
            return template
        try:
            spec: Mapping[str, Any] = (await self._client.create(PODS, pod, dry_run=True))["spec"]
        except KubeError as error:
            if error.temporary:
                raise
            return template
        return spec
