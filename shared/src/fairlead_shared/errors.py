"""
Errors of the shared member and the codes that cross the wire.

Every error stores its fields and renders one sentence. Tree:

    SharedError
    ├── NameInvalid            a name, id or reference that breaks the naming rules
    ├── BundleInvalid          bytes that are no canonical bundle, or one over its limits
    ├── StatementInvalid       bytes that are no deployment statement
    ├── EnvelopeInvalid        a malformed DSSE envelope
    ├── SignatureInsufficient  fewer good signatures than the threshold asks for
    ├── SealInvalid            a sealed value that this key cannot open, or a malformed one
    ├── TokenInvalid           an enrolment token that does not parse
    ├── FrameInvalid           bytes that are no frame of this protocol
    ├── TransitionInvalid      a (state, event) pair that the table does not list
    └── SessionMisuse          the owner of a session broke its rules; a bug on this side
        └── QueueFull          a bounded queue refused; temporary, send less and retry
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator


class ErrorCode(StrEnum):
    """
    Stable codes a peer or a client may see. Retired codes stay reserved and are never given a new meaning.

    The text beside a code may change between versions; programs match on the code only.
    """

    MALFORMED = "malformed"
    """The frame could not be read. Permanent: sending it again gives the same answer."""
    TOO_LARGE = "too_large"
    """A frame, bundle or field over its limit. Permanent."""
    VERSION = "version"
    """No protocol version in common. Permanent until one side is upgraded."""
    PROTOCOL = "protocol"
    """A frame that is not allowed in this phase, or a gap in a numbered stream."""
    SILENCE = "silence"
    """Nothing was heard for the agreed time. Temporary: reconnect."""
    OVERLOADED = "overloaded"
    """A bounded queue is full. Temporary: retry later."""
    TOKEN_INVALID = "token_invalid"  # noqa: S105  (a code, not a secret)
    """Enrolment token unknown, used or wrong. Permanent: ask for a new one."""
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    """Enrolment token past its expiry. Permanent: ask for a new one."""
    UNAUTHORIZED = "unauthorized"
    """The peer's certificate does not allow this. Permanent."""
    REVOKED = "revoked"
    """Certificate, agent or cluster was revoked or disabled. Permanent until enabled again."""
    CERTIFICATE_EXPIRED = "certificate_expired"
    """The connection outlived its certificate, which was not renewed. Temporary: rejoin by proof of the key."""
    APPROVAL_PENDING = "approval_pending"
    """The agent waits until a person approves its key's fingerprint. Temporary: ask again."""
    SIGNATURE = "signature"
    """Statement unsigned, signed by strangers, or by too few. Permanent."""
    STATEMENT_MISMATCH = "statement_mismatch"
    """The statement is for another cluster, organization, environment or bundle. Permanent."""
    STATEMENT_EXPIRED = "statement_expired"
    """The statement is not yet or no longer valid. Permanent; a skewed clock is named in the text."""
    REPLAY = "replay"
    """The statement was carried out before, or is older than what is applied. Permanent."""
    NOT_BOUND = "not_bound"
    """The agent's operator did not bind this namespace to this environment. Permanent until the values change."""
    CLUSTER_SCOPED = "cluster_scoped"
    """A cluster-scoped object without a rule that allows it. Permanent until the values change."""
    OWNED_BY_OTHER = "owned_by_other"
    """The live object belongs to another environment or tool. Permanent until adopted."""
    FORBIDDEN = "forbidden"
    """The API server's RBAC denied it; the finding holds the missing rule. Permanent until granted."""
    INVALID_OBJECT = "invalid_object"
    """The API server or the offline check refused an object. Permanent."""
    UNKNOWN_KIND = "unknown_kind"
    """The API server serves no such kind. Permanent until its CRD is installed."""
    CONFLICT = "conflict"
    """Another field manager owns a field. Permanent until resolved."""
    IMMUTABLE = "immutable"
    """A field that cannot be changed in place. Permanent."""
    WARNING = "warning"
    """What the API server says about an object that it takes, such as that its version is deprecated."""
    CONSENT = "consent"
    """It would delete more than the operator lets a deployment delete unasked. Permanent until consented to."""
    API_SERVER_UNREACHABLE = "api_server_unreachable"
    """The agent cannot reach its API server. Temporary."""
    UNHEALTHY = "unhealthy"
    """Applied, and then did not become healthy in time. The cause says why."""
    BUNDLE_UNAVAILABLE = "bundle_unavailable"
    """The relay could not deliver the bundle, or its bytes do not match the hash."""
    SEAL = "seal"
    """A sealed value could not be opened by this agent. Permanent: seal again to its current key."""
    DEADLINE = "deadline"
    """The job's deadline passed."""
    CANCELLED = "cancelled"
    """Somebody asked for it to stop."""
    UNSUPPORTED = "unsupported"
    """The peer does not know this kind of frame or job. Permanent until it is upgraded."""
    INTERNAL = "internal"
    """A defect on the answering side; its log has the detail, the wire never does."""


