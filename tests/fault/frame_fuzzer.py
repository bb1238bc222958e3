"""
A fuzzer of frames and sessions: keeps what reaches a line no input reached before, and breeds from what it kept.

An input is a script: which side, in which phase, then frames one after another, as a hostile peer might send them. It
is run against a real Session whose owner answers as the product does. Nothing may raise, whatever the peer sends, and
every queue stays within its bound. `python -m tests.fault.frame_fuzzer SECONDS` runs it by hand.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fairlead_shared import frames, session, transfers
from fairlead_shared.errors import ErrorCode, FrameInvalid, QueueFull
from fairlead_shared.frames import (
    PROTOCOL_VERSION,
    Chunk,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloJob,
    JobVerdict,
    Progress,
    Welcome,
    decode_frame,
    encode_frame,
)
from fairlead_shared.progress import Step, StepEvent
from fairlead_shared.session import Acknowledged, Closed, HeartbeatDue, Opened, Phase, Received, Session, Side
from fairlead_shared.transfers import ChunkReceived, TransferCredit, TransferWanted

CORPUS = Path(__file__).with_name("corpus")
LIMITS = session.SessionLimits(window=4, streams=8, queued_frames=24, transfers=4, credit_bytes=4096)
"""Small, so that a script reaches them."""
LONGEST_SCRIPT = 48
UNBLOCKED = 8
"""Frames at the end of a script during which the owner can write."""
_SHA256 = "0" * 64
_TRACED = {module.__file__ for module in (frames, session, transfers)}


@dataclass(frozen=True)
class Script:
    """One input."""

    side: Side
    opened: bool
    """Whether the session is past its welcome."""
    frames: tuple[bytes, ...]

    def pack(self) -> bytes:
        """Return it as a file of the corpus."""
        head = json.dumps({"side": self.side, "opened": self.opened}).encode()
        return b"".join(len(part).to_bytes(4, "big") + part for part in (head, *self.frames))

    @classmethod
    def unpack(cls, content: bytes) -> Script:
        """Read a file of the corpus."""
        parts = []
        while content:
            size = int.from_bytes(content[:4], "big")
            parts.append(content[4 : 4 + size])
            content = content[4 + size :]
        head = json.loads(parts[0])
        return cls(Side(head["side"]), head["opened"], tuple(parts[1:]))


def event_of(seq: int) -> StepEvent:
    """Return an event of a job."""
    return StepEvent(key=f"e/{seq}", at=seq, step=Step.APPLY, status="started")


class Owner:
    """A session with an owner that answers as link and gateway do."""

    def __init__(self, script: Script) -> None:
        self.session = Session(script.side, 0, LIMITS)
        self.now = 0.0
        hello = Hello(
            versions=(PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version="0",
            replica="r",
            sealing_key="k",
            jobs=tuple(HelloJob(job_id=job, attempt=1, token=1, last_seq=0) for job in "ab"),
        )
        if script.side is Side.AGENT:
            self.session.send(hello)
            if script.opened:
                self._take(encode_frame(self._welcome))
                for seq in (1, 2, 3):
                    self.session.send_progress(Progress(job_id="a", token=1, seq=seq, event=event_of(seq)))
        elif script.opened:
            self._take(encode_frame(hello))
        if script.opened:
            self.session.fetch(_SHA256)
            self.session.fetch(_SHA256, 100)
            self.session.data_to_send()

    @property
    def _welcome(self) -> Welcome:
        return Welcome(
            version=PROTOCOL_VERSION,
            session_id="s",
            relay_version="0",
            store_epoch="e",
            heartbeat_seconds=10,
            reconnect_window_seconds=1,
            jobs=tuple(JobVerdict(job_id=job, verdict="continue", acknowledged_seq=0) for job in "ab"),
        )

    def run(self, script: Script) -> None:
        """Let the peer send its frames; the writer is blocked for most of them, as by a peer that does not read."""
        for number, content in enumerate(script.frames):
            self._take(content)
            self.now += 0.5
            self.session.receive_timeout(self.now)
            self._answer()
            if number >= len(script.frames) - UNBLOCKED:
                self._write()
            self._check()
        self._write()
        self.session.connection_lost("over")
        self.session.events()
        assert self.session.next_deadline() is None

    def _take(self, content: bytes) -> None:
        was_closed = self.session.phase is Phase.CLOSED
        self.session.receive_frame(content, self.now)
        assert not (was_closed and self.session.phase is not Phase.CLOSED), "a closed session came back"
        self._answer()

    def _answer(self) -> None:
        for event in self.session.events():
            if self.session.phase is Phase.CLOSED:
                return
            try:
                self._answer_one(event)
            except QueueFull:
                # The owner's own excess: it waits, as the product does.
                continue

    def _answer_one(self, event: session.Event) -> None:
        match event:
            case Received(message=Hello()) if self.session.phase is Phase.OPENING:
                self.session.send(self._welcome)
            case Received(message=Heartbeat(number=number)):
                self.session.send(HeartbeatAck(number=number, lease_seconds=30))
            case Received(message=Progress(job_id=job, seq=seq)) if seq % 2:
                self.session.acknowledge(job, seq)
            case TransferWanted(transfer=transfer) if transfer % 3 == 0:
                self.session.refuse_bulk(transfer, ErrorCode.BUNDLE_UNAVAILABLE)
            case TransferWanted(transfer=transfer) | TransferCredit(transfer=transfer):
                room = min(self.session.bulk_room(transfer), 700)
                if room:
                    self.session.send_bulk(transfer, b"x" * room)
                if transfer % 2:
                    self.session.end_bulk(transfer, 700)
            case ChunkReceived(transfer=transfer, payload=payload):
                self.session.grant(transfer, len(payload))
            case HeartbeatDue():
                self.session.heartbeat(lambda number: Heartbeat(number=number))
            case Opened() | Acknowledged() | Closed() | Received() | _:
                pass

    def _write(self) -> None:
        while written := self.session.data_to_send():
            for content in written:
                decode_frame(content)

    def _check(self) -> None:
        assert len(self.session._control) <= LIMITS.queued_frames + 8, "frames wait without bound"
        assert len(self.session._in) <= LIMITS.streams + 8
        assert len(self.session._out) <= LIMITS.streams + 8


def run(script: Script) -> None:
    """Run one input; what it raises is a defect."""
    owner = Owner(script)
    owner.run(script)


def lines_of(work: Callable[[], None]) -> set[tuple[int, int, int]]:
    """Do some work, and return the steps from line to line that it took in the protocol's core."""
    steps: set[tuple[int, int, int]] = set()
    known: dict[CodeType, bool] = {}

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:  # noqa: ANN401  (as sys.settrace has it)
        code = frame.f_code
        if code not in known:
            known[code] = code.co_filename in _TRACED
        if not known[code]:
            return None
        place, last = id(code), 0

        def step(frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401
            nonlocal last
            if event == "line":
                steps.add((place, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(None)
    return steps


@dataclass
class Fuzzer:
    """
    Breeds scripts.

    Args:
        seed: Of everything random here.
        kept: Scripts to breed from; grows.
    """

    seed: int
    kept: list[Script]
    runs: int = 0
    found: list[Script] = field(default_factory=list)
    """Kept scripts that were not given."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._seen: set[tuple[int, int, int]] = set()
        for script in self.kept:
            self._seen |= lines_of(lambda script=script: run(script))  # type: ignore[misc]
        self._fragments = [content for script in self.kept for content in script.frames]

    def fuzz(self, cpu_seconds: float) -> None:
        """Run for so much CPU time. Raises: whatever the core raised; `last` is the script that made it."""
        ends = time.process_time() + cpu_seconds
        while time.process_time() < ends:
            self.last = self._breed()
            self.runs += 1
            # Tracing is slow: most inputs run without, and one in four is looked at.
            if self.runs % 4:
                run(self.last)
                continue
            steps = lines_of(lambda: run(self.last))
            if steps - self._seen:
                self._seen |= steps
                self.kept.append(self.last)
                self.found.append(self.last)
                self._fragments += self.last.frames

    def _breed(self) -> Script:
        pick = self._random
        parent = pick.choice(self.kept)
        script = list(parent.frames)
        for _ in range(pick.randint(1, 6)):
            at = pick.randrange(len(script) + 1)
            match pick.randrange(6):
                case 0 if script:
                    del script[at - 1]
                case 1 if script:
                    script.insert(at, script[at - 1])
                case 2:
                    script.insert(at, pick.choice(self._fragments))
                case 3 if script:
                    script[at - 1] = self._bend_json(script[at - 1])
                case 4 if script:
                    script[at - 1] = self._bend_bytes(script[at - 1])
                case _:
                    script[at:at] = [pick.choice(self._fragments)] * pick.randint(1, LONGEST_SCRIPT)
        side = pick.choice(list(Side)) if pick.random() < 0.1 else parent.side
        opened = not parent.opened if pick.random() < 0.1 else parent.opened
        return Script(side, opened, tuple(script[: 2 * LONGEST_SCRIPT]))

    def _bend_json(self, content: bytes) -> bytes:
        """Change one value of a JSON frame, keeping it JSON."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):  # deeper than Python's own parser goes: the core's stops before
            return self._bend_bytes(content)
        places = list(_places(value))
        if not places:
            return content
        holder, key = self._random.choice(places)
        holder[key] = self._random.choice(
            [
                0, 1, -1, 2, 3, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, math.inf,
                "", "a", "b", _SHA256, "x" * 5000, None, True, [], {}, [[]] * 3, {"kind": "hello"},
                "continue", "abandon", "\ud7ff", [holder[key]], holder[key],
            ]
        )  # fmt: skip
        return json.dumps(value).encode()

    def _bend_bytes(self, content: bytes) -> bytes:
        pick, changed = self._random, bytearray(content)
        for _ in range(pick.randint(1, 8)):
            at = pick.randrange(len(changed) + 1)
            match pick.randrange(4):
                case 0 if changed:
                    changed[at - 1] = pick.randrange(256)
                case 1:
                    changed[at:at] = pick.choice([b"\x00", b"\xff", b'"', b"{", b"[" * 300, b"\x01", b"9" * 20])
                case 2:
                    del changed[at : at + pick.randint(1, 16)]
                case _:
                    other = pick.choice(self._fragments)
                    changed[at:] = other[pick.randrange(len(other) + 1) :]
        return bytes(changed[: 128 * 1024])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401  (JSON)
    """Yield (container, key) of each value inside a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def corpus() -> list[Script]:
    """Return the kept scripts, in a stable order."""
    return [Script.unpack(path.read_bytes()) for path in sorted(CORPUS.glob("*.script"))]


def keep(script: Script) -> Path:
    """Add a script to the corpus, named by its content."""
    content = script.pack()
    path = CORPUS / f"{hashlib.sha256(content).hexdigest()[:16]}.script"
    path.write_bytes(content)
    return path


def main() -> None:
    """Fuzz by hand, keep what is new, and say what was done."""
    seconds, seed = float(sys.argv[1]), time.time_ns()
    fuzzer = Fuzzer(seed, corpus() + seeds())
    try:
        fuzzer.fuzz(seconds)
    except BaseException:
        print(f"seed {seed}: raised by {keep(fuzzer.last)}")
        raise
    for script in fuzzer.found:
        keep(script)
    print(f"seed {seed}: {fuzzer.runs:,} scripts in {seconds:.0f} CPU seconds, {len(fuzzer.found)} new in the corpus")


def seeds() -> list[Script]:
    """Return one script for each message, side and phase: where a corpus begins."""
    found = []
    for content in _samples():
        found += [Script(side, opened, (content,) * 2) for side in Side for opened in (False, True)]
    return found


def _samples() -> Iterator[bytes]:
    envelope = {"payloadType": "t", "payload": "e30=", "signatures": [{"keyid": "k", "sig": "e30="}]}
    filled: dict[str, Any] = {
        "root_pem": "p", "token_id": "t", "secret": "s", "csr_pem": "c", "sealing_key": "k", "certificate_pem": "p",
        "relay_signer": "k", "versions": [1, 1], "agent_version": "0", "replica": "r", "version": 1, "session_id": "s",
        "relay_version": "0", "store_epoch": "e", "heartbeat_seconds": 10, "reconnect_window_seconds": 1, "number": 1,
        "lease_seconds": 30, "job_id": "a", "attempt": 1, "token": 1, "job_kind": "deploy", "deadline": 9e9,
        "wait_seconds": 5, "bundle_bytes": 1, "statement": envelope, "environment": ["a", "b", "c"], "code": "internal",
        "seq": 1, "event": event_of(1).model_dump(mode="json"), "transfer": 1, "sha256": _SHA256, "credit": 1000,
        "size": 1000, "reason": "r", "unknown": "u", "message": "m", "nonce": _SHA256,
        "revision": 1, "mode": "report", "total": 1, "watches": 1,
        "unseen": [{"group": "apps", "resource": "deployments", "namespace": "n", "reason": "r"}],
        "objects": [
            {"object": {"api_version": "v1", "kind": "Secret", "name": "n"}, "drift": "changed", "status": "drifted",
             "since": 1, "managers": ["m"], "fields": [{"pointer": "/data", "masked": True}]}
        ],
        "signature": "c2ln", "temporary": True, "superseded": True, "serial": "1", "within_seconds": 60, "at": 1,
        "jobs": [
            {"job_id": "a", "attempt": 1, "token": 1, "last_seq": 3, "verdict": "continue", "acknowledged_seq": 0}
        ],
    }  # fmt: skip
    for kind in frames.MESSAGE_TYPES:
        fields = {name: filled[name] for name in kind.model_fields if name in filled}
        yield json.dumps({**fields, "kind": kind.model_fields["kind"].default}).encode()
    yield json.dumps({"kind": "of_tomorrow", "more": [1, 2]}).encode()
    for offset in (0, 10):
        yield encode_frame(Chunk(transfer=1, offset=offset, payload=b"0123456789"))
    yield b"[" * 500 + b"]" * 500


def accepted(content: bytes) -> bool:
    """Tell whether a frame decodes."""
    try:
        decode_frame(content)
    except FrameInvalid:
        return False
    return True


if __name__ == "__main__":
    main()
