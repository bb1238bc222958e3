"""
Any interleaving of send, deliver, loss, duplication, restart and reconnect of one agent and one relay.

The agent's journal and the relay's store are the truth of each side and survive restarts; sessions do not. The machine
checks after every step that the relay's store is a prefix of the agent's journal, and at the end, after one quiet
reconnect, that nothing was lost or doubled.
"""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead_shared.frames import (
    PROTOCOL_VERSION,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloJob,
    JobVerdict,
    Progress,
    Welcome,
)
from fairlead_shared.progress import Step, StepEvent
from fairlead_shared.session import (
    Acknowledged,
    Closed,
    HeartbeatDue,
    Opened,
    Phase,
    Received,
    Session,
    SessionLimits,
    Side,
)

JOBS = ("a", "b")
LIMITS = SessionLimits(window=3, silence_seconds=25)


def event_of(job: str, seq: int) -> StepEvent:
    return StepEvent(key=f"{job}/{seq}", at=seq, step=Step.APPLY, status="started")


class Link(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.journal: dict[str, int] = dict.fromkeys(JOBS, 0)
        self.trimmed: dict[str, int] = dict.fromkeys(JOBS, 0)
        self.store: dict[str, list[StepEvent]] = {job: [] for job in JOBS}
        self.received_not_stored: deque[Progress] = deque()
        self.agent = Session(Side.AGENT, 0, LIMITS)
        self.relay = Session(Side.RELAY, 0, LIMITS)
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()

    @initialize()
    def first_connection(self) -> None:
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        """The transport is lost with all that was on the way; both sides begin anew from what they have stored."""
        self.up.clear()
        self.down.clear()
        self.received_not_stored.clear()
        self.agent.connection_lost("lost")
        self.relay.connection_lost("lost")
        self.agent = Session(Side.AGENT, self.now, LIMITS)
        self.relay = Session(Side.RELAY, self.now, LIMITS)
        jobs = tuple(HelloJob(job_id=job, attempt=1, token=1, last_seq=self.journal[job]) for job in JOBS)
        self.agent.send(
            Hello(versions=(PROTOCOL_VERSION, 9), agent_version="0", replica="r", sealing_key="k", jobs=jobs)
        )

    @rule(job=st.sampled_from(JOBS))
    def record(self, job: str) -> None:
        """The agent records one more event in its journal."""
        self.journal[job] += 1

    @rule(job=st.sampled_from(JOBS))
    def pump(self, job: str) -> None:
        """The agent sends from its journal what the window allows."""
        while self.agent.window(job) > 0 and self.agent.next_seq(job) <= self.journal[job]:
            seq = self.agent.next_seq(job)
            assert seq > self.trimmed[job], "an event that was acknowledged and deleted is needed again"
            self.agent.send_progress(Progress(job_id=job, token=1, seq=seq, event=event_of(job, seq)))

    @rule(count=st.integers(1, 4))
    def write(self, count: int) -> None:
        """Some of what both sides want to write gets onto the wire."""
        for _ in range(count):
            self.up.extend(self.agent.data_to_send())
            self.down.extend(self.relay.data_to_send())

    @precondition(lambda self: self.up)
    @rule(count=st.integers(1, 5))
    def deliver_up(self, count: int) -> None:
        """The relay reads some frames."""
        for _ in range(min(count, len(self.up))):
            self.relay.receive_frame(self.up.popleft(), self.now)
        self.relay_events()

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 5))
    def deliver_down(self, count: int) -> None:
        """The agent reads some frames."""
        for _ in range(min(count, len(self.down))):
            self.agent.receive_frame(self.down.popleft(), self.now)
        self.agent_events()

    @precondition(lambda self: self.up)
    @rule()
    def duplicate_up(self) -> None:
        """A frame arrives twice (a long poll that was repeated): a second hello closes, progress is dropped."""
        self.up.appendleft(self.up[0])

    @precondition(lambda self: self.received_not_stored)
    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        """The slow store commits some of what was received, and only then acknowledges it."""
        for _ in range(min(count, len(self.received_not_stored))):
            message = self.received_not_stored.popleft()
            assert message.seq == len(self.store[message.job_id]) + 1
            assert isinstance(message.event, StepEvent)
            self.store[message.job_id].append(message.event)
            if self.relay.phase is Phase.OPEN:
                self.relay.acknowledge(message.job_id, message.seq)

    @rule(seconds=st.floats(0.1, 12))
    def time_passes(self, seconds: float) -> None:
        """Heartbeats fall due and silence is noticed."""
        self.now += seconds
        self.agent.receive_timeout(self.now)
        self.relay.receive_timeout(self.now)
        self.agent_events()
        self.relay_events()

    def relay_events(self) -> None:
        for event in self.relay.events():
            if self.relay.phase is Phase.CLOSED:
                break  # several frames were read at once, and a later one ended the session
            match event:
                case Received(message=Hello()):
                    verdicts = tuple(
                        JobVerdict(job_id=job, verdict="continue", acknowledged_seq=len(self.store[job]))
                        for job in JOBS
                    )
                    self.relay.send(
                        Welcome(
                            version=self.relay.version,
                            session_id="s",
                            relay_version="0",
                            store_epoch="e",
                            heartbeat_seconds=10,
                            reconnect_window_seconds=1,
                            jobs=verdicts,
                        )
                    )
                case Received(message=Progress() as message):
                    self.received_not_stored.append(message)
                case Received(message=Heartbeat(number=number)):
                    self.relay.send(HeartbeatAck(number=number, lease_seconds=30))
                case Opened() | Closed():
                    pass
                case _:
                    raise AssertionError(event)

    def agent_events(self) -> None:
        for event in self.agent.events():
            match event:
                case HeartbeatDue() if self.agent.phase is Phase.OPEN:
                    self.agent.heartbeat(lambda number: Heartbeat(number=number))
                case Acknowledged(job_id=job, seq=seq):
                    assert seq <= len(self.store[job]), "acknowledged before it was stored"
                    self.trimmed[job] = max(self.trimmed[job], seq)
                case Opened(welcome=welcome):
                    # What was stored before the connection was lost is acknowledged by the verdicts.
                    for verdict in welcome.jobs:
                        self.trimmed[verdict.job_id] = max(self.trimmed[verdict.job_id], verdict.acknowledged_seq)
                case Received(message=HeartbeatAck()) | Closed() | HeartbeatDue():
                    pass
                case _:
                    raise AssertionError(event)

    @invariant()
    def store_is_a_prefix_of_the_journal(self) -> None:
        for job in JOBS:
            assert self.store[job] == [event_of(job, seq) for seq in range(1, len(self.store[job]) + 1)]
            assert len(self.store[job]) <= self.journal[job]

    def teardown(self) -> None:
        """One quiet connection later the relay has everything, once."""
        self.reconnect()
        for _ in range(200):
            for job in JOBS:
                self.pump(job)
            self.write(1)
            while self.up:
                self.deliver_up(5)
            while self.received_not_stored:
                self.commit(5)
            self.write(1)
            while self.down:
                self.deliver_down(5)
        for job in JOBS:
            assert self.store[job] == [event_of(job, seq) for seq in range(1, self.journal[job] + 1)]
            assert self.trimmed[job] == self.journal[job]


TestLink = Link.TestCase
TestLink.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
