"""From when to when an environment is watched: never while a job works there."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
import structlog

from fairlead_agent.drift import watcher
from fairlead_agent.drift.environment import EnvironmentDrift
from fairlead_agent.drift.reports import DriftReports
from fairlead_agent.drift.watcher import DriftWatcher
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.policy import DriftRule, Policy
from fairlead_agent.ports import EnvironmentKey
from fairlead_shared.drift import DriftMode
from fairlead_shared.frames import DriftAck, DriftReport, Message, Welcome
from tests.polling import eventually

SHOP = EnvironmentKey("acme", "shop", "staging")


class _Writing(DriftWatcher):
    """One that writes when it is to let go, and ends that first."""

    def __init__(self, rules: Any) -> None:  # noqa: ANN401
        self.inventories = [SHOP]

        async def environments() -> list[EnvironmentKey]:
            return self.inventories

        means = SimpleNamespace(
            watches=SharedWatches(cast("KubeClient", None)),
            inventory=SimpleNamespace(environments=environments),
            logger=None,
            reports=DriftReports(lambda: 1000.0, structlog.get_logger()),
        )
        super().__init__(cast("Any", means), rules)
        self.begun = asyncio.Semaphore(0)
        self.stopping = asyncio.Event()
        self.is_written = asyncio.Event()
        self.uncut = 0

    async def _watch(self, environment: EnvironmentKey) -> None:
        assert environment == SHOP
        self.begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopping.set()
            await self.is_written.wait()
            self.uncut += 1


async def test_a_job_waits_for_a_write_that_new_rules_let_end_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not cut it off, by asking a second time; then it is watched by the new rules, once."""
    monkeypatch.setattr(watcher, "POLICY_SECONDS", 0.01)
    rules = SimpleNamespace(current=Policy())
    drift = _Writing(rules)
    is_held, is_done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with drift.held(SHOP):
            is_held.set()
            await is_done.wait()

    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
        rules.current = Policy(drift=DriftRule(mode=DriftMode.CORRECT))
        await drift.stopping.wait()
        working = asyncio.create_task(work())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not is_held.is_set()
        drift.is_written.set()
        await is_held.wait()
        assert (drift.uncut, drift.begun.locked()) == (1, True)
        is_done.set()
        await working
        await drift.begun.acquire()
    running.cancel()
    await asyncio.wait([running])
    assert drift.uncut == 2


async def test_a_job_waits_for_a_write_that_two_cancelled_jobs_waited_for() -> None:
    """Whoever takes the environment up after them is told to end before that write has."""
    drift = _Writing(SimpleNamespace(current=Policy()))
    is_held = asyncio.Event()

    async def work() -> None:
        async with drift.held(SHOP):
            is_held.set()

    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
        given_up = [asyncio.create_task(work()) for _ in range(2)]
        await drift.stopping.wait()
        for one in given_up:
            one.cancel()
        await asyncio.wait(given_up)
        working = asyncio.create_task(work())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not is_held.is_set()
        drift.is_written.set()
        await working
        assert drift.uncut == 1
        await drift.begun.acquire()
    running.cancel()
    await asyncio.wait([running])


async def test_what_was_watched_is_not_in_memory_while_a_job_works() -> None:
    """Only what is known of it: the job needs as much for the same objects."""
    drift = _Writing(SimpleNamespace(current=Policy()))
    watching = Mock(bundle_sha256="f" * 64, places=set(), clean={})
    drift._watching[SHOP] = watching
    gone = weakref.ref(watching)
    del watching
    async with drift.held(SHOP):
        del drift._watching[SHOP]
        gc.collect()  # a mock refers to itself
        assert gone() is None


