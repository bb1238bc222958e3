"""
Ports of the agent: what the job runner and the deploy engine ask of each other, and nothing of how either does it.

The runner (link side) owns the job, its checkpoint and its event journal; the engine (cluster side) owns API server,
inventory and health. Either may be replaced in a test by anything of the same shape. No I/O here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fairlead_agent.policy import Policy
from fairlead_shared.bundle import Bundle
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, HealthEvent, Outcome, ProgressEvent, ResultEvent
from fairlead_shared.statement import DeploymentStatement

Report = Callable[[ProgressEvent], Awaitable[None]]
"""Takes one event of the job; returns once the journal has it. A key that was reported before may be dropped."""

Clock = Callable[[], float]
"""Seconds since the epoch."""

Identity = tuple[str, str, str, str]
"""ObjectRef.identity: (group, kind, namespace, name)."""

Unseal = Callable[[Mapping[str, Any], str, str], dict[str, bytes]]
"""(sealedData, namespace, name) → plaintext values. Raises: SealInvalid: this agent cannot open it."""


@dataclass(frozen=True, slots=True, order=True)
class EnvironmentKey:
    """One environment, by the three names its statement carries."""

    organization: str
    application: str
    environment: str

    @classmethod
    def of(cls, statement: DeploymentStatement) -> EnvironmentKey:
        """Return the environment a statement changes."""
        return cls(statement.organization, statement.application, statement.environment)

    @property
    def owner(self) -> str:
        """12 hex digits for the label `fairlead.dev/owner`, where the full names would not fit."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        """`organization/application/environment`."""
        return f"{self.organization}/{self.application}/{self.environment}"


# Of strings read, pydantic remembers the keys only: it would keep thousands of names and UIDs that nobody else has.
@pydantic_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore", cache_strings="keys"))
class OwnedObject:
    """An object that an environment owns, as its inventory lists it."""

    ref: ObjectRef
    uid: str = ""
    """UID of the object we wrote; empty while the write was only intended."""
    hook: bool = False
    """Whether it is a hook's: there for a moment of a deployment, and missed by nobody when it is gone."""


class HookRun(BaseModel):
    """How far one hook got at one moment of a deployment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Action
    """What became of its object."""
    uid: str = ""
    """Of its object; empty if there is none."""
    ended: bool = False
    cause: str = ""
    """Why it failed; empty if it did not."""


class DeployPlan(BaseModel):
    """
    What a deployment set out to do, fixed before its first write.

    A resumed attempt reports the same actions: an object that the killed attempt created is still `created`. Small on
    purpose (one letter per object: 20,000 objects fit in one ConfigMap).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    bundle_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    actions: Annotated[str, Field(pattern=r"^[cmru]*$")]
    """One letter per object in the bundle's order: c created, m changed, r recreated, u unchanged."""
    prune: tuple[OwnedObject, ...] = ()
    """What the environment held and the bundle does not."""
    run: str = ""
    """Names this one try among all of the statement; empty if there are no hooks."""
    occasion: str = ""
    """What its hooks were told it is (apply.hooks.Occasion); empty if there are none."""
    hooks: dict[str, HookRun] = Field(default_factory=dict)
    """`MOMENT/PLACE` → the hook of that place in the bundle, once it was begun."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt of a job ended, for the mark of its deployment."""

    attempt: int
    result: ResultEvent


class CheckpointPort(Protocol):
    """Where a job's plan survives the agent's pod. Belongs to one job."""

    async def save_plan(self, plan: DeployPlan) -> None:
        """Store the plan; return once the API server has it."""

    async def load_plan(self) -> DeployPlan | None:
        """Return the plan an earlier attempt saved, None if there is none."""

    def ending(self, result: DeployResult) -> Ended:
        """Return what the mark is to hold of a job that ends so; what was reported is sent on its way before."""


class Contents(Protocol):
    """A bundle with what it takes to make objects of it."""

    @property
    def bundle(self) -> Bundle:
        """The manifests."""

    @property
    def environment(self) -> EnvironmentKey:
        """Whose they are."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those of the deployment statement."""

    @property
    def policy(self) -> Policy:
        """The operator's rules."""

    @property
    def unseal(self) -> Unseal:
        """Opens sealed values."""


