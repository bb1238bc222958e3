"""
What one agent's connection reports of drift: stored once a second at most, the newest of each environment.

Why here: an object that changes all the time must not become a write of the store each time, and whatever an agent
sends, its reports take no more than that and so much memory. What it reports of environments that are not its own is
acknowledged, so that it need not come again, and dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from sqlalchemy import Connection

from fairlead_relay.errors import StoreError
from fairlead_relay.gateway.signals import Signal
from fairlead_relay.store import Store
from fairlead_relay.store.deployments import EnvironmentNames
from fairlead_relay.store.drifts import Drift, record_drift
from fairlead_shared.drift import DriftStatus
from fairlead_shared.errors import ErrorCode, QueueFull
from fairlead_shared.frames import DriftAck, DriftReport, Message

PAUSE_SECONDS: Final = 1.0
"""Between two writes of one connection: short beside the two seconds within which drift is to be seen."""
WAITING_CHARACTERS: Final = 2 * 1024 * 1024
"""Of reports that wait to be stored; two frames of the largest kind. Beyond it nothing more is read from the agent."""
WAITING_REPORTS: Final = 128
"""The same by number, as each is a statement of a write that all others wait for; an agent has 64 under way."""

_log = structlog.get_logger(__name__)


class DriftReports:
    """
    Keeps the reports of one connection.

    Args:
        session_id: The connection.
        store: Where they are kept.
        clock: Seconds since the epoch.
        answer: Queues a message for the agent, if it is still there. Raises: QueueFull.
        close: Ends the connection, after the agent was told why.
        pause: Waits, in seconds.
    """

    def __init__(
        self,
        session_id: str,
        store: Store,
        clock: Callable[[], float],
        answer: Callable[[Message], None],
        close: Callable[[str, ErrorCode], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session_id = session_id
        self._store = store
        self._clock = clock
        self._answer = answer
        self._close = close
        self._pause = pause
        self._waiting: dict[EnvironmentNames, Drift] = {}
        self._has_room = Signal()
        self._storing: asyncio.Task[None] | None = None

    async def take(self, report: DriftReport) -> None:
        """Have a report stored, in place of an older one of its environment; waits while too much does."""
        known = self._waiting.get(report.environment)
        if known is None or known.revision < report.revision:
            self._waiting[report.environment] = _row_of(report, self._clock())
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting(), name="drift-reports")
        while self._is_full():
            self._has_room.clear()
            await self._has_room.wait()

    def stop(self) -> None:
        """Store nothing more. Idempotent."""
        if self._storing is not None:
            self._storing.cancel()

    def _is_full(self) -> bool:
        characters = sum(len(drift.report) for drift in self._waiting.values())
        return len(self._waiting) > WAITING_REPORTS or characters > WAITING_CHARACTERS

    async def _store_waiting(self) -> None:
        try:
            while self._waiting:
                told, self._waiting = self._waiting, {}
                self._has_room.set()
                dropped = await self._store_all(told)
                for environment, drift in told.items():
                    self._answer(DriftAck(environment=environment, revision=drift.revision))
                if dropped:
                    # Not one line each: how many there are is the agent's choice.
                    _log.warning("drift reports dropped", session=self._session_id, count=len(dropped), one=dropped[0])
                await self._pause(PAUSE_SECONDS)
        except StoreError as error:
            self._close(f"the relay's store does not answer now: {error}", ErrorCode.OVERLOADED)
        except QueueFull as error:
            self._close(error.reason, ErrorCode.OVERLOADED)
        except Exception:  # noqa: BLE001  (task boundary: whose reports nobody stores, must know)
            _log.exception("drift reports failed", session=self._session_id)
            self._close("the relay failed; its log has the reason", ErrorCode.INTERNAL)
        finally:
            # Whoever waits for room must learn that the connection ends.
            self._waiting = {}
            self._has_room.set()

    async def _store_all(self, told: Mapping[EnvironmentNames, Drift]) -> list[EnvironmentNames]:
        """Store reports in one write. Returns: The environments whose report was not kept."""

        def write(connection: Connection) -> list[EnvironmentNames]:
            return [
                environment
                for environment, drift in told.items()
                if not record_drift(connection, self._session_id, environment, drift)
            ]

        return await self._store.write(write)


def _row_of(report: DriftReport, now: float) -> Drift:
    standing = [one for one in report.objects if one.status is not DriftStatus.CORRECTED]
    return Drift(
        revision=report.revision,
        bundle_sha256=report.bundle_sha256,
        mode=str(report.mode),
        # Those that are not listed are not known to be corrected.
        objects=max(0, report.total - len(report.objects)) + len(standing),
        since=min((one.since for one in standing), default=None),
        report=report.model_dump_json(),
        received_at=now,
    )