async def test_an_environment_is_watched_again_after_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only from its next job on: that may be months away."""
    monkeypatch.setattr(watcher, "AFTER_DEFECT_SECONDS", 0.0)
    told: list[str] = []
    drift = _Writing(SimpleNamespace(current=Policy()))
    drift._logger = structlog.get_logger()
    drift._means.reports = cast("Any", SimpleNamespace(put=lambda _, content: told.append(content["reason"])))
    watch, defects = drift._watch, [ZeroDivisionError(), KeyError()]

    async def failing(environment: EnvironmentKey) -> None:
        if defects:
            raise defects.pop()
        await watch(environment)

    monkeypatch.setattr(drift, "_watch", failing)
    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
    assert ["defect in the agent" in reason for reason in told] == [True, True]
    drift.is_written.set()
    running.cancel()
    await asyncio.wait([running])


class _Defective(EnvironmentDrift):
    """One that fails when it looks at an object."""

    def __init__(self) -> None:
        self._means = cast("Any", SimpleNamespace(turns=asyncio.Lock()))

    async def _load(self) -> Any:  # noqa: ANN401
        return None

    async def _look_at(self, _wanted: Any, _place: int) -> None:  # noqa: ANN401
        raise ZeroDivisionError


async def test_a_job_does_not_wait_for_what_is_to_be_watched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task must not look as if it was told to end already."""
    monkeypatch.setattr(watcher, "AFTER_DEFECT_SECONDS", 3600.0)
    is_told = asyncio.Event()
    drift = _Writing(SimpleNamespace(current=Policy()))
    drift._logger = structlog.get_logger()
    drift._means.reports = cast("Any", SimpleNamespace(put=lambda *_: is_told.set()))
    monkeypatch.setattr(drift, "_watch", lambda _: _Defective()._look([1]))
    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await is_told.wait()
        async with drift.held(SHOP):
            pass
    running.cancel()
    await asyncio.wait([running])


async def test_an_environment_whose_inventory_is_gone_is_taken_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which finds that there is nothing to watch, nor to count."""
    monkeypatch.setattr(watcher, "POLICY_SECONDS", 0.0)
    monkeypatch.setattr(watcher, "REFUSED_AGAIN_SECONDS", 0.0)
    drift = _Writing(SimpleNamespace(current=Policy()))
    drift.is_written.set()
    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (drift.uncut, drift.begun.locked()) == (0, True)
        drift.inventories.clear()
        await drift.begun.acquire()
    running.cancel()
    await asyncio.wait([running])


class _Telling(_Writing):
    """One that finds nothing to watch, and tells so."""

    async def _watch(self, environment: EnvironmentKey) -> None:
        self._tell_unwatched(environment, "nothing was deployed")
        self.begun.release()


async def test_an_environment_that_is_gone_is_forgotten_once_that_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short-lived environments would add up; until the relay has the last report, it is to be sent again."""
    monkeypatch.setattr(watcher, "POLICY_SECONDS", 0.0)
    monkeypatch.setattr(watcher, "REFUSED_AGAIN_SECONDS", 0.0)
    drift = _Telling(SimpleNamespace(current=Policy()))
    reports, sent = drift._means.reports, list[Message]()
    numbers = {"version": 1, "heartbeat_seconds": 10, "reconnect_window_seconds": 1}
    welcome = Welcome.model_validate({**numbers, "session_id": "s", "relay_version": "0", "store_epoch": "e"})
    reports.opened(welcome, sent.append)

    def told(store_epoch: str) -> list[Message]:
        """Return what another store is told."""
        sent.clear()
        reports.opened(welcome.model_copy(update={"store_epoch": store_epoch}), sent.append)
        return sent

    async def is_forgotten() -> bool:
        return not reports.acknowledged_environments

    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
        drift.inventories.clear()
        for _ in range(10):  # rounds, none of which may forget what was not acknowledged
            await asyncio.sleep(0)
        (report,) = told("second")
        assert isinstance(report, DriftReport)
        reports.acknowledged(DriftAck(environment=report.environment, revision=report.revision))
        await eventually(is_forgotten, "the environment to be forgotten")
        assert (told("third"), drift._tasks) == ([], {})
    running.cancel()
    await asyncio.wait([running])


async def test_a_job_that_ends_while_it_waits_leaves_the_environment_watched() -> None:
    """Once the write under way is over, as two must not watch one environment."""
    drift = _Writing(SimpleNamespace(current=Policy()))

    async def work() -> None:
        async with drift.held(SHOP):
            raise AssertionError("it was not let go")

    running = asyncio.create_task(drift.run())
    async with asyncio.timeout(60):
        await drift.begun.acquire()
        working = asyncio.create_task(work())
        await drift.stopping.wait()
        working.cancel()
        await asyncio.wait([working])
        assert drift.begun.locked()
        drift.is_written.set()
        await drift.begun.acquire()
    running.cancel()
    await asyncio.wait([running])
    assert drift.uncut == 2
