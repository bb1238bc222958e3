"""
Frames: the wire messages between agent and relay, and their bytes.

A frame is either one JSON object (first byte `{`) whose `kind` names the message, or a bulk chunk:

    byte 0      0x01
    bytes 1-4   transfer number, unsigned, big endian
    bytes 5-12  offset of the first payload byte, unsigned, big endian, in bytes
    rest        payload

Unknown fields are ignored, unknown kinds are answered with `unsupported`: two versions must coexist. Each message's
docstring says who sends it, what acknowledges it, its idempotency key, and what it means when sent twice;
docs/protocol.md is checked against them.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fairlead_shared.bounds import Attempt, Count, EpochSeconds, Natural, Positive
from fairlead_shared.drift import MAX_DRIFTED_OBJECTS, MAX_UNSEEN, DriftedObject, DriftMode, UnseenKind
from fairlead_shared.envelope import Envelope
from fairlead_shared.errors import ErrorCode, FrameInvalid, ReceivedCode
from fairlead_shared.progress import ProgressEvent

PROTOCOL_VERSION: Final = 1
"""
History:
    1   2026-11-24  first version
"""
OLDEST_PROTOCOL_VERSION: Final = 1

MAX_FRAME_BYTES: Final = 1024 * 1024
"""A statement envelope, a hello with 1,000 jobs and a 64 KiB chunk all stay far below."""
MAX_CHUNK_BYTES: Final = 64 * 1024
"""Payload of one bulk chunk: 5 ms at 100 Mbit/s, so that a heartbeat never waits long behind one."""
_CHUNK_MARK: Final = 0x01
_CHUNK_HEADER: Final = struct.Struct(">BIQ")

_Name = Annotated[str, Field(max_length=253)]
_Text = Annotated[str, Field(max_length=4096)]
_Pem = Annotated[str, Field(max_length=65_536)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Version = Annotated[int, Field(ge=0, le=65_535)]
_Transfer = Annotated[int, Field(ge=1, le=2**32 - 1)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


# Before a session: the only messages that a peer without a client certificate may send.


class CaRequest(_Message):
    """
    Agent → relay.

    Answered by `ca`. No key: reading twice is harmless.
    """

    kind: Literal["ca_request"] = "ca_request"
    fingerprint: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of the root inside the token; empty: the relay's present one. While the CA is changed the relay has two."""


class CaAnswer(_Message):
    """
    Relay → agent.

    Not acknowledged. The agent trusts it only if its fingerprint is the one in the enrolment token.
    """

    kind: Literal["ca"] = "ca"
    root_pem: _Pem


class Enrol(_Message):
    """
    Agent → relay.

    Answered by `enrolled` or `error`. Key: (token id, public key); the same pair gets an answer again, another key is
    refused with `token_invalid`.
    """

    kind: Literal["enrol"] = "enrol"
    token_id: _Name
    secret: _Name = Field(repr=False)
    csr_pem: _Pem
    sealing_key: _Name
    """Base64 of the raw X25519 public key that clients seal Secret values to."""


class Enrolled(_Message):
    """
    Relay → agent.

    Not acknowledged: the hello that follows proves that the certificate arrived.
    """

    kind: Literal["enrolled"] = "enrolled"
    certificate_pem: _Pem
    """Leaf first, then the issuing CA."""
    root_pem: _Pem
    relay_signer: _Name
    """Base64 of the relay's raw Ed25519 signing key; pinned by the agent from here on."""


class ChallengeRequest(_Message):
    """
    Agent → relay, without a client certificate: it wants to rejoin.

    Answered by `challenge`. No key: each gets a new one, and only the last counts.
    """

    kind: Literal["challenge_request"] = "challenge_request"


class Challenge(_Message):
    """
    Relay → agent.

    Not acknowledged; good for one `rejoin` on the same connection.
    """

    kind: Literal["challenge"] = "challenge"
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    at: EpochSeconds
    """The relay's clock, seconds since the epoch: a skewed one can be named."""


class Rejoin(_Message):
    """
    Agent → relay: its certificate has expired or is refused, and it proves that it holds the certificate's key.

    Answered by `certificate` or `error`. Key: the challenge; the second is refused with `unauthorized`.
    """

    kind: Literal["rejoin"] = "rejoin"
    certificate_pem: _Pem
    """The last certificate, leaf first."""
    csr_pem: _Pem
    """With a new key."""
    signature: _Name
    """Base64, by the last certificate's key, over challenge and request (rejoin.py)."""


# Session.


