"""Progress events: told apart by type, tolerant of newer fields, bounded."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from fairlead_shared.progress import Action, ObjectEvent, Outcome, ProgressEvent, ResultEvent

ADAPTER: TypeAdapter[ProgressEvent] = TypeAdapter(ProgressEvent)
OBJECT = {"api_version": "v1", "kind": "Service", "namespace": "shop", "name": "web"}


def test_type_selects_the_model_and_unknown_fields_are_ignored() -> None:
    """A newer agent may say more than this relay knows."""
    raw = {"type": "object", "key": "k", "at": 1, "object": OBJECT, "action": "created", "mood": "good"}
    event = ADAPTER.validate_python(raw)
    assert isinstance(event, ObjectEvent)
    assert event.action is Action.CREATED


def test_result_counts_by_action() -> None:
    """Counts survive JSON with their action as key."""
    result = ResultEvent(key="result", at=1, outcome=Outcome.SUCCEEDED, counts={Action.CREATED: 2})
    assert ADAPTER.validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(
    "change", [{"key": "k" * 701}, {"detail": "d" * 4097}, {"action": "exploded"}, {"type": "dance"}]
)
def test_oversized_and_unknown_values_are_refused(change: dict[str, object]) -> None:
    """A hostile agent cannot make the relay store megabytes in one field."""
    raw = {"type": "object", "key": "k", "at": 1, "object": OBJECT, "action": "created"}
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(raw | change)
