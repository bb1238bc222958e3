"""
An agent whose cluster is in memory: link, runner, journals and TLS are the product's, on the product's event loop.

`python -m tests.bench.agent_without_cluster URL DIRECTORY`, with the enrolment token on standard input. It runs until
it is killed. Must not: be taken for the agent's memory or CPU, which `idle` measures.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop

from tests.integration.agent_under_test import AgentUnderTest

if TYPE_CHECKING:
    from tests.integration.scripted_relay import ScriptedRelay


@dataclass
class Address:
    """What an agent needs to know of its relay."""

    url: str
    enrolment_token: str

    def token(self) -> str:
        """Return the enrolment token."""
        return self.enrolment_token


async def run(url: str, directory: Path, token: str) -> None:
    """Run the agent until something ends it."""
    agent = AgentUnderTest(cast("ScriptedRelay", Address(url, token)), directory)
    await agent.start()
    if agent.task is not None:
        await asyncio.wait([agent.task])
        agent.task.result()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], Path(sys.argv[2]), sys.stdin.readline().strip()))
