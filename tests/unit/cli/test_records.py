"""Records: what the API answers, and what a newer relay may add."""

import pytest

from fairlead_cli.records import Deployment, Job, JobStateEvent, StoredEvent
from fairlead_shared.jobs import FINAL_STATES, JobState
from fairlead_shared.progress import ObjectEvent
from tests.unit.cli.scripted_relay import WEB, deployment, stored


@pytest.mark.parametrize("state", list(JobState))
def test_final_states_are_the_tables(state: JobState) -> None:
    """For deployments and jobs alike."""
    assert Deployment.model_validate(deployment(state)).is_final == (state in FINAL_STATES)
    assert Job(id="job1", kind="health", state=state).is_final == (state in FINAL_STATES)


def test_fields_of_a_newer_relay_are_kept() -> None:
    """`-o json` shows them."""
    assert Deployment.model_validate(deployment(novelty=3)).model_dump()["novelty"] == 3


def test_events_are_told_apart() -> None:
    """Progress, changes of the job's state, and types of a newer relay."""
    kinds = [
        type(StoredEvent.model_validate(stored(1, event)).event)
        for event in (
            {"type": "object", "object": WEB, "action": "created"},
            {"type": "job", "state": "running"},
            {"type": "fanfare"},
        )
    ]
    assert kinds == [ObjectEvent, JobStateEvent, dict]
