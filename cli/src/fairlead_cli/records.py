"""
What the relay's API answers, as typed records.

Fields are the API's; unknown ones are kept, so that `-o json` shows what a newer relay says. This module holds no
behaviour but a state's meaning.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairlead_shared.jobs import FINAL_STATES, JobState
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import FieldChange, ProgressEvent


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Version(_Record):
    """What the relay is."""

    relay_version: str
    api_version: str
    protocol_versions: tuple[int, ...]


class Whoami(_Record):
    """Whom a token speaks for."""

    organization: str
    role: str
    token_id: str = ""
    name: str = ""
    application: str | None = None
    """The only one that it is good for; None: the whole organization."""
    expires_at: datetime | None = None


class AuditActor(_Record):
    """Who did something."""

    kind: str
    """`token`, `agent` or `command`."""
    id: str
    name: str = ""
    role: str = ""


class AuditRecord(_Record):
    """Who did what, or tried to."""

    number: int
    at: datetime
    actor: AuditActor
    address: str = ""
    request_id: str = ""
    verb: str
    target: str
    outcome: str
    """`succeeded`, `failed` or `denied`."""
    detail: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    digest: str


class Organization(_Record):
    """A tenant."""

    name: str
    created_at: datetime


class Token(_Record):
    """An API token, without its secret."""

    id: str
    name: str = ""
    role: str
    application: str | None = None
    """The only one that it is good for; None: the whole organization."""
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class NewToken(Token):
    """A token with its secret, which is shown this once."""

    token: str = Field(repr=False)


class SealingKey(_Record):
    """The key to which Secret values are sealed for one cluster."""

    public_key: str
    """Base64 of the raw 32 bytes."""
    fingerprint: str


class Agent(_Record):
    """The agent of a cluster, as it last said hello."""

    name: str
    version: str
    skew: str = ""
    """Beside the relay's version: `same`, `older`, `too_old`, `newer` or `unknown`; empty if the relay does not say."""
    kubernetes_version: str = ""
    connected_at: datetime | None = None
    last_seen_at: datetime | None = None
    certificate_serial: str | None = None
    certificate_expires_at: datetime | None = None
    revoked_at: datetime | None = None
    sealing_key: SealingKey | None = None


class AgentOfCluster(Agent):
    """An agent with the cluster it serves."""

    cluster: str
    state: str


class Approval(_Record):
    """An agent that waits until a person lets it in."""

    fingerprint: str
    """Of its identity key, as the agent in the cluster shows it."""
    kind: str = "enrol"
    requested_at: datetime | None = None


class Labelled(_Record):
    """What has labels."""

    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def labels_text(self) -> str:
        """The labels in one line, as kubectl has them."""
        return ",".join(f"{key}={value}" for key, value in sorted(self.labels.items()))


class Cluster(Labelled):
    """One cluster of the organization."""

    name: str
    state: str
    created_at: datetime
    require_approval: bool = False
    disabled_at: datetime | None = None
    approval: Approval | None = None
    agent: Agent | None = None


class Enrolment(_Record):
    """What an agent needs for its first connection."""

    token: str = Field(repr=False)
    expires_at: datetime
    agent_url: str


class NewCluster(_Record):
    """A cluster and the enrolment of its agent."""

    cluster: Cluster
    enrolment: Enrolment


class Application(Labelled):
    """One product."""

    name: str
    created_at: datetime | None = None


class JobRef(_Record):
    """The job that carries a deployment out."""

    id: str
    attempt: int = 0
    deadline: datetime | None = None


class Deployment(_Record):
    """One change of one environment to one bundle."""

    id: str
    application: str
    environment: str
    environment_type: str = ""
    cluster: str
    bundle_sha256: str
    previous_bundle_sha256: str | None = None
    rollback: bool = False
    rollback_on_failure: bool = False
    rolled_back_by: str | None = None
    """The deployment that rolls its failure back, if it asked for that."""
    rollback_skipped: str = ""
    """Why its failure is not rolled back though it asked for that."""
    rollback_of: str | None = None
    """The deployment whose failure this one rolls back."""
    state: JobState
    reason: str | None = None
    """Why it waits."""
    code: str | None = None
    cause: str | None = None
    counts: dict[str, int] | None = None
    origins: dict[str, str] | None = None
    """Object → FILE:LINE, as the client that deployed said."""
    created_by: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    job: JobRef | None = None

    @property
    def is_final(self) -> bool:
        """Whether its state will not change any more."""
        return self.state in FINAL_STATES


