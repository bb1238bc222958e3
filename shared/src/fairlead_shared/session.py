"""
The sans-I/O session: one connection's protocol, the same class for both sides.

No sockets, clock, randomness or `async` here. The owner calls the verbs and moves bytes:

    receive_frame(bytes, now)   what came in; look at events() afterwards
    receive_timeout(now)        call when next_deadline() has passed; look at events() and data_to_send() afterwards
    send*(...)                  queue something; look at data_to_send() afterwards
    events()                    what happened, each once
    data_to_send()              frames to write, each once; call again after writing until it is empty
    next_deadline()             when to call receive_timeout

**Numbered streams.** Progress events are numbered per job. The sender keeps only two numbers per stream, sent and
acknowledged; the messages themselves stay in the owner's journal until acknowledged, so that a restart of either side
resumes from stored state. The receiver drops what it has and what it does not expect, and refuses a gap.
Acknowledgements are cumulative and are sent only when the owner says that it has stored the event.

**Bulk.** Chunks go out only within the receiver's credit, and only when no control frame waits: data_to_send() returns
control frames first and at most one chunk per transfer after them.

**Bounds.** Every queue has a limit. The owner's own excess raises QueueFull; the peer's excess closes the session. A
peer's mistake never raises: it sets `close_reason` and an event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from fairlead_shared.errors import ErrorCode, FrameInvalid, QueueFull, SessionMisuse
from fairlead_shared.frames import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Ack,
    BulkCredit,
    BulkEnd,
    BulkRefuse,
    BulkRequest,
    CaAnswer,
    CaRequest,
    CertificateDue,
    CertificateIssued,
    CertificateRequest,
    CertificateStored,
    Challenge,
    ChallengeRequest,
    Chunk,
    DriftAck,
    DriftReport,
    Enrol,
    Enrolled,
    Error,
    GoAway,
    Heartbeat,
    HeartbeatAck,
    Hello,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    Message,
    Progress,
    Rejoin,
    UnknownMessage,
    Unsupported,
    Welcome,
    decode_frame,
    encode_frame,
)
from fairlead_shared.transfers import ChunkReceived, TransferCredit, TransferEnded, Transfers, TransferWanted


class Side(StrEnum):
    """Which end of the connection a session stands for."""

    AGENT = "agent"
    RELAY = "relay"


class Phase(StrEnum):
    """Where a connection stands."""

    OPENING = "opening"
    """Before the welcome: only hello, enrolment and errors pass."""
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one session; the defaults are the protocol's."""

    heartbeat_seconds: float = 10.0
    """How often the agent speaks when it has nothing to say. The relay's welcome overrides it on the agent."""
    silence_seconds: float = 25.0
    """Nothing heard for so long: the connection is dead. Below 30 s, two lost heartbeats."""
    window: int = 256
    """Progress events in flight per job."""
    streams: int = 1000
    """Numbered streams at the same time."""
    queued_frames: int = 10_000
    """Control frames waiting to be written."""
    transfers: int = 16
    """Bulk transfers at the same time, each direction."""
    credit_bytes: int = 512 * 1024
    """Credit a receiver grants at the start of a transfer."""


# What happened, in the order it happened.


@dataclass(frozen=True, slots=True)
class Received:
    """A message for the owner: valid, allowed in this phase, and for progress events in order and new."""

    message: Message


