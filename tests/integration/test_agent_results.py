"""
A deployment's result is decided once, and told once it is kept: whatever ends the agent, at any write of its own state.

The link, the runner and the inventory are real; the relay is scripted, and the API server is in memory.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from fairlead_agent.checkpoint import Checkpoint, CheckpointStore
from fairlead_agent.errors import Unreachable
from fairlead_agent.ports import DeployPlan
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Action, Outcome, ResultEvent
from tests.integration.agent_under_test import AgentUnderTest, bundle_of
from tests.integration.scripted_relay import ScriptedRelay
from tests.integration.test_agent_jobs import ENVIRONMENT, JOB, expected_keys, until_forgotten
from tests.polling import eventually

WRITES = ["plan", "begun", "ended", "deleted"]
"""All of the agent's own state for one deployment, in their order."""
OBJECTS = 3


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[tuple[ScriptedRelay, AgentUnderTest]]:
    """Run an agent that is connected to a relay, and has written nothing yet of what is counted."""
    directory.mkdir()
    relay = ScriptedRelay()
    await relay.start()
    agent = AgentUnderTest(relay, directory)
    await agent.start()
    await relay.until_connected()
    agent.state.writes = 0
    yield relay, agent
    await agent.stop()
    await relay.stop()


async def end_at(agent: AgentUnderTest, write: int, *, carried_out: bool) -> None:
    """Wait until a write of its state, and end it there."""
    assert agent.state.hangs_at == (write, carried_out)
    await agent.state.hung.wait()
    await agent.stop()
    agent.state.hangs_at = None


@pytest.mark.parametrize("fails_before", [None, 1], ids=["succeeds", "fails"])
@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, len(WRITES) + 1), ids=WRITES)
async def test_ended_at_any_write_it_tells_the_same(
    tmp_path: Path, write: int, fails_before: int | None, *, carried_out: bool
) -> None:
    """Before that write and after it: one story, one result; nothing is carried out again once the mark has it."""
    async with connected(tmp_path / "undisturbed") as (relay, agent):
        agent.engine.fail_before = fails_before
        undisturbed = relay.deploy(JOB, bundle_of(OBJECTS))
        expected = await relay.until_result(JOB)
        await until_forgotten(agent)
        assert agent.state.writes == len(WRITES)
    async with connected(tmp_path / "ended") as (relay, agent):
        agent.engine.fail_before = fails_before
        agent.state.hangs_at = (write, carried_out)
        job = relay.deploy(JOB, bundle_of(OBJECTS))
        await end_at(agent, write, carried_out=carried_out)
        is_known = (write, carried_out) >= (WRITES.index("plan") + 1, True)
        is_decided = (write, carried_out) >= (WRITES.index("ended") + 1, True)
        agent.engine.fail_before = 0 if is_decided else fails_before
        await agent.start()
        assert timeless(await relay.until_result(JOB)) == timeless(expected)
        await until_forgotten(agent)
        assert job.offer.attempt == (1 if is_known else 2), "before its plan is stored there is nothing to go on from"
        assert job.keys() == undisturbed.keys()
        assert (agent.engine.fail_before == 0) == is_decided, "what is decided is not carried out again"
        assert len(agent.engine.writes) == len(set(agent.engine.writes))
        (mark,) = await agent.engine.inventory.marks(ENVIRONMENT)
        assert (mark.finished, mark.ended_attempt) == (fails_before is None, job.offer.attempt)


def timeless(result: ResultEvent) -> ResultEvent:
    """Return it without its time."""
    return result.model_copy(update={"at": 0})


async def test_mark_whose_answer_was_lost_counts(tmp_path: Path) -> None:
    """The deployment has succeeded, though its agent was told that this could not be kept."""
    async with connected(tmp_path / "agent") as (relay, agent):
        agent.engine.pause_before = 0
        relay.deploy(JOB, bundle_of(OBJECTS))
        await agent.engine.paused.wait()
        agent.state.unanswered = Unreachable("https://api", "no answer")
        agent.engine.go_on.set()
        result = await relay.until_result(JOB)
        assert (result.outcome, result.counts) == (Outcome.SUCCEEDED, {Action.CREATED: OBJECTS})
        await until_forgotten(agent)


@pytest.mark.parametrize("carried_out", [False, True])
async def test_cancelled_while_it_is_marked_it_ends_as_the_mark_says(tmp_path: Path, *, carried_out: bool) -> None:
    """Either it has succeeded, or it was cancelled; told and marked is the same."""
    async with connected(tmp_path / "agent") as (relay, agent):
        agent.state.hangs_at = (WRITES.index("ended") + 1, carried_out)
        relay.deploy(JOB, bundle_of(OBJECTS))
        await agent.state.hung.wait()
        agent.state.hangs_at = None
        relay.cancel(JOB)
        result = await relay.until_result(JOB)
        assert result.outcome is (Outcome.SUCCEEDED if carried_out else Outcome.CANCELLED)
        await until_forgotten(agent)
        (mark,) = await agent.engine.inventory.marks(ENVIRONMENT)
        assert (mark.finished, mark.result) == (carried_out, result)


