"""
Errors of the relay member.

Every error stores its fields, renders one sentence, and says by `retry_after_seconds` whether trying again helps: None
is permanent. What crosses the wire is a code of `fairlead_shared.errors.ErrorCode` or of the API; internal detail never
does. Tree:

    RelayError
    ├── NotFound             API: no such organization, cluster, application, ...
    ├── Conflict             API: the name or id is taken by something else, or the state does not allow it
    ├── Outdated             API: what is to be changed was changed by somebody else
    ├── AgentRefused         gateway: a disabled cluster, a revoked agent, a certificate that counts no more
    │   └── EnrolmentRefused a token that is unknown, used or expired
    ├── SessionReplaced      gateway: a newer connection of the same agent holds its jobs
    ├── ChannelClosed        gateway: the transport under an agent's session ended
    ├── RequestInvalid       gateway: a request that no agent sends; holds the HTTP status
    ├── SigningRequestInvalid  pki: what an agent sent is no certificate signing request that may be answered
    ├── AuthorityInvalid     pki: the operator's own CA cannot be used
    ├── AuthorityDamaged     pki: the certificate authority's files are incomplete or do not belong together
    ├── DataDirectoryUnusable  start: the data directory cannot be made, read or written
    ├── BackupFailed         backup: one of the relay's own was not written
    ├── BackupUnusable       restore: no backup, one that is damaged, or of a newer relay
    ├── AuditBroken          store: an organization's audit records are not those that were written
    ├── SettingsInvalid      start: an unknown setting, or a value that does not fit
    ├── ListenFailed         start: an address or port that cannot be listened on
    └── StoreError           store
        ├── StoreUnavailable the database did not answer; temporary
        ├── StoreOverloaded  too many writes wait; temporary
        ├── StoreUnusable    wrong URL, unwritable directory, or a newer relay's schema; permanent
        │   └── StoreDamaged the SQLite file is corrupt, or no database; nothing more is read or written
        └── BlobInvalid      content that is missing, or whose bytes are not those of its hash
"""

from __future__ import annotations

from http import HTTPStatus

from fairlead_shared.errors import ErrorCode


class RelayError(Exception):
    """Root of this member's errors; permanent unless a class says otherwise."""

    retry_after_seconds: float | None = None
    """How long to wait before trying again; None when that is useless."""


class NotFound(RelayError):
    """Something named does not exist for this caller. Layer: API."""

    def __init__(self, what: str, name: str) -> None:
        """Take the word for the thing and the name that was asked for."""
        super().__init__(what, name)
        self.what = what
        self.name = name

    def __str__(self) -> str:
        """Render one sentence."""
        return f"no {self.what} is named '{self.name}'"


class Conflict(RelayError):
    """What exists does not allow this. Layer: API."""

    def __init__(self, reason: str) -> None:
        """Take one sentence that names what is in the way."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return self.reason


class Outdated(RelayError):
    """What a change was made for is no longer what there is. Layer: API. Permanent: read it again."""

    def __init__(self, what: str, name: str) -> None:
        """Take the word for the thing and its name."""
        super().__init__(what, name)
        self.what = what
        self.name = name

    def __str__(self) -> str:
        """Render one sentence."""
        return f"{self.what} '{self.name}' was changed by somebody else; read it again, then change it"


class AgentRefused(RelayError):
    """An agent that may not connect, renew or rejoin. Layer: gateway."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        """Take the wire's code and one sentence without any secret."""
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return self.reason


class EnrolmentRefused(AgentRefused):
    """An enrolment token or request that does not let this agent in. Layer: gateway."""

    def __str__(self) -> str:
        """Render one sentence."""
        return f"enrolment refused: {self.reason}"


class SessionReplaced(RelayError):
    """A newer connection of the same agent took over; this one must close. Layer: gateway."""

    def __init__(self, session_id: str) -> None:
        """Take the session that is no longer the agent's."""
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        """Render one sentence."""
        return f"session {self.session_id} was replaced by a newer connection of its agent"


