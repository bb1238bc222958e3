"""
The runner: the jobs of this agent, from offer to acknowledged result.

It decides which offers to take, lists its jobs for the hello, takes the relay's verdicts, and forgets a job only
after the relay has stored its result. Jobs with a checkpoint go on as soon as the process starts, also while the
relay is away. It moves no messages (the link does) and knows nothing of how a deployment is done (the engine does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

from fairlead_agent.checkpoint import Checkpoint, is_storable
from fairlead_agent.errors import KubeError, OfferRefused
from fairlead_agent.execution import Execution, Stop, Workshop
from fairlead_agent.journal import Spool
from fairlead_agent.ports import EnvironmentKey
from fairlead_agent.verification import check_kind, check_readable, check_replay, check_validity, verify_statement
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import (
    HeartbeatJob,
    HelloJob,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    JobVerdict,
    Progress,
    Welcome,
)
from fairlead_shared.jobs import JobKind

MAX_RUNNING = 16
"""Jobs carried out at the same time. Above what a relay offers by default (10): most of them only wait for health."""
MAX_BUNDLE_BYTES = 32 * 1024 * 1024
"""Bundles of running jobs together, for the memory they take; a single job is always taken."""


class Runner:
    """
    All jobs of this agent.

    Args:
        workshop: What executions use.
        spool: Where journals are.
    """

    def __init__(self, workshop: Workshop, spool: Spool) -> None:
        self._workshop = workshop
        self._spool = spool
        self._logger = workshop.logger
        self._courier = workshop.courier
        self._jobs: dict[str, Execution] = {}
        self._offers: dict[str, JobOffer] = {}
        """Offers to be answered on the present connection."""
        self._early_stops: dict[str, Stop] = {}
        """Cancels of jobs whose offers are being considered."""
        self._last: dict[str, asyncio.Task[None]] = {}
        """Job id → the latest of its acceptances and its end, which follow one another."""
        self._group: asyncio.TaskGroup | None = None

    async def run(self, checkpoints: Sequence[Checkpoint], resumed: asyncio.Event) -> None:
        """
        Resume stored jobs, then carry out what is offered; ends only by cancellation, which leaves every job resumable.

        Args:
            checkpoints: All that are stored.
            resumed: Set once the stored jobs are known: only then may a hello list them.
        Raises: OSError: the spool cannot be used.
        """
        self._spool.discard_others({checkpoint.offer.job_id for checkpoint in checkpoints})
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for checkpoint in checkpoints:
                    self._resume(checkpoint)
                resumed.set()
                await asyncio.Event().wait()
        finally:
            for job in self._jobs.values():
                job.journal.close()

    # The link's side.

    def hello_jobs(self) -> tuple[HelloJob, ...]:
        """Return every job this agent has and does not mean to forget."""
        return tuple(
            HelloJob(
                job_id=job.job_id,
                attempt=job.offer.attempt,
                token=job.offer.token,
                last_seq=job.journal.last_seq,
            )
            for job in self._jobs.values()
            if job.stop is not Stop.FORGET
        )

    def settle(self, welcome: Welcome) -> None:
        """Take the relay's verdicts; offers of the last connection are void, the hello listed what became of them."""
        self._offers.clear()
        self._early_stops.clear()
        for verdict in welcome.jobs:
            job = self._jobs.get(verdict.job_id)
            if job is not None:
                self._settle_job(job, verdict)

    def take_offer(self, offer: JobOffer) -> None:
        """Consider an offer in a task of its own."""
        self._offers[offer.job_id] = offer
        self._early_stops.pop(offer.job_id, None)
        self._in_sequence(offer.job_id, partial(self._consider, offer))

    def cancel(self, order: JobCancel) -> None:
        """Stop a job, also one still being considered; an unknown one, or an older attempt, is not ours to stop."""
        stop = Stop.SUPERSEDE if order.superseded else Stop.CANCEL
        job = self._jobs.get(order.job_id)
        if job is not None and order.token >= job.offer.token:
            job.request_stop(stop)
        elif job is None and order.job_id in self._offers:
            self._early_stops[order.job_id] = stop

    def leases(self) -> tuple[HeartbeatJob, ...]:
        """Return the leases of accepted jobs."""
        return tuple(
            HeartbeatJob(job_id=job.job_id, token=job.offer.token)
            for job in self._jobs.values()
            if job.accepted and job.stop is not Stop.FORGET
        )

    def lose(self, job_id: str) -> None:
        """Stop a job whose lease was not renewed; one that has its result waits for the relay's word on that."""
        job = self._jobs.get(job_id)
        if job is not None and not job.is_reported:
            self._logger.warning("job.lease_lost", job=job_id)
            self._abandon(job)

    def acknowledge(self, job_id: str, seq: int) -> None:
        """Take note of stored events, and forget the job if its result is among them."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.journal.acknowledge(seq)
            self._forget_if_over(job)

    def event(self, job_id: str, seq: int) -> Progress | None:
        """Return an event as the relay gets it, under the token in force."""
        job = self._jobs.get(job_id)
        event = None if job is None else job.journal.event(seq)
        if job is None or event is None:
            return None
        return Progress(job_id=job_id, token=job.offer.token, seq=seq, event=event)

    # Inside.

    def _resume(self, checkpoint: Checkpoint) -> None:
        offer = checkpoint.offer
        journal = self._spool.open(offer.job_id, None)
        job = self._jobs[offer.job_id] = Execution(checkpoint, journal, self._workshop, is_resumed=True)
        self._logger.info("job.resumed", job=offer.job_id, attempt=offer.attempt, last_seq=journal.last_seq)
        self._begin(job)

    def _settle_job(self, job: Execution, verdict: JobVerdict) -> None:
        if verdict.verdict == "abandon":
            self._logger.warning("job.abandoned", job=job.job_id)
            self._abandon(job)
            return
        job.accepted = True
        job.journal.settle(verdict.acknowledged_seq)
        if verdict.verdict == "cancel":
            job.request_stop(Stop.CANCEL)
        elif verdict.verdict == "supersede":
            job.request_stop(Stop.SUPERSEDE)
        self._forget_if_over(job)

    async def _consider(self, offer: JobOffer) -> None:
        """Accept or refuse an offer. A task boundary: whatever goes wrong becomes an answer."""
        try:
            await self._accept(offer)
        except OfferRefused as error:
            self._refuse(offer, error)
        except KubeError as error:
            self._refuse(offer, OfferRefused(error.code, error.explained(), temporary=error.temporary))
        except OSError as error:
            reason = f"the agent's spool cannot be used: {error.strerror}"
            self._refuse(offer, OfferRefused(ErrorCode.INTERNAL, reason, temporary=True))
        except Exception:
            self._logger.exception("offer.defect", job=offer.job_id)
            reason = f"a defect in the agent; its log has job {offer.job_id}"
            self._refuse(offer, OfferRefused(ErrorCode.INTERNAL, reason))

    async def _accept(self, offer: JobOffer) -> None:
        known = self._jobs.get(offer.job_id)
        if known is not None:
            await self._accept_again(known, offer)
            return
        await self._check(offer)
        # Right before it counts itself: what came at the same time was considered beside it.
        self._check_room(offer)
        if self._offers.get(offer.job_id) is not offer:
            # The connection is another by now, and its hello did not list the job: the relay offers it again.
            return
        journal = self._spool.open(offer.job_id, offer.acknowledged_seq)
        journal.settle(offer.acknowledged_seq)
        job = Execution(Checkpoint(offer), journal, self._workshop)
        job.stop = self._early_stops.pop(offer.job_id, None)
        # From here on every hello lists it. It has no checkpoint before its plan has: until then nothing was written,
        # and an agent that comes back without it is offered it again.
        self._jobs[offer.job_id] = job
        self._say_accepted(job, offer)
        self._begin(job)

    async def _accept_again(self, job: Execution, offer: JobOffer) -> None:
        """Answer the offer of a job that is here: the same again, or a newer attempt, which goes on from here."""
        if offer.token < job.offer.token:
            raise OfferRefused(ErrorCode.PROTOCOL, f"attempt {offer.attempt} is older than attempt {job.offer.attempt}")
        if offer.token > job.offer.token:
            await job.adopt(offer)
        self._say_accepted(job, offer)

    def _say_accepted(self, job: Execution, offer: JobOffer) -> None:
        if self._offers.pop(offer.job_id, None) is not offer:
            return
        job.accepted = True
        self._courier.send(JobAccept(job_id=offer.job_id, attempt=offer.attempt, token=offer.token))
        self._courier.start_stream(offer.job_id, offer.acknowledged_seq)

    async def _check(self, offer: JobOffer) -> None:
        """Refuse what the agent's rules or limits forbid. Raises: OfferRefused, KubeError."""
        if offer.job_kind not in tuple(JobKind):
            raise OfferRefused(ErrorCode.UNSUPPORTED, f"this agent knows no job of kind {offer.job_kind!r}")
        if not is_storable(offer.job_id):
            raise OfferRefused(ErrorCode.MALFORMED, "the job's id cannot stand in an object's name")
        now = self._workshop.clock()
        if now >= offer.deadline:
            raise OfferRefused(ErrorCode.DEADLINE, "the job's deadline has passed by this agent's clock")
        identities, policy = self._workshop.identities, self._workshop.policy.current
        if offer.job_kind == JobKind.HEALTH:
            check_readable(offer.environment, policy, identities.agent)
            return
        relay_key = identities.current.relay_signer
        statement = verify_statement(offer.statement, policy, identities.agent, relay_key).statement
        check_kind(offer.job_kind, statement)
        check_validity(statement, now)
        if offer.job_kind == JobKind.PLAN:
            return  # changes nothing, so that carrying it out again does no harm either
        marks = await self._workshop.replay.marks(EnvironmentKey.of(statement))
        check_replay(statement, marks, offer.attempt)

    def _check_room(self, offer: JobOffer) -> None:
        running = [job.offer for job in self._jobs.values() if not job.is_reported]
        held_bytes = sum(held.bundle_bytes for held in running)
        if len(running) >= MAX_RUNNING or (held_bytes and held_bytes + offer.bundle_bytes > MAX_BUNDLE_BYTES):
            reason = f"{len(running)} jobs are running, with bundles of {held_bytes:,} bytes"
            raise OfferRefused(ErrorCode.OVERLOADED, reason, temporary=True)

    def _refuse(self, offer: JobOffer, refusal: OfferRefused) -> None:
        self._workshop.metrics.offer_refused(refusal.code)
        self._logger.warning("offer.refused", job=offer.job_id, code=refusal.code, reason=refusal.reason)
        if self._offers.pop(offer.job_id, None) is offer:
            self._courier.send(
                JobRefuse(
                    job_id=offer.job_id,
                    attempt=offer.attempt,
                    token=offer.token,
                    code=refusal.code,
                    message=refusal.reason[:4096],
                    temporary=refusal.temporary,
                )
            )

    def _begin(self, job: Execution) -> None:
        job.task = self._start(self._carry_out(job), f"job/{job.job_id}")

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the runner does not run")
        return self._group.create_task(work, name=name)

    def _in_sequence(self, job_id: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start work on a job after earlier work of this sort on it has ended."""
        before = self._last.get(job_id)

        async def follow() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work()

        def forget(task: asyncio.Task[None]) -> None:
            if self._last.get(job_id) is task:
                del self._last[job_id]

        task = self._last[job_id] = self._start(follow(), f"job/{job_id}/desk")
        task.add_done_callback(forget)

    async def _carry_out(self, job: Execution) -> None:
        try:
            await job.run()
        except asyncio.CancelledError:
            if job.stop is not Stop.FORGET:
                raise
        self._forget_if_over(job)

    def _abandon(self, job: Execution) -> None:
        """Stop a job without another write and forget it."""
        if job.stop is not Stop.FORGET:
            job.request_stop(Stop.FORGET)
            self._in_sequence(job.job_id, partial(self._end, job))

    def _forget_if_over(self, job: Execution) -> None:
        if job.is_over and job.stop is not Stop.FORGET:
            job.stop = Stop.FORGET
            self._in_sequence(job.job_id, partial(self._end, job))

    async def _end(self, job: Execution) -> None:
        if job.task is not None:
            await asyncio.wait([job.task])
        try:
            await job.discard(len(self._jobs) - 1)
        except OSError as error:
            self._logger.warning("journal.not_removed", job=job.job_id, error=str(error))
        del self._jobs[job.job_id]
