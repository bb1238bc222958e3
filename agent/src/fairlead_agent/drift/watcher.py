"""
The drift watcher: which environments are watched, from when to when, and by which rules.

An environment is watched whose last deployment succeeded, as its inventory in the agent's own namespace says: that also
pins the bundle's hash, so that the relay, from which a lost bundle comes back, can give no other. While a job works on
an environment it is let go; a new process, and each end of a job, takes it up anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from fairlead_agent.drift.environment import BUNDLE_AGAIN_SECONDS, Deployed, EnvironmentDrift, Means
from fairlead_agent.drift.sources import MOST_WATCHES, Sources
from fairlead_agent.errors import BundleUnavailable, KubeError
from fairlead_agent.health.targets import Source
from fairlead_agent.kube.shared_watches import Lease
from fairlead_agent.kube.watch import Key
from fairlead_agent.patience import patiently
from fairlead_agent.policy import Policy
from fairlead_agent.ports import EnvironmentKey, Identity
from fairlead_shared.drift import DriftMode
from fairlead_shared.statement import EMPTY_BUNDLE

POLICY_SECONDS: Final = 15.0
"""How often to see whether the operator's rules are others: a ConfigMap takes longer to arrive in a pod."""
REFUSED_AGAIN_SECONDS: Final = 300.0
"""How often to try what the API server does not let us watch."""
AFTER_DEFECT_SECONDS: Final = 60.0
AFTER_DEFECTS_SECONDS: Final = 3600.0
"""After the first defect the one, doubled with each further one up to the other: its stack is logged every time."""
_RETRY_BASE_SECONDS, _RETRY_CAP_SECONDS = 0.5, 30.0
T = TypeVar("T")


class Rules(Protocol):
    """The operator's rules."""

    @property
    def current(self) -> Policy:
        """The policy in force."""


@dataclass(frozen=True, slots=True)
class _Left:
    """How objects were left: those that need no look, as nothing happened to them since."""

    bundle_sha256: str = ""
    """What they were compared with before the job."""
    before: Mapping[Identity, bytes] = field(default_factory=dict)
    """Digests of those that were as in that bundle. A job that was refused leaves it, and them, as they are."""
    by_job: dict[Identity, bytes] = field(default_factory=dict)


