"""
Two relays on one store and three agents, in any order of what clients ask, agents say, and connections and relays do.

What must hold whatever happens: no job is lost, none is offered twice under one token, an environment is changed by
one job at a time and in the order of storing, verdicts agree with the store, no retry is one that an agent would take
for a replay, a failure has one rollback, made with it, and every story is one that the table of states allows. At the
end every job reaches a final state: by agents that come back, or, when none ever does, by time alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection

from fairlead_relay.bus import LocalBus
from fairlead_relay.dispatch import Dispatcher, DispatchHooks, DispatchLimits
from fairlead_relay.errors import Conflict, SessionReplaced
from fairlead_relay.store import Store
from fairlead_relay.store.deployments import Deployment
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import Job, Stop, find_job, stop_job, supersede_earlier
from fairlead_relay.store.retries import retry_deployment
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Heartbeat, HeartbeatJob, JobAccept, JobCancel, JobOffer, JobRefuse, Progress
from fairlead_shared.jobs import FINAL_STATES, HELD_STATES, TRANSITIONS, JobState
from fairlead_shared.progress import Outcome
from tests.conformance.domain import APPLICATION, ORGANIZATION, START, deploy, hello, identity_of, result, seed, step

CLUSTERS = ("one", "two", "three")
ENVIRONMENTS = tuple(f"{cluster}-{name}" for cluster in CLUSTERS for name in ("a", "b"))
RELAYS = (0, 1)
LIMITS = DispatchLimits(jobs_per_agent=2)
MEMORY = Path("/dev/shm")
"""Where a sync to disk costs nothing: durability is not what this test is about."""
T = TypeVar("T")

NEXT = {state: {after for (before, _), after in TRANSITIONS.items() if before is state} for state in JobState}
"""Which states may follow which."""
REACHED: set[JobState] = set()
"""In all examples together."""


@dataclass
class Link:
    """A connection, as its agent sees it."""

    session_id: str = ""
    relay: int = 0
    offers: list[JobOffer] = field(default_factory=list)
    cancels: list[JobCancel] = field(default_factory=list)
    open: bool = True
    drained: bool = False

    def offer(self, message: JobOffer) -> None:
        """Take an offer."""
        assert not self.drained, "an offer after the relay said that it goes away"
        assert self.open, "an offer on a connection that the relay closed"
        self.offers.append(message)

    def cancel(self, message: JobCancel) -> None:
        """Take a cancel."""
        self.cancels.append(message)

    def close(self, reason: str, code: ErrorCode = ErrorCode.OVERLOADED) -> None:
        """Be closed by the relay."""
        assert reason
        self.open = False


@dataclass
class Run:
    """A job that an agent has a checkpoint of."""

    token: int
    attempt: int
    environment: str
    deployment: str
    recorded: int
    """Number of its last event."""
    acknowledged: int
    stopping: bool = False


@dataclass
class AgentModel:
    """An agent: its checkpoints outlive its connections."""

    cluster: str
    link: Link | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    begun: dict[str, list[str]] = field(default_factory=dict)
    """Environment → deployments in the order in which they were first begun."""
    succeeded: set[str] = field(default_factory=set)
    ended: dict[str, int] = field(default_factory=dict)
    """Deployment → its last attempt that ended otherwise."""

    def take(self, environment: str, deployment: str, attempt: int) -> None:
        """Begin a deployment as far as an agent's memory of replays lets it, see verification.check_replay."""
        assert deployment not in self.succeeded
        assert attempt > self.ended.get(deployment, 0)
        begun = self.begun.setdefault(environment, [])
        if deployment not in begun:
            begun.append(deployment)
        assert begun[-1] == deployment

    def note_end(self, run: Run, outcome: Outcome) -> None:
        """Remember how an attempt ended."""
        if outcome is Outcome.SUCCEEDED:
            self.succeeded.add(run.deployment)
        else:
            self.ended[run.deployment] = run.attempt

    @property
    def connected(self) -> Link | None:
        """Its connection, unless the relay closed it."""
        return self.link if self.link is not None and self.link.open else None


class DispatchMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.runner = asyncio.Runner()
        self.now = START
        self.agents = {cluster: AgentModel(cluster) for cluster in CLUSTERS}
        self.environments: dict[str, str] = {}
        """Job id → environment, in the order of storing."""
        self.deployments: dict[str, str] = {}
        """Job id → deployment."""
        self.agents_return = True
        self.offered: set[tuple[str, int]] = set()
        self.rollbacks: dict[str, str] = {}
        """Job that failed → job that was made with its failure."""
        self.begun: dict[str, list[str]] = defaultdict(list)
        """Environment → jobs in the order in which agents took them."""
        self.stores: list[Store] = []
        self.dispatchers: list[Dispatcher] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous work to its end."""
        return self.runner.run(work)

    @initialize(agents_return=st.booleans())
    def start(self, *, agents_return: bool) -> None:
        """Start both relays."""
        self.agents_return = agents_return
        for relay in RELAYS:
            bus = LocalBus()
            store = Store(self.database_url(), bus.publish)
            self.run(store.start())
            self.stores.append(store)
            self.dispatchers.append(self.dispatcher(relay, store, bus))
        self.run(self.stores[0].write(lambda c: seed(c, CLUSTERS, ("a", "b"))))
        for number, cluster in enumerate(CLUSTERS):
            self.connect(cluster, number % 2, tells=False)
            self.deploy(f"{cluster}-a", 0, 5000.0)

    def database_url(self) -> str:
        """Return the URL of the one database of this example: empty at first, the same at every call."""
        return f"sqlite:///{Path(self.folder.name)}/relay.db"

    def dispatcher(self, relay: int, store: Store, bus: LocalBus) -> Dispatcher:
        """Return a dispatcher whose rounds the machine runs itself."""
        logger, hooks = structlog.get_logger(), DispatchHooks(failed=self.roll_back)
        return Dispatcher(
            store, bus, f"relay-{relay}", lambda: self.now, LIMITS, logger, hooks, monotonic=lambda: self.now
        )

    def roll_back(self, connection: Connection, job: Job) -> None:
        """Make another deployment with a failure, and none with that one's: what a deployment may ask for."""
        assert job.id not in self.rollbacks, "rolled back twice"
        if job.id not in self.rollbacks.values():
            made = deploy(connection, self.environments[job.id], self.now, deadline_seconds=5000.0)
            self.rollbacks[job.id] = made.job.id
            self.note(made)

    def jobs(self) -> dict[str, Job]:
        """Return all jobs as stored, read in one snapshot."""
        wanted = list(self.environments)
        found = self.run(self.stores[0].read(lambda c: [find_job(c, ORGANIZATION, job_id) for job_id in wanted]))
        return {job.id: job for job in found}

    def with_offers(self) -> list[str]:
        """Return the clusters whose agent has an offer to answer."""
        return [name for name, agent in self.agents.items() if agent.connected is not None and agent.connected.offers]

    def at_work(self) -> list[str]:
        """Return the clusters whose connected agent runs a job."""
        return [name for name, agent in self.agents.items() if agent.connected is not None and agent.runs]

    def job(self, job_id: str) -> Job:
        """Return a job as stored."""
        return self.run(self.stores[0].read(lambda c: find_job(c, ORGANIZATION, job_id)))

    # What clients do.

    @rule(
        environment=st.sampled_from(ENVIRONMENTS),
        relay=st.sampled_from(RELAYS),
        patience=st.sampled_from([100, 5000]),
        priority=st.integers(-1, 1),
        supersedes=st.booleans(),
    )
    def deploy(
        self, environment: str, relay: int, patience: float, priority: int = 0, *, supersedes: bool = False
    ) -> None:
        """Ask either relay for a deployment, which may make room for itself."""

        def write(connection: Connection) -> Deployment:
            if supersedes:
                supersede_earlier(connection, ORGANIZATION, APPLICATION, environment, self.now)
            return deploy(connection, environment, self.now, deadline_seconds=patience, priority=priority)

        self.note(self.run(self.stores[relay].write(write)))
        self.dispatch(relay)

    def note(self, deployment: Deployment) -> None:
        """Remember a deployment's newest job."""
        self.environments[deployment.job.id] = deployment.environment
        self.deployments[deployment.job.id] = deployment.id

    @precondition(lambda self: self.environments)
    @rule(content=st.data(), relay=st.sampled_from(RELAYS))
    def retry(self, content: st.DataObject, relay: int) -> None:
        """Ask either relay to try any deployment again."""
        chosen = content.draw(st.sampled_from(sorted(set(self.deployments.values()))))
        job_id = f"retry{len(self.environments):013}"
        try:
            made = self.run(
                self.stores[relay].write(lambda c: retry_deployment(c, ORGANIZATION, chosen, job_id, "token", self.now))
            )
        except Conflict:
            return
        event("retried")
        self.note(made)
        self.dispatch(relay)

    @precondition(lambda self: self.environments)
    @rule(content=st.data(), relay=st.sampled_from(RELAYS), stop=st.sampled_from(["cancel", "supersede"]))
    def ask_to_stop(self, content: st.DataObject, relay: int, stop: Stop) -> None:
        """Ask either relay to stop a job: one that an agent has, if there is one, or any."""
        at_work = [job_id for agent in self.agents.values() for job_id in agent.runs]
        job_id = content.draw(st.sampled_from(at_work or sorted(self.environments)))
        self.stop(job_id, relay, stop)

    def stop(self, job_id: str, relay: int, stop: Stop) -> None:
        """Ask a relay to stop a job, which it refuses only if the job has ended."""
        before = self.job(job_id)
        try:
            self.run(self.stores[relay].write(lambda c: stop_job(c, ORGANIZATION, job_id, stop, self.now)))
        except Conflict:
            assert before.state in FINAL_STATES

    # What relays do.

    @rule(relay=st.sampled_from(RELAYS))
    def dispatch(self, relay: int) -> None:
        """Look at the clock, then offer what there is."""
        self.run(self.dispatchers[relay].sweep())
        self.run(self.dispatchers[relay].serve_due())

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0, 61.0, 200.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(relay=st.sampled_from(RELAYS))
    def kill_relay(self, relay: int) -> None:
        """End a relay without a word and start it again on the same store."""
        for agent in self.agents.values():
            if agent.link is not None and agent.link.relay == relay:
                agent.link = None
        self.dispatchers[relay] = self.dispatcher(relay, self.stores[relay], LocalBus())
        self.run(self.dispatchers[relay].recover())

    @rule(relay=st.sampled_from(RELAYS))
    def stop_relay(self, relay: int) -> None:
        """Ask a relay to stop, and start it again: what it offered without an answer waits for nobody."""
        self.dispatchers[relay].drain()
        offers = [job.id for job in self.jobs().values() if job.state is JobState.LEASED]
        for cluster, agent in self.agents.items():
            if agent.connected is not None and agent.connected.relay == relay:
                own = [job_id for job_id in offers if self.job(job_id).holder == agent.connected.session_id]
                self.disconnect(cluster)
                assert {self.job(job_id).state for job_id in own} <= {JobState.QUEUED}
        self.kill_relay(relay)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def drain(self, cluster: str) -> None:
        """Tell an agent that its relay goes away: what it holds goes on, nothing more is offered."""
        link = self.agents[cluster].connected
        if link is not None:
            self.dispatchers[link.relay].stop_offers(link.session_id)
            link.drained = True

    # What agents do.

    @rule(cluster=st.sampled_from(CLUSTERS), relay=st.sampled_from(RELAYS), tells=st.booleans())
    def connect(self, cluster: str, relay: int, *, tells: bool) -> None:
        """Connect to either relay; the former connection ends properly or just vanishes."""
        agent = self.agents[cluster]
        if tells:
            self.disconnect(cluster)
        link = Link(relay=relay)
        listed = [(job_id, run.attempt, run.token) for job_id, run in agent.runs.items()]
        opened = self.run(self.dispatchers[relay].connect(identity_of(cluster), hello(*listed), link))
        link.session_id = opened.session_id
        agent.link = link
        assert {verdict.job_id for verdict in opened.verdicts} == set(agent.runs)
        for verdict in opened.verdicts:
            job = self.job(verdict.job_id)
            run = agent.runs[verdict.job_id]
            event(f"verdict {verdict.verdict}")
            if verdict.verdict == "abandon":
                assert (job.holder, job.token) != (link.session_id, run.token)
                del agent.runs[verdict.job_id]
                continue
            assert (job.holder, job.token, job.attempt) == (link.session_id, run.token, run.attempt)
            assert job.state is (JobState.RUNNING if verdict.verdict == "continue" else JobState.CANCELLING)
            assert run.acknowledged <= verdict.acknowledged_seq == job.acknowledged_seq <= run.recorded
            run.acknowledged = verdict.acknowledged_seq
            run.stopping = run.stopping or verdict.verdict != "continue"
        self.dispatchers[relay].start_offers(link.session_id)
        self.dispatch(relay)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def disconnect(self, cluster: str) -> None:
        """End a connection, and let its relay know."""
        agent = self.agents[cluster]
        if agent.link is not None:
            self.run(self.dispatchers[agent.link.relay].disconnect(agent.link.session_id))
            agent.link = None

    @precondition(lambda self: self.with_offers())
    @rule(content=st.data())
    def accept_one(self, content: st.DataObject) -> None:
        """Accept an offer."""
        self.answer(content.draw(st.sampled_from(self.with_offers())), "accept")

    @precondition(lambda self: self.with_offers())
    @rule(content=st.data(), answer=st.sampled_from(["no", "later"]))
    def refuse_one(self, content: st.DataObject, answer: str) -> None:
        """Refuse an offer, for good or for now."""
        self.answer(content.draw(st.sampled_from(self.with_offers())), answer)

    def answer(self, cluster: str, answer: str) -> None:
        """Answer the oldest offer of the current connection."""
        agent = self.agents[cluster]
        link = agent.connected
        assert link is not None
        offer = link.offers.pop(0)
        assert (offer.job_id, offer.token) not in self.offered, "offered twice under one token"
        self.offered.add((offer.job_id, offer.token))
        environment = self.environments[offer.job_id]
        claim = {"job_id": offer.job_id, "attempt": offer.attempt, "token": offer.token}
        dispatcher = self.dispatchers[link.relay]
        if answer != "accept":
            refusal = JobRefuse(**claim, code=ErrorCode.NOT_BOUND, message="no", temporary=answer == "later")
            self.run(dispatcher.refuse(link.session_id, refusal))
        elif self.run(dispatcher.accept(link.session_id, JobAccept(**claim))):
            assert all(run.environment != environment for run in agent.runs.values()), "two jobs in one environment"
            if offer.job_id not in self.begun[environment]:
                self.begun[environment].append(offer.job_id)
            seq = offer.acknowledged_seq
            deployment = self.deployments[offer.job_id]
            agent.take(environment, deployment, offer.attempt)
            agent.runs[offer.job_id] = Run(offer.token, offer.attempt, environment, deployment, seq, seq)

    @precondition(lambda self: self.at_work())
    @rule(content=st.data(), new=st.integers(0, 3), lost=st.booleans())
    def report(self, content: st.DataObject, new: int, *, lost: bool) -> None:
        """Report what is not acknowledged and some more; the acknowledgement may be lost."""
        self.send(content, new, None, lost=lost)

    @precondition(lambda self: self.at_work())
    @rule(content=st.data(), fails=st.booleans())
    def finish(self, content: st.DataObject, *, fails: bool) -> None:
        """Report the end of a job."""
        self.send(content, 0, Outcome.FAILED if fails else Outcome.SUCCEEDED, lost=False)

    def send(self, content: st.DataObject, new: int, outcome: Outcome | None, *, lost: bool) -> None:
        """Report for one of the jobs of a connected agent."""
        agent = self.agents[content.draw(st.sampled_from(self.at_work()))]
        link = agent.connected
        assert link is not None
        job_id = content.draw(st.sampled_from(sorted(agent.runs)))
        run = agent.runs[job_id]
        stopping = run.stopping or any(cancel.job_id == job_id for cancel in link.cancels)
        events = [step(number) for number in range(run.acknowledged + 1, run.recorded + new + 1)]
        if outcome is not None:
            outcome = Outcome.CANCELLED if stopping else outcome
            events.append(result(outcome))
        if not events:
            return
        messages = [
            Progress(job_id=job_id, token=run.token, seq=run.acknowledged + number, event=one)
            for number, one in enumerate(events, start=1)
        ]
        run.recorded = messages[-1].seq
        stored = self.run(self.dispatchers[link.relay].record(link.session_id, messages))
        job = self.job(job_id)
        if job_id not in stored:
            assert (job.holder, job.token) != (link.session_id, run.token)
            del agent.runs[job_id]
        elif outcome is not None:
            # Until the relay has it, an agent keeps the job and its result, and tells of it again.
            agent.note_end(run, outcome)
            assert job.state in FINAL_STATES
            is_rollback = job_id in self.rollbacks.values()
            assert (job_id in self.rollbacks) == (job.state is JobState.FAILED and not is_rollback)
            event(f"ended {job.state}{' rollback' if is_rollback else ''}")
            del agent.runs[job_id]
        elif not lost:
            assert stored[job_id] == run.recorded
            run.acknowledged = run.recorded

    @rule(cluster=st.sampled_from(CLUSTERS))
    def heartbeat(self, cluster: str) -> None:
        """Renew the leases; a job that is not renewed is given up."""
        agent = self.agents[cluster]
        link = agent.connected
        if link is None:
            return
        claims = tuple(HeartbeatJob(job_id=job_id, token=run.token) for job_id, run in agent.runs.items())
        try:
            answer = self.run(self.dispatchers[link.relay].heartbeat(link.session_id, Heartbeat(number=1, jobs=claims)))
        except SessionReplaced:
            agent.link = None
            return
        for job_id in set(agent.runs) - set(answer.renewed):
            job = self.job(job_id)
            assert (job.holder, job.token) != (link.session_id, agent.runs[job_id].token)
            del agent.runs[job_id]

    # What must hold.

    @invariant()
    def held_jobs_have_a_live_session(self) -> None:
        """Every job is where its state says, and an environment has at most one that may be at work."""
        working: set[str] = set()
        for job in self.jobs().values():
            environment = self.environments[job.id]
            assert (job.holder is not None) == (job.state in HELD_STATES)
            if job.state in HELD_STATES | {JobState.UNREACHABLE}:
                assert environment not in working
                working.add(environment)

    @invariant()
    def environments_keep_their_order(self) -> None:
        """Jobs begin in the order in which they were stored."""
        for environment, begun in self.begun.items():
            stored = [job_id for job_id, where in self.environments.items() if where == environment]
            assert begun == [job_id for job_id in stored if job_id in begun]

    def teardown(self) -> None:
        """Let everything come to its end, then read every story."""
        try:
            if self.stores:
                if self.agents_return:
                    self.come_to_an_end()
                else:
                    self.run_out_of_time()
                for job_id in self.environments:
                    self.check_story(job_id)
        finally:
            for store in self.stores:
                self.run(store.stop())
            self.runner.close()
            self.folder.cleanup()

    def run_out_of_time(self) -> None:
        """Let no agent say anything any more: every job must reach a final state by the clock alone."""
        for number in itertools.count():
            if all(job.state in FINAL_STATES for job in self.jobs().values()):
                return
            assert number < 20, "time does not end a job"
            self.now += 1000
            for relay in RELAYS:
                self.dispatch(relay)

    def come_to_an_end(self) -> None:
        """Connect every agent and let it finish what it is given: every job must reach a final state."""
        for number in itertools.count():
            if all(job.state in FINAL_STATES for job in self.jobs().values()):
                return
            assert number < 60, "a job does not come to its end"
            for cluster in CLUSTERS:
                link = self.agents[cluster].connected
                if link is None or link.drained:
                    self.connect(cluster, 0, tells=False)
            for relay in RELAYS:
                self.dispatch(relay)
            for cluster, agent in self.agents.items():
                while agent.connected is not None and agent.connected.offers:
                    self.answer(cluster, "accept")
                for job_id in list(agent.runs):
                    self.end(cluster, job_id)
            self.now += 6

    def end(self, cluster: str, job_id: str) -> None:
        """Report the end of one job."""
        agent = self.agents[cluster]
        run = agent.runs.pop(job_id)
        link = agent.connected
        stopping = run.stopping or (link is not None and any(cancel.job_id == job_id for cancel in link.cancels))
        outcome = Outcome.CANCELLED if stopping else Outcome.SUCCEEDED
        if link is not None:
            message = Progress(job_id=job_id, token=run.token, seq=run.acknowledged + 1, event=result(outcome))
            if job_id in self.run(self.dispatchers[link.relay].record(link.session_id, [message])):
                agent.note_end(run, outcome)

    def check_story(self, job_id: str) -> None:
        """Check that a story is allowed by the table, ends once, and has each event once."""
        scope = Scope(ORGANIZATION, job_id=job_id)
        records = self.run(self.stores[1].read(lambda c: read_events(c, scope, 0, 100_000)))
        events = [json.loads(record.event) for record in records]
        for state in {one["state"] for one in events if one["type"] == "job"}:
            event(f"state {state}")
            REACHED.add(JobState(state))
        states = [JobState(one["state"]) for one in events if one["type"] == "job"]
        assert states[0] is JobState.QUEUED
        assert all(after in NEXT[before] for before, after in itertools.pairwise(states))
        assert [record.final for record in records].count(True) == 1
        assert records[-1].final
        keys = [one["key"] for one in events if one["type"] != "job"]
        assert len(keys) == len(set(keys))
        steps = [int(key.partition("/")[2]) for key in keys if key.startswith("step/")]
        assert steps == sorted(steps)


