"""The session's rules, one by one; tests/property/test_session_machine.py tries their interleavings."""

from __future__ import annotations

import pytest

from fairlead_shared.errors import ErrorCode, QueueFull, SessionMisuse
from fairlead_shared.frames import (
    MAX_CHUNK_BYTES,
    PROTOCOL_VERSION,
    Ack,
    Enrol,
    Heartbeat,
    Hello,
    JobAccept,
    JobCancel,
    JobOffer,
    JobVerdict,
    Progress,
    Unsupported,
    Welcome,
    decode_frame,
    encode_frame,
)
from fairlead_shared.progress import Step, StepEvent
from fairlead_shared.session import (
    Acknowledged,
    Closed,
    HeartbeatDue,
    NotUnderstood,
    Opened,
    Phase,
    Received,
    Session,
    SessionLimits,
    Side,
)
from fairlead_shared.transfers import ChunkReceived, TransferCredit, TransferEnded, TransferWanted


def hello(**changes: object) -> Hello:
    fields = {"versions": (1, 1), "agent_version": "0", "replica": "pod", "sealing_key": "k"}
    return Hello.model_validate(fields | changes)


def welcome(**changes: object) -> Welcome:
    fields = {
        "version": 1,
        "session_id": "s",
        "relay_version": "0",
        "store_epoch": "e",
        "heartbeat_seconds": 10,
        "reconnect_window_seconds": 1,
    }
    return Welcome.model_validate(fields | changes)


def progress(seq: int, job: str = "j") -> Progress:
    event = StepEvent(key=f"step/{seq}", at=0, step=Step.APPLY, status="started")
    return Progress(job_id=job, token=1, seq=seq, event=event)


def move(sender: Session, receiver: Session, now: float = 0) -> None:
    while frames := sender.data_to_send():
        for frame in frames:
            receiver.receive_frame(frame, now)


def open_pair(limits: SessionLimits | None = None, **changes: object) -> tuple[Session, Session]:
    agent, relay = Session(Side.AGENT, 0, limits), Session(Side.RELAY, 0, limits)
    agent.send(hello())
    move(agent, relay)
    relay.send(welcome(**changes))
    move(relay, agent)
    agent.events()
    relay.events()
    return agent, relay


def test_hello_and_welcome_open_both_sides() -> None:
    """After hello and welcome both sides are open and agree on the version."""
    agent, relay = Session(Side.AGENT, 0), Session(Side.RELAY, 0)
    agent.send(hello(versions=(1, 7)))
    move(agent, relay)
    assert relay.events() == [Received(hello(versions=(1, 7)))]
    relay.send(welcome())
    move(relay, agent)
    assert agent.events() == [Opened(welcome())]
    assert agent.phase is relay.phase is Phase.OPEN
    assert agent.version == relay.version == PROTOCOL_VERSION


@pytest.mark.parametrize("versions", [(7, 9), (0, 0)])
def test_no_common_version_closes_with_a_reason(versions: tuple[int, int]) -> None:
    """An agent that speaks only other versions is told so and both sides close."""
    agent, relay = Session(Side.AGENT, 0), Session(Side.RELAY, 0)
    agent.send(hello(versions=versions))
    move(agent, relay)
    move(relay, agent)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.VERSION
    assert agent.close_reason == Closed(ErrorCode.VERSION, relay.close_reason.reason, by_peer=True)


def test_unknown_kind_is_answered_and_not_fatal() -> None:
    """A frame of a kind from the future is answered with unsupported; the session goes on."""
    agent, relay = open_pair()
    relay.receive_frame(b'{"kind":"teleport","x":1}', 0)
    assert [decode_frame(frame) for frame in relay.data_to_send()] == [Unsupported(unknown="teleport")]
    assert relay.phase is Phase.OPEN
    agent.receive_frame(encode_frame(Unsupported(unknown="teleport")), 0)
    assert agent.data_to_send() == []
    assert agent.events()[-1] == NotUnderstood("teleport")
    assert agent.phase is Phase.OPEN


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", ErrorCode.MALFORMED),
        (b"\x01\x00", ErrorCode.MALFORMED),
        (b'{"kind":"ack","job_id":7}', ErrorCode.MALFORMED),
        (b'{"no":"kind"}', ErrorCode.MALFORMED),
        (b"[" * 5000, ErrorCode.MALFORMED),
        (b"x" * (1024 * 1024 + 1), ErrorCode.TOO_LARGE),
    ],
)
def test_malformed_frame_closes_and_never_raises(frame: bytes, code: ErrorCode) -> None:
    """Bytes that are no frame close the session with a code; nothing is raised."""
    _, relay = open_pair()
    relay.receive_frame(frame, 0)
    assert relay.close_reason is not None
    assert relay.close_reason.code is code
    assert relay.data_to_send()
    assert relay.data_to_send() == []
    relay.receive_frame(encode_frame(Heartbeat(number=1)), 0)
    assert [type(event) for event in relay.events()] == [Closed]