@dataclass(frozen=True, slots=True)
class DeployWork:
    """One verified deploy job: everything the engine may rely on was checked by the runner."""

    statement: DeploymentStatement
    bundle: Bundle
    policy: Policy
    """The operator's rules, as they were when the job began."""
    unseal: Unseal
    wait_seconds: float
    """How long all objects together may take to become healthy, > 0."""

    @property
    def environment(self) -> EnvironmentKey:
        """The environment it changes."""
        return EnvironmentKey.of(self.statement)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces it may use."""
        return self.statement.namespaces


@dataclass(frozen=True, slots=True)
class DeployResult:
    """How a job ended, for its ResultEvent."""

    outcome: Outcome
    code: ErrorCode | None = None
    cause: str = ""
    """One sentence; empty on success."""
    counts: dict[Action, int] = field(default_factory=dict)
    digests: Mapping[Identity, bytes] = field(default_factory=dict, repr=False)
    """Digest of each live object as a deployment that succeeded left it, where that is known."""


class Engine(Protocol):
    """Runs deploy jobs."""

    async def run(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        """
        Carry out one deployment; called again with the same work after a crash, it continues.

        Returns: Succeeded, or failed with the cause. Expected trouble (403, invalid objects, unhealthy, API server away
            for longer than its patience) is a result, never an exception.
        Raises: asyncio.CancelledError: the task was cancelled; the inventory is true and no write is under way.
        """

    async def plan(self, work: DeployWork, report: Report) -> DeployResult:
        """
        Say what a deployment would do, and change nothing: neither its objects nor the agent's own state.

        Returns: Succeeded if it could be carried out, else failed with the cause; each object was reported.
        Raises: asyncio.CancelledError: the task was cancelled.
        """


class HealthPort(Protocol):
    """Answers `health` jobs."""

    async def check(self, environment: EnvironmentKey) -> list[HealthEvent]:
        """Return the health of each object the environment owns, now; empty if it owns nothing."""


@dataclass(frozen=True, slots=True)
class ReplayMark:
    """One deployment that was begun in an environment. Ids are time-ordered, so the greatest is the newest."""

    deployment_id: str
    finished: bool
    """Whether it was carried out, which bars its statement for good; false while it may be resumed or retried."""
    not_before: int = 0
    """The statement's; what is older than the newest mark is refused. Ids follow each client's own clock."""
    ended_attempt: int = 0
    """The last attempt that ended: of what was not carried out, only a later one may go on. 0: none."""
    result: ResultEvent | None = None
    """
    How that attempt ended, until another deployment is begun.

    None, too, where an agent of the version before noted it.
    """

    def result_of(self, attempt: int) -> ResultEvent | None:
        """Return how an attempt ended, None if that is not known; of what was carried out, none is a later one."""
        is_it = attempt == self.ended_attempt or (self.finished and attempt > self.ended_attempt)
        return self.result if is_it else None


class ReplayPort(Protocol):
    """What the environment remembers of its deployments, kept with its inventory (newest 32)."""

    async def marks(self, environment: EnvironmentKey) -> tuple[ReplayMark, ...]:
        """Return the marks, oldest first. The engine adds one before its first write, finishes it with its result."""

    async def finish(self, environment: EnvironmentKey, deployment_id: str, ended: Ended) -> ResultEvent | None:
        """
        Note how an attempt of a begun deployment ended, unless that is known already.

        Returns: How it ended, as the mark holds it; None if none does: not begun, or another one was begun since.
        """


class DriftPort(Protocol):
    """Watches what deployments made, between them."""

    def held(self, environment: EnvironmentKey) -> AbstractAsyncContextManager[dict[Identity, bytes]]:
        """
        Let go of an environment while a job works on it: what the job writes is no drift.

        Entered once nothing is under way there; left, the environment is taken up again as the job left it. It yields a
        mapping to be filled with the digests of what the job left as it was wanted, which need not be looked at again.
        """


class StateKind(StrEnum):
    """Kinds of objects in which the agent keeps its own state."""

    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105  (a kind, not a secret)


class StatePort(Protocol):
    """
    Compare-and-set objects in the agent's own namespace. Implemented by kube.StateObjects.

    Manifests are full objects as the API server speaks them; apiVersion, kind and metadata.namespace are filled in.
    Every method raises kube errors: MissingRight, Unreachable (temporary) and so on.
    """

    async def read(self, kind: StateKind, name: str) -> dict[str, Any] | None:
        """Return the object; None if there is none."""

    async def select(self, kind: StateKind, label_selector: str, *, names_only: bool = False) -> list[dict[str, Any]]:
        """Return all objects with these labels; where names are enough, without their data."""

    async def create(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises: AlreadyExists: somebody was faster."""

    async def update(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raises: Conflict: metadata.resourceVersion is no longer current. NotFound: it is gone."""

    async def delete(self, kind: StateKind, name: str, resource_version: str = "") -> None:
        """Delete an object; none is fine. Raises: Conflict: it is not at that resourceVersion, where one is given."""
