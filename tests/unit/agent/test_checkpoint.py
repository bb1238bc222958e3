"""Checkpoints: what is stored comes back, writes are compare-and-set, and damage is passed over."""

import time
from typing import Any

import pytest
import structlog

from fairlead_agent.checkpoint import Checkpoint, CheckpointStore, is_storable
from fairlead_agent.errors import Unreachable
from fairlead_agent.ports import DeployPlan, OwnedObject, StateKind
from fairlead_shared.frames import JobOffer
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, Outcome, ResultEvent
from tests.integration.agent_state import MemoryState

PLAN = DeployPlan(
    bundle_sha256="0" * 64,
    actions="cmu" * 6000,
    prune=tuple(
        OwnedObject(ref=ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name=f"n-{i}"), uid=str(i))
        for i in range(50)
    ),
)
RESULT = ResultEvent(key="result", at=1.5, outcome=Outcome.SUCCEEDED, counts={Action.CREATED: 3})


def offer(job_id: str = "job1", token: int = 1, **more: Any) -> JobOffer:  # noqa: ANN401  (fields of a model)
    """Make an offer."""
    fields = {"attempt": 1, "job_kind": "deploy", "lease_seconds": 30, "deadline": time.time()}
    return JobOffer(job_id=job_id, token=token, **{**fields, **more})


@pytest.fixture
def state() -> MemoryState:
    """Return an empty namespace."""
    return MemoryState()


def store(state: MemoryState) -> CheckpointStore:
    """Return a fresh store, as a new process has."""
    return CheckpointStore(state, structlog.get_logger())


async def test_checkpoint_comes_back_as_it_was(state: MemoryState) -> None:
    """Offer, plan and result survive the process, in the order of their tokens."""
    full = Checkpoint(offer("job2", 2), PLAN, RESULT)
    await store(state).save(full)
    await store(state).save(Checkpoint(offer("job1", 1)))
    loaded = await store(state).load_all()
    assert [checkpoint.offer.job_id for checkpoint in loaded] == ["job1", "job2"]
    assert loaded[1] == full
    assert (loaded[0].plan, loaded[0].result) == (None, None)


async def test_save_replaces_also_what_another_process_wrote(state: MemoryState) -> None:
    """A stale version is read again and overwritten: only this agent writes here."""
    first = store(state)
    await first.save(Checkpoint(offer()))
    await store(state).save(Checkpoint(offer(), PLAN))
    await first.save(Checkpoint(offer(), PLAN, RESULT))
    await state.delete(StateKind.CONFIG_MAP, "fairlead-job-job1")
    await first.save(Checkpoint(offer(), PLAN, RESULT))
    assert (await store(state).load_all())[0].result == RESULT


async def test_large_plan_fits_one_object(state: MemoryState) -> None:
    """A plan of 18,000 objects is a few kilobytes."""
    await store(state).save(Checkpoint(offer(), PLAN))
    stored = state.objects[StateKind.CONFIG_MAP, "fairlead-job-job1"]
    assert sum(len(value) for value in stored["binaryData"].values()) < 20_000


async def test_api_server_that_is_away_is_the_callers_business(state: MemoryState) -> None:
    """Nothing is retried here but lost races."""
    state.failures.append(Unreachable("https://api", "refused"))
    with pytest.raises(Unreachable):
        await store(state).save(Checkpoint(offer()))


async def test_damaged_checkpoint_is_passed_over(state: MemoryState) -> None:
    """One unreadable checkpoint does not keep the others from being resumed."""
    await store(state).save(Checkpoint(offer("job1")))
    await store(state).save(Checkpoint(offer("job2"), PLAN))
    await store(state).save(Checkpoint(offer("job3")))
    state.objects[StateKind.CONFIG_MAP, "fairlead-job-job1"]["data"] = {"offer": "{}"}
    state.objects[StateKind.CONFIG_MAP, "fairlead-job-job2"]["binaryData"] = {"plan.json.gz": "AAAA"}
    assert [one.offer.job_id for one in await store(state).load_all()] == ["job3"]
    await store(state).delete("job1")
    await store(state).delete("job1")


