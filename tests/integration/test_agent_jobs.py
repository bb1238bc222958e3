"""Jobs from offer to acknowledged result, between the real link and runner and a scripted relay, over real TLS."""

import asyncio
import base64
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_agent import connection
from fairlead_agent.checkpoint import Checkpoint, CheckpointStore
from fairlead_agent.errors import MissingRight, Unreachable
from fairlead_agent.ports import EnvironmentKey, StateKind
from fairlead_shared.envelope import sign
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import JobOffer
from fairlead_shared.progress import Action, Outcome
from fairlead_shared.statement import EMPTY_BUNDLE, PAYLOAD_TYPE, Strategy
from tests.integration.agent_under_test import AgentUnderTest, bundle_of
from tests.integration.scripted_relay import ScriptedRelay, StoredJob
from tests.polling import eventually

JOB = "job0000000000000001"
ENVIRONMENT = EnvironmentKey("acme", "shop", "staging")


@pytest.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    """Serve a scripted relay."""
    scripted = ScriptedRelay()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def agent(relay: ScriptedRelay, tmp_path: Path) -> AsyncIterator[AgentUnderTest]:
    """Run an agent that is connected."""
    under_test = AgentUnderTest(relay, tmp_path)
    await under_test.start()
    await relay.until_connected()
    yield under_test
    await under_test.stop()


def expected_keys(count: int) -> list[str]:
    """Return the keys of an undisturbed deployment, in order."""
    steps = ["step/verify/started", "step/verify/finished", "step/fetch/started", "step/fetch/finished"]
    return [*steps, *(f"object/ConfigMap shop/part-{number:05d}/created" for number in range(count)), "result"]


async def until_forgotten(agent: AgentUnderTest) -> None:
    """Wait until neither checkpoint nor journal is left."""

    async def gone() -> bool:
        return not agent.checkpoints() and not list((agent.spool / "events").iterdir())

    await eventually(gone, "checkpoint and journal to be deleted")


def assert_complete(job: StoredJob, count: int) -> None:
    """Every event arrived once, in order, under numbers without a gap."""
    assert job.keys() == expected_keys(count)
    assert job.sequences == list(range(1, len(job.sequences) + 1))


