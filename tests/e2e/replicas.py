"""Two replicas of one agent beside each other, either of which can be frozen at a write, and what they say of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.e2e.installation import AgentProcess, Installation
from tests.polling import PATIENCE_SECONDS, wait_until

_PROGRAM = Path(__file__).with_name("freezing_agent.py")


@dataclass
class Replica:
    """One of them."""

    agent: AgentProcess
    order: Path
    """When to freeze; see freezing_agent.py."""

    def start(self) -> None:
        """Start it."""
        self.agent.start(FREEZE_FILE=str(self.order), PYTHONPATH=os.pathsep.join(path for path in sys.path if path))

    def moments(self, event: str) -> list[float]:
        """Return when it logged an event, in seconds since the epoch, oldest first."""
        found = []
        for line in self.agent.log.splitlines():
            if f'"{event}"' in line:
                said = json.loads(line)
                if said.get("event") == event:
                    found.append(datetime.fromisoformat(said["timestamp"]).timestamp())
        return found

    def until_said(self, event: str, times: int) -> float:
        """Wait until it has logged an event so many times, and return when it did."""

        def said() -> float | None:
            moments = self.moments(event)
            return moments[times - 1] if len(moments) >= times else None

        try:
            moment = wait_until(said, f"{event} of {self.agent.suffix}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.agent.log[-6000:]}") from None
        assert moment is not None
        return moment

    def freeze_at(self, number: int, when: str) -> None:
        """Order it to freeze at one of the writes that follow."""
        fresh = self.order.with_suffix(".new")
        fresh.write_text(f"{number} {when}")
        fresh.replace(self.order)

    def until_frozen(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until it has frozen itself; False if it never came to that write."""
        try:
            wait_until(lambda: self._state == "T", "the replica to freeze", seconds)
        except TimeoutError:
            return False
        return True

    def thaw(self) -> None:
        """SIGCONT it."""
        assert self.agent.process is not None
        os.kill(self.agent.process.pid, signal.SIGCONT)

    @property
    def _state(self) -> str:
        assert self.agent.process is not None
        stat = Path(f"/proc/{self.agent.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]


def make_replicas(installation: Installation, directory: Path) -> tuple[Replica, Replica]:
    """Make two replicas of an installation's agent: one identity and one set of rights, each with its own spool."""
    first = installation.agent
    made = []
    for name in ("a", "b"):
        home = directory / name
        home.mkdir(parents=True)
        for part in ("enrolment", "account"):
            shutil.copytree(first.directory / part, home / part)
        shutil.copy(first.policy_file, home / first.policy_file.name)
        agent = AgentProcess(
            first.cluster,
            home,
            first.relay_url,
            first.rights,
            suffix=f"-{name}",
            program=(sys.executable, str(_PROGRAM)),
        )
        made.append(Replica(agent, directory / f"freeze-{name}"))
    return made[0], made[1]
