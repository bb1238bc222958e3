"""
Creating deployments: idempotent by the client's id, statement fixed and signed, job queued, all in one transaction.

A rollback is a deployment of an older bundle, marked as such. Plans and health checks are jobs without a deployment.
This module decides what is stored; how it gets to an agent is the dispatcher's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from fairlead_relay.errors import Conflict, NotFound, RelayError
from fairlead_relay.pki.random_text import random_base32
from fairlead_relay.planning.statements import Change, Target, make_statement, sign_statement
from fairlead_relay.store import Store
from fairlead_relay.store.applications import find_environment, missing_environment
from fairlead_relay.store.audit import Actor, Entry, Trail, append_records
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.deletions import unfinished_deployments, used_namespaces
from fairlead_relay.store.deployments import (
    Deployment,
    EnvironmentNames,
    NewDeployment,
    Running,
    create_deployments,
    find_deployment,
    known_among,
    known_deployment,
    note_rollback_skipped,
    rollback_target,
    running_bundles,
    signed_statement,
)
from fairlead_relay.store.jobs import Job, NewJob, enqueue_jobs, supersede_earlier
from fairlead_relay.store.plans import NewPlan, ask_for_plan
from fairlead_relay.store.retries import retry_deployment
from fairlead_shared.canonical import canonical_json
from fairlead_shared.jobs import JobKind
from fairlead_shared.progress import Action
from fairlead_shared.statement import EMPTY_BUNDLE, MAX_NAMESPACES, Consent, Strategy

JOB_ID_LENGTH = 26
RETRY_SECONDS: Final = 86_400.0
"""How much longer than a deployment's deadline its statement is valid: until then it can be retried as it is."""
DESTROY_SECONDS: Final = 1800.0
"""How long hooks around a deletion may take together, such as a backup: half of the time that it has for all."""
_WRITES: Final = (Action.CREATED, Action.CHANGED, Action.RECREATED, Action.PRUNED, Action.FAILED)
"""Of an object's actions those after which the cluster may be another: a write that failed may have lost its answer."""
OnEarlier = Literal["wait", "supersede"]
"""What becomes of earlier deployments of the environment that have not ended: they go first, or make room."""


@dataclass(frozen=True, slots=True)
class Place:
    """An environment by its names."""

    organization: str
    application: str
    environment: str

    @property
    def names(self) -> tuple[str, str, str]:
        """As the store's keys have them."""
        return self.organization, self.application, self.environment


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """What somebody asked for."""

    deployment_id: str
    place: Place
    trail: Trail
    """Who asks, and how that is recorded."""
    wait_seconds: float
    deadline_seconds: float
    on_earlier: OnEarlier = "wait"
    priority: int = 0
    """Higher goes first, between environments of one cluster."""
    consents: frozenset[Consent] = frozenset()
    """What it may do that it does not do unasked."""
    rollback_on_failure: bool = False
    """Whether the environment goes back to the bundle before, should this fail after its first write."""

    def digest(self, **further: object) -> str:
        """Return the hash by which a repeated request is told from another one with the same id."""
        facts = {
            "application": self.place.application,
            "environment": self.place.environment,
            "wait_seconds": self.wait_seconds,
            "deadline_seconds": self.deadline_seconds,
            **further,
        }
        # Left out as long as nobody asks for them, so that requests made before they were known are known again.
        if self.on_earlier != "wait":
            facts["on_earlier"] = self.on_earlier
        if self.priority:
            facts["priority"] = self.priority
        if self.consents:
            facts["consents"] = sorted(self.consents)
        if self.rollback_on_failure:
            facts["rollback_on_failure"] = True
        return hashlib.sha256(canonical_json(facts)).hexdigest()


NamespacesOf = Callable[[str, str], Awaitable[tuple[str, ...]]]
"""(organization, bundle hash) → every namespace the bundle names, sorted. Raises NotFound."""


