"""
Creating deployments: idempotent by the client's id, statement fixed and signed, job queued, all in one transaction.

A rollback is a deployment of an older bundle, marked as such. Health checks are jobs without a deployment. This module
decides what is stored; how it gets to an agent is the dispatcher's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from fairlead_relay.pki.random_text import random_base32
from fairlead_relay.planning.statements import Target, make_statement, sign_statement
from fairlead_relay.store import Store
from fairlead_relay.store.applications import find_environment
from fairlead_relay.store.deployments import (
    Deployment,
    NewDeployment,
    create_deployment,
    current_bundle,
    known_deployment,
    rollback_target,
)
from fairlead_relay.store.jobs import Job, NewJob, enqueue_job
from fairlead_shared.canonical import canonical_json
from fairlead_shared.jobs import JobKind

JOB_ID_LENGTH = 26


@dataclass(frozen=True, slots=True)
class Place:
    """An environment by its names."""

    organization: str
    application: str
    environment: str


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """What somebody asked for."""

    deployment_id: str
    place: Place
    created_by: str
    """Id of the caller's token."""
    wait_seconds: float
    deadline_seconds: float

    def digest(self, **further: object) -> str:
        """Return the hash by which a repeated request is told from another one with the same id."""
        facts = {
            "application": self.place.application,
            "environment": self.place.environment,
            "wait_seconds": self.wait_seconds,
            "deadline_seconds": self.deadline_seconds,
            **further,
        }
        return hashlib.sha256(canonical_json(facts)).hexdigest()


NamespacesOf = Callable[[str, str], Awaitable[tuple[str, ...]]]
"""(organization, bundle hash) → every namespace the bundle names, sorted. Raises NotFound."""


class Planner:
    """
    Makes deployments and health checks.

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
        return await self._store.write(
            lambda connection: self._create(
                connection, request, digest, _Content(bundle_sha256, namespaces, origins_json), rollback=False
            )
        )

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
        return await self._store.write(
            lambda connection: self._create(connection, request, digest, content, rollback=True)
        )

    async def check_health(self, place: Place, created_by: str, deadline_seconds: float) -> Job:
        """
        Queue a job that reads the health of an environment's objects.

        Raises: NotFound: no such environment.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            environment = find_environment(connection, place.organization, place.application, place.environment)
            job = NewJob(
                id=random_base32(JOB_ID_LENGTH),
                organization=place.organization,
                cluster=environment.cluster,
                kind=JobKind.HEALTH,
                application=place.application,
                environment=place.environment,
                deployment_id=None,
                exclusive=False,
                wait_seconds=deadline_seconds,
                deadline=now + deadline_seconds,
                created_by=created_by,
            )
            return enqueue_job(connection, job, now)

        return await self._store.write(write)

    def _create(
        self, connection: Connection, request: DeploymentRequest, digest: str, content: _Content, *, rollback: bool
    ) -> Deployment:
        place = request.place
        known = known_deployment(connection, place.organization, request.deployment_id, digest)
        if known is not None:
            return known
        environment = find_environment(connection, place.organization, place.application, place.environment)
        current = current_bundle(connection, place.organization, place.application, place.environment)
        now = self._clock()
        deadline = now + request.deadline_seconds
        statement = make_statement(
            request.deployment_id,
            Target(place.organization, place.application, place.environment, environment.type, environment.cluster),
            content.bundle_sha256,
            current,
            content.namespaces,
            now=now,
            deadline=deadline,
            rollback=rollback,
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
            rollback=rollback,
            statement=statement.to_bytes(),
            envelope=envelope.model_dump_json(by_alias=True),
            origins=content.origins,
            request_sha256=digest,
        )
        job = NewJob(
            id=random_base32(JOB_ID_LENGTH),
            organization=place.organization,
            cluster=environment.cluster,
            kind=JobKind.DEPLOY,
            application=place.application,
            environment=place.environment,
            deployment_id=request.deployment_id,
            exclusive=True,
            wait_seconds=request.wait_seconds,
            deadline=deadline,
            created_by=request.created_by,
        )
        return create_deployment(connection, deployment, job, now)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a deployment brings: a stored bundle and what is known of it."""

    bundle_sha256: str
    namespaces: tuple[str, ...]
    origins: str
    """JSON object: reference of an object → file and line it came from."""
