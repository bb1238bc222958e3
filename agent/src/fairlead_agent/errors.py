"""
Errors of the agent.

Every error stores its fields, renders one sentence, and says by `temporary` whether the same request may succeed later.
Tree:

    AgentError
    ├── KubeError              the API server said no, or did not answer
    │   ├── MissingRight       403 from RBAC; holds the missing rule
    │   ├── AdmissionDenied    403 or another refusal by admission: quota, Pod Security, a webhook
    │   ├── Unauthenticated    401 even with a fresh token
    │   ├── NotFound           404: no such object (or no such namespace)
    │   ├── AlreadyExists      409: it is there already
    │   ├── Conflict           409: resourceVersion or UID is no longer current
    │   ├── FieldConflict      409: other field managers own fields
    │   ├── StaleFields        500: managed fields name a version of the kind that is no longer served
    │   ├── InvalidObject      400/422: the object breaks the kind's rules
    │   ├── UnknownKind        no such kind is served
    │   ├── WatchExpired       410: list again
    │   ├── Throttled          429 for longer than our patience; temporary
    │   ├── Unreachable        no answer, or 5xx, for longer than our patience; temporary
    │   ├── LeadershipLost     another replica leads now: this one may not write; temporary
    │   └── Unexpected         an answer this client has no word for
    ├── SettingsInvalid        a flag or variable is missing or wrong
    ├── PolicyInvalid          the operator's policy file cannot be used
    ├── IdentityInvalid        the agent's identity Secret, or what the relay issued, cannot be used
    ├── OfferRefused           the agent's own rules or limits say no to a job
    ├── EnrolmentRefused       the relay does not enrol this agent, or let it rejoin
    ├── ApprovalPending        a person has yet to let this agent in; temporary
    ├── ConnectFailed          the relay was not reached; names the hop; temporary
    ├── ChannelClosed          the transport under a session ended; temporary
    ├── ConnectionLost         the connection ended while something waited on it; temporary
    ├── BundleUnavailable      the relay could not deliver a bundle that can be used
    └── JournalFull            a job has more unstored events than its spool may hold
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead_shared.errors import ErrorCode


class AgentError(Exception):
    """Root of this member's errors."""

    def explained(self, *_verbs: str) -> str:
        """Return what went wrong and, if that is known, what it needs (`MissingRight.rule_yaml` has the verbs)."""
        return str(self)


class KubeError(AgentError):
    """A request to the API server that did not succeed."""

    code = ErrorCode.INTERNAL
    temporary = False


class MissingRight(KubeError):
    """RBAC does not let the agent's ServiceAccount do this. Permanent until the operator grants it."""

    code = ErrorCode.FORBIDDEN

    def __init__(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> None:
        self.verb = verb
        self.group = group
        self.resource = resource
        self.namespace = namespace
        self.name = name
        super().__init__(verb, group, resource, namespace, name)

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"the agent may not {self.verb} {resource} {where}"

    def explained(self, *verbs: str) -> str:
        """Return what the agent may not, and the rule that it needs, with the missing verb or these."""
        return f"{self}; needs\n{self.rule_yaml(*verbs)}"

    def rule_yaml(self, *verbs: str) -> str:
        """Return the rule as YAML, headed by the kind of role it belongs to, with the missing verb or these."""
        role = f"# Role in namespace {self.namespace}" if self.namespace else "# ClusterRole"
        group, resource = (json.dumps(value) for value in (self.group, self.resource))
        return (
            f"{role}\n- apiGroups: [{group}]\n  resources: [{resource}]\n  verbs: {json.dumps(verbs or [self.verb])}\n"
        )


class AdmissionDenied(KubeError):
    """Admission refused the object: quota, Pod Security, a policy or webhook. Permanent until either side changes."""

    code = ErrorCode.INVALID_OBJECT

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return f"the API server's admission refused it: {self.message}"


class Unauthenticated(KubeError):
    """The API server does not accept the ServiceAccount's token. Permanent until a valid one is mounted."""

    code = ErrorCode.FORBIDDEN

    def __str__(self) -> str:
        return "the API server does not accept the agent's token: is its ServiceAccount still there?"


class NotFound(KubeError):
    """No such object. Permanent."""

    code = ErrorCode.INVALID_OBJECT

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what} not found"


class AlreadyExists(KubeError):
    """An object of this name is there already. Permanent."""

    code = ErrorCode.CONFLICT

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what} already exists"


class Conflict(KubeError):
    """The object changed since it was read. Read again, then retry."""

    code = ErrorCode.CONFLICT

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return f"the object changed since it was read: {self.message}"


@dataclass(frozen=True, slots=True)
class FieldCause:
    """One field the API server complains about."""

    field: str
    """Path in the object, dotted; empty if the whole object is meant."""
    message: str


class FieldConflict(KubeError):
    """Other field managers own fields of this object. Permanent until they let go."""

    code = ErrorCode.CONFLICT

    def __init__(self, causes: Sequence[FieldCause], managers: Sequence[str]) -> None:
        self.causes = tuple(causes)
        self.managers = tuple(managers)
        super().__init__(self.causes, self.managers)

    def __str__(self) -> str:
        fields = ", ".join(cause.field for cause in self.causes[:5])
        more = f" and {len(self.causes) - 5} more" if len(self.causes) > 5 else ""  # noqa: PLR2004
        return f"another field manager ({', '.join(self.managers)}) owns {fields}{more}"


class StaleFields(KubeError):
    """Managed fields of the live object name a version that its CRD serves no more. They can be rewritten."""

    code = ErrorCode.CONFLICT

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(version)

    def __str__(self) -> str:
        return f"the live object's managed fields name {self.version}, which is no longer served"


