"""
Reports of drift on their way to the relay: the newest of each environment, sent until it is acknowledged.

A report is a state, not a step of a story: what is newer takes the place of what was not sent, so that no queue can
grow. One report of an environment is under way at a time, and a bounded number of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fairlead_agent.logs import Logger
from fairlead_agent.ports import Clock, EnvironmentKey
from fairlead_shared.drift import MAX_DRIFTED_OBJECTS, MAX_OBJECT_BYTES, DriftedObject
from fairlead_shared.frames import DriftAck, DriftReport, Message, Welcome

IN_FLIGHT: Final = 64
"""Reports not yet acknowledged on a connection: a thousand environments must not fill its queue at once."""
_REPORT: Final = DriftReport.model_fields["kind"].default


@dataclass(slots=True)
class _Entry:
    newest: DriftReport
    is_acknowledged: bool = False


class DriftReports:
    """
    The newest report of each environment. The link says when there is a connection, and what the relay answered.

    Args:
        clock: Seconds since the epoch.
        logger: For a relay that knows nothing of drift.
    """

    def __init__(self, clock: Clock, logger: Logger) -> None:
        self._clock = clock
        self._logger = logger
        self._entries: dict[EnvironmentKey, _Entry] = {}
        self._revision = 0
        self._send: Callable[[Message], None] | None = None
        """While there is a connection to a relay that knows such reports."""
        self._in_flight: dict[EnvironmentKey, int] = {}
        """Environment → the revision that was sent and not yet acknowledged."""
        self._waiting: dict[EnvironmentKey, None] = {}
        """Environments whose newest report is to be sent, in order."""
        self._store_epoch = ""

    def put(self, environment: EnvironmentKey, content: Mapping[str, Any]) -> None:
        """
        Report how an environment differs now; nothing is sent if that is what was reported last.

        Args:
            environment: Which.
            content: The fields of the report but kind, environment, revision and time.
        """
        # By the clock, so that the revisions of the next process are greater.
        self._revision = max(self._revision + 1, int(self._clock() * 1000))
        names = (environment.organization, environment.application, environment.environment)
        report = DriftReport(environment=names, revision=self._revision, at=self._clock(), **content)
        before = self._entries.get(environment)
        if (
            before is not None
            and before.newest.model_copy(update={"revision": report.revision, "at": report.at}) == report
        ):
            return
        self._entries[environment] = _Entry(report)
        self._waiting[environment] = None
        self._pump()

    @property
    def drifted_objects(self) -> int:
        """How many objects differ, or did, in all environments together."""
        return sum(entry.newest.total for entry in self._entries.values())

    @property
    def acknowledged_environments(self) -> set[EnvironmentKey]:
        """Those whose newest report the relay has."""
        return {environment for environment, entry in self._entries.items() if entry.is_acknowledged}

    def forget(self, environment: EnvironmentKey) -> None:
        """Keep nothing of an environment that is gone."""
        self._entries.pop(environment, None)
        self._waiting.pop(environment, None)
        self._in_flight.pop(environment, None)

    # The link's side.

    def opened(self, welcome: Welcome, send: Callable[[Message], None]) -> None:
        """Send what was not acknowledged, over a new connection; all of it to a store that was restored."""
        is_restored = welcome.store_epoch != self._store_epoch
        self._store_epoch = welcome.store_epoch
        self._send = send
        self._in_flight.clear()
        self._waiting = {
            environment: None
            for environment, entry in self._entries.items()
            if is_restored or not entry.is_acknowledged
        }
        self._pump()

    def closed(self) -> None:
        """Take note that there is no connection."""
        self._send = None

    def acknowledged(self, ack: DriftAck) -> None:
        """Take note that a report is stored; what came up meanwhile goes out now."""
        environment = EnvironmentKey(*ack.environment)
        entry = self._entries.get(environment)
        if entry is None or self._in_flight.get(environment) != ack.revision:
            return
        del self._in_flight[environment]
        entry.is_acknowledged = entry.newest.revision == ack.revision
        self._pump()

    def not_understood(self, kind: str) -> None:
        """Take note that the relay does not know a kind of message; it may on the next connection."""
        if kind == _REPORT and self._send is not None:
            self._logger.info("drift.not_reported", reason="the relay is of an older version")
            self._send = None

    def _pump(self) -> None:
        if self._send is None:
            return
        for environment in [one for one in self._waiting if one not in self._in_flight]:
            if len(self._in_flight) >= IN_FLIGHT:
                return
            del self._waiting[environment]
            report = self._entries[environment].newest
            self._in_flight[environment] = report.revision
            self._send(report)


def fitted(objects: Iterable[DriftedObject]) -> tuple[DriftedObject, ...]:
    """Return the first of some objects, each cut down to what a report has room for."""
    first: Sequence[DriftedObject] = tuple(objects)[:MAX_DRIFTED_OBJECTS]
    return tuple(_cut(one) for one in first)


def _cut(one: DriftedObject) -> DriftedObject:
    while len(one.model_dump_json().encode()) > MAX_OBJECT_BYTES:
        if one.fields:
            one = one.model_copy(update={"fields": one.fields[:-1], "fields_left_out": one.fields_left_out + 1})
        else:
            one = one.model_copy(update={"reason": one.reason[: len(one.reason) // 2]})
    return one