class DriftWatcher:
    """
    Implements ports.DriftPort.

    Args:
        means: What drift is found and told with; what its client writes passes the gate of this replica's leadership.
        rules: The operator's.
        most_watches: At the same time.
    """

    def __init__(self, means: Means, rules: Rules, most_watches: int = MOST_WATCHES) -> None:
        self._means = means
        self._inventory = means.inventory
        self._rules = rules
        self._logger = means.logger
        self._most_watches = most_watches
        self._sources = Sources(Lease(means.watches), self._spawn, most_watches)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[EnvironmentKey, asyncio.Task[None]] = {}
        self._held: Counter[EnvironmentKey] = Counter()
        self._watching: dict[EnvironmentKey, EnvironmentDrift] = {}
        self._left: dict[EnvironmentKey, _Left] = {}
        """What is known from before and of the last job, until the environment is taken up."""

    @property
    def watches(self) -> int:
        """Watches that are open."""
        return self._sources.count

    async def run(self) -> None:
        """Watch all environments; ends only by cancellation, once no write is under way."""
        while True:
            try:
                await self._run()
            except Exception:  # task boundary: a defect here must not end jobs, nor the link
                self._logger.exception("drift.defect")
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # What failed while the others ended has hidden that this task is to end, too.
                    raise asyncio.CancelledError from None
                await asyncio.sleep(AFTER_DEFECT_SECONDS)

    async def _run(self) -> None:
        with self._means.watches.lease() as lease:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._sources = Sources(lease, self._spawn, self._most_watches)
                try:
                    for environment in await self._patiently(self._inventory.environments):
                        self._take_up(environment)
                    await self._follow_rules()
                finally:
                    self._group = None
                    self._tasks.clear()
                    self._sources.close()

    @asynccontextmanager
    async def held(self, environment: EnvironmentKey) -> AsyncIterator[dict[Identity, bytes]]:
        """Let go of an environment while a job works on it, and learn how it left what it wrote."""
        self._held[environment] += 1
        left = self._left[environment] = self._left_by(environment)
        try:
            await self._let_go(environment)
            yield left.by_job
        finally:
            self._held[environment] -= 1
            if not self._held[environment]:
                del self._held[environment]
                self._take_up(environment)

    def _left_by(self, environment: EnvironmentKey) -> _Left:
        """Return what is known before a job. Only that is kept meanwhile: of thousands, the rest is a few MiB."""
        watching = self._watching.get(environment)
        if watching is None:
            return _Left()
        # Its watches stay open, in its name: to list everything anew after each job would cost as much as a job.
        self._sources.want(environment, watching.places, _nobody_listens)
        return _Left(watching.bundle_sha256, watching.clean)

    async def _follow_rules(self) -> None:
        """Begin anew wherever the rules that drift goes by are others."""
        known = self._rules.current
        refused_at = time.monotonic()
        while True:
            await asyncio.sleep(POLICY_SECONDS)
            policy = self._rules.current
            if _of_drift(policy) != _of_drift(known):
                known = policy
                for environment in list(self._tasks):
                    await self._let_go(environment)
                    self._take_up(environment)
            if time.monotonic() >= refused_at + REFUSED_AGAIN_SECONDS:
                refused_at = time.monotonic()
                self._sources.retry()
                await self._leave_gone()

    async def _leave_gone(self) -> None:
        """Watch and count nothing of an environment whose inventory somebody took away, once that was told."""
        watched = {environment: task for environment, task in self._tasks.items() if not task.done()}
        told = self._means.reports.acknowledged_environments
        listed = set(await self._patiently(self._inventory.environments))
        for environment in told - listed - watched.keys() - self._held.keys():
            task = self._tasks.get(environment)
            if task is None or task.done():  # else a job came and went meanwhile
                self._tasks.pop(environment, None)
                self._means.reports.forget(environment)
        for environment, task in watched.items():
            # Another task is that of a job which came and went meanwhile.
            if environment not in listed and self._tasks.get(environment) is task:
                await self._let_go(environment)
                self._take_up(environment)

    def _take_up(self, environment: EnvironmentKey) -> None:
        before = self._tasks.get(environment)
        is_free = before is None or bool(before.cancelling())
        if self._group is not None and environment not in self._held and is_free:
            self._tasks[environment] = self._spawn(self._tend(environment, before), f"drift {environment}")

    async def _let_go(self, environment: EnvironmentKey) -> None:
        """Have nothing under way there any more; two may ask for that at once, and both wait."""
        task = self._tasks.get(environment)
        if task is None:
            return
        if not task.cancelling():  # a second time would cut off the write that it ends first
            task.cancel()
        await asyncio.wait([task])
        if self._tasks.get(environment) is task:
            del self._tasks[environment]

    async def _tend(self, environment: EnvironmentKey, before: asyncio.Task[None] | None) -> None:
        """Watch one environment. A task boundary: a defect costs this environment its watch, and nobody else."""
        if before is not None:
            await _ended(before)
        failures = 0
        while True:
            try:
                await self._watch(environment)
            except (BundleUnavailable, OSError, KubeError) as error:
                self._tell_unwatched(environment, f"it is not watched: {error}")
                self._logger.warning("drift.not_watched", environment=str(environment), error=str(error))
                await asyncio.sleep(BUNDLE_AGAIN_SECONDS)
            except Exception:
                self._logger.exception("drift.defect", environment=str(environment))
                self._tell_unwatched(environment, "it is not watched: a defect in the agent; its log says more")
                await asyncio.sleep(min(AFTER_DEFECT_SECONDS * 2**failures, AFTER_DEFECTS_SECONDS))
                failures += 1
            else:
                return

    async def _watch(self, environment: EnvironmentKey) -> None:
        watching = await self._begin(environment)
        if watching is not None:
            self._watching[environment] = watching
            try:
                await watching.run()
            finally:
                del self._watching[environment]

    async def _begin(self, environment: EnvironmentKey) -> EnvironmentDrift | None:
        """Return what watches an environment; None if it is told why nothing does."""
        inventory = await self._patiently(lambda: self._inventory.left(environment))
        newest = inventory.marks[-1] if inventory.marks else None
        left = self._left.pop(environment, _Left())
        digests = left.by_job if left.bundle_sha256 != inventory.bundle_sha256 else {**left.before, **left.by_job}
        deployed = Deployed.of(environment, inventory, self._rules.current, digests)
        if newest is None or not newest.finished or not inventory.bundle_sha256:
            self._tell_unwatched(environment, "it is not watched: its last deployment did not succeed")
        elif not inventory.environment_type:
            reason = "it is watched from its next deployment on: an agent of an older version made the last one"
            self._tell_unwatched(environment, reason)
        elif deployed.mode is DriftMode.OFF:
            self._report(environment, DriftMode.OFF, inventory.bundle_sha256, "")
        elif inventory.bundle_sha256 == EMPTY_BUNDLE.sha256:
            self._report(environment, deployed.mode, inventory.bundle_sha256, "")
        else:
            return EnvironmentDrift(self._means, self._sources, deployed)
        return None

    def _tell_unwatched(self, environment: EnvironmentKey, reason: str) -> None:
        self._report(environment, DriftMode.REPORT, "", reason[:4096])

    def _report(self, environment: EnvironmentKey, mode: DriftMode, bundle_sha256: str, reason: str) -> None:
        self._sources.want(environment, set(), _nobody_listens)
        content = {"mode": mode, "bundle_sha256": bundle_sha256, "watches": self._sources.count, "reason": reason}
        self._means.reports.put(environment, content)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            work.close()
            raise RuntimeError("the drift watcher does not run")
        return self._group.create_task(work, name=name)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(
            call,
            passes=lambda error: isinstance(error, KubeError) and error.temporary,
            failed=lambda error: self._logger.warning("drift.waits", error=str(error)),
            base_seconds=_RETRY_BASE_SECONDS,
            cap_seconds=_RETRY_CAP_SECONDS,
        )


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a task that was told to end; when cancelled, too, or its last write would be nobody's to wait for."""
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


def _nobody_listens(_source: Source, _key: Key) -> None:
    """Nothing that happens while a job works is drift."""


def _of_drift(policy: Policy) -> tuple[object, ...]:
    """Return the rules that drift goes by."""
    return policy.drift, policy.bindings, policy.cluster_scoped