class DriftSummary(_Record):
    """How far an environment is from what its last deployment left."""

    objects: int
    """How many differ now."""
    mode: str
    """What the agent does about it: `report` or `correct`."""
    since: datetime | None = None


class DriftedObject(_Record):
    """One object that differs, or did until it was put right."""

    object: ObjectRef
    drift: str
    """`changed`, `missing`, `unowned` or `unknown`."""
    status: str
    """`drifted`, `corrected` or `fought`."""
    since: datetime
    managers: tuple[str, ...] = ()
    """Who owns what differs, by field manager, the last to write first."""
    fields: tuple[FieldChange, ...] = ()
    fields_left_out: int = 0
    corrections: int = 0
    next_attempt_at: datetime | None = None
    reason: str = ""


class UnseenKind(_Record):
    """Objects that the agent may not watch."""

    group: str = ""
    resource: str
    namespace: str = ""
    reason: str
    """Why: for a missing right, the rule that would do, as YAML."""


class Drift(_Record):
    """What an environment's agent found that is no longer as the last deployment left it."""

    application: str
    environment: str
    mode: str | None
    """None if the agent has reported nothing of what runs."""
    watched: bool
    """Whether finding nothing means that there is nothing."""
    reported_at: datetime | None = None
    deployment_id: str | None = None
    """The deployment whose objects these are."""
    drifted: int = 0
    """Objects that differ now."""
    total: int = 0
    """Objects that differ or were put right, of which `objects` are the first."""
    objects: tuple[DriftedObject, ...] = ()
    unseen: tuple[UnseenKind, ...] = ()
    reason: str = ""
    """Why it is not watched, or not the whole of it."""


class Environment(Labelled):
    """A running copy of an application."""

    application: str = ""
    name: str
    type: str
    cluster: str
    namespace: str
    sealing_key: SealingKey | None = None
    current: Deployment | None = None
    """The last that succeeded."""
    latest: Deployment | None = None
    drift: DriftSummary | None = None
    """None if nobody looks, or nobody has said."""


class DeletionPlan(_Record):
    """What deleting an environment would mean."""

    confirmation: str
    """What the deletion must say."""
    cluster: str = ""
    namespaces: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    """What would be deleted in the cluster, as `Kind namespace/name`."""
    hooks: tuple[str, ...] = ()
    """What would run, as `Kind namespace/name: before deletion`."""
    unfinished_deployments: tuple[str, ...] = ()
    """Deployments that would end for it."""
    kept: str = ""
    """What stays, in words."""


class HealthCheck(_Record):
    """The job that a request for health made."""

    job_id: str


class Job(_Record):
    """One unit of work for one agent."""

    id: str
    kind: str
    state: JobState
    cluster: str = ""
    application: str | None = None
    """None if it is about the whole cluster, as is the environment then."""
    environment: str | None = None
    deployment_id: str | None = None
    priority: int = 0
    attempt: int = 0
    reason: str | None = None
    outcome: str | None = None
    code: str | None = None
    cause: str | None = None
    counts: dict[str, int] | None = None
    created_by: str | None = None
    created_at: datetime | None = None
    deadline: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether its state will not change any more."""
        return self.state in FINAL_STATES


class JobStateEvent(_Record):
    """A job changed its state, as the relay has it."""

    type: Literal["job"] = "job"
    state: JobState
    attempt: int = 0
    reason: str | None = ""
    at: float


class StoredEvent(_Record):
    """One line of a live stream."""

    id: int
    deployment_id: str | None = None
    job_id: str
    attempt: int = 0
    recorded_at: datetime
    event: Annotated[ProgressEvent | JobStateEvent | dict[str, Any], Field(union_mode="left_to_right")]
    """A mapping when a newer relay sends a type that this version does not know."""
