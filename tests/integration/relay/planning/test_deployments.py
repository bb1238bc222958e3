"""Planning on a real store: what a deployment's statement says of the environment, and that ids are idempotent."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.planning.deployments import RETRY_SECONDS, DeploymentRequest, Place, Planner
from fairlead_relay.store import Store
from fairlead_relay.store.applications import Environment, create_application, create_environment
from fairlead_relay.store.audit import Actor, Trail
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.clusters import create_cluster
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.plans import plan_content
from fairlead_relay.store.schema import audit_records, deployments
from fairlead_shared.envelope import Envelope, verify
from fairlead_shared.jobs import JobKind, JobState
from fairlead_shared.statement import PAYLOAD_TYPE, Consent, DeploymentStatement, Strategy

NOW = 1_800_000_000.0
PLACE = Place("acme", "shop", "staging")
KEY = Ed25519PrivateKey.generate()
BUNDLE = "a" * 64
TRAIL = Trail("acme", Actor("token", "token"), "deployment.create", "environment/shop/staging", NOW)


def request(deployment_id: str = "d" * 26, **changed: object) -> DeploymentRequest:
    """Return a request for the one environment."""
    made = DeploymentRequest(deployment_id, PLACE, TRAIL, 600.0, 3600.0)
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Make a store with one environment and one bundle."""
    made = Store(f"sqlite:///{tmp_path / 'relay.db'}", lambda *_: None)
    await made.start()

    def prepare(connection: Connection) -> None:
        ensure_organization(connection, "acme", NOW)
        create_cluster(connection, "acme", "harbour", NOW)
        create_application(connection, "acme", "shop", NOW)
        create_environment(connection, Environment("acme", "shop", "staging", "test", "harbour", "shop", NOW))
        add_bundle(connection, Bundle("acme", BUNDLE, 10, NOW))

    await made.write(prepare)
    yield made
    await made.stop()


@pytest.fixture
def planner(store: Store) -> Planner:
    """Make a planner that knows one bundle."""

    async def namespaces_of(organization: str, sha256: str) -> tuple[str, ...]:
        if (organization, sha256) != ("acme", BUNDLE):
            raise NotFound("bundle", sha256)
        return ("shop", "web")

    return Planner(store, KEY, lambda: NOW, namespaces_of)


async def test_the_stored_envelope_is_the_signed_statement_of_what_was_asked(store: Store, planner: Planner) -> None:
    """Every name comes from the store, not from the request: type, cluster, what runs now."""
    deployment = await planner.deploy(request(), BUNDLE, {})
    assert (deployment.job.state, deployment.job.kind, deployment.job.exclusive) == (
        JobState.QUEUED,
        JobKind.DEPLOY,
        True,
    )

    def read(connection: Connection) -> tuple[bytes, str]:
        row = connection.execute(select(deployments.c.statement, deployments.c.envelope)).one()
        return row.statement, row.envelope

    content, envelope = await store.read(read)
    payload, _ = verify(Envelope.model_validate_json(envelope), PAYLOAD_TYPE, {"relay": KEY.public_key()}, 1)
    assert payload == content
    statement = DeploymentStatement.from_bytes(content)
    assert (statement.environment_type, statement.cluster) == ("test", "harbour")
    assert statement.namespaces == ("shop", "web")
    assert (statement.not_before, statement.expires) == (NOW, NOW + 3600 + RETRY_SECONDS)
    assert (statement.previous_bundle_sha256, statement.rollback) == (None, False)


async def test_two_identical_requests_at_once_make_one_deployment(planner: Planner) -> None:
    """A client that lost patience is not a second client."""
    one, other = await asyncio.gather(planner.deploy(request(), BUNDLE, {}), planner.deploy(request(), BUNDLE, {}))
    assert one.job.id == other.job.id


async def test_requests_at_once_are_answered_each_for_itself(planner: Planner) -> None:
    """What is wrong with one of them is no other's business."""
    nowhere = request("b" * 26, place=Place("acme", "shop", "nowhere"))
    answers = await asyncio.gather(
        planner.deploy(request("a" * 26), BUNDLE, {}),
        planner.deploy(nowhere, BUNDLE, {}),
        planner.deploy(request("a" * 26, wait_seconds=1.0), BUNDLE, {}),
        planner.deploy(request("c" * 26), BUNDLE, {}),
        planner.check_health(PLACE, "token", 60.0),
        planner.check_health(Place("acme", "store", "staging"), "token", 60.0),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == [
        "Deployment", "NotFound", "Conflict", "Deployment", "Job", "NotFound"
    ]  # fmt: skip
    assert [str(answer) for answer in answers if isinstance(answer, NotFound)] == [
        "no environment is named 'nowhere'", "no application is named 'store'"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{"wait_seconds": 1.0}, {"deadline_seconds": 1.0}, {"place": Place("acme", "shop", "other")}]
)
async def test_an_id_stands_for_one_request(planner: Planner, changed: dict[str, Any]) -> None:
    """The same id with anything else changed is a conflict."""
    await planner.deploy(request(), BUNDLE, {})
    with pytest.raises(Conflict):
        await planner.deploy(request(**changed), BUNDLE, {})
    with pytest.raises(Conflict):
        await planner.deploy(request(), BUNDLE, {"ConfigMap shop/a": "b.yaml:1"})
    with pytest.raises(Conflict):
        await planner.roll_back(request(), None)


async def test_a_rollback_without_a_success_has_nowhere_to_go(planner: Planner) -> None:
    """A queued deployment is no state to go back to."""
    await planner.deploy(request(), BUNDLE, {})
    with pytest.raises(Conflict):
        await planner.roll_back(request("e" * 26), None)


async def test_a_plan_is_signed_for_nothing_else(store: Store, planner: Planner) -> None:
    """Its statement says so and ends with the job; no deployment is stored, and the audit log knows who asked."""
    job = await planner.plan(PLACE, TRAIL, BUNDLE, frozenset({Consent.PRUNE}), 60.0)
    assert (job.kind, job.exclusive, job.deadline, job.deployment_id) == (JobKind.PLAN, False, NOW + 60, None)
    content, size = await store.read(lambda c: plan_content(c, job.id))
    payload, _ = verify(Envelope.model_validate_json(content), PAYLOAD_TYPE, {"relay": KEY.public_key()}, 1)
    statement = DeploymentStatement.from_bytes(payload)
    assert (statement.strategy, statement.namespaces, statement.bundle_sha256) == (
        Strategy.PLAN,
        ("shop", "web"),
        BUNDLE,
    )
    assert (statement.consents, statement.not_before, statement.expires, size) == ((Consent.PRUNE,), NOW, NOW + 60, 10)
    assert await store.read(lambda c: c.scalars(select(deployments.c.id)).all()) == []
    records = await store.read(lambda c: c.execute(select(audit_records.c.target, audit_records.c.after)).all())
    assert [(target, json.loads(after)["job"]) for target, after in records] == [("environment/shop/staging", job.id)]
    for place, bundle in ((Place("acme", "shop", "nowhere"), BUNDLE), (PLACE, "b" * 64)):
        with pytest.raises(NotFound):
            await planner.plan(place, TRAIL, bundle, frozenset(), 60.0)


async def test_a_health_check_needs_only_its_environment(planner: Planner) -> None:
    """It changes nothing, so it waits for nothing."""
    job = await planner.check_health(PLACE, "token", 60.0)
    assert (job.kind, job.exclusive, job.deadline, job.deployment_id) == (JobKind.HEALTH, False, NOW + 60, None)
    with pytest.raises(NotFound):
        await planner.check_health(Place("acme", "shop", "nowhere"), "token", 60.0)
