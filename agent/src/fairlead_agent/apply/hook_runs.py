"""
Runs the hooks of one deployment, moment by moment, and never one of them twice.

What makes that so: each Job and pod carries the name of this very try and of its moment, the plan in the checkpoint
says how each hook ended before its object may go, and an object that is gone since is looked for in its events. A
retry of a deployment is another try: there the hooks run again.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fairlead_agent.apply.findings import Finding, and_others, folded
from fairlead_agent.apply.graph import Graph
from fairlead_agent.apply.hook_logs import last_lines
from fairlead_agent.apply.hooks import HOOK_RUN, RUNS, BundleHooks, Ending, Moment, Occasion, told_moment
from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.preflight import Preflight, Proof
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.apply.writes import Writer, Written, object_event, unbroken
from fairlead_agent.errors import Conflict, NotFound
from fairlead_agent.health.targets import Target
from fairlead_agent.health.wait import HealthWait, Unhealthy
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.ports import Clock, DeployWork, HookRun, OwnedObject, Report
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Action, HealthStatus
from fairlead_shared.statement import EMPTY_BUNDLE


@dataclass(frozen=True, slots=True)
class HookFailure:
    """Why the hooks of a moment did not all end well."""

    code: ErrorCode
    cause: str


def occasion_of(work: DeployWork, inventory: Inventory) -> Occasion:
    """
    Say what kind of deployment it is.

    Helm's install hooks run until one deployment succeeded, and again after the environment was destroyed.
    """
    if work.statement.destroys:
        return Occasion.REST if inventory.is_being_deleted else Occasion.DELETION
    if work.statement.rollback:
        return Occasion.ROLLBACK
    # A lost inventory remembers no bundle; then the statement's word is as good.
    before = inventory.bundle_sha256 or work.statement.previous_bundle_sha256
    return Occasion.FIRST if before in {None, "", EMPTY_BUNDLE.sha256} else Occasion.AGAIN


def ended_hooks(hooks: BundleHooks, records: Mapping[str, HookRun]) -> frozenset[int]:
    """Return the places of hooks that ended at each of their moments, as an earlier process recorded."""
    return frozenset(
        place
        for place in hooks
        if hooks.runs(place)
        and all(
            (record := records.get(_key(moment, place))) is not None and record.ended for moment in hooks.moments(place)
        )
    )


@dataclass(kw_only=True, slots=True)
class HookRuns:
    """The hooks of one try of a deployment."""

    client: KubeClient
    store: InventoryStore
    """Where the environment's objects are listed."""
    work: DeployWork
    wanted: WantedObjects
    hooks: BundleHooks
    preflight: Preflight
    """Proves each hook once more when its moment has come."""
    proof: Proof
    graph: Graph
    waiting: HealthWait
    report: Report
    clock: Clock
    save: Callable[[], Awaitable[None]]
    """Stores the plan, with `run` and `records`."""
    left_out: Collection[int] = ()
    """Hooks that cannot run."""
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    """Names this try; the same after a crash."""
    records: dict[str, HookRun] = field(default_factory=dict)
    """`MOMENT/PLACE` → how far a hook got."""
    is_resumed: bool = False
    """Whether an earlier process may have made some already."""
    counts: Counter[Action] = field(default_factory=Counter)
    """How many objects had which action."""

    async def run_all(self, moment: Moment, seconds: Callable[[], float]) -> HookFailure | None:
        """
        Run the hooks of one moment, group by group, and delete those that ask for it.

        Args:
            moment: Which.
            seconds: How long they may still take, all together.
        Returns: None once all ended well; else why not, all of it reported. What comes after is not run then.
        Raises: KubeError: the API server is away.
        """
        groups = [[place for place in group if place not in self.left_out] for group in self.hooks.groups(moment)]
        if not any(groups):
            return None
        failure: HookFailure | None = None
        for group in groups:
            await self._retell(moment, group)
            failure = self._recorded(moment, group) or await self._run_group(moment, group, seconds)
            if failure is not None:
                break
        await self._clear(moment, [place for group in groups for place in group])
        return failure

    async def _retell(self, moment: Moment, group: Sequence[int]) -> None:
        """Report again what an earlier process did: what it reported may be lost with its disk."""
        for place in group:
            if (record := self.records.get(_key(moment, place))) is not None and record.ended:
                ref, note = self.wanted.refs[place], self.hooks.note(place)
                await self.report(object_event(ref, record.action, self.clock(), note=note))
                self.counts[record.action] += 1

    def _recorded(self, moment: Moment, group: Sequence[int]) -> HookFailure | None:
        """Return what an earlier process found to have failed."""
        causes = [one.cause for place in group if (one := self.records.get(_key(moment, place))) and one.cause]
        return HookFailure(ErrorCode.UNHEALTHY, causes[0]) if causes else None

    async def _run_group(
        self, moment: Moment, group: Sequence[int], seconds: Callable[[], float]
    ) -> HookFailure | None:
        left = [place for place in group if not self._ended(moment, place)]
        planned: dict[int, Planned] = {}
        findings: list[Finding] = []
        for place in left:
            one, found = await self._planned(moment, place)
            findings += found
            if one is not None:
                planned[place] = one
        if failure := await self._refused(findings, moment):
            return failure
        await self._intend(left, planned)
        until_ready = partial(self._until_ended, seconds=seconds)
        writer = Writer(self.client, self.wanted, self.proof.resources, until_ready, self.report, self.clock)
        note = partial(self._note_written, moment, writer)
        await unbroken(partial(writer.write, left, planned, self.graph), writer, note)
        self.counts.update(one.action for one in writer.written.values())
        if writer.findings:
            return HookFailure(writer.findings[0].code, f"{self._named(moment)} {writer.findings[0].sentence}")
        if writer.unready:
            return HookFailure(ErrorCode.UNHEALTHY, f"{self._named(moment)} {next(iter(writer.unready.values()))}")
        return await self._wait(moment, left, writer, seconds)

    async def _planned(self, moment: Moment, place: int) -> tuple[Planned | None, list[Finding]]:
        """Return what is to become of a hook: nothing any more if this very try made it."""
        ref, resource, note = self.wanted.refs[place], self.proof.resources[place], self.hooks.note(place)
        if (record := self.records.get(_key(moment, place))) is not None:
            return Planned(record.action, write=False, uid=record.uid, note=note), []
        if self._is_run(place) and resource is not None:
            mark = f"{self.run}-{moment}"
            self.wanted.annotate(place, HOOK_RUN, mark)
            live = await self.client.find(resource, ref.namespace, ref.name) if self.is_resumed else None
            if live is not None and (live["metadata"].get("annotations") or {}).get(HOOK_RUN) == mark:
                action = self.proof.planned[place].action
                return Planned(action, write=False, uid=live["metadata"]["uid"], note=note), []
        planned, findings = await self.preflight.prove_hook(place, self.proof)
        if planned is not None and self.is_resumed and planned.action is not Action.RECREATED:
            planned = replace(planned, action=self.proof.planned[place].action)
        return planned, [one for one in findings if one.severity == "error"]

    async def _refused(self, findings: Sequence[Finding], moment: Moment) -> HookFailure | None:
        """Report what stands against hooks by now, though nothing did at the beginning."""
        for finding in folded(findings):
            await self.report(finding.event(self.clock()))
        if not findings:
            return None
        cause = f"{self._named(moment)} {findings[0].sentence}{and_others(len(findings))}"
        return HookFailure(findings[0].code, cause)

    async def _intend(self, places: Sequence[int], planned: Mapping[int, Planned]) -> None:
        """List hooks in the inventory before they are made."""
        intended = [
            OwnedObject(ref=self.wanted.refs[place], uid="" if planned[place].write else planned[place].uid, hook=True)
            for place in places
        ]
        # What is made again gets a UID that nobody knows yet; the old one must not stand for it.
        again = [one for one in intended if not one.uid]
        await self.store.change(self.work.environment, lambda inventory: inventory.without(again).owns(intended))

    async def _note_written(self, moment: Moment, writer: Writer) -> None:
        known = []
        for place, one in writer.written.items():
            if one.uid and one.action not in {Action.FAILED, Action.SKIPPED}:
                known.append(OwnedObject(ref=self.wanted.refs[place], uid=one.uid, hook=True))
                self.records.setdefault(_key(moment, place), HookRun(action=one.action, uid=one.uid))
        await self.store.change(self.work.environment, lambda inventory: inventory.owns(known))
        await self.save()

    async def _wait(
        self, moment: Moment, places: Sequence[int], writer: Writer, seconds: Callable[[], float]
    ) -> HookFailure | None:
        """Wait until the Jobs and pods of a group ended, and record how."""
        targets = {target: place for place in places if (target := self._target(place, writer.written[place]))}
        unhealthy = await self.waiting.wait(list(targets), seconds())
        causes = {targets[one.target]: await self._cause(moment, one) for one in unhealthy}
        # What a group's failure leaves running is not known to have ended.
        ended = causes or dict.fromkeys(places, "")
        for place, cause in ended.items():
            record = self.records[_key(moment, place)]
            self.records[_key(moment, place)] = record.model_copy(update={"ended": True, "cause": cause})
        await self.save()
        return HookFailure(ErrorCode.UNHEALTHY, next(iter(causes.values()))) if causes else None

    async def _until_ended(self, place: int, written: Written, seconds: Callable[[], float]) -> str:
        """Wait for a hook that another of its group awaits. Returns: Why it did not end well; empty if it did."""
        target = self._target(place, written)
        unhealthy = await self.waiting.wait([target], seconds()) if target else []
        return unhealthy[0].sentence if unhealthy else ""

    async def _cause(self, moment: Moment, unhealthy: Unhealthy) -> str:
        target, verdict = unhealthy.target, unhealthy.verdict
        is_late = verdict.status is HealthStatus.PROGRESSING
        end = f"did not end in time: {verdict.cause}" if is_late else f"failed: {verdict.cause}"
        lines = await last_lines(self.client, target.resource, target.ref, target.uid, self.waiting.mask)
        return f"{self._named(moment)} {target.ref} {end}" + (f"\n{lines}" if lines else "")

    async def left(self) -> list[OwnedObject]:
        """
        Return the objects of hooks that no annotation had deleted, for a deletion to delete.

        Those are among them that an earlier process deleted: what it reported may be lost with its disk.

        Raises: KubeError: the API server is away.
        """
        inventory = await self.store.load(self.work.environment)
        listed = {owned.ref.identity: owned for owned in inventory.objects}
        found = []
        for place in self.hooks:
            ref = self.wanted.refs[place]
            records = [self.records.get(_key(moment, place)) for moment in (Moment.AFTER, Moment.BEFORE)]
            made = next((record for record in records if record is not None), None)
            if ref.identity in listed:
                found.append(listed[ref.identity])
            elif made is not None and made.uid and not self._is_cleared(place, made):
                found.append(OwnedObject(ref=ref, uid=made.uid, hook=True))
        return found

    def _is_cleared(self, place: int, record: HookRun) -> bool:
        """Tell whether a hook ended in a way after which its annotation has its object deleted."""
        return record.ended and (Ending.FAILED if record.cause else Ending.SUCCEEDED) in self.hooks[place].deleted_when

    async def _clear(self, moment: Moment, places: Sequence[int]) -> None:
        """Delete the objects of hooks that want it after such an end."""
        gone = []
        for place in places:
            record, resource = self.records.get(_key(moment, place)), self.proof.resources[place]
            if record is not None and resource is not None and self._is_cleared(place, record):
                ref = self.wanted.refs[place]
                ending = Ending.FAILED if record.cause else Ending.SUCCEEDED
                with contextlib.suppress(NotFound, Conflict):
                    await self.client.delete(resource, ref.namespace, ref.name, uid=record.uid)
                gone.append(OwnedObject(ref=ref, uid=record.uid, hook=True))
                note = f"hook: deleted when it had {ending}, as its annotation asks"
                await self.report(object_event(ref, Action.PRUNED, self.clock(), note=note))
                self.counts[Action.PRUNED] += 1
        if gone:
            await self.store.change(self.work.environment, lambda inventory: inventory.without(gone))

    def _target(self, place: int, written: Written) -> Target | None:
        resource = self.proof.resources[place]
        if resource is None or not self._is_run(place):
            return None
        return Target(self.wanted.refs[place], resource, written.uid, written.version, is_run=True)

    def _is_run(self, place: int) -> bool:
        ref = self.wanted.refs[place]
        return (ref.group, ref.kind) in RUNS

    def _ended(self, moment: Moment, place: int) -> bool:
        record = self.records.get(_key(moment, place))
        return record is not None and record.ended

    def _named(self, moment: Moment) -> str:
        return f"the hook that runs {told_moment(moment, self.hooks.occasion)},"


def _key(moment: Moment, place: int) -> str:
    return f"{moment}/{place}"