class HelloJob(_Message):
    """A job as its agent has it."""

    job_id: _Name
    attempt: Attempt
    token: Positive
    """Fencing token."""
    last_seq: Natural
    """Highest progress number recorded by the agent; 0 if its spool is gone."""


class Hello(_Message):
    """
    Agent → relay, first in each connection.

    Answered by `welcome` or `error`. Key: connection; a second one is `protocol`.
    """

    kind: Literal["hello"] = "hello"
    versions: tuple[_Version, _Version]
    """Oldest and newest protocol version spoken."""
    capabilities: tuple[_Name, ...] = Field(default=(), max_length=64)
    agent_version: _Name
    kubernetes_version: _Name = ""
    replica: _Name
    """Pod name, or host name outside Kubernetes."""
    sealing_key: _Name
    """Base64 of the raw X25519 public key in force."""
    relay_signer: _Name = ""
    """The relay signing key that this agent has pinned."""
    jobs: tuple[HelloJob, ...] = Field(default=(), max_length=1000)


class JobVerdict(_Message):
    """What the relay says of one job in the hello."""

    job_id: _Name
    verdict: Literal["continue", "cancel", "supersede", "abandon"]
    """`abandon`: this attempt is not (or no longer) yours; stop without another write and forget it."""
    acknowledged_seq: Natural
    """Highest progress number stored; the agent goes on after it."""


class Welcome(_Message):
    """
    Relay → agent.

    Not acknowledged: the next heartbeat proves it arrived.
    """

    kind: Literal["welcome"] = "welcome"
    version: _Version
    capabilities: tuple[_Name, ...] = Field(default=(), max_length=64)
    session_id: _Name
    relay_version: _Name
    store_epoch: _Name
    """Changes when the relay's store was restored from a backup."""
    heartbeat_seconds: float = Field(gt=0, le=300)
    reconnect_window_seconds: float = Field(ge=1, le=600)
    """Upper bound of the backoff, sized to the relay's fleet."""
    at: EpochSeconds | None = None
    """The relay's clock, seconds since the epoch: a skewed one can be named."""
    jobs: tuple[JobVerdict, ...] = Field(default=(), max_length=1000)


class HeartbeatJob(_Message):
    """A lease to renew."""

    job_id: _Name
    token: Positive


class Heartbeat(_Message):
    """
    Agent → relay.

    Answered by `heartbeat_ack`. Key: number; twice renews twice, harmless.
    """

    kind: Literal["heartbeat"] = "heartbeat"
    number: Positive
    jobs: tuple[HeartbeatJob, ...] = Field(default=(), max_length=1000)


class HeartbeatAck(_Message):
    """
    Relay → agent.

    Not acknowledged. A job missing from `renewed` is no longer the agent's: stop writing for it.
    """

    kind: Literal["heartbeat_ack"] = "heartbeat_ack"
    number: Positive
    lease_seconds: float = Field(gt=0, le=86_400)
    renewed: tuple[_Name, ...] = Field(default=(), max_length=1000)


class JobOffer(_Message):
    """
    Relay → agent.

    Answered by `job_accept` or `job_refuse`. Key: (job, token); a known pair is accepted again, run once.
    """

    kind: Literal["job_offer"] = "job_offer"
    job_id: _Name
    attempt: Attempt
    token: Positive
    job_kind: Annotated[str, Field(max_length=63)]
    """A JobKind, or a kind of the future, to be refused by name."""
    lease_seconds: float = Field(gt=0, le=86_400)
    deadline: EpochSeconds
    """Seconds since the epoch."""
    statement: Envelope | None = None
    """For kinds that change something."""
    bundle_bytes: Natural = 0
    environment: tuple[_Name, _Name, _Name] | None = None
    """(organization, application, environment), for kinds that only read."""
    wait_seconds: float = Field(default=600, gt=0, le=86_400)
    """How long the bundle's objects may take to become healthy."""
    acknowledged_seq: Natural = 0
    """Highest progress number stored by the relay, from earlier attempts; the agent numbers on after it."""


class JobAccept(_Message):
    """
    Agent → relay, once its own rules allow the job.

    Acknowledged by the next heartbeat's renewal. Key: (job, token).
    """

    kind: Literal["job_accept"] = "job_accept"
    job_id: _Name
    attempt: Attempt
    token: Positive


class JobRefuse(_Message):
    """
    Agent → relay: its own rules or limits say no, nothing was changed.

    Not acknowledged. Key: (job, token).
    """

    kind: Literal["job_refuse"] = "job_refuse"
    job_id: _Name
    attempt: Attempt
    token: Positive
    code: ReceivedCode
    message: _Text
    temporary: bool
    """True: offer it again later (the agent is full); False: the job ends as refused."""


