"""What events add up to."""

from typing import Any

from fairlead_cli.records import StoredEvent
from fairlead_cli.story import Story, placed
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, HealthStatus, Step
from tests.unit.cli.scripted_relay import FAILURE, STORY, WEB, stored


def told(*records: dict[str, Any]) -> Story:
    """Tell a story from records."""
    story = Story()
    for record in records:
        story.take(StoredEvent.model_validate(record))
    return story


def test_a_story_of_success() -> None:
    """Steps with their times, objects with action and health, and the end."""
    story = told(*STORY)
    assert story.is_successful
    assert story.health is HealthStatus.HEALTHY
    step = story.steps[Step.APPLY]
    assert (step.started_at, step.finished_at, step.is_failed) == (1002.0, 1004.0, False)
    [(ref, one)] = story.sorted_objects()
    assert (str(ref), one.action, one.health, one.since) == (
        "Deployment shop/web",
        Action.CREATED,
        HealthStatus.HEALTHY,
        1005.0,
    )
    assert story.reasons({}) == []


def test_a_story_of_failure_has_the_reason_first_and_the_place() -> None:
    """The result's sentence, then each object to blame with file and line."""
    ref = str(ObjectRef(**WEB))
    reasons = told(*FAILURE).reasons({ref: "k8s/web.yaml:7"})
    assert reasons == [
        "Deployment web is not healthy",
        f"{ref} (k8s/web.yaml:7): container web: image nope:1 is not there",
    ]


def test_another_try_is_another_story() -> None:
    """A retried deployment has a job for each try; what failed before is not to blame now."""
    retried = [record | {"id": 10 + record["id"], "job_id": "job2"} for record in STORY]
    story = told(*FAILURE, *retried)
    assert story.reasons({}) == []
    assert (story.is_successful, story.position) == (True, 10 + len(STORY))


def test_findings_say_field_code_and_remedy() -> None:
    """Warnings stop nothing and are no reasons; an object with a finding is not blamed twice."""
    finding = {"type": "finding", "severity": "error", "code": "forbidden", "object": WEB, "message": "no right"}
    story = told(
        stored(1, finding | {"field": "spec.x", "remedy": "rules:\n- verbs: [create]"}),
        stored(2, finding | {"severity": "warning"}),
        stored(3, {"type": "object", "object": WEB, "action": "failed", "detail": "no right"}),
        stored(4, {"type": "finding", "severity": "error", "code": "internal", "message": "no object"}),
    )
    ref = str(ObjectRef(**WEB))
    assert story.reasons({}) == [
        f"{ref}: spec.x: no right (forbidden)",
        "  rules:",
        "  - verbs: [create]",
        "no object (internal)",
    ]


def test_bad_objects_come_first_and_settled_ones_last() -> None:
    """A screen shows the first few."""
    names = {"a": "Healthy", "b": "Progressing", "c": "Degraded"}
    story = told(
        *(
            stored(number, {"type": "health", "object": WEB | {"name": name}, "status": status})
            for number, (name, status) in enumerate(names.items(), start=1)
        ),
        stored(9, {"type": "object", "object": WEB | {"name": "0"}, "action": "pruned"}),
    )
    assert [ref.name for ref, _ in story.sorted_objects()] == ["c", "b", "0", "a"]
    assert story.health is HealthStatus.DEGRADED


def test_a_failed_step_and_an_unknown_event() -> None:
    """A newer relay may send what this version does not know; the rest is still understood."""
    story = told(
        stored(1, {"type": "fanfare", "volume": 11}),
        stored(2, {"type": "step", "step": "preflight", "status": "failed", "detail": "3 errors"}),
        stored(3, {"type": "job", "state": "queued", "reason": "waits for agent: offline since T"}),
    )
    assert story.steps[Step.PREFLIGHT].is_failed
    assert story.reason == "waits for agent: offline since T"
    assert not story.is_successful


def test_an_object_without_origin_is_named_alone() -> None:
    """What was pruned stood in an older deployment's files."""
    assert placed(ObjectRef(**WEB), {}) == str(ObjectRef(**WEB))
