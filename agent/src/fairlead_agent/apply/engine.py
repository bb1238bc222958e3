"""
The deploy engine: carries one deployment from its preflight to its prune, and can be killed anywhere.

What makes it resumable: the plan is saved and the inventory lists the bundle's objects before the first write; every
write is a server-side apply or a delete bound to a UID, which may be done twice; and every event has a key that a
second attempt makes again. So a resumed run is simply the same run, with the saved plan telling what to call things.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from fairlead_agent.apply.deletion import homeless_hooks, hooks_of_deletion, hooks_to_keep
from fairlead_agent.apply.findings import Finding, and_others, folded
from fairlead_agent.apply.graph import Graph
from fairlead_agent.apply.hook_runs import HookFailure, HookRuns, ended_hooks, occasion_of
from fairlead_agent.apply.hooks import FOUNDING, BundleHooks, Moment, Occasion
from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.apply.plan import plan_deployment
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.preflight import Preflight, Proof
from fairlead_agent.apply.prune import Pruner, prunable
from fairlead_agent.apply.recent import RecentAnswers
from fairlead_agent.apply.recovery import Recovered, load_or_recover
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.apply.writes import Writer, Written, object_event, unbroken
from fairlead_agent.errors import Conflict, KubeError
from fairlead_agent.health.targets import Target
from fairlead_agent.health.wait import FAILURE_GRACE_SECONDS, HealthWait
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.ports import (
    CheckpointPort,
    Clock,
    DeployPlan,
    DeployResult,
    DeployWork,
    Identity,
    OwnedObject,
    ReplayMark,
    Report,
)
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Action, Outcome, Step, StepEvent
from fairlead_shared.statement import EMPTY_BUNDLE

_LETTERS = {Action.CREATED: "c", Action.CHANGED: "m", Action.RECREATED: "r", Action.UNCHANGED: "u"}
_FAILURE_HOOK_SECONDS = 60.0
"""How long hooks on failure may take together, at least: a deployment fails most often because its time is over."""
_ACTIONS = {letter: action for action, letter in _LETTERS.items()}


class _Failed(Exception):
    """A stage failed; everything about it was reported."""

    def __init__(self, step: Step, code: ErrorCode, cause: str) -> None:
        self.step = step
        self.code = code
        self.cause = cause
        super().__init__(step, code, cause)


class DeployEngine:
    """Implements ports.Engine."""

    def __init__(
        self,
        client: KubeClient,
        inventory: InventoryStore,
        clock: Clock,
        watches: SharedWatches,
        *,
        failure_grace_seconds: float = FAILURE_GRACE_SECONDS,
    ) -> None:
        self._client = client
        self._watches = watches
        self._inventory = inventory
        self._recent = RecentAnswers(client, time.monotonic)
        self._clock = clock
        self._grace_seconds = failure_grace_seconds

    async def run(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        """
        Carry out one deployment; called again with the same work after a crash, it continues.

        Returns: Succeeded, or failed with the cause; everything of it was reported.
        Raises: asyncio.CancelledError: the task was cancelled; the inventory is true and no write is under way.
        """
        waiting = HealthWait(self._watches, report, self._clock, failure_grace_seconds=self._grace_seconds)
        deployment = _Deployment(
            self._client, self._inventory, self._clock, work, report, checkpoint, waiting, self._recent
        )
        try:
            return await self._run(deployment)
        finally:
            deployment.end()

    async def _run(self, deployment: _Deployment) -> DeployResult:
        try:
            await deployment.run()
        except _Failed as failed:
            result = DeployResult(Outcome.FAILED, failed.code, failed.cause, deployment.counts())
        except KubeError as error:  # the API server is away, or our own state may not be kept
            await deployment.report_step("failed", error.explained())
            return DeployResult(Outcome.FAILED, error.code, error.explained(), deployment.counts())
        else:
            result = DeployResult(Outcome.SUCCEEDED, counts=deployment.counts())
            try:
                await deployment.finish(result)
            except KubeError as error:
                cause = f"everything was applied, but the inventory could not be kept: {error.explained()}"
                return DeployResult(Outcome.FAILED, error.code, cause, result.counts)
            result = replace(result, digests=deployment.digests())
        return result

    async def plan(self, work: DeployWork, report: Report) -> DeployResult:
        """
        Say what a deployment would do, and change nothing: neither its objects nor the agent's own state.

        Returns: Succeeded if it could be carried out, else failed with the cause; each object was reported.
        Raises: asyncio.CancelledError: the task was cancelled.
        """
        return await plan_deployment(self._client, self._inventory, self._clock, work, report, self._recent)


@dataclass(frozen=True, slots=True)
class _Proved:
    preflight: Preflight
    hooks: BundleHooks
    proof: Proof
    graph: Graph
    prune: tuple[OwnedObject, ...]
    homeless: Mapping[int, str]
    """Hooks that cannot run, each with why."""


class _Deployment:
    """One run of one deployment."""

    def __init__(
        self,
        client: KubeClient,
        inventory: InventoryStore,
        clock: Clock,
        work: DeployWork,
        report: Report,
        checkpoint: CheckpointPort,
        waiting: HealthWait,
        recent: RecentAnswers,
    ) -> None:
        self._waiting = waiting
        self._recent = recent
        self._wait_ends: float | None = None
        """By the monotonic clock; set by the first wait, for all of them together."""
        self._client = client
        self._inventory = inventory
        self._clock = clock
        self._work = work
        self._report = report
        self._checkpoint = checkpoint
        self._wanted = WantedObjects(work)
        self._pruner = Pruner(client, work, report, clock)
        self._writer: Writer | None = None
        self._hook_runs: HookRuns | None = None
        self._recovered = Recovered()
        self._to_keep = EMPTY_BUNDLE
        """Hooks for the environment's deletion."""
        self._known: set[str] = set()
        """This deployment, and those that the environment remembered when it was proved."""
        self._step = Step.PREFLIGHT

    async def run(self) -> None:
        """Go through all stages. Raises: _Failed: one failed. KubeError: the API server is away."""
        saved = await self._checkpoint.load_plan()
        proved = await self._prove(saved)
        await self._know_secrets(proved)
        self._hook_runs = self._ready_hooks(proved, saved)
        await self._begin(proved)
        try:
            await self._apply(proved)
            await self._wait(proved)
            await self._prune(proved)
        except BaseException as error:
            # What went well is noted with the success; this way ends without one, perhaps as the task is cancelled.
            # Where that cannot be kept, why it ends is still the same; what was written is listed, without its UID.
            with contextlib.suppress(KubeError):
                await self._note_written()
            if isinstance(error, _Failed):
                raise await self._run_failure_hooks(error) from None
            raise

    def counts(self) -> dict[Action, int]:
        """Return how many objects had which action."""
        counter: Counter[Action] = Counter(one.action for one in self._pruner.pruned)
        if self._writer is not None:
            counter.update(one.action for one in self._writer.written.values())
        if self._hook_runs is not None:
            counter.update(self._hook_runs.counts)
        return dict(counter)

    def digests(self) -> dict[Identity, bytes]:
        """Return the digest of each object as it was left, where it is known."""
        written = {} if self._writer is None else self._writer.written
        return {self._wanted.refs[place].identity: one.digest for place, one in written.items() if one.digest}

    async def finish(self, result: DeployResult) -> None:
        """Keep in the inventory that it succeeded, with the UIDs of what it made, and what is to run at deletion."""
        statement = self._work.statement
        kept = await self._inventory.keep_hooks(self._work.environment, self._to_keep)
        ended = self._checkpoint.ending(result)
        mark = replace(self._begun, finished=True, ended_attempt=ended.attempt, result=ended.result)
        await self._inventory.change(
            self._work.environment,
            lambda inventory: replace(
                inventory.owns(self._made()).marked(mark),
                bundle_sha256=statement.bundle_sha256,
                environment_type=statement.environment_type,
                namespaces=statement.namespaces,
                deletion_hooks=kept,
                is_being_deleted=False,
            ),
        )

    def end(self) -> None:
        """Let go of what refers back to this: thousands of objects are to go now, not at the collector's next look."""
        self._writer = self._hook_runs = None

    async def report_step(self, status: Literal["started", "finished", "failed"], detail: str = "") -> None:
        """Report that the present stage began or ended."""
        key = f"step/{self._step}/{status}"
        await self._report(StepEvent(key=key, at=self._clock(), step=self._step, status=status, detail=detail[:4000]))

    async def _prove(self, saved: DeployPlan | None) -> _Proved:
        self._step = Step.PREFLIGHT
        await self.report_step("started")
        inventory, self._recovered = await load_or_recover(self._client, self._inventory, self._work)
        findings = self._recovered.findings
        if self._work.statement.destroys:
            bundle, found = await hooks_of_deletion(self._inventory, inventory, self._work)
            self._work = replace(self._work, bundle=bundle)
            self._wanted = WantedObjects(self._work)
            findings = [*findings, *found]
        # With itself: where the answer to its own mark was lost, it finds that mark there.
        self._known = {self._work.statement.deployment_id, *(mark.deployment_id for mark in inventory.marks)}
        occasion = Occasion(saved.occasion) if saved and saved.occasion else occasion_of(self._work, inventory)
        hooks = BundleHooks(self._wanted.hooks, occasion)
        ended = ended_hooks(hooks, saved.hooks if saved else {})
        homeless: dict[int, str] = {}
        if hooks.of_deletion:
            homeless, found = await homeless_hooks(self._client, inventory, hooks, self._wanted, ended)
            findings = [*findings, *found]
        without_proof = ended | homeless.keys()
        preflight = Preflight(self._client, self._work, self._wanted, hooks, self._recent, ended=without_proof)
        proof, graph = await preflight.run()
        leaving = prunable(inventory, self._wanted)
        known = {owned.ref.identity for owned in leaving}
        gone = tuple(owned for owned in (saved.prune if saved else ()) if owned.ref.identity not in known)
        proof.findings += findings
        proof.findings += await self._pruner.check(leaving, len(inventory.objects))
        await self._conclude(Step.PREFLIGHT, proof.findings)
        self._to_keep = hooks_to_keep(hooks, self._wanted)
        if saved is not None and saved.bundle_sha256 == self._work.bundle.sha256:
            _call_as_planned(proof, saved)
        counted = Counter(planned.action for place, planned in proof.planned.items() if place not in hooks)
        told = [f"{count} {action}" for action, count in sorted(counted.items())]
        if running := sum(hooks.runs(place) for place in hooks if place not in homeless):
            told.append(f"{running} hook{'s' if running > 1 else ''}")
        told += [f"{len(leaving)} to prune"] if leaving else []
        told += (
            [f"{len(proof.deferred)} not fully proved before their namespace or kind is there"]
            if proof.deferred
            else []
        )
        told += [preflight.untried] if preflight.untried else []
        await self.report_step("finished", ", ".join(told) or "nothing to do")
        return _Proved(preflight, hooks, proof, graph, (*leaving, *gone), homeless)

    async def _know_secrets(self, proved: _Proved) -> None:
        """Have no value of a Secret told with what containers said; a deletion brings none, and they go with it."""
        mask = self._waiting.mask
        mask.add(self._wanted.secret_values)
        if proved.hooks.of_deletion:
            owned = (await self._inventory.load(self._work.environment)).objects
            await mask.add_live(self._client, [one.ref for one in owned])

    def _ready_hooks(self, proved: _Proved, saved: DeployPlan | None) -> HookRuns | None:
        """Return what runs the hooks, None if there are none; where an earlier process had begun, it goes on there."""
        if not any(proved.hooks.runs(place) for place in proved.hooks) and not self._deletes_hooks(proved.hooks):
            return None
        runs = HookRuns(
            client=self._client,
            store=self._inventory,
            work=self._work,
            wanted=self._wanted,
            hooks=proved.hooks,
            preflight=proved.preflight,
            proof=proved.proof,
            graph=proved.graph,
            waiting=self._waiting,
            report=self._report,
            clock=self._clock,
            save=partial(self._save_plan, proved),
            left_out=proved.homeless,
        )
        if saved is not None and saved.run:
            runs.run, runs.records, runs.is_resumed = saved.run, dict(saved.hooks), True
        return runs

    async def _begin(self, proved: _Proved) -> None:
        """Save the plan, and list the bundle's objects in the inventory, before the first write."""
        planned = proved.proof.planned
        await self._save_plan(proved)
        # What is made again gets a UID that nobody knows yet; the old one must not stand for it.
        recreated = {
            place for place, one in planned.items() if one.action is Action.RECREATED and place not in proved.hooks
        }
        intended = [
            OwnedObject(ref=ref, uid="" if place in recreated else planned[place].uid)
            for place, ref in enumerate(self._wanted.refs)
            if place not in proved.hooks
        ]
        again = [OwnedObject(ref=self._wanted.refs[place]) for place in recreated]

        def list_intended(inventory: Inventory) -> Inventory:
            for mark in inventory.marks:
                if mark.deployment_id not in self._known:
                    # Begun by another replica after this one was proved, and held against replays, without it.
                    raise Conflict(f"inventory of {self._work.environment}: {mark.deployment_id} was begun meanwhile")
            return replace(
                inventory.owns(self._recovered.objects).without(again).owns(intended),
                # What is deployed now is not what ran before a deletion that came to no end.
                is_being_deleted=inventory.is_being_deleted and self._work.statement.destroys,
            ).begun(self._begun)

        await self._inventory.change(self._work.environment, list_intended, salvages=True)

    async def _save_plan(self, proved: _Proved) -> None:
        planned = proved.proof.planned
        unplanned = Planned(Action.UNCHANGED, write=False)  # a hook that has no moment
        letters = "".join(_LETTERS[planned.get(place, unplanned).action] for place in range(len(self._wanted)))
        plan = DeployPlan(bundle_sha256=self._work.bundle.sha256, actions=letters, prune=proved.prune)
        if self._hook_runs is not None:
            run, records = self._hook_runs.run, self._hook_runs.records
            plan = plan.model_copy(update={"run": run, "occasion": proved.hooks.occasion.value, "hooks": records})
        await self._checkpoint.save_plan(plan)

    async def _apply(self, proved: _Proved) -> None:
        self._step = Step.APPLY
        await self.report_step("started")
        proof = proved.proof
        for place in proved.hooks:
            if place in proved.homeless or not proved.hooks.runs(place):
                await self._tell_left_out(place, proved.homeless.get(place) or proved.hooks.note(place))
        until_ready = partial(self._until_ready, proof.resources)
        writer = self._writer = Writer(
            self._client, self._wanted, proof.resources, until_ready, self._report, self._clock
        )
        everything = set(range(len(self._wanted))) - set(proved.hooks)
        if proof.deferred:
            founding = proved.graph.needed_for(proof.deferred) - proof.deferred - set(proved.hooks)
            await unbroken(partial(self._found, founding, writer, proved), writer)
            everything -= founding
            if self._hook_runs is not None:
                await self._hold_written(writer)
        await self._run_hooks(Moment.BEFORE)
        write = partial(writer.write, everything, proof.planned, proved.graph)
        await unbroken(write, writer)
        await self._hold_written(writer)
        await self.report_step("finished")

    async def _hold_written(self, writer: Writer) -> None:
        """Go on only if everything was written, and what is awaited is ready. Raises: _Failed."""
        failed = [self._wanted.refs[at] for at, one in sorted(writer.written.items()) if one.action is Action.FAILED]
        if failed:
            first = writer.findings[0]
            cause = f"{first.sentence}{and_others(len(failed))}"
            await self.report_step("failed", cause)
            raise _Failed(Step.APPLY, first.code, cause)
        if writer.unready:
            cause = f"{next(iter(writer.unready.values()))}{and_others(len(writer.unready))}"
            await self.report_step("failed", cause)
            raise _Failed(Step.APPLY, ErrorCode.UNHEALTHY, cause)

    async def _tell_left_out(self, place: int, why: str) -> None:
        """Name a hook for which nothing is done."""
        await self._report(object_event(self._wanted.refs[place], Action.SKIPPED, self._clock(), note=why))

    async def _run_hooks(self, moment: Moment) -> None:
        """Run the hooks of a moment within the present step. Raises: _Failed: one failed."""
        if self._hook_runs is not None:
            failure = await self._hook_runs.run_all(moment, self._wait_seconds)
            if failure is not None:
                await self.report_step("failed", failure.cause)
                raise _Failed(self._step, failure.code, failure.cause)

    async def _run_failure_hooks(self, failed: _Failed) -> _Failed:
        """Run what is to run on failure, however little time is left. Returns: The failure, with what these said."""
        if self._hook_runs is None:
            return failed
        ends = time.monotonic() + max(self._wait_seconds(), _FAILURE_HOOK_SECONDS)
        failure: HookFailure | None
        try:
            failure = await self._hook_runs.run_all(Moment.FAILURE, lambda: max(ends - time.monotonic(), 0.001))
        except KubeError as error:
            failure = HookFailure(error.code, f"the hooks that run on failure could not: {error}")
        if failure is None:
            return failed
        return _Failed(failed.step, failed.code, f"{failed.cause}\nand {failure.cause}")

    async def _until_ready(self, resources: Sequence[Resource | None], place: int, written: Written) -> str:
        """Wait until one object is ready. Returns: Why it is not in time, or will not be; empty if it is."""
        resource = resources[place]
        if resource is None:
            return ""
        target = Target(self._wanted.refs[place], resource, written.uid, written.version)
        unhealthy = await self._waiting.wait([target], self._wait_seconds())
        return unhealthy[0].sentence if unhealthy else ""

    def _wait_seconds(self) -> float:
        """Return how long objects may still take to become healthy, all together."""
        now = time.monotonic()
        if self._wait_ends is None:
            self._wait_ends = now + self._work.wait_seconds
        return max(self._wait_ends - now, 0.001)

    async def _found(self, founding: set[int], writer: Writer, proved: _Proved) -> None:
        """Write what others are deferred for, and prove them, before any other write."""
        proof = proved.proof
        await writer.write(founding, proof.planned, proved.graph)
        rest = set(range(len(self._wanted))) - founding
        await writer.hold_for({other for place in rest for other in proved.graph.awaits[place]} & founding)
        if not writer.unready and not any(
            one.action in {Action.FAILED, Action.SKIPPED} for one in writer.written.values()
        ):
            await self._conclude(Step.APPLY, await proved.preflight.prove_deferred(proof))
            await self._save_plan(proved)

    async def _note_written(self) -> None:
        """Fill the UIDs of what was written into the inventory."""
        made = self._made()
        if made:
            await self._inventory.change(self._work.environment, lambda inventory: inventory.owns(made))

    def _made(self) -> list[OwnedObject]:
        written = {} if self._writer is None else self._writer.written
        return [OwnedObject(ref=self._wanted.refs[place], uid=one.uid) for place, one in written.items() if one.uid]

    async def _wait(self, proved: _Proved) -> None:
        self._step = Step.WAIT
        await self.report_step("started")
        written = self._writer.written if self._writer is not None else {}
        unknown = Written(Action.UNCHANGED)
        targets = [
            Target(ref, resource, (one := written.get(place, unknown)).uid, one.version)
            for place, (ref, resource) in enumerate(zip(self._wanted.refs, proved.proof.resources, strict=True))
            if resource is not None and place not in proved.hooks
        ]
        unhealthy = await self._waiting.wait(targets, self._wait_seconds())
        if unhealthy:
            cause = f"{unhealthy[0].sentence}{and_others(len(unhealthy))}"
            await self.report_step("failed", cause)
            raise _Failed(Step.WAIT, ErrorCode.UNHEALTHY, cause)
        await self.report_step("finished")

    async def _prune(self, proved: _Proved) -> None:
        candidates, hooks = proved.prune, proved.hooks
        if not candidates and not hooks.groups(Moment.AFTER) and not self._deletes_hooks(hooks):
            return
        self._step = Step.PRUNE
        await self.report_step("started")
        if self._deletes_hooks(hooks):
            await self._delete(candidates, hooks)
        else:
            await self._prune_all(candidates)
            await self._run_hooks(Moment.AFTER)
        await self.report_step("finished")

    def _deletes_hooks(self, hooks: BundleHooks) -> bool:
        """Whether objects of hooks are to go at the end, with the environment."""
        return self._work.statement.destroys and len(hooks) > 0

    async def _delete(self, candidates: Sequence[OwnedObject], hooks: BundleHooks) -> None:
        """Delete everything around the hooks that run after that, which are in namespaces and of kinds as well."""
        if hooks.groups(Moment.BEFORE):
            await self._inventory.change(
                self._work.environment, lambda inventory: replace(inventory, is_being_deleted=True)
            )
        last = [owned for owned in candidates if (owned.ref.group, owned.ref.kind) in FOUNDING]
        await self._prune_all([owned for owned in candidates if owned not in last])
        await self._run_hooks(Moment.AFTER)
        left = [] if self._hook_runs is None else await self._hook_runs.left()
        await self._prune_all([*left, *last])

    async def _prune_all(self, candidates: Sequence[OwnedObject]) -> None:
        if not candidates:
            return
        await unbroken(partial(self._pruner.prune, candidates), self._pruner, self._note_pruned)
        if self._pruner.findings:
            first = self._pruner.findings[0]
            cause = f"not everything could be pruned: {first.sentence}"
            await self.report_step("failed", cause)
            raise _Failed(Step.PRUNE, first.code, cause)

    async def _note_pruned(self) -> None:
        gone = [one.owned for one in self._pruner.pruned if one.forget]
        await self._inventory.change(self._work.environment, lambda inventory: inventory.without(gone))

    async def _conclude(self, step: Step, found: Sequence[Finding]) -> None:
        """Report findings, a missing right once for all who need it. Raises: _Failed: one of them is an error."""
        findings = folded(found)
        for finding in findings:
            await self._report(finding.event(self._clock()))
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            cause = f"{errors[0].sentence}{and_others(len(errors))}"
            if self._writer is not None:
                made = ", ".join(str(self._wanted.refs[place]) for place in sorted(self._writer.written))
                cause += f"; already there are {made}"
            await self.report_step("failed", cause)
            raise _Failed(step, errors[0].code, cause)

    @property
    def _begun(self) -> ReplayMark:
        statement = self._work.statement
        return ReplayMark(statement.deployment_id, finished=False, not_before=statement.not_before)


def _call_as_planned(proof: Proof, saved: DeployPlan) -> None:
    """Call each object's action what the first attempt called it; whether to write is for the fresh proof to say."""
    for place, letter in enumerate(saved.actions):
        fresh = proof.planned.get(place)
        before = _ACTIONS[letter]
        if fresh is not None and before is not Action.UNCHANGED and fresh.action is not before:
            proof.planned[place] = replace(fresh, action=before)
