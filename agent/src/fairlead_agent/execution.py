"""
Execution: carries one job from its checkpoint to its result, and reports every step through the job's journal.

The result is decided once: it is kept before it is reported, so that a restart cannot change its mind, by the mark of
its deployment, or in the checkpoint where there is no mark to hold it. A killed execution starts again from the
checkpoint; events it reported before are dropped by their keys.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from fairlead_agent.bundle_cache import BundleCache
from fairlead_agent.checkpoint import Checkpoint, CheckpointStore
from fairlead_agent.errors import BundleUnavailable, IdentityInvalid, JournalFull, KubeError, OfferRefused
from fairlead_agent.exchange import Courier
from fairlead_agent.identity_store import IdentityStore
from fairlead_agent.journal import Journal
from fairlead_agent.logs import Logger
from fairlead_agent.metrics import Metrics
from fairlead_agent.patience import patiently
from fairlead_agent.policy_file import PolicyFile
from fairlead_agent.ports import (
    Clock,
    DeployPlan,
    DeployResult,
    DeployWork,
    DriftPort,
    Ended,
    Engine,
    EnvironmentKey,
    HealthPort,
    ReplayMark,
    ReplayPort,
)
from fairlead_agent.verification import (
    Verified,
    check_kind,
    check_readable,
    check_replay,
    read_statement,
    verify_statement,
)
from fairlead_shared.bundle import Bundle
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import JobOffer
from fairlead_shared.jobs import JobKind
from fairlead_shared.progress import HealthStatus, Outcome, ProgressEvent, ResultEvent, Step, StepEvent
from fairlead_shared.statement import EMPTY_BUNDLE, DeploymentStatement

SAVE_BASE_SECONDS, SAVE_CAP_SECONDS = 0.5, 10.0
"""Backoff of a checkpoint's writes while the API server is away."""
_StepStatus = Literal["started", "finished", "failed"]
_SEVERITY = (
    HealthStatus.DEGRADED, HealthStatus.MISSING, HealthStatus.UNKNOWN, HealthStatus.PROGRESSING, HealthStatus.SUSPENDED,
)  # fmt: skip


class Stop(StrEnum):
    """Why an execution is to end early."""

    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    FORGET = "forget"
    """The job is another's now: no further write, no result."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every execution uses."""

    policy: PolicyFile
    identities: IdentityStore
    checkpoints: CheckpointStore
    bundles: BundleCache
    engine: Engine
    health: HealthPort
    replay: ReplayPort
    drift: DriftPort
    courier: Courier
    clock: Clock
    logger: Logger
    metrics: Metrics
    is_over: Callable[[], bool] = bool
    """Whether another replica may lead: nothing that happens here since is part of any job's story."""
    turns: dict[EnvironmentKey, asyncio.Lock] = field(default_factory=dict)
    """Held while a job works on its environment: one deployment at a time."""