_CODES = frozenset(ErrorCode)


def _known(code: object) -> object:
    return ErrorCode.INTERNAL if isinstance(code, str) and code not in _CODES else code


ReceivedCode = Annotated[ErrorCode, BeforeValidator(_known)]
"""A code in a frame. One of a later version reads as `internal`: a peer's newer word must not end the connection."""


class SharedError(Exception):
    """Root of this member's errors."""


class NameInvalid(SharedError):
    """A name that breaks the naming rules. Permanent."""

    def __init__(self, what: str, value: str, rule: str) -> None:
        self.what = what
        self.value = value
        self.rule = rule
        super().__init__(what, value, rule)

    def __str__(self) -> str:
        return f"{self.what} {self.value[:80]!r} is not valid: {self.rule}"


class BundleInvalid(SharedError):
    """Bytes that are no canonical bundle. Permanent."""

    def __init__(self, reason: str, line: int | None = None, code: ErrorCode = ErrorCode.INVALID_OBJECT) -> None:
        self.reason = reason
        self.line = line
        self.code = code
        # Every field, in order: bundles are checked in a worker process, and pickle rebuilds from args.
        super().__init__(reason, line, code)

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line is not None else ""
        return f"bundle is not valid{where}: {self.reason}"


class StatementInvalid(SharedError):
    """Bytes that are no deployment statement. Permanent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"deployment statement is not valid: {self.reason}"


class EnvelopeInvalid(SharedError):
    """A malformed DSSE envelope. Permanent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"envelope is not valid: {self.reason}"


class SignatureInsufficient(SharedError):
    """Fewer good signatures by trusted signers than the threshold. Permanent."""

    def __init__(self, found: int, threshold: int, trusted: tuple[str, ...]) -> None:
        self.found = found
        self.threshold = threshold
        self.trusted = trusted
        super().__init__(found, threshold, trusted)

    def __str__(self) -> str:
        names = ", ".join(self.trusted) or "nobody"
        return f"{self.found} of {self.threshold} required signatures are good (trusted signers: {names})"


class SealInvalid(SharedError):
    """A sealed value that cannot be opened. Never says anything of the plaintext. Permanent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"sealed value cannot be opened: {self.reason}"


class TokenInvalid(SharedError):
    """An enrolment token that does not parse. Never repeats the token. Permanent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"enrolment token is not valid: {self.reason}"


class FrameInvalid(SharedError):
    """Bytes that are no frame of this protocol; the peer's mistake, raised by the codec, caught by the session."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"frame is not valid ({self.code}): {self.reason}"


class TransitionInvalid(SharedError):
    """A (state, event) pair that its table does not list. Permanent."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        self.machine = machine
        self.state = state
        self.event = event
        super().__init__(machine, state, event)

    def __str__(self) -> str:
        return f"{self.machine} in state {self.state} does not take event {self.event}"


class SessionMisuse(SharedError):
    """The owner of a session broke its rules; a bug on this side, never the peer's."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason


class QueueFull(SessionMisuse):
    """A bounded outgoing queue refused a frame. Temporary: wait for the peer, then retry."""
