"""How many jobs an agent takes at the same time, and how large ones: the rest is handed back, to be offered again."""

from pathlib import Path

import pytest

from fairlead_agent import runner
from fairlead_agent.ports import ReplayMark
from fairlead_shared.errors import ErrorCode
from tests.integration.agent_under_test import bundle_of
from tests.integration.scripted_relay import StoredJob
from tests.integration.test_agent_jobs import ENVIRONMENT
from tests.integration.test_agent_results import connected
from tests.polling import eventually


async def test_too_many_or_too_large_jobs_are_refused_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the agent's limits is handed back, to be offered again."""
    async with connected(tmp_path / "agent") as (relay, agent):
        monkeypatch.setattr(runner, "MAX_RUNNING", 4)
        agent.engine.pause_before = 0
        for number in range(1, 5):
            job = relay.deploy(f"job000000000000000{number}", bundle_of(number))

            async def accepted(job: StoredJob = job) -> bool:
                return job.accepted

            await eventually(accepted, f"job {number} to be accepted")
        await agent.engine.paused.wait()
        relay.deploy("job0000000000000005", bundle_of(5))
        refusal = await relay.until_refused("job0000000000000005")
        assert (refusal.code, refusal.temporary) == (ErrorCode.OVERLOADED, True)
        monkeypatch.setattr(runner, "MAX_RUNNING", 16)
        relay.deploy("job0000000000000006", bundle_of(6), bundle_bytes=runner.MAX_BUNDLE_BYTES)
        assert (await relay.until_refused("job0000000000000006")).temporary
        agent.engine.go_on.set()


async def test_offers_that_come_together_do_not_pass_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the environment's marks before it counts; those that are too many are handed back."""
    async with connected(tmp_path / "agent") as (relay, agent):
        await agent.engine.inventory.change(
            ENVIRONMENT, lambda now: now.begun(ReplayMark("d0", finished=True, not_before=0))
        )
        monkeypatch.setattr(runner, "MAX_RUNNING", 4)
        agent.engine.pause_before = 0
        offered = [relay.deploy(f"job000000000000000{number}", bundle_of(number)) for number in range(1, 9)]

        async def answered() -> bool:
            return all(job.accepted or job.refusal is not None for job in offered)

        await eventually(answered, "each offer to be answered")
        assert sum(job.accepted for job in offered) == 4
        agent.engine.go_on.set()
