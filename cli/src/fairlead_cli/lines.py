"""
One line per event, for logs, pipes and people who scroll.

Pure: it returns text and knows no terminal.
"""

from __future__ import annotations

from datetime import datetime

from fairlead_cli.records import DriftSummary, JobStateEvent, StoredEvent
from fairlead_cli.story import Story
from fairlead_shared.progress import FindingEvent, HealthEvent, ObjectEvent, PlannedEvent, ResultEvent, StepEvent

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def line_of(stored: StoredEvent, story: Story) -> str:
    """
    Render one event.

    Args:
        stored: The event.
        story: What came before it, for durations.
    """
    event = stored.event
    match event:
        case JobStateEvent():
            text = f"job {event.state}" + (f": {event.reason}" if event.reason else "")
        case StepEvent():
            text = f"{event.step} {event.status}"
            begun = story.steps.get(event.step)
            if event.status != "started" and begun:
                text += f" after {duration(event.at - begun.started_at)}"
            text += f": {event.detail}" if event.detail else ""
        case ObjectEvent():
            text = f"{event.action} {event.object}" + (f": {event.detail}" if event.detail else "")
        case HealthEvent():
            text = f"{event.object} is {event.status}" + (f": {event.cause}" if event.cause else "")
        case FindingEvent():
            where = f"{event.object}: " if event.object else ""
            field_path = f"{event.field}: " if event.field else ""
            text = f"{event.severity}: {where}{field_path}{event.message} ({event.code})"
        case PlannedEvent():
            fields = f", {len(event.fields) + event.fields_left_out} fields" if event.fields else ""
            text = f"would be {event.action}: {event.object}{fields}" + (f": {event.detail}" if event.detail else "")
        case ResultEvent():
            text = f"result: {event.outcome}" + (f": {event.cause}" if event.cause else "")
        case _:
            text = f"{event.get('type', 'event')} (this version of fairlead cannot show it; -o json can)"
    return f"{stored.recorded_at.astimezone():%H:%M:%S} {text}"


def duration(seconds: float) -> str:
    """Render a length of time as kubectl does, with tenths while it is short: `0.4s`, `12s`, `3m20s`, `5h7m`."""
    seconds = max(0.0, seconds)
    if seconds < 10:  # noqa: PLR2004  (two digits say enough)
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR}h"


def age(moment: datetime | None, now: datetime) -> str:
    """Render how long ago something was; `-` if it never was."""
    return duration((now - moment).total_seconds()).replace(".0s", "s") if moment else "-"


def drift_text(drift: DriftSummary) -> str:
    """Render how far an environment is from its last deployment: `none`, `1 object`, `3 objects`."""
    return "none" if not drift.objects else "1 object" if drift.objects == 1 else f"{drift.objects} objects"


def counts_text(counts: dict[str, int]) -> str:
    """Render how many objects each action had: `2 created, 5 unchanged`; `nothing to do` for none."""
    said = ", ".join(f"{number} {action}" for action, number in counts.items() if number)
    return said or "nothing to do"