@dataclass(frozen=True, slots=True)
class Opened:
    """The welcome was sent or received; the session may be used."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class HeartbeatDue:
    """Agent only: send a heartbeat now with the leases to renew."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Agent only: the relay has stored the job's events up to `seq`."""

    job_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """The peer does not know a kind of message that was sent to it."""

    kind: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over. Nothing is sent or received after it."""

    code: ErrorCode
    reason: str
    by_peer: bool


Event = (
    Received | Opened | HeartbeatDue | Acknowledged | ChunkReceived | TransferEnded | TransferWanted | TransferCredit
    | NotUnderstood | Closed
)  # fmt: skip


@dataclass(slots=True)
class _OutStream:
    sent: int
    acknowledged: int


@dataclass(slots=True)
class _InStream:
    received: int
    acknowledged: int


_FROM_AGENT = (
    CaRequest, Enrol, Hello, Heartbeat, JobAccept, JobRefuse, Progress, BulkRequest, BulkCredit, BulkEnd, BulkRefuse,
    CertificateRequest, CertificateStored, ChallengeRequest, Rejoin, DriftReport, Unsupported, Error,
)  # fmt: skip
_FROM_RELAY = (
    CaAnswer, Enrolled, Welcome, HeartbeatAck, JobOffer, JobCancel, Ack, BulkRequest, BulkCredit, BulkEnd, BulkRefuse,
    CertificateIssued, CertificateDue, Challenge, DriftAck, GoAway, Unsupported, Error,
)  # fmt: skip
_ONLY_OPENING = (CaRequest, CaAnswer, Enrol, Enrolled, ChallengeRequest, Challenge, Rejoin, Hello, Welcome)
_OPENING = (*_ONLY_OPENING, CertificateIssued, GoAway, Unsupported, Error)


class Session:
    """
    One connection between one agent and one relay.

    Args:
        side: Which end this is.
        now: Monotonic seconds, the owner's clock; every later `now` is from the same clock.
        limits: Bounds.
    """

    def __init__(self, side: Side, now: float, limits: SessionLimits | None = None) -> None:
        self.side = side
        self.limits = limits or SessionLimits()
        self.phase = Phase.OPENING
        self.close_reason: Closed | None = None
        self.version = PROTOCOL_VERSION
        self.dropped_duplicates = 0
        """Progress events received again and dropped."""
        self.dropped_strays = 0
        """Progress events of jobs that this side does not expect, dropped."""
        self._heartbeat_seconds = self.limits.heartbeat_seconds
        self._heard_at = now
        self._heartbeat_at = now
        self._heartbeat_number = 0
        self._hello_seen = False
        self._control: list[bytes] = []
        self._unread = 0
        """Frames among those, without progress, which has windows of its own: a peer that never reads, but sends what
        must be answered, must not fill memory."""
        self._events: list[Event] = []
        self._out: dict[str, _OutStream] = {}
        self._in: dict[str, _InStream] = {}
        self._pending_acks: dict[str, int] = {}
        self._transfers = Transfers(
            self.limits.transfers,
            self.limits.credit_bytes,
            queue=self._queue,
            emit=self._emit,
            fail=self._fail,
        )

    # Receiving.

    def receive_frame(self, content: bytes, now: float) -> None:
        """
        Take one frame from the peer. Never raises for what the peer did.

        Args:
            content: Exactly one frame, in bytes.
            now: Monotonic seconds.
        """
        if self.phase is Phase.CLOSED:
            return
        self._heard_at = now
        if self._unread > self.limits.queued_frames:
            self._fail(ErrorCode.OVERLOADED, f"{self._unread} frames wait for a peer that sends and does not read")
            return
        try:
            frame = decode_frame(content)
        except FrameInvalid as error:
            self._fail(error.code, error.reason)
            return
        if isinstance(frame, Chunk):
            self._on_chunk(frame)
        elif isinstance(frame, UnknownMessage):
            self._queue(Unsupported(unknown=frame.kind))
        else:
            self._on_message(frame)

    def receive_timeout(self, now: float) -> None:
        """Take note of the time. Emits HeartbeatDue, or closes the session when the peer has been silent too long."""
        if self.phase is Phase.CLOSED:
            return
        if now - self._heard_at >= self.limits.silence_seconds:
            self._fail(ErrorCode.SILENCE, f"nothing heard for {now - self._heard_at:.0f} s")
        elif self._sends_heartbeats and now >= self._heartbeat_at:
            self._heartbeat_at = now + self._heartbeat_seconds
            self._events.append(HeartbeatDue())

    def next_deadline(self) -> float | None:
        """Return the monotonic time of the next receive_timeout, None when the session is over."""
        if self.phase is Phase.CLOSED:
            return None
        silence = self._heard_at + self.limits.silence_seconds
        return min(silence, self._heartbeat_at) if self._sends_heartbeats else silence

    def events(self) -> list[Event]:
        """Return what happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # Sending.

    def data_to_send(self) -> list[bytes]:
        """Return frames to write now, control before bulk; call again after writing until it returns nothing."""
        for job_id, seq in self._pending_acks.items():
            self._control.append(encode_frame(Ack(job_id=job_id, seq=seq)))
        self._pending_acks.clear()
        frames, self._control = self._control, []
        self._unread = 0
        if self.phase is not Phase.CLOSED:
            frames.extend(self._transfers.next_chunks())
        return frames

    def send(self, message: Message) -> None:
        """
        Queue a message that is not numbered.

        Raises: SessionMisuse: not this side's to send, or not in this phase. QueueFull: too many frames wait.
        """
        self._require_allowed(message)
        if len(self._control) >= self.limits.queued_frames:
            raise QueueFull(f"{len(self._control)} frames wait to be written")
        if isinstance(message, Welcome):
            self._open(message)
        self._queue(message)
        if isinstance(message, Error):
            self._close(Closed(message.code, message.message, by_peer=False))

    def heartbeat(self, build: Callable[[int], Heartbeat]) -> None:
        """Queue a heartbeat with the next number; answers HeartbeatDue."""
        self._heartbeat_number += 1
        self.send(build(self._heartbeat_number))

    def close(self, code: ErrorCode, reason: str) -> None:
        """Tell the peer why and end the session; idempotent."""
        if self.phase is not Phase.CLOSED:
            self._fail(code, reason)

    def connection_lost(self, reason: str) -> None:
        """The transport is gone; nothing more is sent. Idempotent."""
        self._control.clear()
        if self.phase is not Phase.CLOSED:
            self._close(Closed(ErrorCode.SILENCE, reason, by_peer=True))

    # Numbered streams.

    def start_stream(self, job_id: str, acknowledged: int) -> None:
        """
        Agent: events of the job up to `acknowledged` need not be sent (again); the next one has that number plus 1.

        Raises: SessionMisuse: not open. QueueFull: too many streams.
        """
        self._require_open()
        if job_id not in self._out and len(self._out) >= self.limits.streams:
            raise QueueFull(f"{len(self._out)} streams are open")
        self._out[job_id] = _OutStream(acknowledged, acknowledged)

    def window(self, job_id: str) -> int:
        """Return how many more events of the job may be sent now; 0 for an unknown stream."""
        stream = self._out.get(job_id)
        if stream is None or self.phase is not Phase.OPEN:
            return 0
        return self.limits.window - (stream.sent - stream.acknowledged)

    def next_seq(self, job_id: str) -> int:
        """Return the number of the next event to send. Raises: SessionMisuse: unknown stream."""
        return self._out_stream(job_id).sent + 1

    def send_progress(self, message: Progress) -> None:
        """
        Send the next event of a started stream.

        Raises: SessionMisuse: unknown stream or not its next number. QueueFull: the window is full.
        """
        stream = self._out_stream(message.job_id)
        if message.seq != stream.sent + 1:
            raise SessionMisuse(f"job {message.job_id}: event {message.seq} after {stream.sent}")
        if self.window(message.job_id) <= 0:
            raise QueueFull(f"job {message.job_id}: {self.limits.window} events are not acknowledged")
        self._require_open()
        stream.sent = message.seq
        self._queue(message)

    def end_stream(self, job_id: str) -> None:
        """Forget a stream; idempotent."""
        self._out.pop(job_id, None)
        self._in.pop(job_id, None)

    def expect_stream(self, job_id: str, received: int) -> None:
        """Relay: events of the job up to `received` are stored. Raises: QueueFull: too many streams."""
        if job_id not in self._in and len(self._in) >= self.limits.streams:
            raise QueueFull(f"{len(self._in)} streams are open")
        self._in[job_id] = _InStream(received, received)

    def acknowledge(self, job_id: str, seq: int) -> None:
        """Relay: the event and all before it are stored. Raises: SessionMisuse: it was never received."""
        stream = self._in.get(job_id)
        if stream is None:
            return
        if seq > stream.received:
            raise SessionMisuse(f"job {job_id}: event {seq} was not received")
        if seq > stream.acknowledged:
            stream.acknowledged = seq
            self._pending_acks[job_id] = seq

    # Bulk transfers.

    def fetch(self, sha256: str, offset: int = 0) -> int:
        """
        Ask the peer for content by hash.

        Args:
            sha256: Lower-case hex address.
            offset: First byte wanted.
        Returns: The transfer's number, as in ChunkReceived and TransferEnded.
        Raises: SessionMisuse: not open. QueueFull: too many transfers.
        """
        self._require_open()
        return self._transfers.fetch(sha256, offset)

    def grant(self, transfer: int, consumed: int) -> None:
        """Give back credit for bytes that were stored; unknown transfers are ignored, they may have just ended."""
        if self.phase is Phase.OPEN:
            self._transfers.grant(transfer, consumed)

    def abandon(self, transfer: int) -> None:
        """Stop caring about a transfer; what still arrives for it is dropped."""
        self._transfers.abandon(transfer)

    def bulk_room(self, transfer: int) -> int:
        """Return how many bytes may be given to send_bulk now; 0 for a transfer that ended."""
        return self._transfers.room(transfer)

    def send_bulk(self, transfer: int, payload: bytes) -> None:
        """
        Queue bytes of a transfer that the peer asked for.

        Raises: SessionMisuse: more than bulk_room() allows, or an unknown transfer.
        """
        self._transfers.send(transfer, payload)

    def end_bulk(self, transfer: int, size: int) -> None:
        """Say that every byte was given to send_bulk; `size` is that of the whole content in bytes."""
        self._transfers.end(transfer, size)

    def refuse_bulk(self, transfer: int, code: ErrorCode, message: str = "") -> None:
        """Answer a request for content that is not to be had."""
        if self.phase is Phase.OPEN:
            self._transfers.refuse(transfer, code, message)

    # Inside.

    @property
    def _sends_heartbeats(self) -> bool:
        return self.side is Side.AGENT and self.phase is Phase.OPEN

    def _require_open(self) -> None:
        if self.phase is not Phase.OPEN:
            raise SessionMisuse(f"the session is {self.phase}")

    def _require_allowed(self, message: Message) -> None:
        mine = _FROM_AGENT if self.side is Side.AGENT else _FROM_RELAY
        if not isinstance(message, mine) or isinstance(message, Progress):
            raise SessionMisuse(f"{message.kind} is not sent by this verb of the {self.side}")
        if self.phase is Phase.CLOSED:
            raise SessionMisuse("the session is closed")
        if self.phase is Phase.OPENING and not isinstance(message, _OPENING):
            raise SessionMisuse(f"{message.kind} before the welcome")

    def _out_stream(self, job_id: str) -> _OutStream:
        try:
            return self._out[job_id]
        except KeyError:
            raise SessionMisuse(f"job {job_id} has no stream") from None

    def _queue(self, message: Message) -> None:
        self._control.append(encode_frame(message))
        self._unread += not isinstance(message, Progress)

    def _close(self, closed: Closed) -> None:
        self.phase = Phase.CLOSED
        self.close_reason = closed
        self._transfers.clear()
        self._pending_acks.clear()
        self._events.append(closed)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self._queue(Error(code=code, message=reason[:4096]))
        self._close(Closed(code, reason, by_peer=False))

    def _emit(self, event: Event) -> None:
        # Not the bound list.append: events() swaps the list.
        self._events.append(event)

    def _deliver(self, message: Message) -> None:
        self._emit(Received(message))

    def _on_message(self, message: Message) -> None:
        theirs = _FROM_RELAY if self.side is Side.AGENT else _FROM_AGENT
        if not isinstance(message, theirs):
            self._fail(ErrorCode.PROTOCOL, f"{message.kind} is not the peer's to send")
        elif self.phase is Phase.OPENING and not isinstance(message, _OPENING):
            self._fail(ErrorCode.PROTOCOL, f"{message.kind} before the welcome")
        elif self.phase is Phase.OPEN and isinstance(message, _ONLY_OPENING):
            self._fail(ErrorCode.PROTOCOL, f"{message.kind} after the welcome")
        elif isinstance(message, Unsupported):
            self._emit(NotUnderstood(message.unknown))
        else:
            self._take(message)

    def _take(self, message: Message) -> None:
        """Do what the protocol asks for; what it asks for nothing is the owner's."""
        match message:
            case Hello():
                self._on_hello(message)
            case Welcome():
                self._on_welcome(message)
            case Progress():
                self._on_progress(message)
            case Ack():
                self._on_ack(message)
            case BulkRequest():
                self._transfers.on_request(message)
            case BulkCredit():
                self._transfers.on_credit(message)
            case BulkEnd():
                self._transfers.on_end(message)
            case BulkRefuse():
                self._transfers.on_refuse(message)
            case Error():
                self._on_error(message)
            case _:
                self._deliver(message)

    def _on_hello(self, hello: Hello) -> None:
        oldest, newest = hello.versions
        if self._hello_seen:
            self._fail(ErrorCode.PROTOCOL, "a second hello")
        elif newest < OLDEST_PROTOCOL_VERSION or oldest > PROTOCOL_VERSION:
            spoken = f"{OLDEST_PROTOCOL_VERSION}-{PROTOCOL_VERSION}"
            self._fail(ErrorCode.VERSION, f"this relay speaks versions {spoken}, the agent {oldest}-{newest}")
        else:
            self._hello_seen = True
            self.version = min(newest, PROTOCOL_VERSION)
            self._deliver(hello)

    def _on_welcome(self, welcome: Welcome) -> None:
        if not OLDEST_PROTOCOL_VERSION <= welcome.version <= PROTOCOL_VERSION:
            self._fail(ErrorCode.VERSION, f"the relay chose version {welcome.version}")
            return
        self._open(welcome)

    def _open(self, welcome: Welcome) -> None:
        self.phase = Phase.OPEN
        self.version = welcome.version
        self._heartbeat_seconds = welcome.heartbeat_seconds
        self._heartbeat_at = self._heard_at
        for verdict in welcome.jobs:
            if verdict.verdict == "abandon":
                continue
            if self.side is Side.AGENT:
                self._out[verdict.job_id] = _OutStream(verdict.acknowledged_seq, verdict.acknowledged_seq)
            else:
                self._in[verdict.job_id] = _InStream(verdict.acknowledged_seq, verdict.acknowledged_seq)
        self._events.append(Opened(welcome))

    def _on_progress(self, message: Progress) -> None:
        stream = self._in.get(message.job_id)
        if stream is None:
            # On its way when the relay let go of the job: never acknowledged; the next heartbeat tells the agent.
            self.dropped_strays += 1
        elif message.seq <= stream.received:
            self.dropped_duplicates += 1
            self._pending_acks[message.job_id] = stream.acknowledged
        elif message.seq > stream.received + 1:
            self._fail(ErrorCode.PROTOCOL, f"job {message.job_id}: event {message.seq} after {stream.received}")
        elif stream.received - stream.acknowledged >= self.limits.window:
            self._fail(ErrorCode.OVERLOADED, f"job {message.job_id}: more events in flight than the window allows")
        else:
            stream.received = message.seq
            self._deliver(message)

    def _on_ack(self, message: Ack) -> None:
        stream = self._out.get(message.job_id)
        if stream is None:
            return
        if message.seq > stream.sent:
            self._fail(ErrorCode.PROTOCOL, f"job {message.job_id}: event {message.seq} acknowledged before it was sent")
        elif message.seq > stream.acknowledged:
            stream.acknowledged = message.seq
            self._events.append(Acknowledged(message.job_id, message.seq))

    def _on_chunk(self, chunk: Chunk) -> None:
        if self.phase is not Phase.OPEN:
            self._fail(ErrorCode.PROTOCOL, "a bulk chunk before the welcome")
            return
        self._transfers.on_chunk(chunk)

    def _on_error(self, message: Error) -> None:
        self._close(Closed(message.code, message.message, by_peer=True))
