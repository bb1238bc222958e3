"""Deployments that roll themselves back: once, from what failed after its first write, to what was healthy before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_relay.planning.deployments import DeploymentRequest, Place, Planner
from fairlead_relay.store import Store
from fairlead_relay.store.audit import Actor, Trail
from fairlead_relay.store.deployments import Deployment, find_deployment, find_rollback_of, list_deployments
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import Job, stop_job
from fairlead_relay.store.progress import Reported, record_progress
from fairlead_shared.jobs import JobState
from fairlead_shared.progress import Action, Outcome
from fairlead_shared.statement import Consent
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, result
from tests.conformance.queue_actor import QueueActor, connected

PLACE = Place(ORGANIZATION, APPLICATION, "one-staging")
TRAIL = Trail(ORGANIZATION, Actor("token", "token"), "deployment.create", "environment/shop/one-staging", START)
REQUEST = DeploymentRequest("d" * 26, PLACE, TRAIL, 60.0, 600.0, priority=3, consents=frozenset({Consent.RECREATE}))
WROTE = {Action.CHANGED: 1, Action.UNCHANGED: 2}


async def _namespaces_of(_organization: str, _sha256: str) -> tuple[str, ...]:
    return ("shop", "web")


@dataclass
class Environment:
    """An environment with its agent, on a relay that plans."""

    store: Store
    agent: QueueActor
    planner: Planner
    deployed: int = 0

    async def ask(self, bundle: str, *, rolls_back: bool) -> Deployment:
        """Ask for a deployment."""
        self.deployed += 1
        request = replace(REQUEST, deployment_id=f"{self.deployed:026}", rollback_on_failure=rolls_back)
        return await self.planner.deploy(request, bundle, {"ConfigMap shop/a": "a.yaml:1"})

    async def end(self, job: Job, outcome: Outcome, counts: dict[Action, int] | None = None) -> None:
        """Have the agent report how a job that it took ended."""
        told = result(outcome, counts).model_copy(update={"cause": "it crashes"})
        reported = [Reported(self.agent.holding(job), [(1, "result", told.model_dump_json())], told)]
        record = partial(record_progress, on_failed=self.planner.roll_back_failed)
        await self.store.write_together(record, (reported, START))

    async def deploy(
        self, bundle: str, outcome: Outcome, counts: dict[Action, int] | None = None, *, rolls_back: bool = True
    ) -> Deployment:
        """Have a deployment asked for and carried out, and return it as it is then."""
        made = await self.ask(bundle, rolls_back=rolls_back)
        await self.end(await self.agent.take(), outcome, counts)
        return await self.look(made.id)

    async def look(self, deployment_id: str) -> Deployment:
        """Return a deployment as it is now."""
        return await self.store.read(lambda c: find_deployment(c, ORGANIZATION, deployment_id))

    async def rollback_of(self, failed: Deployment) -> Deployment | None:
        """Return the deployment that rolls another one back."""
        found = await self.store.read(lambda c: find_rollback_of(c, ORGANIZATION, failed.id))
        return None if found is None else await self.look(found)

    async def count(self) -> int:
        """Return how many deployments there are."""
        return len(await self.store.read(lambda c: list_deployments(c, *PLACE.names, limit=99)))


@pytest.fixture
async def environment(store: Store) -> Environment:
    """Make an environment that runs the first bundle."""
    planner = Planner(store, Ed25519PrivateKey.generate(), lambda: START, _namespaces_of)
    made = Environment(store, await connected(store), planner)
    await made.deploy(BUNDLES[0], Outcome.SUCCEEDED, rolls_back=False)
    return made


async def test_a_failure_is_rolled_back_in_the_transaction_that_stores_it(environment: Environment) -> None:
    """To the bundle before, as patiently and with the same consents, and it says of what it is the rollback."""
    failed = await environment.deploy(BUNDLES[1], Outcome.FAILED, WROTE)
    assert (failed.job.state, failed.rollback_skipped) == (JobState.FAILED, "")
    made = await environment.rollback_of(failed)
    assert made is not None
    assert (made.bundle_sha256, made.rollback, made.rollback_of) == (BUNDLES[0], True, failed.id)
    assert (made.job.state, made.job.wait_seconds, made.job.priority) == (JobState.QUEUED, 60.0, 3)
    assert (made.job.deadline, made.created_by) == (START + 600, "token")
    assert made.origins == '{"ConfigMap shop/a": "a.yaml:1"}'
    leased = await environment.agent.lease()
    assert leased is not None
    assert leased.job.id == made.job.id
    told = await environment.store.read(lambda c: read_events(c, Scope(ORGANIZATION, made.id), 0, 9))
    assert f"rollback of {failed.id}, failed: it crashes" in told[0].event


async def test_a_rollback_is_rolled_back_by_nothing(environment: Environment) -> None:
    """Or two broken bundles would take turns for ever."""
    failed = await environment.deploy(BUNDLES[1], Outcome.FAILED, WROTE)
    await environment.end(await environment.agent.take(), Outcome.FAILED, WROTE)
    made = await environment.rollback_of(failed)
    assert made is not None
    assert (made.job.state, made.rollback_on_failure) == (JobState.FAILED, False)
    assert await environment.count() == 3
    # The next goes back to what was healthy last, not to what failed.
    again = await environment.deploy(BUNDLES[2], Outcome.FAILED, WROTE)
    other = await environment.rollback_of(again)
    assert other is not None
    assert other.bundle_sha256 == BUNDLES[0]


async def test_a_result_that_comes_twice_makes_one_rollback(environment: Environment) -> None:
    """As after a relay that died between the commit and its acknowledgement."""
    await environment.ask(BUNDLES[1], rolls_back=True)
    job = await environment.agent.take()
    await environment.end(job, Outcome.FAILED, WROTE)
    await environment.end(job, Outcome.FAILED, WROTE)
    assert await environment.count() == 3


@pytest.mark.parametrize(
    ("outcome", "counts", "state", "reason"),
    [
        (Outcome.FAILED, {}, JobState.FAILED, "it failed before its first write"),
        (Outcome.FAILED, {Action.UNCHANGED: 3, Action.SKIPPED: 1}, JobState.FAILED, "it failed before its first write"),
        (Outcome.REFUSED, {}, JobState.FAILED, "it failed before its first write"),
        (Outcome.SUCCEEDED, WROTE, JobState.SUCCEEDED, ""),
    ],
    ids=["preflight", "unchanged", "refused", "succeeded"],
)
async def test_what_changed_nothing_or_succeeded_is_not_rolled_back(
    environment: Environment, outcome: Outcome, counts: dict[Action, int], state: JobState, reason: str
) -> None:
    """And the deployment says why, if it had asked for that and failed."""
    ended = await environment.deploy(BUNDLES[1], outcome, counts)
    assert (ended.job.state, ended.rollback_skipped) == (state, reason)
    assert await environment.rollback_of(ended) is None


async def test_without_having_asked_nothing_is_rolled_back(environment: Environment) -> None:
    """Nor is anything said."""
    ended = await environment.deploy(BUNDLES[1], Outcome.FAILED, WROTE, rolls_back=False)
    assert (ended.job.state, ended.rollback_skipped, await environment.count()) == (JobState.FAILED, "", 2)


async def test_something_newer_takes_the_place_of_a_rollback(environment: Environment) -> None:
    """It was asked for knowing nothing of the failure, and comes next anyway."""
    failing = await environment.ask(BUNDLES[1], rolls_back=True)
    job = await environment.agent.take()
    newer = await environment.ask(BUNDLES[2], rolls_back=True)
    await environment.end(job, Outcome.FAILED, WROTE)
    assert (await environment.look(failing.id)).rollback_skipped == f"deployment '{newer.id}' waits to take its place"
    assert await environment.count() == 3


async def test_what_was_told_to_stop_is_not_rolled_back(environment: Environment) -> None:
    """Whoever cancels decides what comes next."""
    failing = await environment.ask(BUNDLES[1], rolls_back=True)
    job = await environment.agent.take()
    await environment.store.write(lambda c: stop_job(c, ORGANIZATION, job.id, "cancel", START))
    await environment.end(job, Outcome.FAILED, WROTE)
    ended = await environment.look(failing.id)
    assert (ended.job.state, ended.rollback_skipped) == (JobState.FAILED, "it had been told to stop")


async def test_there_is_nothing_to_go_back_to_before_the_first_success(store: Store) -> None:
    """Which is said, and the failure is stored all the same."""
    planner = Planner(store, Ed25519PrivateKey.generate(), lambda: START, _namespaces_of)
    environment = Environment(store, await connected(store), planner)
    failed = await environment.deploy(BUNDLES[1], Outcome.FAILED, WROTE)
    assert failed.job.state is JobState.FAILED
    assert "there is nothing to go back to" in failed.rollback_skipped
