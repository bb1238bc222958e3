"""What the tests put into a store: an organization with clusters, agents and environments, and deployments of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sqlalchemy import Connection

from fairlead_relay.store.applications import Environment, create_application, create_environment
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.clusters import Enrolled, create_cluster, enrol_agent
from fairlead_relay.store.deployments import Deployment, NewDeployment, create_deployment
from fairlead_relay.store.jobs import NewJob
from fairlead_relay.store.organizations import ensure_organization
from fairlead_shared.envelope import Envelope
from fairlead_shared.frames import Hello, HelloJob
from fairlead_shared.identity import AgentIdentity, AgentName, ClusterName, OrganizationName
from fairlead_shared.jobs import JobKind
from fairlead_shared.progress import Action, Outcome, ProgressEvent, ResultEvent, Step, StepEvent
from fairlead_shared.statement import DeploymentStatement, Strategy

START = 1_795_000_000.0
"""When the tests' clocks begin, seconds since the epoch."""
ORGANIZATION = "acme"
APPLICATION = "shop"
RETRY_SECONDS = 86_400
"""How much longer than its deadline a deployment's statement is valid."""
BUNDLES = ("a" * 64, "b" * 64, "c" * 64)
ENVELOPE = Envelope(payload="e30=", payload_type="test", signatures=()).model_dump_json(by_alias=True)

_numbers = itertools.count(1)


def identity_of(cluster: str) -> AgentIdentity:
    """Return the identity of a cluster's agent."""
    return AgentIdentity(OrganizationName(ORGANIZATION), ClusterName(cluster), AgentName("default"))


def enrolled(
    serial: str = "01", key_sha256: str = "0" * 64, made_at: float = START, sealing_key: str = "sealing-key"
) -> Enrolled:
    """Return what an agent got when it enrolled: a certificate of a day."""
    return Enrolled(sealing_key, key_sha256, serial, made_at, made_at + 86_400)


def seed(
    connection: Connection, clusters: Sequence[str] = ("one",), environments: Sequence[str] = ("staging",)
) -> None:
    """Make the organization with clusters and enrolled agents, each cluster with the environments `CLUSTER-NAME`."""
    ensure_organization(connection, ORGANIZATION, START)
    create_application(connection, ORGANIZATION, APPLICATION, START)
    for sha256 in BUNDLES:
        add_bundle(connection, Bundle(ORGANIZATION, sha256, 10, START))
    for cluster in clusters:
        create_cluster(connection, ORGANIZATION, cluster, START)
        enrol_agent(connection, identity_of(cluster), enrolled(), START)
        for name in environments:
            create_environment(
                connection,
                Environment(ORGANIZATION, APPLICATION, f"{cluster}-{name}", "staging", cluster, "shop", START),
            )


def deploy(
    connection: Connection,
    environment: str = "one-staging",
    now: float = START,
    bundle: str = BUNDLES[0],
    deadline_seconds: float = 3600.0,
    priority: int = 0,
) -> Deployment:
    """Store a deployment to an environment named `CLUSTER-NAME`, with its job."""
    number = next(_numbers)
    cluster = environment.partition("-")[0]
    statement = DeploymentStatement(
        deployment_id=f"deployment{number:010}",
        organization=ORGANIZATION,
        application=APPLICATION,
        environment=environment,
        environment_type="staging",
        cluster=cluster,
        namespaces=("shop",),
        bundle_sha256=bundle,
        previous_bundle_sha256=None,
        strategy=Strategy.ALL_AT_ONCE,
        not_before=int(now),
        expires=int(now + deadline_seconds) + RETRY_SECONDS,
        rollback=False,
    )
    deployment = NewDeployment(
        id=statement.deployment_id,
        organization=ORGANIZATION,
        application=APPLICATION,
        environment=environment,
        environment_type="staging",
        cluster=cluster,
        bundle_sha256=bundle,
        previous_bundle_sha256=None,
        rollback=False,
        statement=statement.to_bytes(),
        envelope=ENVELOPE,
        origins="{}",
        request_sha256="request",
    )
    job = NewJob(
        id=f"job{number:013}",
        organization=ORGANIZATION,
        cluster=cluster,
        kind=JobKind.DEPLOY,
        application=APPLICATION,
        environment=environment,
        deployment_id=deployment.id,
        exclusive=True,
        wait_seconds=600,
        deadline=now + deadline_seconds,
        created_by="token",
        priority=priority,
    )
    return create_deployment(connection, deployment, job, now)


def health_job(environment: str = "one-staging", now: float = START) -> NewJob:
    """Return a job that only reads, for an environment named `CLUSTER-NAME`."""
    return NewJob(
        id=f"job{next(_numbers):013}",
        organization=ORGANIZATION,
        cluster=environment.partition("-")[0],
        kind=JobKind.HEALTH,
        application=APPLICATION,
        environment=environment,
        deployment_id=None,
        exclusive=False,
        wait_seconds=600,
        deadline=now + 3600,
        created_by="token",
    )


def hello(*jobs: tuple[str, int, int]) -> Hello:
    """Return an agent's first message; each job is (id, attempt, fencing token)."""
    return Hello(
        versions=(1, 1),
        agent_version="1.2.3",
        kubernetes_version="1.37.0",
        replica="agent-0",
        sealing_key="sealing-key",
        jobs=tuple(
            HelloJob(job_id=job_id, attempt=attempt, token=token, last_seq=0) for job_id, attempt, token in jobs
        ),
    )


def step(number: int) -> ProgressEvent:
    """Return the progress event number so and so of a job."""
    return StepEvent(key=f"step/{number}", at=START, step=Step.APPLY, status="started")


def result(outcome: Outcome = Outcome.SUCCEEDED, counts: dict[Action, int] | None = None) -> ResultEvent:
    """Return the last event of a job."""
    return ResultEvent(key="result", at=START, outcome=outcome, counts=counts or {})