async def test_what_is_decided_hangs_on_no_rule_that_came_after(tmp_path: Path) -> None:
    """Neither on the operator's, nor on the deadline: it is told as it was."""
    async with connected(tmp_path / "agent") as (relay, agent):
        agent.state.hangs_at = (WRITES.index("ended") + 1, True)
        job = relay.deploy(JOB, bundle_of(OBJECTS))
        await end_at(agent, WRITES.index("ended") + 1, carried_out=True)
        agent.policy_file.write_text(agent.policy_file.read_text().replace("shop", "bank"))
        store = CheckpointStore(agent.state, structlog.get_logger())
        (kept,) = await store.load_all()
        late = kept.offer.model_copy(update={"deadline": kept.offer.deadline - 3600})
        await store.save(Checkpoint(late, kept.plan))
        await agent.start()
        assert (await relay.until_result(JOB)).outcome is Outcome.SUCCEEDED
        assert job.keys() == expected_keys(OBJECTS)


@pytest.mark.parametrize("is_retried", [False, True])
@pytest.mark.parametrize("has_plan", [False, True])
async def test_checkpoint_that_outlived_its_job_does_not_undo_what_came_after(
    tmp_path: Path, *, has_plan: bool, is_retried: bool
) -> None:
    """It could not be deleted, or a former leader made it late; another deployment, or attempt, was begun since."""
    async with connected(tmp_path / "agent") as (relay, agent):
        bundle, newer = bundle_of(OBJECTS), bundle_of(OBJECTS, size=20)
        statement = relay.statement(bundle, "d0000000000000000000000001")
        agent.engine.fail_before = 1
        job = relay.deploy(JOB, bundle, statement)
        await relay.until_result(JOB)
        if is_retried:
            relay.deploy("job0000000000000002", bundle, statement, attempt=2)
        else:
            relay.deploy("job0000000000000002", newer, relay.statement(newer, "d0000000000000000000000002"))
        await relay.until_result("job0000000000000002")
        await until_forgotten(agent)
        await relay.stop()
        await agent.stop()
        agent.engine.writes.clear()
        plan = DeployPlan(bundle_sha256=bundle.sha256, actions="c" * OBJECTS) if has_plan else None
        store = CheckpointStore(agent.state, structlog.get_logger())
        await store.save(Checkpoint(job.offer, plan))
        await agent.start()

        async def decided() -> ResultEvent | None:
            (kept,) = await store.load_all()
            return kept.result

        result = await eventually(decided, "its result in the checkpoint")
        assert result is not None
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.REPLAY)
        assert agent.engine.writes == []
        await relay.start()
        await until_forgotten(agent)


async def test_checkpoint_that_was_left_to_the_next_job_carries_nothing_out(tmp_path: Path) -> None:
    """It is there while another job is under way; an agent that ends then finds it, and is told to forget it."""
    first, over, later = "job0000000000000001", "job0000000000000002", "job0000000000000003"
    async with connected(tmp_path / "agent") as (relay, agent):
        agent.policy_file.write_text(agent.policy_file.read_text().replace("environment: staging", 'environment: "*"'))
        agent.engine.pause_before = 1
        slow = relay.statement(bundle_of(2), "d0000000000000000000000001", environment="review")
        relay.deploy(first, bundle_of(2), slow)
        await agent.engine.paused.wait()
        agent.engine.pause_before = None
        relay.deploy(over, bundle_of(OBJECTS))
        await relay.until_result(over)

        async def spared() -> bool:
            return len(list((agent.spool / "events").iterdir())) == 1

        await eventually(spared, "the second job to be forgotten")
        assert len(agent.checkpoints()) == 2
        written = agent.state.writes
        relay.deploy(later, bundle_of(OBJECTS, size=20))
        await relay.until_result(later)
        await eventually(spared, "the third job to be forgotten")
        assert len(agent.checkpoints()) == 2
        assert agent.state.writes == written + len(WRITES) - 1, "it is written over, and not deleted"
        await agent.stop()
        del relay.jobs[later]
        carried_out = [one for one in agent.engine.writes if one[0] != slow.deployment_id]
        agent.engine.go_on.set()
        await agent.start()
        await relay.until_result(first)
        assert {job.job_id for job in relay.hellos[-1].jobs} == {first, later}
        await until_forgotten(agent)
        assert [one for one in agent.engine.writes if one[0] != slow.deployment_id] == carried_out