class ChannelClosed(RelayError):
    """The transport under an agent's session ended. The agent connects again. Layer: gateway."""

    def __init__(self, reason: str) -> None:
        """Take what is known of the reason."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class RequestInvalid(RelayError):
    """A request on the agent port that no agent sends. Layer: gateway. Permanent."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        """Take the status to answer with and the sentence to answer."""
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class SigningRequestInvalid(RelayError):
    """An agent's certificate signing request that cannot be answered. Layer: pki."""

    def __init__(self, reason: str) -> None:
        """Take one sentence that says what is wrong with it."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the certificate signing request is not valid: {self.reason}"


class AuthorityInvalid(RelayError):
    """The operator's own CA cannot be used. Layer: pki."""

    def __init__(self, reason: str) -> None:
        """Take one sentence that says what is wrong with its files."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the CA that was given cannot be used: {self.reason}"


class AuthorityDamaged(RelayError):
    """The certificate authority on disk cannot be used. Layer: pki."""

    def __init__(self, folder: str, reason: str) -> None:
        """Take the folder and one sentence that names the file."""
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return (
            f"the certificate authority in {self.folder} is damaged ({self.reason}); restore the folder from a backup"
        )


class DataDirectoryUnusable(RelayError):
    """The data directory does not serve. Layer: start."""

    def __init__(self, folder: str, reason: str) -> None:
        """Take the folder and the operating system's words."""
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"{self.folder} cannot be used ({self.reason}); name a folder that the relay may write with --data-dir"


class BackupFailed(RelayError):
    """One of the relay's own backups was not written. Layer: backup. It is tried again later."""

    def __init__(self, reason: str) -> None:
        """Take one sentence that says what was in the way."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"no backup was written: {self.reason}"


class BackupUnusable(RelayError):
    """A file that cannot be restored. Layer: backup. Nothing was changed."""

    def __init__(self, file: str, reason: str) -> None:
        """Take the file and one sentence that says what is wrong with it."""
        super().__init__(file, reason)
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the backup {self.file} cannot be used: {self.reason}"


class AuditBroken(RelayError):
    """The records of an organization's audit log are not those that were written. Permanent. Layer: store."""

    def __init__(self, organization: str, number: int, reason: str) -> None:
        """Take the first record that is not as it was, and what is wrong with it."""
        super().__init__(organization, number, reason)
        self.organization = organization
        self.number = number
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"record {self.number} in the audit log of organization '{self.organization}': {self.reason}"


class SettingsInvalid(RelayError):
    """A setting that does not exist, or a value that does not fit. Layer: start."""

    def __init__(self, origin: str, reason: str) -> None:
        """Take where it was given (flag, variable, file and line) and one sentence without the value."""
        super().__init__(origin, reason)
        self.origin = origin
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"{self.origin}: {self.reason}"


class ListenFailed(RelayError):
    """An address that cannot be listened on. Layer: start."""

    def __init__(self, address: str, setting: str, reason: str) -> None:
        """Take the address, the flag that chooses it, and the operating system's words."""
        super().__init__(address, setting, reason)
        self.address = address
        self.setting = setting
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"cannot listen on {self.address} ({self.reason}); choose another with {self.setting}"


class StoreError(RelayError):
    """Something is wrong with the store. Layer: store."""

    def __init__(self, reason: str) -> None:
        """Take one sentence without credentials."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Render one sentence."""
        return f"{self.reason}"


class StoreUnavailable(StoreError):
    """The database did not answer; whether the write took effect is unknown. Temporary."""

    retry_after_seconds = 1.0

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the store is not available: {self.reason}"


class StoreOverloaded(StoreUnavailable):
    """Too many writes wait; this one was not made. Temporary."""


class StoreUnusable(StoreError):
    """The database cannot be used as it is. Permanent until somebody acts."""

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the store cannot be used: {self.reason}"


class StoreDamaged(StoreUnusable):
    """The SQLite file is not what SQLite wrote. Permanent until it is restored and the relay started again."""

    remedy = "stop the relay, move the file away with its -wal and -shm, and restore a backup"

    def __str__(self) -> str:
        """Render one sentence."""
        return f"the database is damaged: {self.reason}; {self.remedy}"


class BlobInvalid(StoreError):
    """Content that is missing, or whose bytes do not match its hash. Permanent."""

    def __init__(self, sha256: str, reason: str) -> None:
        """Take the content's address and what is wrong with it."""
        super().__init__(reason)
        self.sha256 = sha256

    def __str__(self) -> str:
        """Render one sentence."""
        return f"content {self.sha256[:12]}: {self.reason}"
