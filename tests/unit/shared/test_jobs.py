"""The job table: complete, and drawn in docs/jobs.md as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead_shared.errors import TransitionInvalid
from fairlead_shared.jobs import FINAL_STATES, HELD_STATES, TRANSITIONS, JobEvent, JobState, next_state, sources


def test_every_state_that_is_not_final_is_left_and_every_state_is_reached() -> None:
    """No state without a way out; no state that nothing leads to."""
    assert {state for state, _ in TRANSITIONS} == set(JobState) - FINAL_STATES
    assert set(TRANSITIONS.values()) | {JobState.QUEUED} == set(JobState)


def test_every_event_is_used() -> None:
    """An event without a row would be dead."""
    assert {event for _, event in TRANSITIONS} == set(JobEvent)


def test_lost_connection_touches_exactly_the_held_states() -> None:
    """What an agent holds, and nothing else, becomes unreachable with it."""
    assert sources(JobEvent.LOSE) == HELD_STATES


def test_unlisted_pair_raises() -> None:
    """A final state takes no event."""
    assert next_state(JobState.QUEUED, JobEvent.LEASE) is JobState.LEASED
    for state in FINAL_STATES:
        for event in JobEvent:
            with pytest.raises(TransitionInvalid, match=state):
                next_state(state, event)


def test_docs_draw_the_table() -> None:
    """docs/jobs.md has one row per transition and no other."""
    text = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|", text, flags=re.MULTILINE))
    assert rows == {(state.value, event.value, target.value) for (state, event), target in TRANSITIONS.items()}