class JobCancel(_Message):
    """
    Relay → agent.

    Acknowledged by the job's result. Key: (job, token); twice is once.
    """

    kind: Literal["job_cancel"] = "job_cancel"
    job_id: _Name
    token: Positive
    superseded: bool
    """True when a newer deployment takes its place."""


class Progress(_Message):
    """
    Agent → relay, numbered per job from 1 without gaps.

    Acknowledged by `ack`. Key: (job, seq); known numbers are dropped.
    """

    kind: Literal["progress"] = "progress"
    job_id: _Name
    token: Positive
    seq: Positive
    event: ProgressEvent


class Ack(_Message):
    """
    Relay → agent: every progress event of the job up to `seq` is stored.

    Cumulative; twice, or older, is harmless.
    """

    kind: Literal["ack"] = "ack"
    job_id: _Name
    seq: Natural


class BulkRequest(_Message):
    """
    Receiver → sender: start or resume a transfer.

    Answered by chunks, then `bulk_end`, or by `bulk_refuse`. Key: transfer.
    """

    kind: Literal["bulk_request"] = "bulk_request"
    transfer: _Transfer
    """Chosen by the receiver, unique in the connection."""
    sha256: _Sha256
    offset: Natural = 0
    """First byte wanted; > 0 resumes."""
    credit: Natural
    """Bytes the sender may send now."""


class BulkCredit(_Message):
    """
    Receiver → sender: so many more bytes.

    Not acknowledged; never sent twice in one connection.
    """

    kind: Literal["bulk_credit"] = "bulk_credit"
    transfer: _Transfer
    credit: Positive


class BulkEnd(_Message):
    """
    Sender → receiver: that was the last byte.

    Not acknowledged: the receiver checks the hash.
    """

    kind: Literal["bulk_end"] = "bulk_end"
    transfer: _Transfer
    size: Natural
    """Bytes of the whole content."""


class BulkRefuse(_Message):
    """
    Sender → receiver: not to be had.

    Not acknowledged.
    """

    kind: Literal["bulk_refuse"] = "bulk_refuse"
    transfer: _Transfer
    code: ReceivedCode
    message: _Text = ""


class CertificateRequest(_Message):
    """
    Agent → relay: renew, with a new key.

    Answered by `certificate`. Key: CSR; twice gives two certificates, harmless.
    """

    kind: Literal["certificate_request"] = "certificate_request"
    csr_pem: _Pem


class CertificateIssued(_Message):
    """
    Relay → agent.

    Acknowledged by `certificate_stored`, or by the next hello with it; the agent asks again if it never arrives.
    """

    kind: Literal["certificate"] = "certificate"
    certificate_pem: _Pem
    root_pem: _Pem


class CertificateStored(_Message):
    """
    Agent → relay: the renewed certificate is in its Secret and is used from the next connection on.

    Not acknowledged. Key: serial; twice is once.
    """

    kind: Literal["certificate_stored"] = "certificate_stored"
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")]
    """Lower-case hex."""


class CertificateDue(_Message):
    """
    Relay → agent: renew soon, such as when the CA is changed.

    Acknowledged by a `certificate_request`. Twice is once.
    """

    kind: Literal["certificate_due"] = "certificate_due"
    within_seconds: float = Field(ge=0, le=86_400)
    """The agent takes a random moment of this span, so that a fleet does not renew at once."""


class DriftReport(_Message):
    """
    Agent → relay: how an environment differs from its last deployment, all of it each time.

    Answered by `drift_ack`. Key: (environment, revision); of two the one with the greater revision counts.
    """

    kind: Literal["drift_report"] = "drift_report"
    environment: tuple[_Name, _Name, _Name]
    """(organization, application, environment)."""
    revision: Positive
    """Grows with each report of an agent, also when its process starts anew."""
    mode: DriftMode
    at: EpochSeconds
    """Seconds since the epoch, by the agent's clock."""
    bundle_sha256: _Sha256 | Literal[""] = ""
    """Of the deployment that it is compared with; empty if there is none."""
    objects: tuple[DriftedObject, ...] = Field(default=(), max_length=MAX_DRIFTED_OBJECTS)
    total: int = Field(default=0, ge=0, le=2**31 - 1)
    """Objects that differ or were put right, of which `objects` are the first."""
    watches: Count = 0
    """How many the agent has open for this, for all environments together."""
    unseen: tuple[UnseenKind, ...] = Field(default=(), max_length=MAX_UNSEEN)
    reason: _Text = ""
    """Why the environment is not watched, or not the whole of it; empty if it is."""


