"""Drift reports of one connection: bounded writes, the newest of each environment, acknowledged once it is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from fairlead_relay.gateway.drift_reports import PAUSE_SECONDS, WAITING_CHARACTERS, WAITING_REPORTS, DriftReports
from fairlead_relay.store import Store
from fairlead_relay.store.drifts import Drift, find_drift
from fairlead_shared.drift import DriftedObject, DriftKind, DriftMode, DriftStatus
from fairlead_shared.errors import ErrorCode, QueueFull
from fairlead_shared.frames import DriftAck, DriftReport, Message
from fairlead_shared.objects import ObjectRef
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START
from tests.conformance.queue_actor import connected
from tests.polling import eventually

PLACE = (ORGANIZATION, APPLICATION, "one-staging")


def report(
    revision: int,
    *statuses: DriftStatus,
    total: int | None = None,
    environment: tuple[str, str, str] = PLACE,
    reason: str = "",
) -> DriftReport:
    """Return a report that lists an object of each status, begun a second after the one before it."""
    objects = tuple(
        DriftedObject(
            object=ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name=f"settings-{number}"),
            drift=DriftKind.CHANGED,
            status=status,
            since=START + number,
        )
        for number, status in enumerate(statuses)
    )
    return DriftReport(
        environment=environment,
        revision=revision,
        mode=DriftMode.REPORT,
        at=START,
        bundle_sha256=BUNDLES[0],
        objects=objects,
        total=len(objects) if total is None else total,
        reason=reason,
    )


@dataclass
class Connection:
    """A connection whose agent is told things, and whose pauses end when the test says so."""

    store: Store
    session_id: str
    told: list[Message] = field(default_factory=list)
    closed: list[ErrorCode] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    is_congested: bool = False

    def reports(self) -> DriftReports:
        """Return what is tested."""
        return DriftReports(
            self.session_id,
            self.store,
            lambda: START + 9,
            self.answer,
            lambda _, code: self.closed.append(code),
            self.pause,
        )

    def answer(self, message: Message) -> None:
        """Tell the agent."""
        if self.is_congested:
            raise QueueFull("the agent reads nothing")
        self.told.append(message)

    async def pause(self, seconds: float) -> None:
        """Wait until the test goes on."""
        self.pauses.append(seconds)
        await self.gate.acquire()

    async def wait_told(self, count: int) -> None:
        """Wait until so much was told."""

        async def is_told() -> bool:
            return len(self.told) >= count

        await eventually(is_told, f"{count} answers")

    async def kept(self) -> Drift | None:
        """Return what is stored."""
        return await self.store.read(lambda c: find_drift(c, PLACE, BUNDLES[0]))


@pytest.fixture
async def connection(store: Store) -> Connection:
    """Open a connection of the environment's agent."""
    return Connection(store, (await connected(store)).session_id)


async def test_the_first_report_is_stored_at_once_and_of_those_that_follow_the_newest(connection: Connection) -> None:
    """An environment that changes all the time costs one write a second."""
    reports = connection.reports()
    await reports.take(report(1))
    await connection.wait_told(1)
    for revision in (2, 4, 3):
        await reports.take(report(revision))
    assert (await connection.kept() or pytest.fail("nothing")).revision == 1
    connection.gate.release()
    await connection.wait_told(2)
    assert (await connection.kept() or pytest.fail("nothing")).revision == 4
    assert connection.told == [DriftAck(environment=PLACE, revision=number) for number in (1, 4)]
    assert connection.pauses[0] == PAUSE_SECONDS
    reports.stop()


async def test_what_is_not_known_to_be_put_right_counts(connection: Connection) -> None:
    """Objects beyond those listed, too; the oldest of those listed says since when."""
    reports = connection.reports()
    drifted, corrected, fought = DriftStatus.DRIFTED, DriftStatus.CORRECTED, DriftStatus.FOUGHT
    await reports.take(report(1, corrected, drifted, fought, total=5))
    await connection.wait_told(1)
    kept = await connection.kept()
    assert kept is not None
    assert (kept.objects, kept.since, kept.mode, kept.received_at) == (4, START + 1, "report", START + 9)
    assert DriftReport.model_validate_json(kept.report) == report(1, corrected, drifted, fought, total=5)
    reports.stop()


async def test_what_is_not_the_agents_is_acknowledged_and_dropped(connection: Connection) -> None:
    """It must not come again and again, and is one line of the log however many there are."""
    reports = connection.reports()
    with capture_logs() as logged:
        await asyncio.gather(*(reports.take(report(1, environment=(ORGANIZATION, APPLICATION, n))) for n in "abc"))
        await connection.wait_told(3)
    assert [(line["event"], line["count"]) for line in logged] == [("drift reports dropped", 3)]
    reports.stop()


@pytest.mark.parametrize(
    ("reason", "objects", "most"),
    [("", 0, WAITING_REPORTS + 1), ("x" * 4096, 100, WAITING_CHARACTERS // 16_384)],
    ids=["number", "size"],
)
async def test_nothing_more_is_taken_while_too_much_waits(
    connection: Connection, reason: str, objects: int, most: int
) -> None:
    """The agent's bytes stay in the network, and the relay's memory and its writes are bounded."""
    reports = connection.reports()
    await reports.take(report(1))
    await connection.wait_told(1)
    taken = []
    statuses = [DriftStatus.DRIFTED] * objects

    async def feed() -> None:
        for number in range(3 * WAITING_REPORTS // 2):
            place = (ORGANIZATION, APPLICATION, f"env-{number}")
            await reports.take(report(1, *statuses, environment=place, reason=reason))
            taken.append(place)

    feeding = asyncio.create_task(feed())
    await asyncio.sleep(0)
    assert 0 < len(taken) <= most
    assert not feeding.done()
    for _ in range(5):
        connection.gate.release()
    async with asyncio.timeout(60):
        await feeding
    reports.stop()


async def test_a_store_or_a_connection_that_fails_ends_the_connection(connection: Connection) -> None:
    """Nothing is acknowledged then: the agent reports again when it is back."""
    connection.is_congested = True
    await connection.reports().take(report(1))

    async def is_closed(times: int) -> bool:
        return connection.closed == [ErrorCode.OVERLOADED] * times

    await eventually(lambda: is_closed(1), "the congested connection to be closed")
    await connection.store.stop()
    await connection.reports().take(report(2))
    await eventually(lambda: is_closed(2), "the connection to be closed")
    assert connection.told == []