class Execution:
    """
    One job in this process.

    Args:
        checkpoint: The job; stored from its plan on, and never for kinds that only read.
        journal: Its events.
        workshop: Shared means.
        is_resumed: Whether the checkpoint was found at the start, instead of made for an offer.
    """

    def __init__(
        self, checkpoint: Checkpoint, journal: Journal, workshop: Workshop, *, is_resumed: bool = False
    ) -> None:
        self.checkpoint = checkpoint
        self.journal = journal
        self.accepted = is_resumed
        """Whether the relay was told, or has known the job since before this process."""
        self.stop: Stop | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_reported = False
        """Whether the result is in the journal, as its last event."""
        self._workshop = workshop
        self._is_resumed = is_resumed
        self._decided = checkpoint.result is not None
        self._statement: DeploymentStatement | None = None
        """Once verified, by an earlier process where the job is resumed."""
        self._logger = workshop.logger.bind(job=self.job_id)

    @property
    def offer(self) -> JobOffer:
        """The offer in force."""
        return self.checkpoint.offer

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.checkpoint.offer.job_id

    @property
    def is_over(self) -> bool:
        """Whether the relay has stored the result."""
        return self.is_reported and self.journal.acknowledged_seq >= self.journal.last_seq > 0

    def request_stop(self, stop: Stop) -> None:
        """End the job early; once its result is decided, only forgetting it makes a difference."""
        if self.stop is Stop.FORGET or (self._decided and stop is not Stop.FORGET):
            return
        first = self.stop is None
        self.stop = stop
        if self.task is not None and (first or stop is Stop.FORGET):
            self.task.cancel()

    async def adopt(self, offer: JobOffer) -> None:
        """Go on under a newer offer of the same job. Raises: KubeError: it could not be stored."""
        self.checkpoint = replace(self.checkpoint, offer=offer)
        self.journal.settle(offer.acknowledged_seq)
        if self._workshop.checkpoints.has(self.job_id):
            await self._workshop.checkpoints.save(self.checkpoint)

    async def discard(self, others: int) -> None:
        """
        Let go of all that is kept of the job, however long the API server takes.

        Args:
            others: How many jobs are under way beside it, whose successors may use what it leaves.
        """
        self._workshop.courier.end_stream(self.job_id)
        checkpoints = self._workshop.checkpoints
        if self.is_over:
            await self._persist(lambda: checkpoints.spare(self.job_id, others), "checkpoint.not_deleted")
        else:
            await self._persist(lambda: checkpoints.delete(self.job_id), "checkpoint.not_deleted")
        self.journal.remove()

    async def run(self) -> None:
        """Carry the job to its result and record it; ends without one when it is forgotten, or the process stops."""
        result = self.checkpoint.result
        if result is None:
            self._statement = self._accepted_before()
            decided = await self._decide()
            self._decided = True
            if self._may_change:
                result = await self._keep(self.ending(decided))
            else:
                result = self._event(decided)
        await self._persist(lambda: self._report(result), "job.result_not_recorded")
        self.is_reported = True
        self._workshop.metrics.job_ended(self.offer.job_kind, result.outcome)
        self._logger.info("job.ended", outcome=result.outcome, code=result.code, cause=result.cause)

    async def _keep(self, ended: Ended) -> ResultEvent:
        """Have the result kept. Returns: What was kept: an earlier one, if its mark was written and nobody knew."""
        kept = ended.result
        self.checkpoint = replace(self.checkpoint, result=kept)

        async def keep() -> None:
            """With the mark that bars this attempt, or the whole statement, from being carried out, if there is one."""
            nonlocal kept
            held = None
            if self._statement is not None:
                environment, deployment_id = EnvironmentKey.of(self._statement), self._statement.deployment_id
                held = await self._workshop.replay.finish(environment, deployment_id, ended)
            if held is None:
                await self._workshop.checkpoints.save(self.checkpoint)
            else:
                kept = held

        await self._persist(keep, "job.result_not_stored")
        self.checkpoint = replace(self.checkpoint, result=kept)
        return kept

    # The engine's CheckpointPort.

    async def save_plan(self, plan: DeployPlan) -> None:
        """Store the plan. Raises: KubeError."""
        self.checkpoint = replace(self.checkpoint, plan=plan)
        await self._workshop.checkpoints.save(self.checkpoint)

    async def load_plan(self) -> DeployPlan | None:
        """Return the plan an earlier attempt stored."""
        return self.checkpoint.plan

    def ending(self, result: DeployResult) -> Ended:
        """Return what the mark is to hold of a job that ends so; what was reported is sent on its way before."""
        # What a lost node takes with it is derived again until the result is kept.
        self._workshop.courier.events_ready(self.job_id, at_once=True)
        return Ended(self.offer.attempt, self._event(result))

    # Inside.

    @property
    def _may_change(self) -> bool:
        """Whether it is of a kind that changes an environment, so that its result must outlive this process."""
        return self.offer.job_kind in {JobKind.DEPLOY, JobKind.DESTROY}

    def _accepted_before(self) -> DeploymentStatement | None:
        """Return the statement of a resumed job, which was verified then; None of a new one, or where it is damaged."""
        envelope = self.offer.statement if self._is_resumed and self._may_change else None
        with contextlib.suppress(OfferRefused):
            return None if envelope is None else read_statement(envelope)
        return None

    async def _decide(self) -> DeployResult:
        """Carry the job out and say how it ended, whatever happens."""
        timer = asyncio.timeout(max(0.0, self.offer.deadline - self._workshop.clock()))
        try:
            if self.stop is not None:
                raise asyncio.CancelledError
            async with timer:
                return await self._carry_out()
        except asyncio.CancelledError:
            return self._stopped()
        except TimeoutError:
            if not timer.expired():
                self._logger.exception("job.defect")
                return self._defect()
            cause = "the job's deadline passed while it was carried out"
            return DeployResult(Outcome.FAILED, ErrorCode.DEADLINE, cause)
        except (OfferRefused, BundleUnavailable, KubeError) as error:
            return DeployResult(Outcome.FAILED, error.code, error.explained())
        except (JournalFull, IdentityInvalid) as error:
            return DeployResult(Outcome.FAILED, ErrorCode.INTERNAL, str(error))
        except OSError as error:
            self._logger.exception("job.spool_failed")
            cause = f"the agent's spool cannot be used: {error.strerror}"
            return DeployResult(Outcome.FAILED, ErrorCode.INTERNAL, cause)
        except Exception:  # task boundary: a defect ends this job, never the agent
            self._logger.exception("job.defect")
            return self._defect()

    def _stopped(self) -> DeployResult:
        """Turn a requested cancellation into a result; any other goes on, out of the task."""
        if self.stop not in (Stop.CANCEL, Stop.SUPERSEDE):
            raise asyncio.CancelledError
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        if self.stop is Stop.SUPERSEDE:
            return DeployResult(Outcome.SUPERSEDED, ErrorCode.CANCELLED, "a newer deployment took its place")
        return DeployResult(Outcome.CANCELLED, ErrorCode.CANCELLED, "it was cancelled")

    def _event(self, decided: DeployResult) -> ResultEvent:
        return ResultEvent(
            key="result",
            at=self._workshop.clock(),
            outcome=decided.outcome,
            code=decided.code,
            cause=decided.cause[:4096],
            counts=decided.counts,
        )

    def _defect(self) -> DeployResult:
        return DeployResult(Outcome.FAILED, ErrorCode.INTERNAL, f"a defect in the agent; its log has job {self.job_id}")

    async def _carry_out(self) -> DeployResult:
        match self.offer.job_kind:
            case JobKind.HEALTH:
                return await self._check_health()
            case JobKind.PLAN:
                return await self._plan()
            case _:
                return await self._deploy()

    async def _plan(self) -> DeployResult:
        """Beside whatever else works on the environment: a plan is about what is there now, and takes no turn."""
        verified = await self._verify()
        return await self._workshop.engine.plan(await self._work(verified.statement), self._report)

    async def _deploy(self) -> DeployResult:
        if self._statement is not None:
            own, _ = await self._marks(self._statement)
            told = None if own is None else own.result_of(self.offer.attempt)
            if told is not None:
                return DeployResult(told.outcome, told.code, told.cause, told.counts)
        verified = await self._verify()
        self._statement = verified.statement
        environment = EnvironmentKey.of(verified.statement)
        async with self._workshop.turns.setdefault(environment, asyncio.Lock()):
            if self._is_resumed:
                # Its checkpoint may have outlived its job: left to the next one, as a former leader's late creation, or
                # where it could not be deleted. What has its plan and was the last to begin goes on.
                own, marks = await self._marks(verified.statement)
                is_last = own is not None and own is marks[-1] and own.ended_attempt <= self.offer.attempt
                if self.checkpoint.plan is None or not is_last:
                    check_replay(verified.statement, marks, self.offer.attempt)
            work = await self._work(verified.statement)
            async with self._workshop.drift.held(environment) as digests:
                result = await self._workshop.engine.run(work, self._report, self)
                digests.update(result.digests)
                return result

    async def _marks(self, statement: DeploymentStatement) -> tuple[ReplayMark | None, Sequence[ReplayMark]]:
        """Return the mark of a deployment, None if it was not begun, and all marks of its environment."""
        marks = await self._workshop.replay.marks(EnvironmentKey.of(statement))
        return next((mark for mark in marks if mark.deployment_id == statement.deployment_id), None), marks

    async def _work(self, statement: DeploymentStatement) -> DeployWork:
        """Gather what the engine works with. Raises: BundleUnavailable."""
        return DeployWork(
            statement=statement,
            bundle=await self._fetch(statement),
            policy=self._workshop.policy.current,
            unseal=self._workshop.identities.unsealer(EnvironmentKey.of(statement)),
            wait_seconds=self.offer.wait_seconds,
        )

    async def _verify(self) -> Verified:
        """Check the statement again: the operator may have changed the rules since it was accepted."""
        await self._step(Step.VERIFY, "started")
        identities, policy = self._workshop.identities, self._workshop.policy.current
        try:
            relay_key = identities.current.relay_signer
            verified = verify_statement(self.offer.statement, policy, identities.agent, relay_key)
            check_kind(self.offer.job_kind, verified.statement)
        except OfferRefused as error:
            await self._step(Step.VERIFY, "failed", str(error))
            raise
        await self._step(Step.VERIFY, "finished", f"signed by {', '.join(verified.signers)}")
        return verified

    async def _fetch(self, statement: DeploymentStatement) -> Bundle:
        if statement.destroys:
            return EMPTY_BUNDLE
        await self._step(Step.FETCH, "started")
        try:
            bundle = await self._workshop.bundles.load(statement.bundle_sha256)
        except BundleUnavailable as error:
            await self._step(Step.FETCH, "failed", str(error))
            raise
        await self._step(Step.FETCH, "finished", f"{len(bundle.content):,} bytes")
        return bundle

    async def _check_health(self) -> DeployResult:
        agent, policy = self._workshop.identities.agent, self._workshop.policy.current
        environment = check_readable(self.offer.environment, policy, agent)
        events = await self._workshop.health.check(environment)
        for event in events:
            await self._report(event)
        worst = next((event for status in _SEVERITY for event in events if event.status is status), None)
        cause = "" if worst is None else worst.cause or f"{worst.object} is {worst.status}"
        return DeployResult(Outcome.SUCCEEDED, cause=cause)

    async def _step(self, step: Step, status: _StepStatus, detail: str = "") -> None:
        key = f"step/{step}/{status}"
        await self._report(
            StepEvent(key=key, at=self._workshop.clock(), step=step, status=status, detail=detail[:4096])
        )

    async def _report(self, event: ProgressEvent) -> None:
        self._record(event)
        # A burst of events must not starve the connection that carries them away.
        await asyncio.sleep(0)

    def _record(self, event: ProgressEvent) -> None:
        if not self._workshop.is_over() and self.journal.append(event):
            # A result frees what waits for it: a turn, a place among the relay's offers, a person.
            self._workshop.courier.events_ready(self.job_id, at_once=isinstance(event, ResultEvent))

    async def _persist(self, write: Callable[[], Awaitable[None]], complaint: str) -> None:
        """
        Write however long the API server is away, the disk full, or the relay slow to take what fills the journal.

        What the API server refuses for good is logged and left: nothing here could mend it.
        """
        try:
            await patiently(
                write,
                passes=lambda error: (
                    isinstance(error, JournalFull | OSError) or (isinstance(error, KubeError) and error.temporary)
                ),
                failed=lambda error: self._logger.warning(complaint, error=str(error)),
                base_seconds=SAVE_BASE_SECONDS,
                cap_seconds=SAVE_CAP_SECONDS,
            )
        except KubeError as error:
            self._logger.warning(complaint, error=str(error))