class DriftAck(_Message):
    """
    Relay → agent: a `drift_report` is stored, or is not this agent's to make; it need not come again.

    Not acknowledged: an agent sends its newest report again on each connection until this comes. Twice is once.
    """

    kind: Literal["drift_ack"] = "drift_ack"
    environment: tuple[_Name, _Name, _Name]
    revision: Positive


class GoAway(_Message):
    """
    Relay → agent: no more offers here, reconnect (to another replica).

    Not acknowledged; twice is once.
    """

    kind: Literal["go_away"] = "go_away"
    reason: _Text
    retry_after_seconds: float = Field(default=0, ge=0, le=3600)


class Unsupported(_Message):
    """
    Either side: a kind of frame that it does not know.

    Not acknowledged, never answered.
    """

    kind: Literal["unsupported"] = "unsupported"
    unknown: Annotated[str, Field(max_length=64)]


class Error(_Message):
    """
    Either side, last before it closes.

    Not acknowledged.
    """

    kind: Literal["error"] = "error"
    code: ReceivedCode
    message: _Text = ""


Message = (
    CaRequest | CaAnswer | Enrol | Enrolled | ChallengeRequest | Challenge | Rejoin
    | Hello | Welcome | Heartbeat | HeartbeatAck
    | JobOffer | JobAccept | JobRefuse | JobCancel | Progress | Ack
    | BulkRequest | BulkCredit | BulkEnd | BulkRefuse
    | CertificateRequest | CertificateIssued | CertificateStored | CertificateDue
    | DriftReport | DriftAck
    | GoAway | Unsupported | Error
)  # fmt: skip
MESSAGE_TYPES: tuple[type[_Message], ...] = Message.__args__

KINDS: Final = frozenset(cls.model_fields["kind"].default for cls in MESSAGE_TYPES)
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
M = TypeVar("M", bound=_Message)


class Chunk(BaseModel):
    """A piece of a bulk transfer. Not acknowledged one by one: credit does that."""

    model_config = ConfigDict(frozen=True)

    transfer: _Transfer
    offset: int = Field(ge=0, lt=2**63)
    payload: bytes = Field(max_length=MAX_CHUNK_BYTES)


class UnknownMessage(BaseModel):
    """A well-formed frame of a kind that this version does not know."""

    model_config = ConfigDict(frozen=True)

    kind: str


def encode_frame(frame: Message | Chunk) -> bytes:
    """Return the bytes of one frame."""
    if isinstance(frame, Chunk):
        return _CHUNK_HEADER.pack(_CHUNK_MARK, frame.transfer, frame.offset) + frame.payload
    return frame.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_frame(content: bytes) -> Message | Chunk | UnknownMessage:
    """
    Read one frame from the peer.

    Args:
        content: Exactly one frame, in bytes.
    Raises: FrameInvalid: over the limit, malformed, or nested too deeply (the JSON parser stops at 200).
    """
    if len(content) > MAX_FRAME_BYTES:
        raise FrameInvalid(ErrorCode.TOO_LARGE, f"{len(content):,} bytes, the limit is {MAX_FRAME_BYTES:,}")
    if content[:1] == b"\x01":
        return _decode_chunk(content)
    try:
        return _ADAPTER.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # At the top only: a numbered event of an unknown type that was passed over would leave a hole in its story.
        if first["type"] == "union_tag_invalid" and not first["loc"]:
            return UnknownMessage(kind=_tag_of(first.get("ctx", {})))
        where = ".".join(str(part) for part in first["loc"])
        raise FrameInvalid(ErrorCode.MALFORMED, f"{where or 'frame'}: {first['msg']}"[:512]) from None


def _tag_of(context: dict[str, Any]) -> str:
    return str(context.get("tag", ""))[:64]


def _decode_chunk(content: bytes) -> Chunk:
    if len(content) < _CHUNK_HEADER.size:
        raise FrameInvalid(ErrorCode.MALFORMED, "a bulk chunk is shorter than its header")
    _, transfer, offset = _CHUNK_HEADER.unpack_from(content)
    payload = content[_CHUNK_HEADER.size :]
    if not transfer or offset >= 2**63 or len(payload) > MAX_CHUNK_BYTES:
        raise FrameInvalid(ErrorCode.MALFORMED, "a bulk chunk has numbers out of range")
    return Chunk(transfer=transfer, offset=offset, payload=payload)