@pytest.mark.timeout(600)
def test_dispatch_in_any_order() -> None:
    """Each example starts two relays and brings every job to its end: about a second, more on a busy machine."""
    limits = settings(max_examples=30, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(DispatchMachine, settings=limits)


@settings(max_examples=1, deadline=None)
@given(make=st.just(DispatchMachine))
def test_the_machine_reaches_every_state(make: Callable[[], DispatchMachine]) -> None:
    """One walk by hand: what chance does not reach in one run, it can reach in another."""
    REACHED.clear()
    machine = make()
    machine.start(agents_return=True)
    machine.answer("one", "no")
    machine.dispatch(1)
    machine.answer("two", "accept")
    machine.connect("two", 0, tells=True)
    machine.end("two", next(iter(machine.agents["two"].runs)))
    machine.answer("three", "accept")
    machine.deploy("three-a", 0, 5000.0)
    machine.deploy("three-a", 1, 5000.0, supersedes=True)
    machine.disconnect("one")
    machine.deploy("one-b", 0, 100.0)
    machine.deploy("two-b", 0, 5000.0)
    machine.stop(next(reversed(machine.environments)), 1, "cancel")
    machine.kill_relay(0)
    machine.wait(200.0)
    machine.dispatch(1)
    machine.deploy("two-a", 1, 100.0)
    machine.connect("two", 1, tells=False)
    machine.dispatch(1)
    machine.answer("two", "accept")
    machine.disconnect("two")
    machine.wait(200.0)
    machine.dispatch(1)
    machine.teardown()
    assert set(JobState) == REACHED