def names(state: MemoryState) -> list[str]:
    """Return the names of all that is stored."""
    return state.names(StateKind.CONFIG_MAP)


async def test_what_a_job_leaves_the_next_one_writes_over(state: MemoryState) -> None:
    """While others are under way; the rest is deleted. Whose it is says what it holds, not its name."""
    checkpoints = store(state)
    for number in range(3):
        await checkpoints.save(Checkpoint(offer(f"job{number}", number + 1)))
    await checkpoints.spare("job0", 2)
    await checkpoints.spare("job1", 1)
    assert len(names(state)) == 2
    before = state.writes
    await checkpoints.save(Checkpoint(offer("job3", 4)))
    await checkpoints.save(Checkpoint(offer("job3", 4), PLAN))
    assert (state.writes, len(names(state))) == (before + 2, 2)
    assert [one.offer.job_id for one in await store(state).load_all()] == ["job2", "job3"]
    again = store(state)
    await again.load_all()
    await again.save(Checkpoint(offer("job3", 4), PLAN, RESULT))
    await again.save(Checkpoint(offer("job1", 5)))
    assert [one.offer.job_id for one in await store(state).load_all()] == ["job2", "job3", "job1"]
    for job_id in ("job1", "job3"):
        await again.spare(job_id, 0)
    await again.delete("job2")
    assert names(state) == []


@pytest.mark.parametrize("is_gone", [False, True])
async def test_what_was_left_and_is_another_ones_now_is_not_written_over(state: MemoryState, *, is_gone: bool) -> None:
    """Another process has taken it, or deleted it, meanwhile."""
    checkpoints = store(state)
    await checkpoints.save(Checkpoint(offer("job1", 1)))
    await checkpoints.spare("job1", 1)
    other = store(state)
    await other.load_all()
    await other.spare("job1", 0 if is_gone else 1)
    if not is_gone:
        await other.save(Checkpoint(offer("job2", 2)))
    await checkpoints.save(Checkpoint(offer("job3", 4)))
    found = [one.offer.job_id for one in await store(state).load_all()]
    assert found == (["job3"] if is_gone else ["job2", "job3"])


async def test_write_over_that_nobody_answered_is_its_own(state: MemoryState) -> None:
    """It was carried out, so that the second try meets a conflict with the first."""
    checkpoints = store(state)
    await checkpoints.save(Checkpoint(offer("job1", 1)))
    await checkpoints.spare("job1", 1)
    state.unanswered = Unreachable("https://api", "no answer")
    with pytest.raises(Unreachable):
        await checkpoints.save(Checkpoint(offer("job2", 2)))
    await checkpoints.save(Checkpoint(offer("job2", 2), PLAN))
    assert names(state) == ["fairlead-job-job1"]
    assert (await store(state).load_all())[0].plan == PLAN


async def test_of_two_that_one_job_has_the_later_counts(state: MemoryState) -> None:
    """A former leader's write may land late; what is not gone on from is spared."""
    for token in (1, 2):
        await store(state).save(Checkpoint(offer("job1", token)))
        state.objects[StateKind.CONFIG_MAP, f"fairlead-job-{token}"] = state.objects.pop(
            (StateKind.CONFIG_MAP, "fairlead-job-job1")
        )
        state.objects[StateKind.CONFIG_MAP, f"fairlead-job-{token}"]["metadata"]["name"] = f"fairlead-job-{token}"
    checkpoints = store(state)
    assert [one.offer.token for one in await checkpoints.load_all()] == [2]
    await checkpoints.spare("job1", 0)
    assert names(state) == []


def test_ids_that_cannot_name_an_object_are_told() -> None:
    """A relay cannot make the agent write to a name of its choice."""
    assert is_storable("0123456789abcdef")
    for job_id in ("", "a/b", "A", "-a", "a" * 200, "../x", "a\n"):
        assert not is_storable(job_id)
