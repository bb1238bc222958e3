"""
Plan: what a deployment would do, told object by object, by the same preflight that a deployment begins with.

Nothing is changed: every request is a read or a dry-run, the inventory is read only, and there is no checkpoint (a
killed plan is asked for again). What it tells leaves the cluster, so that values of Secrets are never among it.
"""

from __future__ import annotations

from collections import Counter

from fairlead_agent.apply.findings import and_others, folded
from fairlead_agent.apply.hook_runs import occasion_of
from fairlead_agent.apply.hooks import BundleHooks
from fairlead_agent.apply.inventory import InventoryStore
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.preflight import Preflight, Proof
from fairlead_agent.apply.prune import Pruner, prunable
from fairlead_agent.apply.recent import RecentAnswers
from fairlead_agent.apply.recovery import load_or_recover
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import KubeError
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.ports import Clock, DeployResult, DeployWork, Report
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, Outcome, PlannedEvent, Step, StepEvent

_DEFERRED = "not fully proved before its namespace or kind is there"
_OWNERSHIP_ONLY = "only which fields Fairlead manages"


async def plan_deployment(
    client: KubeClient,
    inventory: InventoryStore,
    clock: Clock,
    work: DeployWork,
    report: Report,
    recent: RecentAnswers,
) -> DeployResult:
    """
    Plan one deployment, and report what would become of each object and all that stands against it.

    Returns: Succeeded if the deployment could be carried out, else failed with the cause.
    """
    at = clock()
    await report(StepEvent(key="step/preflight/started", at=at, step=Step.PREFLIGHT, status="started"))
    try:
        result, detail = await _plan(client, inventory, clock, work, report, recent)
    except KubeError as error:  # the API server is away
        result, detail = DeployResult(Outcome.FAILED, error.code, error.explained()), error.explained()
    status = "finished" if result.outcome is Outcome.SUCCEEDED else "failed"
    key = f"step/preflight/{status}"
    await report(StepEvent(key=key, at=clock(), step=Step.PREFLIGHT, status=status, detail=detail[:4096]))
    return result


async def _plan(
    client: KubeClient,
    inventory: InventoryStore,
    clock: Clock,
    work: DeployWork,
    report: Report,
    recent: RecentAnswers,
) -> tuple[DeployResult, str]:
    """Return the result, and what there is to say of the whole."""
    wanted = WantedObjects(work)
    held, recovered = await load_or_recover(client, inventory, work)
    hooks = BundleHooks(wanted.hooks, occasion_of(work, held))
    preflight = Preflight(client, work, wanted, hooks, recent, tells_fields=True)
    proof, _ = await preflight.run()
    pruner = Pruner(client, work, report, clock)
    against = [*proof.findings, *recovered.findings, *await pruner.check(prunable(held, wanted), len(held.objects))]
    findings = folded(against)
    for finding in findings:
        await report(finding.event(clock()))
    counts: Counter[Action] = Counter()
    idle = [place for place in hooks if hooks.is_idle(place)]
    told = [
        _told(wanted.refs[place], planned, proof, place)
        for place, planned in sorted(proof.planned.items())
        if place not in idle
    ]
    told += [(wanted.refs[place], Planned(Action.SKIPPED, write=False), hooks.note(place)) for place in idle]
    told += [(one.owned.ref, Planned(one.action, write=True), one.detail) for one in pruner.foreseen]
    for ref, planned, detail in told:
        counts[planned.action] += 1
        await report(
            PlannedEvent(
                key=f"planned/{ref}",
                at=clock(),
                object=ref,
                action=planned.action,
                detail=detail[:4096],
                fields=planned.fields,
                fields_left_out=planned.fields_left_out,
            )
        )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        cause = f"{errors[0].sentence}{and_others(len(errors))}"
        return DeployResult(Outcome.FAILED, errors[0].code, cause, dict(counts)), cause
    return DeployResult(Outcome.SUCCEEDED, counts=dict(counts)), preflight.untried


def _told(ref: ObjectRef, planned: Planned, proof: Proof, place: int) -> tuple[ObjectRef, Planned, str]:
    if planned.note:
        return ref, planned, planned.note
    if place in proof.deferred:
        return ref, planned, _DEFERRED
    if planned.taken_from is not None:
        return ref, planned, f"taken over from {planned.taken_from}"
    is_bare = planned.action is Action.CHANGED and not planned.fields and not planned.fields_left_out
    return ref, planned, _OWNERSHIP_ONLY if is_bare else ""
