"""A connected agent as the store sees it, for tests that walk a job through its life."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead_relay.store import Store
from fairlead_relay.store.jobs import Job, find_job
from fairlead_relay.store.leases import Holding, LeasedJob, LeaseTo, accept_jobs, lease_next
from fairlead_relay.store.progress import Reported, record_progress
from fairlead_relay.store.sessions import NewSession, open_session
from fairlead_shared.frames import JobVerdict
from fairlead_shared.progress import Action, Outcome, ProgressEvent, ResultEvent
from tests.conformance.domain import ORGANIZATION, START, hello, identity_of, result, step

LEASE_SECONDS = 60.0


@dataclass
class QueueActor:
    """One cluster's agent, whose clock stands still until a test moves it."""

    store: Store
    cluster: str = "one"
    session_id: str = "session-1"
    job_limit: int = 10
    now: float = START
    sent: dict[str, int] = field(default_factory=dict)
    """Job id → number of the last event it reported."""

    async def connect(self, *jobs: tuple[str, int, int]) -> tuple[JobVerdict, ...]:
        """Open a session with a hello that lists (job id, attempt, token)."""
        session = NewSession(self.session_id, "relay-1", identity_of(self.cluster))
        return await self.store.write(lambda c: open_session(c, session, hello(*jobs), LEASE_SECONDS, self.now))

    async def lease(self) -> LeasedJob | None:
        """Lease the next job, if there is one."""
        to = LeaseTo(self.session_id, ORGANIZATION, self.cluster, LEASE_SECONDS, self.job_limit)
        return await self.store.write(lambda c: lease_next(c, to, self.now))

    async def take(self) -> Job:
        """Lease the next job, which must be there, and accept it."""
        leased = await self.lease()
        assert leased is not None
        return await self.accept(leased.job)

    async def accept(self, job: Job) -> Job:
        """Accept a leased job."""
        assert await self.store.write(lambda c: accept_jobs(c, [(self.holding(job), self.now)])) == [True]
        return await self.look(job)

    def holding(self, job: Job) -> Holding:
        """Return this session's claim to a job."""
        return Holding(self.session_id, job.id, job.token)

    async def report(self, job: Job, *events: ProgressEvent) -> dict[str, int]:
        """Report the next events of a job; the job ends if the last one is its result."""
        first = self.sent.get(job.id, 0) + 1
        numbered = [(first + i, event.key, event.model_dump_json(exclude_none=True)) for i, event in enumerate(events)]
        self.sent[job.id] = numbered[-1][0]
        ends = events[-1] if isinstance(events[-1], ResultEvent) else None
        reported = [Reported(self.holding(job), numbered, ends)]
        return (await self.store.write(lambda c: record_progress(c, [(reported, self.now)])))[0]

    async def finish(
        self, job: Job, outcome: Outcome = Outcome.SUCCEEDED, counts: dict[Action, int] | None = None
    ) -> Job:
        """Report one step and the result."""
        await self.report(job, step(self.sent.get(job.id, 0) + 1), result(outcome, counts))
        return await self.look(job)

    async def look(self, job: Job) -> Job:
        """Return a job as it is now."""
        return await self.store.read(lambda c: find_job(c, ORGANIZATION, job.id))


async def connected(store: Store, cluster: str = "one", job_limit: int = 10) -> QueueActor:
    """Return an actor whose session is open."""
    actor = QueueActor(store, cluster, f"session-of-{cluster}", job_limit)
    await actor.connect()
    return actor
