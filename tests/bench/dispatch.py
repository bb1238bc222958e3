"""
How soon a job starts: from the request to the API until the agent's acceptance is stored, one connected agent.

The relay is a process of its own; so is the agent, which has the product's link, runner and TLS but a cluster in
memory. Jobs are asked for one after the other. What is timed ends when a follower of the live stream sees `running`,
which is after the commit: more than the promise covers, never less.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import httpx

from fairlead_shared.jobs import FINAL_STATES, JobState
from tests.bench.figures import Figure, Peer, percentile
from tests.integration.conftest import make_tenant
from tests.polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.workplace import Workplace
    from tests.integration.relay_process import Api

JOBS: Final = 300
WARM_UP: Final = 20
TARGET_MS: Final = 100
_ENDS_SECONDS: Final = 30.0


class Follower:
    """Follows an organization's live stream in a thread, and notes when each job reached which state."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path
        self._changed = threading.Condition()
        self._seen: dict[tuple[str, str], float] = {}
        self._noted: dict[tuple[str, str], float] = {}
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def seen(self, job_id: str, *states: str) -> float:
        """Wait until a job was seen in one of some states. Returns: When, on the clock of perf_counter."""
        with self._changed:
            if not self._changed.wait_for(lambda: any((job_id, one) in self._seen for one in states), _ENDS_SECONDS):
                raise TimeoutError(f"job {job_id} was not seen {' or '.join(states)} within {_ENDS_SECONDS:.0f} s")
            return next(self._seen[job_id, one] for one in states if (job_id, one) in self._seen)

    def noted(self, job_id: str, state: str) -> float:
        """Return when the relay itself says that the job reached a state it was seen in, seconds since the epoch."""
        return self._noted[job_id, state]

    def _follow(self) -> None:
        headers = {"Accept": "application/x-ndjson"}
        # The relay's end ends the stream; whoever still waits for a job gets a TimeoutError.
        with (
            suppress(httpx.HTTPError),
            self._api.stream("GET", f"{self._path}/events", headers=headers, timeout=None) as answer,
        ):
            for line in answer.iter_lines():
                at = time.perf_counter()
                record = json.loads(line)
                if record["event"]["type"] == "job":
                    with self._changed:
                        self._seen[record["job_id"], record["event"]["state"]] = at
                        self._noted[record["job_id"], record["event"]["state"]] = record["event"]["at"]
                        self._changed.notify_all()


def measure(workplace: Workplace) -> list[Figure]:
    """Measure with health checks, the smallest job there is."""
    relay = workplace.relay()
    tenant = make_tenant(relay, "acme")
    argv = [sys.executable, "-m", "tests.bench.agent_without_cluster", relay.agent_url]
    folder = workplace.folder("agent")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([*argv, str(folder)], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True) as agent,
    ):
        try:
            if agent.stdin is not None:
                agent.stdin.write(f"{tenant.enrolment_token}\n")
                agent.stdin.close()
            connected = f"{tenant.path}/clusters/harbour"
            wait_until(lambda: tenant.admin.ask("GET", connected)["state"] == "connected", "the agent to connect", 30)
            check = f"{tenant.environment}/health-checks"

            def ask() -> str:
                return str(tenant.admin.ask("POST", check, {}, 202)["id"])

            figures = start_latency(tenant.viewer, tenant.path, ask, "health check, agent without a cluster", JOBS)
        finally:
            agent.kill()
            relay.close()
    return figures


def start_latency(api: Api, path: str, ask: Callable[[], str], job: str, count: int) -> list[Figure]:
    """
    Ask for jobs one after the other and time their start.

    Args:
        api: A client that nobody else uses; it follows.
        path: The organization in the API.
        ask: Asks for a job and returns its id.
        job: What the jobs are, for the figures' names.
        count: How many.
    """
    follower = Follower(api, path)
    seen, stored, answered = [], [], []
    for number in range(WARM_UP + count):
        asked = time.perf_counter()
        job_id = ask()
        accepted = time.perf_counter()
        running = follower.seen(job_id, JobState.RUNNING)
        follower.seen(job_id, *FINAL_STATES)
        if number >= WARM_UP:
            seen.append((running - asked) * 1000)
            answered.append((accepted - asked) * 1000)
            noted = follower.noted(job_id, JobState.RUNNING) - follower.noted(job_id, JobState.QUEUED)
            stored.append(noted * 1000)
    return [
        _figure(f"request sent → `running` seen, P50; {job}", seen, answered, 0.50),
        _figure(f"request sent → `running` seen, P99; {job}", seen, answered, 0.99),
        _figure(f"in the relay: request taken → acceptance arrived, P99; {job}", stored, answered, 0.99),
    ]


def _figure(name: str, taken: Sequence[float], answered: Sequence[float], share: float) -> Figure:
    value = percentile(taken, share)
    promised = share > 0.9
    return Figure(
        name=name,
        value=value,
        unit="ms",
        samples=f"{len(taken)} jobs, one after the other; longest {max(taken):.1f}",
        peer=Peer(name="request sent → 202 answered", value=percentile(answered, share)),
        target=f"≤ {TARGET_MS} ms" if promised else "",
        is_met=value <= TARGET_MS if promised else None,
    )
