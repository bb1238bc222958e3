"""Events as lines, lengths of time as people write them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fairlead_cli.lines import age, counts_text, duration, line_of
from fairlead_cli.records import StoredEvent
from fairlead_cli.story import Story
from tests.unit.cli.scripted_relay import WEB, stored


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"type": "job", "state": "queued", "reason": "waits"}, "job queued: waits"),
        ({"type": "job", "state": "running"}, "job running"),
        ({"type": "step", "step": "apply", "status": "started", "detail": "3 objects"}, "apply started: 3 objects"),
        ({"type": "object", "object": WEB, "action": "created"}, "created {ref}"),
        ({"type": "object", "object": WEB, "action": "failed", "detail": "no"}, "failed {ref}: no"),
        ({"type": "health", "object": WEB, "status": "Degraded", "cause": "no image"}, "{ref} is Degraded: no image"),
        (
            {
                "type": "finding",
                "severity": "error",
                "code": "forbidden",
                "object": WEB,
                "field": "a.b",
                "message": "m",
            },
            "error: {ref}: a.b: m (forbidden)",
        ),
        ({"type": "finding", "severity": "warning", "code": "internal", "message": "m"}, "warning: m (internal)"),
        ({"type": "result", "outcome": "failed", "cause": "why"}, "result: failed: why"),
        ({"type": "planned", "object": WEB, "action": "created"}, "would be created: {ref}"),
        (
            {
                "type": "planned",
                "object": WEB,
                "action": "changed",
                "fields": [{"pointer": "/a"}],
                "fields_left_out": 2,
            },
            "would be changed: {ref}, 3 fields",
        ),
        ({"type": "planned", "object": WEB, "action": "skipped", "detail": "kept"}, "would be skipped: {ref}: kept"),
        ({"type": "fanfare"}, "fanfare (this version of fairlead cannot show it; -o json can)"),
    ],
)
def test_each_event_is_one_line(event: dict[str, Any], line: str) -> None:
    """With the relay's time, in the reader's zone."""
    record = StoredEvent.model_validate(stored(1, event))
    ref = getattr(record.event, "object", None)
    local = record.recorded_at.astimezone().strftime("%H:%M:%S")
    assert line_of(record, Story()) == f"{local} {line.format(ref=ref)}"


def test_the_end_of_a_step_says_how_long_it_took() -> None:
    """By the agent's clock."""
    story = Story()
    story.take(StoredEvent.model_validate(stored(1, {"type": "step", "step": "wait", "status": "started"})))
    ended = StoredEvent.model_validate(stored(91, {"type": "step", "step": "wait", "status": "finished"}))
    assert line_of(ended, story).endswith("wait finished after 1m30s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (0.44, "0.4s"), (9.9, "9.9s"), (12.7, "12s"), (200, "3m20s"), (18_420, "5h7m"), (273_600, "3d4h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    """Two units are enough."""
    assert duration(seconds) == text


def test_ages_and_counts() -> None:
    """What never was has none."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert age(None, now) == "-"
    assert age(now - timedelta(seconds=3), now) == "3s"
    assert counts_text({"created": 2, "pruned": 0, "unchanged": 5}) == "2 created, 5 unchanged"
    assert counts_text({}) == "nothing to do"