class InvalidObject(KubeError):
    """The object breaks the rules of its kind. Permanent."""

    code = ErrorCode.INVALID_OBJECT

    def __init__(self, message: str, causes: Sequence[FieldCause]) -> None:
        self.message = message
        self.causes = tuple(causes)
        super().__init__(message, self.causes)

    def __str__(self) -> str:
        return self.message


class UnknownKind(KubeError):
    """The API server serves no such kind. Permanent until its CRD is installed."""

    code = ErrorCode.UNKNOWN_KIND

    def __init__(self, api_version: str, kind: str, alternatives: Sequence[str] = ()) -> None:
        self.api_version = api_version
        self.kind = kind
        self.alternatives = tuple(alternatives)
        super().__init__(api_version, kind, self.alternatives)

    def __str__(self) -> str:
        hint = f"; it serves {' and '.join(self.alternatives)}" if self.alternatives else ""
        return f"the API server serves no kind {self.kind} in {self.api_version}{hint}"


class WatchExpired(KubeError):
    """The resourceVersion is too old. List again."""

    def __str__(self) -> str:
        return "the position of the watch is too old"


class Throttled(KubeError):
    """The API server asked to slow down for longer than our patience. Temporary."""

    code = ErrorCode.OVERLOADED
    temporary = True

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(retry_after_seconds)

    def __str__(self) -> str:
        return f"the API server is overloaded and asks to wait {self.retry_after_seconds:g} s"


class Unreachable(KubeError):
    """The API server did not answer for longer than our patience. Temporary."""

    code = ErrorCode.API_SERVER_UNREACHABLE
    temporary = True

    def __init__(self, server: str, reason: str) -> None:
        self.server = server
        self.reason = reason
        super().__init__(server, reason)

    def __str__(self) -> str:
        return f"the API server {self.server} cannot be reached: {self.reason}"


class LeadershipLost(KubeError):
    """This replica may not write any more: another leads, or may. Temporary: the work goes on there."""

    code = ErrorCode.API_SERVER_UNREACHABLE
    temporary = True

    def __str__(self) -> str:
        return "another replica of this agent leads now, so this one may not write"


class Unexpected(KubeError):
    """An answer this client has no word for. Permanent."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(status, message)

    def __str__(self) -> str:
        return f"the API server answered {self.status}: {self.message}"


class SettingsInvalid(AgentError):
    """A setting is missing or wrong. Permanent until the process is started with another."""

    def __init__(self, field: str, variable: str, reason: str) -> None:
        self.field = field
        self.variable = variable
        self.reason = reason
        super().__init__(field, variable, reason)

    def __str__(self) -> str:
        return f"--{self.field.replace('_', '-')} ({self.variable}): {self.reason}"


class PolicyInvalid(AgentError):
    """The policy file cannot be used. Permanent until the operator changes it."""

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        self.file = file
        self.line = line
        self.reason = reason
        super().__init__(file, line, reason)

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.reason}"


class IdentityInvalid(AgentError):
    """The stored identity, or a certificate the relay issued, cannot be used. Never repeats a key. Permanent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason


class OfferRefused(AgentError):
    """The agent's own rules or limits say no to a job; nothing was changed."""

    def __init__(self, code: ErrorCode, reason: str, *, temporary: bool = False) -> None:
        self.code = code
        self.reason = reason
        self.temporary = temporary
        super().__init__(code, reason, temporary)

    def __str__(self) -> str:
        return self.reason


class EnrolmentRefused(AgentError):
    """The relay does not enrol this agent. Permanent until there is another token."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"enrolment was refused ({self.code}): {self.reason}"


class ApprovalPending(AgentError):
    """The relay waits until a person approves this agent's key. Temporary: ask again."""

    temporary = True

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason


class ConnectFailed(AgentError):
    """The relay was not reached. Temporary: the link tries again."""

    temporary = True

    def __init__(self, hop: str, address: str, reason: str, retry_after_seconds: float = 0.0) -> None:
        self.hop = hop
        """Where it failed: DNS, TCP, proxy, TLS, upgrade, protocol or authorization."""
        self.address = address
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        """What the relay asked to wait at least; 0: nothing."""
        self.cut_upgrade = False
        """Whether the connection was cut between a finished TLS handshake and the answer to the upgrade."""
        super().__init__(hop, address, reason, retry_after_seconds)

    def __str__(self) -> str:
        return f"{self.hop}: {self.address}: {self.reason}"


class ChannelClosed(AgentError):
    """The transport under a session ended. Temporary: the link connects again."""

    temporary = True

    def __init__(self, reason: str, *, by_relay: bool = False) -> None:
        self.reason = reason
        self.by_relay = by_relay
        """Whether the relay closed it in due form: then nothing on the way has cut it."""
        super().__init__(reason, by_relay)

    def __str__(self) -> str:
        return self.reason


class ConnectionLost(AgentError):
    """The connection ended while something waited on it. Temporary: wait for the next one."""

    temporary = True

    def __str__(self) -> str:
        return "the connection to the relay was lost"


class BundleUnavailable(AgentError):
    """The relay could not deliver a bundle that can be used. Permanent for this job."""

    def __init__(self, reason: str, code: ErrorCode = ErrorCode.BUNDLE_UNAVAILABLE) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason, code)

    def __str__(self) -> str:
        return self.reason


class JournalFull(AgentError):
    """A job made more events than may wait for the relay. Permanent for this job."""

    def __init__(self, job_id: str, limit_bytes: int) -> None:
        self.job_id = job_id
        self.limit_bytes = limit_bytes
        super().__init__(job_id, limit_bytes)

    def __str__(self) -> str:
        return f"job {self.job_id}: more than {self.limit_bytes:,} bytes of events wait for the relay"
