"""
The dispatcher: leases jobs to connected agents, carries their answers into the store, and watches the clock.

One per relay. Woken by the bus when a job is queued, ends or must stop, when an agent connects, and by its own sweep.
Organizations take turns, and in each its agents (turns.py); a round leases so many jobs at most, one for each agent
before a second for any. It holds no truth (a lease, a token, a state are rows), so it may die at any line; and it
decides nothing that the store's compare-and-set does not decide again.

Must not: know sockets (see AgentLink), sign or verify anything, or answer an agent before the store has committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from fairlead_relay.bus import LAGGED, WORK, LocalBus
from fairlead_relay.dispatch.clock_watch import ClockWatch
from fairlead_relay.dispatch.link import NO_HOOKS, AgentLink, Connected, DispatchHooks, DispatchLimits
from fairlead_relay.dispatch.relay_watch import RelayWatch
from fairlead_relay.dispatch.turns import Turns
from fairlead_relay.errors import AgentRefused, SessionReplaced, StoreError
from fairlead_relay.store import Store
from fairlead_relay.store.access import Presented, check_agent
from fairlead_relay.store.jobs import Job
from fairlead_relay.store.leases import (
    Holding,
    LeasedJob,
    LeaseTo,
    accept_jobs,
    clusters_with_work,
    expire_overdue,
    find_work,
    hand_back_job,
    hand_back_offers,
    hand_back_unanswered,
    lease_next,
    lose_overdue,
    pull_back,
    refuse_job,
    stopping_jobs,
)
from fairlead_relay.store.outbox import Work
from fairlead_relay.store.progress import Reported, record_progress
from fairlead_relay.store.relays import beat, bury, leave
from fairlead_relay.store.sessions import (
    NewSession,
    close_session,
    close_sessions_of_relay,
    note_seen,
    open_session,
    renew_leases,
    sessions_of_relay,
)
from fairlead_shared.envelope import Envelope
from fairlead_shared.errors import QueueFull
from fairlead_shared.frames import (
    Heartbeat,
    HeartbeatAck,
    Hello,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    Progress,
)
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.progress import ResultEvent

_RETRY_SECONDS: Final = 1.0
"""Pause after the store failed, before the same is tried again."""


@dataclass(slots=True)
class _Linked:
    """A connection that is open in this relay."""

    session_id: str
    identity: AgentIdentity
    link: AgentLink
    takes_offers: bool = False
    woken_at: float | None = None
    """Since when it waits for a round, monotonic seconds; None while it does not."""
    told_to_stop: dict[str, float] = field(default_factory=dict)
    """Job id → when the cancel was last sent, monotonic seconds."""

    @property
    def cluster(self) -> tuple[str, str]:
        """Whose jobs it takes."""
        return self.identity.organization, self.identity.cluster


@dataclass(slots=True)
class _Round:
    """What one transaction found for one agent."""

    leased: list[LeasedJob] = field(default_factory=list)
    stopping: list[Job] = field(default_factory=list)
    is_served: bool = False
    """Whether it may hold no more, or nothing is left for it now."""


class Dispatcher:
    """
    Leases jobs to the agents that are connected to this relay.

    Args:
        store: Started.
        bus: The one that the store publishes to.
        relay_id: Names this relay among those that share the store, the same after a restart.
        clock: Seconds since the epoch.
        limits: Numbers.
        logger: Bound by the owner; gets no secrets.
        hooks: What is called when something happens to a job.
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        store: Store,
        bus: LocalBus,
        relay_id: str,
        clock: Callable[[], float],
        limits: DispatchLimits,
        logger: structlog.typing.FilteringBoundLogger,
        hooks: DispatchHooks = NO_HOOKS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = hooks.leased
        # One object: what is to run together is told by being the very same.
        self._record_progress = partial(record_progress, on_failed=hooks.failed)
        self._store = store
        self._bus = bus
        self._relay_id = relay_id
        self._clock = clock
        self._monotonic = monotonic
        self._watch = ClockWatch(clock, monotonic, limits.jump_seconds, limits.settle_seconds)
        self._relays = RelayWatch(monotonic, limits.silent_seconds, limits.silent_seconds / 4)
        self._limits = limits
        self._logger = logger
        self._sessions: dict[str, _Linked] = {}
        self._by_cluster: dict[tuple[str, str], _Linked] = {}
        self._seen: dict[str, float] = {}
        self._due = Turns()
        self._woken = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """
        Recover, then begin to dispatch. Idempotent.

        Raises: StoreUnavailable: the store does not answer.
        """
        if self._tasks:
            return
        await self.recover()
        self._tasks = [
            asyncio.create_task(self._forever(work), name=f"dispatch-{name}")
            for name, work in (("listen", self._listen), ("offer", self._offer), ("sweep", self._sweep_regularly))
        ]

    async def recover(self) -> None:
        """
        Mark what this relay held in its former life as unreachable. Part of `start`.

        Raises: StoreUnavailable: the store does not answer.
        """
        now = self._clock()

        def close(connection: Connection) -> None:
            close_sessions_of_relay(connection, self._relay_id, now)
            beat(connection, self._relay_id)
            pull_back(connection, self._limits.busy_seconds, now)

        await self._store.write(close)

    @property
    def connected(self) -> int:
        """How many agents are connected to this relay."""
        return len(self._by_cluster)

    async def stop(self) -> None:
        """Offer no more. Connections are the gateway's to close. Idempotent; complete on return."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(StoreError):  # then the others find out, as if it had died
            await self._store.write(lambda c: leave(c, self._relay_id))

    # What the gateway calls, in the order of a connection's life.

    async def connect(
        self, identity: AgentIdentity, hello: Hello, link: AgentLink, certificate: Presented | None = None
    ) -> Connected:
        """
        Make a connection the one that speaks for its agent, and settle the agent's jobs.

        Args:
            identity: From the client certificate.
            hello: The agent's first message.
            link: How to reach it. Nothing is offered before `start_offers`.
            certificate: What it showed.
        Returns: The session, with the verdicts for the welcome.
        Raises: AgentRefused: it may not connect. StoreUnavailable: let it come back.
        """
        session = NewSession(secrets.token_hex(16), self._relay_id, identity, certificate)
        now = self._clock()
        verdicts = await self._store.write(lambda c: open_session(c, session, hello, self._limits.lease_seconds, now))
        linked = _Linked(session.id, identity, link)
        former = self._by_cluster.get(linked.cluster)
        self._sessions[session.id] = self._by_cluster[linked.cluster] = linked
        if former is not None:
            former.link.close("a newer connection of the same agent took over")
        return Connected(session.id, verdicts)

    def start_offers(self, session_id: str) -> None:
        """Offer jobs to a session from now on; call it once the welcome is queued."""
        linked = self._sessions.get(session_id)
        if linked is not None:
            linked.takes_offers = True
            self._wake(linked)

    def stop_offers(self, session_id: str) -> None:
        """Offer no more jobs to a session, e.g. once it was told to go away. What it holds goes on."""
        linked = self._sessions.get(session_id)
        if linked is not None:
            linked.takes_offers = False

    def drain(self) -> None:
        """Have offers go back into the queue when their connections end: this relay stops, and others need not wait."""
        self._draining = True

    async def accept(self, session_id: str, message: JobAccept) -> bool:
        """
        Note that the agent took a job.

        Returns: True: expect its progress, after the offer's `acknowledged_seq`. False: it is no longer the agent's.
        """
        holding = Holding(session_id, message.job_id, message.token)
        return await self._store.write_together(accept_jobs, (holding, self._clock()))

    async def refuse(self, session_id: str, message: JobRefuse) -> None:
        """Note that the agent said no: the job ends as refused, or is offered again later if that is temporary."""
        holding = Holding(session_id, message.job_id, message.token)
        now = self._clock()
        if message.temporary:
            reason = f"its agent cannot take it now: {message.message}"
            await self._store.write(lambda c: hand_back_job(c, holding, self._limits.busy_seconds, reason, now))
        else:
            await self._store.write(lambda c: refuse_job(c, holding, message.code, message.message, now))

    async def record(self, session_id: str, messages: Sequence[Progress]) -> dict[str, int]:
        """
        Store progress, and end the jobs whose result is among it.

        Args:
            session_id: The connection they came over.
            messages: In the order of arrival, of any jobs.
        Returns: Job id → number to acknowledge. A job that is missing is no longer the agent's: drop its events.
        Raises: StoreUnavailable: nothing may be acknowledged; close the connection, the agent sends again.
        """
        reported = _group(session_id, messages)
        return await self._store.write_together(self._record_progress, (reported, self._clock()))

    async def heartbeat(self, session_id: str, message: Heartbeat) -> HeartbeatAck:
        """
        Renew the leases of a session.

        Returns: The answer to send.
        Raises: SessionReplaced: close the connection. StoreUnavailable: do not answer, the agent asks again.
        """
        if session_id not in self._sessions:
            raise SessionReplaced(session_id)
        now = self._clock()
        self._seen[session_id] = now
        claims = [(job.job_id, job.token) for job in message.jobs]
        renewed: list[str] = []
        if claims:
            renewed = await self._store.write(
                lambda c: renew_leases(c, session_id, claims, self._limits.lease_seconds, now)
            )
        return HeartbeatAck(number=message.number, lease_seconds=self._limits.lease_seconds, renewed=tuple(renewed))

    async def disconnect(self, session_id: str) -> None:
        """
        Note that a connection is gone: what it held becomes unreachable; in a drain, what was not answered is queued.

        Idempotent.

        Raises: StoreUnavailable: nothing is lost, the leases run out or the agent's next connection settles them.
        """
        linked = self._sessions.pop(session_id, None)
        self._seen.pop(session_id, None)
        if linked is not None:
            self._due.discard(linked.identity.organization, session_id)
        if linked is not None and self._by_cluster.get(linked.cluster) is linked:
            del self._by_cluster[linked.cluster]
        now = self._clock()

        def close(connection: Connection) -> None:
            if self._draining:
                hand_back_offers(connection, session_id, now)
            close_session(connection, session_id, now)

        await self._store.write(close)

    # Time.

    async def sweep(self) -> None:
        """
        Look at leases, offers and deadlines once, and wake agents whose work was not noticed.

        Raises: StoreUnavailable: try again later.
        """
        jumped, is_settled = self._watch.look(), self._watch.is_settled
        if jumped:
            self._logger.warning("clock_jumped", seconds=round(jumped), settle_seconds=self._limits.settle_seconds)
        now, seen, self._seen = self._clock(), self._seen, {}
        before = list(self._sessions.values())

        def look(connection: Connection) -> tuple[dict[str, int], dict[str, AgentRefused | None]]:
            beats = beat(connection, self._relay_id)
            note_seen(connection, seen)
            if jumped < 0:
                pull_back(connection, self._limits.busy_seconds, now)
            if is_settled:
                hand_back_unanswered(connection, self._limits.answer_seconds, now)
                lose_overdue(connection, self._limits.overdue_seconds, now)
                expire_overdue(connection, now)
            current = sessions_of_relay(connection, self._relay_id)
            gone = {one.session_id: _refusal(connection, one) for one in before if one.session_id not in current}
            return beats, gone

        beats, replaced = await self._store.write(look)
        if silent := self._relays.look(beats):
            self._logger.warning("relays_gone", relays=sorted(silent), silent_seconds=self._limits.silent_seconds)
            await self._store.write(lambda c: bury(c, silent, now))
        for linked in before:
            if linked.session_id not in replaced:
                continue
            if (refused := replaced[linked.session_id]) is not None:
                linked.link.close(refused.reason, refused.code)
            else:
                linked.link.close("the agent has a newer connection, or a lease of this one ran out")
        for cluster in await self._store.read(lambda c: clusters_with_work(c, now)):
            self._wake_cluster(cluster)

    async def _sweep_regularly(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(self._limits.sweep_seconds)

    # Offers.

    async def _listen(self) -> None:
        with self._bus.subscribe(WORK) as subscription:
            while True:
                notice = await subscription.get()
                if notice is LAGGED:
                    for linked in self._sessions.values():
                        self._wake(linked)
                elif isinstance(notice, Work):
                    self._wake_cluster((notice.organization, notice.cluster))

    def _wake_cluster(self, cluster: tuple[str, str]) -> None:
        linked = self._by_cluster.get(cluster)
        if linked is not None:
            self._wake(linked)

    def _wake(self, linked: _Linked) -> None:
        self._due.add(linked.identity.organization, linked.session_id)
        linked.woken_at = linked.woken_at or self._monotonic()
        self._woken.set()

    async def _offer(self) -> None:
        while True:
            await self._woken.wait()
            await self.serve_due()

    async def serve_due(self) -> None:
        """
        Offer jobs to the agents that were woken, a round of them.

        Raises: StoreUnavailable: they stay woken.
        """
        taken = self._due.take(self._limits.agents_per_commit)
        batch = [self._sessions[one] for one in taken if one in self._sessions]
        if not self._due:
            self._woken.clear()
        try:
            await self._offer_to(batch)
        except StoreError:
            for linked in batch:
                if linked.session_id in self._sessions:
                    self._wake(linked)
            raise

    async def _offer_to(self, batch: Sequence[_Linked]) -> None:
        """Serve a round of agents: one transaction for all of them, then their messages."""
        now = self._clock()
        limits = self._limits
        targets = [linked for linked in batch if linked.takes_offers]
        since = [linked.woken_at or self._monotonic() for linked in targets]
        for linked in batch:
            linked.woken_at = None
        to = [LeaseTo(one.session_id, *one.cluster, limits.lease_seconds, limits.jobs_per_agent) for one in targets]
        rounds = await self._store.write(lambda connection: _serve(connection, to, limits.leases_per_commit, now))
        for linked, found, woken_at in zip(targets, rounds, since, strict=True):
            if not found.is_served and linked.session_id in self._sessions:
                self._wake(linked)
            for leased in found.leased:
                self._observe(time.monotonic() - woken_at)
                await self._send_offer(linked, leased)
            for job in found.stopping:
                self._send_cancel(linked, job)

    async def _send_offer(self, linked: _Linked, leased: LeasedJob) -> None:
        try:
            linked.link.offer(_offer_of(leased, self._limits.lease_seconds))
        except QueueFull:
            holding = Holding(linked.session_id, leased.job.id, leased.job.token)
            reason = "its agent's connection is congested"
            await self._store.write(
                lambda c: hand_back_job(c, holding, self._limits.busy_seconds, reason, self._clock())
            )

    def _send_cancel(self, linked: _Linked, job: Job) -> None:
        now = self._monotonic()
        # Every round looks at all jobs that must stop; the agent need not hear of each every time.
        if now - linked.told_to_stop.get(job.id, -math.inf) < self._limits.lease_seconds:
            return
        with contextlib.suppress(QueueFull):
            linked.link.cancel(JobCancel(job_id=job.id, token=job.token, superseded=job.stop == "supersede"))
            linked.told_to_stop[job.id] = now

    async def _forever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except StoreError as error:
                self._logger.warning("dispatch_waits_for_store", error=str(error))
            except Exception:  # task boundary: a defect with one job must not stop the dispatch of all others
                self._logger.exception("dispatch_defect")
            await asyncio.sleep(_RETRY_SECONDS)


def _serve(connection: Connection, targets: Sequence[LeaseTo], most: int, now: float) -> list[_Round]:
    """Lease at most so many jobs, one for each session before a second for any, and find what is to stop."""
    # Most that are woken have nothing left: one question for all of them costs less than one for each.
    work = find_work(connection, {(to.organization, to.cluster) for to in targets}, now) if targets else {}
    rounds = [_Round(is_served=True) for _ in targets]
    unserved: deque[tuple[LeaseTo, _Round, int]] = deque()
    for to, found in zip(targets, rounds, strict=True):
        there = work.get((to.organization, to.cluster))
        if there is not None and there.stopping:
            found.stopping = stopping_jobs(connection, to.session_id)
        takes = 0 if there is None else min(there.queued, to.job_limit - there.held)
        if takes > 0:
            found.is_served = False
            unserved.append((to, found, takes))
    while unserved and most > 0:
        to, found, takes = unserved.popleft()
        job = lease_next(connection, to, now)
        if job is not None:
            found.leased.append(job)
            most -= 1
        if job is None or takes == 1:
            found.is_served = True
        else:
            unserved.append((to, found, takes - 1))
    return rounds


def _refusal(connection: Connection, linked: _Linked) -> AgentRefused | None:
    """Return why an agent lost its session, if it was cut off."""
    try:
        check_agent(connection, linked.identity)
    except AgentRefused as refused:
        return refused
    return None


def _offer_of(leased: LeasedJob, lease_seconds: float) -> JobOffer:
    job = leased.job
    environment = None
    if job.application is not None and job.environment is not None:
        environment = (job.organization, job.application, job.environment)
    return JobOffer(
        job_id=job.id,
        attempt=job.attempt,
        token=job.token,
        acknowledged_seq=job.acknowledged_seq,
        job_kind=job.kind,
        lease_seconds=lease_seconds,
        deadline=job.deadline,
        statement=None if leased.envelope is None else Envelope.model_validate_json(leased.envelope),
        bundle_bytes=leased.bundle_bytes,
        environment=environment,
        wait_seconds=job.wait_seconds,
    )


def _group(session_id: str, messages: Sequence[Progress]) -> list[Reported]:
    """Gather messages by job and token, in order; what follows a job's result is dropped, nothing may."""
    events: dict[tuple[str, int], list[tuple[int, str, str]]] = {}
    results: dict[tuple[str, int], ResultEvent] = {}
    for message in messages:
        of_job = (message.job_id, message.token)
        if of_job in results:
            continue
        text = message.event.model_dump_json(exclude_none=True)
        events.setdefault(of_job, []).append((message.seq, message.event.key, text))
        if isinstance(message.event, ResultEvent):
            results[of_job] = message.event
    return [
        Reported(Holding(session_id, job_id, token), listed, results.get((job_id, token)))
        for (job_id, token), listed in events.items()
    ]