class Planner:
    """
    Makes deployments, plans and health checks.

    Args:
        store: Where they are kept.
        signer: The relay's statement key.
        clock: Seconds since the epoch.
        namespaces_of: What a stored bundle writes to.

    """

    def __init__(
        self, store: Store, signer: Ed25519PrivateKey, clock: Callable[[], float], namespaces_of: NamespacesOf
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._namespaces_of = namespaces_of

    async def deploy(self, request: DeploymentRequest, bundle_sha256: str, origins: Mapping[str, str]) -> Deployment:
        """
        Store a deployment of a bundle, once.

        Args:
            request: Who asks for what.
            bundle_sha256: A bundle that the organization has uploaded.
            origins: Reference of an object → file and line it came from.

        Returns: The deployment; the one that is there when the same request was made before.
        Raises: NotFound: no such environment or bundle. Conflict: the id stands for another request.

        """
        digest = request.digest(bundle_sha256=bundle_sha256, origins=dict(origins))
        namespaces = await self._namespaces_of(request.place.organization, bundle_sha256)
        origins_json = json.dumps(dict(origins), ensure_ascii=False)
        content = _Content(bundle_sha256, namespaces, origins_json)
        return await self._store_asked(_Asked(request, digest, content, rollback=False))

    async def roll_back(self, request: DeploymentRequest, to: str | None) -> Deployment:
        """
        Store a deployment of an earlier bundle, once.

        Args:
            request: Who asks for what.
            to: Id of a deployment that succeeded; None for the newest of another bundle than what an agent took last.

        Returns: The deployment; the one that is there when the same request was made before.
        Raises:
            NotFound: no such environment or deployment.
            Conflict: the id stands for another request, or there is nothing to go back to.

        """
        digest = request.digest(rollback_to=to)
        place = request.place

        def choose(connection: Connection) -> tuple[Deployment | None, Deployment]:
            known = known_deployment(connection, place.organization, request.deployment_id, digest)
            if known is not None:
                # Its target is not looked for again: by now another deployment may be the newest.
                return known, known
            find_environment(connection, place.organization, place.application, place.environment)
            return None, rollback_target(connection, place.organization, place.application, place.environment, to)

        known, target = await self._store.read(choose)
        if known is not None:
            return known
        namespaces = await self._namespaces_of(place.organization, target.bundle_sha256)
        content = _Content(target.bundle_sha256, namespaces, target.origins)
        return await self._store_asked(_Asked(request, digest, content, rollback=True))

    def roll_back_failed(self, connection: Connection, job: Job) -> None:
        """
        Go back to the bundle before, as `roll_back` does, if a deployment that failed was to be rolled back then.

        What is made here is rolled back by nobody. Why nothing is made, the deployment says.

        Args:
            connection: In the write that stores the failure: there is no failure without its rollback, and no second.
            job: As it ended.

        """
        if job.deployment_id is None:
            return
        failed = find_deployment(connection, job.organization, job.deployment_id)
        if failed.rollback_on_failure:
            note_rollback_skipped(connection, failed.id, self._undo(connection, failed))

    def _undo(self, connection: Connection, failed: Deployment) -> str:
        """Store the deployment that rolls a failed one back. Returns: Why there is none; empty if there is."""
        job, place = failed.job, Place(failed.organization, failed.application, failed.environment)
        if job.stop is not None:
            return "it had been told to stop"
        if not any(job.counts.get(action) for action in _WRITES):
            return "it failed before its first write"
        if waiting := unfinished_deployments(connection, place.names):
            return f"deployment '{waiting[0]}' waits to take its place"
        try:
            target = rollback_target(connection, *place.names, None)
        except Conflict as error:
            return str(error)
        request = DeploymentRequest(
            random_base32(JOB_ID_LENGTH),
            place,
            Trail(place.organization, Actor("token", job.created_by), "deployment.roll_back", "", self._clock()),
            job.wait_seconds,
            job.deadline - job.created_at,
            priority=job.priority,
            consents=frozenset(signed_statement(connection, failed.id).consents),
        )
        # Signed before, for the same bundle: what it names cannot have changed.
        namespaces = signed_statement(connection, target.id).namespaces
        content = _Content(target.bundle_sha256, namespaces, target.origins)
        digest = request.digest(rollback_of=failed.id)
        (made,) = self._create(connection, [_Asked(request, digest, content, rollback=True, failed=failed)])
        return str(made) if isinstance(made, RelayError) else ""

    async def retry(self, organization: str, deployment_id: str, trail: Trail) -> Deployment:
        """
        Queue another job for a deployment that ended without success.

        Raises: NotFound: no such deployment. Conflict: it cannot be tried again, and why.
        """
        job_id, now = random_base32(JOB_ID_LENGTH), self._clock()

        def write(connection: Connection) -> Deployment:
            made = retry_deployment(connection, organization, deployment_id, job_id, trail.actor.id, now)
            trail.note(connection, after={"job": job_id, "attempt": made.job.attempt})
            return made

        return await self._store.write(write)

    async def destroy(self, place: Place, trail: Trail, deadline_seconds: float, *, runs_hooks: bool) -> Deployment:
        """
        Store a deployment that leaves nothing of an environment, which is deleted once it succeeded.

        Earlier ones that have not ended are superseded, and none is taken any more.

        Args:
            place: The environment.
            trail: Who asks, and how that is recorded.
            deadline_seconds: How long it may wait for its agent.
            runs_hooks: Whether what the last deployment left for this runs before and after it.

        Returns: The deployment; the one that is there while one has not ended.
        Raises: NotFound: no such environment. Conflict: it was deployed to too many namespaces, or is being deleted
            the other way as for hooks.

        """
        request = DeploymentRequest(random_base32(JOB_ID_LENGTH), place, trail, DESTROY_SECONDS, deadline_seconds)
        strategy = Strategy.DESTROY if runs_hooks else Strategy.DESTROY_WITHOUT_HOOKS

        def write(connection: Connection) -> Deployment:
            now = self._clock()
            running = running_bundles(connection, {place.names}).get(place.names)
            if running is None:
                raise missing_environment(connection, *place.names)
            if running.destroyed_by is not None:
                if signed_statement(connection, running.destroyed_by).strategy is not strategy:
                    way = "without running" if runs_hooks else "and runs"
                    raise Conflict(f"deployment '{running.destroyed_by}' deletes it {way} its hooks; cancel that first")
                trail.note(connection, after={"deployment": running.destroyed_by})
                return find_deployment(connection, place.organization, running.destroyed_by)
            namespaces = used_namespaces(connection, place.names) | {running.environment.namespace}
            if len(namespaces) > MAX_NAMESPACES:
                raise Conflict(f"it was deployed to {len(namespaces)} namespaces; delete it with orphan=true")
            size = len(EMPTY_BUNDLE.content)
            add_bundle(connection, Bundle(place.organization, EMPTY_BUNDLE.sha256, size, now))
            supersede_earlier(connection, *place.names, now)
            content = _Content(EMPTY_BUNDLE.sha256, tuple(sorted(namespaces)), "{}")
            asked = _Asked(request, request.digest(destroy=True), content, rollback=False, strategy=strategy)
            made = create_deployments(connection, [self._fix(asked, running, now)], now)[0]
            found = running.environment
            before = {
                "type": found.type,
                "cluster": found.cluster,
                "namespace": found.namespace,
                "bundle": running.bundle_sha256,
            }
            trail.note(connection, before=before, after={"deployment": made.id, "hooks": runs_hooks})
            return made

        return await self._store.write(write)

    async def plan(
        self, place: Place, trail: Trail, bundle_sha256: str, consents: frozenset[Consent], deadline_seconds: float
    ) -> Job:
        """
        Queue a job that says what a deployment of a bundle would do, and changes nothing.

        Its statement is signed for the strategy `plan`, and expires with the job.

        Args:
            place: The environment.
            trail: Who asks, and how that is recorded.
            bundle_sha256: A bundle that the organization has uploaded.
            consents: What the deployment would be allowed to do.
            deadline_seconds: How long the agent may take.

        Raises: NotFound: no such environment or bundle.

        """
        namespaces = await self._namespaces_of(place.organization, bundle_sha256)

        def write(connection: Connection) -> Job:
            now = self._clock()
            running = running_bundles(connection, {place.names}).get(place.names)
            if running is None:
                raise missing_environment(connection, *place.names)
            environment, deadline = running.environment, now + deadline_seconds
            statement = make_statement(
                random_base32(JOB_ID_LENGTH),
                Target(*place.names, environment.type, environment.cluster),
                Change(bundle_sha256, running.bundle_sha256, strategy=Strategy.PLAN, consents=consents),
                namespaces,
                now=now,
                expires=deadline,
            )
            job = NewJob(
                id=random_base32(JOB_ID_LENGTH),
                organization=place.organization,
                cluster=environment.cluster,
                kind=JobKind.PLAN,
                application=place.application,
                environment=place.environment,
                deployment_id=None,
                exclusive=False,
                wait_seconds=deadline_seconds,
                deadline=deadline,
                created_by=trail.actor.id,
            )
            envelope = sign_statement(statement, self._signer).model_dump_json(by_alias=True)
            trail.note(connection, after={"job": job.id, "bundle": bundle_sha256, "consents": sorted(consents)})
            return ask_for_plan(connection, NewPlan(job, bundle_sha256, envelope), now)

        return await self._store.write(write)

    async def check_health(self, place: Place, created_by: str, deadline_seconds: float) -> Job:
        """
        Queue a job that reads the health of an environment's objects.

        Raises: NotFound: no such environment.
        """
        return await self._store.write_together(self._check_health, (place, created_by, deadline_seconds))

    def _check_health(self, connection: Connection, asked: Sequence[tuple[Place, str, float]]) -> list[Job | NotFound]:
        now = self._clock()
        running = running_bundles(connection, {place.names for place, _, _ in asked})
        new = [
            NewJob(
                id=random_base32(JOB_ID_LENGTH),
                organization=place.organization,
                cluster=running[place.names].environment.cluster,
                kind=JobKind.HEALTH,
                application=place.application,
                environment=place.environment,
                deployment_id=None,
                exclusive=False,
                wait_seconds=deadline_seconds,
                deadline=now + deadline_seconds,
                created_by=created_by,
            )
            for place, created_by, deadline_seconds in asked
            if place.names in running
        ]
        queued = iter(enqueue_jobs(connection, new, now))
        return [
            next(queued) if place.names in running else missing_environment(connection, *place.names)
            for place, _, _ in asked
        ]

    async def _store_asked(self, asked: _Asked) -> Deployment:
        if asked.request.on_earlier == "wait":
            return await self._store.write_together(self._create, asked)

        # Alone: what it is to supersede must be stored before it, also what was asked for at the same time.
        def alone(connection: Connection) -> Deployment:
            (made,) = self._create(connection, [asked])
            if isinstance(made, RelayError):
                raise made
            return made

        return await self._store.write(alone)

    def _create(self, connection: Connection, asked: Sequence[_Asked]) -> list[Deployment | RelayError]:
        """Store what was asked for at the same time. Returns: For each its deployment, or why there is none."""
        now = self._clock()
        known = known_among(connection, [one.request.deployment_id for one in asked])
        running = running_bundles(connection, {one.request.place.names for one in asked})
        new: dict[str, _Asked] = {}
        for one in asked:
            found = running.get(one.request.place.names)
            if one.request.deployment_id not in known and found is not None and found.destroyed_by is None:
                new.setdefault(one.request.deployment_id, one)
        for one in new.values():
            if one.request.on_earlier == "supersede":
                supersede_earlier(connection, *one.request.place.names, now)
        made = create_deployments(
            connection, [self._fix(one, running[one.request.place.names], now) for one in new.values()], now
        )
        append_records(connection, [_entry(new[deployment.id], deployment) for deployment in made], now)
        by_id = {deployment.id: deployment for deployment in made}
        return [
            by_id[one.request.deployment_id]
            if new.get(one.request.deployment_id) is one
            else _found(connection, one, running)
            for one in asked
        ]

    def _fix(self, asked: _Asked, running: Running, now: float) -> tuple[NewDeployment, NewJob]:
        """Fix and sign a deployment's statement, and make its job."""
        request, content, environment = asked.request, asked.content, running.environment
        place = request.place
        deadline = now + request.deadline_seconds
        statement = make_statement(
            request.deployment_id,
            Target(*place.names, environment.type, environment.cluster),
            Change(content.bundle_sha256, running.bundle_sha256, asked.rollback, asked.strategy, request.consents),
            content.namespaces,
            now=now,
            expires=deadline + RETRY_SECONDS,
        )
        envelope = sign_statement(statement, self._signer)
        deployment = NewDeployment(
            id=request.deployment_id,
            organization=place.organization,
            application=place.application,
            environment=place.environment,
            environment_type=environment.type,
            cluster=environment.cluster,
            bundle_sha256=content.bundle_sha256,
            previous_bundle_sha256=statement.previous_bundle_sha256,
            rollback=asked.rollback,
            statement=statement.to_bytes(),
            envelope=envelope.model_dump_json(by_alias=True),
            origins=content.origins,
            request_sha256=asked.digest,
            rollback_on_failure=request.rollback_on_failure,
            rollback_of=asked.failed.id if asked.failed else None,
        )
        job = NewJob(
            id=random_base32(JOB_ID_LENGTH),
            organization=place.organization,
            cluster=environment.cluster,
            kind=JobKind.DESTROY if statement.destroys else JobKind.DEPLOY,
            application=place.application,
            environment=place.environment,
            deployment_id=request.deployment_id,
            exclusive=True,
            wait_seconds=request.wait_seconds,
            deadline=deadline,
            created_by=request.trail.actor.id,
            priority=request.priority,
            reason=f"rollback of {asked.failed.id}, failed: {asked.failed.job.cause}" if asked.failed else "",
        )
        return deployment, job


def _entry(asked: _Asked, made: Deployment) -> Entry:
    """Return what the audit log says of a deployment that was asked for."""
    after = {
        "environment": f"{made.application}/{made.environment}",
        "bundle": made.bundle_sha256,
        "rollback": made.rollback,
        "on_earlier": asked.request.on_earlier,
        "consents": sorted(asked.request.consents),
        **({"rollback_of": asked.failed.id} if asked.failed else {}),
    }
    return asked.request.trail.entry(
        f"deployment/{made.id}", before={"bundle": made.previous_bundle_sha256}, after=after
    )


def _found(
    connection: Connection, asked: _Asked, running: Mapping[EnvironmentNames, Running]
) -> Deployment | RelayError:
    """Return what there is for a request that made nothing new: the deployment of its id, or what is in the way."""
    organization = asked.request.place.organization
    try:
        known = known_deployment(connection, organization, asked.request.deployment_id, asked.digest)
    except Conflict as error:
        return error
    if known is not None:
        return known
    place = asked.request.place
    if place.names in running:
        destroyed_by = running[place.names].destroyed_by
        return Conflict(f"environment '{place.environment}' is being deleted by deployment '{destroyed_by}'")
    return missing_environment(connection, *place.names)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a deployment brings: a stored bundle and what is known of it."""

    bundle_sha256: str
    namespaces: tuple[str, ...]
    origins: str
    """JSON object: reference of an object → file and line it came from."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, ready to be stored."""

    request: DeploymentRequest
    digest: str
    content: _Content
    rollback: bool
    strategy: Strategy = Strategy.ALL_AT_ONCE
    failed: Deployment | None = None
    """The one that it rolls back, if nobody asked for it now."""