async def test_deploy_runs_from_offer_to_result(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Accepted, reported step by step, forgotten after the result is acknowledged."""
    job = relay.deploy(JOB, bundle_of(5))
    result = await relay.until_result(JOB)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.counts == {Action.CREATED: 5}
    assert job.accepted
    assert_complete(job, 5)
    await until_forgotten(agent)
    assert [name for _, name in agent.engine.writes] == [f"ConfigMap shop/part-{n:05d}" for n in range(5)]
    assert agent.let_go == [ENVIRONMENT, None], "its writes are no drift"


async def test_thousands_of_events_pass_the_window(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A job with far more events than may be in flight arrives whole."""
    job = relay.deploy(JOB, bundle_of(3000))
    await relay.until_result(JOB)
    assert_complete(job, 3000)


async def test_events_go_together_but_a_result_and_what_a_window_held_back_at_once(
    relay: ScriptedRelay, agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After what was just sent, events wait for those of the next moment, which is made endless here."""
    monkeypatch.setattr(connection, "GATHER_SECONDS", 3600)
    agent.engine.pause_before = 3
    job = relay.deploy(JOB, bundle_of(600))
    await agent.engine.paused.wait()
    relay.deploy("job0000000000000002", bundle_of(1), job_kind="dance")
    await relay.until_refused("job0000000000000002")  # what was sent before it has arrived, too
    assert job.keys()[:1] == expected_keys(0)[:1]
    assert not set(expected_keys(3)[4:7]) & set(job.keys())
    agent.engine.go_on.set()
    await relay.until_result(JOB)
    assert_complete(job, 600)


async def test_events_leave_before_the_result_is_stored(
    relay: ScriptedRelay, agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on nothing derives them again, should the agent lose its node."""
    monkeypatch.setattr(connection, "GATHER_SECONDS", 3600)
    agent.engine.pause_before = 1
    job = relay.deploy(JOB, bundle_of(3))
    await agent.engine.paused.wait()
    agent.state.hangs_at = (agent.state.writes + 1, False)
    agent.engine.go_on.set()

    async def arrived() -> bool:
        return job.keys() == expected_keys(3)[:-1]

    await eventually(arrived, "all but the result, which is not stored yet")
    assert agent.state.hung.is_set()


async def test_lost_connections_lose_and_repeat_nothing(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The connection breaks after every 60 events, with events stored and not acknowledged."""
    relay.drop_after_events = 60
    job = relay.deploy(JOB, bundle_of(300))
    await relay.until_result(JOB)
    assert job.keys() == expected_keys(300)
    assert len(agent.engine.writes) == 300
    assert len(relay.hellos) > 5


async def test_job_goes_on_while_the_relay_is_away(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A relay that dies in the middle finds the finished job's whole story when it is back."""
    agent.engine.pause_before = 2
    job = relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    await relay.stop()
    agent.engine.go_on.set()

    async def written() -> bool:
        return len(agent.engine.writes) == 5

    await eventually(written, "the work to go on")
    await relay.start()
    assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
    assert_complete(job, 5)
    await until_forgotten(agent)


@pytest.mark.parametrize("spool_lost", [False, True])
async def test_restarted_agent_continues(relay: ScriptedRelay, agent: AgentUnderTest, *, spool_lost: bool) -> None:
    """A new process finds the checkpoint, carries on, and numbers on, even without its journal."""
    agent.engine.pause_before = 2
    job = relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()

    async def arrived() -> bool:
        return len(job.events) == 6

    await eventually(arrived, "the events before the pause")
    await agent.stop()
    if spool_lost:
        for path in (agent.spool / "events").iterdir():
            path.unlink()
    agent.engine.go_on.set()
    await agent.start()
    assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
    assert job.keys() == expected_keys(5)
    assert job.sequences == list(range(1, len(job.sequences) + 1))
    assert len(agent.engine.writes) == 5
    assert relay.hellos[-1].jobs[0].job_id == JOB
    await until_forgotten(agent)


async def test_checkpoint_that_a_former_leader_made_late_carries_nothing_out(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """Its job ended long ago: it is found without a plan, compared with the marks, and forgotten."""
    job = relay.deploy(JOB, bundle_of(2))
    await relay.until_result(JOB)
    await until_forgotten(agent)
    await agent.stop()
    agent.engine.writes.clear()
    await CheckpointStore(agent.state, structlog.get_logger()).save(Checkpoint(job.offer))
    hellos = len(relay.hellos)
    del relay.jobs[JOB]
    await agent.start()
    await relay.until_connected(hellos + 1)
    assert relay.hellos[-1].jobs[0].job_id == JOB
    await until_forgotten(agent)
    assert agent.engine.writes == []


async def test_restart_while_the_relay_is_away(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Both ends gone and the spool lost: the job is finished locally first, then told."""
    agent.engine.pause_before = 3
    job = relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    await relay.stop()
    await agent.stop()
    for path in (agent.spool / "events").iterdir():
        path.unlink()
    agent.engine.go_on.set()
    await agent.start()

    async def decided() -> bool:
        return any(mark.result is not None for mark in await agent.engine.inventory.marks(ENVIRONMENT))

    await eventually(decided, "the result in the mark")
    await agent.stop()
    await relay.start()
    await agent.start()
    assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
    assert job.keys()[-1] == "result"
    assert len(set(job.keys())) == len(job.keys())
    assert len(agent.engine.writes) == 5


@pytest.mark.parametrize("superseded", [False, True])
async def test_cancel_ends_with_a_result(relay: ScriptedRelay, agent: AgentUnderTest, *, superseded: bool) -> None:
    """A cancelled job says how it ended; nothing more is written."""
    agent.engine.pause_before = 2
    relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    relay.cancel(JOB, superseded=superseded)
    result = await relay.until_result(JOB)
    assert result.outcome is (Outcome.SUPERSEDED if superseded else Outcome.CANCELLED)
    assert result.code is ErrorCode.CANCELLED
    assert len(agent.engine.writes) == 2
    assert [mark.ended_attempt for mark in await agent.engine.inventory.marks(ENVIRONMENT)] == [1]
    await until_forgotten(agent)


async def test_cancel_right_behind_its_offer_is_not_lost(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A job cancelled while the agent still considers the offer ends as cancelled, before any write."""
    relay.deploy(JOB, bundle_of(5))
    relay.cancel(JOB)
    assert (await relay.until_result(JOB)).outcome is Outcome.CANCELLED
    assert agent.engine.writes == []
    await until_forgotten(agent)


async def test_stopped_while_work_on_a_job_waits_its_turn(
    relay: ScriptedRelay, agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had not begun is left alone: work begun and never ended would be told of in a log, and fails this test."""
    storing = asyncio.Event()

    async def never(*_: object) -> None:
        storing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(agent.state, "create", never)
    offer = relay.deploy(JOB, bundle_of(5)).offer
    await storing.wait()
    assert agent.runner is not None
    agent.runner.take_offer(offer)
    await agent.stop()
    gc.collect()
    assert agent.engine.writes == []


async def test_cancel_asked_while_away_is_done_at_the_next_hello(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The verdict `cancel` stops a job that went on alone."""
    agent.engine.pause_before = 2
    relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    await relay.stop()
    relay.jobs[JOB].cancel = "cancel"
    await relay.start()
    assert (await relay.until_result(JOB)).outcome is Outcome.CANCELLED


async def test_abandoned_job_stops_and_runs_again(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A job that the relay says is another's is dropped without a result; offered again, it runs as a new attempt."""
    agent.engine.pause_before = 2
    job = relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    await relay.stop()
    job.offer = job.offer.model_copy(update={"token": 99, "attempt": 2})
    agent.engine.pause_before = None
    job.accepted = False
    await relay.start()
    assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
    assert len(agent.engine.writes) == 5


async def test_lost_lease_stops_the_job(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A job missing from the renewals is stopped without another write and forgotten."""
    relay.heartbeat_seconds = 0.2
    await agent.stop()
    await agent.start()
    await relay.until_connected(2)
    agent.engine.pause_before = 2
    job = relay.deploy(JOB, bundle_of(5))
    await agent.engine.paused.wait()
    relay.lost_leases.add(JOB)
    await until_forgotten(agent)
    assert job.result is None
    assert len(agent.engine.writes) == 2


async def test_job_past_its_deadline_fails(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The deadline ends a job that hangs, with a sentence that says so."""
    agent.engine.pause_before = 0
    relay.deploy(JOB, bundle_of(1), deadline=time.time() + 5)
    result = await relay.until_result(JOB)
    assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.DEADLINE)


async def test_one_environment_deploys_one_at_a_time(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Two deployments of one environment do not overlap, even if a relay offers both."""
    relay.deploy("job0000000000000001", bundle_of(50))
    relay.deploy("job0000000000000002", bundle_of(60))
    await relay.until_result("job0000000000000001")
    await relay.until_result("job0000000000000002")
    assert agent.engine.most_running == 1


async def test_bundle_arrives_across_a_broken_connection(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A transfer that breaks in the middle goes on where it was."""
    relay.drop_after_bytes = 1_000_000
    bundle = bundle_of(30, size=100_000)
    relay.deploy(JOB, bundle)
    assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
    asked = [message for message in relay.messages if message.kind == "hello"]
    assert len(asked) == 2
    assert next((agent.spool / "bundles").glob("*.bundle")).read_bytes() == bundle.content


async def test_bundle_that_does_not_match_fails(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Bytes with another hash are never applied; so is a bundle the relay does not have."""
    bundle = bundle_of(2)
    job = relay.deploy(JOB, bundle)
    relay.bundles[bundle.sha256] = bundle_of(3).content
    result = await relay.until_result(JOB)
    assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.BUNDLE_UNAVAILABLE)
    assert job.keys()[-2:] == ["step/fetch/failed", "result"]
    missing = bundle_of(4)
    relay.deploy("job0000000000000002", missing)
    del relay.bundles[missing.sha256]
    result = await relay.until_result("job0000000000000002")
    assert result.code is ErrorCode.BUNDLE_UNAVAILABLE
    assert agent.engine.writes == []


async def test_rules_refuse_an_offer(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Each rule says no with its own code, and nothing is kept of the job."""
    bundle, now = bundle_of(1), int(time.time())

    async def refused(code: ErrorCode, number: int, **changes: object) -> None:
        job_id = f"job00000000000001{number:02d}"
        statement = relay.statement(bundle, f"d{job_id:0>25}", **changes)
        relay.deploy(job_id, bundle, statement)
        refusal = await relay.until_refused(job_id)
        assert (refusal.code, refusal.temporary) == (code, False), refusal.message

    await refused(ErrorCode.NOT_BOUND, 1, namespaces=("bank",))
    await refused(ErrorCode.NOT_BOUND, 2, environment_type="development")
    await refused(ErrorCode.NOT_BOUND, 3, application="bank")
    await refused(ErrorCode.STATEMENT_MISMATCH, 4, cluster="green")
    await refused(ErrorCode.STATEMENT_MISMATCH, 5, organization="other")
    await refused(ErrorCode.STATEMENT_EXPIRED, 6, expires=now - 301)
    await refused(ErrorCode.STATEMENT_EXPIRED, 7, not_before=now + 400)
    honest, relay.signer = relay.signer, Ed25519PrivateKey.generate()
    await refused(ErrorCode.SIGNATURE, 8)
    relay.signer = honest
    relay.deploy("job0000000000000190", bundle, statement=None, job_kind="dance")
    assert (await relay.until_refused("job0000000000000190")).code is ErrorCode.UNSUPPORTED
    assert agent.state.names(StateKind.CONFIG_MAP) == []
    assert agent.engine.writes == []


async def test_statement_is_carried_out_once(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The same statement under another job id, and one older than what was deployed, are replays."""
    bundle = bundle_of(1)
    statement = relay.statement(bundle, "d0000000000000000000000001")
    relay.deploy(JOB, bundle, statement)
    await relay.until_result(JOB)
    relay.deploy("job0000000000000002", bundle, statement)
    assert (await relay.until_refused("job0000000000000002")).code is ErrorCode.REPLAY
    older = relay.statement(bundle, "d0000000000000000000000002", not_before=statement.not_before - 60)
    relay.deploy("job0000000000000003", bundle, older)
    assert (await relay.until_refused("job0000000000000003")).code is ErrorCode.REPLAY


async def test_a_deployment_that_failed_may_be_tried_again(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """By a later attempt of the same statement, once, and not after another deployment was begun."""
    bundle = bundle_of(2)
    statement = relay.statement(bundle, "d0000000000000000000000001")
    agent.engine.fail_before = 1
    relay.deploy(JOB, bundle, statement)
    assert (await relay.until_result(JOB)).outcome is Outcome.FAILED
    relay.deploy("job0000000000000002", bundle, statement)
    assert "attempt 1" in (await relay.until_refused("job0000000000000002")).message
    relay.deploy("job0000000000000003", bundle, statement, attempt=2)
    assert (await relay.until_result("job0000000000000003")).outcome is Outcome.SUCCEEDED
    relay.deploy("job0000000000000004", bundle, statement, attempt=3)
    assert "was carried out before" in (await relay.until_refused("job0000000000000004")).message
    failed = relay.statement(bundle, "d0000000000000000000000002")
    agent.engine.fail_before = 0
    relay.deploy("job0000000000000005", bundle, failed)
    await relay.until_result("job0000000000000005")
    relay.deploy("job0000000000000006", bundle, relay.statement(bundle, "d0000000000000000000000003"))
    await relay.until_result("job0000000000000006")
    relay.deploy("job0000000000000007", bundle, failed, attempt=2)
    assert "was begun after" in (await relay.until_refused("job0000000000000007")).message


async def test_an_environment_is_destroyed_only_by_what_was_signed_for_that(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """Its own kind and strategy, no bundle to fetch, and whatever was signed before it is a replay afterwards."""
    bundle = bundle_of(1)
    deployed = relay.statement(bundle, "d0000000000000000000000001", not_before=int(time.time()) - 60)
    destroyed = relay.statement(EMPTY_BUNDLE, "d0000000000000000000000002", strategy=Strategy.DESTROY)
    relay.deploy("job0000000000000001", bundle, deployed, job_kind="destroy")
    assert (await relay.until_refused("job0000000000000001")).code is ErrorCode.STATEMENT_MISMATCH
    relay.deploy("job0000000000000002", EMPTY_BUNDLE, destroyed)
    assert (await relay.until_refused("job0000000000000002")).code is ErrorCode.STATEMENT_MISMATCH
    unbound = relay.statement(
        EMPTY_BUNDLE, "d0000000000000000000000003", strategy=Strategy.DESTROY, namespaces=("kube-system",)
    )
    relay.deploy("job0000000000000003", EMPTY_BUNDLE, unbound, job_kind="destroy")
    assert (await relay.until_refused("job0000000000000003")).code is ErrorCode.NOT_BOUND
    relay.bundles.clear()
    relay.deploy("job0000000000000004", EMPTY_BUNDLE, destroyed, job_kind="destroy")
    assert (await relay.until_result("job0000000000000004")).outcome is Outcome.SUCCEEDED
    for number, again in (("5", destroyed), ("6", deployed)):
        kind = "destroy" if again is destroyed else "deploy"
        relay.deploy(f"job000000000000000{number}", bundle, again, job_kind=kind)
        assert (await relay.until_refused(f"job000000000000000{number}")).code is ErrorCode.REPLAY


async def test_a_plan_changes_nothing_and_is_good_for_nothing_else(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """No checkpoint and no mark; its statement deploys nothing, and what was signed to deploy is no plan."""
    bundle = bundle_of(2)
    signed = relay.statement(bundle, "d0000000000000000000000001", strategy=Strategy.PLAN)
    job = relay.deploy("job0000000000000001", bundle, signed, job_kind="plan")
    result = await relay.until_result("job0000000000000001")
    assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {Action.CREATED: 2})
    steps = ["step/verify/started", "step/verify/finished", "step/fetch/started", "step/fetch/finished"]
    assert job.keys() == [*steps, *(f"planned/ConfigMap shop/part-{number:05d}" for number in range(2)), "result"]
    await until_forgotten(agent)
    assert (agent.engine.writes, agent.state.names(StateKind.CONFIG_MAP)) == ([], [])
    for number, kind, statement in (
        (2, "deploy", signed),
        (3, "plan", relay.statement(bundle, "d0000000000000000000000002")),
    ):
        relay.deploy(f"job000000000000000{number}", bundle, statement, job_kind=kind)
        refused = await relay.until_refused(f"job000000000000000{number}")
        assert refused.code is ErrorCode.STATEMENT_MISMATCH
    forged = sign(PAYLOAD_TYPE, signed.to_bytes(), Ed25519PrivateKey.generate())
    relay.offer(job.offer.model_copy(update={"job_id": "job0000000000000004", "token": 9, "statement": forged}))
    assert (await relay.until_refused("job0000000000000004")).code is ErrorCode.SIGNATURE
    assert agent.engine.planned == [signed.deployment_id]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"namespaces": ("kube-system",)}, ErrorCode.NOT_BOUND),
        ({"environment_type": "production"}, ErrorCode.NOT_BOUND),
        ({"cluster": "another"}, ErrorCode.STATEMENT_MISMATCH),
        ({"not_before": 1, "expires": 2}, ErrorCode.STATEMENT_EXPIRED),
    ],
)
async def test_a_plan_is_held_to_the_rules_of_a_deployment(
    relay: ScriptedRelay, agent: AgentUnderTest, changes: dict[str, object], code: ErrorCode
) -> None:
    """Binding, addressee and validity: who may not deploy something learns nothing of it either."""
    bundle = bundle_of(1)
    signed = relay.statement(bundle, "d0000000000000000000000001", strategy=Strategy.PLAN, **changes)
    relay.deploy(JOB, bundle, signed, job_kind="plan")
    assert (await relay.until_refused(JOB)).code is code
    assert agent.engine.planned == []


async def test_policy_change_holds_for_the_next_offer(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The file is read again when it changed; one that cannot be used leaves the rules as they were."""
    agent.policy_file.write_text("bindings: []\n")
    relay.deploy(JOB, bundle_of(1))
    assert (await relay.until_refused(JOB)).code is ErrorCode.NOT_BOUND
    agent.policy_file.write_text("bindings: [}\n")
    relay.deploy("job0000000000000002", bundle_of(1))
    assert (await relay.until_refused("job0000000000000002")).code is ErrorCode.NOT_BOUND


async def test_own_state_that_may_not_be_written_fails_with_the_rule(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """A checkpoint that RBAC forbids ends the job before its first write, and the cause holds the missing rule."""
    agent.state.failures.append(MissingRight("create", "", "configmaps", "fairlead"))
    relay.deploy(JOB, bundle_of(1))
    result = await relay.until_result(JOB)
    assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.FORBIDDEN)
    assert 'resources: ["configmaps"]' in result.cause
    assert agent.engine.writes == []
    await until_forgotten(agent)


async def test_marks_that_cannot_be_read_refuse_for_now(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """While the API server is away, a job of a known environment waits in the relay's queue."""
    relay.deploy(JOB, bundle_of(1))
    await relay.until_result(JOB)
    agent.state.unreadable = Unreachable("https://api", "refused")
    relay.deploy("job0000000000000002", bundle_of(2))
    assert (await relay.until_refused("job0000000000000002")).temporary


async def test_result_waits_for_the_api_server(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A result is stored before it is told, however long that takes."""
    agent.engine.pause_before = 0
    agent.engine.fail_before = 1
    relay.deploy(JOB, bundle_of(2))
    await agent.engine.paused.wait()
    agent.state.failures.append(Unreachable("https://api", "refused"))
    agent.engine.go_on.set()
    assert (await relay.until_result(JOB)).counts == {Action.CREATED: 1}
    assert agent.state.failures == []


async def test_health_job_reports_and_ends(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A health job changes nothing, needs no statement and no checkpoint, and names the worst cause."""
    offer = JobOffer(
        job_id=JOB,
        attempt=1,
        token=1,
        job_kind="health",
        lease_seconds=30,
        deadline=time.time() + 60,
        environment=("acme", "shop", "staging"),
    )
    relay.offer(offer)
    result = await relay.until_result(JOB)
    assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "it crashes")
    assert relay.jobs[JOB].keys() == ["health/1", "health/2", "result"]
    foreign = offer.model_copy(update={"job_id": "job0000000000000002", "environment": ("other", "shop", "staging")})
    relay.offer(foreign)
    assert (await relay.until_refused("job0000000000000002")).code is ErrorCode.NOT_BOUND


async def test_defect_in_the_engine_fails_the_job_only(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """An exception nobody foresaw ends as `internal`, without its text, and the next job runs."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    whole, agent.engine.run = agent.engine.run, broken  # type: ignore[method-assign,assignment]
    relay.deploy(JOB, bundle_of(1))
    result = await relay.until_result(JOB)
    assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.INTERNAL)
    assert "secret" not in result.cause
    agent.engine.run = whole  # type: ignore[method-assign]
    relay.deploy("job0000000000000002", bundle_of(2))
    assert (await relay.until_result("job0000000000000002")).outcome is Outcome.SUCCEEDED


async def test_two_signers_are_asked_for(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The operator's threshold for a type holds: the relay's signature alone is not enough."""
    other = Ed25519PrivateKey.generate()
    raw = base64.b64encode(other.public_key().public_bytes_raw()).decode()
    rules = f"signers: {{ci: {raw}}}\nthresholds: {{staging: {{signers: [relay, ci], count: 2}}}}\n"
    agent.policy_file.write_text(agent.policy_file.read_text() + rules)
    bundle = bundle_of(1)
    relay.deploy(JOB, bundle)
    assert (await relay.until_refused(JOB)).code is ErrorCode.SIGNATURE
    statement = relay.statement(bundle, "d0000000000000000000000009")
    both = sign(PAYLOAD_TYPE, statement.to_bytes(), relay.signer, other)
    relay.deploy("job0000000000000002", bundle, statement)
    assert (await relay.until_refused("job0000000000000002")).code is ErrorCode.SIGNATURE
    offer = relay.jobs["job0000000000000002"].offer
    relay.offer(offer.model_copy(update={"job_id": "job0000000000000003", "statement": both, "token": 3}))
    assert (await relay.until_result("job0000000000000003")).outcome is Outcome.SUCCEEDED
