"""
Wait until everything a deployment wrote is healthy, or until it is clear that it will not be.

Event-driven. A degraded object gets a short grace, because a pod may crash once while its database starts; a cause that
stands longer fails the deployment at once instead of at the end of its time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.apply.masking import Mask
from fairlead_agent.health.observer import Observer
from fairlead_agent.health.targets import Target, is_watched
from fairlead_agent.health.verdict import Verdict
from fairlead_agent.kube.shared_watches import Lease, SharedWatches
from fairlead_agent.ports import Clock, Report
from fairlead_shared.progress import HealthEvent, HealthStatus

FAILURE_GRACE_SECONDS = 20.0
"""Twice the first back-off of a crashing container."""
_COALESCE_SECONDS = 0.03
"""Between two looks, as changes come in bursts; well below the 100 ms in which a reader should see one."""
_FAILING = frozenset({HealthStatus.DEGRADED, HealthStatus.MISSING, HealthStatus.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """An object that made a wait fail."""

    target: Target
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """Object and cause."""
        return f"{self.target.ref} is {self.verdict.status}: {self.verdict.cause}"


@dataclass(slots=True)
class _Standing:
    seen: Verdict
    verdict: Verdict
    """As it may be told."""
    reports: int = 0
    failing_since: float | None = None
    """By the monotonic clock."""


class HealthWait:
    """Waits for the objects of one deployment; several waits may run at once, and none reports what another did."""

    def __init__(
        self,
        watches: SharedWatches,
        report: Report,
        clock: Clock,
        *,
        failure_grace_seconds: float = FAILURE_GRACE_SECONDS,
    ) -> None:
        self._watches = watches
        self._report = report
        self._clock = clock
        self._grace_seconds = failure_grace_seconds
        self._standings: dict[Target, _Standing] = {}
        self.mask = Mask()
        """What causes must not show: containers say how they ended in words of their own."""

    async def wait(self, targets: Sequence[Target], seconds: float) -> list[Unhealthy]:
        """
        Wait for health, and report each change of it.

        Args:
            targets: What was written; kinds that are healthy when they exist are not looked at again.
            seconds: Time limit for all of them together, > 0.
        Returns: Empty once all are healthy (or suspended on purpose); else what failed or is not healthy in time.
        """
        watched = [target for target in targets if is_watched(target.resource)]
        if not watched:
            return []
        with self._watches.lease() as lease:
            observer = Observer(lease.open, watched, OWNER_LABEL)
            return await self._until_decided(observer, lease, time.monotonic() + seconds)

    async def _until_decided(self, observer: Observer, lease: Lease, ends: float) -> list[Unhealthy]:
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                await observer.seen()
                seen = observer.verdicts(self._clock())
                if not all(verdict.satisfies for verdict in seen.values()):
                    await observer.synced()
        except TimeoutError:
            unseen = Verdict(HealthStatus.UNKNOWN, "the API server could not be asked in time")
            return [Unhealthy(target, unseen) for target in observer.targets]
        while True:
            lease.hold_sound()
            observer.changed.clear()
            began = time.monotonic()
            await self._take(observer.verdicts(self._clock()), began)
            if failed := self._failed(observer.targets, began, ends):
                return failed
            if all(self._standings[target].verdict.satisfies for target in observer.targets):
                return []
            # A look at thousands of objects takes a while: never spend more than a third of the time on it.
            looked = time.monotonic()
            pause = max(_COALESCE_SECONDS, 2 * (looked - began))
            try:
                async with asyncio.timeout(max(self._next(observer.targets, ends) - time.monotonic(), 0.0)):
                    await observer.changed.wait()
            except TimeoutError:
                continue
            # A change that comes by itself is looked at now: something may await this object.
            await asyncio.sleep(looked + pause - time.monotonic())

    async def _take(self, verdicts: dict[Target, Verdict], now: float) -> None:
        for target, verdict in verdicts.items():
            standing = self._standings.get(target)
            if standing is None:
                standing = self._standings[target] = _Standing(verdict, verdict)
            elif standing.seen == verdict or _is_cleaned_up(target, standing.seen, verdict):
                continue
            standing.seen = verdict
            standing.verdict = replace(verdict, cause=self.mask.hide(verdict.cause))
            if verdict.status not in _FAILING:
                standing.failing_since = None
            elif standing.failing_since is None:
                standing.failing_since = now
            standing.reports += 1
            await self._report(
                HealthEvent(
                    key=f"health/{target.ref}/{verdict.status}/{standing.reports}",
                    at=self._clock(),
                    object=target.ref,
                    status=verdict.status,
                    cause=standing.verdict.cause[:4000],
                )
            )

    def _failed(self, targets: Sequence[Target], now: float, ends: float) -> list[Unhealthy]:
        """Return what failed for good, the first first; at the end of time, everything that is not healthy."""
        standings = [(target, self._standings[target]) for target in targets]
        failed = [
            (standing.failing_since, Unhealthy(target, standing.verdict))
            for target, standing in standings
            if standing.failing_since is not None
            and (standing.verdict.final or now - standing.failing_since >= self._grace_seconds)
        ]
        if failed:
            return [unhealthy for _, unhealthy in sorted(failed, key=lambda pair: pair[0])]
        if now < ends:
            return []
        left = [Unhealthy(target, one.verdict) for target, one in standings if not one.verdict.satisfies]
        return sorted(left, key=lambda unhealthy: unhealthy.verdict.status not in _FAILING)

    def _next(self, targets: Sequence[Target], ends: float) -> float:
        """Return when to look again though nothing changed."""
        graces = [
            standing.failing_since + self._grace_seconds
            for standing in (self._standings[target] for target in targets)
            if standing.failing_since is not None
        ]
        return min([ends, *graces])


def _is_cleaned_up(target: Target, before: Verdict, after: Verdict) -> bool:
    """Whether a Job was done and is now removed by its own time to live: it stays what it was."""
    return target.resource.kind == "Job" and before.satisfies and after.status is HealthStatus.MISSING