def test_peer_may_not_speak_for_the_other_side() -> None:
    """An offer from an agent, or an enrolment inside a session, closes the session."""
    agent, relay = open_pair()
    relay.receive_frame(encode_frame(JobCancel(job_id="j", token=1, superseded=False)), 0)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.PROTOCOL
    _, relay = open_pair()
    relay.receive_frame(encode_frame(Enrol(token_id="t", secret="s", csr_pem="c", sealing_key="k")), 0)
    assert relay.close_reason is not None
    with pytest.raises(SessionMisuse):
        agent.send(JobCancel(job_id="j", token=1, superseded=False))


def test_nothing_but_the_opening_passes_before_the_welcome() -> None:
    """A job accept before the welcome closes the relay's side; sending one raises on the agent's."""
    relay = Session(Side.RELAY, 0)
    relay.receive_frame(encode_frame(JobAccept(job_id="j", attempt=1, token=1)), 0)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.PROTOCOL
    with pytest.raises(SessionMisuse, match="before the welcome"):
        Session(Side.AGENT, 0).send(JobAccept(job_id="j", attempt=1, token=1))


def test_second_hello_is_refused() -> None:
    """One connection says hello once."""
    relay = Session(Side.RELAY, 0)
    relay.receive_frame(encode_frame(hello()), 0)
    relay.receive_frame(encode_frame(hello()), 0)
    assert relay.close_reason is not None
    assert relay.close_reason.reason == "a second hello"


def test_progress_is_delivered_in_order_and_acknowledged_only_when_stored() -> None:
    """The relay hands events up in order; the agent hears of them only after acknowledge()."""
    agent, relay = open_pair()
    agent.start_stream("j", 0)
    relay.expect_stream("j", 0)
    for seq in (1, 2, 3):
        agent.send_progress(progress(seq))
    move(agent, relay)
    assert relay.events() == [Received(progress(seq)) for seq in (1, 2, 3)]
    assert relay.data_to_send() == []
    relay.acknowledge("j", 2)
    relay.acknowledge("j", 3)
    frames = relay.data_to_send()
    assert [decode_frame(frame) for frame in frames] == [Ack(job_id="j", seq=3)], "cumulative: one ack for all"
    agent.receive_frame(frames[0], 0)
    assert agent.events() == [Acknowledged("j", 3)]


def test_duplicate_progress_is_dropped_counted_and_acknowledged_again() -> None:
    """After a reconnect an agent may repeat what the relay has; it is not delivered twice."""
    _, relay = open_pair()
    relay.expect_stream("j", 5)
    relay.receive_frame(encode_frame(progress(4)), 0)
    assert relay.events() == []
    assert relay.dropped_duplicates == 1
    assert [decode_frame(frame) for frame in relay.data_to_send()] == [Ack(job_id="j", seq=5)]


def test_gap_closes() -> None:
    """A missing number is a protocol error: the event would be lost."""
    _, relay = open_pair()
    relay.expect_stream("j", 5)
    relay.receive_frame(encode_frame(progress(7)), 0)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.PROTOCOL


def test_stray_progress_is_dropped_counted_and_not_acknowledged() -> None:
    """Events in flight when the relay lets go of a job cost neither the connection nor an acknowledgement."""
    agent, relay = open_pair()
    agent.start_stream("j", 0)
    relay.expect_stream("j", 0)
    agent.send_progress(progress(1))
    relay.end_stream("j")
    move(agent, relay)
    assert relay.events() == []
    assert relay.data_to_send() == []
    assert relay.dropped_strays == 1
    assert relay.phase is Phase.OPEN


def test_window_bounds_what_is_in_flight() -> None:
    """The agent may not send more than the window, and a hostile agent that does is cut off."""
    limits = SessionLimits(window=2)
    agent, relay = open_pair(limits)
    agent.start_stream("j", 0)
    relay.expect_stream("j", 0)
    agent.send_progress(progress(1))
    agent.send_progress(progress(2))
    assert agent.window("j") == 0
    with pytest.raises(QueueFull):
        agent.send_progress(progress(3))
    move(agent, relay)
    relay.receive_frame(encode_frame(progress(3)), 0)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.OVERLOADED


