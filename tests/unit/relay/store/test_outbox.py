"""What a committed write tells the rest of the relay."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import create_engine

from fairlead_relay.store.outbox import EventRecord, iso_time, outbox


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_000_000.0, "2026-11-18T11:06:40.000Z"),
        (1_795_000_000.9994, "2026-11-18T11:06:40.999Z"),
    ],
)
def test_a_time_is_printed_in_utc_with_milliseconds(at: float, words: str) -> None:
    """As RFC 3339 has it."""
    assert iso_time(at) == words


def test_a_record_without_a_deployment_is_json_too() -> None:
    """The event is passed on as it was stored."""
    record = EventRecord(7, "acme", None, "job", 2, 0.5, '{"type":"step"}', final=False)
    assert json.loads(record.to_json()) == {
        "id": 7,
        "deployment_id": None,
        "job_id": "job",
        "attempt": 2,
        "recorded_at": "1970-01-01T00:00:00.500Z",
        "event": {"type": "step"},
    }


def test_a_connection_has_one_outbox() -> None:
    """What one function of a write puts in, the writer finds."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        assert outbox(connection) == []
        assert outbox(connection) is outbox(connection)
    engine.dispose()