def test_welcome_starts_the_streams_of_its_verdicts() -> None:
    """After a reconnect both sides go on after what is stored, and abandoned jobs have no stream."""
    agent, relay = open_pair(
        jobs=(
            JobVerdict(job_id="j", verdict="continue", acknowledged_seq=41),
            JobVerdict(job_id="gone", verdict="abandon", acknowledged_seq=3),
        )
    )
    assert agent.next_seq("j") == 42
    assert agent.window("gone") == 0
    agent.send_progress(progress(42))
    move(agent, relay)
    assert relay.events() == [Received(progress(42))]


def test_misuse_of_streams_raises() -> None:
    """A skipped number, an unknown stream, or an ack of what never came is this side's bug."""
    agent, relay = open_pair()
    with pytest.raises(SessionMisuse):
        agent.send_progress(progress(1))
    agent.start_stream("j", 0)
    with pytest.raises(SessionMisuse):
        agent.send_progress(progress(2))
    with pytest.raises(SessionMisuse):
        agent.send(progress(1))
    relay.expect_stream("j", 0)
    with pytest.raises(SessionMisuse):
        relay.acknowledge("j", 1)
    agent.end_stream("j")
    relay.end_stream("j")
    relay.acknowledge("j", 1)
    agent.receive_frame(encode_frame(Ack(job_id="j", seq=1)), 0)
    assert agent.phase is Phase.OPEN, "an ack that crossed the end of the stream is harmless"


def test_acknowledgement_of_the_unsent_closes() -> None:
    """A relay that acknowledges what was never sent would make the agent forget it."""
    agent, _ = open_pair()
    agent.start_stream("j", 3)
    agent.receive_frame(encode_frame(Ack(job_id="j", seq=4)), 0)
    assert agent.close_reason is not None
    assert agent.close_reason.code is ErrorCode.PROTOCOL


def test_streams_are_bounded() -> None:
    """Both sides refuse one stream too many."""
    agent, relay = open_pair(SessionLimits(streams=1))
    agent.start_stream("a", 0)
    agent.start_stream("a", 1)
    relay.expect_stream("a", 0)
    with pytest.raises(QueueFull):
        agent.start_stream("b", 0)
    with pytest.raises(QueueFull):
        relay.expect_stream("b", 0)


def test_queue_refuses_rather_than_drops() -> None:
    """One frame more than the bound raises; those before it are all sent."""
    agent, _ = open_pair(SessionLimits(queued_frames=2))
    agent.send(Heartbeat(number=1))
    agent.send(Heartbeat(number=2))
    with pytest.raises(QueueFull):
        agent.send(Heartbeat(number=3))
    assert len(agent.data_to_send()) == 2


def test_peer_that_sends_and_never_reads_is_cut_off() -> None:
    """What it is answered without the owner's doing waits in a bounded queue too."""
    agent, relay = open_pair(SessionLimits(queued_frames=10))
    for number in range(12):
        assert relay.phase is Phase.OPEN
        relay.receive_frame(b'{"kind": "of_tomorrow"}', number)
    assert relay.close_reason is not None
    assert relay.close_reason.code is ErrorCode.OVERLOADED
    for number in range(30):
        agent.receive_frame(b'{"kind": "of_tomorrow"}', number)
        agent.data_to_send()
    assert agent.phase is Phase.OPEN, "one that reads is answered for ever"


def test_heartbeat_is_due_at_the_relays_interval() -> None:
    """The welcome sets how often the agent speaks; the relay side never does by itself."""
    agent, relay = open_pair(heartbeat_seconds=4)
    assert agent.next_deadline() == 0
    agent.receive_timeout(0)
    assert agent.events() == [HeartbeatDue()]
    agent.heartbeat(lambda number: Heartbeat(number=number))
    assert agent.next_deadline() == 4
    agent.receive_timeout(3.9)
    assert agent.events() == []
    agent.receive_timeout(4)
    assert agent.events() == [HeartbeatDue()]
    agent.heartbeat(lambda number: Heartbeat(number=number))
    assert [decode_frame(frame) for frame in agent.data_to_send()] == [Heartbeat(number=1), Heartbeat(number=2)]
    relay.receive_timeout(4)
    assert relay.events() == []


@pytest.mark.parametrize("index", [0, 1])
def test_silence_closes_either_side(index: int) -> None:
    """Nothing heard for silence_seconds means a dead connection, whatever TCP thinks."""
    session = open_pair()[index]
    session.receive_timeout(24.9)
    assert session.phase is Phase.OPEN
    session.receive_timeout(25)
    assert session.close_reason is not None
    assert session.close_reason.code is ErrorCode.SILENCE
    assert session.next_deadline() is None
    session.receive_timeout(100)
    session.close(ErrorCode.INTERNAL, "again")
    session.connection_lost("again")
    assert [event for event in session.events() if isinstance(event, Closed)] == [session.close_reason]


def test_lost_connection_drops_what_was_not_written() -> None:
    """After the transport is gone nothing is offered for writing."""
    agent, _ = open_pair()
    agent.send(Heartbeat(number=1))
    agent.connection_lost("reset by peer")
    assert agent.data_to_send() == []
    assert agent.events() == [Closed(ErrorCode.SILENCE, "reset by peer", by_peer=True)]
    with pytest.raises(SessionMisuse):
        agent.send(Heartbeat(number=2))


def transfer(agent: Session, relay: Session, content: bytes) -> bytes:
    number = agent.fetch("0" * 64)
    move(agent, relay)
    assert relay.events() == [TransferWanted(number, "0" * 64, 0)]
    received, given = b"", 0
    while True:
        room = relay.bulk_room(number)
        relay.send_bulk(number, content[given : given + room])
        given += min(room, len(content) - given)
        if given == len(content):
            relay.end_bulk(number, len(content))
        move(relay, agent)
        for event in agent.events():
            if isinstance(event, ChunkReceived):
                assert event.offset == len(received)
                received += event.payload
                agent.grant(number, len(event.payload))
            elif isinstance(event, TransferEnded):
                assert event.code is None
                return received
        move(agent, relay)
        assert all(isinstance(event, TransferCredit) for event in relay.events())


def test_bulk_transfer_arrives_whole_within_the_credit() -> None:
    """Content larger than the credit arrives byte for byte, never more than the credit at once."""
    content = bytes(range(256)) * 1024
    limits = SessionLimits(credit_bytes=100_000)
    assert transfer(*open_pair(limits), content) == content
    assert transfer(*open_pair(limits), b"") == b""


def test_control_frames_overtake_bulk() -> None:
    """An offer queued behind 512 KiB of bulk leaves after at most one chunk."""
    agent, relay = open_pair()
    number = agent.fetch("0" * 64)
    move(agent, relay)
    relay.send_bulk(number, bytes(512 * 1024))
    first = relay.data_to_send()
    assert len(first) == 1
    assert len(first[0]) <= MAX_CHUNK_BYTES + 13
    relay.send(JobOffer(job_id="j", attempt=1, token=1, job_kind="deploy", lease_seconds=30, deadline=0))
    assert isinstance(decode_frame(relay.data_to_send()[0]), JobOffer)


def test_sender_may_not_exceed_the_credit_and_a_hostile_one_is_cut_off() -> None:
    """Our own excess raises; the peer's closes; so does a chunk out of order."""
    agent, relay = open_pair(SessionLimits(credit_bytes=10))
    number = agent.fetch("0" * 64)
    move(agent, relay)
    with pytest.raises(SessionMisuse):
        relay.send_bulk(number, bytes(11))
    agent.receive_frame(b"\x01" + number.to_bytes(4, "big") + (0).to_bytes(8, "big") + bytes(11), 0)
    assert agent.close_reason is not None
    assert agent.close_reason.code is ErrorCode.PROTOCOL
    agent, _ = open_pair()
    number = agent.fetch("0" * 64)
    agent.receive_frame(b"\x01" + number.to_bytes(4, "big") + (5).to_bytes(8, "big") + b"x", 0)
    assert agent.close_reason is not None


def test_refused_short_and_abandoned_transfers_end() -> None:
    """A refusal and a wrong size end a transfer with a code; an abandoned one is silent."""
    agent, relay = open_pair()
    refused, short, abandoned = agent.fetch("0" * 64), agent.fetch("1" * 64), agent.fetch("2" * 64)
    move(agent, relay)
    relay.refuse_bulk(refused, ErrorCode.BUNDLE_UNAVAILABLE, "no such bundle")
    relay.send_bulk(short, b"abc")
    relay.end_bulk(short, 4)
    relay.send_bulk(abandoned, b"abc")
    agent.abandon(abandoned)
    move(relay, agent)
    events = agent.events()
    assert TransferEnded(refused, 0, ErrorCode.BUNDLE_UNAVAILABLE) in events
    assert TransferEnded(short, 4, ErrorCode.BUNDLE_UNAVAILABLE) in events
    assert not any(event.transfer == abandoned for event in events if isinstance(event, ChunkReceived))


def test_transfers_are_bounded_on_both_sides() -> None:
    """One fetch too many raises here; one request too many from a peer is refused, not fatal."""
    agent, relay = open_pair(SessionLimits(transfers=1))
    agent.fetch("0" * 64)
    with pytest.raises(QueueFull):
        agent.fetch("1" * 64)
    generous, _ = open_pair()
    for _ in range(2):
        generous.fetch("0" * 64)
    move(generous, relay)
    move(relay, generous)
    assert relay.phase is Phase.OPEN
    assert TransferEnded(2, 0, ErrorCode.OVERLOADED) in generous.events()
